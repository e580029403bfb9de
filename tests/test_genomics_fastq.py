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
    """The text of some reads and their parts: of one line of bases or several, or none, with blank lines between."""
    blank = st.lists(st.sampled_from([b"\n", b" \r\n"]), max_size=2).map(b"".join)
    text, parts = draw(blank), []
    for i in range(draw(st.integers(1, 5))):
        n = draw(st.integers(0, 9))
        width = draw(st.sampled_from([n or 1, n or 1, 2, 3]))
        end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
        name = b"r%d" % i + draw(st.sampled_from([b"", b" 1:N:0", b"\tx @ +"]))
        bases = b"ACGTNacgt"[:n]
        qualities = bytes(draw(st.lists(st.sampled_from(b"!@+>;~I"), min_size=n, max_size=n)))
        plus = b"+" + draw(st.sampled_from([b"", name]))
        lines = [b"@" + name, *_wrapped(bases, width), plus, *_wrapped(qualities, width)]
        text += b"".join(line + end for line in lines) + draw(blank)
        parts.append((name, bases, qualities))
    if draw(st.integers(0, 9)) == 0:
        text = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r")
    return text.rstrip() if qualities and draw(st.booleans()) else text, parts


def _wrapped(text, width):
    return [text[at : at + width] for at in range(0, max(len(text), 1), width)]


@given(example=fastq_texts(), block=st.integers(1, 40))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layout_comes_back_byte_for_byte_whatever_the_blocks(example, block, tmp_path):
    text, parts = example
    (tmp_path / "in.fq").write_bytes(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        reads = list(Fastq().read(tmp_path / "in.fq"))
    Fastq().write(reads, tmp_path / "out.fq")
    assert (tmp_path / "out.fq").read_bytes() == text
    assert [(read.header, read.residues, (read.qualities + 33).tobytes()) for read in reads] == parts
    lines = text.split(b"\n") if b"\n" in text else text.split(b"\r")
    for read in reads:
        assert lines[read.line - 1].startswith(b"@" + read.key.encode())
        for position in range(len(read)):
            where = read.place(position).split()
            assert lines[int(where[1].rstrip(",")) - 1][int(where[3]) - 1] == read.residues[position]


def test_wrapped_reads_are_those_of_biopython(tmp_path):
    parse = pytest.importorskip("Bio.SeqIO").parse
    text = "@r1 x\nACG\nTN\n+\n@II\n+I\n@r2\n\n+r2\n\n@r3\nAC\n+\n@@\n\n"
    (tmp_path / "x.fq").write_text(text)
    reads = list(Fastq().read(tmp_path / "x.fq"))
    with (tmp_path / "x.fq").open() as file:
        for read, other in zip(reads, parse(file, "fastq"), strict=True):
            assert (read.key, read.residues) == (other.id, bytes(other.seq))
            assert read.qualities.tolist() == other.letter_annotations["phred_quality"]


def test_behind_a_broken_read_reading_goes_on(tmp_path):
    text = b"\n@r1\nAC\n+\n@\n@r2\nAC\n+\n@I\n@r3\nAC\n@r4\nAC\n+\nII\n\n@r5\nA"
    (tmp_path / "x.fq").write_bytes(text)
    items = list(Fastq().attempts(tmp_path / "x.fq"))
    assert [item.kept if isinstance(item, DataError) else item.key for item in items] == [
        b"\n@r1\nAC\n+\n@\n",
        "r2",
        b"@r3\nAC\n",
        "r4",
        b"@r5\nA",
    ]
    Fastq().write(items, tmp_path / "again.fq")
    assert (tmp_path / "again.fq").read_bytes() == text


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
    ("name", "content", "message"),
    [
        ("none.fq", None, "no such file"),
        ("empty.fq", b"", "the file is empty"),
        ("fasta.fq", b">a\nACGT\n", "line 1: expected a line that begins with '@', found '>a'"),
        ("shifted.fq", GOOD + b"x\n" + GOOD, "line 5: expected a line that begins with '@', found 'x'"),
        ("blank.fq", b"\n \n", "has no reads"),
        ("sam.sam", b"@HD\tVN:1.6\n@SQ\tSN:a\n", "line 2: expected a line that begins with '+', found '@SQ"),
        ("no_name.fq", GOOD + b"@ \nACGT\n+\nIIII\n", "line 5: the read has no name"),
        ("cut1.fq", GOOD + b"@r2", "line 5: the file ends inside read 'r2'"),
        ("cut2.fq", GOOD + b"@r2\nAC", "line 6: the file ends inside read 'r2'"),
        ("cut3.fq", GOOD + b"@r2\nACGT\n+", "line 7: the file ends inside read 'r2'"),
        ("cut4.fq", GOOD + b"@r2\nACGT\n+\nII", "line 8: read 'r2' has 4 bases but 2 qualities"),
        ("wrapped.fq", b"@r\nAC\nGT\n+\nIII\nII\n", "line 5: read 'r' has 4 bases but 5 qualities"),
        ("wrapped_cut.fq", b"@r\nAC\nGT\n+\nII\n", "line 5: read 'r' has 4 bases but 2 qualities"),
        ("names.fq", GOOD + b"@r2\nACGT\n+r3\nIIII\n", "line 7: this name is not that of read 'r2' in line 5"),
        ("spaces.fq", b"@r\nAC GT\n+\nIIIII\n", "line 2: read 'r' has characters that are no letters"),
        ("nul.fq", b"@r\nAC\0T\n+\nIIII\n", "line 2: read 'r' has characters that are no letters"),
        ("short.fq", b"@r\nACGT\n+\nIII\n", "line 4: read 'r' has 4 bases but 3 qualities"),
        ("long.fq", b"@r\nACGT\n+\nIIIII\n", "line 4: read 'r' has 4 bases but 5 qualities"),
        ("quality.fq", b"@r\nACGT\n+\nII I\n", "line 4: read 'r' has characters that are no qualities"),
        ("binary_quality.fq", b"@r\nACGT\n+\nII\xffI\n", "line 4: read 'r' has characters that are no qualities"),
        ("cut.fq.gz", PACKED[:-30], "the gzip file is cut short"),
        ("damaged.fq.gz", PACKED[:40] + b"\xff" * 20 + PACKED[60:], "the gzip data are damaged"),
    ],
)
def test_damage_is_one_line_that_says_where(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(Fastq().read(path))
    shown = str(caught.value)
    assert shown.startswith(f"{path}: ")
    assert message in shown
    assert "\n" not in shown


def test_letters_that_are_no_bases_are_named_by_line(tmp_path):
    (tmp_path / "x.fq").write_bytes(GOOD + b"@r2\nAC.T\n+\nIIII\n")
    _, read = Fastq().read(tmp_path / "x.fq")
    with pytest.raises(DataError, match=r"line 6, column 3 \(read 'r2'\): '.' is an alignment gap"):
        NucleotideTokenizer().encode(read)
