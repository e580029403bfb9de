"""Records filled as a user asks: which cells are holes, what they must keep, and what is written into the records."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypedDict

import numpy as np
from jaxtyping import Bool, Float

from maskseq.constraints import Constraint
from maskseq.contract.fence import beyond_of, encode, fenced
from maskseq.errors import UsageError
from maskseq.formats import Name, Names
from maskseq.infill.journal import Journal
from maskseq.infill.ranges import Range, check_fields, field_cells, hidden_cells, requests
from maskseq.infill.rules import NamedRule
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.window_plan import Filled, Task
from maskseq.infill.windows import fill_records
from maskseq.lengths.evidence import LengthScorer
from maskseq.lengths.missing import Insertion, Sized, Unsized, by_evidence, give_lengths, insert_missing
from maskseq.predict.calibrated import Calibration
from maskseq.predict.posterior import Posterior
from maskseq.predict.protocol import Fill, Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, LegalCells

Numbers = Literal["mean", "median", "bin"]
NO_RANGES: Mapping[str, Sequence[Range]] = MappingProxyType({})
NO_LENGTHS: Mapping[str, Sequence[Unsized]] = MappingProxyType({})


class Asked(TypedDict, total=False):
    """Options of `Run.infill`. Keyed by the names of records (`maskseq.formats`); "" means the file's only record."""

    ranges: Mapping[str, Sequence[Range]]
    """Stretches to fill besides what is unknown, whatever is there."""
    only_ranges: bool
    """Leave what is unknown elsewhere."""
    unknown: Sequence[str]
    """Fields to fill throughout, whatever is there."""
    lengths: Mapping[str, Sequence[Unsized]]
    """Stretches that stand for an unknown number of units."""
    insertion: Insertion | None
    """Add units wherever evidence says that some are missing."""
    rules: Sequence[str | Constraint]
    """What every fill keeps: rules by name, such as `motif=NNRYN@chr1:101-105` (`maskseq.infill.rules` and the
    tokenizer's), or functions of your own about whole records (`maskseq.constraints.Constraint`)."""
    fill_long_holes: bool
    """Also fill holes longer than half the context."""
    numbers: Numbers | None
    """What ordinal fields are given: the mean or median of what the model holds possible, or the centre of the bin that
    was chosen. None: the mean, but where values are drawn, or under rules that tie cells to one another, the bin."""


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


@dataclass(frozen=True, kw_only=True)
class Filler:
    """A model, and what it takes to fill records with it."""

    tokenizer: Tokenizer[Any]
    predict: Predict
    context: int
    calibration: Calibration | None
    judge: LengthScorer | None = None
    """What tells how much is missing (None: evidence)."""

    def fill(
        self,
        records: Iterable[Any],
        config: InfillConfig,
        journal: Journal | None,
        *,
        ranges: Mapping[str, Sequence[Range]] = NO_RANGES,
        only_ranges: bool = False,
        unknown: Sequence[str] = (),
        lengths: Mapping[str, Sequence[Unsized]] = NO_LENGTHS,
        insertion: Insertion | None = None,
        rules: Sequence[str | Constraint] = (),
        fill_long_holes: bool = False,
        numbers: Numbers | None = None,
    ) -> Iterator[FilledRecord]:
        """Fill records as `Asked`, one after the other; what the journal has on record is not done again."""
        tokenizer = self.tokenizer
        waiting: deque[tuple[Any, list[Sized], Task]] = deque()
        named = [NamedRule.parse(rule) if isinstance(rule, str) else rule for rule in rules]
        names = Names([*ranges, *lengths, *(rule.key for rule in named if isinstance(rule, NamedRule) and rule.key)])
        check_fields(tokenizer, unknown)
        for key, asked in (*ranges.items(), *lengths.items()):
            if not asked:
                raise UsageError(f"no stretch of {key!r} is named")

        def tasks() -> Iterator[Task]:
            for given in records:
                name = names.next(given.key)
                hidden, unsized = requests(ranges, name), requests(lengths, name)
                if (unsized or insertion) and hidden:
                    raise UsageError(f"{name.text}: stretches to hide cannot be counted where lengths are unknown")
                record, sized = self._sized(given, unsized, insertion)
                encoded = encode(tokenizer, record)
                holes = hidden_cells(tokenizer, encoded, record, hidden)
                if not only_ranges:
                    holes |= ~tokenizer.vocabulary.known(encoded.ids)
                if unknown:
                    holes |= field_cells(tokenizer, encoded, len(record), unknown)
                holes &= ~_settled(encoded, tokenizer)
                task = Task(name.text, encoded, holes, _about(name, encoded, tokenizer, named))
                waiting.append((record, [replace(each, key=name.text) for each in sized], task))
                yield task
            names.check()

        has_grammar = type(tokenizer).allowed is not Tokenizer.allowed
        for filled in fill_records(
            self.predict,
            tasks(),
            config,
            vocabulary=tokenizer.vocabulary,
            context=self.context,
            grammar=tokenizer.allowed if has_grammar else None,
            fill_long_holes=fill_long_holes,
            journal=journal,
        ):
            record, sized, task = waiting.popleft()
            fill = filled.fill if self.calibration is None else self.calibration.apply(filled.fill)
            posterior = Posterior.of(fill, tokenizer.vocabulary.centres)
            given = _numbers(fill, posterior, tokenizer, numbers or _usual_numbers(config, task))
            beyond = beyond_of(tokenizer, record)
            if task.holes.any():
                record = _written(record, task.encoded, tokenizer, fill, given)
            yield FilledRecord(record, task.encoded, replace(filled, fill=fill), posterior, given, sized, beyond)

    def _sized(self, record: Any, unsized: Sequence[Unsized], insertion: Insertion | None) -> tuple[Any, list[Sized]]:
        """The record with unknown units where some are missing, as many as are most probable."""
        chosen: list[Sized] = []
        if not unsized and insertion is None:
            return record, chosen
        predict = self.calibration.of_single_cells(self.predict) if self.calibration else self.predict
        judge = self.judge or by_evidence(predict, self.tokenizer)
        if unsized:
            record, chosen = give_lengths(record, unsized, judge, self.tokenizer, context=self.context)
        if insertion is not None:
            record, added = insert_missing(record, insertion, judge, self.tokenizer, context=self.context)
            chosen = [*chosen, *added]
        return record, chosen


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
    """What to write in place of the centres of bins; NaN where no bin was chosen, or `kind` is "bin"."""
    n_tokens = np.array([field.n_tokens for field in tokenizer.fields])
    valued = (fill.values[0] < n_tokens[fill.cells[:, 1]]) & (kind != "bin")
    return np.where(valued, posterior.median if kind == "median" else posterior.mean, np.nan)
