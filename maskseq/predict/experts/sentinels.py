"""Visible numbers that are no measurements: what loggers write where they have no value, and single wild ones.

Each is compared with what its record says without it: the median of its field, and the line between its known
neighbours. A drift, a step or a peak passes, because both move with it.
"""

import numpy as np
from jaxtyping import Bool, Float

from maskseq.predict.experts.imputers import Values

FAR = 15.0
"""Scales from the median of the window: no drift within a window is as large."""
WILD = 12.0
"""Scales of the window's own leave-one-out errors, and half as many standard deviations of training."""
MOST = 0.25
"""Of a field's known numbers: more are no exceptions."""
NORMAL = 1.4826
"""Standard deviations of a Gaussian in its median absolute deviation."""


def sentinels(values: Values, std: Float[np.ndarray, " fields"]) -> Bool[np.ndarray, "length fields"]:
    """Which known numbers to reject; `std` are standard deviations of training."""
    found = np.zeros(values.shape, bool)
    for field, column in enumerate(values.T):
        (known,) = np.nonzero(~np.isnan(column))
        if len(known) < 3:
            continue
        x = column[known]
        off = np.abs(x - np.median(x))
        wrong = off > FAR * max(float(std[field]), NORMAL * float(np.median(off)))
        rest = np.flatnonzero(~wrong)
        if len(rest) > 2:
            at, y = known[rest], x[rest]
            share = (at[1:-1] - at[:-2]) / (at[2:] - at[:-2])
            error = np.abs(y[1:-1] - (1 - share) * y[:-2] - share * y[2:])
            least = max(WILD / 2 * float(std[field]), WILD * NORMAL * float(np.median(error)))
            # Beside a wild number its neighbours err as well, by half of it or less.
            alone = error >= np.maximum(np.append(error[1:], 0), np.append(0, error[:-1]))
            wrong[rest[1:-1][(error > least) & alone]] = True
        if np.count_nonzero(wrong) <= MOST * len(known):
            found[known[wrong], field] = True
    return found
