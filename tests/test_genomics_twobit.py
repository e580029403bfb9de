"""2bit: read as py2bit and Biopython read it, byte-equal round trips, files made by hand from the specification."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_genomics.twobit import TwoBit


def by_hand(
    records: list[tuple[str, str, list[tuple[int, int]], list[tuple[int, int]]]], *, order: str = "<", version: int = 0
) -> bytes:
    """A 2bit file from (name, bases, runs of N, runs of lower case), base by base as the specification says."""
    wide = "Q" if version else "I"
    bodies = []
    for _, bases, unknown, lower in records:
        body = struct.pack(order + "I", len(bases))
        for runs in (unknown, lower):
            body += struct.pack(order + "I", len(runs))
            body += b"".join(struct.pack(order + "I", start) for start, _ in runs)
            body += b"".join(struct.pack(order + "I", size) for _, size in runs)
        body += struct.pack(order + "I", 0)
        bits = "".join(f"{'TCAG'.index(base):02b}" for base in bases)
        bits += "0" * (-len(bits) % 8)
        bodies.append(body + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)))
    offset = 16 + sum(1 + len(name) + struct.calcsize(wide) for name, *_ in records)
    index = b""
    for (name, *_), body in zip(records, bodies, strict=True):
        index += bytes([len(name)]) + name.encode() + struct.pack(order + wide, offset)
        offset += len(body)
    return struct.pack(order + "4I", 0x1A412743, version, len(records), 0) + index + b"".join(bodies)


RECORDS = [
    ("chr1", "ACGTACGTAC", [(2, 3)], [(0, 4), (8, 2)]),
    ("two", "G", [], []),
    ("chrN", "TTTTTTTTT", [(0, 9)], [(0, 9)]),
]
RESIDUES = [b"acnnNCGTac", b"G", b"nnnnnnnnn"]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("version", [0, 1])
def test_files_made_by_hand_come_back_byte_for_byte(order, version, tmp_path):
    """The bits under the Ns of chr1 are no Ts, so that its record is kept verbatim."""
    content = by_hand(RECORDS, order=order, version=version)
    (tmp_path / "in.2bit").write_bytes(content)
    records = list(TwoBit().read(tmp_path / "in.2bit"))
    assert [(r.key, r.residues) for r in records] == list(zip(("chr1", "two", "chrN"), RESIDUES, strict=True))
    TwoBit().write(records, tmp_path / "out.2bit")
    assert (tmp_path / "out.2bit").read_bytes() == content


def test_filled_bases_are_written(tmp_path):
    (tmp_path / "in.2bit").write_bytes(by_hand(RECORDS))
    tokenizer = NucleotideTokenizer()
    filled = []
    for record in TwoBit().read(tmp_path / "in.2bit"):
        ids = tokenizer.encode(record).ids
        filled.append(tokenizer.splice(record, np.full_like(ids, 2), ids == 4))
    TwoBit().write(filled, tmp_path / "out.2bit")
    assert [r.residues for r in TwoBit().read(tmp_path / "out.2bit")] == [b"acggGCGTac", b"G", b"ggggggggg"]


@given(texts=st.lists(st.text("ACGTacgtNNnn", min_size=1, max_size=30), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_what_the_specification_says(texts, tmp_path):
    def runs(flags: list[bool]) -> list[tuple[int, int]]:
        edges = [i for i in range(len(flags) + 1) if ([False, *flags][i]) != ([*flags, False][i])]
        return [(a, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True)]

    records = [Sequence(key=f"c{i}", residues=text.encode()) for i, text in enumerate(texts)]
    TwoBit().write(records, tmp_path / "out.2bit")
    expected = [
        (f"c{i}", text.upper().replace("N", "T"), runs([c in "nN" for c in text]), runs([c.islower() for c in text]))
        for i, text in enumerate(texts)
    ]
    assert (tmp_path / "out.2bit").read_bytes() == by_hand(expected)
    assert [r.residues.decode() for r in TwoBit().read(tmp_path / "out.2bit")] == texts


def test_other_readers_agree_on_a_real_genome(shared_data, tmp_path):
    py2bit = pytest.importorskip("py2bit")
    records = list(Fasta().read(shared_data / "genomics" / "ecoli_like_454AllContigs.fna.gz"))  # has lower case and n
    path = tmp_path / "genome.2bit"
    TwoBit().write(records, path)
    other = py2bit.open(str(path), True)
    for record, own in zip(records, TwoBit().read(path), strict=True):
        assert own.key == record.key
        assert own.residues == record.residues
        assert other.sequence(record.key).encode() == record.residues.replace(b"n", b"N")  # py2bit shows no n
    before = path.read_bytes()
    TwoBit().write(TwoBit().read(path), path)
    assert path.read_bytes() == before


GOOD = by_hand(RECORDS)
INDEX = 16 + 5 + 4 + 4 + 4 + 5 + 4  # where the first record starts


def patched(at: int, data: bytes) -> bytes:
    return GOOD[:at] + data + GOOD[at + len(data) :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b">chr1\nACGT\n", "byte 0: is no 2bit file: it begins with b'>chr'"),
        (b"\x1f\x8b\x08\0\0\0", "is no 2bit file"),
        (GOOD[:3], "byte 0: the file ends inside the header"),
        (GOOD[:10], "the file ends inside the header"),
        (GOOD[:20], "byte 17: the file ends inside entry 1 of 3 in the index"),
        (patched(4, b"\x07"), "byte 4: has version 7 of the 2bit format"),
        (patched(21, b"\xff\xff\xff\x7f"), "entry 1 of 3 in the index points behind the end of the file"),
        (GOOD[:-1], "the file ends inside record 'chrN'"),
        (by_hand(RECORDS[:1])[: 16 + 9 + 10], "the file ends inside runs of N of record 'chr1'"),
        (patched(INDEX, b"\0\0\0\0"), "record 'chr1' has no sequence"),
        (patched(INDEX, b"\x03\0\0\0"), "runs of N of record 'chr1' reach 5, behind its 3 bases"),
        (patched(INDEX + 4, b"\xff\xff\xff\xff"), "the file ends inside runs of N of record 'chr1'"),
        (patched(INDEX + 12, b"\xff\xff\xff\xff"), "run 1: runs of N of record 'chr1' reach 4,294,967,297"),
        (by_hand([RECORDS[1], RECORDS[1]]), "entry 2 of 2 in the index has a name twice: two"),
        (by_hand([("", "ACGT", [], [])]), "entry 1 of 1 in the index has no name"),
    ],
)
def test_damage_is_one_line_that_says_where(content, message, tmp_path):
    path = tmp_path / "x.2bit"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(TwoBit().read(path))
    shown = str(caught.value)
    assert shown.startswith(f"{path}: ")
    assert message in shown
    assert "\n" not in shown


def test_letters_that_2bit_cannot_hold_are_named(tmp_path):
    for residues, message in ((b"ACRT", "position 3: 2bit cannot hold the letter 'R'"), (b"ACGU", "the letter 'U'")):
        with pytest.raises(DataError, match=message):
            TwoBit().write([Sequence(key="x", residues=residues)], tmp_path / "x.2bit")
    with pytest.raises(DataError, match="over 255 bytes"):
        TwoBit().write([Sequence(key="x" * 256, residues=b"A")], tmp_path / "x.2bit")
    assert list(Path(tmp_path).iterdir()) == []


def test_changed_records_of_odd_files_are_packed_anew(tmp_path):
    (tmp_path / "in.2bit").write_bytes(by_hand(RECORDS))
    first, *others = TwoBit().read(tmp_path / "in.2bit")
    TwoBit().write([replace(first, residues=b"acgtNCGTac"), *others], tmp_path / "out.2bit")
    assert next(TwoBit().read(tmp_path / "out.2bit")).residues == b"acgtNCGTac"
