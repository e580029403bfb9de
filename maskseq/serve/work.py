"""What each kind of request is answered with. A request's file lies in a folder of its own while it is worked on."""

import base64
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from maskseq.apps.generate import By, GenerateRequest, chosen, config_for
from maskseq.apps.predict_labels import task_records
from maskseq.contract.fence import encode, fenced, numbers_of, read
from maskseq.corpus.dress import ReadAs
from maskseq.corpus.out_of_range import OutOfRange
from maskseq.corpus.unfamiliar import Unfamiliar
from maskseq.errors import DataError, UsageError, nearest
from maskseq.files import GZIP, ZIP
from maskseq.formats import Format, Names, named
from maskseq.generate import table as continued
from maskseq.generate.continuation import continuations
from maskseq.infill.options import InfillOptions
from maskseq.infill.ranges import Range
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.table import as_dict, rows
from maskseq.predict.predictor import Predictor
from maskseq.scoring import surprise
from maskseq.serve.limits import Limits, too_large
from maskseq.serve.requests import (
    EmbedRequest,
    FixedValue,
    InfillRequest,
    NextRequest,
    PredictRequest,
    Request,
    ScoreRequest,
)
from maskseq.serve.together import ServedModel, Shared, shared
from maskseq.serve.view import around
from maskseq.tasks.table import prediction_rows
from maskseq.types import END

Answer = dict[str, Any]
DRAWN = 1 << 12
"""Cells of continuations that a request draws between two looks at its deadline, about."""


