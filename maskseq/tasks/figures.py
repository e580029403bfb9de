"""Figures of a task, with bootstrap intervals over records, and whether one prediction is better than another."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from maskseq.tasks.config import Kind

Metric = Callable[[Float[np.ndarray, "answers columns"], Float[np.ndarray, "answers predicted"]], float]
DRAWS, LEVEL = 500, 0.95


@dataclass(frozen=True)
class Figure:
    """A metric of the data at hand, and between which values it lies in 95 % of the draws of as many records."""

    value: float
    low: float
    high: float

    def to_json(self) -> list[float]:
        return [self.value, self.low, self.high]


@dataclass(frozen=True)
class FigureComparison:
    """How much better the first prediction is than the second, by the task's first metric: paired over records."""

    metric: str
    difference: Figure
    """Above 0: the first is better."""

    @property
    def words(self) -> str:
        """`better`, `worse` or `not told apart`."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "not told apart"

    def to_json(self) -> dict[str, Any]:
        return {"metric": self.metric, "difference": self.difference.to_json(), "verdict": self.words}


def metrics_of(kind: Kind) -> dict[str, Metric]:
    """The metrics of a kind of task, by name; the first one decides comparisons."""
    if kind == "regression":
        return {"rmse": rmse, "mae": mae, "r2": r2}
    if kind == "multilabel":
        return {"auprc": _by_label(average_precision), "auroc": _by_label(auroc), "f1": f1_of_labels, "accuracy": exact}
    return {"mcc": mcc, "accuracy": accuracy, "f1": f1, "auroc": auroc_of_classes, "auprc": auprc_of_classes}


LOWER_IS_BETTER = frozenset({"rmse", "mae"})


def figures(
    kind: Kind,
    targets: Float[np.ndarray, "answers columns"],
    predictions: Float[np.ndarray, "answers predicted"],
    records: Int[np.ndarray, " answers"],
    *,
    seed: int = 0,
) -> dict[str, Figure]:
    """Every metric with its interval; `records` numbers the record that an answer belongs to."""
    values: dict[str, list[float]] = {name: [] for name in metrics_of(kind)}
    for drawn in bootstrap(records, seed=seed):
        for name, metric in metrics_of(kind).items():
            values[name].append(metric(targets[drawn], predictions[drawn]))
    return {name: _figure(metric(targets, predictions), values[name]) for name, metric in metrics_of(kind).items()}


def compare(
    kind: Kind,
    targets: Float[np.ndarray, "answers columns"],
    first: Float[np.ndarray, "answers predicted"],
    second: Float[np.ndarray, "answers predicted"],
    records: Int[np.ndarray, " answers"],
    *,
    seed: int = 0,
) -> FigureComparison:
    """Both predictions on the same draws of records."""
    name, metric = next(iter(metrics_of(kind).items()))
    sign = -1.0 if name in LOWER_IS_BETTER else 1.0

    def difference(chosen: Int[np.ndarray, " drawn"] | slice) -> float:
        return sign * (metric(targets[chosen], first[chosen]) - metric(targets[chosen], second[chosen]))

    return FigureComparison(
        name, _figure(difference(slice(None)), [difference(d) for d in bootstrap(records, seed=seed)])
    )


def bootstrap(records: Int[np.ndarray, " answers"], *, seed: int = 0, draws: int = DRAWS) -> Iterator[np.ndarray]:
    """Indices of answers, record by record with replacement: answers of one record come and go together.

    None of a single record, of which no interval can be drawn.
    """
    names, inverse = np.unique(records, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(names)))
    members = np.split(order, ends[:-1])
    rng = np.random.default_rng((seed, 4))
    alone = len(names) == len(records)
    for _ in range(draws if len(names) > 1 else 0):
        drawn = rng.integers(len(names), size=len(names))
        yield order[drawn] if alone else np.concatenate([members[i] for i in drawn])


def _figure(value: float, draws: list[float]) -> Figure:
    known = np.array([draw for draw in draws if np.isfinite(draw)])
    if not len(known):
        return Figure(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Figure(value, low, high)


# ---- of numbers ----------------------------------------------------------------------------------------------------


def rmse(targets: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.sqrt(np.mean((targets[:, 0] - predictions[:, 0]) ** 2)))


def mae(targets: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean(np.abs(targets[:, 0] - predictions[:, 0])))


def r2(targets: np.ndarray, predictions: np.ndarray) -> float:
    """1 − squared error ÷ variance; NaN where all targets are the same."""
    spread = float(np.sum((targets[:, 0] - targets[:, 0].mean()) ** 2))
    return 1 - float(np.sum((targets[:, 0] - predictions[:, 0]) ** 2)) / spread if spread else float("nan")


# ---- of one class each ---------------------------------------------------------------------------------------------


def accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean(predictions.argmax(axis=1) == targets[:, 0]))


def mcc(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews correlation, of any number of classes (Gorodkin 2004); 0 where all is one class."""
    n = predictions.shape[1]
    counts = np.bincount(targets[:, 0].astype(int) * n + predictions.argmax(axis=1), minlength=n * n).reshape(n, n)
    true, reported, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    covariance = float(np.trace(counts) * total - true @ reported)
    spread = float(total**2 - true @ true) * float(total**2 - reported @ reported)
    return covariance / spread**0.5 if spread > 0 else 0.0


