"""Records and labels as what a task learns from: whole records, prefixes of them, or windows with labelled units."""

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from maskseq.contract.fence import encode
from maskseq.corpus.hashing import hash64
from maskseq.errors import DataError, DataWarning, UsageError, nearest
from maskseq.formats import Names
from maskseq.masking.units import position_units
from maskseq.predict.encoder import windows
from maskseq.tasks.config import TaskConfig
from maskseq.tasks.labels import Read, listed, record_labels, unit_labels
from maskseq.tasks.outcome import DAY, Outcome
from maskseq.tokenizer import Tokenizer
from maskseq.types import END, Encoded, Record

PARTS = ("train", "selection", "test")


@dataclass(frozen=True, kw_only=True)
class TaskExample:
    """A sequence and the labels in it: one of the whole, or one for each position of `at`."""

    key: str
    """How the record is called."""
    group: str
    """What shares it stands in one part."""
    ids: Integer[np.ndarray, "length fields"]
    labels: tuple[str, ...] = ()
    """As texts; none where they are not known."""
    at: Int[np.ndarray, " labelled"] | None = None
    """The positions that have labels, in this sequence; None: the whole has one."""
    numbers: Float[np.ndarray, "length fields"] | None = None
    """What the ids were rounded from, as in `Encoded`."""
    units: Int[np.ndarray, " labelled"] | None = None
    """The raw units that these positions stand for, in the record."""
    n_units: int = 0
    """For a prefix, how many raw units it has."""

    @property
    def n_answers(self) -> int:
        return 1 if self.at is None else len(self.at)


def labelled_examples(
    config: TaskConfig,
    parts: Mapping[str, Iterable[Record]],
    tokenizer: Tokenizer[Any],
    context: int,
    read: Read | None = None,
) -> dict[str, list[TaskExample]]:
    """The examples of each part for which there are records, `train` among them. Warns of labels without a record.

    `read` reads a second file with the labels of units.
    """
    if config.prefixes and config.prefixes.max > context:
        raise UsageError(
            f"prefixes.max = {config.prefixes.max} is longer than the encoder's context of {context} positions\n\n"
            f"hint: set prefixes.max to at most {context}, or pretrain with a longer context",
            code="bad-option",
        )
    make = _maker(config, tokenizer, context, read)
    found: dict[str, list[TaskExample]] = {}
    for part, records in parts.items():
        names, examples = Names(), found.setdefault(part, [])
        for record in records:
            made = make(names.next(record.key).text, record, _group(config, tokenizer, record))
            examples += [each for each in made if len(each.ids)]
    for text in make.check():
        warnings.warn(text, DataWarning, stacklevel=2)
    for part, examples in found.items():
        if not examples:
            raise DataError(
                f"the {part} data",
                "has no labelled example: no record, or no prefix that is short enough",
                code="too-little-data",
            )
    return found


def unlabelled_examples(
    config: TaskConfig, records: Iterable[Record], tokenizer: Tokenizer[Any], context: int
) -> Iterator[TaskExample]:
    """What predictions are asked of: every record as it stands, or every unit of it."""
    names = Names()
    for record in records:
        name = names.next(record.key).text
        encoded = encode(tokenizer, record)
        if config.labels.per_unit:
            yield from _windows_of(name, "", encoded, tokenizer, context, np.full(len(record), "?", dtype=object))
        else:
            seen = without_end(encoded, tokenizer) if config.prefixes else encoded
            yield TaskExample(key=name, group="", ids=seen.ids, numbers=seen.numbers, n_units=len(record))


