"""The contract checker of formats passes those that ship, and names the rule that each broken one breaks."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward_files import MAKERS

from maskseq import plugins
from maskseq.errors import DataError, UsageError
from maskseq.formats import Format, attempted
from maskseq.testing import ContractViolation, check_format
from maskseq.types import ListRecord

CONTAINERS = {"event-parquet", "signal-parquet"}
"""Formats whose bytes depend on the library that writes them."""


class Lines(Format[ListRecord]):
    """A word a value, a line a record."""

    suffixes = (".words",)

    def read(self, path: Path) -> Iterator[ListRecord]:
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise DataError(path, str(error)) from None
        for number, line in enumerate(lines, 1):
            yield ListRecord(key=str(number), values=line.split(" "))

    def write(self, records: Iterable[ListRecord], path: Path) -> None:
        path.write_text("".join(" ".join(map(str, each.values)) + "\n" for each in records), "utf-8")


class Sorted(Lines):
    def write(self, records: Iterable[ListRecord], path: Path) -> None:
        super().write(sorted(records, key=lambda each: list(map(str, each.values))), path)


class Counting(Lines):
    n = 0

    def read(self, path: Path) -> Iterator[ListRecord]:
        Counting.n += 1
        for each in super().read(path):
            yield ListRecord(key=f"{each.key} of reading {Counting.n}", values=each.values)


class Fragile(Lines):
    def read(self, path: Path) -> Iterator[ListRecord]:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            letters = {byte: chr(byte) for byte in b"abcdefghijklmnopqrstuvwxyz .,?"}
            yield ListRecord(key=str(number), values=["".join(letters[byte] for byte in line)])


class Elsewhere(Lines):
    def sources(self, path: Path) -> list[Path]:
        return [path.with_suffix(".gone")]


class Forgetful(Lines):
    def attempts(self, path: Path) -> Iterator[ListRecord | DataError]:
        return iter(list(attempted(lambda _: self.read(path)))[1:])


class Littering(Lines):
    def write(self, records: Iterable[ListRecord], path: Path) -> None:
        super().write(records, path)
        path.with_suffix(".bak").write_text("")


class Short(ListRecord):
    def cut(self, start: int, stop: int) -> ListRecord:
        return ListRecord(key=self.key, values=self.values[start : stop + 1])


class OffByOne(Lines):
    def read(self, path: Path) -> Iterator[ListRecord]:
        return (Short(key=each.key, values=each.values) for each in super().read(path))


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "some.words"
    path.write_text("b c d e f g h\na x y z\n")
    return path


def test_an_honest_format_passes(words: Path) -> None:
    report = check_format(Lines(), [words])
    assert (report.n_files, report.n_records) == (1, 2)
    assert {"bytes", "damage", "unique keys"} <= set(report.checked)
    assert not report.skipped
    with pytest.raises(UsageError):
        check_format(Lines(), [])


@pytest.mark.parametrize(
    ("format", "rule"),
    [
        (Sorted, "bytes"),
        (Counting, "read"),
        (Fragile, "damage"),
        (Elsewhere, "sources"),
        (Forgetful, "attempts"),
        (Littering, "bytes"),
        (OffByOne, "parts"),
    ],
)
def test_a_broken_rule_is_named(words: Path, format: Callable[[], Any], rule: str) -> None:
    with pytest.raises(ContractViolation) as found:
        check_format(format(), [words])
    assert found.value.rule == rule
    assert words.name in str(found.value)


def test_damage_must_end_in_an_error_of_data(words: Path) -> None:
    class Trusting(Fragile):
        def write(self, records: Iterable[ListRecord], path: Path) -> None:
            path.write_bytes(words.read_bytes())

    with pytest.raises(ContractViolation) as found:
        check_format(Trusting(), [words])
    assert found.value.rule == "damage"


def test_repeated_keys_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">a\nACGT\n>a\nACCC\n")
    report = check_format(plugins.format_for(path, "fasta"), [path])
    assert "unique keys" in report.skipped


@pytest.mark.parametrize("name", MAKERS)
def test_formats_that_ship_keep_the_contract(name: str, tmp_path: Path) -> None:
    for number in range(3):
        file = MAKERS[name](np.random.default_rng((7, number)))
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / file.name
        path.write_bytes(file.content)
        reader: Format[Any] = plugins.format_for(path, file.format, **file.options)
        check_format(reader, [path], by_value=name in CONTAINERS)
