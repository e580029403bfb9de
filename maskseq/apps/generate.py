"""A file of records that are not over in, a table of how they go on out."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from maskseq.baselines.open_blend import open_blend, open_experts
from maskseq.contract.fence import numbers_of
from maskseq.contract.renamed import with_added
from maskseq.corpus.dress import AS_TRAINED, ReadAs
from maskseq.corpus.intake import Intake
from maskseq.corpus.out_of_range import watched
from maskseq.corpus.reader import Corpus
from maskseq.corpus.unfamiliar import encoded
from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.formats import Names
from maskseq.generate.continuation import GenerateConfig, continuations, one_by_one
from maskseq.generate.table import DRAWN_COLUMNS, REST_COLUMNS, STEP_COLUMNS, as_dict, drawn_rows, rest_row, step_rows
from maskseq.loaded.recipe import recipe_file
from maskseq.loaded.run import BLEND
from maskseq.model.checkpoint import read_json
from maskseq.predict.blend import ENCODER
from maskseq.predict.experts.counted import seasons
from maskseq.predict.experts.left_only import left_only
from maskseq.predict.experts.remembered import Remembered
from maskseq.predict.predictor import Predictor
from maskseq.predict.protocol import Predict
from maskseq.storage.outputs import require_apart
from maskseq.storage.tabular import table_on_stdout, table_writer
from maskseq.trained import TrainedModel
from maskseq.types import END, Encoded, Progress

By = Literal["encoder", "counted"]
TOGETHER = 64
"""Records that are continued together."""
SAMPLES = 100
"""By default, where one distribution does not say all."""
OPEN = "set masking.causal = 0.25 or packing.open = 0.3 in the recipe and train again"


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What is asked of each record of a file."""

    steps: int | None = None
    """Positions; None: until the end, whose row is that of the rest."""
    most: int | None = None
    """Positions until the end, at most (default: as many as the model sees)."""
    samples: int | None = None
    """Continuations that are drawn (default: 1 where one distribution says all, else `SAMPLES`)."""
    cases: Sequence[str] = ()
    """Names of records (default: all)."""
    by: By | None = None
    """What predicts (default: counts, and the encoder if the run has seen sequences without their end)."""
    temperature: float = 1.0
    seed: int = 0


def next_file(
    run: TrainedModel,
    file: Path,
    request: GenerateRequest,
    *,
    output: Path | None = None,
    drawn: Path | None = None,
    read_as: ReadAs = AS_TRAINED,
    symmetries: bool = True,
    as_json: bool = False,
    on_progress: Progress = lambda done, of: None,
) -> dict[str, Any]:
    """Write how every record of a file goes on, to `output` or to stdout, and what was drawn to `drawn`.

    The mark of the end that the tokenizer puts behind a record is taken away: a case is not over because its file is.
    """
    for table in filter(None, (output, drawn)):
        require_apart(table, file)
    if output is not None and drawn is not None:
        require_apart(output, drawn)
    ends = any(END in field.controls for field in run.fills.fields)
    if request.steps is None and not ends:
        raise UsageError(
            "nothing says where these sequences end\n\nhint: say how far: maskseq next --steps, or maskseq forecast",
            code="not-supported",
        )
    predictor, by = chosen(run, request.by, symmetries=symmetries)
    config = config_for(predictor, request, drawn=drawn is not None)
    columns = REST_COLUMNS if request.steps is None else STEP_COLUMNS
    intake = run.intake(file, read_as, tokenizer=predictor.tokenizer)
    n = 0
    with ExitStack() as stack:
        sink = stack.enter_context(
            table_on_stdout(columns, as_json=as_json) if output is None else table_writer(output, columns)
        )
        sink_drawn = stack.enter_context(table_writer(drawn, DRAWN_COLUMNS)) if drawn else None
        stack.enter_context(intake)
        requested = _asked(intake, request.cases, predictor)
        while some := list(islice(requested, TOGETHER)):
            found = continuations(predictor.predict, predictor.tokenizer, some, config, context=predictor.context)
            for (key, record), each in zip(some, found, strict=True):
                known = len(predictor.tokenizer.opened(record.ids))
                if request.steps is None:
                    sink([as_dict(rest_row(key, known, each, predictor.tokenizer))])
                else:
                    sink(map(as_dict, step_rows(key, known, each, predictor.tokenizer)))
                if sink_drawn:
                    sink_drawn(map(as_dict, drawn_rows(key, each, predictor.tokenizer)))
            n += len(some)
            on_progress(n, None)
        if not n:
            raise DataError(file, "holds no records: there is nothing that could go on", code="nothing-to-do")
    return {"table": str(output), "records": n, "by": by, "samples": config.samples, **intake.summary}


