"""How well do closed forms fill numbers, alone and weighted by what is known around the holes?

    python -m benchmarks.closed_forms /path/to/shared --json docs/results/closed_forms.json

Each row is a data set and a kind of hole; figures are squared errors in training variances of each channel, over all
masked numbers. Nothing is trained: methods are counted on the first part, as by `maskseq pretrain --experts-only`.
ETTh1 is asked as papers do: windows of 96 hours of months 17 to 20, half of the cells, or a day of each channel at a
place of its own. The ECG has gaps of half a second in windows of 1,024 of its last 50,000 samples.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from maskseq.model.gaussian import moments
from maskseq.plugins import format_for
from maskseq.predict.experts.counted import seasons
from maskseq.predict.experts.number_blend import NumberBlend
from maskseq.predict.experts.number_experts import LOCAL, Numbered
from maskseq.predict.experts.number_prior import count_blend, worthless
from maskseq.predict.protocol import Example
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

Mask = Callable[[np.ndarray, np.random.Generator], np.ndarray]
BLEND = "blend"
FORMATS = {".csv": "signal-csv"}


def points(share: float) -> Mask:
    """Single cells by chance."""
    return lambda values, rng: rng.random(values.shape) < share


def gap(length: int, *, together: bool) -> Mask:
    """A stretch of all channels at once, or of each at a place of its own."""

    def masked(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        found = np.zeros(values.shape, bool)
        starts = rng.integers(len(values) - length + 1, size=1 if together else values.shape[1])
        for channel in range(values.shape[1]):
            start = int(starts[0 if together else channel])
            found[start : start + length, channel] = True
        return found

    return masked


def one_channel(length: int) -> Mask:
    """A stretch of one channel."""

    def masked(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        found = np.zeros(values.shape, bool)
        start, channel = int(rng.integers(len(values) - length + 1)), int(rng.integers(values.shape[1]))
        found[start : start + length, channel] = True
        return found

    return masked


def read(path: Path) -> list[np.ndarray]:
    return [np.asarray(each.channels, np.float64) for each in format_for(path, FORMATS.get(path.suffix)).read(path)]


def cut(values: np.ndarray, window: int, stride: int) -> list[np.ndarray]:
    return [values[start : start + window] for start in range(0, len(values) - window + 1, stride)]


def sets(signals: Path) -> dict[str, tuple[list[np.ndarray], list[np.ndarray], Mapping[str, Mask]]]:
    """By name: what is counted on, windows to fill, and their holes by name."""
    (ett,), (ecg,) = read(signals / "ETTh1.csv"), read(signals / "wfdb" / "100.hea")
    ucr = {
        name: [read(signals / "ucr" / f"{name}_{part}.ts") for part in ("TRAIN", "TEST")]
        for name in ("GunPoint", "BasicMotions")
    }
    short = {"a tenth of the points": points(0.1), "gaps of 24": gap(24, together=False)}
    return {
        "ETTh1": (
            [ett[:8640]],
            cut(ett[11520:14400], 96, 12),
            {"half of the points": points(0.5), "a day": gap(24, together=False)},
        ),
        "MIT-BIH 100": (
            [ecg[:600_000]],
            cut(ecg[600_000:], 1024, 512),
            {"half a second, one lead": one_channel(180), "half a second, both": gap(180, together=True)},
        ),
        "GunPoint": (*ucr["GunPoint"], short),
        "BasicMotions": (*ucr["BasicMotions"], short),
    }


def counted(train: Sequence[np.ndarray], context: int) -> tuple[QuantizeTokenizer, NumberBlend]:
    """All methods, and the slowest only where it is worth its time."""
    names = tuple(f"c{i}" for i in range(train[0].shape[1]))
    records = [Recording(key=str(i), channels=each, names=names) for i, each in enumerate(train)]
    tokenizer = QuantizeTokenizer.fit(records, bins=128)
    ids = [tokenizer.encode(each).ids for each in records]
    blend = count_blend(Numbered(ids, list(train)), tokenizer, seasons(ids, tokenizer), context=context)
    return tokenizer, blend


def measured(
    tokenizer: QuantizeTokenizer, blend: NumberBlend, sd: np.ndarray, windows: Sequence[np.ndarray], mask: Mask
) -> dict[str, float]:
    """Squared errors by method, of one mask for each window."""
    names, rng = tuple(channel.name for channel in tokenizer.channels), np.random.default_rng(0)
    totals: dict[str, float] = {}
    n = 0
    for values in windows:
        masked = mask(values, rng) & ~np.isnan(values)
        shown, cells = np.where(masked, np.nan, values), np.argwhere(masked)
        example = Example(tokenizer.encode(Recording(key="r", channels=shown, names=names)).ids, shown)
        for name, each in {BLEND: blend, **blend.experts}.items():
            (stated,) = each.stated([example], [cells])  # type: ignore[attr-defined]
            error = (stated.mean - values[masked]) / sd[cells[:, 1]]
            totals[name] = totals.get(name, 0.0) + float((error**2).sum())
        n += len(cells)
    return {name: total / n for name, total in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shared", type=Path, help="the folder of shared data")
    parser.add_argument("--windows", type=int, default=200, help="of each set, at most")
    parser.add_argument("--draws", type=int, default=1, help="of masks: of few windows, wild numbers decide")
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name, (train, windows, holes) in sets(options.shared / "signals").items():
        if options.sets and name not in options.sets:
            continue
        began = time.process_time()
        tokenizer, blend = counted(train, len(windows[0]))
        kept = not worthless(blend.prior, LOCAL)
        if not kept:
            blend.experts.pop(LOCAL, None)
        some = [windows[i] for i in np.linspace(0, len(windows) - 1, min(len(windows), options.windows)).astype(int)]
        for kind, mask in holes.items():
            found = measured(tokenizer, blend, moments(train)[1], some * options.draws, mask)
            best = min((each for each in found if each != BLEND), key=lambda each: found[each])
            rows.append({"set": name, "holes": kind, "windows": len(some), "draws": options.draws, "by method": found})
            print(
                f"| {name} | {kind} | {len(some)} | {found[BLEND]:.4f} | {best}: {found[best]:.4f} "
                f"| {found['lines']:.4f} |",
                flush=True,
            )
        print(f"{name}: {time.process_time() - began:.0f} CPU s{'' if kept else f', without {LOCAL}'}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
