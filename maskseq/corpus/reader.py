"""A tokenized corpus on disk, to read: sequences in immutable parts, everything behind a digest.

    my.corpus/
      manifest.json              the only thing a reader trusts: parts, digests, tokenizer, split, provenance
      sequences-<digest>.npy     int64 [4, sequences]: offset, length, record, start; part after part of the split.
                                 A fifth row, context, where something is context only
      parts/<build>/NNNNNN.zarr  see `maskseq.corpus.parts`

A *sequence* is a contiguous segment of a record that lies wholly in training, selection or test data: the whole record,
or, where a region is held out, what is left on either side of it. *Offsets* count positions through all parts, one
after the other.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Bool, Int, Integer
from pydantic import TypeAdapter, ValidationError

from maskseq.corpus.manifest import check_manifest
from maskseq.corpus.parts import Part
from maskseq.corpus.record_table import RecordTable, record_table
from maskseq.corpus.split_config import SplitConfig
from maskseq.errors import DataError, UsageError
from maskseq.plugins import Trust, tokenizer_from_json
from maskseq.storage.folder import Folder, file_digest, to_json
from maskseq.storage.folder import digest as digest_of
from maskseq.storage.places import Place, open_folder
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded

MANIFEST = "manifest.json"
OPEN_PARTS = 16
COUNTED = 1 << 25
"""Positions of training data that tables are counted on."""
Split = Literal["train", "selection", "test", "validation"]
"""A part of the split; validation is the old name of selection."""
SPLITS: Mapping[str, str] = {"train": "train", "selection": "validation", "validation": "validation", "test": "test"}
"""What each part is called in manifests and identities: the names of the first release."""


class SequenceIndex(NamedTuple):
    """One entry for each sequence: training sequences first, then selection, then test, each in file order."""

    offset: Int[np.ndarray, "sequences"]
    """Where it begins, in positions through all parts; increasing within a part of the split."""
    length: Int[np.ndarray, "sequences"]
    record: Int[np.ndarray, "sequences"]
    start: Int[np.ndarray, "sequences"]
    """The position of its record at which it begins: 0, unless a region is held out."""
    context: Int[np.ndarray, "sequences"]
    """How many of its first positions are context only: their weights are 0."""


class Corpus:
    """The sequences of a finished corpus. Opening reads the manifest and maps one table; tokens stay on disk."""

    def __init__(self, folder: Folder, manifest: dict[str, Any], tokenizer: Tokenizer[Any]) -> None:
        self.folder, self.manifest, self.tokenizer = folder, manifest, tokenizer
        self._part = lru_cache(OPEN_PARTS)(self._open_part)
        positions = [part["positions"] for part in manifest["parts"]]
        self._first_position = np.concatenate([[0], np.cumsum(positions)]).astype(np.int64)
        records = [part["records"] for part in manifest["parts"]]
        self._first_record = np.concatenate([[0], np.cumsum(records)]).astype(np.int64)

    @classmethod
    def open(cls, place: Place, *, trust_code: Trust = False, known: Tokenizer[Any] | None = None) -> "Corpus":
        """Open a corpus by its path or URL.

        `known` is a tokenizer that is here already: where it is the corpus's own, no code is loaded. `DataError` when
        the corpus is unfinished or damaged, `UsageError` when its tokenizer is unknown.
        """
        folder = open_folder(place)
        manifest = read_manifest(folder)
        saved, file = manifest["tokenizer"], f"{folder}/{MANIFEST}"
        return cls(folder, manifest, tokenizer_from_json(saved, trust_code=trust_code, known=known, file=file))

    def __repr__(self) -> str:
        return f"Corpus({self.path!r}, {len(self.lengths):,} sequences, {int(self.lengths.sum()):,} positions)"

    @property
    def path(self) -> str:
        return str(self.folder)

    @property
    def fingerprint(self) -> str:
        """Identifies the data, the tokenizer and the split, whatever version wrote it.

        Where a manifest does not say, the digest of the manifest does.
        """
        return str(self.manifest.get("identity") or self.manifest["digest"])

    def sequences(self, split: Split) -> Int[np.ndarray, "n"]:
        """The indices of a part's sequences, in the order in which they are stored; none of a part that is not there.

        `UsageError` for an unknown name.
        """
        return np.arange(len(self.lengths))[self.span_of(split)]

    def span_of(self, split: Split) -> slice:
        """The same indices as one contiguous range: training sequences come first, then selection, then test."""
        stored, begin = stored_name(split), 0
        for name in dict.fromkeys(SPLITS.values()):
            count = int((self.manifest["split"].get(name) or {"sequences": 0})["sequences"])
            if name == stored:
                return slice(begin, begin + count)
            begin += count
        raise AssertionError(stored)

    @property
    def records(self) -> RecordTable:
        """What the split was decided by: a row for each record."""
        return record_table([self._part(index) for index in range(len(self.manifest["parts"]))])

    @property
    def split_config(self) -> SplitConfig:
        """How the split was asked for; `DataError` for a manifest that does not say it as it should."""
        try:
            config: SplitConfig = TypeAdapter(SplitConfig).validate_json(to_json(self.manifest["split"]["config"]))
        except (KeyError, ValidationError) as error:
            problem = str(error).partition("\n")[0]
            raise DataError(f"{self.folder}/{MANIFEST}", problem, place="split.config", code="damaged-file") from None
        return config

    @property
    def judged(self) -> Literal["selection", "test"]:
        """The part that figures are reported of: the test, where there is one."""
        test = self.span_of("test")
        return "test" if test.start < test.stop else "selection"

    @property
    def offsets(self) -> Int[np.ndarray, "n_sequences"]:
        """Where each sequence begins, in positions through all parts."""
        return self.table.offset

    @property
    def lengths(self) -> Int[np.ndarray, "n_sequences"]:
        """Positions of each sequence."""
        return self.table.length

    @property
    def starts(self) -> Int[np.ndarray, "n_sequences"]:
        """The position of its record at which each sequence begins."""
        return self.table.start

    @cached_property
    def circular(self) -> Bool[np.ndarray, "n_sequences"] | None:
        """Which sequences are whole circles; None where no record is one."""
        if not self.manifest.get("circular"):
            return None
        parts = [self._part(index) for index in range(len(self.manifest["parts"]))]
        circles = np.concatenate([part.circular for part in parts])
        positions = np.concatenate([np.diff(part.offsets) for part in parts])
        record = self.table.record
        return np.asarray(circles[record] & (self.lengths == positions[record]))

    def key(self, sequence: SupportsIndex) -> str:
        """The key of the record that a sequence is (a segment) of."""
        return self.record_key(int(self.table.record[sequence]))

    def record_key(self, record: int) -> str:
        part, index = self._part_of(record)
        return part.key(index)

    def variant(self, sequence: SupportsIndex) -> int:
        """0 where a sequence is (a segment of) its record as it is; n for the n-th of `tokenizer.variants(record)`.

        Of a variant that runs backwards -n, of one with other raw units n + `UNALIGNED`.
        `starts` counts positions of the variant then.
        """
        part, index = self._part_of(int(self.table.record[sequence]))
        return int(part.variants[index])

    def _part_of(self, record: int) -> tuple[Part, int]:
        """The part that holds a record, and its number there."""
        part = int(np.searchsorted(self._first_record, record, side="right")) - 1
        return self._part(part), record - int(self._first_record[part])

    def read(self, sequence: SupportsIndex, start: SupportsIndex = 0, stop: SupportsIndex | None = None) -> Encoded:
        """Positions `start:stop` of one sequence. A call costs about a millisecond: `read_span` reads many at once."""
        length = int(self.lengths[sequence])
        start, stop, _ = slice(start, stop).indices(length)
        offset = int(self.offsets[sequence])
        return self.read_span(offset + start, offset + max(start, stop))

    def read_span(self, start: int, stop: int, *, numbers: bool = False) -> Encoded:
        """The positions `start:stop` through all parts; weights are None where every part has none.

        What is context only has weight 0. With `numbers`, also what ordinal cells were rounded from; None where the
        corpus does not say.
        """
        found = self._read_parts(start, stop, numbers)
        if not self.manifest.get("sequences", {}).get("context"):
            return found
        begin, end = self._context
        here = slice(int(np.searchsorted(end, start, side="right")), int(np.searchsorted(begin, stop)))
        weights = np.ones(found.ids.shape, np.float32) if found.weights is None else found.weights.copy()
        for first, last in zip(begin[here].tolist(), end[here].tolist(), strict=True):
            weights[max(first - start, 0) : last - start] = 0
        return replace(found, weights=weights) if len(begin[here]) else found

    @cached_property
    def _context(self) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Where context begins and ends, in positions through all parts, in this order."""
        table = self.table
        some = np.flatnonzero(table.context)
        some = some[np.argsort(table.offset[some])]
        return table.offset[some], table.offset[some] + table.context[some]

    def _read_parts(self, start: int, stop: int, with_numbers: bool) -> Encoded:
        segments = []
        first = int(np.searchsorted(self._first_position, start, side="right")) - 1
        for part in range(first, len(self._first_position) - 1):
            begin, end = (int(edge) for edge in self._first_position[part : part + 2])
            if begin >= stop:
                break
            here = max(start, begin) - begin, min(stop, end) - begin
            segments.append(self._part(part).read(*here, numbers=with_numbers))
        if len(segments) == 1:
            return segments[0]
        n_fields, dtype = len(self.tokenizer.fields), self.tokenizer.vocabulary.dtype
        ids = np.concatenate([p.ids for p in segments] or [np.empty((0, n_fields), dtype)])
        weights = [p.weights for p in segments if p.weights is not None]
        if len(weights) < len(segments):
            weights = [
                np.ones(p.ids.shape, np.float32) if p.weights is None else p.weights for p in segments if weights
            ]
        units = [p.units for p in segments if p.units is not None]  # of all parts, or of none, as are numbers
        numbers = [p.numbers for p in segments if p.numbers is not None]
        return Encoded(
            ids,
            weights=np.concatenate(weights) if weights else None,
            numbers=np.concatenate(numbers) if numbers else None,
            units=np.concatenate(units) if units else None,
        )

    def each(self, split: Split, *, positions: int = 1 << 22, numbers: bool = False) -> Iterator[tuple[int, Encoded]]:
        """The sequences of a part with their indices, in the order in which they are stored, read many at once."""
        sequences = self.sequences(split).tolist()  # an unknown name fails here, not at the first
        return self._each(sequences, positions, numbers)

    def _each(self, sequences: list[int], positions: int, numbers: bool) -> Iterator[tuple[int, Encoded]]:
        waiting: list[int] = []
        for sequence in (*sequences, -1):
            begin = int(self.offsets[waiting[0]]) if waiting else 0
            if waiting and (sequence < 0 or self.offsets[sequence] < begin or self._end(sequence) - begin > positions):
                span = self.read_span(begin, max(map(self._end, waiting)), numbers=numbers)
                for each in waiting:
                    first = int(self.offsets[each]) - begin
                    yield each, span.cut(first, first + int(self.lengths[each]))
                waiting = []
            waiting.append(sequence)

    def training_ids(self) -> Iterator[Integer[np.ndarray, "length fields"]]:
        """The first training sequences, up to `COUNTED` positions in all: what tables are counted on."""
        return (encoded.ids for _, encoded in self.counted())

    def counted(self, *, numbers: bool = False) -> Iterator[tuple[int, Encoded]]:
        """The same with their indices and, if they are asked for, the `numbers` that were rounded."""
        room = COUNTED
        for sequence, encoded in self.each("train", numbers=numbers):
            yield sequence, encoded
            room -= len(encoded)
            if room <= 0:
                return

    def _end(self, sequence: int) -> int:
        return int(self.offsets[sequence] + self.lengths[sequence])

    def verify(self) -> list[str]:
        """Check every digest of every file; each problem names the file and the bytes."""
        problems: list[str] = []
        try:
            self._read_table()
        except DataError as error:
            problems.append(str(error))
        for entry in self.manifest["parts"]:
            try:
                problems.extend(Part(self.folder, entry["name"], entry["digest"]).problems())
            except DataError as error:
                problems.append(str(error))
        return problems

    @cached_property
    def table(self) -> SequenceIndex:
        """All sequences; mapped, not loaded. Of a remote corpus a temporary copy is."""
        return self._read_table()

    def _read_table(self) -> SequenceIndex:
        entry = self.manifest["sequences"]
        n_rows = 5 if entry.get("context") else 4
        table = read_table(self.folder, entry["file"], entry["digest"], entry["count"], n_rows)
        begin, end = int(table.offset.min(initial=0)), int((table.offset + table.length).max(initial=0))
        records = int(table.record.min(initial=0)), int(table.record.max(initial=0))
        sound = 0 <= begin <= end <= self._first_position[-1] and 0 <= records[0] <= records[1] < self._first_record[-1]
        sound &= int(table.context.min(initial=0)) >= 0 and bool((table.context < table.length).all())
        if not sound or int(table.length.min(initial=1)) < 1 or int(table.start.min(initial=0)) < 0:
            raise DataError(
                f"{self.folder}/{entry['file']}",
                "names positions or records that the parts do not have",
                code="damaged-file",
            )
        return table

    def _open_part(self, index: int) -> Part:
        entry = self.manifest["parts"][index]
        part = Part(self.folder, entry["name"], entry["digest"])
        if (part.n_records, part.n_positions) != (entry["records"], entry["positions"]):
            raise DataError(
                f"{self.folder}/{part.name}",
                "does not have the records and positions of the manifest",
                code="damaged-file",
            )
        return part


