"""A file of records in, a file of vectors out: streaming, and resumable after a kill to the same bytes.

What an output holds, by its ending:

    .zarr     a zarr v3 group: `keys` [records], `vectors` float32 [records, hidden]. Per token: `vectors`
              [tokens, hidden] and `offsets` int64 [records + 1]; record i has `vectors[offsets[i] : offsets[i + 1]]`;
              and an array of texts for each attribute of records that is kept
    .parquet  a row a vector: `key`, `vector`, and per token `position` (from 1), in the order of the file
    .npz      the arrays of .zarr; all vectors must fit into memory

Vectors are first written to parts in the output's work folder, each flushed and named when it is whole. A part begins
where a group of records that are embedded together begins, and depends on nothing before it.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float32

from maskseq import plugins
from maskseq.contract.identity import former_fingerprint
from maskseq.corpus import unfamiliar
from maskseq.corpus.dress import AS_TRAINED, ReadAs
from maskseq.errors import DataError, UsageError
from maskseq.predict.embed import Embedder, Pooling
from maskseq.predict.encoder import OVERLAP
from maskseq.storage import standard_json
from maskseq.storage.folder import file_digest, to_json
from maskseq.storage.outputs import Work, claimed, write
from maskseq.trained import TrainedModel
from maskseq.types import Progress, Record

PART_BYTES = 1 << 26
"""Vectors of a part: how much is computed again after a kill at most, but for one record that is longer."""
PARTS = "parts"
NOTHING: Mapping[str, Any] = MappingProxyType({})
BLOCK_ROWS = 4096
CHUNK_BYTES, SHARD_CHUNKS = 1 << 20, 8


def embed_file(
    run: TrainedModel,
    file: Path,
    *,
    output: Path,
    pooling: Pooling = "mean",
    read_as: ReadAs = AS_TRAINED,
    symmetries: bool = True,
    layer: int | None = None,
    keep: Sequence[str] = (),
    batch_tokens: int = 16384,
    part_bytes: int = PART_BYTES,
    on_progress: Progress = lambda done, of: None,
) -> dict[str, Any]:
    """Embed every record of a file, in its order, into `output`; returns a summary. Run again, it resumes.

    `keep` names attributes of the records, such as labels, that are written along with their vectors.

    Raises `UsageError` when the output exists, has an unknown ending, or was begun from another run, file or options.
    """
    write_vectors = WRITERS.get(output.suffix)
    if write_vectors is None:
        raise UsageError(
            f"{output}: the ending says how vectors are written; it can be {', '.join(WRITERS)}", code="bad-option"
        )
    embedder = Embedder(
        model=run.model,
        context=run.model.config.max_positions,
        pooling=pooling,
        symmetries=run.tokenizer.symmetries() if symmetries else (),
        batch_tokens=batch_tokens,
        precision=run.precision,
        layer=layer,
    )
    if taken := sorted({"key", "keys", "vector", "vectors", "position", "offsets"} & set(keep)):
        raise UsageError(f"--keep {taken[0]}: the output has something else of that name", code="exists")
    intake = run.intake(file, read_as)
    about: dict[str, Any] = {
        "pooling": pooling,
        "hidden_size": run.model.config.hidden_size,
        "symmetries": [symmetry.name for symmetry in embedder.symmetries],
        "model": _digest(run),
        "tokenizer": run.tokenizer.fingerprint,
        "file": {
            "name": file.name,
            "sha256": file_digest(file),
            "format": plugins.name_of("formats", type(intake.reader)),
        },
    }
    about |= {"overlap": OVERLAP}  # what was begun with another one has other bits
    about |= {"precision": run.precision} if run.precision != "fp32" else {}
    about |= {"layer": layer} if layer is not None else {}  # what was begun without these goes on
    about |= {"kept": list(keep)} if keep else {}
    with claimed(output, new=True, parents=True, state=PARTS) as work:
        former = {"tokenizer": former_fingerprint(run.tokenizer)}
        parts = Parts(work, about | {"batch": [batch_tokens, part_bytes]}, former)
        resumed = parts.n_records
        with intake:
            rest = islice(intake, resumed, None)
            kept = Kept(keep)
            encoded = ((kept.noted(record), ids) for record, ids in unfamiliar.encoded(rest, run.tokenizer))
            parts.kept = kept
            parts.append(embedder, embedder.groups(encoded), part_bytes, on_progress)
        if not parts.n_records:
            raise DataError(file, "holds no records: there is nothing to embed", code="too-little-data")
        write_vectors(work.content, parts, about)
        work.publish()
    return {
        "output": str(output),
        "records": parts.n_records,
        "vectors": parts.n_vectors,
        "dimensions": parts.hidden_size,
        "pooling": pooling,
        "symmetries": about["symmetries"],
        "records resumed": resumed,
        **intake.summary,
    }


@dataclass(frozen=True)
class EmbeddingPart:
    """Records that were finished together."""

    path: Path
    """The file of the vectors: float32, little-endian, row after row."""
    keys: list[str]
    counts: list[int]
    """Vectors of each record."""
    kept: dict[str, list[str]] = field(default_factory=dict)
    """Attributes of each record, "" where it has none."""


class Kept:
    """The attributes of records that go with their vectors, from when a record is read to when it is written."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.waiting: deque[tuple[str, ...]] = deque()

    def noted(self, record: Record) -> str:
        """The record's key; its attributes wait until it is embedded."""
        if self.names:
            self.waiting.append(tuple(record.group(name) or "" for name in self.names))
        return record.key

    def taken(self, n: int) -> dict[str, list[str]]:
        """Those of the next so many records."""
        rows = [self.waiting.popleft() for _ in range(n)] if self.names else []
        return {name: [row[i] for row in rows] for i, name in enumerate(self.names)}


