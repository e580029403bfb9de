"""Which raw unit a position stands for, where the first column of a table holds for whole sequences."""

from pathlib import Path

import numpy as np
import pytest
from test_tables_tokenizer import OPTIONS, records

from maskseq.infill.rules import NamedRule
from maskseq.masking import units
from maskseq.tasks.config import LabelSource, TaskConfig, TaskData
from maskseq.tasks.examples import labelled_examples, unlabelled_examples
from maskseq_tables.record import TableRows
from maskseq_tables.tokenizer import ColumnsTokenizer

TASK = TaskConfig(
    kind="multiclass", data=TaskData(files=("x",)), labels=LabelSource(column="device", each="unit"), seed=0
)
Nights = tuple[ColumnsTokenizer, list[TableRows]]


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    found = records(tmp_path)
    options = {**OPTIONS, "columns": ["sex", "stage", "eeg", "emg"], "given": []}
    tokenizer = ColumnsTokenizer.fit(found, **options)
    assert tokenizer.units_of(tokenizer.encode(found[0]))[:, 0].max() == 1, "the first field holds for all rows"
    return tokenizer, found


def test_every_row_has_its_own_label(nights: Nights) -> None:
    tokenizer, found = nights
    examples = labelled_examples(TASK, {"train": found}, tokenizer, 16)["train"]
    for record in found:
        mine = [each for each in examples if each.key == record.key]
        labels = {
            int(unit): label
            for each in mine
            if each.units is not None
            for unit, label in zip(each.units, each.labels, strict=True)
        }
        devices = record.column("device")
        assert devices is not None
        assert labels == {row: device for row, device in enumerate(devices) if device}
    every = list(unlabelled_examples(TASK, found[:1], tokenizer, 16))
    rows = np.concatenate([each.units for each in every if each.units is not None])
    assert sorted(rows.tolist()) == list(range(len(found[0])))


def test_a_rule_is_about_the_rows_that_it_names(nights: Nights) -> None:
    tokenizer, found = nights
    encoded = tokenizer.encode(found[0])
    for text, rows in (("bounds=eeg:0..9@n0:3-5", [2, 3, 4]), ("bounds=eeg:0..9@n0:1", [0])):
        made = NamedRule.parse(text).about(tokenizer, encoded)
        assert sorted({int(row) for row, _ in made.cells}) == rows  # type: ignore[union-attr]
    everywhere = NamedRule.parse("bounds=eeg:0..9").about(tokenizer, encoded)
    assert len(everywhere.cells) == len(found[0])  # type: ignore[union-attr]


def test_blocks_count_rows_as_the_whole_does(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, found = nights
    encoded = tokenizer.encode(found[0])
    monkeypatch.setattr(units, "BLOCK", 7)
    blocks = [units.position_units(block) for _, block in units.unit_blocks(tokenizer, encoded)]
    assert len(blocks) > 2
    rows = np.arange(len(found[0]))
    np.testing.assert_array_equal(np.concatenate(blocks), np.stack([rows, rows + 1], axis=1))
