"""A small training file of each domain, what a run of it looks like, and one of its files with a broken record."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.apps.prepare import prepare_corpus
from maskseq.cli import app
from maskseq.recipe import load_recipe


@dataclass(frozen=True)
class Domain:
    """`segments` are a file with holes; those at `broken` cannot be read, and the rest is a file without them."""

    ending: str
    training: str
    segments: tuple[str, ...]
    broken: tuple[int, ...]
    place: str
    """Where the first broken piece is."""
    data: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.segments)

    @property
    def sound(self) -> str:
        return "".join(segment for at, segment in enumerate(self.segments) if at not in self.broken)


RNG = np.random.default_rng(0)


def _bases(n: int) -> str:
    return "".join(RNG.choice(list("ACGT"), n))


def _event(case: int, event: int, activity: str = "") -> str:
    cost = (case * 7 + event) % 5 + 0.5
    return f"c{case},{activity or 'abcd'[(case + event) % 4]},2024-01-{1 + case:02d}T{8 + event:02d}:30:00,{cost}\n"


def _step(step: int, first: str = "") -> str:
    hour, minute = divmod(step, 60)
    value = f"{np.sin(step / 5):.3f}"
    return f"2024-01-01 {hour:02d}:{minute:02d}:00,{first or value},{np.cos(step / 5):.3f}\n"


EVENTS = "case,activity,time,cost\n"
SIGNAL = "time,a,b\n"
DOMAINS = {
    "event-csv": Domain(
        ".csv",
        EVENTS + "".join(_event(c, e) for c in range(24) for e in range(5)),
        (
            EVENTS,
            *(_event(c, e) for c in range(4) for e in range(3)),
            "c1,a\n",
            *(_event(c, e, "?" * (e == 3)) for c in range(4) for e in range(3, 5)),
            ",a,2024-01-01T00:00:00,1.5\n",
        ),
        (13, 22),
        "line 14",
        {"format": "event-csv"},
        {"name": "event", "attributes": ["cost"]},
    ),
    "fasta": Domain(
        ".fa",
        "".join(f">t{i}\n{_bases(150)}\n" for i in range(24)),
        (
            ">\nACGT\n",
            f">r1 x\n{_bases(60)}\nNNNN{_bases(30)}\n",
            ">bad2\nAC\x07GT\n",
            f">odd\n{_bases(20)}!{_bases(10)}\n",
            f">r2\n{_bases(80)}\n",
            ">bad3\nA\x00C\n",
        ),
        (0, 2, 3, 5),
        "line 1",
        {"format": "fasta"},
        {"name": "nucleotide"},
    ),
    "fastq": Domain(
        ".fq",
        "".join(f"@t{i}\n{_bases(100)}\n+\n{'I' * 100}\n" for i in range(24)),
        (
            f"@r1\n{_bases(50)}NN\n+\n{'I' * 52}\n",
            f"@bad1\n{_bases(50)}\n+\n{'I' * 49}\n",
            f"@r2\n{_bases(40)}N\n+r2\n{'@' * 41}\n",
            f"@bad2\n{_bases(10)}\n",
            f"@r3\n{_bases(60)}\n+\n{'#' * 60}\n",
        ),
        (1, 3),
        "line 8",
        {"format": "fastq"},
        {"name": "nucleotide"},
    ),
    "signal-csv": Domain(
        ".csv",
        SIGNAL + "".join(map(_step, range(600))),
        (
            SIGNAL,
            *map(_step, range(40)),
            _step(40, "broken"),
            *(_step(step, "NaN") for step in range(41, 44)),
            "2024-01-01 00:44:00,1\n",
            *map(_step, range(45, 150)),
            "nothing,0.5,0.5\n",
        ),
        (41, 45, 151),
        "line 42",
        {"format": "signal-csv"},
        {"name": "quantize"},
    ),
}


@dataclass(frozen=True)
class Prepared:
    """A folder with `train`, `recipe.toml`, a `corpus`, and a `run` whose encoder has learned nothing."""

    folder: Path
    domain: Domain

    def file(self, name: str, text: str | bytes) -> Path:
        path = self.folder / f"{name}{self.domain.ending}"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path


def prepared(folder: Path, domain: Domain, **data: Any) -> Prepared:
    ready = Prepared(folder, domain)
    table: dict[str, Any] = {
        "data": {
            "files": [str(ready.file("train", domain.training))],
            "split": {"by": "none"},
            "corpus": str(folder / "corpus"),
            **domain.data,
            **data,
        },
        "tokenizer": dict(domain.tokenizer),
    }
    recipe = load_recipe(table)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "channel .* quantile bins instead of")
        corpus = prepare_corpus(recipe, default=folder / "corpus")
    untrained(corpus.tokenizer, folder / "run")
    (folder / "run" / "recipe.json").write_text(json.dumps(recipe.identity()))
    return ready


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