def split_shares(
    examples: Sequence[TaskExample], shares: Mapping[str, float], *, seed: int, stratify: bool
) -> dict[str, list[TaskExample]]:
    """Divide by group, the same whatever the order of the records; what no share takes is `train`.

    With `stratify`, each class gives the same share of its groups, so that no part of a small set lacks one.
    """
    strata: dict[str, dict[str, None]] = defaultdict(dict)
    of_group: dict[str, str] = {}
    for each in examples:
        stratum = of_group.setdefault(each.group, each.labels[0] if stratify else "")
        strata[stratum][each.group] = None
    part_of: dict[str, str] = {}
    for groups in strata.values():
        order = sorted(groups, key=lambda group: hash64(f"{seed}/{group}".encode()))
        begin = 0
        for part, n in _sizes(len(order), shares).items():
            part_of |= dict.fromkeys(order[begin : begin + n], part)
            begin += n
    found: dict[str, list[TaskExample]] = {part: [] for part in ("train", *shares)}
    for each in examples:
        found[part_of.get(each.group, "train")].append(each)
    for part, own_examples in found.items():
        if not own_examples:
            raise DataError(
                f"the {part} data",
                f"has no record: there are {len(part_of):,} groups of records to divide",
                code="too-little-data",
            )
    return found


def _sizes(n: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of `n` groups each part is given; the others are `train`.

    No part with a share goes without as long as there are enough, the training part first.
    """
    ends = [0, *np.round(np.cumsum(list(shares.values())) * n).astype(int).tolist()]
    sizes = dict(zip(shares, np.diff(ends).tolist(), strict=True)) | {"train": n - ends[-1]}
    wanting = sorted((part for part in shares if shares[part] and not sizes[part]), key=lambda part: -shares[part])
    for part in (["train"] if not sizes["train"] else []) + wanting:
        largest = max(sizes, key=lambda other: sizes[other])
        if sizes[largest] > 1 or (part == "train" and n):
            sizes[largest] -= 1
            sizes[part] += 1
    return {part: sizes[part] for part in shares}


def shared_records(train: Sequence[TaskExample], other: Sequence[TaskExample]) -> int:
    """How many examples of another part have a sequence that stands in the training part as well."""
    known = {_digest(each.ids) for each in train}
    return sum(_digest(each.ids) in known for each in other)


def without_end(encoded: Encoded, tokenizer: Tokenizer[Any]) -> Encoded:
    """What is before the mark that the record is over, which is not known of a running case."""
    ends = np.zeros(len(encoded), dtype=bool)
    for column, each in enumerate(tokenizer.fields):
        if END in each.controls:
            ends |= encoded.ids[:, column] == each.control_id(END)
    return encoded.cut(0, int(np.argmax(ends))) if ends.any() else encoded


def _group(config: TaskConfig, tokenizer: Tokenizer[Any], record: Record) -> str:
    if config.data.group is None:
        return _digest(encode(tokenizer, record).ids)
    value = record.group(config.data.group)
    if value is None:
        raise DataError(
            f"record {record.key!r}",
            f"has no attribute {config.data.group!r}, which data.group names",
            code="unknown-name",
        )
    return value


def _digest(ids: Integer[np.ndarray, "_ _"]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(ids).tobytes(), digest_size=16).hexdigest()


class _Whole:
    """A record, a label."""

    def __init__(self, config: TaskConfig, tokenizer: Tokenizer[Any]) -> None:
        self.tokenizer, self.prefixes = tokenizer, config.prefixes
        self.labels = record_labels(config.labels, tokenizer)

    def __call__(self, name: str, record: Record, group: str) -> list[TaskExample]:
        label = (self.labels.of(name, record),)
        if self.prefixes is None:
            seen = [(encode(self.tokenizer, record), len(record))]
        else:
            seen = [(prefix(record, n, self.tokenizer), n) for n in self.prefixes.lengths if n < len(record)]
        return [
            TaskExample(key=name, group=group, ids=each.ids, numbers=each.numbers, labels=label, n_units=n)
            for each, n in seen
        ]

    def check(self) -> list[str]:
        return self.labels.check()


class _Outcomes:
    """Prefixes of a record, as long as its outcome is open, and what became of it."""

    def __init__(self, config: TaskConfig, tokenizer: Tokenizer[Any]) -> None:
        assert config.labels.outcome is not None
        assert config.prefixes is not None
        self.outcome, self.lengths, self.tokenizer = (
            Outcome.of(config.labels.outcome),
            config.prefixes.lengths,
            tokenizer,
        )
        self.field = self.token = 0
        if self.outcome.kind != "contains":
            return
        names = [each.name for each in tokenizer.fields]
        name = config.labels.field or names[0]
        if name not in names:
            raise UsageError(
                f"labels.field: there is no field {name!r}\n\nhint: {nearest(name, names)}", code="unknown-name"
            )
        self.field = names.index(name)
        tokens = tokenizer.fields[self.field].tokens
        if self.outcome.value not in tokens:
            hint = nearest(self.outcome.value, tokens, f"it knows {listed(tokens)}")
            raise UsageError(
                f"labels.outcome: the run's field {name!r} does not know {self.outcome.value!r}\n\nhint: {hint}",
                code="unknown-name",
            )
        self.token = tokens.index(self.outcome.value)

    def __call__(self, name: str, record: Record, group: str) -> list[TaskExample]:
        outcome, found = self.outcome, []
        first = self._first(record) if outcome.kind == "contains" else None
        for n in self.lengths:
            if n >= len(record) or (first is not None and n > first):
                break
            if outcome.kind == "contains":
                label = str(int(first is not None))
            elif outcome.kind == "longer":
                if outcome.elapsed(record, n) > outcome.seconds:
                    break
                label = str(int(outcome.duration(record) > outcome.seconds))
            elif outcome.kind == "duration":
                label = repr(outcome.duration(record) / DAY)
            else:
                left = outcome.left(record, n)
                if left is None:
                    continue
                label = repr(left / DAY)
            seen = prefix(record, n, self.tokenizer)
            found.append(
                TaskExample(key=name, group=group, ids=seen.ids, numbers=seen.numbers, labels=(label,), n_units=n)
            )
        return found

    def _first(self, record: Record) -> int | None:
        """The first raw unit whose value is the one that is looked for."""
        encoded = encode(self.tokenizer, record)
        hits = np.flatnonzero(encoded.ids[:, self.field] == self.token)
        if not len(hits):
            return None
        return int(self.tokenizer.units_of(encoded)[hits[0], self.field, 0])

    def check(self) -> list[str]:
        return []


class _Units:
    """A record, a label for each of its units, in windows that fit the context."""

    def __init__(self, config: TaskConfig, tokenizer: Tokenizer[Any], context: int, read: Read | None) -> None:
        self.tokenizer, self.context = tokenizer, context
        self.labels = unit_labels(config.labels, tokenizer, read)

    def __call__(self, name: str, record: Record, group: str) -> list[TaskExample]:
        labels, encoded = self.labels.of(name, record), encode(self.tokenizer, record)
        return list(_windows_of(name, group, encoded, self.tokenizer, self.context, labels))

    def check(self) -> list[str]:
        return self.labels.check()


def _maker(
    config: TaskConfig, tokenizer: Tokenizer[Any], context: int, read: Read | None
) -> _Whole | _Outcomes | _Units:
    if config.labels.per_unit:
        return _Units(config, tokenizer, context, read)
    return _Outcomes(config, tokenizer) if config.labels.outcome else _Whole(config, tokenizer)


def prefix(record: Record, n: int, tokenizer: Tokenizer[Any]) -> Encoded:
    """The first `n` units as they are encoded when nothing behind them is known."""
    return without_end(encode(tokenizer, record.cut(0, n)), tokenizer)


def _windows_of(
    name: str, group: str, encoded: Encoded, tokenizer: Tokenizer[Any], context: int, labels: np.ndarray
) -> Iterator[TaskExample]:
    """Windows of a record, each with the positions whose first unit has a label; every position is in one of them."""
    units = position_units(tokenizer.units_of(encoded))
    real = (units[:, 1] > units[:, 0]) & (units[:, 0] < len(labels))
    unit = np.where(real, units[:, 0], 0)
    given = real & (labels[unit] != "") if len(labels) else real & False
    for window, kept in windows(len(encoded.ids), context):
        here = np.flatnonzero(given[kept]) + kept.start
        if len(here):
            yield TaskExample(
                key=name,
                group=group,
                ids=encoded.ids[window],
                numbers=None if encoded.numbers is None else encoded.numbers[window],
                labels=tuple(labels[unit[here]]),
                at=here - window.start,
                units=unit[here],
            )
