"""FASTA: what is read is what is there, what is written back is byte-equal, and damage is named by line."""

import gzip
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError
from maskseq_genomics import files
from maskseq_genomics.fasta import Fasta, FastaSequence, Sequence

REAL = [
    "ecoli_536_NC_008253.fna.gz",
    "ecoli_K12_MG1655.fasta.gz",
    "ecoli_K12_MG1655_contigs.fasta.gz",
    "ecoli_like_454AllContigs.fna.gz",
    "hpylori_SJM180.fasta.gz",
    "lambda_virus.fa.gz",
    "mirbase_hairpin.fa.gz",
    "yeast_S288C_R64_chrI-X_Mito.fa.gz",
]


def rewritten(text: bytes, folder: Path) -> tuple[list[FastaSequence], bytes]:
    """What a file of this text reads as, and what comes out when that is written."""
    (folder / "in.fa").write_bytes(text)
    records = list(Fasta().read(folder / "in.fa"))
    Fasta().write(records, folder / "out.fa")
    return records, (folder / "out.fa").read_bytes()


def by_lines(text: bytes) -> list[tuple[bytes, bytes]]:
    """Header and residues of each record, by the plainest parser there is."""
    records: list[tuple[bytes, list[bytes]]] = []
    for line in text.split(b"\n") if b"\n" in text else text.split(b"\r"):
        if line.startswith(b">"):
            records.append((line[1:].removesuffix(b"\r"), []))
        elif line.strip() and not line.startswith(b";"):
            records[-1][1].extend(line.split())
    return [(header, b"".join(words)) for header, words in records]


@pytest.mark.parametrize("name", REAL)
def test_real_files_come_back_byte_for_byte(name, shared_data, tmp_path):
    text = gzip.decompress((shared_data / "genomics" / name).read_bytes())
    records = list(Fasta().read(shared_data / "genomics" / name))
    assert [(r.header, r.residues) for r in records] == by_lines(text)
    Fasta().write(records, tmp_path / "again.fa.gz")
    assert gzip.decompress((tmp_path / "again.fa.gz").read_bytes()) == text


line_end = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"])
residue_line = st.binary(max_size=9).map(lambda b: bytes(b"ACGTNacgtnRyU*-. \t"[i % 18] for i in b))
comment_line = st.text("; >Aé", max_size=6).map(lambda text: b";" + text.encode())
header_line = st.text("abc |:=é>", max_size=8).map(lambda text: b">k" + text.encode())


@st.composite
def fasta_texts(draw):
    """FASTA with lines of any length, blanks, blank lines, comments, empty records, and line ends of several kinds."""
    text = b"".join(line + draw(line_end) for line in draw(st.lists(st.just(b"") | comment_line, max_size=2)))
    for _ in range(draw(st.integers(1, 4))):
        width = draw(st.integers(1, 7))
        regular = b"ACGTACGTNNacgt"[: draw(st.integers(0, 14))]
        end = draw(line_end)
        lines = [regular[i : i + width] + end for i in range(0, len(regular), width)]
        if draw(st.booleans()):
            extra = [line + draw(line_end) for line in draw(st.lists(residue_line | comment_line, max_size=4))]
            lines = extra + lines if draw(st.booleans()) else lines + extra
        text += draw(header_line) + end + b"".join(lines)
    if draw(st.integers(0, 9)) == 0:
        text = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r")
    return text.rstrip(b"\r\n") if draw(st.booleans()) else text


