"""BED windows: against slices of the genome, with and without an index, from FASTA and 2bit."""

import hashlib
import os
import shutil

import pytest

from maskseq.corpus.build import build_corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import DataError, UsageError
from maskseq_genomics.bed import Bed
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.twobit import TwoBit

COMPLEMENT = str.maketrans("ACGTacgtNRYn", "TGCAtgcaNYRn")
GENOME = ">I first\nACGTACGTAC\nNNACGTacgt\nGGR\n>II\nTTTTTTTTTT\nCCCCCCCCCC\n"
CHROMOSOMES = {"I": "ACGTACGTACNNACGTacgtGGR", "II": "TTTTTTTTTTCCCCCCCCCC"}
INDEX = "I\t23\t9\t10\t11\nII\t20\t39\t10\t11\n"  # as samtools faidx writes it
BED = """track name=x
# comment
II\t8\t12
I\t0\t5\tfirst\t0\t+
I\t8\t23\tsecond\t0\t-

I 22 23 last 960 .
"""
WINDOWS = [
    ("I:0-5(+)", "ACGTA"),
    ("I:8-23(-)", "ACNNACGTacgtGGR"[::-1].translate(COMPLEMENT)),
    ("I:22-23", "R"),
    ("II:8-12", "TTCC"),
]


@pytest.fixture
def genome(tmp_path):
    (tmp_path / "genome.fa").write_text(GENOME)
    return tmp_path / "genome.fa"


def windows(bed: str, genome) -> list[tuple[str, str]]:
    path = genome.with_name("windows.bed")
    path.write_text(bed)
    return [(w.key, w.residues.decode()) for w in Bed(genome=genome).read(path)]


def test_windows_are_slices_on_their_strand(genome):
    assert windows(BED, genome) == WINDOWS
    assert windows(BED.replace("\n", "\r\n"), genome) == WINDOWS


def test_an_index_gives_the_same_windows_without_reading_the_genome(genome, monkeypatch):
    genome.with_name("genome.fa.fai").write_text(INDEX)
    monkeypatch.setattr(Fasta, "read", None)
    assert windows(BED, genome) == WINDOWS


def test_the_index_of_pyfaidx_is_understood(genome):
    pytest.importorskip("pyfaidx").Faidx(str(genome))
    assert genome.with_name("genome.fa.fai").read_text() == INDEX


def test_an_index_older_than_the_genome_is_not_used(genome):
    index = genome.with_name("genome.fa.fai")
    index.write_text("rubbish")
    os.utime(index, (1, 1))
    assert windows(BED, genome) == WINDOWS


def test_2bit_genomes_and_compressed_ones_serve_as_well(genome):
    bed = BED.replace("I 22 23", "I 21 22")  # 2bit holds no R
    plain = windows(bed, genome)
    Fasta().write(Fasta().read(genome), genome.with_name("genome.fa.gz"))
    assert windows(bed, genome.with_name("genome.fa.gz")) == plain
    genome.write_text(GENOME.replace("R", "A"))
    TwoBit().write(Fasta().read(genome), genome.with_name("genome.2bit"))
    assert windows(bed, genome.with_name("genome.2bit")) == windows(bed, genome)


def test_the_genome_is_a_source_of_the_corpus(genome, tmp_path):
    """Another genome under the same name is other data: the corpus that is there is not taken for it."""
    bed = tmp_path / "windows.bed"
    bed.write_text(BED)

    def build():
        split = SplitConfig(by="none")
        return build_corpus(
            [bed], output=tmp_path / "c", tokenizer=NucleotideTokenizer(), format=Bed(genome=genome), split=split
        )

    sources = build().manifest["sources"]
    assert [source["name"] for source in sources] == ["windows.bed", "genome.fa"]
    assert sources[1]["sha256"] == hashlib.sha256(GENOME.encode()).hexdigest()
    genome.write_text(GENOME.replace("TTTT", "AAAA"))
    with pytest.raises(UsageError, match="holds a corpus of other input"):
        build()
    genome.unlink()
    with pytest.raises(DataError, match=r"genome\.fa: there is no such file"):
        build()


def test_real_windows(samples, tmp_path):
    """The first gene of phage lambda and the one before its right end, on the other strand."""
    shutil.copy(samples / "lambda_virus.fa.gz", tmp_path / "lambda.fa.gz")
    (phage,) = Fasta().read(tmp_path / "lambda.fa.gz")
    (tmp_path / "genes.bed").write_text(f"{phage.key}\t190\t736\tnu1\t0\t+\n{phage.key}\t1000\t1600\t\t\t-\n")
    forward, backward = Bed(genome=tmp_path / "lambda.fa.gz").read(tmp_path / "genes.bed")
    assert forward.residues.startswith(b"ATGGAAGTCAACAAAAAGCAG")
    assert backward.residues.decode() == phage.residues[1000:1600].decode()[::-1].translate(COMPLEMENT)


