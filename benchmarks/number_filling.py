"""How many CPU seconds does it take to fill numbers in the default order, and how far off are they?

    python benchmarks/number_filling.py runs/ecg recording.npy --json number_filling.json
    python benchmarks/number_filling.py runs/ecg recording.npy --orders entropy_bounded left_to_right --cells 300

The recording is repeated up to an hour at 250 Hz and given gaps of 100 samples in all channels, and single unknown
samples. `maskseq infill` fills both files as it does by default. CPU seconds are those of the whole command from the
opened run on: counting the experts, reading, filling, writing. The error is that of what was written, in standard
deviations of its channel, beside straight lines. `--orders` compares orders on a short stretch: `left_to_right` makes a
pass for each number.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskseq import load
from maskseq.apps.infill import infill_file
from maskseq.corpus.dress import ReadAs
from maskseq.infill.sampler import InfillConfig
from maskseq.plugins import format_for
from maskseq.predict.experts.imputers import linear

HOUR = 900_000
"""Samples, at 250 Hz."""
GAPS, GAP = 20, 100
SINGLE = 10_000
DENSE = 50_000
"""Samples that the single cells lie in."""


@dataclass(frozen=True)
class Timed:
    """One line of the table."""

    what: str
    order: str
    samples: int
    cells: int
    cpu_s: float
    passes_at_most: int
    rmse: float
    lines: float


def gaps(values: np.ndarray, n: int = GAPS, length: int = GAP) -> np.ndarray:
    """Gaps in all channels, spread over all of it."""
    masked = np.zeros(values.shape, bool)
    edge = min(1000, len(values) // 20)
    for start in np.linspace(edge, len(values) - edge - length, n).astype(int).tolist():
        masked[start : start + length] = True
    return masked


def single(values: np.ndarray, n: int = SINGLE) -> np.ndarray:
    """Cells by chance."""
    masked = np.zeros(values.size, bool)
    masked[np.random.default_rng(0).choice(values.size, size=min(n, values.size // 4), replace=False)] = True
    return masked.reshape(values.shape)


def measured(
    run: Path,
    values: np.ndarray,
    dress: dict[str, Any],
    what: str,
    mask: Callable[[np.ndarray], np.ndarray],
    order: str,
) -> Timed:
    """Fill one file, and compare with what was there. `dress` says what its columns are."""
    masked = mask(values)
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder) / "recording.npy", Path(folder) / "filled"
        np.save(file, np.where(masked, np.nan, values))
        began = time.process_time()
        opened = load(run)
        read_as = ReadAs(format="npy", options=dress)
        infill_file(opened, file, output=output, read_as=read_as, config=InfillConfig(order=order))
        took = time.process_time() - began
        filled = np.load(output / file.name)
        passes = _passes(output)
    sd = values.std(axis=0)
    shown = linear(np.where(masked, np.nan, values))
    errors = [float(np.sqrt((((each - values) / sd)[masked] ** 2).mean())) for each in (filled, shown)]
    return Timed(what, order, len(values), int(masked.sum()), took, passes, *errors)


def _passes(output: Path) -> int:
    """Of a window, at most."""
    (table,) = output.glob("*fills.csv")
    with table.open(newline="") as file:
        return 1 + max(int(row["step"]) for row in csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--orders", nargs="+", default=(), help="compare these instead, on a short stretch")
    parser.add_argument("--cells", type=int, default=300, help="of that")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    record = max(format_for(options.file, None).read(options.file), key=lambda each: each.channels.size)
    recorded, dress = record.channels, {"names": record.names, "units": record.units, "channels_first": False}
    if options.orders:
        short = recorded[: 4 * options.cells // recorded.shape[1]]
        few = options.cells // (10 * recorded.shape[1])
        kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            f"{options.cells} single cells": lambda values: single(values, options.cells),
            "5 gaps of a tenth of that": lambda values: gaps(values, 5, few),
        }
        asked = [(short, dress, what, mask, order) for what, mask in kinds.items() for order in options.orders]
    else:
        hour, order = np.tile(recorded, (-(-HOUR // len(recorded)), 1))[:HOUR], InfillConfig.order
        asked = [
            (hour, dress, f"{GAPS} gaps of {GAP} in an hour", gaps, order),
            (hour[:DENSE], dress, f"{SINGLE:,} single cells", single, order),
        ]
    rows = [measured(options.run, *each) for each in asked]
    print("| unknown | order | samples | cells | CPU s | passes | RMSE in sd | lines |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.what} | {row.order} | {row.samples:,} | {row.cells:,} | {row.cpu_s:.1f} | {row.passes_at_most} "
            f"| {row.rmse:.3f} | {row.lines:.3f} |"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
