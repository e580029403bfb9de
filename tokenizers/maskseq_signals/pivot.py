"""Tables of a row a measurement: a column says which channel a value is of. Rows of one time become one time step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from maskseq_signals.texts import Texts


@dataclass(frozen=True)
class Pivoted:
    """Time steps of several channels."""

    values: Float64[np.ndarray, "steps channels"]
    rows: Int64[np.ndarray, "steps channels"]
    """The row of each value, -1 where there is none."""
    times: Texts
    names: tuple[str, ...]
    owned: tuple[tuple[str, Int64[np.ndarray, "_"]], ...]
    """The steps of each recording."""
    again: Int64[np.ndarray, "_"]
    """Rows that measure once more what another row says of this time."""

    @property
    def missing(self) -> int:
        """Values that no row says."""
        return int(np.count_nonzero(self.rows < 0))


def pivoted(
    values: Float64[np.ndarray, " rows"],
    times: Sequence[str],
    groups: Iterable[tuple[str, str, Int64[np.ndarray, "_"]]],
) -> Pivoted:
    """`groups` are the rows of each recording and channel, which come in the order of their first rows."""
    parts = list(groups)
    names = list(dict.fromkeys(name for _, name, _ in parts))
    step_of: dict[tuple[str, str], int] = {}
    at = np.full(len(values), -1)
    channel_of = np.zeros(len(values), np.int64)
    keys = [""] * len(values)
    for key, name, rows in parts:
        channel_of[rows] = names.index(name)
        for row in rows.tolist():
            keys[row] = key
            at[row] = 0
    steps: dict[str, list[int]] = {}
    moments = []
    for row in np.flatnonzero(at == 0).tolist():
        own = keys[row], times[row].strip()
        if own not in step_of:
            step_of[own] = len(step_of)
            moments.append(times[row])
            steps.setdefault(own[0], []).append(step_of[own])
        at[row] = step_of[own]
    found = np.full((len(step_of), len(names)), -1)
    known = np.flatnonzero(at >= 0)[::-1]  # the first of several rows is written last
    found[at[known], channel_of[known]] = known
    measured = np.where(found < 0, np.nan, values[found])
    again = np.setdiff1d(known, found)
    owned = tuple((key, np.array(of)) for key, of in steps.items())
    return Pivoted(measured, found, Texts.of(moments), tuple(names), owned, again)