def test_faulty_bases_are_named_in_coordinates_of_the_genome(genome):
    genome.write_text(GENOME.replace("GGR", "G!R"))
    path = genome.with_name("windows.bed")
    path.write_text("I\t20\t23\tx\t0\t+\nI\t20\t23\tx\t0\t-\n")
    forward, backward = Bed(genome=genome).read(path)
    for window in (forward, backward):
        with pytest.raises(DataError, match=r"genome.fa: I, base 22 \(window 'I:20-23\(.\)' of line [12]\): '!' is no"):
            NucleotideTokenizer().encode(window)


def test_windows_are_written_as_fasta(genome, tmp_path):
    path = genome.with_name("windows.bed")
    path.write_text(BED)
    Bed(genome=genome).write(Bed(genome=genome).read(path), tmp_path / "out.fa")
    assert (tmp_path / "out.fa").read_text() == "".join(f">{key}\n{bases}\n" for key, bases in WINDOWS)
    with pytest.raises(UsageError, match="are written as FASTA"):
        Bed(genome=genome).write([], tmp_path / "out.bed")


@pytest.mark.parametrize(
    ("bed", "message"),
    [
        ("", "windows.bed: the file is empty"),
        ("# nothing\n\n", "windows.bed: lists no windows"),
        ("I\t5\n", "line 1: has 2 column(s); sequence, start and end are needed"),
        ("I,0,5\n", "line 1: has 1 column(s)"),
        ("I\t0\t5\nI\tx\t5\n", "line 2: start 'x' and end '5' are no whole numbers"),
        ("I\t0.5\t5\n", "line 1: start '0.5' and end '5' are no whole numbers"),
        ("I\t5\t5\n", "line 1: the window 5 to 5 is empty or begins before 0"),
        ("I\t9\t5\n", "line 1: the window 9 to 5 is empty"),
        ("I\t-1\t5\n", "line 1: the window -1 to 5 is empty or begins before 0"),
        ("I\t0\t5\tx\t0\tforward\n", "line 1: the strand in column 6 is 'forward'; it is +, - or ."),
        ("I\t20\t24\n", "line 1: the window ends at 24, but 'I' has 23 bases"),
        ("I\t0\t5\nIII\t0\t5\n", "line 2: the genome {genome} has no sequence 'III'; did you mean 'II'?"),
        ("chr7\t0\t5\n", "line 1: the genome {genome} has no sequence 'chr7'; it has I, II"),
        ("\0\1\2\n", "line 1: has 1 column(s)"),
    ],
)
@pytest.mark.parametrize("indexed", [False, True])
def test_damage_is_one_line_that_says_where(bed, message, indexed, genome):
    if indexed:
        genome.with_name("genome.fa.fai").write_text(INDEX)
    with pytest.raises(DataError) as caught:
        windows(bed, genome)
    assert message.format(genome=genome) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("I\t23\t9\t10\n", "line 1: is no line of a FASTA index; make it anew with samtools faidx"),
        ("I\t23\t9\t0\t0\n", "line 1: is no line of a FASTA index"),
        ("I\t23\tx\t10\t11\n", "line 1: is no line of a FASTA index"),
        ("I\t23\t9\t20\t21\n", "does not fit the FASTA file"),
        ("I\t230\t9\t10\t11\n", "does not fit the FASTA file"),
    ],
)
def test_a_damaged_index_is_named(index, message, genome):
    genome.with_name("genome.fa.fai").write_text(index)
    with pytest.raises(DataError) as caught:
        windows("I\t0\t23\nI\t20\t60\n" if "230" in index else "I\t0\t23\n", genome)
    assert message in str(caught.value)


def test_a_missing_genome_is_named(tmp_path):
    (tmp_path / "x.bed").write_text("I\t0\t5\n")
    with pytest.raises(UsageError, match="option genome"):
        list(Bed().read(tmp_path / "x.bed"))
    with pytest.raises(DataError, match=r"genome\.fa: no such file"):
        list(Bed(genome=tmp_path / "genome.fa").read(tmp_path / "x.bed"))
    with pytest.raises(DataError, match=r"no\.bed: no such file"):
        list(Bed(genome=tmp_path / "genome.fa").read(tmp_path / "no.bed"))
