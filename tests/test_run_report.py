"""What a run's folder tells afterwards: its report, its layers, and the rows that it was trained on."""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import maskseq
from maskseq.apps.inspect import inspect
from maskseq.apps.rows import rows_of_run
from maskseq.corpus.reader import Corpus
from maskseq.errors import UsageError
from maskseq.packing.rows import PackedRow
from maskseq.plugins import load
from maskseq.recipe import load_recipe
from maskseq.training.metrics import Watched
from maskseq.training.optimizer import make_optimizer
from maskseq.training.step import TrainStep
from maskseq_genomics.sequence import Sequence

RECIPE: dict[str, Any] = {
    "blend": False,
    "calibrate": False,
    "data": {"split": {"by": "record", "selection": 0.2}},
    "tokenizer": {"name": "nucleotide"},
    "model": {"preset": "nano", "n_layers": 1},
    "packing": {"row_tokens": 512, "context": 64},
    "optimizer": {"name": "muon", "lr": 2e-3, "weight_decay": 0.05},
    "training": {"tokens": 15_000, "rows": 2, "validate_every": 0.3},
}
USED: dict[int, PackedRow] = {}
"""The rows that were trained on, by number."""


def records(n: int = 30) -> list[Sequence]:
    rng = np.random.default_rng(3)
    return [Sequence(key=f"<r{i}>", residues=bytes(rng.choice(list(b"ACGT"), 300).tolist())) for i in range(n)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two epochs and more of 24 records."""
    backward = TrainStep.backward

    def spy(self: TrainStep, rows: Any, weight: float) -> Any:
        USED.update(rows)
        return backward(self, rows, weight)

    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "backward", spy)
        tokenizer = load("tokenizers", "nucleotide").fit(records())
        maskseq.pretrain(RECIPE, output=folder, tokenizer=tokenizer, records=records())
    yield folder
    USED.clear()


def test_every_row_that_was_trained_on_can_be_made_again(run: Path) -> None:
    rows = rows_of_run(run)
    assert sorted(USED) == list(range(len(USED)))
    assert rows.epoch_of(max(USED)) >= 1
    for number, used in USED.items():
        again = rows.row(number)
        for name, value in vars(used).items():
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)


def test_the_rows_of_another_corpus_are_refused(run: Path, tmp_path: Path) -> None:
    maskseq.pretrain(
        RECIPE | {"training": {"tokens": 500}},
        output=tmp_path / "other",
        tokenizer=load("tokenizers", "nucleotide").fit([]),
        records=records(20),
    )
    with pytest.raises(UsageError, match="fingerprints differ"):
        rows_of_run(run, corpus=tmp_path / "other" / "corpus")


def test_the_layer_table_is_what_the_optimizers_do(run: Path, tmp_path: Path) -> None:
    """For a run and for a recipe that nobody has run; the truth is the param groups that torch would step."""
    file = tmp_path / "x.fa"
    file.write_text(">x\nACGTACGTAC\n")
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'tokenizer = { name = "nucleotide" }\nmodel = { preset = "nano", n_layers = 1 }\n'
        'data = { files = ["x.fa"] }\noptimizer = { name = "muon", lr = 2e-3, weight_decay = 0.05 }\n'
    )
    model = maskseq.load(run).model
    optimizers = make_optimizer(model, load_recipe(RECIPE).optimizer)
    truth = {
        id(p): (type(member).__name__.lower(), group["weight_decay"])
        for member in optimizers.members
        for group in member.param_groups
        for p in group["params"]
    }
    expected = [(n, tuple(p.shape), *truth[id(p)], 2e-3) for n, p in model.named_parameters()]
    for path in (run, run / "checkpoints" / (run / "latest").read_text().strip(), recipe):
        reported = inspect(path, layers=True)["layers"]
        assert [(r["name"], r["shape"], r["optimizer"], r["weight decay"], r["lr"]) for r in reported] == expected
    assert {r["optimizer"] for r in reported} == {"muon", "adamw"}


class Checker(HTMLParser):
    """What a reader of the page would load, and whether its tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "rect", "path", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "path", "circle", "polyline"):
            assert self.open.pop() == tag


def test_the_report_is_one_page_that_says_what_happened(run: Path) -> None:
    page = (run / "report.html").read_text()
    checker = Checker()
    checker.feed(page)
    assert not set(checker.tags) & {"script", "link", "img", "iframe"}
    assert checker.loads == []
    watched = Watched(run).update()
    assert f"{watched.validations[-1]['bits']:.4g}" in page
    assert page.count("<figure") == 8
    assert page.count('<circle class="held-out') == 3 * len(watched.validations)  # loss, bits, accuracy
    assert page.count("tokens per second") > 1
    assert "prefers-color-scheme: dark" in page
    for group in watched.validations[-1]["by_objective"]:
        assert f"<td>{group}</td>" in page
    tops = re.findall(
        r'>([ACGT])<title>([ACGT]) [\d.]+%, [^<]*</title></text><text class="letter truth (\w+)"[^>]*>([ACGT])<', page
    )
    assert len(tops) > 20
    assert all(top == first and (top == truth) == (mark == "right") for top, first, mark, truth in tops)
    assert "&lt;r" in page  # keys are escaped
    assert "&quot;row_tokens&quot;: 512" in page
    assert Corpus.open(run / "corpus").fingerprint in page
