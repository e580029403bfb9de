"""A file in, the same file out with its holes filled, beside a table of what was filled and how surely."""

import hashlib
import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Unpack
from uuid import uuid4

import numpy as np

from maskseq import __version__
from maskseq.data.corpus import Corpus
from maskseq.errors import MaskseqError, UsageError
from maskseq.fence import Given, fenced, naming, read
from maskseq.filling import Asked, FilledRecord
from maskseq.inference.infill import InfillConfig
from maskseq.inference.journal import Journal
from maskseq.inference.markov import MAX_TABLE, Markov
from maskseq.inference.table import COLUMNS, Row, as_dict, rows
from maskseq.inference.tabular import columns_of, table_writer
from maskseq.missing import Sized
from maskseq.model.checkpoint import DIGESTS, read_json
from maskseq.report import write_report
from maskseq.run import Run
from maskseq.tokenizer import Format

BASELINE_ORDER = 2
SHOWN_ROWS = 5000
"""Rows that the report may show; the table has them all."""
SHOWN_LENGTHS = 50


class AskedOfFile(Asked, total=False):
    """All that `Run.infill` takes."""

    config: InfillConfig
    symmetries: bool
    calibrated: bool
    length_by: Literal["evidence", "head"]


def infill_file(
    run: Run,
    file: Path,
    *,
    output: Path,
    format: str | None = None,
    table: Literal["csv", "parquet"] = "csv",
    on_progress: Callable[[int, int | None], None] = lambda done, of: None,
    on_warning: Callable[[str], None] = lambda text: None,
    **asked: Unpack[AskedOfFile],
) -> dict[str, Any]:
    """Fill a file as `asked` of `Run.infill`; write it, a table of fills and `report.html` to the folder `output`.

    The folder appears when all is done. What an interrupted attempt has filled lies beside it, and the same call goes
    on from there, to the same bits. Returns the summary that the report begins with; where known values were hidden, it
    scores the fills against them. Raises `UsageError` when `output` exists or a range names no record.
    """
    if output.exists():
        raise UsageError(f"{output} exists already\n\nhint: choose another folder with --output")
    reader = run.reader(file, format)
    aside = output.with_name(output.name + ".tmp")
    try:
        journal = _begin(aside, run, asked)
        summary, shown = _fill(run, reader, file, aside, journal, table, on_progress, asked)
        summary["filled"]["file"] = str(output / summary["filled"]["file"])
        if left := summary.get("left"):
            on_warning(
                f"{len(left)} holes longer than half the context were left: {', '.join(left[:3])}; --fill-long-holes "
                f"fills them as well"
            )
        write_report(aside / "report.html", summary, shown)
        shutil.rmtree(journal.folder)
        aside.replace(output)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on from here") from None
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return summary


def _begin(aside: Path, run: Run, asked: AskedOfFile) -> Journal:
    """The folder that the output is made in, empty but for the journal of an interrupted attempt at the same."""
    journal = aside / "journal"
    for left_behind in aside.iterdir() if aside.is_dir() else ():
        if left_behind.is_dir() and left_behind != journal:
            shutil.rmtree(left_behind)
        elif left_behind.is_file():
            left_behind.unlink()
    rules = [f"{rule}{_digest_of_file(rule)}" for rule in asked.get("rules", ()) if isinstance(rule, str)]
    if len(rules) < len(asked.get("rules", ())):
        rules.append(uuid4().hex)  # nobody knows whether functions are the same as last time
    identity = {
        "maskseq": __version__,
        "checkpoint": read_json(run.checkpoint / DIGESTS),
        "config": asdict(asked.get("config", InfillConfig())),
        "rules": rules,
        "symmetries": asked.get("symmetries", True),
        "fill_long_holes": asked.get("fill_long_holes", False),
    }
    return Journal(journal, identity)


