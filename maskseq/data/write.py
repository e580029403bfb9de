"""Records to one part: encode, check, write aside, fsync, rename. Runs in the workers of a build."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import Int, Integer, Shaped

from maskseq.data.hashing import hash64
from maskseq.data.parts import EXAMPLES, OnError, part_name
from maskseq.data.storage import block_digests, explained, sync, sync_tree, to_json
from maskseq.errors import DataError, UsageError
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import Encoded, Record, Vocabulary

CHUNK_BYTES = 1 << 19  # what one read call decodes at least: smaller chunks drown in the ~1 ms that a call costs
SHARD_CHUNKS = 64
HASH_CHUNK = 1 << 22  # positions that are transformed at a time to find the duplicates of long records


def write_part(parts: Path, index: int, records: Sequence[Record], tokenizer: Tokenizer[Any], on_error: OnError) -> str:
    """Encode `records` and write them as part `index`; returns its name. Nothing half-written is ever seen."""
    name = part_name(index)
    kept, encoded, skipped = _encode(records, tokenizer, on_error)
    summary = {
        "records": len(kept),
        "positions": sum(len(e) for e in encoded),
        "units": sum(len(r) for r in kept),
        "skipped": {"records": len(skipped), "examples": skipped[:EXAMPLES]},
    }
    aside = parts / f".{name}.{uuid4().hex}.tmp"
    try:
        with explained(parts / name):
            _write_arrays(aside, kept, encoded, tokenizer)
            summary["files"] = {file: _file_entry(aside / file) for file in _files(aside)}
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


def _encode(
    records: Sequence[Record], tokenizer: Tokenizer[Any], on_error: str
) -> tuple[list[Record], list[Encoded], list[str]]:
    kept, encoded, skipped = [], [], []
    vocabulary = tokenizer.vocabulary
    for record in records:
        try:
            result = tokenizer.encode(record)
            if not len(result):
                raise ValueError("there is nothing in it to tokenize")
        except UsageError:  # not the record's fault
            raise
        except ValueError as error:
            if on_error == "skip":
                skipped.append(f"{record.key}: {error}")
                continue
            if isinstance(error, DataError):
                raise
            raise DataError(f"record {record.key!r}", str(error)) from error
        if problem := _broken_promise(result, vocabulary):
            name = type(tokenizer).__name__
            raise UsageError(f"{name} made of record {record.key!r} {problem}: a bug in the tokenizer")
        encoded.append(Encoded(result.ids.astype(vocabulary.dtype, copy=False), None, result.weights))
        kept.append(record)
    return kept, encoded, skipped


def _broken_promise(encoded: Encoded, vocabulary: Vocabulary) -> str:
    """What a plug-in got wrong about the ids of a record; empty when nothing is."""
    ids, weights = encoded.ids, encoded.weights
    if ids.ndim != 2 or ids.shape[1] != vocabulary.n_fields:
        return f"ids of shape {ids.shape} instead of [length, {vocabulary.n_fields}]"
    for field, n_rows in enumerate(vocabulary.n_rows):  # by column: NumPy reduces narrow rows ten times as slowly
        low, high = int(ids[:, field].min()), int(ids[:, field].max())
        if low < 0 or high >= n_rows:
            return f"ids {low} to {high} in field {vocabulary.names[field]!r}, which has {n_rows}"
    if weights is not None and (weights.shape != ids.shape or not np.isfinite(weights).all() or weights.min() < 0):
        return "loss weights that are not finite, not >= 0, or not of the ids' shape"
    return ""


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
    spans = [record.span() for record in records]
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
