"""A file in, the same file out with its holes filled, beside a table of what was filled and how surely."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from maskseq.baselines.frequencies import Chance, read_frequencies
from maskseq.contract.fence import Given, encode, fenced
from maskseq.corpus.dress import NO_OPTIONS
from maskseq.corpus.intake import Intake, OnError, Restored
from maskseq.corpus.out_of_range import OutOfRange, nearby
from maskseq.corpus.reader import Corpus
from maskseq.corpus.unfamiliar import Unfamiliar
from maskseq.errors import DataError, MaskseqError
from maskseq.infill.filling import FilledRecord
from maskseq.infill.journal import Journal
from maskseq.infill.options import InfillOptions, Sized
from maskseq.infill.table import COLUMNS, FillRow, as_dict, rows
from maskseq.model.checkpoint import read_json
from maskseq.predict.blend import ENCODER
from maskseq.predict.experts.markov import MAX_TABLE, Markov
from maskseq.predict.protocol import Fill
from maskseq.reports.infill import write_report
from maskseq.storage.outputs import beside, claimed
from maskseq.storage.run_folder import CheckpointFolder
from maskseq.storage.tabular import columns_of, table_writer
from maskseq.tokenizer import Tokenizer
from maskseq.trained import TrainedModel
from maskseq.types import Progress

BASELINE_ORDER = 2
SHOWN_ROWS = 5000
"""Rows that the report may show; the table has them all."""
SHOWN_LENGTHS = 50
SHOWN_UNFILLABLE = 20
SHOWN_REJECTED = 3
"""Values of a channel, and channels."""
JOURNAL = "journal"
UNCOUNTED = "not known: the run keeps no frequencies, and its corpus is gone"


def infill_file(
    run: TrainedModel,
    file: Path,
    *,
    output: Path,
    format: str | None = None,
    format_options: Mapping[str, Any] = NO_OPTIONS,
    on_error: OnError = "stop",
    table: Literal["csv", "parquet"] = "csv",
    on_progress: Progress = lambda done, of: None,
    on_warning: Callable[[str], None] = lambda text: None,
    options: InfillOptions | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Fill a file with the options of `TrainedModel.infill`; write it, a table of fills and a report to `output`.

    The folder appears when all is done. What an interrupted attempt has filled lies in its work folder, and the same
    call goes on from there, to the same bits. `format_options` say how this file is read, where it is written otherwise
    than the training files; with `on_error="skip"`, what cannot be read stays as it is. A file of ours gives way to a
    filled one of the same name: the table is `maskseq-fills.csv` then. Returns the summary that the report begins with;
    where known values were hidden, it scores the fills against them. Options may be given one by one. Raises
    `UsageError` when `output` exists or a range names no record.
    """
    options = options or InfillOptions.of(given)
    intake = Intake(run.reader(file, format, format_options), file, on_error=on_error, tokenizer=run.fills)
    with claimed(output, new=True, parents=True, state=JOURNAL) as work:
        work.content.mkdir()
        checkpoint = {"checkpoint": read_json(CheckpointFolder(run.checkpoint).digests)}
        with Intake(intake.reader, file, on_error=on_error, tokenizer=run.fills, warns=False) as first:
            run = run.knowing(first, options)
        digest = run.experts.digest(options.experts)
        predictor = {"predictor": digest, "known": run.experts.file_digest} if digest else {}
        journal = Journal(work.folder / JOURNAL, checkpoint | predictor | options.identity())
        summary, shown = _fill(run, intake, work.content, journal, table, on_progress, options)
        report = beside(work.content / summary["filled"]["file"], "report.html")
        summary["filled"]["file"] = str(output / summary["filled"]["file"])
        for text in summary.get("warnings", ()):
            on_warning(text)
        write_report(report, summary, shown)
        work.publish()
    return summary


