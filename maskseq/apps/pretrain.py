"""From a recipe to a trained run: the corpus, the rows, the training. Only this module knows the whole."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskseq import plugins
from maskseq.apps.final_comparison import final_comparison
from maskseq.apps.frames import records_of
from maskseq.apps.judging import held_out_rows, judging
from maskseq.baselines.frequencies import training_counts, write_frequencies
from maskseq.contract import renamed
from maskseq.contract.fence import fit
from maskseq.contract.own import is_own, look_up
from maskseq.corpus.build import all_sources, build_corpus, build_from_records, build_share
from maskseq.corpus.frames import is_frame
from maskseq.corpus.intake import report
from maskseq.corpus.overlap import Overlap, overlap_of
from maskseq.corpus.reader import Corpus, holds_corpus
from maskseq.corpus.source import Source
from maskseq.corpus.splits import SplitConfig, training_records
from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.interop.convert import import_hf
from maskseq.model.checkpoint import checkpoints, read_json, save_model
from maskseq.model.encoder import Encoder
from maskseq.packing.rows import PackedRows
from maskseq.predict.blend import ENCODER
from maskseq.predict.gate_file import read_gate
from maskseq.recipe import Recipe, canonical, check_memory, load_recipe
from maskseq.reports.run import write_run_report
from maskseq.storage.outputs import replacing
from maskseq.storage.places import Place, local_files
from maskseq.storage.run_folder import RunFolder
from maskseq.tokenizer import Tokenizer
from maskseq.trained import TrainedModel, load
from maskseq.training import parallel, state
from maskseq.training.events import Compared, Event, Listener, Started, Warned
from maskseq.training.trainer import TrainingSpec, train
from maskseq.types import Progress, Record

MOST_EPOCHS, PARAMETERS_A_CELL = 50, 50
"""Beyond these a run is told that it is out of proportion."""
NO_DATA = 'the recipe names no data\n\nhint: in its [data] section, set files = ["…"] or corpus = "…"'


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
    if extend is not None and branch is not None:
        raise UsageError("a run either extends another or branches from it, not both")
    origin = state.next_stage(Path(extend)) if extend else state.branch(Path(branch)) if branch else None
    if corpus is None:
        corpus = prepare_corpus(
            resolved, default=RunFolder(output).corpus, tokenizer=tokenizer, records=records, run=output
        )
    warn_of_overlap(corpus)
    warn_of_shared(corpus)
    stage = origin.position.stage if origin else 0
    training_rows, validation_rows = rows_of(resolved, corpus, cache=output, stage=stage)
    counts = training_counts(output, corpus)

    def hear(event: Event) -> None:
        if isinstance(event, Started):  # the folder is this run's from now on
            write_frequencies(output, corpus, counts)
        on_event(event)

    if experts_only:
        if corpus.tokenizer.by_unit() is not None:
            raise UsageError("experts count tokens, and several of them share each unit here: train an encoder")
        if any(each.name != "step_0" for each in checkpoints(output)):
            raise UsageError(f"{output} has been trained: `maskseq blend {output}` fits a gate that counts, too")
    model = Encoder(resolved.encoder_config(corpus.tokenizer.vocabulary), seed=resolved.seed)
    begun = origin is not None or checkpoints(output)
    if not begun:  # else the checkpoint has what priors counted
        images = corpus.tokenizer.symmetries()
        model.embeddings.count(ids for each in corpus.training_ids() for ids in (each, *(g.ids(each) for g in images)))
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
        validate=judging(resolved, corpus, "selection", counts),
        test=judging(resolved, corpus, "test", counts),
        begin_only=experts_only,
        on_event=hear,
    )
    run = load(output, trust_code=resolved.code, tokenizer=corpus.tokenizer)
    if not ranks.first:
        return run
    if resolved.blend or experts_only:
        run = blend_run(run, corpus, encoder=not experts_only, own=resolved.experts)
    worth = final_comparison(run, corpus, resolved)
    if worth is not None:
        outcome = worth.verdict.outcome if worth.verdict else "none"
        on_event(Compared(verdict=outcome, in_words=f"compared with counting on test data: {worth.in_words}"))
    if not experts_only:
        row = (validation_rows or training_rows).row(0)
        write_run_report(run, corpus, row, resolved.identity()["recipe"], worth.in_words if worth else None)
    return run


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


def trained_parameters(model: Encoder) -> int:
    """How many parameters are learned: not those that are counted."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def advice(recipe: Recipe, corpus: Corpus, n_parameters: int) -> list[str]:
    """What is out of proportion: how often the run sees its data, and how large the model is beside them."""
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


def warn_of_overlap(corpus: Corpus) -> Overlap | None:
    """What the split of a corpus leaves out at a time boundary; warns where that is much."""
    left = overlap_of(corpus)
    if left is not None and left.warning:
        warnings.warn(left.warning, stacklevel=3)
    return left


