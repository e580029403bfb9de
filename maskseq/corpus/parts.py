"""One part of a corpus: a bounded number of records, tokenized, immutable, checked by digests.

    parts/<build>/000000.zarr/
      part.json     counts, skipped records, the part of the split if its records were given as one, and of every other
                  file its size and one digest for each 64 KiB
      tokens        [positions, fields], the narrowest unsigned dtype; sharded, bit-shuffled zstd, crc32c
      weights       [positions, fields] float32, only where a tokenizer gives loss weights
      numbers       [positions, fields] float64, what ordinal cells were rounded from, NaN elsewhere; only where a
                    tokenizer gives them
      cell_units    [positions, fields, 2] raw units of each cell, only where a tokenizer gives them with the ids
      offsets       [records + 1] first position of each record
      units         [records] raw units of each record
      hashes        [records, 2] of the key, and of the ids up to the declared symmetries
      keys, key_offsets   UTF-8 bytes, and where each key begins
      unknown       [runs, 2] first position and end of each long run of unknown ones, only where there are any
      variants      [records] int8: 0 for a record as it is, n for its n-th variant, -n where that runs backwards,
                    n + 64 where its raw units are others; only where there are any, behind the record that they are
                    variants of
      spans         [records, 2] start and end time in seconds, only where every record has a time
      groups        [records] uint64, equal for records that the split keeps together, 0 for a record that belongs to
                    no others; only where it is to keep some together
      moments       [raw units of records as they are] when each was, in seconds, NaN where that is not known; only for
                    a split by time

A part is a pure function of its records and the tokenizer, so any engine, order or retry gives the same bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, Shaped, UInt8, UInt64

from maskseq.corpus.manifest import check_summary
from maskseq.corpus.split_config import PARTS, TRAIN
from maskseq.errors import DataError, MaskseqError
from maskseq.storage.folder import BLOCK, SEAL, Folder, block_digests, digest, to_json
from maskseq.types import Encoded

EXAMPLES = 10
"""Skipped records that are quoted; all are counted."""
PAYLOAD = ("tokens/c/", "weights/c/", "numbers/c/", "cell_units/c/")
"""Files that zarr's crc32c guards while reading; all others are small and are checked whole."""


def part_name(index: int) -> str:
    return f"{index:06d}.zarr"


