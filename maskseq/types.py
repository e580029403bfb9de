"""The words every part of maskseq shares: record, field, vocabulary, legal ids. NumPy only.

Ids of a field are dense from 0: first the domain tokens, then the *predictable controls* (masked and scored like
values), last the input-only `[MASK]`, for which a native head has no row. An unknown cell is encoded as `[MASK]`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import not_
from typing import Annotated, SupportsIndex

import numpy as np
import pydantic
from jaxtyping import Bool, Float, Integer, Shaped

from maskseq.contract.brief import brief
from maskseq.contract.quantization import QuantizationError as QuantizationError
from maskseq.contract.renamed import older_names

OTHER = "[OTHER]"  # a value outside the vocabulary; scored, never committed by infill
ABSENT = "[ABSENT]"  # the attribute does not apply here
END = "[END]"  # the record ends here
MASK = "[MASK]"  # input only: masked or unknown
CONTROLS = (OTHER, ABSENT, END)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One domain object of a file: a contig, a case, a recording. Formats subclass it and define `__len__`.

    Args:
        key: How the record is named to the user; unique in a file where the format guarantees it.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Melody(Record):
        ...     notes: tuple[str, ...]
        ...
        ...     def __len__(self) -> int:
        ...         return len(self.notes)
        >>> len(Melody(key="tune 1", notes=("c", "e", "g")))
        3
    """

    key: str

    def __len__(self) -> int:
        """The number of raw units (bases, events, samples): what parts and `--mask` ranges are counted in."""
        raise TypeError(f"{type(self).__name__} must define __len__, its number of raw units")

    def span(self) -> tuple[float, float] | None:
        """Start and end, in seconds since 1970 UTC, for the split by time. Default: the record has no time."""
        return None

    def moments(self) -> Float[np.ndarray, "units"] | None:
        """When each raw unit was, in seconds since 1970 UTC; NaN where that is not known.

        A split by time asks about the units behind its boundary, and shows those before it as context. Default: only
        `span` is known, and a record that overlaps the boundary is left out.
        """
        return None

    def group(self, attribute: str) -> str | None:
        """The value of an attribute of the whole record, for `data.split.group`: records that share it stay together.

        Default: the record has no such attribute, and belongs to no others.
        """
        return None

    def column(self, name: str) -> Sequence[str | None] | None:
        """The values of an attribute of its raw units, None where a unit has none, for tasks whose labels are of units.

        Default: its units have no such attribute.
        """
        return None

    def between(self, start: str, stop: str) -> tuple[int, int]:
        """The half-open range of raw units from one moment up to, and without, another, both as the user writes them.

        `ValueError` says what is wrong with them. Default: the record has no clock.
        """
        raise ValueError("its units have no times; count them, as in KEY:START-END")

    def unknown_values(self) -> Mapping[str, int]:
        """How many values are unknown, by their source (the raw column), those included that its format did not read.

        Infill warns of the sources that a run has no field for. Default: they are not counted.
        """
        return {}

    def sources(self) -> Collection[str] | None:
        """The raw columns that it has values of, known or not, by the names of the sources of fields.

        Commands warn of sources that no record of a file has. Default: None, it does not say.
        """
        return None

    def cut(self, start: int, stop: int) -> "Record":
        """The raw units `start:stop` as a record of their own, which need not remember how they stood in a file.

        A tokenizer is fitted on such segments where a region of a record is held out.
        """
        raise TypeError(f"{type(self).__name__} must define cut(start, stop): a region of it is held out of fitting")

    def turned(self, by: int) -> "Record | None":
        """The same circle, read from raw unit `by` on. Default: None, it is not a circle."""
        return None

    def bare(self) -> "Record":
        """The same without what only writing it back needs: a build keeps many records at once. Default: itself."""
        return self