class Parts:
    """The parts that are finished, in order; a part without its `.json` was interrupted and is written again."""

    def __init__(self, work: Work, about: dict[str, Any], former: Mapping[str, Any] = NOTHING) -> None:
        """Begin or go on in a work folder; what is there must have been begun about the same.

        `former` is what older versions say otherwise about the same.
        """
        self.folder, self.hidden_size = work.folder / PARTS, int(about["hidden_size"])
        self.folder.mkdir(exist_ok=True)
        saved = self.folder / "about.json"
        if not saved.exists():
            write(saved, to_json(about))
        elif saved.read_bytes() not in map(to_json, (about, {**about, **former})):
            work.stays = True
            raise UsageError(
                f"{work.folder} holds the beginning of another embedding: another run, file or option\n\nhint: give "
                f"the same command to go on with that one, or remove the folder",
                code="other-data",
            )
        self.kept = Kept(())
        self.parts: list[EmbeddingPart] = []
        while self._name(len(self.parts)).exists():
            described = json.loads(self._name(len(self.parts)).read_bytes())
            self.parts.append(EmbeddingPart(self._vectors(len(self.parts)), **described))

    @property
    def n_records(self) -> int:
        return sum(len(part.keys) for part in self.parts)

    @property
    def n_vectors(self) -> int:
        return sum(sum(part.counts) for part in self.parts)

    def append(
        self,
        embedder: Embedder,
        groups: Iterator[list[Any]],
        part_bytes: int,
        on_progress: Progress,
    ) -> None:
        """Embed the groups into new parts, each ended by the group that makes it large enough."""
        for group in groups:
            path = self._vectors(len(self.parts))
            part = EmbeddingPart(path, [], [])
            done = self.n_records
            with path.open("wb") as file:
                for members in chain([group], groups):
                    counts = [0] * len(members)
                    for index, vectors in embedder.vectors(members):
                        file.write(np.ascontiguousarray(vectors, "<f4").data)
                        counts[index] += len(vectors)
                    part.keys.extend(key for key, _ in members)
                    for name, values in self.kept.taken(len(members)).items():
                        part.kept.setdefault(name, []).extend(values)
                    part.counts.extend(counts)
                    on_progress(done + len(part.keys), None)
                    if file.tell() >= part_bytes:
                        break
                file.flush()
                os.fsync(file.fileno())
            described = {"keys": part.keys, "counts": part.counts} | ({"kept": part.kept} if part.kept else {})
            write(self._name(len(self.parts)), to_json(described))
            self.parts.append(part)

    def vectors(self, rows: int) -> Iterator[Float32[np.ndarray, "rows hidden"]]:
        """All vectors in blocks of so many, across parts; the last block may be shorter."""
        kept = np.empty((0, self.hidden_size), np.float32)
        for part in self.parts:
            with part.path.open("rb") as file:  # not mapped: the pages of a mapped file count as memory in use
                while len(block := np.fromfile(file, "<f4", (rows - len(kept)) * self.hidden_size)):
                    kept = np.concatenate([kept, block.reshape(-1, self.hidden_size)])
                    if len(kept) == rows:
                        yield kept
                        kept = kept[:0]
        if len(kept):
            yield kept

    def keys(self) -> Iterator[str]:
        return chain.from_iterable(part.keys for part in self.parts)

    def counts(self) -> Iterator[int]:
        return chain.from_iterable(part.counts for part in self.parts)

    def values(self, name: str) -> Iterator[str]:
        """A kept attribute of all records."""
        return chain.from_iterable(part.kept[name] for part in self.parts)

    def _name(self, index: int) -> Path:
        return self.folder / f"{index:06d}.json"

    def _vectors(self, index: int) -> Path:
        return self.folder / f"{index:06d}.f32"


