"""One part of a corpus: a bounded number of records, tokenized, immutable, checked by digests.

    parts/<build>/000000.zarr/
      part.json     counts, skipped records, and of every other file its size and one digest for each 64 KiB
      tokens        [positions, fields], the narrowest unsigned dtype; sharded, bit-shuffled zstd, crc32c
      weights       [positions, fields] float32, only where a tokenizer gives loss weights
      offsets       [records + 1] first position of each record
      units         [records] raw units of each record
      hashes        [records, 2] of the key, and of the ids up to the declared symmetries
      keys, key_offsets   UTF-8 bytes, and where each key begins
      spans         [records, 2] start and end time in seconds, only where every record has a `span()`

A part is a pure function of its records and the tokenizer, so any engine, order or retry gives the same bytes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Integer, Shaped, UInt8, UInt64

from maskseq.data.storage import BLOCK, Folder, block_digests, digest, sync, sync_tree, to_json
from maskseq.errors import DataError, UsageError
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import Encoded, Record

CHUNK_BYTES = 1 << 19  # what one read call decodes at least: smaller chunks drown in the ~1 ms that a call costs
SHARD_CHUNKS = 64
HASH_CHUNK = 1 << 22  # positions that are transformed at a time to find the duplicates of long records
EXAMPLES = 10
OnError = Literal["stop", "skip"]
PAYLOAD = ("tokens/c/", "weights/c/")
"""Files that zarr's crc32c guards while reading; all others are small and checked whole when a part is opened."""


def write_part(parts: Path, index: int, records: Sequence[Record], tokenizer: Tokenizer[Any], on_error: OnError) -> str:
    """Encode `records` and write them as part `index`; returns its name. Nothing half-written is ever seen."""
    name = part_name(index)
    aside = parts / f".{name}.{os.getpid()}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        kept, encoded, skipped = _encode(records, tokenizer, on_error)
        _write_arrays(aside, kept, encoded, tokenizer)
        summary = {
            "records": len(kept),
            "positions": sum(len(e) for e in encoded),
            "units": sum(len(r) for r in kept),
            "skipped": {"records": len(skipped), "examples": skipped[:EXAMPLES]},
            "files": {file: _file_entry(aside / file) for file in _files(aside)},
        }
        (aside / "part.json").write_bytes(to_json(summary))
        sync_tree(aside)
        _rename_unless_there(aside, parts / name)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)  # a full disk gets its space back
        raise
    return name