@dataclass(frozen=True, kw_only=True)
class ListRecord(Record):
    """The plainest record: a key and a sequence of values, for tokenizers that need no file format of their own."""

    values: Sequence[object]

    def __len__(self) -> int:
        return len(self.values)

    def cut(self, start: int, stop: int) -> "ListRecord":
        return ListRecord(key=self.key, values=self.values[start:stop])


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column of a token sequence, with its own token list.

    Ids are dense from 0: the tokens, then the controls, last `[MASK]`.

    Args:
        name: Of the column, unique among the fields of a tokenizer.
        tokens: Texts of the domain tokens, all different.
        controls: Of `OTHER` (a value outside the vocabulary; scored, never filled in), `ABSENT` (there is no value
            here) and `END` (the record ends here), those that the field predicts.
        centres: Of an ordinal field, the number that each token stands for, in `unit`, increasing.
        unit: Of the centres, such as `"mV"`.
        source: The raw column that the field is computed from (default: its name).

    Raises:
        ValueError: No tokens, a token listed twice, as many centres as there are not tokens, an unknown control.

    Example:
        >>> base = Field(name="base", tokens=("A", "C", "G", "T"), controls=(OTHER,))
        >>> base.n_predictable, base.mask_id, base.token(4)
        (5, 5, '[OTHER]')
    """

    name: str
    tokens: tuple[str, ...]
    controls: tuple[str, ...] = ()
    centres: tuple[float, ...] | None = None
    unit: str = ""
    source: str = ""
    given: bool = False
    """A covariate: known wherever the record is, such as a coordinate, the calendar or a label of the whole record. It
    is context: never masked, asked about, scored or filled. Its source is its own, and none of its cells is `[MASK]`:
    a value that nobody knows has an id like any other, such as that of `[OTHER]`."""

    def __post_init__(self) -> None:
        if not self.source:
            object.__setattr__(self, "source", self.name)
        if not self.tokens:
            raise ValueError(f"field {self.name!r} has no tokens")
        repeated = len(self.tokens) - len(set(self.tokens))
        if repeated:
            raise ValueError(f"field {self.name!r} lists {repeated} token(s) twice")
        if self.centres is not None and len(self.centres) != len(self.tokens):
            raise ValueError(f"field {self.name!r} has {len(self.tokens)} tokens but {len(self.centres)} centres")
        unknown = set(self.controls) - set(CONTROLS)
        if unknown:
            raise ValueError(
                f"field {self.name!r}: {sorted(unknown)} are not controls; there are {', '.join(CONTROLS)}"
            )

    @property
    def n_tokens(self) -> int:
        """Domain tokens: what random replacement draws from."""
        return len(self.tokens)

    @property
    def n_predictable(self) -> int:
        """Domain tokens and controls: the rows of a native head."""
        return len(self.tokens) + len(self.controls)

    @property
    def mask_id(self) -> int:
        return self.n_predictable

    @property
    def n_rows(self) -> int:
        """Rows of the embedding table: every id there is."""
        return self.n_predictable + 1

    def control_id(self, control: str) -> int:
        """The id of a control that this field declares; `ValueError` when it does not."""
        return self.n_tokens + self.controls.index(control)

    def token(self, token_id: SupportsIndex) -> str:
        """The text of any id, reserved ones included."""
        return (*self.tokens, *self.controls, MASK)[token_id]


@brief
@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """How the ids of all fields map to embedding and head rows.

    A native vocabulary (`Vocabulary.of(fields)`) has one head row for each predictable id. An imported one keeps its
    publisher's rows and order: every id has a head row, and `predictable` says which of them may be scored or sampled.
    """

    names: tuple[str, ...]
    n_rows: tuple[int, ...]
    """Embedding rows of each field."""
    n_outputs: tuple[int, ...]
    """Head rows of each field; the ids 0 … n_outputs-1 have one."""
    mask_ids: tuple[int, ...]
    unpredictable: tuple[tuple[int, ...], ...] = ()
    """For each field, the ids below `n_outputs` that are never scored or sampled (none for native vocabularies)."""
    other_ids: tuple[int | None, ...] = ()
    """For each field, the id of `[OTHER]`, which is scored but never committed by infill; None where there is none."""
    centres: tuple[tuple[float, ...] | None, ...] = ()
    """For each ordinal field, the physical value of each domain token; None for the others."""
    given: Annotated[tuple[int, ...], pydantic.Field(exclude_if=not_)] = ()
    """The fields that are context only (`Field.given`). Encoders without any are saved as before there were such."""

    def __post_init__(self) -> None:
        for name, nothing in (("unpredictable", ()), ("other_ids", None), ("centres", None)):
            if not getattr(self, name):
                object.__setattr__(self, name, (nothing,) * len(self.names))

    @classmethod
    def of(cls, fields: Sequence[Field]) -> "Vocabulary":
        return cls(
            names=tuple(f.name for f in fields),
            n_rows=tuple(f.n_rows for f in fields),
            n_outputs=tuple(f.n_predictable for f in fields),
            mask_ids=tuple(f.mask_id for f in fields),
            other_ids=tuple(f.control_id(OTHER) if OTHER in f.controls else None for f in fields),
            centres=tuple(f.centres for f in fields),
            given=tuple(index for index, f in enumerate(fields) if f.given),
        )

    @property
    def n_fields(self) -> int:
        return len(self.names)

    @property
    def ordinal(self) -> list[int]:
        """The fields whose ids are bins of numbers."""
        return [field for field, centres in enumerate(self.centres) if centres is not None]

    @cached_property
    def offsets(self) -> Integer[np.ndarray, "fields"]:
        """First row of each field in the one shared embedding table."""
        return np.concatenate([[0], np.cumsum(self.n_rows)[:-1]]).astype(np.int64)

    @cached_property
    def predictable(self) -> Bool[np.ndarray, "fields max_outputs"]:
        """`predictable[f, i]`: id `i` of field `f` has a head row and may be scored and sampled."""
        allowed = np.arange(max(self.n_outputs)) < np.asarray(self.n_outputs)[:, None]
        for index, ids in enumerate(self.unpredictable):
            allowed[index, list(ids)] = False
        return allowed

    @cached_property
    def committable(self) -> Bool[np.ndarray, "fields max_outputs"]:
        """`committable[f, i]`: infill may write id `i` in field `f`: the predictable ids but `[OTHER]`."""
        allowed = self.predictable.copy()
        for index, other in enumerate(self.other_ids):
            if other is not None:
                allowed[index, other] = False
        return allowed

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The narrowest unsigned dtype that holds every id of every field."""
        return np.dtype(np.min_scalar_type(max(self.n_rows) - 1))

    @cached_property
    def n_ids(self) -> Integer[np.ndarray, "fields"]:
        """How many ids a record may have in each field: all, but no `[MASK]` in given ones."""
        return np.asarray(self.n_rows) - np.isin(np.arange(self.n_fields), self.given)

    def known(self, ids: Integer[np.ndarray, "length fields"]) -> Bool[np.ndarray, "length fields"]:
        """Which cells have a known value, that is, are not `[MASK]`."""
        return np.asarray(ids != np.asarray(self.mask_ids, dtype=ids.dtype))

    def askable(self, ids: Integer[np.ndarray, "length fields"]) -> Bool[np.ndarray, "length fields"]:
        """Which cells may be masked and asked about: those of a known value, but of given fields."""
        requested = self.known(ids)
        requested[:, list(self.given)] = False
        return requested

    def masked(
        self, ids: Integer[np.ndarray, "length fields"], cells: Bool[np.ndarray, "length fields"]
    ) -> Integer[np.ndarray, "length fields"]:
        """A copy of the ids, `[MASK]` in these cells but those of given fields."""
        masked = cells & ~np.isin(np.arange(self.n_fields), self.given)
        return np.where(masked, np.asarray(self.mask_ids, dtype=ids.dtype), ids)


