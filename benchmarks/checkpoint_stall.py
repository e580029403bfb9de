"""How long training stands still for a checkpoint: copies and a thread, against writing on the training thread.

    python benchmarks/checkpoint_stall.py [FOLDER]

A model of 43 M parameters with the moments of StableAdamW, a checkpoint of 0.5 GB; ratios within one run.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.tokenizer import Tokenizer
from maskseq.training.checkpoint_writer import CheckpointWriter
from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.parallel import RankGroup
from maskseq.training.state import Position, Saved
from maskseq.training.step import TrainStep
from maskseq.types import Encoded, Field, ListRecord

REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Bases(Tokenizer[ListRecord]):
    fields = (Field(name="base", tokens=tuple("ACGT")),)

    def encode(self, record: ListRecord) -> Encoded:
        raise NotImplementedError

    def decode(self, ids: object) -> object:
        raise NotImplementedError


def main(folder: Path) -> None:
    shape = {"n_layers": 14, "hidden_size": 512, "intermediate_size": 1536, "n_heads": 8}
    model = Encoder(preset("nano", Bases().vocabulary, **shape), seed=0)
    learner = TrainStep(
        model,
        TrainingConfig(),
        OptimizerConfig(),
        RankGroup(device=torch.device("cpu")),
        precision="fp32",
        dropout_key=(0,),
    )
    for parameter in learner.weights.values():
        parameter.grad = torch.ones_like(parameter)
    learner.update(1.0)
    stalls, writes = [], []
    with CheckpointWriter(folder, Bases(), learner.ranks, keep_last=1) as writer:
        for step in range(1, REPEATS + 1):
            saved = Saved(position=Position(step=step), precision="fp32", optimizer="stable_adamw", keep=False)
            began = time.monotonic()
            writer.begin(learner.model(averaged=False), learner.state(averaged=False), saved)
            stalls.append(time.monotonic() - began)
            writer.finish()
            writes.append(time.monotonic() - began)
    newest = folder / "checkpoints" / f"step_{REPEATS}"
    size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    stall, write = statistics.median(stalls), statistics.median(writes)
    print(f"{model.n_parameters:,} parameters, a checkpoint of {size / 1e6:,.0f} MB, medians of {REPEATS}")
    print(f"on the training thread: {write:.2f} s; copied there, written on another: {stall:.2f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
