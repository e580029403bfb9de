"""Integers as files store them."""

import numpy as np
from jaxtyping import Integer, UInt8


def little_endian(samples: UInt8[np.ndarray, "samples width"]) -> Integer[np.ndarray, "samples"]:
    """Two's complement of 2, 3 or 4 bytes."""
    width = samples.shape[1]
    if width == 2:
        return np.ascontiguousarray(samples).view("<i2")[:, 0].astype(np.int16, copy=False)
    wide = np.zeros((len(samples), 4), dtype=np.uint8)
    wide[:, 4 - width :] = samples
    return np.asarray(wide.view("<i4")[:, 0] >> (8 * (4 - width)), dtype=np.int32)
