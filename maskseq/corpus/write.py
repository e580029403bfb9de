"""Records to one part: encode, check, compress, write. Runs in the workers of a build."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int, Integer, Shaped, UInt64

from maskseq.corpus.encode import EncodedRow, checked_tokens, encode_records, numbers_of_rows, offsets_of, with_variants
from maskseq.corpus.finish import BuildPlan
from maskseq.corpus.hashing import hash64
from maskseq.corpus.parts import EXAMPLES, Part, part_name
from maskseq.corpus.record_table import UNALIGNED, group_number, moments_of
from maskseq.corpus.split_config import PARTS
from maskseq.corpus.unknown_runs import find_runs
from maskseq.errors import DataError
from maskseq.storage.folder import SEAL, Folder, block_digests, to_json
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import Encoded, QuantizationError, Record

CHUNK_BYTES = 1 << 19  # what one read call decodes at least: smaller chunks drown in the ~1 ms that a call costs
SHARD_CHUNKS = 64
IMAGE_CHUNK = 1 << 22  # positions that symmetries transform at a time


def write_part(
    folder: Folder, parts: str, index: int, records: Sequence[Record | DataError], plan: BuildPlan, given: int
) -> None:
    """Encode `records` and write them as part `index` below `parts`. It is made in memory: nobody sees half of it.

    A `DataError` stands for a record that could not be read: it counts as skipped. `given` is the part of the split
    that the records are as a whole; `TRAIN` if they are to be divided.
    """
    arrays, summary = _contents(records, plan, given)
    files = _files(arrays)
    summary["files"] = {name: {"size": len(data), "blocks": block_digests(data)} for name, data in files.items()}
    folder.write_part(f"{parts}/{part_name(index)}", files | {SEAL: to_json(summary)})


def holds(part: Part, records: Sequence[Record | DataError], plan: BuildPlan, given: int) -> bool:
    """Whether a part is what `write_part` would make of these records, whatever its bytes were compressed with."""
    arrays, summary = _contents(records, plan, given)
    names = set()
    for name, values in arrays:
        names.add(name)
        if not part.has(name, values):
            return False
    return names == part.arrays and part.given == given and part.summary["skipped"] == summary["skipped"]


def _contents(
    records: Sequence[Record | DataError], plan: BuildPlan, given: int
) -> tuple[Iterator[tuple[str, Shaped[np.ndarray, "n ..."]]], dict[str, Any]]:
    """The arrays of a part, by name, one after the other, and what its summary says of them."""
    kept, encoded, skipped = encode_records(records, plan.tokenizer, plan.on_error)
    rows = with_variants(kept, encoded, plan.tokenizer, plan.variants)
    summary = {
        "records": len(rows),
        "variants": len(rows) - len(kept),
        "positions": sum(len(row.encoded) for row in rows),
        "units": sum(len(r) for r in kept),
        "skipped": {"records": len(skipped), "examples": skipped[:EXAMPLES]},
        "losses": _losses(kept, encoded, plan.tokenizer),
        **({"given": PARTS[given]} if given else {}),
    }
    return _arrays(rows, plan), summary


def _losses(
    records: Sequence[Record], encoded: Sequence[Encoded], tokenizer: Tokenizer[Any]
) -> dict[str, dict[str, Any]]:
    """What encoding lost of each source, over all records."""
    total: dict[str, QuantizationError] = {}
    for record, each in zip(records, encoded, strict=True):
        for source, loss in tokenizer.losses(record, each.ids).items():
            total[source] = total.get(source, QuantizationError()) + loss
    return {source: asdict(loss) for source, loss in total.items()}


def _arrays(rows: Sequence[EncodedRow], plan: BuildPlan) -> Iterator[tuple[str, Shaped[np.ndarray, "n ..."]]]:
    """Everything that a part holds; arrays that would say nothing are left out."""
    tokenizer = plan.tokenizer
    tokens = checked_tokens(rows, tokenizer)
    keys = [row.record.key.encode() for row in rows]
    offsets = offsets_of([len(row.encoded) for row in rows])
    variants = np.array([row.variant for row in rows], np.int8)
    yield ("tokens", tokens)
    if any(row.encoded.weights is not None for row in rows):
        weights = [
            np.ones(row.encoded.ids.shape) if row.encoded.weights is None else row.encoded.weights for row in rows
        ]
        yield ("weights", np.concatenate(weights).astype(np.float32))
    if plan.numbers:
        yield ("numbers", numbers_of_rows(rows, tokenizer))
    units = [row.encoded.units for row in rows if row.encoded.units is not None]
    if units:
        yield ("cell_units", np.concatenate(units).astype(np.int64))
    yield ("offsets", offsets)
    if variants.any():
        yield ("variants", variants)
    if any(row.encoded.circular for row in rows):
        yield ("circular", np.array([row.encoded.circular for row in rows], bool))
    unknown = find_runs(np.logical_not(tokenizer.vocabulary.known(tokens).any(axis=1)), offsets)
    if len(unknown):
        yield ("unknown", unknown)
    yield ("units", np.array([len(row.record) for row in rows], np.int64))
    contents = content_hashes(tokens, offsets, tokenizer.symmetries())
    for index, row in enumerate(rows):
        if row.also is not None:
            own = index - abs(row.variant) % UNALIGNED
            contents[own] = min(int(contents[own]), row.also)
    yield ("hashes", np.stack([np.array([hash64(key) for key in keys], np.uint64), contents], axis=1))
    yield ("keys", np.frombuffer(b"".join(keys), np.uint8))
    yield ("key_offsets", offsets_of([len(key) for key in keys]))
    spans = [row.record.span() for row in rows]
    if spans and all(s is not None for s in spans):
        yield ("spans", np.array(spans, np.float64))
    if plan.group:
        yield ("groups", np.array([group_number(row.record, plan.group) for row in rows], np.uint64))
    if plan.moments and (times := moments_of([row.record for row in rows if row.variant == 0])) is not None:
        yield ("moments", times)


def _files(arrays: Iterable[tuple[str, Shaped[np.ndarray, "n ..."]]]) -> dict[str, bytes]:
    """The files of a zarr group with these arrays."""
    import zarr

    written: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(written)
    zarr.create_group(store)
    for name, values in arrays:
        _write(store, name, values)
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


def content_hashes(
    tokens: Integer[np.ndarray, "positions fields"],
    offsets: Int[np.ndarray, "records_plus_1"],
    symmetries: Sequence[Symmetry[Any]],
) -> UInt64[np.ndarray, "records"]:
    """For each record, the same number for exact duplicates and for images under the (commuting) symmetries.

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
