"""From a recipe to a trained run: the corpus, the rows, the training. Only this module knows the whole."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.apps.final_comparison import final_comparison
from maskseq.apps.frames import records_of
from maskseq.apps.judging import judging
from maskseq.apps.prepare import prepare_corpus, warn_of_overlap, warn_of_shared
from maskseq.apps.rows import rows_of
from maskseq.baselines.frequencies import training_counts, write_frequencies
from maskseq.baselines.gating import let_go
from maskseq.baselines.simple_losses import write_losses
from maskseq.calibration.stored import held_out_records, reported
from maskseq.contract.own import is_own
from maskseq.contract.renamed import older_names
from maskseq.corpus.frames import is_frame
from maskseq.corpus.reader import Corpus
from maskseq.errors import UsageError
from maskseq.model.checkpoint import checkpoints
from maskseq.model.encoder import Encoder
from maskseq.model.priors.reference import Reference
from maskseq.packing.folds import fold_of
from maskseq.predict.blend import ENCODER
from maskseq.predict.experts.number_experts import Numbered, frequencies_of, series_of
from maskseq.predict.gate_file import read_gate
from maskseq.recipe import Recipe, canonical, check_memory, load_recipe
from maskseq.reports.run import write_run_report
from maskseq.storage.run_folder import RunFolder
from maskseq.tokenizer import Tokenizer
from maskseq.trained import TrainedModel, load
from maskseq.training import parallel, state
from maskseq.training.events import Calibrated, Compared, Event, Listener, Started, Warned
from maskseq.training.spec import TrainingSpec
from maskseq.training.trainer import train
from maskseq.types import Encoded, Progress, Record

MOST_EPOCHS, PARAMETERS_A_CELL = 50, 50
"""Beyond these a warning says that a run is out of proportion."""
FEWEST_CALIBRATED = 2000
"""Known cells of selection data below which no calibration is fitted."""
CALIBRATED, CALIBRATED_A_FIELD = 3000, 500
"""Cells that one is fitted on, about, at least and by field: it takes as long as filling them."""


def pretrain(
    recipe: Path | str | Mapping[str, Any] | Recipe,
    *,
    output: Path | str,
    overrides: Sequence[str] = (),
    tokenizer: Tokenizer[Any] | None = None,
    records: Iterable[Record] | Any = None,
    corpus: Corpus | None = None,
    extend: Path | str | None = None,
    branch: Path | str | None = None,
    experts_only: bool = False,
    on_event: Listener = lambda event: None,
) -> TrainedModel:
    """Pretrain into the run folder `output`, or go on with the same run there; returns it loaded.

    Args:
        recipe: A TOML file, the name of a recipe that ships, the same as a mapping, or a `Recipe`.
        output: The run folder.
        overrides: Keys of the recipe that are set otherwise, such as `"training.tokens=100_000"`.
        tokenizer: An object in place of the `[tokenizer]` section, which a recipe cannot name.
        records: Objects in place of `data.files`, or a data frame of pandas, polars or Arrow, whose rows are read as a
            file's are (`data.format`, by default `table`; `maskseq.recipe_for(frame)` proposes a recipe).
        corpus: One that is open already.
        extend: A run whose next stage begins (a longer context, other masks; rows and schedules count anew).
        branch: A run, or one of its checkpoints, to go on from (a stable run may end in several decays).
        experts_only: Train nothing. The initial encoder is step 0, and what is counted on the corpus predicts without
            it; the same call without this goes on from there.
        on_event: Is called with every event of the training (`maskseq.training.events`).

    Returns:
        The run, loaded: its best checkpoint by selection data.

    Raises:
        UsageError: A recipe or folder that does not fit.
        DataError: Broken data, with file and place.
        KeyboardInterrupt: When interrupted, after a checkpoint; the same call goes on from there.

    Example:
        >>> pretrain({"data": {}, "tokenizer": {"name": "nucleotid"}}, output="runs/mine")
        Traceback (most recent call last):
        ...
        maskseq.errors.UsageError: the recipe names no data
        <BLANKLINE>
        hint: in its [data] section, set files = ["…"] or corpus = "…"
    """
    resolved = load_recipe(recipe, overrides)
    check_memory(resolved)
    resolved.look_up_parts()
    if is_frame(records):
        records, resolved = records_of(records, resolved)
    output, ranks = Path(output), parallel.join(resolved.training.device)
    origin = _origin(extend, branch)
    if corpus is None:
        corpus = prepare_corpus(
            resolved, default=RunFolder(output).corpus, tokenizer=tokenizer, records=records, run=output
        )
    warn_of_overlap(corpus)
    warn_of_shared(corpus)
    stage = origin.position.stage if origin else 0
    training_rows, validation_rows = rows_of(resolved, corpus, cache=output, stage=stage)
    counts = training_counts(output, corpus)
    judges = judging(resolved, corpus, output, counts, keep=ranks.first)  # only the first rank fits a gate

    def hear(event: Event) -> None:
        if isinstance(event, Started):  # the folder is this run's from now on
            write_frequencies(output, corpus, counts)
            write_losses(output, {part: dict(each.references) for part, each in judges.items()})
        on_event(event)

    if experts_only:
        _check_experts_only(corpus, output)
    model = Encoder(resolved.encoder_config(corpus.tokenizer.vocabulary), seed=resolved.seed)
    begun = origin is not None or checkpoints(output)
    images = corpus.tokenizer.symmetries()
    if images and model.embeddings.reference is not None:
        raise UsageError(
            f"model.reference: its densities are not averaged over symmetries, and this tokenizer has {len(images)}\n\n"
            f"hint: leave out model.reference",
            code="not-supported",
        )
    if not begun:  # else the checkpoint has what priors counted
        model.embeddings.count(ids for each in corpus.training_ids() for ids in (each, *(g.ids(each) for g in images)))
        if (reference := model.embeddings.reference) is not None:
            count_reference(reference, corpus)
        for text in advice(resolved, corpus, trained_parameters(model)) if ranks.first else ():
            on_event(Warned(text=text))
    spec = TrainingSpec(
        config=resolved.training,
        optimizer=resolved.optimizer,
        schedule=resolved.schedule,
        tokenizer=corpus.tokenizer,
        seed=resolved.seed,
        identity=resolved.identity() | {"corpus": corpus.fingerprint},
        canonical=canonical,
        origin=origin,
    )
    train(
        model,
        training_rows,
        spec,
        run=output,
        validate=judges.get("selection"),
        test=judges.get("test"),
        begin_only=experts_only,
        on_event=hear,
    )
    run = load(output, trust_code=resolved.code, tokenizer=corpus.tokenizer)
    if not ranks.first:
        return run
    if resolved.blend or experts_only:
        run = blend_run(run, corpus, encoder=not experts_only, own=resolved.experts)
    if resolved.calibrate:
        run, in_words = calibrate_run(run, corpus)
        on_event(Calibrated(in_words=in_words))
    let_go(corpus, ("train",))  # a gate and a calibration are fitted with these, and nothing else is
    worth = final_comparison(run, corpus, resolved)
    if worth is not None:
        outcome = worth.verdict.outcome if worth.verdict else "none"
        on_event(Compared(verdict=outcome, in_words=f"compared with counting on test data: {worth.in_words}"))
    if not experts_only:
        row = (validation_rows or training_rows).row(0)
        write_run_report(run, corpus, row, resolved.identity()["recipe"], worth.in_words if worth else None)
    return run


def _read(encoded: Encoded) -> Float[np.ndarray, "length fields"]:
    return np.full(encoded.ids.shape, np.nan) if encoded.numbers is None else encoded.numbers


def count_reference(reference: Reference, corpus: Corpus) -> None:
    """Count closed forms on the training numbers, and without each of their parts."""
    counted = list(corpus.counted(numbers=True))
    data = Numbered([each.ids for _, each in counted], [_read(each) for _, each in counted])
    sequences = corpus.sequences("train")
    folds = [
        fold_of(int(index - sequences[0]), len(sequences), np.arange(len(each)), len(each)) for index, each in counted
    ]
    reference.count_numbers(series_of(data, corpus.tokenizer), folds, frequencies_of(data.sequences, corpus.tokenizer))


def _origin(extend: Path | str | None, branch: Path | str | None) -> state.Origin | None:
    """The run that this one goes on from, if any."""
    if extend is not None and branch is not None:
        raise UsageError("a run either extends another or branches from it, not both", code="bad-option")
    return state.next_stage(Path(extend)) if extend else state.branch(Path(branch)) if branch else None


def _check_experts_only(corpus: Corpus, output: Path) -> None:
    """`UsageError` where experts cannot stand alone: their tokens share units, or an encoder has been trained."""
    if corpus.tokenizer.by_unit() is not None:
        raise UsageError(
            "experts count tokens, and several of them share each unit here: train an encoder", code="not-supported"
        )
    if any(each.name != "step_0" for each in checkpoints(output)):
        raise UsageError(
            f"{output} has been trained: `maskseq blend {output}` fits a gate that counts, too", code="exists"
        )


def blend_run(
    run: TrainedModel,
    corpus: Corpus,
    *,
    encoder: bool = True,
    own: Sequence[str] = (),
    on_progress: Progress = lambda done, of: None,
) -> TrainedModel:
    """The run with a gate, fitted now unless it has one, or its tokens are not what infill fills."""
    if run.fills is not run.tokenizer:
        return replace(run, counted_on=corpus)
    stored = read_gate(run.checkpoint)
    if (
        stored is not None
        and (ENCODER in stored.experts) == encoder
        and set(own) == set(filter(is_own, stored.experts))
    ):
        return replace(run, counted_on=corpus)
    return run.blend(corpus=corpus, encoder=encoder, own=own, on_progress=on_progress)


def calibrate_run(run: TrainedModel, corpus: Corpus) -> tuple[TrainedModel, str]:
    """The run with a calibration of what it predicts with, fitted now unless it has one; and what was done, in words.

    On selection data, which experts do not count meanwhile; of few known cells nothing is learned.
    """
    if run.fills is not run.tokenizer:
        return (
            run,
            "not calibrated: infill fills units, which several tokens share; `maskseq calibrate RUN FILE` does it",
        )
    if run.experts.stored is not None and None not in corpus.tokenizer.vocabulary.centres:
        return run, "not calibrated: intervals are those of the errors in each window's own known numbers"
    if run.fitted is not None and run.fitted.predictor == run.experts.digest():
        return run, f"calibrated on {run.fitted.fitted_on}"
    askable = corpus.tokenizer.vocabulary.askable
    n_known = sum(int(np.count_nonzero(each.scorable(askable(each.ids)))) for _, each in corpus.each("selection"))
    if n_known < FEWEST_CALIBRATED:
        return run, f"not calibrated: {n_known:,} cells are held out for selection, and it takes {FEWEST_CALIBRATED:,}"
    n_cells = max(CALIBRATED, CALIBRATED_A_FIELD * corpus.tokenizer.vocabulary.n_fields)
    try:
        run = run.calibrate(held_out_records(corpus), cells=n_cells, data="the selection data")
    except UsageError as error:  # the run is trained, whatever hinders this
        return run, f"not calibrated: {str(error).partition(chr(10))[0]}"
    assert run.fitted is not None
    return run, reported(run.fitted)


def trained_parameters(model: Encoder) -> int:
    """How many parameters are learned: not those that are counted."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def advice(recipe: Recipe, corpus: Corpus, n_parameters: int) -> list[str]:
    """What is out of proportion: how often the run sees its data, and how large the model is compared with them."""
    positions = int(corpus.lengths[corpus.sequences("train")].sum())
    cells = positions * corpus.tokenizer.vocabulary.n_fields
    epochs, found = recipe.training.tokens / max(positions, 1), []
    if epochs > MOST_EPOCHS:
        found.append(
            f"the run sees its {positions:,} training tokens {epochs:,.0f} times: expect the best checkpoint early; "
            f"training.patience = 3 stops there, training.tokens = {round(30 * positions, -3):,} is a usual length"
        )
    if n_parameters > PARAMETERS_A_CELL * cells:
        found.append(
            f"{n_parameters:,} parameters learn from {cells:,} cells: counting may do as well (--experts-only); else "
            f"fewer parameters (model.n_layers, model.hidden_size) or dropout (model.mlp_dropout = 0.1, "
            f"model.attention_dropout = 0.1)"
        )
    return found


__getattr__ = older_names(
    __name__,
    {
        "build_part": "maskseq.apps.prepare.build_part",
        "fit_tokenizer": "maskseq.apps.prepare.fit_tokenizer",
        "recipe_tokenizer": "maskseq.apps.prepare.recipe_tokenizer",
        "held_out_rows": "maskseq.apps.judging.held_out_rows",
        "rows_of_run": "maskseq.apps.rows.rows_of_run",
        "import_checkpoint": "maskseq.apps.interchange.import_checkpoint",
    },
)
