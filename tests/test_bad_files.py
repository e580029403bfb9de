"""Whatever is wrong with a file ends in one clear line that names it and the place, and leaves nothing behind."""

import gzip
import io
import json
import re
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_files import BED, EVENTS, EXAMPLES, FASTA, OCEL, TS, WFDB_HEADER, XES, Example, contents

from maskseq import files
from maskseq.corpus.build import build_corpus
from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.plugins import available, format_for
from maskseq_genomics.nucleotide import NucleotideTokenizer

BINARY = bytes(range(256)) * 4
Damage = Callable[[bytes], bytes]
EVERYWHERE: dict[str, Damage] = {
    "empty": lambda content: b"",
    "binary": lambda content: BINARY,
    "NUL bytes": lambda content: bytes(1000),
    "one long line": lambda content: b"\xc3" * 300_000,
    "a picture": lambda content: b"\x89PNG\r\n\x1a\n" + BINARY,
    "gzip cut short": lambda content: gzip.compress(content * 50)[:-20],
    "gzip with another checksum": lambda content: gzip.compress(content)[:-8] + b"12345678",
    "gzip of nothing": lambda content: gzip.compress(b""),
    "a gzip header only": lambda content: b"\x1f\x8b" + b"x" * 50,
}
"""What no format survives."""


def refused(example: Example, folder: Path, damaged: dict[str, bytes], **options: Any) -> MaskseqError:
    """The error that the damaged files end in: of the right kind, of one line, naming a file of the folder."""
    path, given = example.lay(folder, damaged)
    with pytest.raises(MaskseqError) as caught:
        list(format_for(path, example.format, **(given | options)).read(path))
    line, *hint = str(caught.value).split("\n\nhint: ")
    assert isinstance(caught.value, DataError | UsageError)
    assert str(folder) in line
    assert "\n" not in line
    assert len(hint) < 2
    assert "Error" not in line, "names of exceptions are for programmers"
    return caught.value


def replaced(example: Example, content: bytes, name: str | None = None) -> dict[str, bytes]:
    """The example's files, its first one (or `name`) with another content."""
    whole = dict(contents(example))
    return whole | {name or next(iter(whole)): content}


def test_every_format_has_an_example():
    assert {example.format for example in EXAMPLES.values()} >= set(available("formats"))


@pytest.mark.parametrize("damage", EVERYWHERE)
@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_no_such_file_at_all(name, damage, tmp_path):
    example = EXAMPLES[name]
    (first, content), *others = contents(example).items()
    zipped = ".gz" if "gzip" in damage and first.endswith((".fa", ".fq", ".csv", ".txt", ".bed")) else ""
    refused(example, tmp_path, {first + zipped: EVERYWHERE[damage](content), **dict(others)})


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_that_is_not_there_and_one_that_is_a_folder(name, tmp_path):
    example = EXAMPLES[name]
    _, options = example.lay(tmp_path)
    for other in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match=re.escape(str(other))):
            list(format_for(other, example.format, **options).read(other))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in EXAMPLES
        if name.partition(",")[0] not in ("2bit", "npy", "npz", "edf", "wav", "ocel")  # which are no text
        and name.partition(",")[0] not in ("event-csv", "event-jsonl", "textlog", "sessions", "table")  # which read it
    ],
)
def test_utf_16(name, tmp_path):
    example = EXAMPLES[name]
    content = next(iter(contents(example).values()))
    refused(example, tmp_path, replaced(example, content.decode("latin-1").encode("utf-16")))


def _npz(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name + ".npy", content)
    return out.getvalue()


