"""Do fills and intervals of numbers move with an instrument that has drifted since training?

    python -m benchmarks.drifts /path/to/shared --json docs/results/drifts.json

Each signal of the tuning half is cut as in the panel; all closed forms are counted on the first part, as a run of
`maskseq pretrain --experts-only` has them, and fill gaps of the second, which drifts as `benchmarks/panel/drift.py`
says. Gaps are independent: apart from one another by more than their own length, of one channel or of all. Coverage is
the share of true numbers within the central intervals of 50, 80 and 95 %, every gap counting the same; widths and
errors are in standard deviations of the channel in training, divided by the gain. Lines are straight lines on the same
numbers.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.panel.cut import cut
from benchmarks.panel.drift import DRIFTS, drifted
from benchmarks.panel.sets import SETS, Set
from maskseq.model.gaussian import moments
from maskseq.plugins import format_for
from maskseq.predict.experts.counted import seasons
from maskseq.predict.experts.imputers import linear
from maskseq.predict.experts.number_blend import NumberBlend
from maskseq.predict.experts.number_experts import LOCAL, Numbered
from maskseq.predict.experts.number_prior import count_blend, worthless
from maskseq.predict.posterior import LEVELS, NOMINAL
from maskseq.predict.protocol import Example
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

NONE = "none"
FORMATS = {".csv": "signal-csv"}
"""Of files whose name does not tell it."""
CONTEXT = 256
CHANNELS = 12
"""Of a recording with more, those spread over it: 64 of an EEG say the same."""
LENGTHS = (1, 5, 12, 24)
"""Of gaps, at most an eighth of a window."""
APART, MOST = 4, 5
"""Windows have room for gaps so many times as long, and have so many of them at most."""


@dataclass(frozen=True)
class Gap:
    """What became of one gap."""

    name: str
    drift: str
    length: int
    channels: tuple[int, ...]
    held: tuple[float, ...]
    """The share of its numbers within each interval."""
    widths: tuple[float, ...]
    squared: float
    lines: float


def recordings(file: Path) -> list[np.ndarray]:
    """The records with some of their channels."""
    found = [np.asarray(each.channels, np.float64) for each in format_for(file, FORMATS.get(file.suffix)).read(file)]
    n = found[0].shape[1]
    some = np.unique(np.linspace(0, n - 1, min(n, CHANNELS)).round().astype(int))
    return [each[:, some] for each in found]


def counted(train: Sequence[np.ndarray]) -> tuple[QuantizeTokenizer, NumberBlend]:
    """All methods, as a run of experts only has them."""
    names = tuple(f"c{i}" for i in range(train[0].shape[1]))
    records = [Recording(key=str(i), channels=each, names=names) for i, each in enumerate(train)]
    tokenizer = QuantizeTokenizer.fit(records, bins=256)
    ids = [tokenizer.encode(each).ids for each in records]
    blend = count_blend(
        Numbered(ids, list(train)), tokenizer, seasons(ids, tokenizer), context=min(CONTEXT, max(map(len, train)))
    )
    if worthless(blend.prior, LOCAL):
        del blend.experts[LOCAL]
    return tokenizer, blend


def windows(test: Sequence[np.ndarray], n_gaps: int, rng: np.random.Generator) -> Iterator[tuple[int, int, int, list]]:
    """Which recording, where a window of it begins and ends, and its gaps: where, and of which channels."""
    places = [
        (which, start, min(start + CONTEXT, len(each)))
        for which, each in enumerate(test)
        for start in range(0, max(len(each) - CONTEXT // 2, 1), CONTEXT)
    ]
    room = n_gaps
    for number, at in enumerate(rng.permutation(len(places)).tolist()):
        which, start, stop = places[at]
        length = min(LENGTHS[number % len(LENGTHS)], max((stop - start) // 8, 1))
        n = max(min((stop - start) // (APART * length), MOST, room), 1)
        size, fields = (stop - start) // n, test[which].shape[1]
        gaps = []
        for i in range(n):
            first = i * size + int(rng.integers(1, max(size - length, 2)))
            gaps.append((first, length, range(fields) if rng.random() < 0.5 else [int(rng.integers(fields))]))
        yield which, start, stop, gaps
        room -= n
        if room <= 0:
            return


def measured(chosen: Set, data: Path, n_gaps: int, drifts: Sequence[str]) -> list[Gap]:
    """Every gap of a set under every drift."""
    with tempfile.TemporaryDirectory() as folder:
        test = data / chosen.test if chosen.test else None
        files = cut(chosen.cut, data / chosen.file, Path(folder), test, **dict(chosen.options))[:2]
        train, judged = (recordings(file) for file in files)
    tokenizer, blend = counted(train)
    mean, sd = moments(train)
    names = tuple(channel.name for channel in tokenizer.channels)
    found = []
    for drift in (NONE, *drifts):
        rng = np.random.default_rng(0)
        gain = float(drift.removeprefix("gain ")) if drift.startswith("gain ") else 1.0
        moved = judged
        if drift != NONE:
            moved = [drifted(each, drift, mean, sd, np.random.default_rng(i)) for i, each in enumerate(judged)]
        # What a sentinel stands in place of is still the truth.
        truth = judged if drift == "sentinel" else moved
        for which, start, stop, gaps in windows(judged, n_gaps, rng):
            masked = np.zeros((stop - start, len(names)), bool)
            for first, length, fields in gaps:
                masked[first : first + length, list(fields)] = True
            shown = np.where(masked, np.nan, moved[which][start:stop])
            ids = tokenizer.encode(Recording(key="r", channels=shown, names=names)).ids
            cells = np.argwhere(masked)
            (stated,) = blend.stated([Example(ids, shown)], [cells])
            bounds = stated.quantile(np.broadcast_to(NOMINAL.ravel(), (len(cells), NOMINAL.size)))
            low, high = bounds.reshape(len(cells), -1, 2).transpose(2, 0, 1)
            true = truth[which][start:stop][masked]
            scale = sd[cells[:, 1]] * gain
            lines = linear(shown)[masked]
            for first, length, fields in gaps:
                mine = (cells[:, 0] >= first) & (cells[:, 0] < first + length) & np.isin(cells[:, 1], list(fields))
                mine &= ~np.isnan(true)
                if not mine.any():
                    continue
                value, unit = true[mine, None], scale[mine, None]
                found.append(
                    Gap(
                        chosen.name,
                        drift,
                        length,
                        tuple(fields),
                        tuple(((low[mine] <= value) & (value <= high[mine])).mean(axis=0).tolist()),
                        tuple(((high[mine] - low[mine]) / unit).mean(axis=0).tolist()),
                        float((((stated.mean[mine] - true[mine]) / scale[mine]) ** 2).mean()),
                        float(np.nanmean(((lines[mine] - true[mine]) / scale[mine]) ** 2)),
                    )
                )
    return found


def summary(gaps: Sequence[Gap]) -> dict[str, float]:
    """Of some gaps: coverage and its standard error, widths, errors."""
    held, widths = np.array([gap.held for gap in gaps]), np.array([gap.widths for gap in gaps])
    row: dict[str, float] = {"gaps": len(gaps)}
    for i, level in enumerate(LEVELS):
        row |= {f"coverage {level:.0%}": held[:, i].mean(), f"± {level:.0%}": held[:, i].std() / np.sqrt(len(gaps))}
        row[f"width {level:.0%}"] = widths[:, i].mean()
    squares, lines = (np.array([getattr(gap, name) for gap in gaps]) for name in ("squared", "lines"))
    return {name: float(each) for name, each in row.items()} | {
        "MSE": float(squares.mean()),
        "lines": float(lines.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shared", type=Path, help="the folder of shared data")
    parser.add_argument("--gaps", type=int, default=100, help="of each set, at most, under each drift")
    parser.add_argument("--sets", nargs="*", help="names (default: all signals of the tuning half)")
    parser.add_argument("--drifts", nargs="*", default=DRIFTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = [each for each in SETS if each.domain == "signal" and each.half == "tuning"]
    gaps: list[Gap] = []
    for each in chosen:
        if not options.sets or each.name in options.sets:
            began = time.process_time()
            gaps += measured(each, options.shared, options.gaps, options.drifts)
            held = [float(summary(gaps)[f"coverage {level:.0%}"]) for level in LEVELS]
            so_far = " / ".join(f"{100 * share:.1f}" for share in held)
            print(f"{each.name}: {time.process_time() - began:.0f} CPU s; so far {so_far} % held", flush=True)
    kinds = [(drift, name) for drift in (NONE, *options.drifts) for name in ("all", *{gap.name: 0 for gap in gaps})]
    rows = []
    for drift, name in kinds:
        mine = [gap for gap in gaps if gap.drift == drift and name in ("all", gap.name)]
        rows.append({"drift": drift, "set": name, **summary(mine)})
    print("| drift | set | gaps | 50 % | 80 % | 95 % | width of 95 % | MSE | lines |\n|---|---|" + "---:|" * 7)
    for row in rows:
        held = " | ".join(f"{100 * float(row[f'coverage {level:.0%}']):.1f}" for level in LEVELS)
        print(
            f"| {row['drift']} | {row['set']} | {row['gaps']:.0f} | {held} | {row['width 95%']:.3f} | {row['MSE']:.4f} "
            f"| {row['lines']:.4f} |"
        )
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "gaps": [asdict(gap) for gap in gaps]}, indent=0))


if __name__ == "__main__":
    main()
