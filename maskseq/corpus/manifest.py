"""What the JSON files of a corpus must hold before anything of it is used: whoever wrote a file may have signed it."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from maskseq.errors import DataError, UsageError, first_problem
from maskseq.types import QuantizationError

FORMAT_VERSION = 1
Count = Annotated[int, Field(ge=0, le=1 << 48)]


@dataclass
class PartEntry:
    """A part, as the manifest lists it."""

    name: str
    digest: str
    records: Count
    positions: Count


@dataclass
class SequencesFile:
    """The file of the sequences."""

    file: str
    digest: str
    count: Count
    context: Count = 0
    """Positions that are context only, where the table has a row for them."""


@dataclass
class Side:
    """What one part of the split has."""

    sequences: Count
    positions: Count


@dataclass
class Split:
    """How the data were split."""

    by: str
    train: Side
    validation: Side
    """What is held out for selection."""
    left_out: dict[str, Count]
    duplicate_records: Count
    repeated_keys: Count
    near_copies: Count = 0
    test: Side | None = None


@dataclass
class Skipped:
    """Records that could not be read or encoded."""

    records: Count
    examples: list[str]


@dataclass
class SourceEntry:
    """A file that the corpus was made of."""

    name: str
    bytes: Count
    part: Literal["validation", "test"] | None = None
    """Which part of the split it is as a whole."""


@dataclass
class Manifest:
    """What readers use of `manifest.json`; it may hold more."""

    maskseq: str
    tokenizer: dict[str, Any]
    parts_folder: str
    parts: list[PartEntry]
    records: Count
    positions: Count
    units: Count
    skipped: Skipped
    sources: list[SourceEntry]
    sequences: SequencesFile
    split: Split
    identity: str = ""
    variant_records: Count = 0
    losses: dict[str, QuantizationError] = field(default_factory=dict)
    circular: Count = 0
    """Records that are circles."""


@dataclass
class FileEntry:
    """A file of a part: its size, and a digest for each block of it."""

    size: Count
    blocks: list[str]


@dataclass
class Summary:
    """What readers use of `part.json`."""

    records: Count
    positions: Count
    variants: Count
    units: Count
    skipped: Skipped
    losses: dict[str, QuantizationError]
    files: dict[str, FileEntry]
    given: Literal["validation", "test"] | None = None
    """Which part of the split its records were given as."""


def check_manifest(raw: bytes, place: str) -> dict[str, Any]:
    """The manifest; `DataError` for a field of the wrong kind, or that contradicts others.

    `UsageError` for another format version.
    """
    manifest: dict[str, Any] = json.loads(raw)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UsageError(
            f"{place}: written in corpus format {manifest.get('format_version')!r}, this maskseq reads "
            f"{FORMAT_VERSION}\n\nhint: install the maskseq that wrote it ({manifest.get('maskseq')}), or tokenize the "
            f"source files again",
            code="not-supported",
        )
    checked: Manifest = _checked(Manifest, raw, place)
    split = checked.split
    n_sequences = sum(part.sequences for part in (split.train, split.validation, split.test) if part is not None)
    for name, given, counted in (
        ("positions", checked.positions, sum(part.positions for part in checked.parts)),
        ("records", checked.records + checked.variant_records, sum(part.records for part in checked.parts)),
        ("sequences.count", checked.sequences.count, n_sequences),
    ):
        if given != counted:
            raise DataError(
                place, f"says {given:,}, but what it lists comes to {counted:,}", place=name, code="damaged-file"
            )
    return manifest


def check_summary(raw: bytes, place: str) -> dict[str, Any]:
    """The summary of a part; `DataError` for a field of the wrong kind."""
    _checked(Summary, raw, place)
    summary: dict[str, Any] = json.loads(raw)
    return summary


def _checked(cls: type, raw: bytes, place: str) -> Any:
    try:
        return TypeAdapter(cls).validate_json(raw, strict=True)
    except ValidationError as error:
        where, problem = first_problem(error)
        raise DataError(place, problem, place=where, code="damaged-file") from None