def _fill(
    run: TrainedModel,
    intake: Intake,
    folder: Path,
    journal: Journal,
    table: str,
    on_progress: Progress,
    options: InfillOptions,
) -> tuple[dict[str, Any], list[FillRow]]:
    """Write the filled file and the table into the folder; the summary, and the rows to show."""
    chance, broken = _chance(run)
    used, by_experts = run.experts.used(options.experts), GivenByExperts()
    beyond = OutOfRange(run.fills.fields)
    asks_known = bool(options.ranges or options.unknown)
    score = FillScore(_baselines(run) if asks_known else (), run.fills.vocabulary.n_outputs)
    shown: list[FillRow] = []
    left: list[str] = []
    unfillable: list[str] = []
    file, reader = intake.file, intake.reader
    writer, target = reader.written_as(folder / file.name)
    restored: Restored[Any] = Restored(intake.items())
    strange = Unfamiliar(run.fills)
    n_records = n_filled = 0
    sized: list[Sized] = []
    unfilled: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    rejected: Counter[tuple[str, float]] = Counter()
    sources = {field.source for field in run.tokenizer.fields}
    judged = Acceptances()
    with table_writer(beside(target, f"fills.{table}"), COLUMNS) as write_rows:

        def filled_records() -> Iterator[Any]:
            nonlocal n_records, n_filled
            for each in run.infill(restored.records(), options, journal=journal):
                beyond.add(each.beyond)
                strange.add(each.record, each.before.ids)
                written = rows(
                    each.filled,
                    each.before,
                    run.fills,
                    posterior=each.posterior,
                    numbers=each.numbers,
                    gains=chance.add(each.filled.fill),
                    clipped=nearby(each.beyond, each.filled.fill.cells),
                    experts=used,
                )
                by_experts.add(each.filled.fill)
                shown.extend(first := list(islice(written, SHOWN_ROWS - len(shown))))
                write_rows(map(as_dict, chain(first, written)))
                left.extend(f"{each.filled.task.key}:{start + 1}-{stop}" for start, stop in each.filled.left)
                unfillable.extend(run.fills.unfillable(each.record))
                score.add(each)
                judged.add(each)
                sized.extend(each.sized)
                unfilled.update({name: n for name, n in each.record.unknown_values().items() if name not in sources})
                lost.update(_lost(each, run.fills))
                rejected.update(_rejected(each, run.fills))
                n_records += 1
                n_filled += len(each.filled.fill.cells)
                on_progress(n_filled, None)
                yield each.record

        # What was passed over can be kept by its own format alone.
        records = Given(restored.among(filled_records(), kept=writer is reader))
        with intake, fenced(writer, "write", file=file, given=records):
            writer.write(records, target)
    summary: dict[str, Any] = {
        "filled": {"file": target.name, "records": n_records, "cells": n_filled},
        **intake.summary,
        "order": options.config.order,
        "calibration": _calibration(run, options),
    }
    if used != (ENCODER,):
        summary["experts"] = run.experts.shares(used)
    if options.accept:
        summary["accepted"] = judged.summary(str(options.accept))
    more = len(unfillable) - SHOWN_UNFILLABLE
    where_there_are_any = {
        "given by experts": by_experts.of(used),
        "left": left,
        "not filled": [*unfillable[:SHOWN_UNFILLABLE], *[f"and {more:,} more"] * (more > 0)],
        "without a field": dict(+unfilled),
        "without a place": dict(lost),
        "taken for no measurements": _by_channel(rejected),
    }
    summary |= {name: each for name, each in where_there_are_any.items() if each}
    if n_filled:
        summary["beyond frequencies"] = chance.shares() if chance.frequencies else UNCOUNTED
    if shares := beyond.shares():
        summary["outside the training range"] = shares
    places = _of_unfillable(unfillable), _of_unread(unfilled), _of_lost(lost), _of_rejected(rejected)
    about = (_of_long_holes(left), judged.warning(), *places, chance.warning(), beyond.warning(), *strange.warnings())
    if reported := [text for text in (broken, *about) if text]:
        summary["warnings"] = reported
    if options.lengths or options.insertion:
        summary["lengths"] = {
            f"{each.key}:{each.start}-{each.stop}": f"{each.length} (probability {each.probability:.2g})"
            for each in sized[:SHOWN_LENGTHS]
        }
        with table_writer(beside(target, f"lengths.{table}"), columns_of(Sized)) as write_rows:
            write_rows(map(vars, sized))
    if score.cells:
        summary["against what was hidden"] = score.summary()
    return summary, shown


def _chance(run: TrainedModel) -> tuple[Chance, str | None]:
    """What fills are compared with, and why it is not known if its file is broken."""
    names = [each.name for each in run.fills.fields]
    try:
        return Chance(names, read_frequencies(run.checkpoint, run.path, run.tokenizer)), None
    except DataError as error:
        return Chance(names, None), str(error)


def _of_long_holes(left: Sequence[str]) -> str | None:
    if not left:
        return None
    return (
        f"{len(left)} holes longer than half the context were left: {', '.join(left[:3])}; --fill-long-holes fills "
        f"them as well"
    )


def _of_unfillable(cells: Sequence[str]) -> str:
    """Of unknown values that nothing known fits."""
    return f"unknown values were left, as no known value fits: {'; '.join(cells[:3])}" if cells else ""


