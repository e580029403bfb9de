"""What the panel asks: puzzles drawn by this checkout from ids that any commit's code has encoded.

Which cells are hidden depends on the ids, the protocol and the seed, and on nothing else of the code that is judged.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from benchmarks.panel.drift import DRIFTS, SENTINEL
from benchmarks.panel.sets import Domain
from maskseq.errors import UsageError
from maskseq.evaluation.protocols import MaskedExample, Protocol
from maskseq.masking.config import MaskingConfig
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import Encoded, Field

CLASSES: Mapping[Domain, Mapping[str, tuple[str, ...]]] = {
    "genome": {"single": ("isolated",), "gap": ("gap-10", "gap-5"), "masked": ("masked",)},
    "log": {"single": ("event",), "gap": ("gap-5", "gap-3", "gap-2", "gap-1"), "masked": ("masked",)},
    "signal": {"single": ("point-10",), "gap": ("block-24", "block-12", "block-6"), "masked": ("masked",)},
}
"""Of each class, protocols in the order in which they are tried: the first that asks `FEW_GAPS` windows is taken."""
FEW_GAPS = 100
CELLS = 6_000
SELECTION_CELLS = 2_000
AN_EXAMPLE = 60
"""Cells that are asked of one window of a genome or a signal, at most: what stands close together tells the same."""
ROUNDS = 32
DRIFT_GAPS = 300
"""Of each set, at most: one of a window, so that they are independent."""
FILLED = 50
"""Gaps of bases that are filled jointly, which costs most and is no primary figure; those of events all are."""
EVERY_PLACE = 60_000
"""Positions of records that protocols which ask every place go through, at most."""


@dataclass(frozen=True, kw_only=True)
class Exported(Tokenizer[Any]):
    """The columns and symmetries of a tokenizer of any commit. It encodes nothing."""

    fields: tuple[Field, ...]
    images: tuple[Symmetry[Any], ...] = ()

    def encode(self, record: Any) -> Encoded:
        raise UsageError("these ids were encoded elsewhere")

    def decode(self, ids: np.ndarray) -> list[list[str]]:
        return [[field.token(each) for field, each in zip(self.fields, row, strict=True)] for row in ids.tolist()]

    def symmetries(self) -> tuple[Symmetry[Any], ...]:
        return self.images


@dataclass(frozen=True)
class Export:
    """What `model.py encode` wrote of a run."""

    tokenizer: Exported
    context: int
    distances: tuple[int, ...]
    masking: MaskingConfig
    about: dict[str, Any]
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> "Export":
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz")) as file:
            arrays = dict(file)
        fields = tuple(
            Field(
                **each
                | {"tokens": tuple(each["tokens"]), "controls": tuple(each["controls"])}
                | {"centres": None if each["centres"] is None else tuple(each["centres"])}
            )
            for each in about["fields"]
        )
        images: tuple[Symmetry[Any], ...] = tuple(
            Symmetry(
                name=each["name"],
                transform=lambda record: record,
                id_maps=tuple(map(tuple, each["id_maps"])),
                reverse=each["reverse"],
                field_order=None if each["field_order"] is None else tuple(each["field_order"]),
            )
            for each in about["symmetries"]
        )
        masking = TypeAdapter(MaskingConfig).validate_json(json.dumps(about["masking"]))
        tokenizer = Exported(fields=fields, images=images)
        return cls(tokenizer, about["context"], tuple(about["distances"]), masking, about, arrays)

    def ids(self, part: str) -> list[np.ndarray]:
        return np.split(self.arrays[f"{part}/ids"], np.cumsum(self.arrays[f"{part}/lengths"])[:-1])

    def records(self, part: str) -> list[tuple[str, Encoded]]:
        """Keys and records of the selection or a test part."""
        ends = np.cumsum(self.arrays[f"{part}/lengths"])[:-1]
        columns: dict[str, Any] = {
            name: np.split(self.arrays[f"{part}/{name}"], ends)
            for name in ("ids", "weights", "numbers", "units")
            if f"{part}/{name}" in self.arrays
        }
        return [
            (key, Encoded(**{name: column[i] for name, column in columns.items()}))
            for i, key in enumerate(self.about["keys"][part])
        ]


def questions(export: Export, domain: Domain, *, cells: int = CELLS) -> dict[str, tuple[str, list[MaskedExample]]]:
    """Protocol and puzzles by `part/class`: selection and test part, and each drift, of which gaps alone are asked."""
    found: dict[str, tuple[str, list[MaskedExample]]] = {}
    for part, wanted in (("test", cells), ("selection", min(cells, SELECTION_CELLS))):
        records = export.records(part)
        for kind, names in CLASSES[domain].items():
            if part == "selection":
                names = (found[f"test/{kind}"][0],) if f"test/{kind}" in found else ()
            drawn = _first(export, records, names, domain, wanted)
            if drawn is not None:
                found[f"{part}/{kind}"] = drawn
    for drift in DRIFTS if "test/gap" in found else ():
        if f"{drift}/ids" in export.arrays:
            name = found["test/gap"][0]
            masked_examples = _windows(export, export.records(drift), name)
            found[f"{drift}/gap"] = name, [each for each in map(_without_sentinels, masked_examples) if len(each.cells)]
    return found


def _first(
    export: Export, records: Sequence[tuple[str, Encoded]], names: Sequence[str], domain: Domain, cells: int
) -> tuple[str, list[MaskedExample]] | None:
    """By the first protocol that asks enough windows, or the one that asks most."""
    best: tuple[str, list[MaskedExample]] | None = None
    for name in [each for each in names if 2 * _gap_of(each) <= export.context] or names[-1:]:
        masked_examples = draw(export, records, name, cells=cells, thin=domain != "log")
        if best is None or independent(masked_examples) > independent(best[1]):
            best = name, masked_examples
        if independent(best[1]) >= FEW_GAPS:
            break
    return best if best and best[1] else None


def independent(masked_examples: Sequence[MaskedExample]) -> int:
    """How many windows they ask; the same one asked again, with other cells hidden, tells little that is new."""
    return len({(masked_example.region, masked_example.truth.tobytes()) for masked_example in masked_examples})


def _gap_of(protocol: str) -> int:
    """Positions that a gap of this protocol takes of a window; it is to leave at least half of it."""
    kind, _, length = protocol.partition("-")
    return int(length) if kind in ("gap", "block") else 0


def draw(
    export: Export, records: Sequence[tuple[str, Encoded]], name: str, *, cells: int, thin: bool, seed: int = 0
) -> list[MaskedExample]:
    """Puzzles with about so many cells; windows are asked again, with other cells hidden, until there are enough."""
    protocol = Protocol.parse(name, export.masking)
    every_place = name == "event"
    if every_place:
        ends = np.cumsum([len(encoded) for _, encoded in records])
        records = records[: int(np.searchsorted(ends, EVERY_PLACE)) + 1]
    found: list[MaskedExample] = []
    requested = 0
    for round_ in range(1 if every_place else ROUNDS):
        new = list(protocol.examples(records, export.tokenizer, context=export.context, seed=seed * ROUNDS + round_))
        rng = np.random.default_rng((seed, round_))
        for index in rng.permutation(len(new)).tolist():
            masked_example = _thinned(new[index], rng, whole=name.startswith(("block", "gap"))) if thin else new[index]
            found.append(masked_example)
            requested += len(masked_example.cells)
            if requested >= cells:
                return found
        if not new:
            break
    return found


def _windows(export: Export, records: Sequence[tuple[str, Encoded]], name: str) -> list[MaskedExample]:
    protocol = Protocol.parse(name, export.masking)
    masked_examples = list(protocol.examples(records, export.tokenizer, context=export.context))
    order = np.random.default_rng(0).permutation(len(masked_examples))[:DRIFT_GAPS]
    return [masked_examples[i] for i in order.tolist()]


def _thinned(masked_example: MaskedExample, rng: np.random.Generator, *, whole: bool) -> MaskedExample:
    """The same puzzle of which fewer cells are asked: those of some fields if gaps are to stay `whole`."""
    cells = masked_example.cells
    if len(cells) <= AN_EXAMPLE:
        return masked_example
    if whole:
        fields, sizes = np.unique(cells[:, 1], return_counts=True)
        order = rng.permutation(len(fields))
        few = order[: max(int(np.searchsorted(np.cumsum(sizes[order]), AN_EXAMPLE, side="right")), 1)]
        kept = np.isin(cells[:, 1], fields[few])
    else:
        kept = np.isin(np.arange(len(cells)), rng.choice(len(cells), AN_EXAMPLE, replace=False))
    return _with_cells(masked_example, cells[kept])


def _without_sentinels(masked_example: MaskedExample) -> MaskedExample:
    """What a logger wrote where it had no value is nothing that could be told."""
    if masked_example.numbers is None:
        return masked_example
    return _with_cells(
        masked_example, masked_example.cells[masked_example.numbers[tuple(masked_example.cells.T)] != SENTINEL]
    )


def _with_cells(masked_example: MaskedExample, cells: np.ndarray) -> MaskedExample:
    values = {name: getattr(masked_example, name) for name in masked_example.__dataclass_fields__}
    return MaskedExample(**values | {"cells": cells})


def write(path: Path, masked_examples: Sequence[MaskedExample], tokenizer: Exported, *, fills: int) -> None:
    """For `model.py answer`: what is seen, which cells are asked, and how many of the first are filled jointly."""
    masks = np.asarray(tokenizer.vocabulary.mask_ids, masked_examples[0].truth.dtype)
    numbers = [each.numbers for each in masked_examples if each.numbers is not None]
    seen: dict[str, np.ndarray] = {}
    if len(numbers) == len(masked_examples):
        seen["numbers"] = np.where(np.concatenate([p.masked for p in masked_examples]), np.nan, np.concatenate(numbers))
    np.savez_compressed(
        path,
        seen=np.concatenate(
            [np.where(masked_example.masked, masks, masked_example.truth) for masked_example in masked_examples]
        ),
        lengths=np.array([len(masked_example.truth) for masked_example in masked_examples]),
        cells=np.concatenate([masked_example.cells for masked_example in masked_examples]),
        sizes=np.array([len(masked_example.cells) for masked_example in masked_examples]),
        fills=np.array(fills),
        **seen,
    )


def asks(path: Path, masked_examples: Sequence[MaskedExample]) -> bool:
    """Whether a file asks for the cells of these puzzles, so that the answers to it belong to them."""
    if not path.exists():
        return False
    with np.load(path) as file:
        return np.array_equal(
            file["cells"], np.concatenate([masked_example.cells for masked_example in masked_examples])
        ) and np.array_equal(file["sizes"], [len(masked_example.cells) for masked_example in masked_examples])


def jointly(domain: Domain, kind: str, masked_examples: Sequence[MaskedExample]) -> int:
    """How many of the puzzles are filled jointly: numbers never are, they are never exactly right."""
    if kind != "gap" or domain == "signal":
        return 0
    return len(masked_examples) if domain == "log" else min(FILLED, len(masked_examples))