def warn_of_shared(corpus: Corpus) -> dict[str, Any] | None:
    """What a file that is held out shares with those that are trained on; warns where that is anything."""
    files: dict[str, Any] | None = corpus.manifest["split"].get("files")
    for source in corpus.manifest["sources"]:
        n = (files or {}).get(source.get("part"), {})
        if any(n.get(key) for key in ("keys_shared", "contents_shared")):
            warnings.warn(
                f"{source['name']}: of {n['records']:,} records, the keys of {n['keys_shared']:,} and the contents of "
                f"{n['contents_shared']:,} stand in the files that are trained on, too; {n['left_out']:,} are left out",
                stacklevel=3,
            )
    return files


def prepare_corpus(
    recipe: Recipe,
    *,
    default: Place,
    tokenizer: Tokenizer[Any] | None = None,
    records: Iterable[Record] | None = None,
    run: Path | None = None,
    scheduler: str | None = None,
    on_build: Progress = lambda units, of: None,
) -> Corpus:
    """Open the recipe's corpus, building it (or what is missing of it) first where the recipe names files.

    Of several processes under torchrun the first one builds, the others wait for it. `scheduler` is the address of a
    Dask cluster that builds instead of this machine. `run` is the folder of a run that may have begun from this corpus.
    """
    folder = recipe.data.corpus or default
    if records is None and not recipe.data.files:
        if recipe.data.corpus is None:
            raise UsageError(NO_DATA)
        return Corpus.open(recipe.data.corpus, trust_code=recipe.code, known=tokenizer)
    ranks = parallel.join(recipe.training.device)
    parallel.check_shares(recipe.training.sizes, ranks.world)
    if not ranks.first:
        ranks.wait()
        return Corpus.open(folder, trust_code=recipe.code, known=tokenizer)
    unknown, on_error = recipe.data.unknown, recipe.data.on_error
    if records is not None:
        kept = list(records)
        if tokenizer is None and (begun := _begun(run, recipe, folder)):
            tokenizer = begun.tokenizer
        with _here(recipe) as (_, split):
            tokenizer = tokenizer or fit_tokenizer(recipe, training_records(lambda: kept, split))
            recipe.check_fields(tokenizer.fields)
            corpus = build_from_records(
                kept,
                output=folder,
                tokenizer=tokenizer,
                split=split,
                unknown=unknown,
                variants=recipe.data.variants,
                on_error=on_error,
                format=next((recipe.reader(Path(file)) for file in split.files.values()), None),
            )
    elif tokenizer is None and (begun := _corpus_of_run(run, recipe, folder)):
        corpus = begun
    else:
        with _source(recipe, tokenizer) as (source, split, tokenizer):
            corpus = build_corpus(
                source.files,
                output=folder,
                tokenizer=tokenizer,
                format=source.format,
                split=split,
                unknown=unknown,
                workers=recipe.data.workers,
                scheduler=scheduler,
                variants=recipe.data.variants,
                on_error=on_error,
                progress=on_build,
                source=source,
            )
        _report_skipped(corpus)
    ranks.wait()
    return corpus


def _report_skipped(corpus: Corpus) -> None:
    left = corpus.manifest["skipped"]
    if left["records"]:
        warnings.warn(report(left["records"], corpus.manifest["records"], left["examples"]), DataWarning, stacklevel=3)


def _begun(run: Path | None, recipe: Recipe, folder: Place) -> Corpus | None:
    """The corpus that a run began from, if the recipe still says the same of it.

    *Why* nothing is fitted and compared instead: a later version may fit another tokenizer to the same records, and the
    run must go on with its own.
    """
    if run is None or not RunFolder(run).recipe.exists() or not holds_corpus(folder):
        return None
    saved = read_json(RunFolder(run).recipe)
    before, now = (canonical(each).get("recipe", {}) for each in (saved, recipe.identity()))
    if any(before.get(section) != now.get(section) for section in ("data", "tokenizer")):
        return None
    corpus = Corpus.open(folder, trust_code=recipe.code)
    return corpus if corpus.fingerprint == saved.get("corpus") else None


def _corpus_of_run(run: Path | None, recipe: Recipe, folder: Place) -> Corpus | None:
    """The same of a recipe that names files, if they are the same as well: it need not be made again."""
    corpus = _begun(run, recipe, folder)
    if corpus is None:
        return None
    with _here(recipe) as (paths, split):
        same = all_sources(paths, split, recipe.reader(paths[0])) == corpus.manifest["sources"]
    return corpus if same else None


def build_part(
    recipe: Recipe, share: tuple[int, int], *, output: Place, on_build: Progress = lambda units, of: None
) -> None:
    """Build every n-th part of the recipe's corpus, as job i of an array of n (`share`); `prepare_corpus` ends it."""
    with _source(recipe, None) as (source, split, tokenizer):
        build_share(
            source.files,
            share,
            output=output,
            tokenizer=tokenizer,
            format=source.format,
            split=split,
            variants=recipe.data.variants,
            on_error=recipe.data.on_error,
            progress=on_build,
        )