def _digest_of_file(rule: str) -> str:
    """Of the file that a rule may end in the name of."""
    path = Path(rule.partition("@")[0].rpartition(":")[2])
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _fill(
    run: Run,
    reader: Format[Any],
    file: Path,
    folder: Path,
    journal: Journal,
    table: str,
    on_progress: Callable[[int, int | None], None],
    asked: AskedOfFile,
) -> tuple[dict[str, Any], list[Row]]:
    """Write the filled file and the table into the folder; the summary, and the rows to show."""
    ranges, config = asked.get("ranges", {}), asked.get("config", InfillConfig())
    score = Score(_baselines(run) if ranges or asked.get("unknown") else ())
    shown: list[Row] = []
    left: list[str] = []
    found: set[str] = set()
    writer, target = reader.written_as(folder / file.name)
    n_records = n_filled = 0
    sized: list[Sized] = []
    with table_writer(folder / f"fills.{table}", COLUMNS) as write_rows:

        def filled_records() -> Iterator[Any]:
            nonlocal n_records, n_filled
            for each in run.infill(read(reader, file), journal=journal, **asked):
                written = rows(each.filled, each.before.ids, run.fills, posterior=each.posterior, numbers=each.numbers)
                shown.extend(first := list(islice(written, SHOWN_ROWS - len(shown))))
                write_rows(map(as_dict, chain(first, written)))
                left.extend(f"{each.filled.key}:{start + 1}-{stop}" for start, stop in each.filled.left)
                score.add(each)
                sized.extend(each.sized)
                found.add(each.filled.key)
                n_records += 1
                n_filled += len(each.filled.fill.cells)
                on_progress(n_filled, None)
                yield each.record

        records = Given(filled_records())
        with naming(file), fenced(writer, "write", file=file, given=records):
            writer.write(records, target)
    _check_found(ranges, found, n_records)
    summary: dict[str, Any] = {
        "filled": {"file": target.name, "records": n_records, "cells": n_filled},
        "order": config.order,
        "calibration": _calibration(run, asked),
    }
    if left:
        summary["left"] = left
    if asked.get("lengths") or asked.get("insertion"):
        _check_found(asked.get("lengths", {}), found, n_records)
        summary["lengths"] = {
            f"{each.key}:{each.start}-{each.stop}": f"{each.length} (probability {each.probability:.2g})"
            for each in sized[:SHOWN_LENGTHS]
        }
        with table_writer(folder / f"lengths.{table}", columns_of(Sized)) as write_rows:
            write_rows(map(vars, sized))
    if score.cells:
        summary["against what was hidden"] = score.summary()
    return summary, shown


def _calibration(run: Run, asked: AskedOfFile) -> str:
    """Whether probabilities and intervals are calibrated, and on what."""
    if run.fitted is None:
        return "none: `maskseq calibrate` makes probabilities and intervals honest"
    with warnings.catch_warnings(action="ignore"):
        used = run.calibration(asked.get("config", InfillConfig()), symmetries=asked.get("symmetries", True))
    return f"fitted on {run.fitted.fitted_on}" if used and asked.get("calibrated", True) else "not used"


def _check_found(ranges: Mapping[str, object], found: set[str], n_records: int) -> None:
    missing = sorted(set(ranges) - found - {""})
    if missing:
        raise UsageError(f"no record is called {missing[0]!r}; the file has {', '.join(sorted(found)[:3])}")
    if "" in ranges and n_records != 1:
        raise UsageError(f"the file has {n_records} records\n\nhint: say which one, as in KEY:START-END")


@dataclass
class Tally:
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
class Score:
    """Fills against what was known and hidden on purpose, beside what simple tables would have said."""

    baselines: Sequence[Markov | None]
    """Of each field."""
    cells: int = 0
    right: int = 0
    holes: int = 0
    exact: int = 0
    uniform_nats: float = 0.0
    model: Tally = field(default_factory=Tally)
    baseline: Tally = field(default_factory=Tally)

    def add(self, each: FilledRecord) -> None:
        """Score one record. The model's bits are those of each cell given the known ones alone, as the baseline's."""
        fill, ids = each.filled.fill, each.before.ids
        for column, markov in enumerate(self.baselines):
            positions = fill.cells[:, 0]
            scored = np.flatnonzero((fill.cells[:, 1] == column) & (ids[positions, column] < fill.marginals.shape[1]))
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
            hidden = np.zeros(len(ids), bool)
            hidden[where] = True
            self.baseline.add(markov.marginals(ids[:, column].astype(np.int64), hidden), truth)

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


def _baselines(run: Run) -> list[Markov | None]:
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
