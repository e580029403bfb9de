"""Variants are scored as the law that wrote the sequence would, and surprises are found where they are."""

import csv
import gzip
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.cli import app
from maskseq.errors import DataError, UsageError
from maskseq.inference.score import Score
from maskseq.inference.surprise import position_rows, record_row
from maskseq.inference.variants import FLANK, score_variants
from maskseq.plugins import variants_for
from maskseq.run import Run
from maskseq.variants import Records, stretches
from maskseq_genomics import sequence
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.vcf import SmallVariant, Vcf

STEP = np.random.default_rng(0).dirichlet(np.full(4, 0.7), 4)
START = np.array([0.4, 0.3, 0.2, 0.1])


def exact(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The conditionals of a Markov chain of bases: forward and backward messages."""
    answers = []
    for ids, asked in zip(sequences, cells, strict=True):
        seen = np.where(ids == 4, 1.0, np.eye(5)[ids[:, 0]][:, :4])
        forward, backward = [START], [np.ones(4)]
        for each in seen[:-1]:
            forward.append((forward[-1] * each) @ STEP)
        for each in seen[:0:-1]:
            backward.append(STEP @ (backward[-1] * each))
        weight = np.array(forward) * np.array(backward[::-1])
        with np.errstate(divide="ignore"):
            answers.append(np.log(weight / weight.sum(axis=1, keepdims=True))[asked[:, 0]])
    return answers


def log_probability(letters: str) -> float:
    ids = ["ACGT".index(letter) for letter in letters]
    return math.log(START[ids[0]]) + sum(math.log(STEP[a, b]) for a, b in pairwise(ids))


def variant(letters: str, start: int, was: int, becomes: str) -> SmallVariant:
    there = letters[start : start + was]
    return SmallVariant(
        key="g",
        start=start,
        stop=start + was,
        length=len(becomes),
        columns=("g", str(start + 1), ".", there, becomes),
        path="v.vcf",
        place="line 1",
        was=there.encode(),
        becomes=becomes.encode(),
    )


def scored(letters: str, *variants: SmallVariant, context: int = 64) -> list[float]:
    record = sequence.Sequence(key="g", residues=letters.encode())
    listed = stretches(variants, Records(lambda: [record]), context)
    return [each.log_ratio for each in score_variants(exact, listed, tokenizer=NucleotideTokenizer())]


BASES = st.text("ACGT", min_size=1, max_size=4)


@settings(max_examples=60)
@given(before=st.text("ACGT", max_size=12), was=BASES, after=st.text("ACGT", max_size=12), data=st.data())
def test_substitutions_are_scored_as_whole_sequences_are(before: str, was: str, after: str, data: Any) -> None:
    becomes = data.draw(st.text("ACGT", min_size=len(was), max_size=len(was)))
    letters = before + was + after
    (found,) = scored(letters, variant(letters, len(before), len(was), becomes))
    assert found == pytest.approx(log_probability(before + becomes + after) - log_probability(letters), abs=1e-9)


def pseudo_log_likelihood(letters: str, start: int, stop: int) -> float:
    """By enumeration: of each letter, among the four sequences that differ in it only."""
    total = 0.0
    for i in range(max(start, 0), min(stop, len(letters))):
        joint = [log_probability(letters[:i] + base + letters[i + 1 :]) for base in "ACGT"]
        total += joint["ACGT".index(letters[i])] - float(np.logaddexp.reduce(joint))
    return total


@pytest.mark.parametrize(("was", "becomes"), [(1, "CTT"), (4, "A"), (1, "TGCATG")])
def test_indels_are_scored_by_what_is_around_them(was: int, becomes: str) -> None:
    letters = "".join(np.random.default_rng(1).choice(list("ACGT"), 60))
    (found,) = scored(letters, variant(letters, 30, was, becomes), context=100)
    changed = letters[:30] + becomes + letters[30 + was :]
    before = pseudo_log_likelihood(letters, 30 - FLANK, 30 + was + FLANK)
    after = pseudo_log_likelihood(changed, 30 - FLANK, 30 + len(becomes) + FLANK)
    assert found == pytest.approx(after - before, abs=1e-9)


def test_no_word_over_a_changed_base_is_seen() -> None:
    tokenizer = KmerTokenizer(k=3, overlapping=True)
    letters = "ACGTTGCATGCCGATTACGA"
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def watch(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        asked.extend(zip(sequences, cells, strict=True))
        return [np.full((len(each), 84), -math.log(84)) for each in cells]

    record = sequence.Sequence(key="g", residues=letters.encode())
    listed = stretches([variant(letters, 9, 1, "A")], Records(lambda: [record]), 40)
    (found,) = score_variants(watch, listed, tokenizer=tokenizer)
    assert found.log_ratio == pytest.approx(0)
    first = [ids for ids, cells in asked if cells[0, 0] == 7]
    assert first
    assert all((ids[7:10] == tokenizer.fields[0].mask_id).all() for ids in first)
    assert len(asked) == 5  # three words of each, of which the first is asked of one masked sequence


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


HEADER = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(2)
    file = tmp_path_factory.mktemp("genome") / "g.fa"
    file.write_text("".join(f">{key}\n{''.join(rng.choice(list('ACGT'), 300))}\n" for key in ("one", "two")))
    return file


def bases(genome: Path) -> dict[str, str]:
    lines = genome.read_text().split()
    return {key[1:]: letters for key, letters in zip(lines[::2], lines[1::2], strict=True)}


def test_both_strands_have_an_equal_say(run: Run) -> None:
    letters = "".join(np.random.default_rng(3).choice(list("ACGT"), 50))
    turned = letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    ratios = []
    for text, each in ((letters, variant(letters, 20, 1, "A")), (turned, variant(turned, 29, 1, "T"))):
        record = sequence.Sequence(key="g", residues=text.encode())
        (score,) = run.score_variants([each], lambda record=record: [record])
        ratios.append(score.log_ratio)
    assert ratios[0] == pytest.approx(ratios[1], abs=1e-5)


def test_a_vcf_is_scored_line_by_line(run: Run, genome: Path, tmp_path: Path) -> None:
    one, two = bases(genome).values()
    lines = [
        f"two\t11\trs1\t{two[10]}\t{OTHER[two[10]]}\t.\t.\t.",
        f"one\t300\t.\t{one[299]}\t{one[299]}ACG,<DEL>,*\t.\t.\t.",
        f"one\t1\t.\t{one[:3]}\t{one[0]}\t.\t.\t.",
        f"two\t50\tlong\t{two[49]}\t{'A' * 60}\t.\t.\t.",
    ]
    vcf = tmp_path / "calls.vcf.gz"
    vcf.write_bytes(gzip.compress((HEADER + "\r\n".join(lines)).encode()))
    result = maskseq("score", run.path, genome, "--variants", vcf)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(result.stdout.splitlines(), delimiter="\t"))
    assert [(row["chrom"], row["pos"], row["alt"]) for row in rows] == [
        ("two", "11", OTHER[two[10]]),
        ("one", "300", f"{one[299]}ACG"),
        ("one", "1", one[0]),
        ("two", "50", "A" * 60),
    ]
    assert [bool(row["log_ratio"]) for row in rows] == [True, True, True, False]
    first = {name: float(rows[0][name]) for name in ("log_ratio", "log_before", "log_after")}
    assert first["log_ratio"] == pytest.approx(first["log_after"] - first["log_before"], abs=2e-4)
    for name in ("scores.jsonl", "scores.parquet", "scores.tsv"):
        assert maskseq("score", run.path, genome, "--variants", vcf, "-o", tmp_path / name).exit_code == 0
    typed = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["log_ratio"] for row in typed[:3]] == pytest.approx([float(r["log_ratio"]) for r in rows[:3]], abs=6e-5)
    pq = pytest.importorskip("pyarrow.parquet")
    assert pq.read_table(tmp_path / "scores.parquet").to_pylist() == typed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one\t10\t.\t{wrong}\tA", "reference allele"),
        ("one\t301\t.\tA\tC", "its end, at 300"),
        ("three\t10\t.\tA\tC", "no record 'three'; there are one, two"),
        ("one\tten\t.\tA\tC", "'ten' is no whole number"),
        ("one\t0\t.\tA\tC", "no whole number from 1 on"),
        ("one\t10\t.\tA", "4 column"),
        ("one\t10\t.\tA\tC!", "alternative 'C!'"),
        ("one\t10\t.\t\tC", "reference allele ''"),
    ],
)
def test_a_wrong_line_is_named(run: Run, genome: Path, tmp_path: Path, line: str, message: str) -> None:
    vcf = tmp_path / "calls.vcf"
    vcf.write_text(HEADER + line.format(wrong=OTHER[bases(genome)["one"][9]]) + "\n")
    result = maskseq("score", run.path, genome, "--variants", vcf, "-o", tmp_path / "out.tsv")
    assert result.exit_code == 3, result.output
    assert "line 3" in result.stderr
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["calls.vcf"]


def test_records_are_found_in_any_order_and_read_again_only_when_passed() -> None:
    reads = 0

    def read() -> list[sequence.Sequence]:
        nonlocal reads
        reads += 1
        return [sequence.Sequence(key=key, residues=b"ACGT") for key in "abc"]

    def about(key: str) -> SmallVariant:
        return SmallVariant(
            key=key, start=0, stop=1, length=1, columns=(), path="v", place="line 1", was=b"A", becomes=b"C"
        )

    records = Records(read)
    assert [records.find(about(key)).key for key in "aabcc"] == list("aabcc")
    assert reads == 1
    assert records.find(about("b")).key == "b"
    assert reads == 2
    with pytest.raises(DataError, match="no record 'd'"):
        records.find(about("d"))


def test_files_that_are_no_variants_are_refused(tmp_path: Path) -> None:
    assert isinstance(variants_for(tmp_path / "A.VCF.gz"), Vcf)
    with pytest.raises(UsageError, match=r"known endings: \.vcf"):
        variants_for(tmp_path / "calls.bcf")


def test_rows_tell_where_the_surprise_is() -> None:
    bits = np.array([[1.0, np.nan], [0.5, 7.0], [np.nan, np.nan], [1.5, 2.0]], np.float32)
    row = record_row(Score("case 1", bits), ["activity", "gap"])
    assert (row["max_bits"], row["max_position"], row["max_field"], row["cells"]) == (7.0, 2, "gap", 5)
    assert row["bits"] == pytest.approx(12 / 5)
    assert list(row["fields"].items()) == [("gap", 4.5), ("activity", 1.0)]
    rows = list(position_rows(Score("case 1", bits), ["activity", "gap"]))
    found = [(each["bits"], each["top_field"]) for each in rows]
    assert found == [(1.0, "activity"), (7.5, "gap"), (None, None), (3.5, "gap")]
    assert record_row(Score("empty", np.full((2, 2), np.nan, np.float32)), ["a", "b"])["bits"] is None
