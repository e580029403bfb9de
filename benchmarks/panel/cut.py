"""Cut a file into one to learn from and one to be judged on, by the simplest means that keep its content as it is.

Each function writes `train/NAME` and `test/NAME` below a folder and says in a sentence how it cut. The test part is the
last fifth in time where there is time, else records whose keys hash low; of a single long record its last fifth.
"""

import csv
import gzip
import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from maskseq.plugins import format_for

SHARE = 0.2


def cut(how: str, path: Path, folder: Path, test: Path | None = None, **options: str) -> tuple[Path, Path, str]:
    """The file to learn from, the file to be judged on, and how the one became two."""
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    if test is not None:
        files = [
            Path(shutil.copyfile(each, folder / part / each.name)) for part, each in (("train", path), ("test", test))
        ]
        return files[0], files[1], "the parts as published"
    name = path.name.removesuffix(".gz")
    if how == "recording":
        return _recording(path, folder)
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    train, judged, reported = CUTTERS[how](content, **options)
    (folder / "train" / name).write_bytes(train)
    (folder / "test" / name).write_bytes(judged)
    return folder / "train" / name, folder / "test" / name, reported


def _fasta(content: bytes) -> tuple[bytes, bytes, str]:
    records = [part.split(b"\n", 1) for part in content.replace(b"\r\n", b"\n").split(b">")[1:]]
    if len(records) == 1:
        header, letters = records[0][0], records[0][1].replace(b"\n", b"")
        at = round((1 - SHARE) * len(letters))
        return _entry(header, letters[:at]), _entry(header, letters[at:]), "the last 20 % of its only sequence"
    whole = [b">" + header + b"\n" + body for header, body in records]
    keys = [header.split()[0] if header.split() else header for header, _ in records]
    return *_by_hash(whole, keys, [len(body) for _, body in records]), "sequences by the hash of their names"


def _entry(header: bytes, letters: bytes) -> bytes:
    lines = [letters[at : at + 70] for at in range(0, len(letters), 70)]
    return b">" + header + b"\n" + b"\n".join(lines) + b"\n"


def _fastq(content: bytes) -> tuple[bytes, bytes, str]:
    lines = content.splitlines(keepends=True)
    reads = [b"".join(lines[at : at + 4]) for at in range(0, len(lines), 4)]
    keys = [read.split()[0] for read in reads]
    return *_by_hash(reads, keys, [1] * len(reads)), "reads by the hash of their names"


def _lines_by_hash(content: bytes) -> tuple[bytes, bytes, str]:
    lines = content.splitlines(keepends=True)
    return *_by_hash(lines, [line.strip() for line in lines], [1] * len(lines)), "lines by the hash of their content"


def _lines(content: bytes) -> tuple[bytes, bytes, str]:
    lines = content.splitlines(keepends=True)
    at = round((1 - SHARE) * len(lines))
    return b"".join(lines[:at]), b"".join(lines[at:]), "the last 20 % of the lines"


def _access_lines(content: bytes) -> tuple[bytes, bytes, str]:
    """Lines of an access log, whose order need not be that of time."""
    lines = content.splitlines(keepends=True)
    moments = [_moment(_found(rb"\[([^]]+)\]", line), "%d/%b/%Y:%H:%M:%S %z") for line in lines]
    later = _latest(moments)
    parts = (b"".join(line for line, late in zip(lines, later, strict=True) if late == part) for part in (False, True))
    return *parts, "the last 20 % of the lines in time"  # type: ignore[return-value]


def _rows(content: bytes) -> tuple[bytes, bytes, str]:
    header, rest = content.split(b"\n", 1)
    train, test, _ = _lines(rest)
    return header + b"\n" + train, header + b"\n" + test, "the last 20 % of the rows"


