"""How many CPU seconds does it take to fill numbers in the default order, and how far off are they?

    python benchmarks/number_filling.py runs/ecg recording.npy --json number_filling.json

The recording is repeated up to an hour at 250 Hz and given gaps of 100 samples in all channels, and single unknown
samples. `maskseq infill` fills both files as it does by default. CPU seconds are those of the whole command from the
opened run on: counting the experts, reading, filling, writing. The error is that of what was written, in standard
deviations of its channel, beside straight lines.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from maskseq import load
from maskseq.apps.infill import infill_file
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
    samples: int
    cells: int
    cpu_s: float
    passes_at_most: int
    rmse: float
    lines: float


def gaps(values: np.ndarray) -> np.ndarray:
    """Twenty gaps, spread over all of it."""
    masked = np.zeros(values.shape, bool)
    for start in np.linspace(1000, len(values) - 1000 - GAP, GAPS).astype(int).tolist():
        masked[start : start + GAP] = True
    return masked


def single(values: np.ndarray) -> np.ndarray:
    """Ten thousand cells by chance."""
    masked = np.zeros(values.size, bool)
    masked[np.random.default_rng(0).choice(values.size, size=min(SINGLE, values.size // 4), replace=False)] = True
    return masked.reshape(values.shape)


def measured(run: Path, values: np.ndarray, what: str, mask: Callable[[np.ndarray], np.ndarray]) -> Timed:
    """Fill one file, and compare with what was there."""
    masked = mask(values)
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder) / "recording.npy", Path(folder) / "filled"
        np.save(file, np.where(masked, np.nan, values))
        began = time.process_time()
        infill_file(load(run), file, output=output)
        took = time.process_time() - began
        filled = np.load(output / file.name)
        passes = _passes(output)
    sd = values.std(axis=0)
    shown = linear(np.where(masked, np.nan, values))
    errors = [float(np.sqrt((((each - values) / sd)[masked] ** 2).mean())) for each in (filled, shown)]
    return Timed(what, len(values), int(masked.sum()), took, passes, *errors)


def _passes(output: Path) -> int:
    """Of a window, at most."""
    (table,) = output.glob("*fills.csv")
    with table.open(newline="") as file:
        return 1 + max(int(row["step"]) for row in csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recorded = max(
        (each.channels for each in format_for(options.file, None).read(options.file)), key=lambda each: each.size
    )
    hour = np.tile(recorded, (-(-HOUR // len(recorded)), 1))[:HOUR]
    rows = [
        measured(options.run, hour, f"{GAPS} gaps of {GAP} in an hour", gaps),
        measured(options.run, hour[:DENSE], f"{SINGLE:,} single cells", single),
    ]
    print("| unknown | samples | cells | CPU s | passes | RMSE in sd | lines |\n|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.what} | {row.samples:,} | {row.cells:,} | {row.cpu_s:.1f} | {row.passes_at_most} | {row.rmse:.3f} "
            f"| {row.lines:.3f} |"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
