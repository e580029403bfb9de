"""Records to one part: encode, check, write aside, fsync, rename. Runs in the workers of a build."""

import logging
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import Int, Integer, Shaped, UInt64

from maskseq.data.hashing import hash64
from maskseq.data.parts import EXAMPLES, OnError, part_name
from maskseq.data.storage import block_digests, explained, sync, sync_tree, to_json
from maskseq.data.unknown import find_runs
from maskseq.errors import DataError, UsageError
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import Encoded, Record, Vocabulary

CHUNK_BYTES = 1 << 19  # what one read call decodes at least: smaller chunks drown in the ~1 ms that a call costs
SHARD_CHUNKS = 64
IMAGE_CHUNK = 1 << 22  # positions that symmetries transform at a time


def write_part(
    parts: Path, index: int, records: Sequence[Record | DataError], tokenizer: Tokenizer[Any], on_error: OnError
) -> str:
    """Encode `records` and write them as part `index`; returns its name. Nothing half-written is ever seen.

    A `DataError` stands for a record that could not be read: it counts as skipped.
    """
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
        # zarr writes in threads: those still at work fail as well, and asyncio would print a traceback of each.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
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
    records: Sequence[Record | DataError], tokenizer: Tokenizer[Any], on_error: str
) -> tuple[list[Record], list[Encoded], list[str]]:
    kept, encoded, skipped = [], [], []
    vocabulary = tokenizer.vocabulary
    for record in records:
        if isinstance(record, DataError):
            skipped.append(str(record))
            continue
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
    wrong = (ids < 0) | (ids >= np.asarray(vocabulary.n_rows))
    if wrong.any():
        position, field = np.argwhere(wrong)[0].tolist()
        name, n_rows = vocabulary.names[field], vocabulary.n_rows[field]
        return f"id {ids[position, field]} at position {position}, but field {name!r} has the ids 0 to {n_rows - 1}"
    if weights is not None and (weights.shape != ids.shape or not np.isfinite(weights).all() or weights.min() < 0):
        return "loss weights that are not finite, not >= 0, or not of the ids' shape"
    return ""


def _write_arrays(folder: Path, records: list[Record], encoded: list[Encoded], tokenizer: Tokenizer[Any]) -> None:
    import zarr

    vocabulary = tokenizer.vocabulary
    keys = [record.key.encode() for record in records]
    no_ids = np.empty((0, vocabulary.n_fields), vocabulary.dtype)
    tokens = np.concatenate([e.ids for e in encoded] or [no_ids])
    offsets = _offsets([len(e) for e in encoded])
    zarr.create_group(folder, overwrite=True)
    _write(folder, "tokens", tokens)
    if any(e.weights is not None for e in encoded):
        weights = [np.ones(e.ids.shape) if e.weights is None else e.weights for e in encoded]
        _write(folder, "weights", np.concatenate(weights).astype(np.float32))
    _write(folder, "offsets", offsets)
    unknown = find_runs(~vocabulary.known(tokens).any(axis=1), offsets)
    if len(unknown):
        _write(folder, "unknown", unknown)
    _write(folder, "units", np.array([len(record) for record in records], np.int64))
    hashes = [
        np.array([hash64(key) for key in keys], np.uint64),
        content_hashes(tokens, offsets, tokenizer.symmetries()),
    ]
    _write(folder, "hashes", np.stack(hashes, axis=1))
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


def content_hashes(
    tokens: Integer[np.ndarray, "positions fields"],
    offsets: Int[np.ndarray, "records_plus_1"],
    symmetries: Sequence[Symmetry[Any]],
) -> UInt64[np.ndarray, "records"]:
    """Of each record, the same number for exact duplicates and for images under the (commuting) symmetries.

    64 bits: among 10⁸ records a chance collision has odds of 1 in 3,700, and would only tie two records together.
    """
    edges = offsets.tolist()
    smallest = np.full(len(edges) - 1, np.iinfo(np.uint64).max, np.uint64)
    for chosen in range(1 << len(symmetries)):  # every product of some of them: the whole group
        word = [symmetry for bit, symmetry in enumerate(symmetries) if chosen >> bit & 1]
        image, backwards = _image(tokens, word)
        ends = [
            (len(tokens) - stop, len(tokens) - start) if backwards else (start, stop) for start, stop in pairwise(edges)
        ]
        hashes = np.array([hash64(image[start:stop].data) for start, stop in ends], np.uint64)
        smallest = np.minimum(smallest, hashes)
    return smallest


def _image(
    tokens: Integer[np.ndarray, "positions fields"], word: Sequence[Symmetry[Any]]
) -> tuple[Integer[np.ndarray, "positions fields"], bool]:
    """All records under a product of symmetries at once; backwards, the last record comes first."""
    backwards = sum(symmetry.reverse for symmetry in word) % 2 == 1
    if not word:
        return tokens, False
    image = np.empty_like(tokens)
    for start in range(0, len(tokens), IMAGE_CHUNK):
        chunk = tokens[start : start + IMAGE_CHUNK]
        for symmetry in word:
            chunk = symmetry.ids(chunk)
        begin = len(tokens) - start - len(chunk) if backwards else start
        image[begin : begin + len(chunk)] = chunk
    return image, backwards


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _file_entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"size": len(data), "blocks": block_digests(data)}
