"""Archives of labelled series: `.ts` and `.arff` files of UEA/UCR and sktime, and older tables, the class in front."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from maskseq.errors import DataError, UsageError
from maskseq.formats import Format
from maskseq.survey import CERTAIN, LIKELY, Claim, Head
from maskseq_signals.arff import arff_rows
from maskseq_signals.arrays import Npz
from maskseq_signals.files import read_text, recording_name
from maskseq_signals.recording import Recording, recorded
from maskseq_signals.timeline import Timeline, spread

BETWEEN = re.compile(r"(?<=\)):")
"""What separates channels; times have colons, too."""
PAIR = re.compile(r"\(([^()]*),([^(),]*)\)")
STAMPED = re.compile(rf"\s*{PAIR.pattern}(?:\s*,\s*{PAIR.pattern})*\s*")
ATTRIBUTES = re.compile(r"^\s*@attribute\s", re.IGNORECASE | re.MULTILINE)
"""What ARFF files have, and `.ts` files have not."""
SHORTEST = 16
"""Values that a row of numbers must have to be taken for a series."""


class Archive(Format[Recording]):
    """Read only; a recording a line, called like the file and the number of the series."""

    def write(self, records: Iterable[Recording], path: Path) -> None:
        raise UsageError(
            f"{path}: archives of labelled series are read only\n\nhint: write the series as NPZ", code="not-supported"
        )

    def written_as(self, path: Path) -> tuple[Format[Recording], Path]:
        return Npz(), path.with_name(recording_name(path) + ".npz")


@dataclass(frozen=True, kw_only=True)
class Ts(Archive):
    """`.ts`: channels of a series are separated by `:`, values by `,`; `?` and `NaN` are unknown values.

    With time stamps, (time,value) stands for each value: steps are in order of time, missing ones unknown. The archives
    have the same series as `.arff` files, whose last attribute is the class or the target.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".ts", ".arff")

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if not any(line.strip().lower() == "@data" for line in head.lines):
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="series behind a line '@data'")

    def read(self, path: Path) -> Iterator[Recording]:
        labelled, in_data, stamped, n_series = False, False, False, 0
        text = read_text(path).removeprefix("\ufeff")
        if ATTRIBUTES.search(text):
            for number, channels, label in arff_rows(path, text):
                n_series += 1
                yield _series(f"{recording_name(path)}/{n_series}", channels, label, path, f"line {number}")
            text = ""
        for number, raw in enumerate(text.splitlines(), 1):
            line, place = raw.strip(), f"line {number}"
            if not line or line.startswith("#"):
                continue
            if not in_data:
                words = line.lower().split()
                stamped = words[:2] == ["@timestamps", "true"] or stamped
                labelled = (words[0] in ("@classlabel", "@targetlabel") and words[1:2] == ["true"]) or labelled
                in_data = words[0] == "@data"
                if not line.startswith("@"):
                    raise DataError(path, "there is no @data line before the series", place=place)
                continue
            parts = BETWEEN.split(line) if stamped else line.split(":")
            label = parts.pop().strip() if labelled else None
            n_series += 1
            key = f"{recording_name(path)}/{n_series}"
            if stamped:
                yield from _stamped(key, parts, label, path, place)
            else:
                yield _series(key, [part.split(",") for part in parts], label, path, place)
        if not n_series:
            raise DataError(path, "there are no series in this file")


@dataclass(frozen=True, kw_only=True)
class UcrTable(Archive):
    """The UCR archive's `.tsv` and `.txt`: a series a line, its class first, separated by tabs, commas or blanks.

    Series that are shorter than others end in NaN there; those are cut off.
    """

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """Long rows of numbers without a header, of which the first are few and whole."""
        rows = [line.replace(",", " ").split() for line in head.lines[:200]]
        if len(rows) < 4 or len({len(row) for row in rows}) > 1 or len(rows[0]) < SHORTEST:
            return None
        try:
            values = np.array(rows, dtype=np.float64)
        except ValueError:
            return None
        classes = np.unique(values[:, 0])
        whole = (classes == np.round(classes)).all() and not (values[:, 1:] == np.round(values[:, 1:])).all()
        if not whole or len(classes) > len(rows) / 2:
            return None
        return Claim(strength=LIKELY, why=f"series of {len(rows[0]) - 1} values behind one of {len(classes)} classes")

    def read(self, path: Path) -> Iterator[Recording]:
        n_series = 0
        for number, line in enumerate(read_text(path).removeprefix("\ufeff").splitlines(), 1):
            cells = line.replace(",", " ").split()
            if cells:
                n_series += 1
                values = cells[1:]
                while values and values[-1].lower() == "nan":
                    values.pop()
                yield _series(f"{recording_name(path)}/{n_series}", [values], _class(cells[0]), path, f"line {number}")
        if not n_series:
            raise DataError(path, "there are no series in this file")


def _stamped(key: str, parts: list[str], label: str | None, path: Path, place: str) -> Iterator[Recording]:
    """A series of which each value has its time, the same ones in all channels; parted at long gaps."""
    if not all(STAMPED.fullmatch(part) for part in parts):
        raise DataError(path, "a series with time stamps is written (time,value),(time,value),…", place=place)
    pairs = [PAIR.findall(part) for part in parts]
    times = [time.strip() for time, _ in pairs[0]]
    if any([time.strip() for time, _ in channel] != times for channel in pairs):
        raise DataError(path, "the channels of a series have different time stamps", place=place)
    series = _series(key, [[value for _, value in channel] for channel in pairs], label, path, place)
    timeline = Timeline(path, lambda step: f"{place}, value {step + 1}", hint="")
    for name, steps in timeline.recordings([(key, np.arange(len(times)))], times):
        reported = tuple(times[step] if step >= 0 else "" for step in steps.tolist())
        yield replace(series, key=name, channels=spread(series.channels, steps), times=reported)


def _class(text: str) -> str:
    """Old files write the class as a number: 1.0000000e+00 is class 1."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _series(key: str, channels: list[list[str]], label: str | None, path: Path, place: str) -> Recording:
    lengths = {len(values) for values in channels}
    if len(lengths) != 1 or not lengths - {0}:
        raise DataError(
            path, f"a series of channels of {sorted(lengths)} values; they must be equally long", place=place
        )
    try:
        values = np.array([[np.nan if v.strip() == "?" else float(v) for v in channel] for channel in channels]).T
    except ValueError as error:
        raise DataError(path, f"{error}", place=place) from None
    return recorded(
        path, key=key, channels=values, names=tuple(f"channel_{i}" for i in range(1, len(channels) + 1)), label=label
    )
