"""What is asked of infill must be there, in Python as on the command line: records, hidden cells, fields."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner
from untrained import untrained

from maskseq.cli import app
from maskseq.errors import UsageError
from maskseq.infill.options import Unsized
from maskseq.infill.ranges import Moments, masked_cells, within
from maskseq.trained import TrainedModel
from maskseq_genomics.codon import CodonTokenizer
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

RECORDS = [Sequence(key="a", residues=b"ACGTNNACGT"), Sequence(key="b", residues=b"ACGTACGTACGT")]
WRONG: dict[str, dict[str, Any]] = {
    "a record that is not there": {"ranges": {"c": [(0, 1)]}},
    "one of them": {"ranges": {"a": [(0, 1)], "c": [(0, 1)]}},
    "the only record of several": {"ranges": {"": [(0, 1)]}},
    "nothing": {"ranges": {"a": [(3, 3)]}},
    "no stretch": {"ranges": {"a": []}},
    "no lengths": {"lengths": {"a": []}},
    "backwards": {"ranges": {"a": [(5, 3)]}},
    "before the record": {"ranges": {"a": [(-3, 2)]}},
    "behind the record": {"ranges": {"a": [(8, 12)]}},
    "moments of what has none": {"ranges": {"a": [Moments("0", "1")]}},
    "lengths of another record": {"lengths": {"c": [Unsized(4, 6, 1, 3)]}},
    "lengths of the only record": {"lengths": {"": [Unsized(4, 6, 1, 3)]}},
    "lengths of nothing": {"lengths": {"a": [Unsized(6, 6, 1, 3)]}},
    "lengths before the record": {"lengths": {"a": [Unsized(-2, 1, 1, 3)]}},
    "a rule for another record": {"rules": ["motif=NN@c:1-2"]},
    "a field that is not there": {"unknown": ["letter"]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("records", [RECORDS, RECORDS[::-1]], ids=["in order", "reversed"])
def test_wrong_requests_are_refused_in_python(run: TrainedModel, what: str, records: list[Sequence]) -> None:
    with pytest.raises(UsageError):
        list(run.infill(records, **WRONG[what]))


@pytest.mark.parametrize(
    "requested", [{"ranges": {"a": [(0, 1)]}}, {"unknown": ["letter"]}, {"ranges": {"": [(0, 1)]}}]
)
def test_even_of_no_records(run: TrainedModel, requested: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        list(run.infill([], **requested))


@pytest.mark.parametrize(
    "requested",
    [
        {"ranges": {"a": [(0, 1)], "b": [(11, 12), (0, 3)]}},
        {"lengths": {"a": [Unsized(4, 6, 1, 3)]}},
        {"rules": ["motif=NN@a:1-2"]},
        {"rules": ["gc=0..1"]},
        {"unknown": ["base"]},
    ],
)
def test_right_ones_are_not(run: TrainedModel, requested: dict[str, Any]) -> None:
    assert [each.record.key for each in run.infill(RECORDS, **requested)] == ["a", "b"]
    if "" not in str(requested):
        assert len(list(run.infill(RECORDS[:1], ranges={"": [(0, 1)]}))) == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--mask", "c:1-2"),
        ("--mask", "1-2"),
        ("--region", "c:1-2"),
        ("--mask", "a:9-12"),
        ("--length", "c:5-6=1..3"),
        ("--rule", "motif=NN@c:1-2"),
        ("--unknown", "letter"),
    ],
    ids=" ".join,
)
def test_wrong_requests_are_refused_on_the_command_line(
    run: TrainedModel, options: tuple[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "x.fa"
    file.write_bytes(b"".join(b">%s\n%s\n" % (record.key.encode(), record.residues) for record in RECORDS))
    result = CliRunner().invoke(app, ["infill", str(run.path), str(file), "-o", str(tmp_path / "out"), *options])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["x.fa"]


@pytest.mark.parametrize(
    ("tokenizer", "empty"),
    [(CodonTokenizer(), [(9, 10), (9, 11), (10, 11)]), (KmerTokenizer(k=4), [(8, 10), (10, 11)])],
    ids=["codons", "words"],
)
def test_units_that_no_cell_depends_on_hide_nothing(tokenizer: Any, empty: list[tuple[int, int]]) -> None:
    """What is left over behind the last whole word."""
    record = Sequence(key="r", residues=b"ACGATTACGTA")
    encoded = tokenizer.encode(record)
    units = tokenizer.units(encoded.ids)
    for start in range(11):
        for stop in range(start + 1, 12):
            expected = (units[..., 0] < stop) & (units[..., 1] > start)
            if expected.any():
                np.testing.assert_array_equal(masked_cells(tokenizer, encoded, record, [(start, stop)]), expected)
                continue
            assert (start, stop) in empty
            with pytest.raises(UsageError):
                masked_cells(tokenizer, encoded, record, [(0, 3), (start, stop)])


@pytest.mark.parametrize(
    "take", [lambda: within(RECORDS, {"c": [(0, 1)]}), lambda: within(RECORDS, {"": [(0, 1)]})], ids=["key", "only"]
)
def test_stretches_of_what_is_not_there(take: Callable[[], Any]) -> None:
    with pytest.raises(UsageError):
        list(take())


def test_a_bed_that_names_nothing_is_refused(run: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGTN\n")
    (tmp_path / "none.bed").write_text("# nothing\n")
    arguments = ["infill", str(run.path), str(tmp_path / "x.fa"), "--mask", str(tmp_path / "none.bed")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3, result.output
    assert "none.bed" in result.output
