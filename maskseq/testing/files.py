r"""The contract of a format, executable: call `check_format(format, files)` in your own test suite.

    def test_contract(tmp_path):
        path = tmp_path / "one.rolls"
        path.write_text("1 2 ? 6\n")
        report = check_format(Rolls(), [path])
        assert "bytes" in report.checked

It stops at the first broken rule with a `ContractViolation`. The files are copied before anything is done to them.
"""

import pickle
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.files import open_bytes
from maskseq.formats import Format
from maskseq.storage.standard_json import to_json
from maskseq.survey import Claim, Head
from maskseq.testing.case import BrokenError, ContractViolation, equal, require
from maskseq.types import Record

AWKWARD = "a b é 100% [x] #1"
"""A folder that paths may well lead through."""
DAMAGES = 24
"""Damaged copies of each file."""


@dataclass(frozen=True, kw_only=True)
class FormatReport:
    """What was checked."""

    n_files: int
    n_records: int
    checked: tuple[str, ...]
    skipped: Mapping[str, str]
    """Rules that could not be checked, and why."""


@dataclass
class _FileCase:
    """One file under test."""

    format: Format[Any]
    path: Path
    folder: Path
    """An empty folder for copies."""
    by_value: bool
    rng: np.random.Generator
    records: list[Any] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def copy(self, name: str) -> Path:
        """The file, with the others that it is made of, in a new folder of this name."""
        folder = self.folder / name
        folder.mkdir()
        for source in {self.path, *map(Path, self.format.sources(self.path))}:
            shutil.copy(source, folder / source.name)
        return folder / self.path.name


def check_format(format: Format[Any], files: Iterable[Path], *, by_value: bool = False, seed: int = 0) -> FormatReport:
    """Check every rule of the contract on every file.

    Args:
        format: The format, with the options that the files need.
        files: Whole files that it reads.
        by_value: Compare what is written by the records that are read from it again, and not by bytes: for containers,
            such as Parquet, whose bytes depend on who wrote them.
        seed: Of the places where copies are damaged.

    Raises:
        ContractViolation: Names the first rule that is broken, and the file.
    """
    paths = list(files)
    if not paths:
        raise UsageError(
            "check_format needs at least one file\n\nhint: give it some that the format reads", code="nothing-to-do"
        )
    skipped: dict[str, str] = {}
    n_records = 0
    for number, path in enumerate(paths):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = _FileCase(format, path, Path(folder), by_value, np.random.default_rng((seed, number)))
            for name, rule in RULES.items():
                with _judged(name, case):
                    rule(case)
            n_records += len(case.records)
            skipped |= case.skipped
    checked = tuple(name for name in RULES if name not in skipped)
    return FormatReport(n_files=len(paths), n_records=n_records, checked=checked, skipped=skipped)


@contextmanager
def _judged(name: str, case: _FileCase) -> Iterator[None]:
    """Whatever a rule raises breaks it."""
    where = f"{type(case.format).__name__}, file {case.path.name!r}"
    try:
        yield
    except BrokenError as broken:
        raise ContractViolation(name, where=where, problem=broken.problem, hint=broken.hint) from None
    except Exception as error:
        problem = f"it raised {type(error).__name__}: {error}"
        raise ContractViolation(name, where=where, problem=problem, hint="see the traceback above") from error


def _read(case: _FileCase) -> None:
    """`read` gives records with keys, of some length, the same each time."""
    case.records = list(case.format.read(case.path))
    for record in case.records:
        require(isinstance(record, Record), f"read gives a {type(record).__name__}", "return records")
        require(isinstance(record.key, str), f"the key {record.key!r} is not a string", "keys are strings")
        require(len(record) >= 0, f"record {record.key!r} has no length", "define __len__")
    require(case.records, "there are no records in this file", "check a file that has some")
    again = list(case.format.read(case.path))
    require(_same(case.records, again), "read again, the file gives other records", "read from the path alone")


def _keys(case: _FileCase) -> None:
    """Keys are unique, or the report says that they are not."""
    keys = [record.key for record in case.records]
    if len(set(keys)) < len(keys):
        case.skipped["unique keys"] = f"{case.path.name} repeats {len(keys) - len(set(keys))} of {len(keys)} keys"


def _identity(case: _FileCase) -> None:
    """Options identify corpora: they can be written as JSON."""
    to_json(case.format.identity(), lossless=True)


def _sources(case: _FileCase) -> None:
    """`sources` names files that are there, the file among them unless it only leads to others."""
    found = list(case.format.sources(case.path))
    missing = [path for path in found if not Path(path).is_file()]
    require(
        found and not missing, f"sources are {list(map(str, found))}", "name every file that read takes content from"
    )


def _recognize(case: _FileCase) -> None:
    """`recognize` gives a claim or none."""
    claim = type(case.format).recognize(Head.of(case.path))
    require(claim is None or isinstance(claim, Claim), f"recognize gives {claim!r}", "return a Claim, or None")


def _attempts(case: _FileCase) -> None:
    """`attempts` gives what `read` does where nothing is broken."""
    same = _same(case.records, list(case.format.attempts(case.path)))
    require(same, "attempts gives other records than read", "both read the same; give broken ones as DataError")


