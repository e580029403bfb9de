"""Abnormal sessions of a file system among normal ones that were not seen either: AUROC and F1, beside simple scores.

    python benchmarks/hdfs_anomaly.py hdfs_train hdfs_test_abnormal --output runs/hdfs-anomaly

Both files are from DeepLog's repository (see recipes/hdfs.toml). Equal normal sessions count once; the first 80 % of
them are for training, of which the recipe holds a tenth out; the threshold of each score is exceeded by 5 % of that
tenth. The rest of the normal sessions and all abnormal ones are judged. A session's score is the mean or the maximum of
the bits of its events, each given the others, the end being one of them: of the model, and of what it has to beat.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import maskseq
from maskseq.baselines.baselines import Baselines
from maskseq.calibration.stored import held_out_records
from maskseq.corpus.reader import Corpus
from maskseq.scoring.score import Score, score_records
from maskseq.trained import load
from maskseq.types import OTHER, Encoded
from maskseq_events.case import Case
from maskseq_events.sessions import Sessions

RECIPE = Path(__file__).parents[1] / "recipes" / "hdfs.toml"
TRAINING, QUANTILE = 0.8, 0.95
WAYS = {"mean": np.nanmean, "maximum": np.nanmax}


def distinct(path: Path) -> dict[str, int]:
    """How often each session of a file occurs, in the order of first occurrence."""
    return Counter(" ".join(case.activity) for case in Sessions().read(path))


def figures(
    held_out: np.ndarray, normal: np.ndarray, abnormal: np.ndarray, times: np.ndarray
) -> tuple[float, float, float, float]:
    """AUROC, and F1, found and false alarms beyond the threshold; `times` says how often abnormal sessions occur."""
    labels = np.repeat([0, 1], [len(normal), len(abnormal)])
    weights = np.concatenate([np.ones(len(normal)), times])
    area = roc_auc_score(labels, np.concatenate([normal, abnormal]), sample_weight=weights)
    threshold = np.quantile(held_out, QUANTILE)
    hits, missed = times[abnormal > threshold].sum(), times[abnormal <= threshold].sum()
    alarms = np.count_nonzero(normal > threshold)
    return float(area), float(2 * hits / (2 * hits + alarms + missed)), hits / times.sum(), alarms / len(normal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("normal", type=Path)
    parser.add_argument("abnormal", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/hdfs-anomaly"))
    parser.add_argument("--set", action="append", default=[], help="a key of the recipe")
    parser.add_argument("--stride", type=int, action="append", help="hide one event of so many (default: 8)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    options.stride = options.stride or [8]
    normal = list(distinct(options.normal))
    n_train = int(TRAINING * len(normal))
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "train.sessions"
    file.write_text("\n".join(normal[:n_train]) + "\n", encoding="utf-8")
    folder = options.output / "run"
    maskseq.pretrain(RECIPE, output=folder, overrides=[f'data.files=["{file.resolve()}"]', *options.set])
    run, corpus = load(folder), Corpus.open(folder / "corpus")
    tokenizer = run.tokenizer

    def encoded(sessions: Iterable[str]) -> list[tuple[str, Encoded]]:
        cases = ((s, tuple(s.split())) for s in sessions)
        empty = np.zeros(0, np.int64)
        return [(key, tokenizer.encode(Case(key=key, activity=keys, time=empty, offset=empty))) for key, keys in cases]

    abnormal = distinct(options.abnormal)
    parts = [list(held_out_records(corpus)), encoded(normal[n_train:]), encoded(abnormal)]
    times = np.array(list(abnormal.values()))
    baselines = Baselines(corpus.training_ids(), tokenizer, 5)
    rows = {}
    context = run.model.config.max_positions
    requested = {f"model, 1 of {stride} hidden": (run.predict(), stride) for stride in options.stride}
    for name, (predict, stride) in (requested | {name: (each, 8) for name, each in baselines.predicts.items()}).items():
        scored: list[list[Score]] = [
            list(score_records(predict, part, tokenizer=tokenizer, context=context, stride=stride)) for part in parts
        ]
        for way, over in WAYS.items():
            rows[f"{name}, {way}"] = figures(*(np.array([over(each.bits) for each in part]) for part in scored), times)
    other = tokenizer.fields[0].control_id(OTHER)
    unseen = [np.array([float((each.ids == other).any()) for _, each in part]) for part in parts]
    rows["an unseen key"] = figures(*unseen, times)
    rows["everything is abnormal"] = figures(*(np.zeros(len(p)) - (i == 0) for i, p in enumerate(parts)), times)

    counts = dict(zip(("held out", "normal", "abnormal, distinct"), map(len, parts), strict=True))
    counts["abnormal"] = int(times.sum())
    if options.json:
        print(json.dumps({"sessions": counts, "AUROC, F1, found, false alarms": rows}))
        return
    print(counts)
    print(f"{'score':32} {'AUROC':>8} {'F1':>8} {'found':>8} {'false alarms':>14}")
    for name, (area, f1, found, alarms) in rows.items():
        print(f"{name:32} {area:8.4f} {f1:8.4f} {found:8.1%} {alarms:14.1%}")


if __name__ == "__main__":
    main()
