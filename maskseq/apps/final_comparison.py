"""What a finished run is worth: compared with counting on the test part of its corpus, on few cells."""

from collections.abc import Iterable, Iterator, Mapping

from maskseq.baselines.baselines import Baselines
from maskseq.calibration.stored import held_out_records
from maskseq.comparison.judge import judge, product_first
from maskseq.comparison.question import COVARIANCES, Question
from maskseq.comparison.results import Evaluation
from maskseq.corpus.reader import Corpus
from maskseq.errors import UsageError
from maskseq.predict.experts.training_data import training_data
from maskseq.predict.protocol import Predict
from maskseq.recipe import Recipe
from maskseq.trained import TrainedModel
from maskseq.types import Encoded

FEWEST_POSITIONS = 500
"""Positions of a test part, at least; `maskseq init` writes none that is smaller."""
MOST_COUNTED = 1 << 22
"""Training positions that simple methods are counted on, at most."""
MOST_READ = 1 << 20
"""Test positions that cells are drawn from, at most."""


def final_comparison(
    run: TrainedModel, corpus: Corpus, recipe: Recipe, *, predictors: Mapping[str, Predict] | None = None
) -> Evaluation | None:
    """The run and all simple methods on `training.comparison_cells` cells of each default protocol.

    `predictors`: what is compared, the product first (default: the blend or encoder, and its experts). None where there
    is no test part, a tiny one, or no comparison is wanted. No weights of mixtures are fitted: they are never what must
    be beaten.
    """
    cells = recipe.training.comparison_cells
    if not cells or not len(corpus.sequences("test")):
        return None
    records = list(_up_to(MOST_READ, held_out_records(corpus, "test")))
    if sum(len(encoded) for _, encoded in records) < FEWEST_POSITIONS:
        return None
    given = predictors or product_first(run.predictors())
    distances = run.model.config.linear_prior.distances
    baselines = Baselines(
        training_data(corpus, most=MOST_COUNTED),
        corpus.tokenizer,
        Question.depth,
        distances,
        every=True,
        selection=None,
    )
    question = Question(cells=cells, imputers=(*Question.imputers, *((COVARIANCES,) if distances else ())))
    try:
        found = judge(
            question,
            records,
            baselines,
            context=run.model.config.max_positions,
            masking=recipe.masking,
            predictors=given,
            product=next(iter(given)),
        )
    except UsageError:  # nothing can be scored, such as a test part of unknown values
        return None
    return found


def _up_to(positions: int, records: Iterable[tuple[str, Encoded]]) -> Iterator[tuple[str, Encoded]]:
    """Records until they have so many positions."""
    for key, encoded in records:
        yield key, encoded
        positions -= len(encoded)
        if positions <= 0:
            return