# ---- what is written -----------------------------------------------------------------------------------------------


def _write_zarr(path: Path, parts: Parts, about: dict[str, Any]) -> None:
    import zarr

    group = zarr.create_group(path, attributes=about)
    rows = max(CHUNK_BYTES // (4 * parts.hidden_size), 1)
    vectors = group.create_array(
        "vectors",
        shape=(parts.n_vectors, parts.hidden_size),
        chunks=(rows, parts.hidden_size),
        shards=(rows * SHARD_CHUNKS, parts.hidden_size),
        dtype="float32",
    )
    _fill(vectors, parts.vectors(rows * SHARD_CHUNKS))
    keys = group.create_array("keys", shape=(parts.n_records,), chunks=(BLOCK_ROWS,), dtype=str)
    _fill(keys, (np.array(block, dtype=object) for block in _blocks(parts.keys())))
    for name in about.get("kept", ()):
        column = group.create_array(name, shape=(parts.n_records,), chunks=(BLOCK_ROWS,), dtype=str)
        _fill(column, (np.array(block, dtype=object) for block in _blocks(parts.values(name))))
    if about["pooling"] == "none":
        offsets = group.create_array("offsets", shape=(parts.n_records + 1,), chunks=(BLOCK_ROWS,), dtype="int64")
        offsets[:1] = 0
        end = 0
        ends = (np.cumsum(block) for block in _blocks(parts.counts()))
        for start, block in zip(range(1, parts.n_records + 1, BLOCK_ROWS), ends, strict=True):
            offsets[start : start + len(block)] = end + block
            end += int(block[-1])


def _fill(array: Any, blocks: Iterable[np.ndarray]) -> None:
    start = 0
    for block in blocks:
        array[start : start + len(block)] = block
        start += len(block)


def _blocks(items: Iterator[Any]) -> Iterator[list[Any]]:
    while block := list(islice(items, BLOCK_ROWS)):
        yield block


def _write_parquet(path: Path, parts: Parts, about: dict[str, Any]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            "writing Parquet needs pyarrow\n\nhint: pip install 'maskseq[events]', or write .zarr",
            code="missing-extra",
        ) from None
    per_token = about["pooling"] == "none"
    vector = pa.list_(pa.float32(), parts.hidden_size)
    kept = about.get("kept", ())
    columns = [("key", pa.string()), *([("position", pa.int64())] if per_token else []), ("vector", vector)]
    columns += [(name, pa.string()) for name in kept]
    schema = pa.schema(columns, metadata={"maskseq": standard_json.to_json(about)})
    named = _named(parts, kept)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in parts.vectors(BLOCK_ROWS):
            keys, positions, *texts = zip(*islice(named, len(block)), strict=True)
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), parts.hidden_size)
            arrays = [pa.array(keys, pa.string()), *([pa.array(positions, pa.int64())] if per_token else []), values]
            arrays += [pa.array(column, pa.string()) for column in texts]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _named(parts: Parts, kept: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """For each vector, the record's key, the position from 1, and what is kept of the record."""
    for key, count, *texts in zip(parts.keys(), parts.counts(), *map(parts.values, kept), strict=True):
        yield from ((key, position, *texts) for position in range(1, count + 1))


def _write_npz(path: Path, parts: Parts, about: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {
        "keys": np.array(list(parts.keys())),
        "vectors": np.concatenate([*parts.vectors(BLOCK_ROWS)]),
    }
    arrays |= {name: np.array(list(parts.values(name))) for name in about.get("kept", ())}
    if about["pooling"] == "none":
        arrays["offsets"] = np.cumsum([0, *parts.counts()], dtype=np.int64)
    with path.open("wb") as file:
        np.savez(file, **arrays)


WRITERS: dict[str, Callable[[Path, Parts, dict[str, Any]], None]] = {
    ".zarr": _write_zarr,
    ".parquet": _write_parquet,
    ".npz": _write_npz,
}


def _digest(run: TrainedModel) -> str:
    """Digest of the weights, wherever they lie."""
    found = hashlib.sha256()
    for name, parameter in run.model.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()
