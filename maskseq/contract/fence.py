"""The one place where plug-ins are called: what they raise becomes one line with the file, the record and the plug-in.

Errors of ours (`MaskseqError`) and of the operating system pass unchanged. A `ValueError` of `encode` and `read` says
that the data are broken, as their contract has it; everything else is a fault of the plug-in, a `PluginError`.
"""

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin

import numpy as np

from maskseq.errors import DataError, MaskseqError, PluginError, UsageError
from maskseq.formats import Format
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Record
from maskseq.variants import VariantFormat

T = TypeVar("T")
PLUGINS = (Tokenizer, Format, VariantFormat)


@contextmanager
def fenced(
    plugin: object,
    method: str,
    record: object = None,
    *,
    file: Path | str = "",
    given: "Given[Any] | None" = None,
    data: bool = False,
) -> Iterator[None]:
    """Around a call of `plugin.method` about `record`. With `data`, a `ValueError` means broken data.

    What `given` raised, which the plug-in was handed to iterate over, is not the plug-in's fault and passes.
    """
    key = str(getattr(record, "key", ""))
    try:
        yield
    except (MaskseqError, OSError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if given is not None and error is given.error:
            raise
        given_record = record if given is None else given.last
        if _is_of_other_kind(plugin, given_record):
            raise RecordKindError(plugin, given_record, file) from error
        if data and isinstance(error, ValueError):
            raise DataError(file, str(error), place=f"record {key!r}" if key else "", code="malformed-data") from error
        raise _fault(plugin, method, error, record=key, file=file) from error


def blame(error: BaseException) -> PluginError | None:
    """The fault of the plug-in that an exception passed through, from a method that no fence is around; None if none.

    For the command line, where nothing else reads the trace.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        plugin = frame.f_locals.get("self", frame.f_locals.get("cls"))
        cls = plugin if isinstance(plugin, type) else type(plugin)
        if issubclass(cls, PLUGINS) and not cls.__module__.startswith("maskseq."):
            return _fault(plugin, frame.f_code.co_name, error)
    return None


def _fault(plugin: object, method: str, error: BaseException, **where: Any) -> PluginError:
    problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    one_line = " ".join(f"{method}: {problem}".split())
    hint = "a fault of the plug-in, or it was given what it is not for; `maskseq --debug …` shows where"
    return PluginError(describe(plugin), f"{one_line}\n\nhint: {hint}", **where)


@contextmanager
def naming(file: Path | str) -> Iterator[None]:
    """Adds the file to the errors of plug-ins that were handed its records only."""
    try:
        yield
    except (PluginError, RecordKindError) as error:
        error.file = error.file or str(file)
        raise
    except DataError as error:
        if error.path:
            raise
        raise DataError(file, error.problem, place=error.place, code=error.code) from error.__cause__


class RecordKindError(UsageError):
    """A record is not of the kind that a plug-in is for."""

    code = "not-supported"

    def __init__(self, plugin: object, record: Any, file: Path | str) -> None:
        self.file = str(file)
        self._given = f"record {record.key!r}", f"{type(record).__name__} records"
        self._needed = f"{describe(plugin)} reads {getattr(record_type(plugin), '__name__', '')} records"
        super().__init__(*self._given, self._needed)

    def __str__(self) -> str:
        record, kind = self._given
        return (
            f"{self.file or record}: these are {kind}, and {self._needed}\n\nhint: give a file of that kind, or choose "
            f"another format with --format"
        )


class Given(Generic[T]):
    """What a plug-in is handed to iterate over; keeps the last item, and what it raised."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self.last: T | None = None
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[T]:
        try:
            for item in self._items:
                self.last = item
                yield item
        except BaseException as error:
            self.error = error
            raise


def encode(tokenizer: Tokenizer[Any], record: Any) -> Encoded:
    """`tokenizer.encode(record)`, checked for what it promises."""
    with fenced(tokenizer, "encode", record, data=True):
        encoded = tokenizer.encode(record)
    check_shape(tokenizer, record, encoded)
    check_ids(tokenizer, record, encoded)
    return with_numbers(tokenizer, record, encoded)


def with_numbers(tokenizer: Tokenizer[Any], record: Any, encoded: Encoded) -> Encoded:
    """The same with the numbers that its cells were rounded from, where the tokenizer gives them."""
    if encoded.numbers is not None or not tokenizer.defines("numbers"):
        return encoded
    numbers = numbers_of(tokenizer, record)
    if numbers is not None and np.shape(numbers) != encoded.ids.shape:
        shapes = f"{list(np.shape(numbers))}, and there are {list(encoded.ids.shape)} cells"
        problem = f"numbers gave an array of shape {shapes}: a fault of the tokenizer"
        raise PluginError(describe(tokenizer), problem, record=record.key)
    return encoded if numbers is None else replace(encoded, numbers=np.asarray(numbers, np.float64))


def numbers_of(tokenizer: Tokenizer[Any], record: Any) -> Any:
    """`tokenizer.numbers(record)`."""
    with fenced(tokenizer, "numbers", record):
        return tokenizer.numbers(record)


def beyond_of(tokenizer: Tokenizer[Any], record: Any) -> Any:
    """`tokenizer.beyond(record)`."""
    with fenced(tokenizer, "beyond", record):
        return tokenizer.beyond(record)


def unlike(tokenizer: Tokenizer[Any], record: Any) -> str | None:
    """`tokenizer.unlike(record)`."""
    with fenced(tokenizer, "unlike", record):
        return tokenizer.unlike(record)


def check_shape(tokenizer: Tokenizer[Any], record: Record, encoded: object) -> None:
    """`PluginError` unless it is a cell for each position and field, with fitting weights."""
    if not isinstance(encoded, Encoded):
        raise broken(tokenizer, record, f"a {type(encoded).__name__} instead of an Encoded")
    ids, weights, n_fields = encoded.ids, encoded.weights, tokenizer.vocabulary.n_fields
    if not isinstance(ids, np.ndarray) or ids.ndim != 2 or ids.shape[1] != n_fields or ids.dtype.kind not in "iu":
        shape, dtype = list(np.shape(ids)), getattr(ids, "dtype", type(ids).__name__)
        raise broken(
            tokenizer, record, f"ids of shape {shape} and type {dtype}, not whole numbers [length, {n_fields}]"
        )
    if weights is not None and (weights.shape != ids.shape or not (weights >= 0).all() or np.isinf(weights).any()):
        raise broken(tokenizer, record, "loss weights that are not finite, not >= 0, or not of the ids' shape")
    units = encoded.units
    if units is not None and (units.shape != (*ids.shape, 2) or units.dtype.kind not in "iu"):
        raise broken(tokenizer, record, "units that are not whole numbers [length, fields, 2]")


def check_ids(tokenizer: Tokenizer[Any], record: Record, encoded: Encoded) -> None:
    """`PluginError` names the record, the field, the position and the value of an id that does not exist."""
    vocabulary = tokenizer.vocabulary
    wrong = np.argwhere((encoded.ids < 0) | (encoded.ids >= vocabulary.n_ids))
    if len(wrong):
        at, field = wrong[0].tolist()
        known = f"field {vocabulary.names[field]!r} has the ids 0 to {vocabulary.n_ids[field] - 1}"
        if field in vocabulary.given:
            known += ", as it is given: a value that nobody knows needs an id of its own, such as that of [OTHER]"
        raise broken(tokenizer, record, f"id {encoded.ids[at, field]} at position {at + 1}, but {known}")


def broken(tokenizer: Tokenizer[Any], record: Record, problem: str) -> PluginError:
    return PluginError(describe(tokenizer), f"encode gave {problem}: a fault of the tokenizer", record=record.key)


def read(reader: Format[Any], path: Path) -> Iterator[Any]:
    """The records of a file."""
    return streamed(reader, path, "read", reader.read)


def streamed(reader: object, path: Path, method: str, open_: Callable[[Path], Iterator[T]]) -> Iterator[T]:
    """What a method of a format streams from a file."""
    n_read = 0
    try:
        with fenced(reader, method, file=path, data=True):
            for record in open_(path):
                yield record
                n_read += 1
    except PluginError as error:
        error.record = error.record or f"number {n_read + 1}"
        raise


def fit(cls: type[Tokenizer[Any]], records: Iterable[Record], options: Mapping[str, Any]) -> Tokenizer[Any]:
    """`cls.fit(records, **options)`; `UsageError` lists the options where one of them is unknown or missing."""
    signature, given = inspect.signature(cls.fit), Given(records)
    try:
        signature.bind(given, **options)
    except TypeError as error:
        variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        known = [each.name for each in signature.parameters.values() if each.kind not in variable][1:]
        raise UsageError(
            f"tokenizer {cls.__name__}: {error} (options: {', '.join(known) or 'none'})", code="unknown-option"
        ) from None
    with fenced(cls, "fit", given=given):
        return cls.fit(given, **options)


def record_type(plugin: object) -> type | None:
    """What a plug-in says that its records are, as the parameter of its base; None where it does not."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    for base in cls.__mro__:
        for generic in base.__dict__.get("__orig_bases__", ()):
            origin, arguments = get_origin(generic), get_args(generic)
            if isinstance(origin, type) and issubclass(origin, PLUGINS) and isinstance(arguments[0], type):
                return arguments[0]
    return None


def check_variants(variants: VariantFormat[Any], tokenizer: Tokenizer[Any]) -> None:
    """`UsageError` where variants are changes of other records than the tokenizer reads."""
    changed, read_ = record_type(variants), record_type(tokenizer)
    if changed is not None and read_ is not None and not issubclass(read_, changed):
        raise UsageError(
            f"{describe(variants)} lists changes of {changed.__name__} records, and this run reads {read_.__name__} "
            f"records: they cannot be scored",
            code="not-supported",
        )


def describe(plugin: object) -> str:
    """A plug-in as errors call it."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    kind = "tokenizer" if issubclass(cls, Tokenizer) else "format" if issubclass(cls, Format) else "plug-in"
    return f"{kind} {cls.__name__} of {cls.__module__.partition('.')[0]}"


def _is_of_other_kind(plugin: object, record: object) -> bool:
    """Asked only once a call has failed: what is declared is a hint for readers and type checkers, ducks may work."""
    wanted = record_type(plugin)
    return wanted is not None and isinstance(record, Record) and not isinstance(record, wanted)
