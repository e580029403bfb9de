"""Long runs of positions of which nothing is known, such as the megabases of N in an assembled genome.

A build records them along with the tokens; the split cuts sequences there, so that no window is spent on them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from maskseq.errors import UsageError

RECORDED = 32
"""Positions from which on a run is recorded; whatever is cut out is longer."""


@dataclass(frozen=True, kw_only=True)
class UnknownRuns:
    """Where sequences are cut: at long runs of positions that are unknown in every field."""

    cut_from: int = 64
    """Length, in positions, from which on a run is cut out; 0: none is."""
    margin: int = 16
    """Positions of the run that stay on either side, so that the edge of the unknown is learned from, too."""

    def __post_init__(self) -> None:
        least = max(RECORDED, 2 * self.margin + 1)
        if self.margin < 0 or 0 != self.cut_from < least:
            raise UsageError(
                f"unknown: cut_from = {self.cut_from} and margin = {self.margin}; give a margin of 0 or more, and for "
                f"cut_from 0 (never) or at least {least}: {RECORDED}, and more than two margins",
                code="bad-option",
            )


def find_runs(
    unknown: Bool[np.ndarray, "positions"], offsets: Int[np.ndarray, "records_plus_1"]
) -> Int[np.ndarray, "runs 2"]:
    """Start and stop of each run of at least `RECORDED` positions that lies within one record."""
    edge = np.zeros(len(unknown) + 1, bool)
    edge[offsets] = True
    padded = np.concatenate([[False], unknown, [False]])
    changes = edge | (padded[1:] != padded[:-1])
    ends = np.flatnonzero(changes & padded[:-1])
    starts = np.flatnonzero(changes & padded[1:])
    runs = np.stack([starts, ends], axis=1).astype(np.int64)
    return runs[ends - starts >= RECORDED]


def cut_out(
    segments: Int[np.ndarray, "segments 2"], runs: Int[np.ndarray, "runs 2"], config: UnknownRuns
) -> Int[np.ndarray, "more_segments 2"]:
    """The (start, stop) of what is left of each segment; both are sorted, and segments do not overlap.

    A run that reaches beyond a segment leaves no margin there: no sequence begins or ends with it.
    """
    runs = runs[runs[:, 1] - runs[:, 0] >= (config.cut_from or np.inf)]
    if not len(runs):
        return segments
    first = np.searchsorted(segments[:, 1], runs[:, 0], side="right")
    last = np.searchsorted(segments[:, 0], runs[:, 1], side="left")
    of = np.repeat(np.arange(len(runs)), last - first)  # pairs of a run and a segment that it meets
    segment = np.arange(len(of)) - np.repeat(np.cumsum(last - first) - last, last - first)
    start, stop = segments[segment].T
    run_start, run_stop = runs[of].T
    gone_from = np.where(run_start <= start, start, np.minimum(run_start + config.margin, stop))
    gone_to = np.where(run_stop >= stop, stop, np.maximum(run_stop - config.margin, start))
    real = gone_from < gone_to
    starts = np.sort(np.concatenate([segments[:, 0], gone_to[real]]))
    stops = np.sort(np.concatenate([segments[:, 1], gone_from[real]]))
    left = np.stack([starts, stops], axis=1)
    return left[starts < stops]
