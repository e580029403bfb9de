"""Time and memory of a long signal table: write a CSV of N rows, read it, write it back, and compare the bytes.

python benchmarks/long_table.py [ROWS]        # default: a day at 250 Hz, 21,600,000 rows; 0.4 GB in a temporary folder
"""

import filecmp
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from maskseq_signals.delimited import SignalCsv

BLOCK = 1 << 18


def write(path: Path, n_rows: int) -> None:
    """A random walk of a 12-bit converter, with the seconds of each sample."""
    steps = np.random.default_rng(0).integers(-3, 4, n_rows)
    levels = np.cumsum(steps) % 4096
    with path.open("w") as file:
        file.write("time,ecg\n")
        for at in range(0, n_rows, BLOCK):
            rows = enumerate(levels[at : at + BLOCK].tolist(), at)
            file.write("".join(f"{row / 250:.3f},{level / 200:.3f}\n" for row, level in rows))


def main() -> None:
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 21_600_000
    with tempfile.TemporaryDirectory() as folder:
        path, back = Path(folder) / "day.csv", Path(folder) / "back.csv"
        write(path, n_rows)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        (recording,) = SignalCsv().read(path)
        read = time.process_time()
        SignalCsv().write([recording], back)
        written = time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{len(recording):,} rows: read in {read - began:.0f} s of CPU, written in {written - read:.0f} s")
        same = filecmp.cmp(path, back, shallow=False)
        print(f"peak {peak * 1024 / 1e9:.2f} GB ({before * 1024 / 1e9:.2f} GB before); same bytes: {same}")


if __name__ == "__main__":
    main()
