"""Weka's ARFF as the UEA/UCR archives have it: a series a line, its class or target last."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maskseq.errors import DataError

ATTRIBUTE = re.compile(r"@attribute\s+('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+)\s+(.+)", re.IGNORECASE)
NUMBERS = ("numeric", "real", "integer")
TARGETS = ("class", "target", "label", "classattribute")
"""Names of a last attribute of numbers that say that it is no value of the series."""


@dataclass(frozen=True)
class ArffAttribute:
    """A column of the file."""

    name: str
    kind: str
    """`number`, `series` (several channels in one cell) or `other`."""


def arff_rows(path: Path, text: str) -> Iterator[tuple[int, list[list[str]], str | None]]:
    """Of each line of data its number, the channels of its series, and its class or target, if it has one.

    The last attribute is that, unless it is a number of another name than `TARGETS`; all others are the values of one
    channel, or a relational attribute holds the channels.
    """
    attributes: list[ArffAttribute] = []
    inside, in_data = False, False
    for number, raw in enumerate(text.splitlines(), 1):
        line, place = raw.strip(), f"line {number}"
        word = line.lower().split(maxsplit=1)[0] if line else ""
        if not line or line.startswith("%"):
            continue
        if in_data:
            yield number, *_row(path, place, line, attributes)
        elif word == "@end":
            inside = False
        elif word == "@data":
            if not attributes:
                raise DataError(path, "has data but no @attribute lines", place=place)
            in_data = True
        elif word == "@attribute":
            if inside:  # of the columns in a relational one, which the cells tell themselves
                continue
            found = ATTRIBUTE.fullmatch(line)
            if found is None:
                raise DataError(path, "is no attribute: a name and a type are needed", place=place)
            kind = found[2].strip().lower()
            inside = kind.startswith("relational")
            attributes.append(
                ArffAttribute(
                    found[1].strip("'\""), "series" if inside else "number" if kind.startswith(NUMBERS) else "other"
                )
            )
        elif word != "@relation":
            raise DataError(path, "there is no @data line before the series", place=place)


def _row(path: Path, place: str, line: str, attributes: list[ArffAttribute]) -> tuple[list[list[str]], str | None]:
    if line.startswith("{"):
        raise DataError(path, "sparse rows are not read\n\nhint: write every value", place=place)
    quote = next((each for each in line if each in "'\""), '"')
    cells = [cell.strip() for cell in next(csv.reader([line], quotechar=quote, skipinitialspace=True))]
    if len(cells) != len(attributes):
        raise DataError(path, f"has {len(cells)} cell(s), and {len(attributes)} attributes are declared", place=place)
    last = attributes[-1]
    labelled = last.kind == "other" or (last.kind == "number" and last.name.lower() in TARGETS)
    label = cells.pop() if labelled else None
    kinds = [each.kind for each in attributes[: len(cells)]]
    if kinds == ["series"]:
        return [channel.split(",") for channel in re.split(r"\\n|\n", cells[0])], label
    if strange := [each.name for each in attributes[: len(cells)] if each.kind != "number"]:
        raise DataError(path, f"attribute {strange[0]!r} is no number: a series has numbers only", place=place)
    return [cells], label
