"""Sequence files as people have them: recognized by content, used whole, and written back as they were."""

import csv
import gzip
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq import plugins
from maskseq.cli import app
from maskseq.trained import TrainedModel
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.protein import ProteinTokenizer

BASES = b"GCGGTGTTAAGTGTCGAGCTACATCACTTCTCATGNNNTAGCCAGAAGGCTGCAACTCATCGACTCTATGTAGTG"
PROTEIN = b"MKVLAADEGHIRWYPQFSTNCXXLIVMKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ*"
QUALITIES = b"I" * len(BASES)
FOUND = {
    "bom.fa": ("fasta", "nucleotide", b"\xef\xbb\xbf>c1\n" + BASES + b"\n"),
    "semi.fa": ("fasta", "nucleotide", b";comment by hand\n>c1\n" + BASES + b"\n;and here\n>c2\n" + BASES + b"\n"),
    "blank.fa": ("fasta", "nucleotide", b"\n\n>c1\n" + BASES + b"\n\n\n"),
    "empty_rec.fa": ("fasta", "nucleotide", b">seq1\n\n>seq2\n" + BASES + b"\n>seq3"),
    "mac.fa": ("fasta", "nucleotide", b">c1\r" + BASES + b"\r>c2\rACGN\r"),
    "star.fa": ("fasta", "protein", b">p1\n" + PROTEIN + b"\n>p2\nMKNL*\n"),
    "star_of_four_letters.fa": ("fasta", "protein", b">c1\n" + BASES + b"*\n"),
    "blankend.fq": ("fastq", "nucleotide", b"@r1\n" + BASES + b"\n+\n" + QUALITIES + b"\n\n"),
    "multiline.fq": (
        "fastq",
        "nucleotide",
        b"@r1\n" + BASES[:40] + b"\n" + BASES[40:] + b"\n+\n" + QUALITIES[:40] + b"\n@" + QUALITIES[41:] + b"\n",
    ),
    "empty_read.fq": ("fastq", "nucleotide", b"@r1\n\n+\n\n@r2\n" + BASES + b"\n+r2\n" + QUALITIES + b"\n"),
    "mac.fq": ("fastq", "nucleotide", b"@r1\r" + BASES + b"\r+\r" + QUALITIES + b"\r"),
    "isgz.fa": ("fasta", "nucleotide", gzip.compress(b">c1\n" + BASES + b"\n")),
    "plain.fa.gz": ("fasta", "nucleotide", b">c1\n" + BASES + b"\n"),
    "empty_cell.csv": ("sequence-table", "nucleotide", b"id,sequence\n1," + BASES + b'\n2,\n3,""\n'),
}


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def plain(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def protein_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(ProteinTokenizer(), tmp_path_factory.mktemp("protein-run"))


@pytest.mark.parametrize("name", FOUND)
def test_it_is_recognized_filled_scored_and_embedded(
    name: str, run: TrainedModel, protein_run: TrainedModel, tmp_path: Path
) -> None:
    format, tokenizer, content = FOUND[name]
    file = tmp_path / name
    file.write_bytes(content)
    result = maskseq("init", file, "-o", tmp_path / "recipe.toml")
    assert result.exit_code == 0, result.output
    recipe = tomllib.loads((tmp_path / "recipe.toml").read_text())
    assert (recipe["data"]["format"], recipe["tokenizer"]["name"]) == (format, tokenizer)
    used = protein_run if tokenizer == "protein" else run

    result = maskseq("infill", used.path, file, "-o", tmp_path / "filled")
    assert result.exit_code == 0, result.output
    before, after = plain(file), plain(tmp_path / "filled" / name)
    known = [old == new or old in b"NX" for old, new in zip(before, after, strict=True)]
    assert all(known)

    records = list(plugins.format_for(file, format).read(file))
    result = maskseq("score", used.path, file)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(result.stdout.splitlines(), delimiter="\t"))
    assert [row["key"] for row in rows] == [record.key for record in records]

    result = maskseq("embed", used.path, file, "-o", tmp_path / "vectors.npz")
    assert result.exit_code == 0, result.output
    saved = np.load(tmp_path / "vectors.npz")
    assert saved["keys"].tolist() == [record.key for record in records]
    assert np.isfinite(saved["vectors"]).all(axis=1).tolist() == [len(record) > 0 for record in records]


def test_positions_of_empty_records_are_none(run: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_bytes(b">a\n>b\nACGT\n>c\n>d\nAC\n>e\n")
    assert maskseq("embed", run.path, tmp_path / "x.fa", "-o", tmp_path / "v.npz", "--pooling", "none").exit_code == 0
    assert np.load(tmp_path / "v.npz")["offsets"].tolist() == [0, 0, 4, 4, 6, 6]
    assert [len(vectors) for _, vectors in run.embed([], pooling="none")] == []


def test_small_cases(run: TrainedModel, protein_run: TrainedModel, shared_cases: Path, tmp_path: Path) -> None:
    for file in sorted((shared_cases / "genomics").glob("*.f*")):
        result = maskseq("init", file, "-o", tmp_path / f"{file.name}.toml")
        assert result.exit_code == 0, result.output
        recipe = tomllib.loads((tmp_path / f"{file.name}.toml").read_text())
        assert recipe["data"]["format"] == ("fastq" if file.suffix == ".fq" else "fasta")
        reader = plugins.format_for(file)
        reader.write(reader.read(file), tmp_path / file.name)
        assert plain(tmp_path / file.name) == plain(file)
        used = protein_run if recipe["tokenizer"]["name"] == "protein" else run
        assert maskseq("infill", used.path, file, "-o", tmp_path / f"{file.name}-filled").exit_code == 0


TABLES = {
    "x.csv": b"id,label,seq\na,1," + BASES + b"\nb,0," + BASES[:20] + b"\n",
    "x.tsv": b"name\tsequence\na\t" + BASES + b"\nb\t" + BASES[:20] + b"\n",
    "x.txt": BASES + b"\n" + BASES[:20] + b"\n",
    "x.fq": b"@a\n" + BASES + b"\n+\n" + QUALITIES + b"\n",
    "reads": b"@a\n" + BASES + b"\n+\n" + QUALITIES + b"\n",
    "genome": b">a\n" + BASES + b"\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tokenizer_of_a_run_chooses_among_formats(name: str, run: TrainedModel, tmp_path: Path) -> None:
    """The run knows no training files: everything is seen by content."""
    (tmp_path / name).write_bytes(TABLES[name])
    result = maskseq("infill", run.path, tmp_path / name, "-o", tmp_path / "filled")
    assert result.exit_code == 0, result.output
    filled = (tmp_path / "filled" / name).read_bytes()
    assert [old for old, new in zip(TABLES[name], filled, strict=True) if old != new] == [ord("N")] * 3
    for command in ("score", "embed"):
        more = ["-o", tmp_path / "v.npz"] if command == "embed" else []
        assert maskseq(command, run.path, tmp_path / name, *more).exit_code == 0


def test_a_named_format_is_given_its_options(run: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(TABLES["x.csv"])
    options = ("--format", "sequence-table", "--set", "data.format_options.column=seq")
    result = maskseq("score", run.path, tmp_path / "x.csv", *options)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 3


def test_no_format_of_another_domain_is_asked(run: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("case,activity,time\na,x,2024-01-01\na,y,2024-01-02\n")
    result = maskseq("score", run.path, tmp_path / "x.csv")
    assert result.exit_code in (2, 3)
    assert "x.csv" in result.output