def config_for(predictor: Predictor, request: GenerateRequest, *, drawn: bool = False) -> GenerateConfig:
    """How records are continued by what predicts; `drawn`: samples are wanted for themselves."""
    steps = request.steps or request.most or predictor.context
    block = 1 if one_by_one(predictor.predict, predictor.tokenizer) else max(predictor.context // 2, 1)
    one_says_all = request.steps and steps <= block and not drawn
    return GenerateConfig(
        steps=steps,
        samples=request.samples or (1 if one_says_all else SAMPLES),
        block=block,
        temperature=request.temperature,
        seed=request.seed,
    )


def forecast_file(run: TrainedModel, file: Path, request: GenerateRequest, **given: Any) -> dict[str, Any]:
    """As `next_file`, of signals: vocabularies of numbers only."""
    if None in run.tokenizer.vocabulary.centres:
        raise UsageError(
            "a forecast is of numbers, and this run has other fields\n\nhint: maskseq next", code="not-supported"
        )
    return next_file(run, file, request, **given)


def chosen(run: TrainedModel, by: By | None, *, symmetries: bool = True) -> tuple[Predictor, str]:
    """What predicts, and what to call it.

    A run that has never seen a case without its end takes the last event for the last: its encoder cannot be asked. The
    gate of a run is of holes with known neighbours on both sides, so ids are predicted by a gate of their own. Numbers
    have no such gate: experts of them are weighed by what is known of each window.
    """
    vocabulary, context = run.fills.vocabulary, run.model.config.max_positions
    ordinal = None not in vocabulary.centres
    closed = any(END in field.controls for field in run.fills.fields) and not seen_open(run)
    alone = partial(run.predictor, symmetries=symmetries, calibrated=False, experts=(ENCODER,))
    if run.model.next_head is not None:
        alone = partial(Predictor, predict=run.predict_next(), tokenizer=run.tokenizer, context=context)
    if by == ENCODER:
        if closed:
            raise UsageError(
                f"{run.path} has not learned what comes next: it saw every sequence with its end\n\nhint: {OPEN}",
                code="not-supported",
            )
        return alone(), ENCODER
    if by is None and (ordinal or run.fills is not run.tokenizer):
        name = ENCODER if run.experts.used() == (ENCODER,) else BLEND
        return run.predictor(symmetries=symmetries, calibrated=False), name
    encoder = run.predict_next(symmetries=symmetries) if by is None and asks_encoder(run) else None
    try:
        corpus = run.corpus()
        if ordinal:
            sequences = list(corpus.training_ids())
            methods = left_only(sequences, run.tokenizer, periods=seasons(sequences, run.tokenizer))
            names: tuple[str, ...] = (next(iter(methods)),)
            predict = methods[names[0]]
        else:
            predict, names = open_blend(corpus, encoder, context=context)
    except MaskseqError as error:
        problem = str(error).partition("\n\n")[0]
        if encoder is not None:
            warnings.warn(f"the encoder predicts alone: counting takes the training data, but {problem}", stacklevel=2)
            return alone(), ENCODER
        hint = OPEN if closed else "leave out --by counted"
        raise UsageError(
            f"counting takes the run's training data, but {problem}\n\nhint: {hint}", code="missing-corpus"
        ) from None
    reported = " + ".join(names)
    if by is None and closed:
        warnings.warn(
            f"the encoder saw every sequence with its end, so that what is counted on its training data answers "
            f"({reported}); for the encoder, {OPEN}",
            stacklevel=2,
        )
    return Predictor(predict=predict, tokenizer=run.tokenizer, context=context), reported


def open_predictors(
    run: TrainedModel, corpus: Corpus, experts: Sequence[str], *, symmetries: bool, selection: bool
) -> dict[str, Predict]:
    """What `next` predicts with, by name as in `TrainedModel.predictors`; `selection`: whether it may be fitted on.

    Tables count the training part alone, as the simple methods do that these are compared with.
    """
    encoder = Remembered(run.predict_next(symmetries=symmetries)) if asks_encoder(run) else None
    own: dict[str, Predict] = {} if encoder is None else {ENCODER: encoder}
    if encoder is not None and tuple(experts) == (ENCODER,):
        return own
    context = run.model.config.max_positions
    predict, _ = open_blend(corpus, encoder, context=context, selection=selection, counts_selection=False)
    return {BLEND: predict, **own, **open_experts(corpus, selection=False)}


def asks_encoder(run: TrainedModel) -> bool:
    """Whether its encoder can say what comes next: it was trained, and has seen sequences without their end."""
    stored = run.experts.stored
    trained = stored is None or ENCODER in stored.experts
    return trained and (seen_open(run) or not any(END in field.controls for field in run.fills.fields))


def seen_open(run: TrainedModel) -> bool:
    """Whether the run was trained with open prefixes, or has a head of what comes next."""
    if run.model.next_head is not None:
        return True
    source = recipe_file(run.path, run.checkpoint)
    recipe = with_added(read_json(source).get("recipe") or {}) if source else {}
    return bool((recipe.get("packing") or {}).get("open", 0) > 0)


def _asked(intake: Intake, cases: Sequence[str], predictor: Predictor) -> Iterator[tuple[str, Encoded]]:
    """The records that are asked about, by name; `UsageError` behind the last if one of `cases` is none of them."""
    names = Names(cases)
    for record, ids in encoded(watched(intake, predictor.tokenizer), predictor.tokenizer):
        name = names.next(record.key)
        if cases and not set(cases) & set(name.meant_by):
            continue
        if not len(record):
            raise DataError(name.text, "has nothing in it that could go on", code="nothing-to-do")
        yield name.text, replace(ids, numbers=numbers_of(predictor.tokenizer, record))
    names.check()