@contextmanager
def _source(recipe: Recipe, tokenizer: Tokenizer[Any] | None) -> Iterator[tuple[Source, SplitConfig, Tokenizer[Any]]]:
    """The recipe's files, its split, and the tokenizer, fitted on what will be training records."""
    with _here(recipe) as (paths, split):
        source = Source(paths, recipe.reader(paths[0]), recipe.data.on_error)
        tokenizer = tokenizer or fit_tokenizer(recipe, training_records(source.records, split))
        recipe.check_fields(tokenizer.fields)
        yield source, split, tokenizer


@contextmanager
def _here(recipe: Recipe) -> Iterator[tuple[list[Path], SplitConfig]]:
    """The recipe's files on this machine, and its split, whose files are on it, too."""
    files, held_out = recipe.data.files, recipe.data.split.files.values()
    with local_files([*files, *held_out]) as paths:
        copies = dict(zip(held_out, map(str, paths[len(files) :]), strict=True))
        yield paths[: len(files)], recipe.data.split.with_files(lambda file: copies[file])


def recipe_tokenizer(recipe: Recipe) -> Tokenizer[Any]:
    """The tokenizer of the recipe's files, fitted on them where it is one that learns, or else of its corpus."""
    if recipe.data.files:
        with _source(recipe, None) as (_, _, tokenizer):
            return tokenizer
    if recipe.data.corpus is None:
        raise UsageError(NO_DATA)
    return Corpus.open(recipe.data.corpus, trust_code=recipe.code).tokenizer


def fit_tokenizer(recipe: Recipe, records: Iterable[Record]) -> Tokenizer[Any]:
    """The tokenizer of the recipe's `[tokenizer]` section; what it learns, it learns from `records`."""
    options = dict(recipe.tokenizer)
    name = options.pop("name", None)
    if not isinstance(name, str):
        known = plugins.listed("tokenizers")
        raise UsageError(f'[tokenizer] needs a name, such as name = "nucleotide"\n\nhint: installed are {known}')
    return fit(plugins.load("tokenizers", name, trust_code=recipe.code), records, options)


def rows_of(
    recipe: Recipe, corpus: Corpus, *, cache: Path | None = None, stage: int = 0
) -> tuple[PackedRows, PackedRows | None]:
    """Training rows, and those of the selection data (None where there are none)."""
    total = recipe.training.tokens
    _, decay = recipe.schedule.lengths(total)
    training = PackedRows(
        corpus,
        split="train",
        config=recipe.packing,
        masking=recipe.masking,
        seed=recipe.seed,
        stage=stage,
        total_tokens=total,
        decay_start=1 - decay / total,
        cache=cache,
    )
    return training, held_out_rows(recipe, corpus, "selection")


def rows_of_run(
    run: Path | str,
    *,
    corpus: Path | str | None = None,
    tokenizer: Tokenizer[Any] | None = None,
    trust_code: bool = False,
) -> PackedRows:
    """The training rows of a run, as its folder describes them, to look at one that a message names.

    `rows_of_run("runs/mine").row(1234)` is row 1234 as it was trained on: tokens, masks, weights. `corpus` is for one
    that lies elsewhere; `tokenizer` and `trust_code` are as in `maskseq.load`. Raises `UsageError` when the corpus is
    not the one that the run was trained on.
    """
    folder = RunFolder(Path(run))
    saved = read_json(folder.recipe)
    found = Corpus.open(corpus or folder.corpus, trust_code=trust_code, known=tokenizer)
    if found.fingerprint != saved.get("corpus"):
        raise UsageError(f"{found.path} is not the corpus that {run} was trained on: their fingerprints differ")
    recipe, origin = saved.get("recipe"), saved.get("origin", {})
    if not isinstance(recipe, dict) or not isinstance(origin, dict):
        raise DataError(folder.recipe, "holds no recipe")
    resolved = load_recipe(renamed.with_added(recipe))
    for kind, name in resolved.own_parts:
        if kind == "objective":
            look_up(kind, name, trust_code=trust_code)
    return rows_of(resolved, found, stage=int(origin.get("stage", 0)))[0]


def import_checkpoint(folder: Path, output: Path, *, tokenizer: str | None = None, trust_code: bool = False) -> int:
    """Turn a Hugging Face folder into a checkpoint folder; returns its number of parameters.

    `tokenizer` names an installed one that needs no fitting; its tokens' rows are picked from theirs by their text.
    """
    chosen = fit(plugins.load("tokenizers", tokenizer, trust_code=True), (), {}) if tokenizer else None
    with replacing(output, new=True, parents=True) as aside:
        model, own = import_hf(folder, tokenizer=chosen, trust_code=trust_code)
        if own is None:
            raise UsageError(
                f"{folder} was not written by maskseq: nothing here says how your data become its ids\n\n"
                f"hint: name a tokenizer whose tokens are among theirs with --tokenizer"
            )
        save_model(aside, model, own)
    return model.n_parameters
