"""A file of records in, a table of how odd they are out: streaming, and resumable after a kill to the same bytes."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskseq.contract.fence import encode
from maskseq.corpus.intake import Intake
from maskseq.infill.journal import Journal
from maskseq.infill.options import InfillOptions
from maskseq.model.checkpoint import read_json
from maskseq.scoring import surprise
from maskseq.storage.run_folder import CheckpointFolder
from maskseq.storage.tabular import Sink, resumed_table, table_on_stdout
from maskseq.tokenizer import Tokenizer
from maskseq.trained import TrainedModel
from maskseq.types import Progress

JOURNAL = "journal"


@dataclass
class Extent:
    """How long the records of a file are, in positions: about, by how many the first one has to a unit."""

    tokenizer: Tokenizer[Any]
    units: int = 0
    rate: float = field(default=0.0, init=False)

    def over(self, records: Iterable[Any]) -> Iterator[Any]:
        """The records, which are counted as they pass."""
        for record in records:
            if not self.units and len(record):
                with suppress(ValueError):  # which is reported where the record is scored
                    self.rate = len(encode(self.tokenizer, record)) / len(record)
            self.units += len(record)
            yield record

    @property
    def positions(self) -> int:
        return round(self.rate * self.units)


def score_file(
    run: TrainedModel,
    records: Intake,
    *,
    output: Path | None = None,
    per_position: bool = False,
    stride: int = 8,
    fields: Sequence[str] = (),
    symmetries: bool = True,
    calibrated: bool = True,
    experts: Sequence[str] = (),
    as_json: bool = False,
    on_progress: Progress = lambda done, of: None,
) -> None:
    """Write a line for each record of a file, or for each position, into a table or to stdout.

    What an interrupted attempt has scored lies in the output's work folder, and the same call goes on from there. A
    table appears when all is done; on stdout lines come as records are done.
    """
    names, extent = [each.name for each in run.tokenizer.fields], Extent(run.tokenizer)
    with records.silent() as first:
        passing = extent.over(first)
        run = run.knowing(passing, InfillOptions(experts=tuple(experts)))
        for _ in passing:  # what experts need not know of is counted all the same
            pass
    given: dict[str, Any] = {
        "stride": stride, "fields": fields, "symmetries": symmetries, "calibrated": calibrated, "experts": experts,
    }  # fmt: skip
    usual = run.usual(**given)
    columns = surprise.position_columns(names) if per_position else surprise.RECORD_COLUMNS
    with ExitStack() as stack:
        journal = None
        if output is None:
            sink: Sink = stack.enter_context(table_on_stdout(columns, as_json=as_json))
        else:
            sink, state = stack.enter_context(resumed_table(output, columns, JOURNAL))
            journal = Journal(state, _identity(run, given))
        stack.enter_context(records)
        scores = run.score(
            records,
            usual=usual,
            journal=journal,
            on_progress=lambda done, _: on_progress(done, max(extent.positions, done)),
            **given,
        )
        for each in scores:
            if per_position:
                sink(surprise.position_rows(each, names, usual))
            else:
                sink([surprise.record_row(each, names, usual)])


def _identity(run: TrainedModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the scores of a batch, for the journal: what is seen and requested is part of the batch itself."""
    folder = CheckpointFolder(run.checkpoint)
    fitted = folder.calibration
    return {
        "score": {name: list(each) if isinstance(each, (list, tuple)) else each for name, each in given.items()},
        "checkpoint": read_json(folder.digests),
        "precision": run.precision,  # which the machine has a say in
        "calibration": hashlib.sha256(fitted.read_bytes()).hexdigest() if fitted.is_file() else "",
        "predictor": run.experts.digest(given["experts"]),
        "known": run.experts.file_digest,
    }
