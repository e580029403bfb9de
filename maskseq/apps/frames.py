"""Tables in memory in, tables of the same library out: what commands do with files."""

import tomllib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from maskseq import plugins
from maskseq.apps.generate import GenerateRequest, next_file
from maskseq.apps.infill import infill_file
from maskseq.apps.init import init
from maskseq.apps.init_readings import UndecidedError
from maskseq.corpus.dress import ReadAs
from maskseq.corpus.frames import CALLED, TABLE, TableInMemory
from maskseq.corpus.intake import Intake, OnError
from maskseq.errors import DataWarning, UsageError
from maskseq.infill.options import InfillOptions
from maskseq.recipe import Recipe
from maskseq.trained import TrainedModel
from maskseq.types import Record


def recipe_for(
    frame: Any, *, format: str = TABLE, overrides: Sequence[str] = (), on_error: OnError = "stop"
) -> dict[str, Any]:
    """A first recipe for a data frame, as `maskseq init` writes it for a file: `pretrain(recipe, records=frame)`.

    Args:
        frame: Of pandas, polars, Arrow, or another library that narwhals knows.
        format: The format that its rows are read with.
        overrides: What is decided already, such as `"data.format_options.key=night"`.
        on_error: Whether a row that cannot be read stops it, or is left out.

    Returns:
        The recipe as a mapping, which names no files.
    """
    with TableInMemory.of(frame).as_file(plugins.load("formats", format, trust_code=True)) as file:
        recipe = file.with_name("recipe.toml")
        begin = partial(init, [file], recipe, format=format, overrides=overrides, on_error=on_error)
        try:
            begin()
        except UndecidedError as error:
            warnings.warn(f"{CALLED}: {error.doubt}", DataWarning, stacklevel=2)
            begin(yes=True)
        found = tomllib.loads(recipe.read_text(encoding="utf-8"))
    del found["data"]["files"]
    return found


def records_of(frame: Any, recipe: Recipe) -> tuple[list[Record], Recipe]:
    """The records of a frame by a recipe, and the recipe with the format that they were read with."""
    name = recipe.data.format or TABLE
    recipe = replace(recipe, data=replace(recipe.data, format=name))
    cls = plugins.load("formats", name, trust_code=recipe.code)
    with (
        TableInMemory.of(frame).as_file(cls) as file,
        Intake(recipe.reader(file), file, on_error=recipe.data.on_error) as read,
    ):
        return list(read), recipe


def read_frame(run: TrainedModel, frame: Any, **given: Any) -> list[Record]:
    """The records of a frame, read as the training files were, for `infill`, `score` and `embed`.

    `given` are the fields of `ReadAs`: `format`, `options`, `on_error`.
    """
    read_as = ReadAs(**given)
    with (
        TableInMemory.of(frame).as_file(run.frames_as(read_as.format)) as file,
        run.intake(file, read_as) as records,
    ):
        return list(records)


def infill_frame(run: TrainedModel, frame: Any, **given: Any) -> Any:
    """The frame with its unknown cells filled: of the same library, its other cells and its types as they were.

    What is unknown is what the format takes for it: null, NaN, and texts such as `?`. `given` are the options of
    `TrainedModel.infill`, of which the first sample is written, and the fields of `ReadAs`.
    """
    known, read_as = TableInMemory.of(frame), ReadAs.taken(given)
    with known.as_file(run.frames_as(read_as.format)) as file:
        filled = file.with_name("filled")
        infill_file(run, file, output=filled, read_as=read_as, options=InfillOptions.of(given))
        if not (filled / file.name).exists():
            raise UsageError(
                "the format of the run is only read: its frames cannot be given back", code="not-supported"
            )
        return known.with_cells_of(filled / file.name)


def next_frame(run: TrainedModel, frame: Any, **given: Any) -> Any:
    """What comes next in the sequences of a frame, as a frame of the same library: the table of `maskseq next`.

    `given` are the fields of `GenerateRequest`, such as `steps`, and those of `ReadAs`.
    """
    known, read_as = TableInMemory.of(frame), ReadAs.taken(given)
    with known.as_file(run.frames_as(read_as.format)) as file:
        table = file.with_name("next.parquet")
        next_file(run, file, GenerateRequest(**({"steps": 1} | given)), output=table, read_as=read_as)
        return known.like_it(table)
