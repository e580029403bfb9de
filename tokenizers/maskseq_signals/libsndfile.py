"""Sound that is compressed, read with libsndfile (the package `soundfile`, in the extra `signals`)."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from maskseq.errors import DataError, UsageError
from maskseq.files import refuse_bomb

CHUNK = 1 << 18
"""Samples that are decompressed at a time; libsndfile fails at blocks of 2**24."""


@contextmanager
def opened(content: bytes, path: Path, what: str) -> Iterator[Any]:
    """A `soundfile.SoundFile`; what is wrong with it is a `DataError`."""
    try:
        soundfile = import_module("soundfile")
    except (ImportError, OSError):  # OSError: it is here, but libsndfile is not
        raise UsageError(
            f"{path}: reading {what} needs soundfile\n\nhint: pip install 'maskseq[signals]'", code="missing-extra"
        ) from None
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as stream:
            yield stream
    except soundfile.SoundFileError as error:
        problem = str(getattr(error, "error_string", error)).rstrip(".\n").lower()
        raise DataError(path, f"libsndfile cannot read it as {what} ({problem})") from None


def decompressed(stream: Any, dtype: str, path: Path, packed: int) -> Integer[np.ndarray, "samples channels"]:
    """All samples, in the highest bits of `dtype`; `packed` bytes may not become absurdly many."""
    chunks, size = [], 0
    while len(chunk := stream.read(CHUNK, dtype=dtype, always_2d=True)):
        chunks.append(chunk)
        size += chunk.nbytes
        refuse_bomb(path, packed, size)
    return np.concatenate(chunks) if chunks else np.zeros((0, stream.channels), dtype=dtype)