@dataclass(frozen=True)
class Server:
    """What requests are answered by."""

    run: ServedModel
    limits: Limits
    continued: dict[By | None, tuple[Predictor, str]] = field(default_factory=dict)
    """By the requested method: the predictor that continues sequences, and its name."""

    def infill(self, request: InfillRequest) -> Answer:
        """The file with its holes filled, and each filled cell with its probabilities."""
        run = self.run
        ranges: dict[str, list[Range]] = {}
        for part in request.mask:
            ranges.setdefault(part.key, []).append((part.start - 1, part.stop))
        options = InfillOptions(
            config=InfillConfig(
                order=request.order, temperature=request.temperature, samples=request.samples, seed=request.seed
            ),
            ranges=ranges,
            only_ranges=request.only_mask,
            unknown=tuple(request.unknown),
            fill_long_holes=request.fill_long_holes,
        )
        strange, beyond = Unfamiliar(run.fills), OutOfRange(run.fills.fields)
        cells: list[dict[str, Any]] = []
        windows: list[dict[str, Any]] = []
        left: list[str] = []
        filled: list[Any] = []
        with self.opened(request) as (reader, file, records):
            for each in run.infill(fixed(records, request.fixed, run), options):
                strange.add(each.record, each.before.ids)
                beyond.add(each.beyond)
                left += [f"{each.filled.task.key}:{start + 1}-{stop}" for start, stop in each.filled.left]
                n_samples, n_cells = each.filled.fill.values.shape
                if len(cells) + n_samples * n_cells > self.limits.positions:
                    raise too_large("there are more cells to fill", self.limits.positions)
                table = rows(
                    each.filled,
                    each.before,
                    run.fills,
                    posterior=each.posterior,
                    numbers=each.numbers,
                    alternatives=request.alternatives,
                )
                positions = each.filled.fill.cells[:, 0].repeat(n_samples).tolist()
                cells += [as_dict(row) | {"position": at} for row, at in zip(table, positions, strict=True)]
                key = each.filled.task.key
                fixed_here = [value.position for value in request.fixed if value.key in (key, "")]
                windows += around(each, run.fills, fixed_here)
                filled.append(each.record)
            answer = written(reader, file, filled)
        long = [f"holes longer than half the context were left: {', '.join(left[:3])}"] if left else []
        warnings = [*long, *filter(None, [beyond.warning()]), *strange.warnings()]
        return {"file": answer, "cells": cells, "windows": windows, "warnings": warnings}

    def next(self, request: NextRequest) -> Answer:
        """What comes next in each record."""
        predictor, by = self.predictor(request.by)
        ends = any(END in field.controls for field in predictor.tokenizer.fields)
        if request.rest and not ends:
            raise UsageError(
                "nothing says where these sequences end\n\nhint: say how far, as steps", code="not-supported"
            )
        steps = None if request.rest else request.steps
        config = config_for(predictor, GenerateRequest(steps=steps, samples=request.samples, seed=request.seed))
        found: list[Any] = []
        with self.opened(request) as (_, _, records):
            names, asked = Names(request.cases), []
            for record in records:
                name = names.next(record.key)
                if request.cases and not set(request.cases) & set(name.meant_by):
                    continue
                if not len(record):
                    raise DataError(name.text, "has nothing in it that could go on", code="nothing-to-do")
                ids = encode(predictor.tokenizer, record)
                asked.append((name.text, replace(ids, numbers=numbers_of(predictor.tokenizer, record))))
            names.check()
            if len(asked) * config.samples * config.steps > self.limits.positions:
                raise too_large("records × samples × steps are more", self.limits.positions)
            answers = continuations(
                predictor.predict, predictor.tokenizer, asked, config, context=predictor.context, cells=DRAWN
            )
            for (key, ids), each in zip(asked, answers, strict=True):
                known = len(predictor.tokenizer.opened(ids.ids))
                if request.rest:
                    found.append(continued.as_dict(continued.rest_row(key, known, each, predictor.tokenizer)))
                else:
                    found += map(continued.as_dict, continued.step_rows(key, known, each, predictor.tokenizer))
        return {"rows": found, "by": by}

    def score(self, request: ScoreRequest) -> Answer:
        """How surprising records or positions are."""
        names = [field.name for field in self.run.tokenizer.fields]
        with self.opened(request) as (_, _, records):
            scores = self.run.score(records, stride=request.stride, fields=request.fields)
            if request.per_position:
                return {"rows": [row for each in scores for row in surprise.position_rows(each, names)]}
            return {"rows": [surprise.record_row(each, names) for each in scores]}

    def embed(self, request: EmbedRequest) -> Answer:
        """A vector for each record."""
        with self.opened(request) as (_, _, records):
            vectors = self.run.thread.alone(lambda: list(self.run.embed(records, pooling=request.pooling)))
        return {"vectors": [{"key": key, "vector": vector.tolist()} for key, vector in vectors]}

    def predict(self, request: PredictRequest) -> Answer:
        """The labels that the run was fine-tuned for."""
        task = self.run.labels
        if task is None:
            raise UsageError(
                "this run was not fine-tuned, so it predicts no labels\n\nhint: serve what `maskseq finetune` has made",
                code="not-supported",
            )
        with self.opened(request) as (_, file, _):
            intake = task_records(self.run, task, file, ReadAs(format=request.format))
            found = self.run.thread.alone(lambda: [row for some in prediction_rows(task, intake) for row in some])
        return {"rows": found}

    def predictor(self, by: By | None) -> tuple[Predictor, str]:
        """What continues sequences: counted once, and asked by several requests together."""

        def counted() -> tuple[Predictor, str]:
            if by not in self.continued:
                found, name = chosen(self.run, by)
                predict = found.predict
                if not isinstance(predict, Shared):
                    predict = shared(predict, self.run.thread)
                self.continued[by] = replace(found, predict=predict), name
            return self.continued[by]

        return self.continued.get(by) or self.run.thread.alone(counted)

    @contextmanager
    def opened(self, request: Request) -> Iterator[tuple[Format[Any], Path, list[Any]]]:
        """The request's file in a folder of its own, its format, and its records."""
        refuse_expanding(request.content, self.limits.bytes)
        with TemporaryDirectory(prefix="maskseq-serve-") as folder:
            file = Path(folder) / request.name
            file.write_bytes(request.content)
            reader = self.run.reader(file, request.format)
            require_alone(reader, file)
            records, room = [], self.limits.positions
            for record in read(reader, file):
                room -= len(record)
                if room < 0:
                    raise too_large(f"{request.name} has more positions", self.limits.positions)
                records.append(record)
            yield reader, file, records