def stored_name(split: str) -> str:
    """What manifests and identities call a part of the split; `UsageError` for an unknown name."""
    if split not in SPLITS:
        raise UsageError(
            f"there is no part {split!r} of a split\n\nhint: the parts are train, selection and test",
            code="unknown-name",
        )
    return SPLITS[split]


def holds_corpus(place: Place) -> bool:
    """Whether there is a finished corpus, sound or not."""
    try:
        return bool(open_folder(place).read(MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        return False


def verify_corpus(place: Place, *, trust_code: Trust = False) -> list[str]:
    """Every problem of a corpus, also of one whose manifest cannot be read; empty when all is well."""
    try:
        return Corpus.open(place, trust_code=trust_code).verify()
    except DataError as error:
        return [str(error)]


def read_manifest(folder: Folder) -> dict[str, Any]:
    """The manifest, after checking its own digest: a single changed bit is an error."""
    place = f"{folder}/{MANIFEST}"
    try:
        raw = folder.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            str(folder),
            f"no {MANIFEST} here: not a corpus, or its build did not finish\n\n"
            f"hint: run the same `maskseq tokenize` command again, it resumes",
            code="foreign-folder",
        ) from None
    try:
        manifest: dict[str, Any] = json.loads(raw)
        content = {name: value for name, value in manifest.items() if name != "digest"}
        intact = manifest.get("digest") == digest_of(to_json(content)) and to_json(manifest) == raw
    except (ValueError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise DataError(
            place,
            f"bytes 0-{len(raw)}: damaged, it does not have the digest that it was written with",
            code="damaged-file",
        )
    return check_manifest(raw, place)


def read_table(folder: Folder, file: str, digest: str, count: int, n_rows: int = 4) -> SequenceIndex:
    """The table of sequences, after checking its digest."""
    place = f"{folder}/{file}"
    try:
        with folder.local_file(file) as path:
            if file_digest(path) != digest:
                size = path.stat().st_size
                raise DataError(
                    place, f"bytes 0-{size}: does not have the digest that the manifest gives", code="damaged-file"
                )
            columns = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise DataError(place, "is missing", code="damaged-file") from None
    except (ValueError, EOFError) as error:
        raise DataError(place, f"is not a table of sequences ({error})", code="damaged-file") from None
    if columns.shape != (n_rows, count) or columns.dtype != np.int64:
        raise DataError(place, f"is not a table of {count:,} sequences, as the manifest has it", code="damaged-file")
    return SequenceIndex(*columns[:4], context=columns[4] if n_rows == 5 else np.zeros(count, np.int64))
