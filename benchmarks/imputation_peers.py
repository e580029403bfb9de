"""How well are holes in a signal filled beside SAITS and BRITS, trained as long on the same months?

    maskseq pretrain recipes/etth1.toml --output runs/etth1
    python benchmarks/imputation_peers.py runs/etth1 ETTh1.csv --train ETTh1:1-8640 --within ETTh1:11521-14400 \
        --protocol point-50 --protocol block-24 --seconds 300 --json imputation_peers.json

The peers are PyPOTS's (`pip install pypots`), shaped as its manual shapes them. They see the training stretch in
windows of the same length, z-scored, with holes of the same protocols, new ones every epoch; SAITS's second loss is of
those holes, and BRITS learns from what is left. Everybody fills the same cells of the held-out stretch, seeing the same
window of it, and errors are against the numbers of the file, z-scored by the training stretch.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pypots.imputation import BRITS, SAITS
from pypots.imputation.saits.data import DatasetForSAITS
from torch.utils.data import DataLoader

from maskseq import load
from maskseq.comparison.judge import FLOOR, MODEL
from maskseq.comparison.question import Question, draw
from maskseq.evaluation import figures as evaluate
from maskseq.evaluation import numbers as evaluate_numbers
from maskseq.evaluation.figures import ScoredCells
from maskseq.evaluation.protocols import MaskedExample, Protocol
from maskseq.infill.ranges import read_ranges, within
from maskseq.masking.config import MaskingConfig
from maskseq.predict.experts.imputers import imputer
from maskseq.types import Encoded

Records = Sequence[tuple[str, Encoded]]
TRAINING_STRIDE = 8


class Peer:
    """A model of PyPOTS, and the z-scores that it works in."""

    def __init__(self, model: Any, mean: np.ndarray, std: np.ndarray) -> None:
        self.model, self.mean, self.std = model, mean, std

    def values(self, examples: Sequence[MaskedExample], *, seen: bool) -> np.ndarray:
        numbers = np.stack([(example.numbers - self.mean) / self.std for example in examples])
        return np.where(np.stack([example.hidden for example in examples]), np.nan, numbers) if seen else numbers

    def fit(self, examples: Sequence[MaskedExample]) -> None:
        """One epoch."""
        whole, holes = self.values(examples, seen=False), self.values(examples, seen=True)
        if isinstance(self.model, SAITS):
            data = DatasetForSAITS({"X": holes, "X_ori": whole}, return_X_ori=True, return_y=False)
            self.model._train_model(DataLoader(data, batch_size=self.model.batch_size, shuffle=True))
        else:
            self.model.fit({"X": holes})

    def fill(self, examples: Sequence[MaskedExample]) -> np.ndarray:
        """The numbers of all scored cells."""
        filled = self.model.impute({"X": self.values(examples, seen=True)})
        both = zip(examples, filled, strict=True)
        return np.concatenate([(each * self.std + self.mean)[tuple(example.cells.T)] for example, each in both])


def peers(window: int, n_fields: int) -> dict[str, Callable[[], Any]]:
    shape = {"n_steps": window, "n_features": n_fields, "epochs": 1, "verbose": False, "device": "cpu"}
    return {
        "SAITS": lambda: SAITS(
            n_layers=2, d_model=256, n_heads=4, d_k=64, d_v=64, d_ffn=128, dropout=0.1, batch_size=32, **shape
        ),
        "BRITS": lambda: BRITS(rnn_hidden_size=128, batch_size=32, **shape),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--train", required=True, help="stretch that peers are trained on, KEY:START-END")
    parser.add_argument("--within", required=True, help="stretch that is asked about")
    parser.add_argument("--protocol", action="append", required=True)
    parser.add_argument("--baseline", action="append", default=["linear"])
    parser.add_argument("--peer", action="append", choices=("SAITS", "BRITS"), help="default: both")
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--stride", type=int, default=12)
    parser.add_argument("--cells", type=int, default=78_000)
    parser.add_argument("--seconds", type=float, default=300, help="of a processor, to train each peer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    run = load(options.run)
    tokenizer, vocabulary = run.tokenizer, run.tokenizer.vocabulary

    def records(stretch: str) -> Records:
        found = within(run.reader(options.file).read(options.file), read_ranges([stretch]))
        return [(each.key, replace(tokenizer.encode(each), numbers=tokenizer.numbers(each))) for each in found]

    train, test = records(options.train), records(options.within)
    numbers = np.concatenate([each.numbers for _, each in train])
    mean, std = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)

    trained, epochs = {}, {}
    made = peers(options.window, len(tokenizer.fields))
    for name in options.peer or made:
        peer, begun, epoch = Peer(made[name](), mean, std), time.process_time(), 0
        while time.process_time() - begun < options.seconds:
            holes = [
                example
                for protocol in options.protocol
                for example in Protocol.parse(protocol, MaskingConfig()).examples(
                    train, tokenizer, context=options.window, stride=TRAINING_STRIDE, seed=epoch
                )
            ]
            peer.fit(holes)
            epoch += 1
        trained[name], epochs[name] = peer, epoch

    reported: dict[str, Any] = {
        "epochs": epochs,
        "seconds": options.seconds,
        "threads": options.threads,
        "protocols": {},
    }
    question = Question(
        protocols=tuple(options.protocol), cells=options.cells, window=options.window, stride=options.stride,
        seed=options.seed,
    )  # fmt: skip
    for protocol in options.protocol:
        examples = draw(question, protocol, test, tokenizer, context=options.window, masking=MaskingConfig())
        cells, truth = ScoredCells.of(examples), evaluate_numbers.true_numbers(examples, vocabulary)
        means = {MODEL: evaluate.ask(run.predict(), examples, vocabulary).mean}
        means |= {name: peer.fill(examples) for name, peer in trained.items()}
        means |= {name: evaluate_numbers.imputed(imputer(name), examples, vocabulary) for name in options.baseline}
        means[FLOOR] = evaluate_numbers.rounded_numbers(cells, vocabulary)
        spreads = dict(enumerate(std.tolist()))
        reported["protocols"][protocol] = figures = evaluate_numbers.compare_errors(
            cells, truth, means, spreads, product=MODEL, floor=FLOOR
        ).to_json()
        print(f"\n{protocol}: {figures['cells']:,} cells\n{'':20s}{'MSE':>8s}{'95 %':>18s}{'MAE':>8s}")
        for name, each in figures["by"].items():
            low, high = each["MSE, 95 %"]
            print(
                f"{name:20s}{each['MSE, z-scored']:8.4f}{f'{low:.4f} to {high:.4f}':>18s}{each['MAE, z-scored']:8.4f}"
            )
        print(
            "the model saves {:.1%} to {:.1%} of the MSE of {}".format(
                *figures["MSE saved, 95 %"], figures["best baseline"]
            )
        )
    if options.json:
        options.json.write_text(json.dumps(reported, indent=1))


if __name__ == "__main__":
    main()