class Part:
    """A finished part, opened for reading. Of each array the small files are checked when it is first used."""

    def __init__(self, folder: Folder, name: str, expected: str | None = None) -> None:
        """`expected` is the digest of `part.json`, where the manifest is there to say it."""
        self.folder, self.name = folder, name
        self.summary = self._checked_summary(expected)
        self._opened: dict[str, Any] = {}

    @property
    def n_records(self) -> int:
        """Variants included."""
        return int(self.summary["records"])

    @property
    def n_positions(self) -> int:
        return int(self.summary["positions"])

    @property
    def given(self) -> int:
        """The part of the split that its records were given as; 0 where they are to be divided."""
        return next((part for part, name in PARTS.items() if name == self.summary.get("given")), TRAIN)

    @cached_property
    def digest(self) -> str:
        return digest(to_json(self.summary))

    @cached_property
    def offsets(self) -> Int[np.ndarray, "records_plus_1"]:
        return self._array("offsets", self.n_records + 1)

    @cached_property
    def units(self) -> Int[np.ndarray, "records"]:
        return self._array("units", self.n_records)

    @cached_property
    def hashes(self) -> UInt64[np.ndarray, "records 2"]:
        return self._array("hashes", self.n_records)

    @cached_property
    def spans(self) -> Float[np.ndarray, "records 2"] | None:
        return self._array("spans", self.n_records) if self._has("spans") else None

    @cached_property
    def groups(self) -> UInt64[np.ndarray, "records"] | None:
        return self._array("groups", self.n_records) if self._has("groups") else None

    @cached_property
    def moments(self) -> Float[np.ndarray, "own_units"]:
        """NaN where it has none."""
        n_units = int(self.units[self.variants == 0].sum())
        return self._array("moments", n_units) if self._has("moments") else np.full(n_units, np.nan)

    @property
    def has_moments(self) -> bool:
        return self._has("moments")

    @cached_property
    def variants(self) -> Int8[np.ndarray, "records"]:
        return self._array("variants", self.n_records) if self._has("variants") else np.zeros(self.n_records, np.int8)

    @cached_property
    def circular(self) -> Bool[np.ndarray, "records"]:
        """Which records are circles."""
        return self._array("circular", self.n_records) if self._has("circular") else np.zeros(self.n_records, bool)

    @cached_property
    def unknown(self) -> Int[np.ndarray, "runs 2"]:
        return self._array("unknown") if self._has("unknown") else np.empty((0, 2), np.int64)

    def key(self, record: int) -> str:
        start, stop = self._key_offsets[record : record + 2].tolist()
        try:
            return self._keys[start:stop].tobytes().decode()
        except UnicodeDecodeError as error:
            raise self._error(f"the key of record {record + 1} is not UTF-8: {error}") from None

    def read(self, start: int, stop: int, *, numbers: bool = False) -> Encoded:
        """Positions `start:stop` of the part, with their `numbers` if it has some and they are asked for.

        `DataError` with the place when anything there is damaged.
        """
        return Encoded(
            self._span("tokens", start, stop),
            None,
            self._span("weights", start, stop) if self._has("weights") else None,
            self._span("numbers", start, stop) if numbers and self._has("numbers") else None,
            units=self._span("cell_units", start, stop) if self._has("cell_units") else None,
        )

    @property
    def arrays(self) -> set[str]:
        """The names of all that it holds."""
        return {file.partition("/")[0] for file in self.summary["files"] if "/" in file}

    def has(self, array: str, values: Shaped[np.ndarray, "n ..."]) -> bool:
        """Whether it holds such an array with exactly these values."""
        if array not in self.arrays:
            return False
        found = self._array(array)
        return found.dtype == values.dtype and np.array_equal(found, values)

    def problems(self) -> Iterator[str]:
        """Everything in the part that differs from what was written, with file and bytes."""
        for file, entry in self.summary["files"].items():
            yield from (f"{self.folder}/{self.name}: {problem}" for problem in self._damage(file, entry))

    def _span(self, array: str, start: int, stop: int) -> Shaped[np.ndarray, "length ..."]:
        with self._explained(f"{array} {start}:{stop}"):
            span: np.ndarray = self._open(array, self.n_positions)[start:stop]
        n_axes, kinds = {"tokens": (2, "u"), "weights": (2, "f"), "numbers": (2, "f"), "cell_units": (3, "i")}[array]
        if span.ndim != n_axes or len(span) != stop - start or span.dtype.kind not in kinds:
            raise self._error(f"{array} {start}:{stop} has the shape {list(span.shape)} and the type {span.dtype}")
        return span

    def _array(self, name: str, rows: int | None = None) -> Shaped[np.ndarray, "..."]:
        with self._explained(name):
            values: np.ndarray = self._open(name, rows)[:]
        return values

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as missing:
            raise self._error(f"{str(missing).removeprefix(self.name + '/')} is missing") from None
        except MaskseqError:
            raise
        except Exception as error:  # whatever the codecs make of damaged bytes
            problem = str(error).partition("\n")[0] or type(error).__name__
            raise self._error(f"{what} cannot be read: {problem}") from error

    def _open(self, array: str, rows: int | None) -> Any:
        """The array, which must have so many `rows` (None: unknown) before any of it is read."""
        if array not in self._opened:
            import zarr

            for file, entry in self.summary["files"].items():
                if file.startswith(f"{array}/") and not file.startswith(PAYLOAD):
                    for problem in self._damage(file, entry):
                        raise self._error(problem)
            opened = zarr.open_array(store=self.folder.chunks, path=f"{self.name}/{array}", mode="r")
            if not opened.shape or opened.shape[0] != (opened.shape[0] if rows is None else rows):
                raise self._error(f"{array} has the shape {list(opened.shape)}, not {rows} rows")
            self._opened[array] = opened
        return self._opened[array]

    @cached_property
    def _keys(self) -> UInt8[np.ndarray, "bytes"]:
        return self._array("keys", int(self._key_offsets[-1]))

    @cached_property
    def _key_offsets(self) -> Int[np.ndarray, "records_plus_1"]:
        return self._array("key_offsets", self.n_records + 1)

    def _has(self, array: str) -> bool:
        return f"{array}/zarr.json" in self.summary["files"]

    def _checked_summary(self, expected: str | None) -> dict[str, Any]:
        try:
            raw = self.folder.read(f"{self.name}/{SEAL}")
        except FileNotFoundError:
            raise self._error(f"{SEAL} is missing") from None
        if expected is not None and digest(raw) != expected:
            raise self._error(f"{SEAL}, bytes 0-{len(raw)}: does not have the digest that the manifest gives")
        return check_summary(raw, f"{self.folder}/{self.name}/{SEAL}")

    def _damage(self, file: str, entry: dict[str, Any]) -> Iterator[str]:
        try:
            data = self.folder.read(f"{self.name}/{file}")
        except FileNotFoundError:
            yield f"{file} is missing"
            return
        if len(data) != entry["size"]:
            yield f"{file} has {len(data)} bytes instead of {entry['size']}"
        for block, (found, written) in enumerate(zip(block_digests(data), entry["blocks"], strict=False)):
            if found != written:
                yield f"{file}, bytes {block * BLOCK}-{min((block + 1) * BLOCK, entry['size'])}: not what was written"

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self.folder}/{self.name}", problem, code="damaged-file")
