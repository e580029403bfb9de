"""The table of fills says what was filled, where in the user's own coordinates, and how surely."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from maskseq.errors import UsageError
from maskseq.infill import table as table_module
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.table import COLUMNS, as_dict, rows, unit_ranges
from maskseq.infill.window_plan import Task
from maskseq.infill.windows import fill_records
from maskseq.masking import units as units_module
from maskseq.predict.posterior import bin_edges, posterior
from maskseq.predict.protocol import of_ids
from maskseq.storage.tabular import table_writer
from maskseq.tokenizer import Tokenizer
from maskseq.types import OTHER, Encoded, Field, ListRecord
from maskseq_genomics.kmer import KmerTokenizer


def write_table(table: Iterable[table_module.FillRow], path: Path) -> None:
    with table_writer(path, COLUMNS) as sink:
        sink(map(as_dict, table))


PROBABILITIES = np.array([[0.5, 0.3, 0.1, 0.1], [0.2, 0.7, 0.1, 0.0]])


@dataclass(frozen=True, kw_only=True)
class Weather(Tokenizer[ListRecord]):
    fields = (
        Field(name="sky, or so", tokens=("sun", "cloud", "rain"), controls=(OTHER,)),
        Field(name="degrees", tokens=("cold", "warm", "hot"), centres=(0.0, 10.0, 30.0), unit="°C"),
    )

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values, dtype=np.uint8))

    def decode(self, ids: np.ndarray) -> list[list[int]]:
        return ids.tolist()


@of_ids
def predict(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    with np.errstate(divide="ignore"):
        return [np.log(PROBABILITIES[requested[:, 1]]) for requested in cells]


@pytest.fixture
def made() -> list[table_module.FillRow]:
    tokenizer = Weather()
    ids = tokenizer.encode(ListRecord(key="week", values=[(0, 1), (4, 1), (2, 3), (1, 0)])).ids
    holes = np.array([[0, 0], [1, 0], [1, 1], [0, 0]], dtype=bool)  # the sky of day 3 was known: rain
    task = Task("week", Encoded(ids), holes)
    (filled,) = fill_records(predict, [task], InfillConfig(), vocabulary=tokenizer.vocabulary, context=8)
    return list(rows(filled, Encoded(ids), tokenizer, alternatives=2))


def test_rows_say_where_what_and_how_surely(made: list[table_module.FillRow]) -> None:
    first, second, third = made
    assert (first.key, first.field, first.start, first.stop, first.value) == ("week", "sky, or so", 2, 2, "sun")
    assert (first.truth, second.truth, second.start, third.field) == (None, "rain", 3, "degrees")
    assert first.probability == pytest.approx(0.5 / 0.9)  # [OTHER] is no candidate
    assert first.outside == pytest.approx(0.1)
    assert [value for value, _ in first.alternatives] == ["cloud", "rain"]
    assert first.alternatives[0][1] == pytest.approx(0.3 / 0.9)
    assert first.mean is None
    assert (third.value, third.number) == ("warm", 10.0)
    assert third.mean == pytest.approx(0.7 * 10 + 0.1 * 30)
    assert third.low95 < third.low80 < third.low50 < third.median < third.high50 < third.high80 < third.high95


def test_the_number_that_was_written_is_told(made: list[table_module.FillRow]) -> None:
    ids = np.array([[0, 1], [3, 1]])
    task = Task("week", Encoded(ids), ids == 3)
    (fill,) = fill_records(predict, [task], InfillConfig(), vocabulary=Weather().vocabulary, context=8)
    (row,) = rows(fill, Encoded(ids), Weather(), numbers=np.array([12.5]))
    assert (row.value, row.number) == ("sun", 12.5)


def test_csv_and_parquet_hold_the_same_rows(made: list[table_module.FillRow], tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    write_table(iter(made), tmp_path / "fills.csv")
    write_table(iter(made), tmp_path / "fills.parquet")
    with (tmp_path / "fills.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_parquet = pq.read_table(tmp_path / "fills.parquet").to_pylist()
    assert len(from_csv) == len(from_parquet) == 3
    for row, plain, typed in zip(made, from_csv, from_parquet, strict=True):
        assert (plain["field"], int(plain["start"]), float(plain["probability"])) == (
            row.field,
            row.start,
            row.probability,
        )
        assert typed["probability"] == row.probability
        assert typed["mean"] == row.mean
        assert plain["truth"] == (row.truth or "")
        assert json.loads(plain["alternatives"]) == json.loads(typed["alternatives"])
        assert json.loads(plain["alternatives"])[0][0] == row.alternatives[0][0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fills.csv", "fills.parquet"]


def test_a_table_appears_whole_or_not_at_all(made: list[table_module.FillRow], tmp_path: Path) -> None:
    def broken() -> Iterator[table_module.FillRow]:
        yield made[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(broken(), tmp_path / "fills.csv")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"\.csv, .*\.parquet"):
        write_table(made, tmp_path / "fills.xlsx")


@pytest.mark.parametrize("options", [{}, {"phase": 2}, {"overlapping": True}])
def test_units_of_a_long_record_are_found_block_by_block(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = KmerTokenizer(k=3, **options)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 64, (100, 1))
    ids[rng.random(100) < 0.1] = tokenizer.fields[0].mask_id
    every = np.stack([np.arange(100), np.zeros(100, int)], axis=1)
    expected = tokenizer.units(ids)[:, 0]
    monkeypatch.setattr(units_module, "BLOCK", 7)
    assert np.array_equal(unit_ranges(tokenizer, Encoded(ids), every), expected)
    assert np.array_equal(unit_ranges(tokenizer, Encoded(ids), every[::9]), expected[::9])


def test_posteriors_against_integrals_of_a_piecewise_constant_density() -> None:
    centres = (0.0, 10.0, 30.0)
    weights = np.array([[0.2, 0.7, 0.1, 0.0], [0.1, 0.35, 0.05, 0.5]])  # the second: half of it on a control
    found = posterior(weights, centres)
    edges = np.array([-5.0, 5.0, 20.0, 40.0])
    assert bin_edges(np.array(centres)) == pytest.approx(edges)
    draws = np.random.default_rng(0)
    bins = draws.choice(3, 400_000, p=[0.2, 0.7, 0.1])
    values = draws.uniform(edges[bins], edges[bins + 1])
    assert found.mean == pytest.approx([10.0, 10.0])
    for cell in (0, 1):
        low, high = np.quantile(values, [[0.25, 0.1, 0.025], [0.75, 0.9, 0.975]])
        assert found.median[cell] == pytest.approx(np.median(values), abs=0.15)
        assert found.low[cell] == pytest.approx(low, abs=0.15)
        assert found.high[cell] == pytest.approx(high, abs=0.15)


def test_a_posterior_without_any_bin_is_not_a_number() -> None:
    nothing = posterior(np.array([[0.0, 0.0, 1.0]]), (1.0, 2.0))
    assert all(np.isnan(each).all() for each in (nothing.mean, nothing.median, nothing.low, nothing.high))