Progress = Callable[[int, int | None], None]
"""Takes how much of a long piece of work is done, and of how much (None: unknown)."""
Stages = Callable[[str, int, int | None], None]
"""The same where one thing comes after the other: takes first what is being done."""


@brief
@dataclass(frozen=True)
class LegalCells:
    """Cells whose ids are narrowed, sparsely: IUPAC `R` may be A or G only.

    Example:
        >>> purine = LegalCells(np.array([[7, 0]]), np.array([[True, False, True, False]]))
        >>> int(purine.allowed.sum())
        2
    """

    cells: Integer[np.ndarray, "cells 2"]
    """(position, field) of each narrowed cell, sorted."""
    allowed: Bool[np.ndarray, "cells max_outputs"]
    """Which predictable ids the cell may take."""

    def turned(self, by: int, length: int) -> "LegalCells":
        """The same of a circle of that length, read from position `by` on."""
        cells = np.stack([(self.cells[:, 0] - by) % length, self.cells[:, 1]], axis=1)
        order = np.lexsort((cells[:, 1], cells[:, 0]))
        return LegalCells(cells[order], self.allowed[order])


@brief
@dataclass(frozen=True)
class Encoded:
    """What a tokenizer makes of a record.

    Args:
        ids: Of every cell; `Field.mask_id` where the value is unknown. Any integer dtype that holds them.
        legal: Cells that may take some ids only.
        weights: Loss weight of each cell, ≥ 0 (default: 1); cells of weight 0 are context and never scored.
        numbers: What ordinal cells were rounded from, in the unit of their field; NaN elsewhere.
        units: The raw units of each cell, half-open, where the ids alone do not give them.

    Example:
        >>> encoded = Encoded(np.array([[0], [1], [4]]), weights=np.array([[1.0], [0.0], [1.0]]))
        >>> len(encoded.cut(1, 3)), encoded.scorable(encoded.ids != 4).ravel().tolist()
        (2, [True, False, False])
    """

    ids: Integer[np.ndarray, "length fields"]
    legal: LegalCells | None = None
    weights: Shaped[np.ndarray, "length fields"] | None = None
    numbers: Float[np.ndarray, "length fields"] | None = None
    """What `Tokenizer.numbers` says of the cells; the core adds it. None: only the centres of bins are known."""
    units: Integer[np.ndarray, "length fields 2"] | None = None
    """The raw units of each cell, half-open, where ids alone do not give them: an out-of-vocabulary word of any number
    of letters. A tokenizer gives them for all of its records or for none (None: `Tokenizer.units(ids)`)."""
    circular: bool = False
    """The first position follows the last, as in a plasmid: fills and scores see across the origin."""

    def __len__(self) -> int:
        return len(self.ids)

    def scorable(self, known: Bool[np.ndarray, "length fields"]) -> Bool[np.ndarray, "length fields"]:
        """Which of the known cells may be asked about: those whose weight is above 0."""
        return known if self.weights is None else known & (self.weights > 0)

    def cut(self, start: int, stop: int) -> "Encoded":
        """The positions `start:stop`, legal cells re-based to them; no circle any more."""
        legal = self.legal
        if legal is not None:
            inside = slice(*np.searchsorted(legal.cells[:, 0], [start, stop]).tolist())
            legal = LegalCells(legal.cells[inside] - np.array([start, 0]), legal.allowed[inside])
            legal = legal if len(legal.cells) else None
        weights, numbers, units = (
            each if each is None else each[start:stop] for each in (self.weights, self.numbers, self.units)
        )
        return Encoded(self.ids[start:stop], legal, weights, numbers, units)

    def turned(self, by: int) -> "Encoded":
        """The same circle, read from position `by` on."""
        legal = None if self.legal is None else self.legal.turned(by, len(self))
        ids, weights, numbers, units = (
            each if each is None else np.roll(each, -by, axis=0)
            for each in (self.ids, self.weights, self.numbers, self.units)
        )
        assert ids is not None
        return Encoded(ids, legal, weights, numbers, units, circular=True)


__getattr__ = older_names(__name__, {"Loss": "maskseq.types.QuantizationError"})
