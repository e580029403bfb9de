"""A rule about whole fills: only accepted ones are written, refusals are counted, and the budget is kept."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tables_tokenizer import nights
from typer.testing import CliRunner

import maskseq
from maskseq import Encoded, Field, ListRecord, Tokenizer
from maskseq.cli import app
from maskseq.errors import PluginError, UsageError
from maskseq.infill.filling import fill_as_requested
from maskseq.infill.options import InfillOptions
from maskseq.infill.sampler import InfillConfig
from maskseq.predict.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Bits(Tokenizer[ListRecord]):
    fields = (Field(name="bit", tokens=("0", "1")),)

    def encode(self, record: ListRecord) -> Encoded:
        ids = {"0": 0, "1": 1, "?": self.fields[0].mask_id}
        return Encoded(np.array([ids[value] for value in record.values], np.uint8)[:, None])

    def decode(self, ids: np.ndarray) -> str:
        return "".join(self.fields[0].token(i) for i in ids[:, 0])

    def splice(self, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
        new = [self.fields[0].token(i) for i in ids[:, 0]]
        values = [n if hole else old for n, old, hole in zip(new, record.values, holes[:, 0], strict=True)]
        return ListRecord(key=record.key, values=values)


def coin(examples: Any, cells: Any) -> list[np.ndarray]:
    """Every bit is as likely, 0 a little more."""
    return [np.log(np.tile([0.51, 0.49], (len(requested), 1))) for requested in cells]


PREDICTOR = Predictor(predict=coin, tokenizer=Bits(), context=16)
HOLES = [ListRecord(key=f"r{n}", values=[*"1??????1"]) for n in range(60)]


def odd(record: ListRecord) -> bool:
    return record.values.count("1") % 2 == 1


def six_ones(record: ListRecord) -> bool:
    return record.values.count("1") == 8


def filled(**options: Any) -> list[Any]:
    return list(fill_as_requested(PREDICTOR, HOLES, InfillOptions(**options)))


def test_only_accepted_fills_are_written() -> None:
    found = filled(accept=odd)
    assert all(each.accepted and odd(each.record) for each in found)
    assert all(each.record.values[0] == each.record.values[-1] == "1" for each in found)
    # the most probable fill (zeros) is even: it is refused first, and the others are right half of the time
    refused = np.array([each.refused for each in found])
    assert (refused >= 1).all()
    assert 1.5 < refused.mean() < 2.8  # 1 + the mean of a geometric distribution of failures
    for each in found:
        assert Bits().decode(each.filled.fill.written(each.before.ids)) == "".join(each.record.values)


def test_a_first_fill_that_is_accepted_is_that_without_the_rule() -> None:
    plain, judged = filled(), filled(accept=lambda record: True)
    assert [each.record.values for each in plain] == [each.record.values for each in judged]
    assert all(each.accepted and not each.refused for each in judged)
    assert all(each.accepted is None for each in plain)


def test_the_budget_is_kept_and_what_is_refused_stays_as_it_was() -> None:
    found = filled(accept=six_ones, accept_tries=5)
    lost = [each for each in found if not each.accepted]
    assert len(lost) > 30
    for each in lost:
        assert each.refused == 5
        assert each.record.values == [*"1??????1"]
        assert not len(each.filled.fill.cells)


def test_draws_depend_on_the_record_alone() -> None:
    options = InfillOptions(accept=odd, config=InfillConfig(temperature=1.0, samples=3, seed=4))
    together = [each.record.values for each in fill_as_requested(PREDICTOR, HOLES[:4], options)]
    alone = [next(fill_as_requested(PREDICTOR, [record], options)).record.values for record in HOLES[:4]]
    assert together == alone


def test_a_rule_that_fails_is_named() -> None:
    with pytest.raises(PluginError, match="own_parts:fails"):
        filled(accept="own_parts:fails")
    with pytest.raises(UsageError, match="cannot be imported"):
        filled(accept="own_parts:nothing")
    with pytest.raises(UsageError, match="accept_tries"):
        filled(accept=odd, accept_tries=0)


def test_the_command_counts_refusals(tmp_path: Path) -> None:
    (tmp_path / "nights.csv").write_text(nights(8, holes=0.0))
    recipe = {
        "data": {
            "files": [str(tmp_path / "nights.csv")],
            "format": "table",
            "format_options": {"key": "night", "order": "at"},
        },
        "tokenizer": {"name": "columns", "columns": ["stage"]},
        "model": {"preset": "nano", "n_layers": 1, "hidden_size": 32, "n_heads": 2},
        "packing": {"row_tokens": 128, "context": 64},
        "training": {"tokens": 500, "rows": 1, "device": "cpu", "comparison_cells": 0},
        "blend": False,
    }
    maskseq.pretrain(recipe, output=tmp_path / "run")
    (tmp_path / "new.csv").write_text(nights(3, holes=0.3, seed=3))
    for name, left in (("own_parts:accept_all", 0), ("own_parts:accept_none", 3)):
        output = tmp_path / name.partition(":")[2]
        arguments = ["infill", tmp_path / "run", tmp_path / "new.csv", "-o", output, "--accept", name, "--json"]
        done = CliRunner().invoke(app, [*map(str, arguments), "--accept-tries", "2"])
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)["accepted"]
        assert report["left as they were"] == left
        assert report["records"] == 3 - left
        same = (output / "new.csv").read_text() == (tmp_path / "new.csv").read_text()
        assert same == bool(left)
