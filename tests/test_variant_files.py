"""Every entry of a file of variants has a row: its score, or why there is none."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.cli import app
from maskseq.errors import UsageError
from maskseq.plugins import variants_for
from maskseq.trained import TrainedModel
from maskseq.variants import Records
from maskseq_genomics import sequence
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.vcf import Vcf


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


HEADER = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
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


def test_a_vcf_is_scored_line_by_line(run: TrainedModel, genome: Path, tmp_path: Path) -> None:
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
        ("one", "300", "<DEL>"),
        ("one", "300", "*"),
        ("one", "1", one[0]),
        ("two", "50", "A" * 60),
    ]
    assert [bool(row["log_ratio"]) for row in rows] == [True, False, False, False, False, False]
    assert [bool(row["flank_log_ratio"]) for row in rows] == [False, True, False, False, True, False]
    assert [bool(row["reason"]) for row in rows] == [False, False, True, True, False, True]
    assert "3 of 6" in result.stderr
    first = {name: float(rows[0][name]) for name in ("log_ratio", "log_before", "log_after")}
    assert first["log_ratio"] == pytest.approx(first["log_after"] - first["log_before"], abs=2e-4)
    for name in ("scores.jsonl", "scores.parquet", "scores.tsv"):
        assert maskseq("score", run.path, genome, "--variants", vcf, "-o", tmp_path / name).exit_code == 0
    typed = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    for name in ("log_ratio", "flank_log_ratio"):
        shown = [float(row[name]) if row[name] else None for row in rows]
        assert [row[name] for row in typed] == [
            number if number is None else pytest.approx(number, abs=6e-5) for number in shown
        ]
    assert [row["reason"] or "" for row in typed] == [row["reason"] for row in rows]
    pq = pytest.importorskip("pyarrow.parquet")
    assert pq.read_table(tmp_path / "scores.parquet").to_pylist() == typed


@pytest.mark.parametrize(
    ("line", "keyword"),
    [
        ("one\t10\t.\t{wrong}\tA", "reference allele"),
        ("one\t301\t.\tA\tC", "300"),
        ("one\t299\t.\tAAAA\tC", "300"),
        ("three\t10\t.\tA\tC", "'three'"),
        ("one\tten\t.\tA\tC", "'ten'"),
        ("one\t{huge}\t.\tA\tC", "position"),
        ("one\t0\t.\tA\tC", "position 0"),
        ("one\t10\t.\tA", "4 column"),
        ("one\t10\t.\tA\tC!", "'C!'"),
        ("one\t10\t.\t\tC", "reference allele"),
        ("one 10 . A C", "tabs"),
        ("one\t10\t.\t{right}\t.", "alternative"),
        ("one\t10\t.\t{right}\tN", "unknown"),
        ("one\t1\t.\t{all}\tA", "300"),
    ],
)
def test_a_wrong_line_has_a_row_with_the_reason(
    run: TrainedModel, genome: Path, tmp_path: Path, line: str, keyword: str
) -> None:
    vcf = tmp_path / "calls.vcf"
    one = bases(genome)["one"]
    text = line.format(wrong=OTHER[one[9]], right=one[9], huge="9" * 5000, all=one)
    good = f"one\t20\t.\t{one[19]}\t{OTHER[one[19]]}"
    vcf.write_text(f"{HEADER}{text}\n{good}\n")
    result = maskseq("score", run.path, genome, "--variants", vcf)
    assert result.exit_code == 0, result.output
    wrong, right = csv.DictReader(result.stdout.splitlines(), delimiter="\t")
    assert keyword in wrong["reason"]
    assert (wrong["log_ratio"], wrong["flank_log_ratio"], right["reason"]) == ("", "", "")
    assert right["log_ratio"]


def test_every_alternative_of_every_line_has_a_row(run: TrainedModel, tmp_path: Path) -> None:
    """Every kind of entry that has no score stands between others, and ends nothing."""
    cases = Path(__file__).parents[1].parent / "shared/cases/genomics/toy.vcf"
    letters = list(np.random.default_rng(4).choice(list("ACGT"), 600))
    lines = TOY.splitlines()
    for line in lines:
        _, position, name, reference, *_ = line.split()
        if name != "wrongref" and position != "0":
            letters[int(position) - 1 : int(position) - 1 + len(reference)] = reference
    letters[79] = "A"
    (tmp_path / "v.fa").write_text(f">v\n{''.join(letters)}\n")
    (tmp_path / "toy.vcf").write_text(HEADER + TOY.replace(" ", "\t"))
    if cases.exists():
        (tmp_path / "toy.vcf").write_bytes(cases.read_bytes())
    result = maskseq("score", run.path, tmp_path / "v.fa", "--variants", tmp_path / "toy.vcf", "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(row) for row in result.stdout.splitlines()]
    expected = [(line.split()[2], alternative) for line in lines for alternative in line.split()[4].split(",")]
    assert [(row["id"], row["alt"]) for row in rows] == expected
    for row in rows:
        in_column = (row["log_ratio"] is not None, row["flank_log_ratio"] is not None)
        assert in_column == (row["id"] == "ok", row["id"] in ("ins", "del"))
        assert (row["reason"] is None) == any(in_column)


TOY = """\
v 50 ok A C,G . . .
v 60 star A * . . .
v 70 sym A <DEL> . . END=90
v 80 wrongref T C . . .
v 0 telomere N A . . .
v 100 ins A ACGT . . .
v 110 del ACGT A . . .
v 120 iupac A R . . .
w 10 nocontig A C . . .
v 130 brk A A]v:300] . . .
"""


def test_records_are_found_in_any_order_and_read_again_only_when_passed() -> None:
    reads = 0

    def read() -> list[sequence.Sequence]:
        nonlocal reads
        reads += 1
        return [sequence.Sequence(key=key, residues=b"ACGT") for key in "abc"]

    records = Records(read)
    assert [records.find(key).key for key in "aabcc"] == list("aabcc")
    assert reads == 1
    assert records.find("b").key == "b"
    assert reads == 2
    for missing in "def":
        with pytest.raises(LookupError, match=f"'{missing}'.* a, b, c"):
            records.find(missing)
    assert reads == 3  # once all keys are known, none is looked for again
    assert records.find("a").key == "a"


def test_files_that_are_no_variants_are_refused(tmp_path: Path) -> None:
    assert isinstance(variants_for(tmp_path / "A.VCF.gz"), Vcf)
    with pytest.raises(UsageError, match=r"known endings: \.vcf"):
        variants_for(tmp_path / "calls.bcf")
