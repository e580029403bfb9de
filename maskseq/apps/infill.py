"""A file in; the same file out with its holes filled, and a table of what was filled and how surely."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from maskseq.apps.fill_summary import FillSummary
from maskseq.contract.fence import Given, fenced
from maskseq.corpus.dress import AS_TRAINED, ReadAs
from maskseq.corpus.intake import Intake, Restored
from maskseq.corpus.out_of_range import nearby
from maskseq.infill.journal import Journal
from maskseq.infill.options import InfillOptions, Sized
from maskseq.infill.table import COLUMNS, FillRow, as_dict, rows
from maskseq.model.checkpoint import read_json
from maskseq.reports.infill import MOST_DRAWN, stretches, write_report
from maskseq.reports.stretch import Excerpt
from maskseq.storage.outputs import beside, claimed
from maskseq.storage.run_folder import CheckpointFolder
from maskseq.storage.tabular import columns_of, table_writer
from maskseq.trained import TrainedModel
from maskseq.types import Progress

SHOWN_ROWS = 5000
"""Rows that the report may show; the table has them all."""
JOURNAL = "journal"


def infill_file(
    run: TrainedModel,
    file: Path,
    *,
    output: Path,
    read_as: ReadAs = AS_TRAINED,
    table: Literal["csv", "parquet"] = "csv",
    on_progress: Progress = lambda done, of: None,
    on_warning: Callable[[str], None] = lambda text: None,
    options: InfillOptions | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Fill a file with the options of `TrainedModel.infill`; write it, a table of fills and a report to `output`.

    The folder appears when all is done. What an interrupted attempt has filled lies in its work folder, and the same
    call goes on from there, to the same bits. With `ReadAs(on_error="skip")`, what cannot be read stays as it is. A
    file of ours gives way to a filled one of the same name: the table is `maskseq-fills.csv` then. Returns the summary
    that the report begins with; where known values were masked, it scores the fills against them. Options may be given
    one by one. Raises `UsageError` when `output` exists or a range names no record.
    """
    options = options or InfillOptions.of(given)
    intake = run.intake(file, read_as, tokenizer=run.fills)
    with claimed(output, new=True, parents=True, state=JOURNAL) as work:
        work.content.mkdir()
        checkpoint = {"checkpoint": read_json(CheckpointFolder(run.checkpoint).digests)}
        with intake.silent() as first:
            run = run.knowing(first, options)
        digest = run.experts.digest(options.experts)
        predictor = {"predictor": digest, "known": run.experts.file_digest} if digest else {}
        journal = Journal(work.folder / JOURNAL, checkpoint | predictor | options.identity())
        summary, shown, drawn = _fill(run, intake, work.content, journal, table, on_progress, options)
        report = beside(work.content / summary["filled"]["file"], "report.html")
        summary["filled"]["file"] = str(output / summary["filled"]["file"])
        for text in summary.get("warnings", ()):
            on_warning(text)
        write_report(report, summary, shown, drawn, _made_with(run))
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
) -> tuple[dict[str, Any], list[FillRow], list[Excerpt]]:
    """Write the filled file and the table into the folder; the summary, and the rows and stretches to show."""
    file, reader = intake.file, intake.reader
    writer, target = reader.written_as(folder / file.name)
    # What was passed over can be kept by its own format alone.
    restored = Restored(intake.items(), kept=writer is reader)
    counted, shown, drawn = FillSummary(run, options), list[FillRow](), list[Excerpt]()
    with table_writer(beside(target, f"fills.{table}"), COLUMNS) as write_rows:

        def filled_records() -> Iterator[Any]:
            for n, each in enumerate(run.infill(restored.records(), options, journal=journal)):
                yield from restored.before(n)
                written = rows(
                    each.filled,
                    each.before,
                    run.fills,
                    posterior=each.posterior,
                    numbers=each.numbers,
                    gains=counted.add(each),
                    clipped=nearby(each.beyond, each.filled.fill.cells),
                    experts=counted.used,
                )
                shown.extend(first := list(islice(written, SHOWN_ROWS - len(shown))))
                drawn.extend(stretches(each, first, run.fills, most=MOST_DRAWN - len(drawn)))
                write_rows(map(as_dict, chain(first, written)))
                on_progress(counted.n_cells, None)
                yield each.record
            yield from restored.before(None)

        records = Given(filled_records())
        with intake, fenced(writer, "write", file=file, given=records):
            writer.write(records, target)
    if options.lengths or options.insertion:
        with table_writer(beside(target, f"lengths.{table}"), columns_of(Sized)) as write_rows:
            write_rows(map(vars, counted.sized))
    return counted.of(target.name, intake.summary), shown, drawn


def _made_with(run: TrainedModel) -> dict[str, str]:
    """What a report of fills was made with."""
    return {
        "run": str(run.path),
        "checkpoint": run.checkpoint.name,
        "tokenizer fingerprint": run.tokenizer.fingerprint,
        **{name: version(name) for name in ("maskseq", "torch")},
    }
