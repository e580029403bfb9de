"""The two ends of a build: what is in the folder already, and the split and manifest that make parts a corpus."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Int, Integer

from maskseq.contract.identity import difference
from maskseq.corpus.intake import OnError
from maskseq.corpus.manifest import FORMAT_VERSION
from maskseq.corpus.near_copies import STRETCH, WORD, near_copies
from maskseq.corpus.parts import EXAMPLES, Part
from maskseq.corpus.reader import MANIFEST, Corpus, read_manifest
from maskseq.corpus.record_table import RecordTable, Region, Segments, record_table
from maskseq.corpus.splits import SplitConfig, split_records
from maskseq.corpus.unknown_runs import RECORDED, UnknownRuns
from maskseq.errors import DataError, UsageError
from maskseq.masking.units import position_units
from maskseq.plugins import tokenizer_to_json
from maskseq.storage.folder import Folder, digest, to_json
from maskseq.tokenizer import Tokenizer
from maskseq.types import QuantizationError

PARTS = "parts"
SIGNED = ("maskseq", "identity", "digest")
"""What a manifest says of itself: the version that wrote it, what its content is known by, and its digest."""
UNITS_CHUNK = 1 << 20  # positions whose raw units are looked up at a time


@dataclass(frozen=True)
class BuildPlan:
    """Everything that the bytes of the parts depend on. Its digest names their folder."""

    tokenizer: Tokenizer[Any]
    sources: tuple[dict[str, Any], ...]
    """Name, size and digest of every file; empty when the records come from elsewhere."""
    format: dict[str, Any] | None
    part_units: int
    on_error: OnError
    variants: int
    """How many of the tokenizer's variants of a record are stored."""
    group: str = ""
    """The attribute by which the split keeps records together; "" for none."""
    moments: bool = False
    """Whether the times of raw units are stored: a split by time asks about those behind its boundaries."""
    numbers: bool = False
    """Whether the numbers that ordinal cells were rounded from are stored."""
    replaces: str = ""
    """For records of unknown origin, the corpus that is there already: its parts must not be taken for these."""
    lies_in: str = ""
    """The folder of the parts, where they have one already."""

    def __post_init__(self) -> None:
        if self.variants < 0:
            raise UsageError(
                f"variants is {self.variants}; it is how many further sequences a record gets, 0 or more",
                code="bad-option",
            )

    @cached_property
    def description(self) -> dict[str, Any]:
        """As it stands in the manifest: no path, date or machine, so that equal input is equal bytes."""
        return self._described(self.moments, self.numbers)

    def _described(self, moments: bool, numbers: bool) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "tokenizer": tokenizer_to_json(self.tokenizer),
            "sources": list(self.sources),
            "format": self.format,
            "part_units": self.part_units,
            "on_error": self.on_error,
            "variants": self.variants,
            "replaces": self.replaces,
            "unknown_runs_from": RECORDED,
            **({"group": self.group} if self.group else {}),
            **({"moments": True} if moments else {}),
            **({"numbers": True} if numbers else {}),
        }

    @property
    def parts(self) -> str:
        """The folder of the parts, within the corpus."""
        return self.lies_in or next(iter(self.names))

    @cached_property
    def names(self) -> dict[str, tuple[bool, bool]]:
        """What the folder of the parts may be called, and whether the times of units, and numbers, are there.

        Those of before have none, and tokenizers were known by their modules then. Another split needs no new parts.
        """
        former = {key: self.description["tokenizer"][key] for key in ("name", "state", "fingerprint")}
        found = {}
        kept = product((self.moments, not self.moments), (self.numbers, not self.numbers))
        for (moments, numbers), tokenizer in product(kept, (self.tokenizer.fingerprint, former)):
            described = self._described(moments, numbers) | {"tokenizer": tokenizer}
            found[f"{PARTS}/{digest(to_json(described))[:12]}"] = moments, numbers
        return found

    def found_in(self, folder: Folder) -> "BuildPlan":
        """The same, by the name that its parts have there."""
        there = [(current_manifest(folder) or {}).get("parts_folder"), *(f"{PARTS}/{n}" for n in folder.names(PARTS))]
        name = next((name for name in there if name in self.names), "")
        moments, numbers = self.names.get(name, (self.moments, self.numbers))
        return replace(self, lies_in=name, moments=moments, numbers=numbers)


