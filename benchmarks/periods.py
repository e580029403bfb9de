"""How often is the period of a series found, and how often one that is not there?

    python benchmarks/periods.py --json docs/results/periods.json

Made series: three shapes with white noise of 5 to 100 % of their standard deviation, a trend of three, and a tenth of
the values missing, at 4 and at 20 cycles. A period is right within 1 % or half a step. False alarms are periods of
noise: white, autoregressive, and random walks.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from maskseq.survey.periods import LONGEST, found_period

PERIODS = (24, 48, 96, 144, 168, 200, 288, 336, 365, 672, 1440, 3600, 10080)
NOISE = (0.05, 0.2, 1.0)
CYCLES = (4, 20)
ALARMS = 120


def wave(shape: str, phase: np.ndarray) -> np.ndarray:
    """One of three shapes, of phases from 0 to 1."""
    if shape == "sine":
        return np.asarray(np.sin(2 * np.pi * phase))
    if shape == "tooth":
        return np.asarray(np.interp(phase, [0, 0.25, 1], [0, 2, 0]))
    return np.asarray(np.exp(-0.5 * ((phase - 0.3) / 0.08) ** 2))


def series(shape: str, period: int, noise: float, cycles: int, rng: np.random.Generator) -> np.ndarray:
    """A season with noise, a trend and missing values."""
    at = np.arange(min(cycles * period, LONGEST))
    made = wave(shape, at % period / period)
    found = made + noise * made.std() * rng.normal(size=len(at)) + 3 * made.std() * at / len(at)
    found[rng.random(len(at)) < 0.1] = np.nan
    return np.asarray(found[:, None])


def noise_alone(number: int, rng: np.random.Generator) -> np.ndarray:
    """A series without any period."""
    phi = (0.0, 0.5, 0.9, 0.99, 1.0)[number % 5]
    steps = rng.normal(size=int(rng.choice([500, 2000, 10_000])) + 500)
    walk = np.zeros(len(steps))
    for i in range(1, len(steps)):
        walk[i] = phi * walk[i - 1] + steps[i]
    return np.asarray(walk[500:, None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    right: dict[str, list[bool]] = defaultdict(list)
    wrong, began = [], time.process_time()
    for cycles in CYCLES:
        for noise in NOISE:
            for shape in ("sine", "tooth", "bump"):
                for period in PERIODS:
                    rng = np.random.default_rng((cycles, int(100 * noise), period))
                    found = found_period([series(shape, period, noise, cycles, rng)])
                    good = found is not None and abs(found - period) <= max(0.01 * period, 0.5)
                    right[f"{cycles} cycles, {noise:.0%} noise"].append(good)
                    if not good:
                        wrong.append([shape, period, noise, cycles, found])
    rng = np.random.default_rng(0)
    alarms = [found for i in range(ALARMS) if (found := found_period([noise_alone(i, rng)])) is not None]
    print(f"{time.process_time() - began:.0f} CPU s")
    print("| series | right |\n|---|---:|")
    for name, each in right.items():
        print(f"| {name} | {sum(each)} of {len(each)} |")
    total = [good for each in right.values() for good in each]
    print(
        f"| all | {sum(total)} of {len(total)} ({np.mean(total):.1%}) |\n| false alarms | {len(alarms)} of {ALARMS} |"
    )
    for each in wrong:
        print("wrong:", each)
    if options.json:
        counts = {name: [sum(each), len(each)] for name, each in right.items()}
        options.json.write_text(
            json.dumps({"right": counts, "alarms": [len(alarms), ALARMS], "wrong": wrong}, indent=1)
        )


if __name__ == "__main__":
    main()
