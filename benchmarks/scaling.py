"""The tables of docs/scaling.md: `python benchmarks/scaling.py`. Arithmetic only; no run is made.

Peaks are NVIDIA's for dense bf16 products; the share of them that a run reaches is an assumption, stated in the table.
"""

from dataclasses import dataclass

import numpy as np
import torch

from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.model.flops import training_flops
from maskseq.model.presets import preset
from maskseq.training.config import OptimizerConfig, TrainingConfig
from maskseq.training.sizes import checkpoint_bytes, rank_memory
from maskseq.types import Field, Vocabulary

DNA = Vocabulary.of([Field(name="base", tokens=tuple("ACGT"))])
PEAKS = {"A100": 312e12, "H100": 989e12}
"""FLOP/s of dense bf16 products, SXM modules: NVIDIA's data sheets (the H100's gives 1,979 with sparsity, which is
twice that)."""
SHARES = (0.2, 0.4)
CONTEXT, MASKED = 1024, 0.3
TOKENS = 1e12
MICRO_TOKENS = 32_768
ROW_THREAD = 3.4e6
"""Tokens a second that one thread packs and masks, with reverse complements and reading (docs/benchmarks.md)."""
LINK = 50e9
"""Bytes a second between machines for each GPU: 400 Gb/s."""


@dataclass(frozen=True)
class Plan:
    """One preset, on DNA at a context of 1,024."""

    name: str
    config: EncoderConfig
    parameters: int
    flops: float
    """Forward and backward, of a token."""
    checkpoint: int
    memory: dict[tuple[str, int], int]
    """Of a rank, by strategy and world."""


def plan(name: str) -> Plan:
    config = preset(name, DNA)
    with torch.device("meta"):
        model = Encoder(config, seed=None)
    optimizer = OptimizerConfig()
    flops = training_flops(config, np.array([CONTEXT]), [round(MASKED * CONTEXT)]) / CONTEXT
    memory = {
        (strategy, world): rank_memory(
            model,
            config,
            TrainingConfig(strategy=strategy, micro_rows=1),  # type: ignore[arg-type]
            optimizer,
            row_tokens=MICRO_TOKENS,
            world=world,
        ).total
        for strategy, world in (("ddp", 1), ("fsdp", 8), ("fsdp", 512))
    }
    return Plan(name, config, model.n_parameters, flops, checkpoint_bytes(model, optimizer), memory)


def tables() -> list[str]:
    """The lines of the tables."""
    plans = [plan(name) for name in ("modernbert-base", "modernbert-large", "ettin-1b")]
    lines = [
        "| preset | parameters | MFLOP a token | checkpoint | memory of a GPU: DDP | FSDP on 8 | FSDP on 512 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for p in plans:
        memory = " | ".join(f"{p.memory[key] / 1e9:.1f} GB" for key in (("ddp", 1), ("fsdp", 8), ("fsdp", 512)))
        lines.append(
            f"| {p.name} | {p.parameters / 1e6:.1f} M | {p.flops / 1e6:,.0f} | {p.checkpoint / 1e9:.2f} GB | {memory} |"
        )
    lines += [
        "",
        "| preset, GPU | share of peak | tokens/s a GPU | on 8 | on 512 | 10¹² tokens on 8 | on 512 | row threads |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for p in plans:
        for gpu, peak in PEAKS.items():
            for share in SHARES:
                speed = share * peak / p.flops
                days = [TOKENS / (speed * n) / 86_400 for n in (8, 512)]
                lines.append(
                    f"| {p.name}, {gpu} | {share:.0%} | {speed / 1e3:,.0f} k | {8 * speed / 1e6:,.1f} M | "
                    f"{512 * speed / 1e6:,.0f} M | {days[0]:,.1f} days | {24 * days[1]:,.1f} h | "
                    f"{speed / ROW_THREAD:.2f} |"
                )
    lines += [
        "",
        "| preset, 512 H100 at 40 % | tokens a step | step | gradients a GPU sends | time for that at 400 Gb/s |",
        "|---|---:|---:|---:|---:|",
    ]
    for p in plans:
        tokens = 512 * MICRO_TOKENS
        step = MICRO_TOKENS * p.flops / (0.4 * PEAKS["H100"])
        sent = 2 * 4 * p.parameters * 511 / 512  # a ring all-reduce in float32
        lines.append(
            f"| {p.name} | {tokens / 1e6:.1f} M | {step * 1e3:,.0f} ms | {sent / 1e9:.2f} GB | "
            f"{sent / LINK * 1e3:.0f} ms |"
        )
    return lines


if __name__ == "__main__":
    print("\n".join(tables()))
