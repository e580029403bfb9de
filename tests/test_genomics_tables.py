"""Tables and lists of sequences: against Python's csv module, byte-equal round trips, damage named by line."""

import csv
import gzip
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskseq.errors import DataError
from maskseq_genomics import files
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_genomics.tables import SequenceLines, SequenceTable


@pytest.mark.parametrize(
    ("name", "rows"), [("prom_300_tata/train.csv", 4904), ("prom_300_tata/dev.csv", 613), ("tf_0/dev.csv", 1000)]
)
def test_gue_comes_back_byte_for_byte(name, rows, shared_data, tmp_path):
    path = shared_data / "genomics" / "GUE" / name
    records = list(SequenceTable().read(path))
    with path.open() as file:
        expected = [(row["sequence"], row["label"]) for row in csv.DictReader(file)]
    assert [(r.residues.decode(), r.label) for r in records] == expected
    assert len(records) == rows
    SequenceTable().write(records, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


def test_promoters_come_back_byte_for_byte(shared_data, tmp_path):
    path = shared_data / "genomics" / "human_TATA_promoters_EPDnew.txt"
    records = list(SequenceLines().read(path))
    assert len(records) == 2929
    assert sum(len(NucleotideTokenizer().encode(r)) for r in records) == 878_700
    SequenceLines().write(records, tmp_path / "again.txt.gz")
    assert gzip.decompress((tmp_path / "again.txt.gz").read_bytes()) == path.read_bytes()


cells = st.text('abc ,;"\t', max_size=6)
sequences = st.text("ACGTNacgt", max_size=8)


@given(
    rows=st.lists(st.tuples(cells, sequences, cells).filter(lambda row: "".join(row).strip()), min_size=1, max_size=5),
    delimiter=st.sampled_from(",\t;"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    cut=st.booleans(),
    block=st.integers(1, 40),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_is_read_as_by_the_csv_module(rows, delimiter, quoting, end, cut, block, tmp_path):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([("name", "sequence", "label"), *rows])
    text = file.getvalue().encode()
    text = text.removesuffix(end.encode()) if cut else text + end.encode()  # no line end, or a blank line at the end
    (tmp_path / "in.csv").write_bytes(text)
    table = SequenceTable(key="name")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        records = list(table.read(tmp_path / "in.csv"))
    stripped = [(name.strip(), sequence, label.strip()) for name, sequence, label in rows]
    assert [(r.key.strip(), r.residues.decode(), r.label.strip()) for r in records] == stripped
    table.write(records, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == text


def test_only_the_bases_of_a_row_are_written(tmp_path):
    (tmp_path / "in.csv").write_bytes(b'\xef\xbb\xbfid,"sequence"\r\n1,"ACNN"\r\n\r\n2,  nnR \r\n')
    records = list(SequenceTable(key="id").read(tmp_path / "in.csv"))
    assert [(r.key, r.residues, r.label) for r in records] == [("1", b"ACNN", ""), ("2", b"nnR", "")]
    tokenizer = NucleotideTokenizer()
    encoded = [tokenizer.encode(r).ids for r in records]
    filled = [tokenizer.splice(r, np.full_like(i, 2), i == 4) for r, i in zip(records, encoded, strict=True)]
    SequenceTable().write(filled, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == b'\xef\xbb\xbfid,"sequence"\r\n1,"ACGG"\r\n\r\n2,  ggG \r\n'


def test_an_empty_cell_is_an_empty_record(tmp_path):
    text = b'\n \nsequence,label\n"",1\n,0\n"NN",1\n'
    (tmp_path / "in.csv").write_bytes(text)
    records = list(SequenceTable().read(tmp_path / "in.csv"))
    assert [(record.residues, record.label) for record in records] == [(b"", "1"), (b"", "0"), (b"NN", "1")]
    SequenceTable().write(records, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == text
    made = [replace(record, residues=b"AC") for record in records]
    SequenceTable().write(made, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == b'\n \nsequence,label\n"AC",1\nAC,0\n"AC",1\n'


@pytest.mark.parametrize("name", ["plain.txt.gz", "packed.txt"])
def test_blank_lines_and_compression_are_seen_by_content(name, tmp_path):
    text = b"\r\n\r\nACGT\r\n\r\nGG\r\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name == "packed.txt" else text)
    records = list(SequenceLines().read(tmp_path / name))
    assert [(record.key, record.residues) for record in records] == [("3", b"ACGT"), ("5", b"GG")]
    SequenceLines().write(records, tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_bytes() == text


def test_records_made_in_python_are_written(tmp_path):
    records = [Sequence(key="a", residues=b"ACGT"), Sequence(key="b", residues=b"GG")]
    SequenceTable(column="dna").write(records, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == b"dna\nACGT\nGG\n"
    SequenceLines().write(records, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_bytes() == b"ACGT\nGG\n"


PACKED = gzip.compress(b"sequence,label\n" + b"ACGT,1\n" * 500)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no such file"),
        ("empty.csv", b"", "the file is empty"),
        ("blank.csv", b"\nseq,label\nACGT,1\n", "line 2: has no column 'sequence', but 'seq,label'"),
        ("blank_only.csv", b"\n \n", "only blank lines"),
        ("no_header.csv", b"ACGT,1\n", "line 1: has no column 'sequence', but 'ACGT,1'; name the right one"),
        ("other.csv", b"seq,label\nACGT,1\n", "line 1: has no column 'sequence', but 'seq,label'"),
        ("header_only.csv", b"sequence,label\n", "has a header but no rows"),
        ("few.csv", b"sequence,label\nACGT,1\nACGT\n", "line 3: has 1 cell(s), the header 2"),
        ("many.csv", b"sequence,label\nACGT,1,2\n", "line 2: has 3 cell(s), the header 2"),
        ("quote.csv", b'sequence,label\n"ACGT,1\n', "line 2: a quote is not closed in its line"),
        ("nul.csv", b"sequence,label\nAC\0T,1\n", "line 2: the sequence has characters that are no letters"),
        ("spaces.csv", b"sequence,label\nAC GT,1\n", "line 2: the sequence has characters that are no letters"),
        ("utf16.csv", "sequence,label\nACGT,1\n".encode("utf-16"), "line 1: has no column 'sequence'"),
        ("cut.csv.gz", PACKED[:-20], "the gzip file is cut short"),
    ],
)
def test_damage_of_tables_is_one_line_that_says_where(name, content, message, tmp_path):
    assert message in refusal(SequenceTable(), name, content, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "no such file"),
        ("empty.txt", b"", "the file is empty"),
        ("blank_only.txt", b"\n\n", "only blank lines"),
        ("words.txt", b"ACGT\n\nAC GT\n", "line 3: the sequence has characters that are no letters"),
        ("fasta.txt", b">a\nACGT\n", "line 1: the sequence has characters that are no letters"),
        ("nul.txt", b"ACGT\nAC\0T\n", "line 2: the sequence has characters that are no letters"),
        ("umlaut.txt", "ACGT\nAÄ\n".encode(), "line 2: the sequence has characters that are no letters"),
        ("binary.txt", bytes(range(256)), "line 1: the sequence has characters that are no letters"),
        ("cut.txt.gz", PACKED[:-20], "the gzip file is cut short"),
        ("damaged.txt.gz", PACKED[:20] + b"\xff" * 9 + PACKED[29:], "the gzip data are damaged"),
    ],
)
def test_damage_of_lists_is_one_line_that_says_where(name, content, message, tmp_path):
    assert message in refusal(SequenceLines(), name, content, tmp_path)


def refusal(format, name, content, folder) -> str:
    path = folder / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(format.read(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_letters_that_are_no_bases_are_named_by_line(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"sequence,label\nACGT,1\nACQT,0\n")
    _, row = SequenceTable().read(tmp_path / "x.csv")
    with pytest.raises(DataError, match="line 3, letter 3 of the sequence: 'Q' is no nucleotide"):
        NucleotideTokenizer().encode(row)