def _parts(case: _FileCase) -> None:
    """`cut` and `bare` count as `__len__` does; records can be sent to another process."""
    for record in case.records[:16]:
        require(len(record.bare()) == len(record), "bare changes the length", "leave out what only write needs")
        if type(record).cut is Record.cut:
            case.skipped["parts"] = f"{type(record).__name__} has no cut, which holding out regions needs"
        else:
            start, stop = sorted(case.rng.integers(len(record) + 1, size=2).tolist())
            n = len(record.cut(start, stop))
            problem = f"cut({start}, {stop}) of record {record.key!r} has {n} raw units"
            require(n == stop - start, problem, "cut counts what __len__ counts")
        pickle.loads(pickle.dumps(record))


def _bytes(case: _FileCase) -> None:
    """Written unchanged, the file is as it was, to another place and over itself."""
    target = case.folder / "written" / case.path.name
    target.parent.mkdir()
    writer, name = case.format.written_as(target)
    if type(writer) is not type(case.format) or name.name != target.name:
        writer.write(case.records, name)
        require(name.is_file(), f"written as {name.name}, there is no file", "write what written_as says")
        case.skipped["bytes"] = f"it is written as {type(writer).__name__}"
        return
    writer.write(iter(case.records), target)
    _require_same(case, target, "written")
    here = case.copy("over itself")
    writer.write(list(case.format.read(here)), here)
    _require_same(case, here, "written over itself")
    left = sorted(path.name for path in target.parent.iterdir() if path != target)
    require(not left, f"next to the file, {left} are left", "write aside and replace: maskseq.files.create does it")


def _require_same(case: _FileCase, written: Path, how: str) -> None:
    hint = "copy from the file what did not change"
    if not case.by_value:
        before, after = _content(case.path), _content(written)
        shared = min(len(before), len(after))
        at = next((i for i in range(shared) if before[i] != after[i]), shared)
        require(before == after, f"{how}, its bytes differ from byte {at} on", hint)
        return
    again = list(case.format.read(written))
    same = len(again) == len(case.records) and all(
        a.key == b.key and len(a) == len(b) for a, b in zip(again, case.records, strict=True)
    )
    require(same, f"{how}, it has other records", hint)


def _paths(case: _FileCase) -> None:
    """Folders may be called anything."""
    records = list(case.format.read(case.copy(AWKWARD)))
    same = list(map(len, records)) == list(map(len, case.records))
    require(same, f"in a folder called {AWKWARD!r} it reads other records", "use the path as it is, as pathlib does")


def _broken(case: _FileCase) -> None:
    """A damaged, empty or missing file ends in `DataError` or `ValueError`, and `attempts` gives all errors."""
    content = case.path.read_bytes()
    for number in range(DAMAGES):
        path = case.copy(f"damaged {number}")
        damaged = bytearray(content)
        if number % 2:
            del damaged[int(case.rng.integers(len(content))) :]
        elif content:
            at = case.rng.integers(len(content), size=3)
            for place, byte in zip(at.tolist(), case.rng.integers(256, size=3).tolist(), strict=True):
                damaged[place] = byte
        path.write_bytes(b"" if number == 1 else bytes(damaged))
        _fails_well(lambda: list(case.format.read(path)), f"a file with {len(damaged)} of {len(content)} bytes")  # noqa: B023
        with suppress(ValueError):  # which means broken data, as it does in read
            for found in case.format.attempts(path):
                known = isinstance(found, Record | DataError)
                require(known, f"attempts gives a {type(found).__name__}", "give records and DataErrors")
    _fails_well(lambda: list(case.format.read(case.folder / "missing" / case.path.name)), "a missing file", must=True)


def _fails_well(read: Callable[[], object], what: str, *, must: bool = False) -> None:
    hint = "raise a DataError that names file and place; maskseq.files.open_bytes does it for the file itself"
    try:
        read()
    except MaskseqError as error:
        line = str(error).partition("\n\nhint: ")[0]
        require("\n" not in line, f"of {what}, it says several lines: {line[:80]!r}", "say it in one line")
        return
    except ValueError:
        return
    except OSError as error:
        require(must, f"of {what}, it raised {type(error).__name__}: {error}", hint)
        return
    except Exception as error:
        require(False, f"of {what}, it raised {type(error).__name__}: {error}", hint)
    require(not must, f"it reads {what}", hint)


def _content(path: Path) -> bytes:
    with open_bytes(path) as file:
        return file.read()


def _same(records: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(records) == len(others) and all(
        type(a) is type(b) and a.key == b.key and len(a) == len(b) and equal(a.bare(), b.bare())
        for a, b in zip(records, others, strict=True)
    )


RULES: dict[str, Callable[[_FileCase], None]] = {
    "read": _read,
    "unique keys": _keys,
    "identity": _identity,
    "sources": _sources,
    "recognize": _recognize,
    "attempts": _attempts,
    "parts": _parts,
    "bytes": _bytes,
    "paths": _paths,
    "damage": _broken,
}
"""Checked for each file in this order."""
