"""The cells of the ablation: a domain, one switch turned back to classic BERT, and a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BASE = "base"
DOMAINS = {
    "genome": "genomics/ecoli_K12_MG1655.fasta.gz",
    "log": "events/bpic2012.xes.gz",
    "signal": "signals/ETTh1.csv",
}
"""Each has a recipe in `recipes/ablation`, and a file among the shared data."""
PROTOCOLS = {
    "genome": ("isolated", "gap-10", "gap-30"),
    "log": ("isolated", "event", "gap-5"),
    "signal": ("point-10", "point-50", "block-24"),
}
"""Masks of evaluation, the same for all cells, however they were trained."""
BERT_MASKS = "{mask=0.8, random=0.1, keep=0.1}"
SWITCHES: Mapping[str, Sequence[str]] = {
    BASE: [],
    "learned positions": ["model.positions=learned", "model.max_positions=512"],
    "GELU": ["model.mlp=gelu", "model.intermediate_size=288"],
    "post-norm": ["model.placement=post", "model.final_norm=false"],
    "mask ratio 15 %": ["masking.ratio=0.15"],
    "no spans": ["masking.tokens.weight=1.0", "masking.spans.weight=0.0"],
    "AdamW": ["optimizer.name=adamw"],
    "80/10/10": [f"masking.{each}.replacement={BERT_MASKS}" for each in ("tokens", "spans")],
    "linear schedule": ["schedule.decay=0.99", "schedule.tail=linear"],
    "no batch warm-up": ["training.first_rows=0", "training.rows_warmup=0.0"],
    "sinusoidal positions": ["model.positions=sinusoidal"],
    "RMSNorm": ["model.norm=rmsnorm"],
    "mask ratio 40 %": ["masking.ratio=0.4"],
    "mask ratio 50 %": ["masking.ratio=0.5"],
    "Muon": ["optimizer.name=muon"],
    "no priors": ["model.ngram_prior.depth=0"],
    "window layers": ["model.global_every=3"],
    "untied": ["model.tied=false"],
}
"""Overrides of a base recipe, the most asked first. `GELU` has as many parameters as the gated MLP of its base."""
ONLY = {"no priors": ("genome", "log")}
"""Switches that are of some domains only."""


@dataclass(frozen=True)
class Cell:
    domain: str
    switch: str
    seed: int

    @property
    def name(self) -> str:
        words = "".join(letter if letter.isalnum() else "-" for letter in self.switch.lower())
        return f"{self.domain}-{'-'.join(filter(None, words.split('-')))}-{self.seed}"

    @property
    def overrides(self) -> list[str]:
        return [*SWITCHES[self.switch], f"seed={self.seed}"]


def cells(seeds: int = 3) -> list[Cell]:
    """All of them, the least part first: six switches and their base on a genome and a log."""
    first = [BASE, *list(SWITCHES)[1:7]]
    ordered = [
        Cell(domain, switch, seed)
        for switches, domains in ((first, ("genome", "log")), (list(SWITCHES), tuple(DOMAINS)))
        for seed in range(seeds)
        for switch in switches
        for domain in domains
        if domain in ONLY.get(switch, DOMAINS)
    ]
    return list(dict.fromkeys(ordered))
