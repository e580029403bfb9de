"""A run as a folder that others can load: its encoder, its tokenizer, a card; training data only if that is wanted."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskseq import __version__
from maskseq.corpus.reader import Corpus
from maskseq.errors import MaskseqError, UsageError
from maskseq.interop.hub import SCHEME, sent
from maskseq.loaded.recipe import recipe_file
from maskseq.model.checkpoint import read_json, save_model, write_json
from maskseq.predict.blend import ENCODER
from maskseq.reports.card import card
from maskseq.storage.outputs import claimed
from maskseq.storage.run_folder import CORPUS, RECIPE, CheckpointFolder
from maskseq.trained import TrainedModel
from maskseq.training.metrics import Watched

CARD = "README.md"


def share(
    run: TrainedModel,
    place: str,
    *,
    with_data: bool = False,
    licence: str = "",
    evaluation: Path | None = None,
) -> dict[str, Any]:
    """Write what others need of a run to a new folder, or to `hf://organization/name`.

    Args:
        run: What `maskseq.load` returns.
        place: Where to.
        with_data: Whether experts that hold training data go along, and with them the corpus that they are counted on.
        licence: Of the run and whatever goes along; the card says so.
        evaluation: An `evaluation.json` whose figures the card shows.

    Returns:
        What was shared, and what was left out.

    Raises:
        UsageError: Without its data the run cannot predict, or the folder exists.
    """
    found = None if evaluation is None else read_json(evaluation)
    if place.startswith(SCHEME):
        with TemporaryDirectory() as folder:
            output = Path(folder) / place.rpartition("/")[2].partition("@")[0]
            summary = _write(run, output, with_data=with_data, licence=licence, evaluation=found)
            return summary | {"shared": sent(output, place)}
    return _write(run, Path(place), with_data=with_data, licence=licence, evaluation=found) | {"shared": place}


def _write(
    run: TrainedModel, output: Path, *, with_data: bool, licence: str, evaluation: Mapping[str, Any] | None
) -> dict[str, Any]:
    source, stored = CheckpointFolder(run.checkpoint), run.experts.stored
    corpus = _corpus(run)
    holds_data = [] if stored is None else [name for name in stored.experts if name != ENCODER]
    if with_data and (corpus is None or "://" in corpus.path):
        raise UsageError(
            "the run's corpus is not in a folder here, so that its data cannot go along", code="missing-corpus"
        )
    if not with_data and stored is not None and ENCODER not in stored.experts:
        raise UsageError(
            "this run predicts by counts of its training data alone\n\nhint: --with-data shares them, if you may",
            code="not-supported",
        )
    with claimed(output, new=True, parents=True) as work:
        work.content.mkdir()
        kept = [source.length_head, source.task, source.task_head, source.task_figures]
        kept += [source.gate] if with_data else []
        fitted = run.fitted
        if fitted is not None and (with_data or fitted.predictor in ("", None)):
            kept.append(source.calibration)
        for path in filter(Path.exists, kept):
            shutil.copyfile(path, work.content / path.name)
        recipe = _without_folders(run)
        if recipe:
            write_json(work.content / RECIPE, recipe)
        if with_data and corpus is not None:
            shutil.copytree(corpus.path, work.content / CORPUS)
        text = card(
            name=output.name,
            licence=licence,
            tokenizer=type(run.tokenizer).__name__.removesuffix("Tokenizer").lower(),
            fields=[field.name for field in run.tokenizer.fields],
            parameters=run.model.n_parameters,
            recipe=recipe.get("recipe") or {},
            best=(watched := _watched(run)).get("best", {}),
            test=watched.get("test", {}),
            evaluation=evaluation,
            sources=[] if corpus is None else corpus.manifest.get("sources", []),
            experts=holds_data if with_data else [],
            left_out=[] if with_data else holds_data,
            version=__version__,
        )
        (work.content / CARD).write_text(text, encoding="utf-8")
        save_model(work.content, run.model, run.tokenizer)
        work.publish()
    return {"experts with training data": holds_data if with_data else "left out" if holds_data else "none"}


def _corpus(run: TrainedModel) -> Corpus | None:
    try:
        return run.experts.open_corpus()
    except MaskseqError:
        return None


def _watched(run: TrainedModel) -> dict[str, Any]:
    try:
        found = Watched(run.path).update()
    except (MaskseqError, OSError):
        return {}
    return {"best": found.best or (found.validations[-1] if found.validations else {}), "test": found.test}


def _without_folders(run: TrainedModel) -> dict[str, Any]:
    """The run's recipe, in which files have their names alone: folders of this machine concern nobody."""
    file = recipe_file(run.path, run.checkpoint)
    saved: dict[str, Any] = dict(read_json(file)) if file else {}
    recipe = saved.get("recipe")
    data = recipe.get("data") if isinstance(recipe, dict) else None
    if isinstance(recipe, dict) and isinstance(data, dict):
        files = [Path(str(each)).name for each in data.get("files") or ()]
        options = {name: _named(value) for name, value in (data.get("format_options") or {}).items()}
        saved["recipe"] = recipe | {"data": {**data, "files": files, "format_options": options, "corpus": None}}
    return saved


def _named(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