def _lost(each: FilledRecord, tokenizer: Tokenizer[Any]) -> Counter[str]:
    """By field, values that were filled and that the filled record does not have: a gap beside no known time."""
    fill = each.filled.fill
    if not len(fill.cells):
        return Counter()
    now = encode(tokenizer, each.record).ids
    if now.shape != each.before.ids.shape:
        return Counter()
    position, column = fill.cells.T
    n_tokens = np.array([field.n_tokens for field in tokenizer.fields])
    valued = fill.values[0] < n_tokens[column]
    gone = valued & ~tokenizer.vocabulary.known(now)[position, column]
    return Counter(tokenizer.fields[index].name for index in column[gone].tolist())


def _rejected(each: FilledRecord, tokenizer: Tokenizer[Any]) -> Counter[tuple[str, float]]:
    """Known numbers that the predictor did without, by field and value."""
    rejected, numbers = each.filled.rejected, each.before.numbers
    if rejected is None or numbers is None:
        return Counter()
    cells = np.argwhere(rejected)
    names = [tokenizer.fields[field].name for field in cells[:, 1].tolist()]
    return Counter(zip(names, numbers[tuple(cells.T)].tolist(), strict=True))


def _by_channel(rejected: Counter[tuple[str, float]]) -> dict[str, dict[str, int]]:
    """The most frequent values of each field, and how many others it has."""
    found: dict[str, dict[str, int]] = {}
    for (name, value), n in rejected.most_common():
        mine = found.setdefault(name, {})
        shown = f"{value:g}" if len(mine) < SHOWN_REJECTED else "others"
        mine[shown] = mine.get(shown, 0) + n
    return found


def _of_rejected(rejected: Counter[tuple[str, float]]) -> str:
    """Of known values that are no measurements."""
    channels = [
        f"{name!r} ({', '.join(f'{value}: {n:,}' for value, n in values.items())})"
        for name, values in _by_channel(rejected).items()
    ]
    more = ", …" if len(channels) > SHOWN_REJECTED else ""
    return (
        f"{sum(rejected.values()):,} known values around what was filled are taken for no measurements and were not "
        f"used: {', '.join(channels[:SHOWN_REJECTED])}{more}"
        if rejected
        else ""
    )


def _of_lost(lost: Counter[str]) -> str:
    """Of values that were filled and could not be written."""
    fields = ", ".join(f"{name!r} ({n:,})" for name, n in lost.items())
    return (
        f"values that were filled and stay unknown, as their records have no place for them: {fields}" if lost else ""
    )


def _of_unread(unfilled: Counter[str]) -> str:
    """Of unknown values in columns that the run has no field for."""
    columns = ", ".join(f"{name!r} ({n:,})" for name, n in (+unfilled).items())
    return f"unknown values that stay unknown, as the run has no field for their columns: {columns}" if columns else ""


def _calibration(run: TrainedModel, options: InfillOptions) -> str:
    """Whether probabilities and intervals are calibrated, and on what."""
    if not options.calibrated:
        return "not used"
    if run.fitted is None:
        return "none: `maskseq calibrate` makes probabilities and intervals honest"
    with warnings.catch_warnings(action="ignore"):
        used = run.calibration(options.config, symmetries=options.symmetries, experts=options.experts)
    return f"fitted on {run.fitted.fitted_on}" if used else "not used"


@dataclass
class Acceptances:
    """What a rule of the user's has accepted and refused."""

    accepted: int = 0
    refused: int = 0
    keys: list[str] = field(default_factory=list)
    """Of records without an accepted fill."""

    def add(self, each: FilledRecord) -> None:
        self.accepted += each.accepted is True
        self.refused += each.refused
        if each.accepted is False:
            self.keys.append(each.filled.task.key)

    def summary(self, rule: str) -> dict[str, Any]:
        judged = self.accepted + self.refused
        return {
            "rule": rule,
            "records": self.accepted,
            "fills refused": f"{self.refused:,} of {judged:,}",
            "left as they were": len(self.keys),
        }

    def warning(self) -> str:
        shown = ", ".join(self.keys[:3]) + ", …" * (len(self.keys) > 3)
        return f"{len(self.keys):,} records stay as they were, as no fill was accepted: {shown}" if self.keys else ""


