"""Packed rows of a recipe, and those of a run as its folder describes them."""

from pathlib import Path
from typing import Any

from maskseq.apps.judging import held_out_rows
from maskseq.contract import renamed
from maskseq.contract.own import look_up
from maskseq.corpus.reader import Corpus
from maskseq.errors import DataError, UsageError
from maskseq.model.checkpoint import read_json
from maskseq.packing.rows import PackedRows
from maskseq.recipe import Recipe, load_recipe
from maskseq.storage.run_folder import RunFolder
from maskseq.tokenizer import Tokenizer


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
        numbers=recipe.reads_numbers,
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
        raise UsageError(
            f"{found.path} is not the corpus that {run} was trained on: their fingerprints differ", code="other-data"
        )
    recipe, origin = saved.get("recipe"), saved.get("origin", {})
    if not isinstance(recipe, dict) or not isinstance(origin, dict):
        raise DataError(folder.recipe, "holds no recipe", code="damaged-file")
    resolved = load_recipe(renamed.with_added(recipe))
    for kind, name in resolved.own_parts:
        if kind == "objective":
            look_up(kind, name, trust_code=trust_code)
    return rows_of(resolved, found, stage=int(origin.get("stage", 0)))[0]