@given(text=fasta_texts(), block=st.integers(1, 40))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layout_comes_back_byte_for_byte_whatever_the_blocks(text, block, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        if b"\n" in text:  # in the first block, lines of old Macs show
            patch.setattr(files, "BLOCK", block)
        records, again = rewritten(text, tmp_path)
    assert again == text
    assert [(r.header, r.residues) for r in records] == by_lines(text)
    assert [r.key.encode() for r in records] == [header.split()[0] for header, _ in by_lines(text)]

    lines = text.split(b"\n") if b"\n" in text else text.split(b"\r")
    for record in records:
        for position in range(len(record)):
            where = record.place(position).split()
            line, column = int(where[1].rstrip(",")), int(where[3])
            assert lines[line - 1][column - 1] == record.residues[position]


def test_comments_and_empty_records_stay_where_they_are(tmp_path):
    text = b";by hand\n\n>a\nAC\n;in it\nGN\n;behind\n>empty\n>blank\n\n>c\nNN\n>last"
    records, again = rewritten(text, tmp_path)
    assert again == text
    assert [(record.key, record.residues) for record in records] == [
        ("a", b"ACGN"),
        ("empty", b""),
        ("blank", b""),
        ("c", b"NN"),
        ("last", b""),
    ]
    Fasta().write([replace(record, residues=record.residues.replace(b"N", b"T")) for record in records], tmp_path / "o")
    assert (tmp_path / "o").read_bytes() == text.replace(b"N", b"T")


def test_records_are_those_of_biopython(shared_data, tmp_path):
    parse = pytest.importorskip("Bio.SeqIO").parse
    for name in REAL:
        with gzip.open(shared_data / "genomics" / name, "rt") as file:
            for record, other in zip(Fasta().read(shared_data / "genomics" / name), parse(file, "fasta"), strict=True):
                assert (record.key, record.residues) == (other.id, bytes(other.seq))
    (tmp_path / "x.fa").write_bytes(b">a\nAC\n;c\nGT\n>b\n>c\r\nMK*\r\n")
    with (tmp_path / "x.fa").open() as file:
        others = [(other.id, bytes(other.seq)) for other in parse(file, "fasta-pearson")]
    assert [(record.key, record.residues) for record in Fasta().read(tmp_path / "x.fa")] == others


@pytest.mark.parametrize("name", ["plain.fa.gz", "packed.fa"])
def test_whether_a_file_is_compressed_its_content_says(name, tmp_path):
    """What is written is compressed if its name says so."""
    text = b">a\nACGT\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name == "packed.fa" else text)
    records = list(Fasta().read(tmp_path / name))
    assert [record.residues for record in records] == [b"ACGT"]
    Fasta().write(records, tmp_path / name)
    written = (tmp_path / name).read_bytes()
    assert (written if name == "packed.fa" else gzip.decompress(written)) == text


def test_behind_a_broken_record_reading_goes_on(tmp_path):
    text = b";c\n>\nAC\n>b\nGT\n>c\nA\0\n\n>d\n"
    (tmp_path / "x.fa").write_bytes(text)
    items = list(Fasta().attempts(tmp_path / "x.fa"))
    assert [item.kept if isinstance(item, DataError) else item.key for item in items] == [
        b";c\n>\nAC\n",
        "b",
        b">c\nA\0\n\n",
        "d",
    ]
    Fasta().write(items, tmp_path / "again.fa")
    assert (tmp_path / "again.fa").read_bytes() == text


def test_only_changed_letters_differ_even_in_irregular_records(tmp_path):
    text = b">a x\nACGT AC\n\nGT\n>b\r\nAC\r\nGT\r\n"
    records, _ = rewritten(text, tmp_path)
    changed = [replace(r, residues=r.residues.lower()) for r in records]
    Fasta().write(changed, tmp_path / "out.fa")
    assert (tmp_path / "out.fa").read_bytes() == b">a x\nacgt ac\n\ngt\n>b\r\nac\r\ngt\r\n"


def test_records_of_another_length_are_wrapped_anew(tmp_path):
    records, _ = rewritten(b">a\nACGT\nAC\n\n", tmp_path)
    Fasta().write([replace(records[0], residues=b"ACGTACGTAC")], tmp_path / "out.fa")
    assert (tmp_path / "out.fa").read_bytes() == b">a\nACGT\nACGT\nAC\n\n"


def test_records_made_in_python_are_written_in_lines_of_60(tmp_path):
    Fasta().write([Sequence(key="made", residues=b"A" * 61)], tmp_path / "out.fa")
    assert (tmp_path / "out.fa").read_bytes() == b">made\n" + b"A" * 60 + b"\nA\n"


def test_key_and_description(tmp_path):
    records, _ = rewritten(b">gi|1|x  the rest \nA\n>b\nC\n", tmp_path)
    assert [(r.key, r.description) for r in records] == [("gi|1|x", "the rest"), ("b", "")]


def test_a_file_may_be_written_over_itself(tmp_path):
    path = tmp_path / "own.fa"
    text = b"".join(b">r%d\n%s\n" % (i, b"ACGT" * 1000) for i in range(600))  # several blocks
    path.write_bytes(text)
    Fasta().write(Fasta().read(path), path)
    assert path.read_bytes() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "own.fa"
    path.write_bytes(b">a\nACGT\n>\nAC\n")
    with pytest.raises(DataError):
        Fasta().write(Fasta().read(path), path)
    assert path.read_bytes() == b">a\nACGT\n>\nAC\n"
    assert list(tmp_path.iterdir()) == [path]


def test_several_gzip_members_are_one_text(tmp_path):
    text = b">a\n" + b"ACGT" * 1000 + b"\n>b\nGG\n"
    path = tmp_path / "x.fa.gz"
    path.write_bytes(b"".join(gzip.compress(text[i : i + 900]) for i in range(0, len(text), 900)))
    assert [r.residues for r in Fasta().read(path)] == [b"ACGT" * 1000, b"GG"]


@pytest.mark.parametrize("name", ["x.fa.gz", "x.fa.bgz"])
def test_compressed_output_is_bgzf_and_the_same_each_time(name, tmp_path):
    """Blocks chain by their stated sizes up to the end marker of the SAM specification (section 4.1)."""
    records = [Sequence(key="long", residues=bytes(b"ACGT"[i * i % 7 % 4] for i in range(200_000)))]
    Fasta().write(records, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    texts, at = [], 0
    while at < len(data):
        assert data[at : at + 4] == b"\x1f\x8b\x08\x04"
        assert data[at + 12 : at + 16] == b"BC\x02\x00"
        size = struct.unpack("<H", data[at + 16 : at + 18])[0] + 1
        texts.append(zlib.decompress(data[at : at + size], wbits=31))
        at += size
    assert at == len(data)
    assert data.endswith(bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))
    assert len(texts) > 3
    assert gzip.decompress(data) == b"".join(texts)
    assert [r.residues for r in Fasta().read(tmp_path / name)] == [records[0].residues]
    Fasta().write(records, tmp_path / ("again-" + name))
    assert (tmp_path / ("again-" + name)).read_bytes() == data


GOOD = b">a first\nACGTACGT\nACG\n>b\nGGGG\n"
PACKED = gzip.compress(GOOD * 500)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.fa", None, "no such file"),
        ("empty.fa", b"", "the file is empty"),
        ("empty.fa.gz", gzip.compress(b""), "the file is empty"),
        ("no_header.fa", b"ACGT\nACGT\n", "line 1: expected a header line that begins with '>', found 'ACGT'"),
        ("blank.fa", b"\n;x\nACGT\n", "line 3: expected a header line that begins with '>', found 'ACGT'"),
        ("comments.fa", b";x\n\n;y", "no records"),
        ("fastq.fa", b"@r1\nACGT\n+\nIIII\n", "line 1: expected a header line that begins with '>', found '@r1'"),
        ("utf16.fa", GOOD.decode().encode("utf-16"), "line 1: expected a header line"),
        ("no_name.fa", b">a\nAC\n> \nACGT\n", "line 3: the header has no name"),
        ("nul.fa", b">a\nACGT\nAC\0T\n", "line 3, column 3: byte 0x00 in a sequence; is this a text file?"),
        ("umlaut.fa", b">a\nACGT\n\nA\xc3\xa4T\n", "line 4, column 2: byte 0xc3 in a sequence"),
        ("joined.fa", b">a\nACGT>b\nACGT\n", "line 2, column 5: '>' inside a sequence; the line break"),
        ("mac.fa", b">a\rACGT\r>b\nACGT\n", "line 1: some lines end in a lone carriage return"),
        ("binary.fa", b">a\0\1\nACGT\n", "line 1: the header has control characters"),
        ("comment.fa", b">a\n;>\xff\nAC\0T\n", "line 3, column 3: byte 0x00 in a sequence"),
        ("cut.fa.gz", PACKED[: len(PACKED) // 2], "the gzip file is cut short"),
        ("cut_tail.fa.gz", PACKED[:-3], "the gzip file is cut short"),
        ("damaged.fa.gz", PACKED[:40] + b"\xff" * 20 + PACKED[60:], "the gzip data are damaged"),
        ("crc.fa.gz", PACKED[:-8] + b"abcd" + PACKED[-4:], "the gzip data are damaged (CRC check failed"),
        ("junk.fa.gz", PACKED + b"junk", "decompressed bytes: the gzip data are damaged"),
    ],
)
def test_damage_is_one_line_that_says_where(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(Fasta().read(path))
    shown = str(caught.value)
    assert shown.startswith(f"{path}: ")
    assert message in shown
    assert "\n" not in shown


def test_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        list(Fasta().read(tmp_path))
    with pytest.raises(DataError, match="cannot be written"):
        Fasta().write([], tmp_path / "no" / "such" / "folder.fa")


MEMORY = """
import sys
from pathlib import Path
from corpora import memory
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.nucleotide import NucleotideTokenizer
before = memory("VmRSS")
total = sum(len(NucleotideTokenizer().encode(record)) for record in Fasta().read(Path(sys.argv[1])))
print(total, memory("VmHWM") - before)
"""


def peak_memory(path: Path, megabases: int) -> float:
    """MB of resident memory that reading and encoding a file of 1-megabase records adds, in a child process."""
    record = b">chr\n" + (b"ACGTNacgta" * 6 + b"\n") * 16667
    with path.open("wb") as file:
        for _ in range(megabases):
            file.write(record)
    command = [sys.executable, "-c", MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    total, grown = map(int, done.stdout.split())
    assert total == megabases * 16667 * 60
    return grown / 1e6


def test_memory_does_not_grow_with_the_file(tmp_path):
    assert peak_memory(tmp_path / "x.fa", 100) < 40


@pytest.mark.soak
def test_memory_of_a_gigabyte(tmp_path):
    assert peak_memory(tmp_path / "x.fa", 1000) < 40
