"""64-bit digests, and random numbers that depend on a key alone, for millions of items at once."""

import hashlib

import numpy as np
from jaxtyping import UInt64


def hash64(data: bytes | memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def mixed(values: UInt64[np.ndarray, "n"], key: tuple[int, ...]) -> UInt64[np.ndarray, "n"]:
    """Uniform 64-bit numbers, a pure function of each value and the key.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195), twice, with a keyed offset
    before each.
    """
    first, second = np.random.SeedSequence(key).generate_state(2, np.uint64)
    return _finalise(_finalise(values + first) ^ second)


def _finalise(z: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
