"""Made-up drifts of signals: what happens to instruments after a model was trained."""

import numpy as np

DRIFTS = ("offset 5 sd", "gain 0.5", "gain 2", "ramp", "one channel re-zeroed", "sentinel")
SENTINEL = -99999.0
"""What broken loggers write where they have no value."""
SENTINEL_SHARE = 0.01


def drifted(values: np.ndarray, kind: str, mean: np.ndarray, sd: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The recording [length, channels] under a drift; `mean` and `sd` are of each channel in training data.

    Offset and ramp move all channels, by 5 standard deviations or from 0 to as many; a gain stretches what differs from
    the mean; re-zeroing moves one channel by 3 from the middle on; one sample in a hundred becomes `SENTINEL`.
    """
    length, channels = values.shape
    if kind == "offset 5 sd":
        return np.asarray(values + 5 * sd)
    if kind.startswith("gain "):
        return np.asarray(mean + float(kind.removeprefix("gain ")) * (values - mean))
    if kind == "ramp":
        return np.asarray(values + 5 * sd * np.linspace(0, 1, length)[:, None])
    moved = values.copy()
    if kind == "one channel re-zeroed":
        channel = int(rng.integers(channels))
        moved[length // 2 :, channel] -= 3 * sd[channel]
    elif kind == "sentinel":
        moved[(rng.random(values.shape) < SENTINEL_SHARE) & ~np.isnan(values)] = SENTINEL
    else:
        raise ValueError(f"unknown drift {kind!r}; there are {', '.join(DRIFTS)}")
    return moved