def _npy(shape: str, dtype: str = "<f8", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def _wav(**changes: int) -> bytes:
    head = {"tag": 1, "channels": 2, "rate": 8000, "bits": 16, "size": 32} | changes
    sound = struct.pack(
        "<4s4sIHHIIHH4sI", b"WAVE", b"fmt ", 16, head["tag"], head["channels"], head["rate"], 0, 0, head["bits"],
        b"data", head["size"],
    )  # fmt: skip
    return b"RIFF" + struct.pack("<I", len(sound) + 32) + sound + bytes(32)


def _edf(start: int, text: str) -> bytes:
    whole = next(iter(contents(EXAMPLES["edf"]).values()))
    return whole[:start] + text.encode().ljust(8) + whole[start + 8 :]


def _sql(statement: str) -> bytes:
    database = sqlite3.connect(":memory:")
    database.deserialize(next(iter(contents(EXAMPLES["ocel, SQLite"]).values())))
    database.executescript(statement)
    return database.serialize()


def _ocel(**changes: Any) -> bytes:
    return json.dumps(OCEL | changes).encode()


def _twobit(*numbers: int, at: int = 0) -> bytes:
    """The example with 32-bit numbers put at a place."""
    whole = next(iter(contents(EXAMPLES["2bit"]).values()))
    return whole[:at] + struct.pack(f"<{len(numbers)}I", *numbers) + whole[at + 4 * len(numbers) :]


BIG = 2**32 - 1


def _parquet_without_name(name: str) -> bytes:
    (content,) = contents(EXAMPLES[name]).values()
    return content.replace(b"code", b"\xff\xff\xff\xff")


EVENT = OCEL["events"][1]  # type: ignore[index]
SPECIAL: list[tuple[str, str, bytes, str]] = [
    ("fasta", "a name twice broken", FASTA.replace(b"\n>chr2", b">chr2"), "line 4, column 4: '>' inside"),
    ("fasta", "record without name", b">a\n>\nAC\n", "line 2: the header has no name"),
    ("fastq", "FASTA", FASTA, "line 1: expected a line that begins with '@'"),
    ("fastq", "a quality lost", b"@r\nACGT\n+\nIII\n", "line 4: .*4 bases but 3 qualities"),
    ("fastq", "cut in a read", b"@r\nACGT\n+\nIIII\n@s\nAC", "line 6: the file ends inside read 's'"),
    ("2bit", "as many records as fit into a number", _twobit(BIG, at=8), "entry 3 of 4,294,967,295"),
    ("2bit", "as many bases", _twobit(BIG, at=28), "ends inside"),
    ("2bit", "as many runs", _twobit(BIG, at=32), "ends inside"),
    ("2bit", "a run behind the end", _twobit(1, 5, 100, at=32), "runs of N .*behind its 13 bases"),
    ("2bit", "no records", _twobit(0, at=8), "byte 8: holds no sequences"),
    ("2bit", "two names at one place", _twobit(28, at=24), "points where another"),
    ("bed", "end before start", b"chr1\t9\t2\n", "line 1: the window 9 to 2 is empty"),
    ("bed", "beyond all numbers", b"chr1\t0\t" + b"9" * 5000 + b"\n", "line 1: .*no whole numbers"),
    ("bed", "behind the sequence", b"chr1\t0\t24\n", "line 1: .*ends at 24, but 'chr1' has 23"),
    ("bed", "an unknown name", BED.replace(b"chr2", b"chr3"), "line 2: .*no sequence 'chr3'"),
    ("bed", "a strand that is none", b"chr1\t2\t9\ta\t0\tx\n", "line 1: the strand"),
    ("sequence-table", "a row too long", b"sequence,label\nACGT,1,x\n", "line 2: has 3 cell"),
    ("sequence-table", "no such column", b"dna,label\nACGT,1\n", "line 1: has no column 'sequence'"),
    ("sequence-table", "a quote never closed", b'sequence,label\n"ACGT,1\n', "line 2: a quote is not closed"),
    ("sequence-lines", "a control character", b"ACGT\nAC\x07GT\n", "line 2: .*no letters"),
    ("event-csv", "a row too short", EVENTS + b"a,x\n", "line 7: 2 cells, but the header names 5"),
    ("event-csv", "no case column", EVENTS.replace(b"case", b"fall"), "header: which column is the case"),
    ("event-csv", "wrong encoding", EVENTS.replace(b"triage", b"Pr\xfcfung"), "line 4: byte 0xfc is not utf-8"),
    ("event-csv", "a field without end", EVENTS + b'a,"' + b"x" * 200_000, "line 7: not valid CSV"),
    ("event-csv", "a year 0", EVENTS.replace(b"2024-01-03", b"0000-01-03"), "column 'time': '0000"),
    ("event-csv, epochs", "a time with too many zeros", b"case,activity,time\na,x,1e999999999\n",
     "line 2, column 'time'"),
    ("event-csv, epochs", "a time that is no number", b"case,activity,time\na,x,NaN\n", "line 2, column 'time'"),
    ("event-jsonl", "a list", b'[{"case": 1}]\n', "line 1: a line must be one object"),
    ("event-jsonl", "a name twice", b'{"case": 1, "activity": "x", "case": 2}\n', "line 1: .*'case' occurs twice"),
    ("event-jsonl", "a nest", b'{"case": ' + b"[" * 100_000, "line 1: not valid JSON"),
    ("event-jsonl", "half a character", b'{"case": "\\ud83d", "activity": "x", "time": 1}\n',
     "line 1: half of a surrogate"),
    ("event-jsonl", "a number without end", b'{"case": ' + b"1" * 5000 + b"}\n", "line 1: not valid JSON"),
    ("event-parquet", "a name of no text", _parquet_without_name("event-parquet"), "not a readable Parquet file"),
    ("signal-parquet", "a name of no text", _parquet_without_name("signal-parquet"), "not a readable Parquet file"),
    ("ocel, JSON", "a number as type", _ocel(objects=[{"id": 1, "type": ["x"]}]), "object 1: not OCEL 2.0"),
    ("ocel, JSON", "a number as time", _ocel(events=[EVENT | {"time": 5}]), "event 1: not OCEL 2.0"),
    ("ocel, JSON", "half a character", _ocel(objects=[{"id": "\ud83d", "type": "x"}]), "half of a surrogate"),
    ("ocel, XML", "an entity", b"<!DOCTYPE log [<!ENTITY a SYSTEM '/etc/passwd'>]><log>&a;</log>",
     "line 1: a document type"),
    ("ocel, XML", "a nest", b"<log>" + b"<a>" * 100_000, "not valid XML"),
    ("ocel, XML", "an encoding", b"<?xml version='1.0' encoding='shift_jis'?><log/>", "not valid XML"),
    ("ocel, SQLite", "no such table", _sql("DROP TABLE event_object"), "no such table"),
    ("ocel, SQLite", "no text", _sql("UPDATE event_Pack SET ocel_time = x'00ff'"), "not an OCEL 2.0 database"),
    ("ocel, SQLite", "a view without end", _sql(
        "DROP TABLE event_Pack; CREATE VIEW event_Pack AS WITH RECURSIVE n(ocel_id) AS (SELECT 1 UNION ALL "
        "SELECT ocel_id + 1 FROM n) SELECT ocel_id, '2024-01-01' AS ocel_time FROM n"), "no such table: event_Pack"),
    ("textlog", "another layout", b"2024-01-01 something else\n", "line 1: .*not of the layout"),
    ("textlog", "no such day", b'h - - [31/Feb/2015:10:05:03 +0000] "GET /" 200 1\n', "line 1, column 'time'"),
    ("sessions", "a NUL byte", b"5 5\n5 \0\n", "line 2: a NUL byte"),
    ("xes", "a bomb", XES.replace(b"?>", b"?><!DOCTYPE log [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]>", 1),
     "line 1, .*document type"),
    ("xes", "an external entity", XES.replace(b"?>", b"?><!DOCTYPE log SYSTEM 'http://x/y.dtd'>", 1), "document type"),
    ("xes", "an encoding", XES.replace(b"UTF-8", b"shift_jis"), "no encoding called 'shift_jis'"),
    ("xes", "a trace cut short", XES[:600], "line .*ends too early"),
    ("signal-csv", "a word", b"a,b\n1,2\n3,x\n", "line 3, column 'b': 'x' is no finite number"),
    ("signal-csv", "a row too short", b"a,b\n1,2\n3\n", "line 3: 1 cells"),
    ("signal-csv", "header only", b"a,b\n", "no row of values"),
    ("npy", "more values than memory", _npy("(1000000000000, 1000)"), "damaged one"),
    ("npy", "fewer values than told", _npy("(3, 2)", data=bytes(40)), "damaged one"),
    ("npy", "a negative shape", _npy("(-3, 2)", data=bytes(48)), "damaged one|cannot|negative"),
    ("npy", "Python objects", _npy("(3,)", "|O", bytes(24)), "pickle"),
    ("npy", "texts", _npy("(2,)", "<U2", bytes(16)), "of real numbers"),
    ("npy", "a header of another kind", _npy("__import__('os').getcwd()"), "damaged one"),
    ("npy", "infinite", _npy("(2,)", data=np.array([1, np.inf]).tobytes()), "x, step 2, .*infinite"),
    ("npz", "no arrays", _npz(), "holds no arrays"),
    ("npz", "more values than memory", _npz(a=_npy("(1000000000000,)")), "a: cannot be read"),
    ("npz", "another file within", _npz(a=b"text"), "a: is no NumPy array"),
    ("edf", "as many signals", _edf(252, "9999"), "no EDF header"),
    ("edf", "no samples", _edf(256 + 216 * 3, "0"), "signal 1 has 0 samples"),
    ("ts", "no data line", TS.replace(b"@data", b"#data"), "line .*no @data line"),
    ("ts", "a word", TS.replace(b"1.5", b"one"), "line 7: could not convert"),
    ("ts", "infinite", TS.replace(b"1.5", b"inf"), "x/2, step 1, channel 'channel_1': the value is infinite"),
    ("ts", "channels of two lengths", TS.replace(b"3,4,5", b"3,4"), "line 6: a series of channels"),
    ("ucr", "a word", b"1,2,x\n", "line 1: could not convert"),
    ("ucr", "no values", b"1\n", "line 1: a series"),
    ("ucr", "infinite", b"1,2,-inf\n", "step 2, .*infinite"),
    ("wav", "more samples than there are", _wav(size=1 << 30), "cut short"),
    ("wav", "wide samples", _wav(bits=64), "samples of 64 bits"),
    ("wav", "no rate", _wav(rate=0), "at a rate of 0"),
    ("wav", "too high a rate", _wav(rate=0x7F000000), "more than a sound file can say"),
    ("wav", "no channels", _wav(channels=0), "damaged"),
    ("wav", "another coding", _wav(tag=85), "0x0055"),
    ("wfdb", "more samples than memory", WFDB_HEADER.replace(b"250 6", b"250 999999999999999"), "cut short"),
    ("wfdb", "samples without end", WFDB_HEADER.replace(b"250 6", b"250 " + b"9" * 5000), "line 1: no WFDB header"),
    ("wfdb", "another file's data", WFDB_HEADER.replace(b" 100 615", b" 99 615"), "begins with 100, but the header"),
    ("wfdb", "another checksum", WFDB_HEADER.replace(b"615", b"616"), "another checksum"),
    ("wfdb", "a file elsewhere", WFDB_HEADER.replace(b"r.dat", b"../r.dat"), "line 2: '../r.dat' is no file beside"),
    ("wfdb", "no such file", WFDB_HEADER.replace(b"r.dat", b"s.dat"), "no such file"),
    ("wfdb", "an endless gain", WFDB_HEADER.replace(b"200(", b"1e999("), "line 2: a gain of 1e999"),
    ("wfdb", "minus two signals", WFDB_HEADER.replace(b"r 2", b"r -2"), "promises -2 signals"),
    ("wfdb", "no rate", WFDB_HEADER.replace(b"250", b"nan"), "line 1: a rate of nan"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"), [(n, c, s) for n, _, c, s in SPECIAL], ids=[f"{n}: {w}" for n, w, _, _ in SPECIAL]
)
def test_damage_of_one_format(name, content, message, tmp_path):
    example = EXAMPLES[name]
    reported = str(refused(example, tmp_path, replaced(example, content)))
    assert re.search(message, reported), reported


@pytest.mark.parametrize("n_bases", ["99999999999999", "-1", "1" * 5000])
def test_an_index_that_promises_more_than_there_is(n_bases, tmp_path):
    index = f"chr1\t{n_bases}\t12\t10\t11\n".encode()
    example = EXAMPLES["bed, indexed"]
    window = f"chr1\t0\t{max(int(n_bases[:14]), 5)}\n".encode()
    reported = refused(example, tmp_path, replaced(example, window) | {"genome.fa.fai": index})
    assert "genome.fa.fai: line 1: " in str(reported)


BOMBS = {
    "fasta": (".fa.gz", b">a\n" + b"A" * 4_000_000),
    "fastq": (".fq.gz", b"@a\n" + b"A" * 4_000_000),
    "sequence-lines": (".txt.gz", b"A" * 4_000_000),
    "sessions": (".sessions.gz", b"5 " * 2_000_000),
    "event-csv": (".csv.gz", b"case,activity,time\n" + b"a,x,2024-01-01\n" * 300_000),
    "event-jsonl": (".jsonl.gz", b'{"case": 1, "activity": "x", "time": "2024-01-01"}\n' * 100_000),
    "xes": (".xes.gz", b"<log><!--" + b"x" * 4_000_000),
    "ocel": (".ocel.json.gz", b"[" + b"1," * 2_000_000),
    "signal-csv": (".csv.gz", b"1,2\n" * 1_000_000),
    "ucr": (".tsv.gz", b"1,2\n" * 1_000_000),
    "npy": (".npy.gz", b"\x93NUMPY" + bytes(4_000_000)),
    "wav": (".wav.gz", b"RIFF" + bytes(4_000_000)),
    "npz": (".npz", _npz(a=_npy("(500000,)", data=bytes(4_000_000)))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_burst(name, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FREE", 1_000_000)
    ending, content = BOMBS[name]
    path = tmp_path / f"bomb{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    with pytest.raises(DataError, match=r"bomb.*: decompresses to more than \d,\d\d\d,\d\d\d bytes"):
        list(format_for(path, name).read(path))


def test_a_line_without_end_is_no_line_of_a_log(tmp_path, monkeypatch):
    monkeypatch.setattr("maskseq_events.files.LONGEST", 1000)
    path = tmp_path / "x.sessions"
    path.write_bytes(b"5 5\n" + b"5" * 1001)
    with pytest.raises(DataError, match="line 2: has over 1,000 bytes"):
        list(format_for(path).read(path))


@pytest.mark.filterwarnings("ignore:.*values of 'inf':maskseq.errors.DataWarning")
@pytest.mark.filterwarnings("ignore:.*time steps missing:maskseq.errors.DataWarning")
@pytest.mark.parametrize("name", [n for n, example in EXAMPLES.items() if example.returns or n in ("2bit", "npz")])
def test_what_cannot_be_written_whole_is_not_there(name, tmp_path):
    """And what stood there before still does."""
    path, options = EXAMPLES[name].lay(tmp_path)
    format = format_for(path, EXAMPLES[name].format, **options)
    records = list(format.read(path))

    def broken() -> Iterator[Any]:
        yield records[0]
        raise DataError(path, "broken in the middle")

    before = path.read_bytes()
    for target in (tmp_path / ("new-" + path.name), path):
        with pytest.raises(DataError, match="broken in the middle"):
            format.write(broken(), target)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(contents(EXAMPLES[name]))


@pytest.mark.parametrize("name", ["fasta", "fastq", "2bit", "sequence-table"])
def test_no_corpus_is_made_of_a_broken_file(name, tmp_path):
    example = EXAMPLES[name]
    path, _ = example.lay(tmp_path, replaced(example, next(iter(contents(example).values()))[:-9] + b"\0" * 4))
    with pytest.raises(DataError, match=re.escape(str(path))):
        build_corpus(
            [path], output=tmp_path / "corpus", tokenizer=NucleotideTokenizer(), format=format_for(path, example.format)
        )
    assert not (tmp_path / "corpus" / "manifest.json").exists()


def test_files_that_were_damaged_in_transit(shared_data):
    for path in sorted((shared_data / "signals" / "corrupt").iterdir()):
        with pytest.raises(DataError, match=re.escape(str(path))):
            list(format_for(path).read(path))