@dataclass
class GivenByExperts:
    """The probability that each expert gives what was written, given the known cells alone."""

    cells: Float[np.ndarray, " experts"] = field(default_factory=lambda: np.zeros(1))
    total: Float[np.ndarray, " experts"] = field(default_factory=lambda: np.zeros(1))

    def add(self, fill: Fill) -> None:
        """Count the first sample, which is written."""
        if fill.experts is not None:
            self.cells = self.cells + (~np.isnan(fill.experts[0])).sum(axis=0)
            self.total = self.total + np.nansum(fill.experts[0].astype(np.float64), axis=0)

    def of(self, names: Sequence[str]) -> dict[str, float]:
        """The mean of each; nothing where one predicts alone."""
        if not self.cells.any():
            return {}
        found = zip(names, self.total, self.cells, strict=True)
        return {name: float(total / cells) for name, total, cells in found if cells}


@dataclass
class FillTally:
    """Sums over scored cells."""

    right: int = 0
    nats: float = 0.0

    def add(self, probabilities: np.ndarray, truth: np.ndarray) -> None:
        """Count the most probable ids that are right, and the log-loss of the true ones."""
        p = probabilities[np.arange(len(truth)), truth]
        self.right += int((probabilities.argmax(axis=1) == truth).sum())
        self.nats -= float(np.log(np.maximum(p, 1e-12)).sum())

    def shown(self, cells: int) -> dict[str, Any]:
        return {"right": self.right / cells, "bits per cell": self.nats / cells / math.log(2)}


@dataclass
class FillScore:
    """Fills against what was known and hidden on purpose, beside what simple tables would have said."""

    baselines: Sequence[Markov | None]
    """Of each field."""
    n_outputs: Sequence[int]
    """Of each field, the ids that are values: others are unknown and no truth."""
    cells: int = 0
    right: int = 0
    holes: int = 0
    exact: int = 0
    uniform_nats: float = 0.0
    model: FillTally = field(default_factory=FillTally)
    baseline: FillTally = field(default_factory=FillTally)

    def add(self, each: FilledRecord) -> None:
        """Score one record. The model's bits are those of each cell given the known ones alone, as the baseline's."""
        fill, ids = each.filled.fill, each.before.ids
        for column, markov in enumerate(self.baselines):
            positions = fill.cells[:, 0]
            known = ids[positions, column] < self.n_outputs[column]
            scored = np.flatnonzero((fill.cells[:, 1] == column) & known)
            if not len(scored):
                continue
            where = positions[scored]
            truth = ids[where, column].astype(np.int64)
            right = fill.values[0, scored] == truth
            self.cells += len(scored)
            self.right += int(right.sum())
            holes = np.split(right, np.flatnonzero(np.diff(where) > 1) + 1)
            self.holes += len(holes)
            self.exact += sum(bool(hole.all()) for hole in holes)
            self.model.add(fill.marginals[scored], truth)
            if markov is None:
                continue
            self.uniform_nats += len(scored) * math.log(markov.n_ids)
            masked = np.zeros(len(ids), bool)
            masked[where] = True
            self.baseline.add(markov.marginals(ids[:, column].astype(np.int64), masked), truth)

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "cells": self.cells,
            "right": self.right / self.cells,
            "holes": self.holes,
            "holes filled exactly": self.exact,
            "bits per cell": self.model.shown(self.cells)["bits per cell"],
        }
        if self.uniform_nats:
            summary |= {
                f"right, order-{BASELINE_ORDER} Markov": self.baseline.right / self.cells,
                f"bits per cell, order-{BASELINE_ORDER} Markov": self.baseline.shown(self.cells)["bits per cell"],
                "bits per cell, uniform": self.uniform_nats / self.cells / math.log(2),
            }
        return summary


def _baselines(run: TrainedModel) -> list[Markov | None]:
    """Counted on the run's corpus, where that is still in the run folder and of the tokens that are filled in."""
    if run.fills is not run.tokenizer:
        return [None] * len(run.fills.fields)
    try:
        return count_baselines(run.corpus())
    except MaskseqError:
        return [None] * len(run.tokenizer.fields)


def count_baselines(corpus: Corpus) -> list[Markov | None]:
    """A Markov chain of each field, of training sequences and their mirror images; None for large vocabularies."""
    return [
        Markov.count(_training_ids(corpus, column), n_ids=n_ids, order=BASELINE_ORDER)
        if n_ids ** (BASELINE_ORDER + 1) <= MAX_TABLE
        else None
        for column, n_ids in enumerate(corpus.tokenizer.vocabulary.n_outputs)
    ]


def _training_ids(corpus: Corpus, column: int) -> Iterator[np.ndarray]:
    for ids in corpus.training_ids():
        for view in (ids, *(symmetry.ids(ids) for symmetry in corpus.tokenizer.symmetries())):
            yield view[:, column]
