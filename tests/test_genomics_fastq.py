"""FASTQ: byte-equal round trips, qualities as Biopython reads them, damage named by line."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError, UsageError
from maskseq_genomics import files
from maskseq_genomics.fastq import Fastq
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

REAL = {"ERR1163317_miseq_sample.fq.gz": 234_066, "seqkit_reads_1.fq.gz": 567_516, "seqkit_reads_2.fq.gz": 560_002}


@pytest.mark.parametrize("name", REAL)
def test_real_reads_come_back_byte_for_byte(name, shared_data, tmp_path):
    """Base counts are those that the files' provenance states."""
    path = shared_data / "genomics" / name
    reads = list(Fastq().read(path))
    Fastq().write(reads, tmp_path / "again.fq")
    assert (tmp_path / "again.fq").read_bytes() == gzip.decompress(path.read_bytes())
    assert sum(len(NucleotideTokenizer().encode(read)) for read in reads) == REAL[name]


def test_real_reads_are_those_of_biopython(shared_data):
    parse = pytest.importorskip("Bio.SeqIO").parse
    path = shared_data / "genomics" / "ERR1163317_miseq_sample.fq.gz"
    with gzip.open(path, "rt") as file:
        for read, other in zip(Fastq().read(path), parse(file, "fastq"), strict=True):
            assert (read.key, read.residues) == (other.id, bytes(other.seq))
            assert read.qualities.tolist() == other.letter_annotations["phred_quality"]


@st.composite
def fastq_texts(draw):
    text = b""
    for i in range(draw(st.integers(1, 5))):
        n = draw(st.integers(1, 9))
        end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
        name = b"r%d" % i + draw(st.sampled_from([b"", b" 1:N:0", b"\tx @ +"]))
        qualities = bytes(draw(st.lists(st.integers(33, 126), min_size=n, max_size=n)))
        plus = b"+" + draw(st.sampled_from([b"", name]))
        text += b"@" + name + end + b"ACGTNacgt"[:n] + end + plus + end + qualities + end
    return text[: -len(end)] if draw(st.booleans()) else text


@given(text=fastq_texts(), block=st.integers(1, 40))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layout_comes_back_byte_for_byte_whatever_the_blocks(text, block, tmp_path):
    (tmp_path / "in.fq").write_bytes(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        reads = list(Fastq().read(tmp_path / "in.fq"))
    Fastq().write(reads, tmp_path / "out.fq")
    assert (tmp_path / "out.fq").read_bytes() == text
    lines = text.split(b"\n")
    for i, read in enumerate(reads):
        assert read.key == f"r{i}"
        assert lines[4 * i + 1].rstrip() == read.residues
        assert (read.qualities + 33).tobytes() == lines[4 * i + 3].removesuffix(b"\r")


def test_filled_bases_keep_their_qualities(tmp_path):
    (tmp_path / "in.fq").write_bytes(b"@r x\r\nACNNT\r\n+r x\r\n!!##I\r\n")
    (read,) = Fastq().read(tmp_path / "in.fq")
    tokenizer = NucleotideTokenizer()
    ids = tokenizer.encode(read).ids
    filled = tokenizer.splice(read, np.full_like(ids, 2), ids == 4)
    Fastq().write([filled], tmp_path / "out.fq.gz")
    assert gzip.decompress((tmp_path / "out.fq.gz").read_bytes()) == b"@r x\r\nACGGT\r\n+r x\r\n!!##I\r\n"


def test_records_without_qualities_are_not_written(tmp_path):
    (tmp_path / "in.fq").write_bytes(b"@r\nACGT\n+\nIIII\n")
    (read,) = Fastq().read(tmp_path / "in.fq")
    for record in (Sequence(key="r", residues=b"ACGT"), replace(read, residues=b"ACGTA")):
        with pytest.raises(UsageError, match="no quality for each of its"):
            Fastq().write([record], tmp_path / "out.fq")
    assert not (tmp_path / "out.fq").exists()


GOOD = b"@r1 x\nACGT\n+\nIIII\n"
PACKED = gzip.compress(GOOD * 500)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.fq", None, "no such file"),
        ("empty.fq", b"", "the file is empty"),
        ("fasta.fq", b">a\nACGT\n", "line 1: expected a line that begins with '@', found '>a'"),
        ("shifted.fq", GOOD + b"\n" + GOOD, "line 5: expected a line that begins with '@', found ''"),
        ("trailing.fq", GOOD + b"\n\n", "line 5: expected a line that begins with '@', found ''"),
        ("no_name.fq", GOOD + b"@ \nACGT\n+\nIIII\n", "line 5: the read has no name"),
        ("cut1.fq", GOOD + b"@r2", "line 5: the file ends inside read 'r2'"),
        ("cut2.fq", GOOD + b"@r2\nAC", "line 6: the file ends inside read 'r2'"),
        ("cut3.fq", GOOD + b"@r2\nACGT\n+", "line 7: the file ends inside read 'r2'"),
        ("cut4.fq", GOOD + b"@r2\nACGT\n+\nII", "line 8: read 'r2' has 4 bases but 2 qualities"),
        (
            "wrapped.fq",
            b"@r\nACGT\nACGT\n+\nIIII\nIIII\n",
            "line 3: expected a line that begins with '+', found 'ACGT'",
        ),
        ("names.fq", GOOD + b"@r2\nACGT\n+r3\nIIII\n", "line 7: this name is not that of read 'r2' in line 5"),
        ("no_bases.fq", GOOD + b"@r2\n\n+\n\n", "line 6: read 'r2' has no bases"),
        ("spaces.fq", b"@r\nAC GT\n+\nIIIII\n", "line 2: read 'r' has characters that are no letters"),
        ("nul.fq", b"@r\nAC\0T\n+\nIIII\n", "line 2: read 'r' has characters that are no letters"),
        ("short.fq", b"@r\nACGT\n+\nIII\n", "line 4: read 'r' has 4 bases but 3 qualities"),
        ("long.fq", b"@r\nACGT\n+\nIIIII\n", "line 4: read 'r' has 4 bases but 5 qualities"),
        ("quality.fq", b"@r\nACGT\n+\nII I\n", "line 4: read 'r' has characters that are no qualities"),
        ("binary_quality.fq", b"@r\nACGT\n+\nII\xffI\n", "line 4: read 'r' has characters that are no qualities"),
        ("cut.fq.gz", PACKED[:-30], "the gzip file is cut short"),
        ("not.fq.gz", GOOD, "is not a gzip file"),
        ("damaged.fq.gz", PACKED[:40] + b"\xff" * 20 + PACKED[60:], "the gzip data are damaged"),
    ],
)
def test_damage_is_one_line_that_says_where(name, content, said, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(Fastq().read(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message


def test_letters_that_are_no_bases_are_named_by_line(tmp_path):
    (tmp_path / "x.fq").write_bytes(GOOD + b"@r2\nAC.T\n+\nIIII\n")
    _, read = Fastq().read(tmp_path / "x.fq")
    with pytest.raises(DataError, match=r"line 6, column 3 \(read 'r2'\): '.' is an alignment gap"):
        NucleotideTokenizer().encode(read)
