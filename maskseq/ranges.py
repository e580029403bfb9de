"""Which stretches of a file a user wants hidden: `KEY:START-END` as samtools writes them, or a BED file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from maskseq.errors import DataError, UsageError
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded

Range = tuple[int, int]
"""Raw units, half-open, counted from 0."""


def read_ranges(texts: Iterable[str]) -> dict[str, list[Range]]:
    """Ranges by record key, in the order given; "" for ranges of the only record of a file."""
    ranges: dict[str, list[Range]] = {}
    for text in texts:
        found = _read_bed(Path(text)) if text.endswith(".bed") else [_parse(text)]
        for key, start, stop in found:
            ranges.setdefault(key, []).append((start, stop))
    return ranges


def hidden_cells(
    tokenizer: Tokenizer[Any], encoded: Encoded, key: str, n_units: int, ranges: Sequence[Range]
) -> Bool[np.ndarray, "length fields"]:
    """Every cell that depends on a unit of the ranges; `UsageError` where a range leaves the record."""
    hidden = np.zeros(encoded.ids.shape, dtype=bool)
    if not ranges:
        return hidden
    units = tokenizer.units(encoded.ids)
    for start, stop in ranges:
        if stop > n_units:
            raise UsageError(f"{key}:{start + 1}-{stop} leaves the record, which has the units 1-{n_units}")
        hidden |= (units[..., 0] < stop) & (units[..., 1] > start)
    return hidden


def _parse(text: str) -> tuple[str, int, int]:
    key, _, span = text.rpartition(":")
    first, dash, last = span.replace(",", "").partition("-")
    if not (first.isdecimal() and (last.isdecimal() or not dash)):
        raise UsageError(
            f"--mask {text}: expected KEY:START-END (1-based, inclusive), such as chr1:1001-1050, or a .bed"
        )
    start, stop = int(first) - 1, int(last or first)
    if not 0 <= start < stop:
        raise UsageError(f"--mask {text}: the first unit is 1, and END is not before START")
    return key, start, stop


def _read_bed(path: Path) -> list[tuple[str, int, int]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read as text: {error}") from None
    ranges = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        columns = line.split("\t")
        if len(columns) < 3 or not (columns[1].isdecimal() and columns[2].isdecimal()):
            raise DataError(path, "expected name, start and end, separated by tabs", place=f"line {number}")
        start, stop = int(columns[1]), int(columns[2])
        if start >= stop:
            raise DataError(
                path, f"the stretch {start}-{stop} is empty (BED is 0-based, half-open)", place=f"line {number}"
            )
        ranges.append((columns[0], start, stop))
    return ranges
