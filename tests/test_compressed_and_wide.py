"""Zip archives and UTF-16: read like the plain file, recognized by `init`, and written back in their own form."""

import gzip
import io
import zipfile
from pathlib import Path

import pytest
from small_files import EXAMPLES, contents

from maskseq import plugins
from maskseq.apps.init import init
from maskseq.errors import DataError
from maskseq.files import create, open_bytes, plain_name
from maskseq.survey import Head

LINES = ["event-csv", "event-jsonl", "textlog", "textlog, syslog", "sessions"]


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_archive_of_one_file_is_that_file(tmp_path: Path, method: int) -> None:
    path = tmp_path / "Archive.ZIP"
    path.write_bytes(zipped(("a/", b""), ("a/Log.CSV", b"x,y\n" * 9999), ("__MACOSX/._Log.CSV", b"?"), method=method))
    with open_bytes(path) as file:
        assert file.read() == b"x,y\n" * 9999
    assert plain_name(path) == Head.of(path).name == "log.csv"
    assert type(plugins.format_for(path)) is type(plugins.format_for(Path("log.csv")))


def test_what_is_written_as_zip_is_one_to_every_reader_and_always_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with create(tmp_path / name / "log.csv.zip") as file:
            file.write(b"x,y\n")
            file.write(b"1,2\n")
    with zipfile.ZipFile(tmp_path / "a/log.csv.zip") as archive:
        assert archive.namelist() == ["log.csv"]
        assert archive.read("log.csv") == b"x,y\n1,2\n"
    assert (tmp_path / "a/log.csv.zip").read_bytes() == (tmp_path / "b/log.csv.zip").read_bytes()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (zipped(("a.csv", b"1"), ("b.csv", b"2")), r"2 files: 'a\.csv', 'b\.csv'"),
        (zipped(("a/", b"")), "0 files"),
        (zipped(("a.csv", b"x" * 9999))[:60], "damaged"),
        (zipped(("a.csv", b"abcd" * 99), method=zipfile.ZIP_STORED).replace(b"abcd", b"abce", 1), "damaged"),
        (zipped(("a.csv", bytes(1 << 20))).replace(b"\x08\0", b"\x63\0"), "unpack"),
    ],
)
def test_other_archives_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x.csv.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem), open_bytes(path) as file:
        file.read()
    assert plain_name(path) in ("x.csv", "a.csv")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", LINES)
def test_utf_16_is_read_without_options_and_comes_back(tmp_path: Path, name: str, encoding: str) -> None:
    example = EXAMPLES[name]
    (tmp_path / "plain").mkdir()
    (tmp_path / "wide").mkdir()
    files = dict(contents(example))
    (first,) = files
    path, options = example.lay(tmp_path / "plain")
    reader = plugins.format_for(path, example.format, **options)
    expected = list(reader.read(path))
    wide = ("\ufeff" + files[first].decode()).encode(encoding)
    path, options = example.lay(tmp_path / "wide", {first: wide})
    for given in (options, options | {"encoding": "utf-16"}):
        reader = plugins.format_for(path, example.format, **given)
        records = list(reader.read(path))
        assert [(r.key, r.activity, r.time.tolist()) for r in records] == [
            (r.key, r.activity, r.time.tolist()) for r in expected
        ]
        reader.write(records, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == wide
    assert Head.of(path).content == files[first]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32-le", "utf-8-sig"])
def test_wide_text_without_a_mark_is_read_as_the_option_says(tmp_path: Path, encoding: str) -> None:
    text = "case,activity,time\nä,x\u010a,2024-01-01\nä,y,2024-01-02\n"
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode({"utf-16": "utf-16-le", "utf-8-sig": "utf-8"}.get(encoding, encoding)))
    reader = plugins.format_for(path, encoding=encoding)
    (case,) = reader.read(path)
    assert (case.key, case.activity) == ("ä", ("x\u010a", "y"))
    reader.write([case], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_init_reads_them(tmp_path: Path, shared_cases: Path) -> None:
    content = (shared_cases / "events/utf16.csv").read_bytes()
    for name, packed in [
        ("wide.csv", content),
        ("packed.csv", gzip.compress(content)),
        ("archive.zip", zipped(("log.csv", content))),
    ]:
        path = tmp_path / name
        path.write_bytes(packed)
        found = init([path], tmp_path / f"{name}.toml", yes=True)
        assert "case_id" in str(found["files"][name])
