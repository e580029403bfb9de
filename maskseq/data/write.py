"""Records to one part: encode, check, compress, write. Runs in the workers of a build."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int, Integer, Shaped, UInt64

from maskseq.data.hashing import hash64
from maskseq.data.parts import EXAMPLES, OnError, part_name
from maskseq.data.storage import SEAL, Folder, block_digests, to_json
from maskseq.data.unknown import find_runs
from maskseq.errors import DataError, UsageError
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import Encoded, Record, Vocabulary

CHUNK_BYTES = 1 << 19  # what one read call decodes at least: smaller chunks drown in the ~1 ms that a call costs
SHARD_CHUNKS = 64
IMAGE_CHUNK = 1 << 22  # positions that symmetries transform at a time


def write_part(
    folder: Folder,
    parts: str,
    index: int,
    records: Sequence[Record | DataError],
    tokenizer: Tokenizer[Any],
    on_error: OnError,
) -> None:
    """Encode `records` and write them as part `index` below `parts`. It is made in memory: nobody sees half of it.

    A `DataError` stands for a record that could not be read: it counts as skipped.
    """
    kept, encoded, skipped = _encode(records, tokenizer, on_error)
    files = _arrays(kept, encoded, tokenizer)
    summary = {
        "records": len(kept),
        "positions": sum(len(e) for e in encoded),
        "units": sum(len(r) for r in kept),
        "skipped": {"records": len(skipped), "examples": skipped[:EXAMPLES]},
        "files": {name: {"size": len(data), "blocks": block_digests(data)} for name, data in files.items()},
    }
    folder.write_part(f"{parts}/{part_name(index)}", files | {SEAL: to_json(summary)})


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


def _arrays(records: list[Record], encoded: list[Encoded], tokenizer: Tokenizer[Any]) -> dict[str, bytes]:
    """The files of a zarr group with everything that a part holds."""
    import zarr

    written: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(written)
    vocabulary = tokenizer.vocabulary
    keys = [record.key.encode() for record in records]
    no_ids = np.empty((0, vocabulary.n_fields), vocabulary.dtype)
    tokens = np.concatenate([e.ids for e in encoded] or [no_ids])
    offsets = _offsets([len(e) for e in encoded])
    zarr.create_group(store)
    _write(store, "tokens", tokens)
    if any(e.weights is not None for e in encoded):
        weights = [np.ones(e.ids.shape) if e.weights is None else e.weights for e in encoded]
        _write(store, "weights", np.concatenate(weights).astype(np.float32))
    _write(store, "offsets", offsets)
    unknown = find_runs(~vocabulary.known(tokens).any(axis=1), offsets)
    if len(unknown):
        _write(store, "unknown", unknown)
    _write(store, "units", np.array([len(record) for record in records], np.int64))
    hashes = [
        np.array([hash64(key) for key in keys], np.uint64),
        content_hashes(tokens, offsets, tokenizer.symmetries()),
    ]
    _write(store, "hashes", np.stack(hashes, axis=1))
    _write(store, "keys", np.frombuffer(b"".join(keys), np.uint8))
    _write(store, "key_offsets", _offsets([len(key) for key in keys]))
    spans = [record.span() for record in records]
    if spans and all(s is not None for s in spans):
        _write(store, "spans", np.array(spans, np.float64))
    return {name: content.to_bytes() for name, content in written.items()}


def _write(store: Any, name: str, values: Shaped[np.ndarray, "n ..."]) -> None:
    import zarr
    from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

    row_bytes = values.dtype.itemsize * int(np.prod(values.shape[1:]))
    chunk = max(CHUNK_BYTES // row_bytes, 1)
    n_chunks = min(-(-len(values) // chunk), SHARD_CHUNKS) or 1
    if n_chunks == 1:
        chunk = max(len(values), 1)
    array = zarr.create_array(
        store,
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
