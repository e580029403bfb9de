"""Corrupted traces and injected outliers: the AUROC of every column of `maskseq score`, and of simple methods.

    python benchmarks/anomalies.py RUN [--draws 10] [--cases 300] [--abnormal 20] [--json FILE]

Logs: each draw takes some cases of the test part and puts one fault into a few of them: the activities of two events
of the case change places (any two, or with `--adjacent` neighbours), or an event has another activity; all else stays
as it is. Numbers: a hundredth of the cells of each of the first three channels are moved by 3 to 8 times the median
absolute deviation of numbers from the mean of their neighbours, which is what they are compared with.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskseq import load
from maskseq.calibration.stored import held_out_records
from maskseq.scoring.score import Score, score_records
from maskseq.scoring.usual import POSITIONS
from maskseq.tasks.figures import auroc, average_precision
from maskseq.trained import TrainedModel
from maskseq.types import Encoded


def scored(run: TrainedModel, records: list[tuple[str, Encoded]]) -> list[Score]:
    predict, others = run.judges(True, True, ())
    context = run.model.config.max_positions
    return list(score_records(predict, records, tokenizer=run.tokenizer, context=context, others=others))


def swapped(ids: np.ndarray, n: int, rng: np.random.Generator, *, adjacent: bool) -> np.ndarray | None:
    pairs = [
        (i, j) for i in range(n) for j in range(i + 1, n) if ids[i, 0] != ids[j, 0] and (j == i + 1 or not adjacent)
    ]
    if not pairs:
        return None
    first, second = pairs[rng.integers(len(pairs))]
    found = ids.copy()
    found[[first, second], 0] = ids[[second, first], 0]
    return found


def replaced(ids: np.ndarray, n: int, n_activities: int, rng: np.random.Generator) -> np.ndarray:
    found, where = ids.copy(), int(rng.integers(n))
    others = np.setdiff1d(np.arange(n_activities), ids[where, 0])
    found[where, 0] = rng.choice(others)
    return found


def logs(run: TrainedModel, options: argparse.Namespace) -> dict[str, Any]:
    tokenizer, rng = run.tokenizer, np.random.default_rng(options.seed)
    usual = run.usual(positions=options.normal)
    assert usual is not None
    records = [(key, Encoded(each.ids)) for key, each in held_out_records(run.corpus(), "test")]
    normal = scored(run, records)
    draws, faults = [], []
    for _ in range(options.draws):
        drawn = rng.permutation(len(records))[: options.cases].tolist()
        bad: dict[int, int] = {}
        for index in drawn:
            if len(bad) == options.abnormal:
                break
            key, each = records[index]
            n = len(tokenizer.opened(each.ids))
            ids = swapped(each.ids, n, rng, adjacent=options.adjacent) if rng.random() < 0.5 else None
            ids = replaced(each.ids, n, tokenizer.fields[0].n_tokens, rng) if ids is None and n else ids
            if ids is not None:
                bad[index] = len(faults)
                faults.append((key, Encoded(ids)))
        draws.append((drawn, bad))
    abnormal = scored(run, faults)

    def columns(score: Score) -> dict[str, float]:
        parts = usual.parts(score)
        found = {"odd": usual.odd(parts), "bits": score.mean_bits, "max_bits": float(np.nanmax(score.bits))}
        found |= {f"oddest {name}": parts.get(name, 0.0) for name in usual.fields}
        return found | {name: parts[name] for name in usual.detectors}

    of_normal, of_abnormal = list(map(columns, normal)), list(map(columns, abnormal))
    areas: dict[str, list[tuple[float, float]]] = {}
    for drawn, bad in draws:
        rows = [of_abnormal[bad[i]] if i in bad else of_normal[i] for i in drawn]
        labels = np.array([i in bad for i in drawn])
        for name in rows[0]:
            values = np.array([row[name] for row in rows])
            areas.setdefault(name, []).append((auroc(labels, values), average_precision(labels, values)))
    return {name: np.array(each) for name, each in areas.items()}


def numbers(run: TrainedModel, options: argparse.Namespace) -> dict[str, Any]:
    centres = [np.asarray(each) for each in run.tokenizer.vocabulary.centres]
    records = list(held_out_records(run.corpus(), "test"))
    usual = run.usual(positions=options.normal)
    assert usual is not None
    rng = np.random.default_rng(options.seed)
    areas: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.draws):
        key, each = records[int(rng.integers(len(records)))]
        start = int(rng.integers(max(len(each) - options.positions, 0) + 1))
        segment = each.cut(start, start + options.positions)
        values = np.array(segment.numbers, np.float64)
        ids = segment.ids.copy()
        channels = range(min(3, values.shape[1]))
        apart = np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2)
        deviation = np.nanmedian(apart, axis=0)
        labels = np.zeros(values.shape, bool)
        for channel in channels:
            chosen = rng.choice(np.arange(1, len(values) - 1), max(len(values) // 100, 1), replace=False)
            labels[chosen, channel] = True
            moved = rng.uniform(3, 8, len(chosen)) * rng.choice([-1, 1], len(chosen)) * deviation[channel]
            values[chosen, channel] += moved
            ids[chosen, channel] = np.abs(centres[channel] - values[chosen, channel, None]).argmin(axis=1)
        (score,) = scored(run, [(key, replace(segment, ids=ids, numbers=values))])
        simple = np.full(values.shape, np.nan)
        simple[1:-1] = np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2) / deviation
        for name, found in {"odd": usual.cells(score), "bits": score.bits, "mean of neighbours": simple}.items():
            there = ~np.isnan(found) & ~np.isnan(simple)
            there[:, len(channels) :] = False
            areas.setdefault(name, []).append(
                (auroc(labels[there], found[there]), average_precision(labels[there], found[there]))
            )
    return {name: np.array(each) for name, each in areas.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--abnormal", type=int, default=20)
    parser.add_argument("--positions", type=int, default=1000, help="of a window of numbers")
    parser.add_argument("--normal", type=int, default=POSITIONS, help="positions that say what is usual")
    parser.add_argument("--adjacent", action="store_true", help="only neighbours change places")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run = load(options.run)
    found = (numbers if None not in run.tokenizer.vocabulary.centres else logs)(run, options)
    print(f"{'column':28} {'AUROC':>7} {'least':>7} {'AP':>7}")
    for name, areas in sorted(found.items(), key=lambda item: -item[1][:, 0].mean()):
        print(f"{name:28} {areas[:, 0].mean():7.4f} {areas[:, 0].min():7.4f} {areas[:, 1].mean():7.4f}")
    if options.json:
        options.json.write_text(json.dumps({name: each.tolist() for name, each in found.items()}), encoding="utf-8")


if __name__ == "__main__":
    main()