def _cases(content: bytes, *, case: str, time: str, separator: str = ",") -> tuple[bytes, bytes, str]:
    """The rows of a table of events: whole cases, by their first event. A row is a line here."""
    header, *lines = content.splitlines(keepends=True)
    names = next(csv.reader([header.decode()], delimiter=separator))
    at, when = names.index(case), names.index(time)
    rows = list(csv.reader([line.decode() for line in lines], delimiter=separator))
    starts: dict[str, float] = {}
    for row in rows:
        moment = _moment(row[when])
        starts[row[at]] = min(moment, starts.get(row[at], moment))
    late = dict(zip(starts, _latest(list(starts.values())), strict=True))
    parts = [
        header + b"".join(line for line, row in zip(lines, rows, strict=True) if late[row[at]] == part)
        for part in (False, True)
    ]
    return parts[0], parts[1], "the last 20 % of the cases by their first event"


def _traces(content: bytes) -> tuple[bytes, bytes, str]:
    """Whole traces of a log in XES, by their first event."""
    first, last = re.search(rb"<trace[\s>]", content), content.rfind(b"</trace>") + len(b"</trace>")
    if first is None:
        raise ValueError("there are no traces")
    head, tail = content[: first.start()], content[last:]
    traces = [part + b"</trace>" for part in content[first.start() : last].split(b"</trace>")[:-1]]
    pattern = re.compile(rb'key="time:timestamp"\s+value="([^"]+)"')
    starts = [min((_moment(each.decode()) for each in pattern.findall(trace)), default=0.0) for trace in traces]
    late = _latest(starts)
    parts = [
        head + b"".join(t for t, each in zip(traces, late, strict=True) if each == part) + tail
        for part in (False, True)
    ]
    return parts[0], parts[1], "the last 20 % of the traces by their first event"


def _recording(path: Path, folder: Path) -> tuple[Path, Path, str]:
    """The recording with the most samples of a file that cannot be cut as it is."""
    reader = format_for(path, None)
    recordings = list(reader.read(path))
    values = max((each.channels for each in recordings), key=np.size)
    at = round((1 - SHARE) * len(values))
    files = [folder / part / f"{path.stem}.npy" for part in ("train", "test")]
    for file, part in zip(files, (values[:at], values[at:]), strict=True):
        np.save(file, part)
    return files[0], files[1], f"the last 20 % of the samples, {path.suffix} read and written as .npy"


CUTTERS: dict[str, Callable[..., tuple[bytes, bytes, str]]] = {
    "fasta": _fasta,
    "fastq": _fastq,
    "lines": _lines,
    "lines_by_hash": _lines_by_hash,
    "access_lines": _access_lines,
    "rows": _rows,
    "cases": _cases,
    "traces": _traces,
}


def _by_hash(parts: Sequence[bytes], keys: Sequence[bytes], sizes: Sequence[int]) -> tuple[bytes, bytes]:
    """Those with the lowest hashes of their keys that are a fifth of all at most; equal keys go together."""
    hashes = [hashlib.sha256(key).digest() for key in keys]
    amount: dict[bytes, int] = {}
    for each, size in zip(hashes, sizes, strict=True):
        amount[each] = amount.get(each, 0) + size
    judged: set[bytes] = set()
    room = SHARE * sum(sizes)
    order = sorted(amount)
    for each in order:
        if amount[each] <= room:
            judged.add(each)
            room -= amount[each]
    judged = judged or {min(order, key=lambda key: amount[key])}
    return (
        b"".join(part for part, each in zip(parts, hashes, strict=True) if each not in judged),
        b"".join(part for part, each in zip(parts, hashes, strict=True) if each in judged),
    )


def _latest(moments: Sequence[float]) -> list[bool]:
    """Which of them are the last fifth; those at the boundary are not."""
    boundary = sorted(moments)[round((1 - SHARE) * len(moments)) - 1]
    return [moment > boundary for moment in moments]


def _moment(text: str, form: str | None = None) -> float:
    moment = datetime.strptime(text, form) if form else datetime.fromisoformat(text.replace("/", "-"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _found(pattern: bytes, line: bytes) -> str:
    match = re.search(pattern, line)
    if match is None:
        raise ValueError(f"no time in {line[:80]!r}")
    return match[1].decode()
