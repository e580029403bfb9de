"""How samples of sound are stored: as integers, as floats, or by the logarithmic laws of telephones (G.711)."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64, UInt8

from maskseq_signals.integers import little_endian

PCM, FLOAT, A_LAW, MU_LAW = 1, 3, 6, 7
"""The numbers by which WAV calls them."""
WIDTHS = {PCM: (1, 2, 3, 4), FLOAT: (4, 8), A_LAW: (1,), MU_LAW: (1,)}
"""Bytes a sample."""


@dataclass(frozen=True)
class Coding:
    """One way to store samples, which are from -1 to 1 here."""

    kind: int
    width: int

    def decode(self, samples: UInt8[np.ndarray, "samples width"]) -> Float64[np.ndarray, "samples"]:
        if self.kind == FLOAT:
            with np.errstate(invalid="ignore"):  # a NaN that signals is a NaN
                return np.asarray(samples.view(f"<f{self.width}")[:, 0], dtype=np.float64)
        if self.kind != PCM:
            return np.asarray(_law(self.kind)[samples[:, 0]])
        if self.width == 1:  # stored unsigned
            return (samples[:, 0].astype(np.float64) - 128) / 128
        return little_endian(samples) / self._full_scale

    def encode(self, values: Float64[np.ndarray, "samples"]) -> UInt8[np.ndarray, "samples width"]:
        """The nearest that can be stored; integers cannot go beyond full scale."""
        if self.kind == FLOAT:
            with np.errstate(over="ignore"):
                return np.ascontiguousarray(values.astype(f"<f{self.width}")[:, None]).view(np.uint8)
        if self.kind != PCM:
            order = np.argsort(_law(self.kind), kind="stable")
            levels = _law(self.kind)[order]
            return order[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)].astype(np.uint8)[:, None]
        full = self._full_scale
        digital = np.clip(np.rint(values * full), -full, full - 1).astype(np.int64)
        if self.width == 1:
            return (digital + 128).astype(np.uint8)[:, None]
        return digital.astype("<i4").reshape(-1, 1).view(np.uint8)[:, : self.width]

    @property
    def _full_scale(self) -> float:
        return float(1 << (8 * self.width - 1))


@cache
def _law(kind: int) -> Float64[np.ndarray, "256"]:
    """What each byte stands for: a sign, three bits of exponent and four of mantissa, some of them inverted."""
    codes = np.arange(256) ^ (0x55 if kind == A_LAW else 0xFF)
    exponent, mantissa = codes >> 4 & 7, codes & 15
    if kind == A_LAW:
        size = np.where(exponent > 0, mantissa * 16 + 264 << np.maximum(exponent - 1, 0), mantissa * 16 + 8)
        return np.where(codes & 0x80, size, -size) / 32768
    size = (mantissa * 8 + 132 << exponent) - 132
    return np.where(codes & 0x80, -size, size) / 32768