def prepare(folder: Folder, job: BuildPlan, *, overwrite: bool) -> BuildPlan:
    """The job as it is known there. Refuse to build where something else is."""
    names = [name for name in folder.names() if not name.startswith(".")]
    job = job.found_in(folder)
    if MANIFEST in names:
        manifest = current_manifest(folder) or {}
        if not (overwrite or manifest.get("parts_folder") == job.parts):
            other = difference(manifest["tokenizer"], job.tokenizer) if manifest else None
            raise UsageError(
                f"{folder} already holds a corpus of other input or another tokenizer{f': {other}' if other else ''}"
                f"\n\nhint: give another output folder, or remove this one if it is not needed any more",
                code="other-data",
            )
    elif any(name != PARTS for name in names):
        raise UsageError(
            f"{folder} is not a corpus and not empty\n\nhint: give a new folder as output", code="foreign-folder"
        )
    return job


def is_built(folder: Folder, job: BuildPlan) -> bool:
    """Whether the folder holds the finished corpus of this very job, all parts in place (its split may differ)."""
    manifest = current_manifest(folder)
    if manifest is None or manifest["parts_folder"] != job.parts:
        return False
    there = {f"{job.parts}/{name}" for name in folder.parts(job.parts)}
    return all(part["name"] in there for part in manifest["parts"])


def current_manifest(folder: Folder) -> dict[str, Any] | None:
    """The manifest that readers see now; None when there is none or it is damaged."""
    try:
        return read_manifest(folder)
    except (DataError, UsageError):
        return None


def remove_leftovers(folder: Folder, keep: set[str]) -> None:
    """Delete parts of other builds and everything half-written; `keep` names folders and files of the corpus."""
    folder.sweep()
    for build in folder.names(PARTS):
        if f"{PARTS}/{build}" not in keep:
            folder.remove(f"{PARTS}/{build}")
    for name in folder.names():
        if name.startswith("sequences-") and name not in keep:
            folder.remove(name)


def finish(folder: Folder, job: BuildPlan, split: SplitConfig, unknown: UnknownRuns) -> Corpus:
    """Split what the parts hold and commit it all by replacing the manifest."""
    parts = [Part(folder, f"{job.parts}/{name}") for name in folder.parts(job.parts)]
    n_records = sum(part.n_records for part in parts)
    n_variants = sum(part.summary["variants"] for part in parts)
    for given, file in split.files.items():
        if not any(part.n_records for part in parts if part.given == given):
            raise DataError(file, "has no records that could be tokenized", code="too-little-data")
    if not any(part.n_records for part in parts if not part.given):
        raise DataError(str(folder), "the input has no records that could be tokenized", code="too-little-data")
    manifest: dict[str, Any] = {
        **job.description,
        "maskseq": version("maskseq"),
        "parts_folder": job.parts,
        "parts": [
            {"name": part.name, "digest": part.digest, "records": part.n_records, "positions": part.n_positions}
            for part in parts
        ],
        "records": n_records - n_variants,
        "variant_records": n_variants,
        "positions": sum(part.n_positions for part in parts),
        "units": sum(part.summary["units"] for part in parts),
        "skipped": {
            "records": sum(part.summary["skipped"]["records"] for part in parts),
            "examples": [text for part in parts for text in part.summary["skipped"]["examples"]][:EXAMPLES],
        },
        "losses": _losses(parts),
        **({"circular": circles} if (circles := sum(int(part.circular.sum()) for part in parts)) else {}),
    }
    table = record_table(parts)
    unsplit = Corpus(folder, manifest, job.tokenizer)
    if split.seeks_near_copies:
        table = replace(table, near=_near_copies(unsplit, table, split.near_copies))
    first_position = np.concatenate([[0], np.cumsum(table.positions)])

    def locate(region: Region) -> tuple[int, int, int, int]:
        return _positions_of(region, unsplit, *(int(p) for p in first_position[region.record : region.record + 2]))

    segments, report = split_records(table, split, unknown, locate=locate)
    for region in report["regions"]:
        region["key"] = unsplit.record_key(region.pop("record"))
    manifest["split"] = report
    manifest["sequences"] = _write_sequences(folder, segments, first_position)
    before = current_manifest(folder)
    if before is None or to_json(_content(before)) != to_json(_content(manifest)):
        manifest["identity"] = digest(to_json(_content(manifest) | {"tokenizer": job.tokenizer.fingerprint}))
        manifest["digest"] = digest(to_json(manifest))
        folder.write(MANIFEST, to_json(manifest))
    remove_leftovers(folder, keep={job.parts, manifest["sequences"]["file"]})
    return Corpus(folder, read_manifest(folder), job.tokenizer)


