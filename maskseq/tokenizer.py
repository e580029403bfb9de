"""What a tokenizer is. Subclass `Tokenizer` as a frozen dataclass: its fields are its saved state.

Example, complete and usable:

    @dataclass(frozen=True, kw_only=True)
    class Weather(Tokenizer[ListRecord]):
        fields = (Field(name="sky", tokens=("sun", "cloud", "rain")),)

        def encode(self, record):
            ids = [self.fields[0].tokens.index(value) for value in record.values]
            return Encoded(np.array(ids, dtype=np.uint8)[:, None])

        def decode(self, ids):
            return [self.fields[0].token(i) for i in ids[:, 0]]

`maskseq.testing.check_tokenizer(tokenizer, records)` checks whether it keeps the contract.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, is_dataclass
from dataclasses import fields as options_of
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from pydantic import ConfigDict, TypeAdapter, ValidationError

from maskseq.constraints import Constraint
from maskseq.contract.installed import identity_name
from maskseq.contract.renamed import older_names
from maskseq.contract.symmetry import Augmentation as Augmentation
from maskseq.contract.symmetry import Symmetry as Symmetry
from maskseq.errors import UsageError, first_problem
from maskseq.storage.standard_json import to_json
from maskseq.survey import Suggestion
from maskseq.types import ABSENT, END, OTHER, Encoded, Field, LegalCells, QuantizationError, Record, Vocabulary

R = TypeVar("R", bound=Record)
P = TypeVar("P")
T = TypeVar("T", bound="Tokenizer[Any]")  # not typing.Self, which the shape checks of the tests cannot read

UNKNOWN_LETTER = 255
"""In `Tokenizer.strands`, a unit that is not known."""

ABOUT: Mapping[str, Any] = MappingProxyType({"about": True})
"""For `field(default=…, metadata=ABOUT)`: state that no id depends on, such as a remark on the training records. It is
no part of a tokenizer's fingerprint."""

Rule = Callable[[str, int, int], LegalCells | Constraint]
"""What infill must keep at the positions `start:stop`, made from the user's argument, `start` and `stop`."""


@dataclass(frozen=True, kw_only=True)
class Variant(Generic[R]):
    """Another sequence of the same record, `tokenizer.encode(record)`, which a build stores with the record's own."""

    name: str
    record: R
    """The record as it is read here: itself, its reverse complement; of the same length in raw units if `aligned`."""
    tokenizer: "Tokenizer[R]"
    """What reads it: the same fields, perhaps in another frame."""
    reverse: bool = False
    """Raw unit u of the original is unit len(record) − 1 − u here."""
    aligned: bool = True
    """False: its raw units are others, such as the letters of a molecule that is written in another order. It is then
    trained on only where its record is, as a whole."""


