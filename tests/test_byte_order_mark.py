"""A byte-order mark before a text changes nothing that is read, and comes back when the text is written."""

from pathlib import Path

import pytest
from small_files import EXAMPLES, contents
from typer.testing import CliRunner

from maskseq import plugins
from maskseq.cli import app
from maskseq.files import BYTE_ORDER_MARK
from maskseq.infill.ranges import read_ranges
from maskseq.survey import Head
from maskseq_genomics.vcf import Vcf

TEXTS = ["fasta", "fastq", "bed", "bed, indexed", "sequence-table", "sequence-lines"]
TEXTS += ["event-csv", "event-jsonl", "textlog", "sessions", "ocel, JSON", "ocel, XML", "xes"]
TEXTS += ["signal-csv", "ts", "ucr", "wfdb"]
CASE = Path(__file__).parents[1].parent / "shared/cases/genomics/bom.fa"


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_passed_over_and_comes_back(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    for folder in (plain, marked):
        folder.mkdir()
    files = dict(contents(example))
    first = next(iter(files))
    path, options = example.lay(plain)
    reader = plugins.format_for(path, example.format, **options)
    expected = [(record.key, len(record)) for record in reader.read(path)]
    path, options = example.lay(marked, files | {first: BYTE_ORDER_MARK + files[first]})
    reader = plugins.format_for(path, example.format, **options)
    records = list(reader.read(path))
    assert [(record.key, len(record)) for record in records] == expected
    if example.returns:
        reader.write(records, marked / f"out{path.suffix}")
        assert (marked / f"out{path.suffix}").read_bytes() == BYTE_ORDER_MARK + files[first]


@pytest.mark.parametrize("name", TEXTS)
def test_formats_are_recognized_behind_it(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    claims = []
    files = dict(contents(example))
    first = next(iter(files))
    for mark in (b"", BYTE_ORDER_MARK):
        path, _ = example.lay(tmp_path, files | {first: mark + files[first]})
        claims.append(plugins.load("formats", example.format).recognize(Head.of(path)))
    assert claims[0] == claims[1]


def test_a_fasta_with_a_mark_is_no_table_of_lines(tmp_path: Path) -> None:
    content = CASE.read_bytes() if CASE.exists() else BYTE_ORDER_MARK + b">c1\nACGTN\nACG\n>c2\nGG\n"
    (tmp_path / "bom.fa").write_bytes(content)
    result = CliRunner().invoke(app, ["init", str(tmp_path / "bom.fa"), "-o", str(tmp_path / "recipe.toml")])
    assert result.exit_code == 0, result.output
    assert 'format = "fasta"' in (tmp_path / "recipe.toml").read_text()
    reader = plugins.format_for(tmp_path / "bom.fa")
    records = list(reader.read(tmp_path / "bom.fa"))
    assert len(records) == content.count(b">")
    reader.write(records, tmp_path / "out.fa")
    assert (tmp_path / "out.fa").read_bytes() == content


def test_files_that_are_only_read_may_begin_with_it(tmp_path: Path) -> None:
    (tmp_path / "calls.vcf").write_bytes(BYTE_ORDER_MARK + b"##fileformat=VCFv4.2\nv\t50\t.\tA\tC\n")
    assert [each.columns[1] for each in Vcf().read(tmp_path / "calls.vcf")] == ["50"]
    (tmp_path / "mask.bed").write_bytes(BYTE_ORDER_MARK + b"chr1\t4\t6\n")
    assert read_ranges([str(tmp_path / "mask.bed")]) == {"chr1": [(4, 6)]}


def test_a_file_of_nothing_else_is_empty(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_bytes(BYTE_ORDER_MARK)
    with pytest.raises(ValueError, match="empty"):
        list(plugins.format_for(tmp_path / "x.fa").read(tmp_path / "x.fa"))
