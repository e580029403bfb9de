"""How well a score separates abnormal records from normal ones: at the best threshold, and at those that find most."""

import numpy as np
from jaxtyping import Bool, Float


def best_f1(labels: Bool[np.ndarray, " records"], scores: Float[np.ndarray, " records"]) -> float:
    """The highest F1 of any threshold; that of calling all abnormal is 2p / (1 + p) at prevalence p."""
    hits, found = _found(labels, scores)
    return float((2 * hits / (found + labels.sum())).max()) if labels.any() else float("nan")


def false_alarms(labels: Bool[np.ndarray, " records"], scores: Float[np.ndarray, " records"], recall: float) -> float:
    """The share of normal records that score as high as this share of the abnormal ones does."""
    hits, found = _found(labels, scores)
    enough = np.flatnonzero(hits >= recall * labels.sum())
    normal = int((~labels).sum())
    return float((found - hits)[enough[0]] / normal) if normal and labels.any() else float("nan")


def _found(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each threshold, the highest first: abnormal records and all records that reach it."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    return np.cumsum(labels[order])[last].astype(np.float64), last + 1.0