def refuse_expanding(content: bytes, limit: int) -> None:
    """`RefusedError` for a compressed file that becomes larger than the limit."""
    if content[:2] == GZIP:
        with io.BytesIO(content) as raw:
            try:
                size = len(gzip.GzipFile(fileobj=raw).read(limit + 1))
            except (OSError, EOFError, zlib.error):
                return  # the format says what is wrong with it
    elif content[:4] == ZIP:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                size = sum(each.file_size for each in archive.infolist())
        except (zipfile.BadZipFile, ValueError, OSError):
            return
    else:
        return
    if size > limit:
        raise too_large("the compressed file expands to more bytes", limit)


def require_alone(reader: Format[Any], file: Path) -> None:
    """`UsageError` for a file that takes content from another one: a request names no files of this machine."""
    if any(each.resolve() != file.resolve() for each in reader.sources(file)):
        raise UsageError(
            f"{file.name} is read together with other files, and one is sent at a time\n\nhint: use the command line",
            code="not-supported",
        )


def written(reader: Format[Any], file: Path, records: Sequence[Any]) -> Answer:
    """Filled records in the file's own format: as text where they are UTF-8, else in base64."""
    folder = file.with_name("filled")
    folder.mkdir()
    writer, target = reader.written_as(folder / file.name)
    with fenced(writer, "write", file=file):
        writer.write(records, target)
    content = target.read_bytes()
    try:
        return {"name": target.name, "text": content.decode()}
    except UnicodeDecodeError:
        return {"name": target.name, "base64": base64.b64encode(content).decode()}


def fixed(records: Sequence[Any], values: Sequence[FixedValue], run: ServedModel) -> Iterator[Any]:
    """The records with these values in place of what is unknown."""
    waiting: dict[str, list[FixedValue]] = {}
    for value in values:
        waiting.setdefault(value.key, []).append(value)
    for key, record in named(records):
        mine = waiting.pop(key, []) + (waiting.pop("", []) if len(records) == 1 else [])
        for value in mine:
            record = with_value(record, value, run)
        yield record
    if waiting:
        raise UsageError(f"no record is called {next(iter(waiting))!r}, which a value is fixed in", code="unknown-name")


def with_value(record: Any, value: FixedValue, run: ServedModel) -> Any:
    """The record with one value put in; `UsageError` where it cannot stand there."""
    tokenizer = run.fills
    names = [field.name for field in tokenizer.fields]
    if value.field not in names:
        raise UsageError(
            f"there is no field {value.field!r}\n\nhint: {nearest(value.field, names)}", code="unknown-name"
        )
    column = names.index(value.field)
    field = tokenizer.fields[column]
    encoded = encode(tokenizer, record)
    if value.position >= len(encoded):
        raise UsageError(
            f"position {value.position} is outside of {record.key!r}, which has {len(encoded)} positions",
            code="outside-record",
        )
    cell = np.array([[value.position, column]])
    number = None
    if field.centres is not None:
        number = as_number(value)
        token = int(np.abs(np.array(field.centres) - number).argmin())
    elif str(value.value) in field.tokens:
        token = field.tokens.index(str(value.value))
    else:
        raise UsageError(
            f"{value.value!r} is not a value of the field {field.name!r}\n\n"
            f"hint: {nearest(str(value.value), field.tokens[:1000])}",
            code="unknown-name",
        )
    ids, holes = encoded.ids.copy(), np.zeros(encoded.ids.shape, bool)
    ids[tuple(cell.T)], holes[tuple(cell.T)] = token, True
    with fenced(tokenizer, "splice", record):
        record = tokenizer.splice(record, ids, holes)
    if number is not None:
        with fenced(tokenizer, "put_numbers", record):
            record = tokenizer.put_numbers(record, cell, np.array([number]))
    now = encode(tokenizer, record).ids
    if now.shape != ids.shape or not tokenizer.vocabulary.known(now)[value.position, column]:
        raise UsageError(
            f"{field.name!r} of {record.key!r} at position {value.position} cannot be fixed alone: what it is counted "
            f"from is unknown as well",
            code="not-supported",
        )
    return record


def as_number(value: FixedValue) -> float:
    try:
        number = float(value.value)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise UsageError(
            f"{value.value!r} is not a number, and the field {value.field!r} has numbers", code="bad-option"
        )
    return number
