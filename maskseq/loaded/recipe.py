"""What the recipe that lies in a run folder says of the run."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from maskseq.contract.renamed import of_recipe, with_added
from maskseq.corpus.dress import TrainedOn
from maskseq.errors import DataError, first_problem
from maskseq.masking.config import MaskingConfig
from maskseq.model.checkpoint import read_json
from maskseq.recipe import load_recipe
from maskseq.storage.run_folder import CheckpointFolder, RunFolder


def trained_on(run: Path, checkpoint: Path) -> TrainedOn:
    """The run's [data] section; the default where there is no recipe, as for an imported encoder."""
    source = recipe_file(run, checkpoint)
    recipe = read_json(source).get("recipe") if source else None
    recipe = of_recipe(recipe) if isinstance(recipe, dict) else recipe
    data = recipe.get("data", {}) if isinstance(recipe, dict) else {}
    if not isinstance(data, dict):
        raise DataError(source or run, "should be a section", place="recipe.data", code="damaged-file")
    known = {name: data[name] for name in ("files", "format", "format_options") if name in data}
    try:
        return TypeAdapter(TrainedOn).validate_python(known | {"source": str(source or "")})
    except ValidationError as error:
        where, problem = first_problem(error, "recipe", "data")
        raise DataError(source or run, problem, place=where, code="damaged-file") from None


def recipe_file(run: Path, checkpoint: Path) -> Path | None:
    """Where the recipe of a run is; `DataError` if it was changed since the checkpoint was sealed with its own copy."""
    ours, sealed = RunFolder(run).recipe, CheckpointFolder(checkpoint).recipe
    if not sealed.exists():  # written before checkpoints had one
        return ours if ours.exists() else None
    if ours.exists() and ours.read_bytes() != sealed.read_bytes():
        raise DataError(
            ours,
            f"was changed since {checkpoint.name} was written, which has the recipe as it was: {sealed}",
            code="other-data",
        )
    return sealed


def masking_of(run: Path, checkpoint: Path) -> MaskingConfig:
    """How cells of a run were masked, but for objectives of the user's own; the default where no recipe says it."""
    source = recipe_file(run, checkpoint)
    saved = read_json(source).get("recipe") if source else None
    return load_recipe(with_added(saved)).masking.without_own if isinstance(saved, dict) else MaskingConfig()