def f1(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Of two classes that of the positive one; of more the mean over the classes that occur or are predicted."""
    reported, true, n = predictions.argmax(axis=1), targets[:, 0].astype(int), predictions.shape[1]
    if n == 2:
        return _f1(true == 1, reported == 1)
    return float(
        np.mean([_f1(true == c, reported == c) for c in range(n) if (true == c).any() or (reported == c).any()])
    )


def auroc_of_classes(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Of two classes that of the positive one; of more the mean of each class against the others."""
    return _of_classes(auroc, targets, predictions)


def auprc_of_classes(targets: np.ndarray, predictions: np.ndarray) -> float:
    """The same of the average precision."""
    return _of_classes(average_precision, targets, predictions)


def auroc(true: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a positive has the higher score, ties counted half; NaN without both classes."""
    positive = true.astype(bool)
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of those that tie
    return float((rank[inverse][positive].sum() - n * (n + 1) / 2) / (n * m))


def average_precision(true: np.ndarray, scores: np.ndarray) -> float:
    """Σ (recall − recall before) · precision over falling thresholds; NaN without a positive."""
    positive = true.astype(bool)
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # the last of those that tie
    found = np.cumsum(positive[order])[last]
    return float(np.sum(np.diff(found, prepend=0) / positive.sum() * found / (last + 1)))


def _of_classes(metric: Metric, targets: np.ndarray, predictions: np.ndarray) -> float:
    true = targets[:, 0].astype(int)
    if predictions.shape[1] == 2:
        return metric(true == 1, predictions[:, 1])
    values = [metric(true == c, predictions[:, c]) for c in range(predictions.shape[1]) if (true == c).sum() > 0]
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _f1(true: np.ndarray, reported: np.ndarray) -> float:
    both = float((true & reported).sum())
    either = float(true.sum() + reported.sum())
    return 2 * both / either if either else 0.0


# ---- of sets of labels ---------------------------------------------------------------------------------------------


def f1_of_labels(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Over all labels of all records together (micro)."""
    return _f1(targets > 0.5, predictions > 0.5)


def exact(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Share of the records whose set is right as a whole."""
    return float(np.mean(((targets > 0.5) == (predictions > 0.5)).all(axis=1)))


def _by_label(metric: Metric) -> Metric:
    def mean(targets: np.ndarray, predictions: np.ndarray) -> float:
        values = [metric(targets[:, c], predictions[:, c]) for c in range(targets.shape[1])]
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    return mean


def plain(found: Mapping[str, Figure]) -> dict[str, list[float]]:
    """For JSON: value, low and high of each metric."""
    return {name: each.to_json() for name, each in found.items()}