def _rename_unless_there(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(aside)  # another try of the same part was faster; its bytes are the same
    sync(target.parent)


def part_name(index: int) -> str:
    return f"{index:06d}.zarr"


class Part:
    """A finished part, opened for reading: small files are checked at once, token chunks as they are read."""

    def __init__(self, folder: Folder, name: str, expected: str | None = None, *, check: bool = True) -> None:
        self.folder, self.name = folder, name
        self.summary = self._checked_summary(expected)
        if check:
            for file, entry in self.summary["files"].items():
                if file.startswith(PAYLOAD):
                    self._require_size(file, entry["size"])
                elif problem := next(self._damage(file, entry), None):
                    raise self._error(problem)

    @property
    def n_records(self) -> int:
        return int(self.summary["records"])

    @property
    def n_positions(self) -> int:
        return int(self.summary["positions"])

    @cached_property
    def digest(self) -> str:
        return digest(to_json(self.summary))

    @cached_property
    def offsets(self) -> Int[np.ndarray, "records_plus_1"]:
        return self._array("offsets")

    @cached_property
    def units(self) -> Int[np.ndarray, "records"]:
        return self._array("units")

    @cached_property
    def hashes(self) -> UInt64[np.ndarray, "records 2"]:
        return self._array("hashes")

    @cached_property
    def spans(self) -> Float[np.ndarray, "records 2"] | None:
        return self._array("spans") if self._has("spans") else None

    def key(self, record: int) -> str:
        start, stop = self._key_offsets[record : record + 2]
        return self._keys[start:stop].tobytes().decode()

    def read(self, start: int, stop: int) -> Encoded:
        """Positions `start:stop` of the part; `DataError` with the place when anything there is damaged."""
        return Encoded(
            self._span("tokens", start, stop),
            None,
            self._span("weights", start, stop) if self._has("weights") else None,
        )

    def problems(self) -> Iterator[str]:
        """Everything in the part that differs from what was written, with file and bytes."""
        for file, entry in self.summary["files"].items():
            yield from (f"{self.folder}/{self.name}: {problem}" for problem in self._damage(file, entry))

    def _span(self, array: str, start: int, stop: int) -> Shaped[np.ndarray, "length fields"]:
        for file, entry in self.summary["files"].items():
            if file.startswith(f"{array}/c/"):  # zarr would read a missing shard as zeros
                self._require_size(file, entry["size"])
        try:
            span: np.ndarray = self._open(array)[start:stop]
        except Exception as error:  # whatever the codecs make of damaged bytes
            raise self._error(f"{array} {start}:{stop} cannot be read: {error}") from error
        return span

    def _array(self, name: str) -> Shaped[np.ndarray, "..."]:
        try:
            values: np.ndarray = self._open(name)[:]
        except Exception as error:
            raise self._error(f"{name} cannot be read: {error}") from error
        return values

    def _open(self, name: str) -> Any:
        if name not in self._opened:
            import zarr

            self._opened[name] = zarr.open_array(store=self.folder.store, path=f"{self.name}/{name}", mode="r")
        return self._opened[name]

    @cached_property
    def _opened(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _keys(self) -> UInt8[np.ndarray, "bytes"]:
        return self._array("keys")

    @cached_property
    def _key_offsets(self) -> Int[np.ndarray, "records_plus_1"]:
        return self._array("key_offsets")

    def _has(self, array: str) -> bool:
        return f"{array}/zarr.json" in self.summary["files"]

    def _checked_summary(self, expected: str | None) -> dict[str, Any]:
        try:
            raw = self.folder.read(f"{self.name}/part.json")
        except FileNotFoundError:
            raise self._error("part.json is missing") from None
        if expected is not None and digest(raw) != expected:
            raise self._error(f"part.json, bytes 0-{len(raw)}: does not have the digest that the manifest gives")
        summary: dict[str, Any] = json.loads(raw)
        return summary

    def _require_size(self, file: str, size: int) -> None:
        try:
            found = self.folder.size(f"{self.name}/{file}")
        except FileNotFoundError:
            raise self._error(f"{file} is missing") from None
        if found != size:
            raise self._error(f"{file} has {found} bytes instead of {size}")

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
        return DataError(f"{self.folder}/{self.name}", problem)


def _encode(
    records: Sequence[Record], tokenizer: Tokenizer[Any], on_error: str
) -> tuple[list[Record], list[Encoded], list[str]]:
    kept, encoded, skipped = [], [], []
    for record in records:
        try:
            result = tokenizer.encode(record)
            if not len(result):
                raise ValueError("it has no tokens")
        except ValueError as error:  # DataError is one
            if on_error == "stop":
                raise error if isinstance(error, DataError) else DataError(record.key, str(error)) from error
            skipped.append(f"{record.key}: {error}")
            continue
        encoded.append(_checked(result, record, tokenizer))
        kept.append(record)
    return kept, encoded, skipped


def _checked(encoded: Encoded, record: Record, tokenizer: Tokenizer[Any]) -> Encoded:
    """Narrowed to the vocabulary's dtype, after a look at what a plug-in may have got wrong."""
    ids, weights, vocabulary = encoded.ids, encoded.weights, tokenizer.vocabulary
    problem = ""
    if ids.ndim != 2 or ids.shape[1] != vocabulary.n_fields:
        problem = f"ids of shape {ids.shape} instead of [length, {vocabulary.n_fields}]"
    elif (ids.min(axis=0) < 0).any() or (ids.max(axis=0) >= np.asarray(vocabulary.n_rows)).any():
        problem = f"ids up to {ids.max(axis=0).tolist()}, but its fields have {list(vocabulary.n_rows)} rows"
    elif weights is not None and (weights.shape != ids.shape or not np.isfinite(weights).all() or weights.min() < 0):
        problem = "loss weights that are not finite, not >= 0, or not of the ids' shape"
    if problem:
        raise UsageError(f"{type(tokenizer).__name__} made of record {record.key!r} {problem}: a bug in the tokenizer")
    return Encoded(ids.astype(vocabulary.dtype, copy=False), None, weights)


def _write_arrays(folder: Path, records: list[Record], encoded: list[Encoded], tokenizer: Tokenizer[Any]) -> None:
    import zarr

    vocabulary = tokenizer.vocabulary
    keys = [record.key.encode() for record in records]
    no_ids = np.empty((0, vocabulary.n_fields), vocabulary.dtype)
    zarr.create_group(folder, overwrite=True)
    _write(folder, "tokens", np.concatenate([e.ids for e in encoded] or [no_ids]))
    if any(e.weights is not None for e in encoded):
        weights = [np.ones(e.ids.shape) if e.weights is None else e.weights for e in encoded]
        _write(folder, "weights", np.concatenate(weights).astype(np.float32))
    _write(folder, "offsets", _offsets([len(e) for e in encoded]))
    _write(folder, "units", np.array([len(record) for record in records], np.int64))
    hashes = [(hash64(key), _content_hash(e.ids, tokenizer.symmetries())) for key, e in zip(keys, encoded, strict=True)]
    _write(folder, "hashes", np.array(hashes, np.uint64).reshape(-1, 2))
    _write(folder, "keys", np.frombuffer(b"".join(keys), np.uint8))
    _write(folder, "key_offsets", _offsets([len(key) for key in keys]))
    spans = [span(record) for record in records]
    if spans and all(s is not None for s in spans):
        _write(folder, "spans", np.array(spans, np.float64))


def _write(folder: Path, name: str, values: Shaped[np.ndarray, "n ..."]) -> None:
    import zarr
    from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

    row_bytes = values.dtype.itemsize * int(np.prod(values.shape[1:]))
    chunk = max(CHUNK_BYTES // row_bytes, 1)
    n_chunks = min(-(-len(values) // chunk), SHARD_CHUNKS) or 1
    if n_chunks == 1:
        chunk = max(len(values), 1)
    array = zarr.create_array(
        folder,
        name=name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk, *values.shape[1:]),
        shards=(chunk * n_chunks, *values.shape[1:]),
        compressors=[BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle), Crc32cCodec()],
        config={"write_empty_chunks": True},  # else a shard of zeros "vanishes" and looks like a lost one
    )
    array[:] = values


def _offsets(lengths: list[int]) -> Int[np.ndarray, "n_plus_1"]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def span(record: Record) -> tuple[float, float] | None:
    """Start and end of a record in seconds, for the records that offer a `span()`."""
    method = getattr(record, "span", None)
    return None if method is None else method()


def hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _content_hash(ids: Integer[np.ndarray, "length fields"], symmetries: Sequence[Symmetry[Any]]) -> int:
    """The same for exact duplicates and for images under the symmetries, such as the reverse complement.

    64 bits: among 10⁸ records a chance collision has odds of 1 in 3,700 and would only tie two records together.
    """
    return min(_hash_image(ids, word) for word in _products(tuple(symmetries)))


def _products(symmetries: tuple[Symmetry[Any], ...]) -> Iterator[tuple[Symmetry[Any], ...]]:
    """Every product of some of the (commuting) involutions: the whole group that they generate."""
    for chosen in range(1 << len(symmetries)):
        yield tuple(s for bit, s in enumerate(symmetries) if chosen >> bit & 1)


def _hash_image(ids: Integer[np.ndarray, "length fields"], word: tuple[Symmetry[Any], ...]) -> int:
    backwards = sum(s.reverse for s in word) % 2 == 1
    starts = range(0, len(ids), HASH_CHUNK)
    hasher = hashlib.blake2b(digest_size=8)
    for start in reversed(starts) if backwards else starts:
        chunk = ids[start : start + HASH_CHUNK]
        for symmetry in word:
            chunk = symmetry.ids(chunk)
        hasher.update(chunk.tobytes())
    return int.from_bytes(hasher.digest(), "little")


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _file_entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"size": len(data), "blocks": block_digests(data)}