class Tokenizer(ABC, Generic[R]):
    """Records to ids and back. No encoding may depend on the window it is seen through or on what is masked.

    A subclass is a frozen dataclass whose fields are its options and its state, and defines `fields`, `encode` and
    `decode`; all other methods have defaults. Whatever is fitted (vocabularies, bin edges, scales) is fitted once, by
    `fit`, on training records. `maskseq.testing.check_tokenizer` checks the contract; tokenizers/README.md explains
    what each further method adds.

    Example:
        >>> from maskseq import ListRecord
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Weather(Tokenizer[ListRecord]):
        ...     fields = (Field(name="sky", tokens=("sun", "cloud", "rain")),)
        ...
        ...     def encode(self, record):
        ...         return Encoded(np.array([[self.fields[0].tokens.index(value)] for value in record.values]))
        ...
        ...     def decode(self, ids):
        ...         return [self.fields[0].token(i) for i in ids[:, 0]]
        >>> Weather().encode(ListRecord(key="March", values=["sun", "rain"])).ids.ravel().tolist()
        [0, 2]
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    boundaries_depend_on_data: ClassVar[bool] = False
    """True for tokenizers such as BPE whose token boundaries move with the content: contents never leak, lengths do."""

    fields: tuple[Field, ...]
    """The columns of a sequence: a class attribute, or a property computed from the state."""

    @abstractmethod
    def encode(self, record: R) -> Encoded:
        """The whole record as ids.

        Returns:
            Ids of shape [positions, fields], `Field.mask_id` where a value is unknown, and what goes with them.

        Raises:
            DataError: Or `ValueError`: what cannot be encoded, and where it stands.
        """

    def encode_many(self, records: Sequence[R]) -> list[Encoded]:
        """The ids and weights of each record, as `encode` gives them, for a build; legal cells may be left out.

        For tokenizers that encode many short records faster together, or without legal cells.
        """
        return [self.encode(record) for record in records]

    @abstractmethod
    def decode(self, ids: Integer[np.ndarray, "length fields"]) -> Any:
        """Any ids of shape [positions, fields], `[MASK]` included, in a form that people of the domain read."""

    def losses(self, record: R, ids: Integer[np.ndarray, "length fields"]) -> Mapping[str, QuantizationError]:
        """For each source, what its encoded values lost by rounding and clipping. Default: nothing is measured."""
        return {}

    def numbers(self, record: R) -> Float[np.ndarray, "length fields"] | None:
        """What the ordinal cells of `encode(record)` were rounded from, in the unit of their field; else NaN.

        Errors are measured against it. Default: nothing is known but the centres of bins.
        """
        return None

    def beyond(self, record: R) -> Float[np.ndarray, "length fields"] | None:
        """How far the numbers that the cells of `encode(record)` stand for lie outside those that were fitted on.

        In widths of their range: 0 inside, NaN where there is no number. Such numbers are clipped, and commands warn of
        them. Default: nothing is known.
        """
        return None

    def unlike(self, record: R) -> str | None:
        """In words, how a record differs from those that were fitted on though it can be encoded.

        Such as by its sampling step. Commands warn of it. Default: nothing is known.
        """
        return None

    def describe(self) -> Mapping[str, str]:
        """For each field, in words, what was inferred and fitted, for people to check. Default: tokens and range."""
        return {field.name: described(field) for field in self.fields}

    def units(self, ids: Integer[np.ndarray, "length fields"]) -> Integer[np.ndarray, "length fields 2"]:
        """For each cell, the half-open range of raw units that it depends on, in coordinates of its source.

        Computed from these ids alone; counts from the first id's first unit, so ranges may start below 0.
        Where ids do not determine them, `encode` gives `Encoded.units`, which then count. Default: cell (i, f) depends
        on unit i.
        """
        start = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)
        return np.stack([start, start + 1], axis=-1)

    def splice(
        self, record: R, ids: Integer[np.ndarray, "length fields"], holes: Bool[np.ndarray, "length fields"]
    ) -> R:
        """The original record with the units of the `holes` taken from `ids`; everything else comes back verbatim.

        Args:
            record: As it was read.
            ids: Of the filled sequence.
            holes: Cells that were filled. A unit is a hole where every cell that depends on it is one.

        Raises:
            UsageError: The tokenizer does not define it: its runs can be asked for fills, but no file is written.
        """
        raise UsageError(
            f"{type(self).__name__} cannot write filled records\n\nhint: give it a splice(record, ids, holes) method",
            code="not-supported",
        )

    def unfillable(self, record: R) -> Sequence[str]:
        """Which unknown values of a record infill leaves, as nothing in the vocabulary fits there; a line for each.

        Their cells are encoded as `[OTHER]`. Default: there are none.
        """
        return ()

    def by_unit(self) -> "tuple[Tokenizer[R], Callable[[Any], Any]] | None":
        """For tokens that share raw units: a tokenizer of single units, and what makes a model of tokens one of units.

        Infill then fills units, so that all tokens over one agree. The second maps one
        `maskseq.predict.protocol.Predict` to another. Default: None, infill fills tokens.
        """
        return None

    def resized(self, record: R, start: int, stop: int, length: int) -> R:
        """The record with `length` unknown units in place of `start:stop`. Default: none can be added or left out."""
        raise UsageError(
            f"{record.key}: units can be neither added nor left out by {type(self).__name__}", code="not-supported"
        )

    def put_numbers(self, record: R, cells: Integer[np.ndarray, "cells 2"], numbers: Float[np.ndarray, " cells"]) -> R:
        """Write numbers, in the units of their ordinal fields, into a record that `splice` has filled at these cells.

        Default: it keeps what `splice` wrote, the centres of bins.
        """
        return record

    @classmethod
    def fit(cls: type[T], records: Iterable[Any], **options: Any) -> T:
        """Learn the state from training records, streaming. Default: nothing to learn, the options are the state.

        Args:
            records: Those that will be trained on, once, in the order of the file.
            options: Those of the recipe's `[tokenizer]` section, without the name.

        Raises:
            UsageError: An option that is unknown, or of the wrong type.
            DataError: Records that nothing can be learned from.
        """
        return cls.from_state(options)

    @classmethod
    def suggest(cls, records: Sequence[Any]) -> Suggestion | None:
        """What these records hold and which recipe would suit them, for `maskseq init`; None: not records of mine.

        They are some of the file's records, from its beginning; `maskseq.survey.Size.of(records)` is the size of the
        whole. Default: none are.
        """
        return None

    def allowed(self, ids: Integer[np.ndarray, "length fields"]) -> LegalCells | None:
        """The grammar: cells of a partly known sequence that may take only some ids. Default: no restriction."""
        return None

    def closed(self, ids: Integer[np.ndarray, "length fields"]) -> Integer[np.ndarray, "length fields"]:
        """These ids as those of a record that breaks off at the last of them, for `packing.cut` in recipes.

        Default: where fields have `[END]`, records end with it, and it takes the place of the last position.
        """
        marks = [next((mark for mark in (END, ABSENT) if mark in field.controls), None) for field in self.fields]
        if END not in marks or len(ids) == 0:
            return ids
        closed = ids.copy()
        closed[-1] = [
            last if mark is None else field.control_id(mark)
            for last, mark, field in zip(ids[-1], marks, self.fields, strict=True)
        ]
        return closed

    def is_end(self, position: Integer[np.ndarray, " fields"]) -> bool:
        """Whether these ids of one position are the mark of the end."""
        marks = [field.control_id(END) if END in field.controls else -1 for field in self.fields]
        return bool((position == np.array(marks)).any())

    def opened(self, ids: Integer[np.ndarray, "length fields"]) -> Integer[np.ndarray, "_ fields"]:
        """These ids as those of a record that may go on: without the mark of its end, if there is one."""
        return ids[:-1] if len(ids) and self.is_end(ids[-1]) else ids

    def extended(self, ids: Integer[np.ndarray, "length fields"], n: int) -> Integer[np.ndarray, "_ fields"]:
        """These ids of an open record and `n` positions more, as they are seen before anything is known of them.

        Default: nothing is, but that given fields go on as they were, if they were always the same, or else are
        `[OTHER]`. A tokenizer whose records have other facts that hold throughout puts these.
        """
        seen = [field.mask_id for field in self.fields]
        for index, field in enumerate(self.fields):
            if field.given and len(ids):
                same = bool((ids[:, index] == ids[-1, index]).all())
                seen[index] = int(ids[-1, index]) if same or OTHER not in field.controls else field.control_id(OTHER)
        return np.concatenate([ids, np.tile(np.array(seen, dtype=ids.dtype), (n, 1))])

    @property
    def elapsed(self) -> str | None:
        """The ordinal field whose numbers add up to the time that passes, for `maskseq next`. Default: none does."""
        return None

    def symmetries(self) -> tuple[Symmetry[R], ...]:
        """Exact symmetries, such as the reverse complement of DNA. Default: none."""
        return ()

    def augmentations(self) -> tuple[Augmentation[R], ...]:
        """Changes of which training draws one for each segment, such as transpositions of music. Default: none."""
        return ()

    def variants(self, record: R) -> Iterator[Variant[R]]:
        """Further sequences of a record, the most useful first, for tokenizers without an exact symmetry.

        A function of the record alone. A build takes as many as the recipe asks for and keeps them on the record's side
        of every split; `units` must give the units of their ids as their own tokenizers do. Default: none.
        """
        return iter(())

    def strands(self, ids: Integer[np.ndarray, "length fields"]) -> Sequence[UInt8[np.ndarray, "letters"]]:
        """The raw units of some ids as letters from 0, `UNKNOWN_LETTER` where one is not known; where a sequence can be
        read in two directions, also as it reads backwards.

        By their words, a build finds records that are nearly the same. Default: nothing, and no build looks for them.
        """
        return ()

    def rules(self) -> Mapping[str, Rule]:
        """Rules of the domain that infill can keep, by name, such as the GC content of DNA. Default: none."""
        return {}

    # What follows is the core's and is not overridden.

    @classmethod
    def defines(cls, method: str) -> bool:
        """Whether it has an optional method of its own: what only the default would answer need not be asked."""
        return getattr(cls, method) is not getattr(Tokenizer, method)

    @property
    def keeps_numbers(self) -> bool:
        """Whether it gives the numbers of ordinal cells, which a corpus then keeps along with their bins."""
        return self.defines("numbers") and any(field.centres is not None for field in self.fields)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self.fields)

    def units_of(self, encoded: Encoded) -> Integer[np.ndarray, "length ..."]:
        """The raw units of each cell, [length, fields, 2]: those of `encode`, else those that follow from the ids."""
        return self.units(encoded.ids) if encoded.units is None else encoded.units

    def state(self) -> dict[str, Any]:
        """The dataclass fields as JSON values."""
        state: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return state

    @classmethod
    def from_state(cls: type[T], state: dict[str, Any]) -> T:
        """Rebuild from `state()`, or from a recipe's options; `UsageError` names a wrong or unknown option."""
        return with_options(cls, state, cls.__name__)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of name, state and fields: two tokenizers with the same fingerprint encode alike.

        The name is that of the entry point, or else of the class: the file of code may move. Options and attributes of
        fields that have their defaults are left out: one that is added later changes nothing. So is what is only
        `ABOUT` the training records.
        """
        own = getattr(type(self), "__dataclass_fields__", {})
        state = {
            key: value
            for key, value in self.state().items()
            if not has_default(self, key) and not (key in own and own[key].metadata.get("about"))
        }
        fields = [
            {key: value for key, value in asdict(field).items() if not has_default(field, key)} for field in self.fields
        ]
        identity = [identity_name("tokenizers", type(self)), state, fields]
        return hashlib.sha256(to_json(identity, lossless=True, sort_keys=True).encode()).hexdigest()


def has_default(value: Any, name: str) -> bool:
    """Whether the field `name` of a dataclass has its default."""
    field = type(value).__dataclass_fields__.get(name)
    if field is None:
        return False
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if default is MISSING:
        return False
    given = getattr(value, name)
    try:
        equal = bool(given == default)
    except (TypeError, ValueError):
        equal = False
    return equal or to_json(given, lossless=True) == to_json(default, lossless=True)  # NaN is not equal to itself


def described(field: Field) -> str:
    """How many tokens a field has, and from where to where they go."""
    if field.centres is None:
        return f"{field.n_tokens:,} tokens"
    return f"{field.n_tokens:,} bins, {field.centres[0]:.6g} to {field.centres[-1]:.6g} {field.unit}".rstrip()


def with_options(cls: type[P], options: Mapping[str, Any], tokenizer: str) -> P:
    """A dataclass of a tokenizer's options, such as those of its `fit`; `UsageError` names a wrong or unknown one."""
    try:
        return TypeAdapter(cls).validate_json(json.dumps(options))
    except ValidationError as error:
        where, problem = first_problem(error)
        known = ", ".join(each.name for each in options_of(cls) if each.init) if is_dataclass(cls) else "none"
        raise UsageError(
            f"tokenizer {tokenizer}{f', option {where}' * bool(where)}: {problem} (options: {known})",
            code="unknown-option" if where.partition(".")[0] not in ["", *known.split(", ")] else "bad-option",
        ) from None


__getattr__ = older_names(
    __name__, {name: f"maskseq.formats.{name}" for name in ("ADDED", "Format", "OnBroken", "attempted", "stop")}
)
