"""Records filled as a user asks: which cells are holes, what they must keep, and what is written into the records."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from maskseq.constraints import Constraint
from maskseq.contract.brief import brief
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


@brief
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
    refused: int = 0
    """Fills that `InfillOptions.accept` has refused."""
    accepted: bool | None = None
    """Whether it has accepted this one; None: it was not asked. False: the record is as it was."""


DRAWN_TOGETHER = 8
"""Fills that are drawn at a time where the first ones are refused."""
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
    tokenizer, accepts = predictor.tokenizer, options.accepts
    fill = partial(
        fill_records,
        predictor.predict,
        vocabulary=tokenizer.vocabulary,
        context=predictor.context,
        grammar=tokenizer.allowed if tokenizer.defines("allowed") else None,
        fill_long_holes=options.fill_long_holes,
    )
    for filled in fill(tasks(records, options, tokenizer, sizer), options.config, journal=journal):
        if accepts is None or not len(filled.fill.cells):
            yield _finished(filled, predictor, options)
        else:
            yield _accepted(filled, predictor, options, accepts, fill)


def _finished(filled: Filled, predictor: Predictor, options: InfillOptions) -> FilledRecord:
    """The record with the first sample written into it, and how sure it is."""
    task, tokenizer = filled.task, predictor.tokenizer
    record, sized = task.payload
    fill = filled.fill if predictor.calibration is None else predictor.calibration.apply(filled.fill)
    posterior = Posterior.of(fill, tokenizer.vocabulary.centres)
    given = _numbers(fill, posterior, tokenizer, options.numbers or _usual_numbers(options.config, task))
    beyond = beyond_of(tokenizer, record)
    if task.holes.any():
        record = _written(record, task.encoded, tokenizer, fill, given)
    return FilledRecord(record, task.encoded, replace(filled, fill=fill), posterior, given, sized, beyond)


def _accepted(
    filled: Filled,
    predictor: Predictor,
    options: InfillOptions,
    accepts: Callable[[Any], bool],
    fill: Callable[..., Iterator[Filled]],
) -> FilledRecord:
    """The first fill that is accepted: of the samples at hand, then of others that are drawn, some at a time.

    Without one the record stays as it was, and nothing counts as filled.
    """
    refused, left, config = 0, options.accept_tries, options.config
    while True:
        for sample in range(min(len(filled.fill.values), left)):
            candidate = _finished(replace(filled, fill=filled.fill.led_by(sample)), predictor, options)
            if accepts(candidate.record):
                return replace(candidate, refused=refused, accepted=True)
            refused += 1
        left = options.accept_tries - refused
        if left <= 0:
            break
        seed = int(np.random.SeedSequence((options.config.seed, refused)).generate_state(1)[0])
        warm = options.config.temperature or 1.0
        config = replace(config, temperature=warm, beam=1, samples=min(DRAWN_TOGETHER, left), seed=seed)
        (filled,) = fill([filled.task], config)
    bare = replace(filled.task, holes=np.zeros_like(filled.task.holes))
    (nothing,) = fill([bare], replace(config, samples=1))
    return replace(_finished(nothing, predictor, options), refused=refused, accepted=False)


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
            raise UsageError(
                f"{name.text}: stretches to hide cannot be counted where lengths are unknown", code="not-supported"
            )
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
