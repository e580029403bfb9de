"""Records filled as a user asks: which cells are holes, what they must keep, and what is written into the records."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from maskseq.constraints import Constraint
from maskseq.contract.fence import beyond_of, encode, fenced
from maskseq.errors import UsageError
from maskseq.formats import Name, Names
from maskseq.infill.journal import Journal
from maskseq.infill.options import InfillOptions, Insertion, Numbers, Sized, Unsized
from maskseq.infill.ranges import check_fields, field_cells, masked_cells, requests
from maskseq.infill.rules import NamedRule
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.window_plan import Filled, Task
from maskseq.infill.windows import fill_records
from maskseq.predict.posterior import Posterior, outside_bins
from maskseq.predict.predictor import Predictor
from maskseq.predict.protocol import Fill
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, LegalCells


@dataclass(frozen=True)
class FilledRecord:
    """A record with its holes filled, and what stood there before."""

    record: Any
    """The record with the first sample written into it; everything else is as it was."""
    before: Encoded
    """The record as it was given, so that what was known and hidden on purpose can be compared."""
    filled: Filled
    """The values, all samples of them, with their probabilities; calibrated, if the run is."""
    posterior: Posterior
    """Means, medians and intervals of what was filled in ordinal fields."""
    numbers: Float[np.ndarray, " cells"]
    """What was written into the record in place of the centres of bins; NaN where that is what was written."""
    sized: Sequence[Sized] = ()
    """Lengths that were chosen; `before` is the record with holes of these lengths."""
    beyond: Float[np.ndarray, "length fields"] | None = None
    """How far its numbers lie outside the training range, as `Tokenizer.beyond` says."""


Sizer = Callable[[Any, Sequence[Unsized], Insertion | None], tuple[Any, list[Sized]]]
"""A record, its holes of unknown length and what may be inserted → the record with holes of the most probable lengths,
and which these are."""


def fill_as_requested(
    predictor: Predictor,
    records: Iterable[Any],
    options: InfillOptions,
    *,
    sizer: Sizer | None = None,
    journal: Journal | None = None,
) -> Iterator[FilledRecord]:
    """Fill records one after the other; what the journal has on record is not done again.

    `sizer` is needed where lengths are unknown.
    """
    tokenizer = predictor.tokenizer
    for filled in fill_records(
        predictor.predict,
        tasks(records, options, tokenizer, sizer),
        options.config,
        vocabulary=tokenizer.vocabulary,
        context=predictor.context,
        grammar=tokenizer.allowed if tokenizer.defines("allowed") else None,
        fill_long_holes=options.fill_long_holes,
        journal=journal,
    ):
        task = filled.task
        record, sized = task.payload
        fill = filled.fill if predictor.calibration is None else predictor.calibration.apply(filled.fill)
        posterior = Posterior.of(fill, tokenizer.vocabulary.centres)
        given = _numbers(fill, posterior, tokenizer, options.numbers or _usual_numbers(options.config, task))
        beyond = beyond_of(tokenizer, record)
        if task.holes.any():
            record = _written(record, task.encoded, tokenizer, fill, given)
        yield FilledRecord(record, task.encoded, replace(filled, fill=fill), posterior, given, sized, beyond)


def tasks(
    records: Iterable[Any], options: InfillOptions, tokenizer: Tokenizer[Any], sizer: Sizer | None
) -> Iterator[Task]:
    """Each record with the cells to fill. Its payload is the record with holes of known lengths, and these."""
    ranges, lengths = options.ranges, options.lengths
    named = [NamedRule.parse(rule) if isinstance(rule, str) else rule for rule in options.rules]
    names = Names([*ranges, *lengths, *(rule.key for rule in named if isinstance(rule, NamedRule) and rule.key)])
    check_fields(tokenizer, options.unknown)
    for key, requested in (*ranges.items(), *lengths.items()):
        if not requested:
            raise UsageError(f"no stretch of {key!r} is named", code="nothing-to-do")
    for record in records:
        name = names.next(record.key)
        masked, unsized = requests(ranges, name), requests(lengths, name)
        if (unsized or options.insertion) and masked:
            raise UsageError(f"{name.text}: stretches to hide cannot be counted where lengths are unknown")
        sized: list[Sized] = []
        if unsized or options.insertion:
            assert sizer is not None
            record, sized = sizer(record, unsized, options.insertion)
        encoded = encode(tokenizer, record)
        holes = masked_cells(tokenizer, encoded, record, masked)
        if not options.only_ranges:
            holes |= ~tokenizer.vocabulary.known(encoded.ids)
        if options.unknown:
            holes |= field_cells(tokenizer, encoded, len(record), options.unknown)
        holes &= ~_settled(encoded, tokenizer)
        payload = record, [replace(each, key=name.text) for each in sized]
        yield Task(name.text, encoded, holes, _about(name, encoded, tokenizer, named), payload)
    names.check()


def _settled(encoded: Encoded, tokenizer: Tokenizer[Any]) -> Bool[np.ndarray, "length fields"]:
    """Cells that are `[OTHER]` and can be nothing else: infill has nothing to put there, even where it is asked to."""
    settled: Bool[np.ndarray, "length fields"] = np.zeros(encoded.ids.shape, dtype=bool)
    if encoded.legal is not None:
        cells, allowed = encoded.legal.cells, encoded.legal.allowed
        committable = tokenizer.vocabulary.committable[cells[:, 1], : allowed.shape[1]]
        settled[tuple(cells[~(allowed & committable).any(axis=1)].T)] = True
    settled &= tokenizer.vocabulary.known(encoded.ids)
    return settled


def _about(
    name: Name, encoded: Encoded, tokenizer: Tokenizer[Any], rules: Sequence[NamedRule | Constraint]
) -> list[LegalCells | Constraint]:
    """The rules for one record."""
    return [
        rule.about(tokenizer, encoded) if isinstance(rule, NamedRule) else rule
        for rule in rules
        if not isinstance(rule, NamedRule) or rule.key in name.meant_by
    ]


def _written(
    record: Any, before: Encoded, tokenizer: Tokenizer[Any], fill: Fill, numbers: Float[np.ndarray, " cells"]
) -> Any:
    """The record with the first sample in it."""
    cells = np.zeros(before.ids.shape, bool)
    cells[tuple(fill.cells.T)] = True
    with fenced(tokenizer, "splice", record):
        record = tokenizer.splice(record, fill.written(before.ids), cells)
    given = ~np.isnan(numbers)
    if not given.any():
        return record
    with fenced(tokenizer, "put_numbers", record):
        return tokenizer.put_numbers(record, fill.cells[given], numbers[given])


def _usual_numbers(config: InfillConfig, task: Task) -> Numbers:
    tied = any(not isinstance(rule, LegalCells) for rule in task.rules)
    return "bin" if tied or config.temperature > 0 else "mean"


def _numbers(fill: Fill, posterior: Posterior, tokenizer: Tokenizer[Any], kind: Numbers) -> Float[np.ndarray, " cells"]:
    """What to write in place of the centres of bins; NaN where no bin was chosen, or its centre is what is asked for.

    That of an outermost bin only if the number is not beyond it.
    """
    n_tokens = np.array([field.n_tokens for field in tokenizer.fields])
    valued = fill.values[0] < n_tokens[fill.cells[:, 1]]
    if kind != "bin":
        return np.where(valued, posterior.median if kind == "median" else posterior.mean, np.nan)
    return np.where(valued, outside_bins(fill, tokenizer.vocabulary.centres)[0], np.nan)