def _near_copies(corpus: Corpus, table: RecordTable, share: float) -> Int[np.ndarray, "records"] | None:
    """The same number for records that are nearly the same; None where none are. Variants are not looked at."""
    starts = np.cumsum(table.positions) - table.positions
    units = table.units if table.variant is None else np.where(table.variant == 0, table.units, 0)

    def read(record: int) -> Iterator[Integer[np.ndarray, "_ _"]]:
        start, stop = int(starts[record]), int(starts[record] + table.positions[record])
        return (corpus.read_span(at, min(at + STRETCH + WORD - 1, stop)).ids for at in range(start, stop, STRETCH))

    return near_copies(corpus.tokenizer, units, read, share)


def _content(manifest: dict[str, Any]) -> dict[str, Any]:
    """What identifies a corpus, but for its tokenizer, which is in the name of the parts."""
    return {key: value for key, value in manifest.items() if key not in (*SIGNED, "tokenizer")}


def _losses(parts: list[Part]) -> dict[str, dict[str, Any]]:
    total: dict[str, QuantizationError] = {}
    for part in parts:
        for source, loss in part.summary["losses"].items():
            total[source] = total.get(source, QuantizationError()) + QuantizationError(**loss)
    return {source: asdict(loss) for source, loss in total.items()}


def _write_sequences(
    folder: Folder, segments: Sequence[Segments], first_position: Int[np.ndarray, "records_plus_1"]
) -> dict[str, Any]:
    record = np.concatenate([part.record for part in segments])
    start = np.concatenate([part.start for part in segments])
    length = np.concatenate([part.length for part in segments])
    columns = [first_position[record] + start, length, record, start]
    context = np.concatenate([part.shown for part in segments])
    table = np.stack([*columns, context] if context.any() else columns)
    name = f"sequences-{digest(table.data)[:12]}.npy"  # a new name: the manifest of before keeps its own
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(table))
    pieces = header.getvalue(), table.data.cast("B")
    folder.write(name, *pieces)
    entry = {"file": name, "digest": digest(*pieces), "count": len(record)}
    return entry | ({"context": int(context.sum())} if context.any() else {})


def _positions_of(region: Region, corpus: Corpus, begin: int, end: int) -> tuple[int, int, int, int]:
    """The positions, within the record stored at `begin:end`, that lie inside the region and that meet it.

    Read in chunks that share one position, because `units` counts from the first id that it is given.
    """
    tokenizer = corpus.tokenizer
    if not tokenizer.defines("units") and corpus.read_span(begin, min(begin + 1, end)).units is None:
        return region.start, region.stop, region.start, region.stop
    before_inside = before_inside_ends = before_meeting = before_meeting_ends = 0
    base = None
    for start in range(begin, end, UNITS_CHUNK):
        ranges = tokenizer.units_of(corpus.read_span(start, min(start + UNITS_CHUNK + 1, end)))
        ranges = ranges + (0 if base is None else base - position_units(ranges[:1])[0, 0])
        base = position_units(ranges[-1:])[0, 0]
        first, last = ranges[:UNITS_CHUNK, :, 0].min(axis=1), ranges[:UNITS_CHUNK, :, 1].max(axis=1)
        before_inside += int((first < region.start).sum())
        before_inside_ends += int((last <= region.stop).sum())
        before_meeting += int((last <= region.start).sum())
        before_meeting_ends += int((first < region.stop).sum())
    return before_inside, max(before_inside_ends, before_inside), before_meeting, before_meeting_ends
