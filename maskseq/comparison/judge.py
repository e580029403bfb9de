"""All methods on the same masked examples: figures of every protocol, and the verdict on the product."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from maskseq.baselines.baselines import FREQUENCIES, Baselines
from maskseq.comparison.question import COVARIANCES, DEFAULTS, Question, draw
from maskseq.comparison.remaining import remaining_time
from maskseq.comparison.results import Evaluation, OutsideRepeats, ProtocolResult
from maskseq.comparison.shown import shown
from maskseq.comparison.verdict import ALL_FIELDS, CELLS, GAPS, FieldComparison, Verdict, compare_field
from maskseq.errors import UsageError
from maskseq.evaluation import figures, gaps, numbers
from maskseq.evaluation.figures import Answers, ScoredCells
from maskseq.evaluation.protocols import REMAINING, MaskedExample
from maskseq.infill.sampler import InfillConfig
from maskseq.masking.config import MaskingConfig
from maskseq.predict.experts.copies import Repeats
from maskseq.predict.experts.imputers import imputer
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Progress, Stages, Vocabulary

MODEL = "model"
FLOOR = "rounding to bins"
"""Of numbers, the error that the bins alone make."""
SPAN = "most frequent span"
SHOWN = 3
"""Masked examples that a result shows."""


def product_first(predictors: Mapping[str, Predict]) -> dict[str, Predict]:
    """What a run predicts with, the first of these, as `MODEL`; what that is made of as experts."""
    first, *others = predictors
    return {MODEL: predictors[first], **{f"{name} (expert)": predictors[name] for name in others}}


def judge(
    question: Question,
    records: Sequence[tuple[str, Encoded]],
    baselines: Baselines,
    *,
    context: int,
    masking: MaskingConfig,
    predictors: Mapping[str, Predict] | None = None,
    product: str | None = None,
    config: InfillConfig = InfillConfig(),  # noqa: B008 (frozen)
    on_progress: Stages = lambda what, done, of: None,
) -> Evaluation:
    """Compare predictors with each other and with all that is counted on training data.

    Args:
        question: Which cells are masked, and how many.
        records: Keys and encoded records that nothing was trained on.
        baselines: The simple methods.
        context: Positions that all methods see at a time.
        masking: How the protocol "masked" masks.
        predictors: Everything else, by name, in the order in which it is shown; whole gaps are filled by each.
        product: The predictor that the verdict is about. None: there is no verdict.
        config: How whole gaps are filled.
        on_progress: Called with what is being done.

    Returns:
        Figures by protocol, the comparison by field, and the verdict.

    Raises:
        UsageError: A requested protocol finds no room in the records, or there is nothing to score.
    """
    given = dict(predictors or {})
    assert product is None or product in given
    methods = _Methods({**given, **baselines.predicts}, tuple(given), product, baselines, config)
    found = {}
    on_progress("drawing cells", 0, None)
    for name, examples in _examples(question, records, baselines.tokenizer, context=context, masking=masking):

        def stage(what: str, name: str = name) -> Progress:
            on_progress(f"{name}, {what}", 0, None)
            return partial(on_progress, f"{name}, {what}")

        found[name] = _result(name, question, examples, methods, stage)
    remaining = None
    if REMAINING in question.protocols:
        remaining = remaining_time(
            {product: given[product]} if product else {},
            baselines.sequences,
            records,
            baselines.tokenizer,
            context=context,
            product=product,
            cells=question.cells,
            seed=question.seed,
            on_progress=partial(on_progress, f"{REMAINING}, continuing cases"),
        )
    if not found and not remaining:
        raise UsageError(
            "there is nothing to score in these records\n\nhint: hold out more, or name a file", code="too-little-data"
        )
    requested = {"cells": question.cells, "seed": question.seed, "context": context, "neighbours": question.depth}
    result = Evaluation(
        verdict=None,
        product=product,
        predictors=tuple(given),
        protocols=found,
        remaining_time=remaining,
        requested=requested | ({"fields": list(question.fields)} if question.fields else {}),
        infill={"order": config.order, "temperature": config.temperature, "beam": config.beam},
    )
    return replace(result, verdict=Verdict.of(result.compared))


def _examples(
    question: Question,
    records: Sequence[tuple[str, Encoded]],
    tokenizer: Tokenizer[Any],
    *,
    context: int,
    masking: MaskingConfig,
) -> Iterator[tuple[str, list[MaskedExample]]]:
    """The masked examples of each requested protocol or, by default, of the first of each kind that finds room."""
    masked = [(name,) for name in question.protocols if name != REMAINING]
    for names in masked if question.protocols else DEFAULTS:
        for name in names:
            examples = draw(question, name, records, tokenizer, context=context, masking=masking)
            if examples:
                yield name, examples
                break
        else:
            if question.protocols:
                raise UsageError(
                    f"protocol {names[0]}: no held-out sequence has room for it\n\n"
                    f"hint: choose a shorter gap, or hold out more",
                    code="too-little-data",
                )


@dataclass(frozen=True)
class _Methods:
    """Who answers, and what they have in common."""

    by_name: Mapping[str, Predict]
    predictors: tuple[str, ...]
    """Those that are no simple methods."""
    product: str | None
    baselines: Baselines
    config: InfillConfig

    @property
    def tokenizer(self) -> Tokenizer[Any]:
        return self.baselines.tokenizer

    @property
    def vocabulary(self) -> Vocabulary:
        return self.baselines.tokenizer.vocabulary

    def simple(self, names: Iterable[str]) -> list[str]:
        """Single simple methods: a mixture of them is shown, but never what must be beaten."""
        return [name for name in names if name not in (*self.predictors, *self.baselines.mixtures, FLOOR)]


def _result(
    protocol: str,
    question: Question,
    examples: Sequence[MaskedExample],
    methods: _Methods,
    stage: Callable[[str], Progress],
) -> ProtocolResult:
    vocabulary, product = methods.vocabulary, methods.product
    cells = ScoredCells.of(examples)
    answers = {
        name: figures.ask(predict, examples, vocabulary, on_progress=stage(f"asking {name}"))
        for name, predict in methods.by_name.items()
    }
    means = _means(question, examples, cells, answers, methods)
    truth, spreads = numbers.true_numbers(examples, vocabulary), methods.baselines.spreads()
    filled = {}
    if protocol.startswith("gap") and None in vocabulary.centres:  # numbers are never exactly right
        filled = _filled(examples, methods, stage)
    by_cell = list(_by_cell(protocol, cells, answers, means, truth, methods))
    compared = [*by_cell[1:], *_by_gap(protocol, filled, methods)]
    compared.sort(key=lambda each: vocabulary.names.index(each.field))
    repeats = methods.baselines.repeats if question.every else None
    compared_cells = figures.compare(cells, answers, product=product)
    drawn = product or min(compared_cells.by, key=lambda name: compared_cells.by[name].bits)
    return ProtocolResult(
        verdict=Verdict.of(compared),
        together=by_cell[0] if by_cell else None,
        fields=compared,
        figures=compared_cells,
        examples=len(examples),
        outside_exact_repeats=None if repeats is None else _outside(examples, cells, answers, repeats, product),
        breakdown=figures.breakdown(cells, answers, vocabulary.names, product=product),
        reliability={name: figures.reliability(cells, each) for name, each in answers.items()},
        errors=numbers.ordinal_errors(cells, truth, means, vocabulary, spreads) if means else None,
        errors_of_all_fields=numbers.compare_errors(cells, truth, means, spreads, product=product, floor=FLOOR)
        if means
        else None,
        coverage=numbers.ordinal_honesty(cells, answers, vocabulary) if means else None,
        whole_gaps={
            vocabulary.names[field]: gaps.compare_gaps(*gap, field, product=product) for field, gap in filled.items()
        }
        if filled
        else None,
        shown=[
            shown(example, methods.baselines.tokenizer, drawn, methods.by_name[drawn])
            for example in islice(examples, SHOWN)
        ],
    )


def _by_cell(
    protocol: str,
    cells: ScoredCells,
    answers: Mapping[str, Answers],
    means: Mapping[str, Float[np.ndarray, " cells"]],
    truth: Float[np.ndarray, " cells"],
    methods: _Methods,
) -> Iterator[FieldComparison]:
    """All cells together, then those of each field: squared errors where all fields are numbers, bits elsewhere."""
    vocabulary, losses = methods.vocabulary, {name: each.bits for name, each in answers.items()}
    numeric = None not in vocabulary.centres
    if numeric:
        spreads = methods.baselines.spreads()
        spread = np.array([spreads[field] for field in range(vocabulary.n_fields)])[cells.field]
        losses = {name: ((each - truth) / spread) ** 2 for name, each in means.items()}
    there = ~np.isnan(np.stack(list(losses.values()))).any(axis=0)
    fields = [(ALL_FIELDS, there), *((name, there & (cells.field == i)) for i, name in enumerate(vocabulary.names))]
    for name, mine in fields:
        if mine.any():
            yield compare_field(
                {method: each[mine] for method, each in losses.items()},
                cells.region[mine],
                product=methods.product,
                simple=methods.simple(losses),
                metric="squared error" if numeric else "bits",
                protocol=protocol,
                field=name,
                of=CELLS,
            )


Filled = tuple[list[MaskedExample], dict[str, list[Integer[np.ndarray, " _"]]]]
"""Masked examples with a gap in a field, and what each method fills in."""


def _by_gap(protocol: str, filled: Mapping[int, Filled], methods: _Methods) -> Iterator[FieldComparison]:
    """Whole gaps of each field whose values are no numbers: the share that is exactly right."""
    for field, (examples, values) in filled.items():
        if methods.vocabulary.centres[field] is not None:
            continue
        right = {name: gaps.exactly_right(examples, each, field).astype(float) for name, each in values.items()}
        yield compare_field(
            right,
            figures.region_numbers(examples)[0],
            product=methods.product,
            simple=methods.simple(right),
            metric="exact",
            protocol=protocol,
            field=methods.vocabulary.names[field],
            of=GAPS,
        )


def _means(
    question: Question,
    examples: Sequence[MaskedExample],
    cells: ScoredCells,
    answers: Mapping[str, Answers],
    methods: _Methods,
) -> dict[str, Float[np.ndarray, " cells"]]:
    """The numbers that methods and simple fills give; nothing where no number is scored."""
    vocabulary = methods.vocabulary
    if all(vocabulary.centres[field] is None for field in np.unique(cells.field)):
        return {}
    means = {name: each.mean for name, each in answers.items()}
    for name in question.imputers:
        fill_in = methods.baselines.covariances.fill if name == COVARIANCES else imputer(name)
        filled = numbers.imputed(fill_in, examples, vocabulary)
        # Where a record shows no number to start from, simple fills give the training mean.
        means[name] = np.where(np.isnan(filled), means[FREQUENCIES], filled)
    return means | {FLOOR: numbers.rounded_numbers(cells, vocabulary)}


def _outside(
    examples: Sequence[MaskedExample],
    cells: ScoredCells,
    answers: Mapping[str, Answers],
    repeats: Repeats,
    product: str | None,
) -> OutsideRepeats:
    inside = np.concatenate(repeats([each.truth for each in examples], [each.cells for each in examples]))
    kept = {name: each.at(~inside) for name, each in answers.items()}
    return OutsideRepeats(
        flank=repeats.flank,
        share_left_out=float(inside.mean()),
        figures=None if inside.all() else figures.compare(cells.at(~inside), kept, product=product),
    )


def _filled(
    examples: Sequence[MaskedExample], methods: _Methods, stage: Callable[[str], Progress]
) -> dict[int, Filled]:
    """Gaps filled jointly by predictors and by tables, and by the most frequent span, field by field."""
    tokenizer, baselines = methods.tokenizer, methods.baselines
    values = {
        name: figures.fill(
            methods.by_name[name],
            examples,
            tokenizer.vocabulary,
            methods.config,
            allowed=tokenizer.allowed,
            on_progress=stage(f"filling gaps by {name}"),
        )
        for name in (*methods.predictors, *baselines.fillers)
    }
    stage("filling gaps by the most frequent span")
    found = {}
    for field in range(tokenizer.vocabulary.n_fields):
        mine = [i for i, example in enumerate(examples) if _has_gap(example, field)]
        if mine:
            chosen = [examples[i] for i in mine]
            by = {name: [each[i] for i in mine] for name, each in values.items()}
            found[field] = chosen, by | {SPAN: [_most_frequent(each, field, baselines) for each in chosen]}
    return found


def _has_gap(example: MaskedExample, field: int) -> bool:
    """Whether a part of a field is scored; what is the same all along, such as a case's amount, is masked whole."""
    return bool((example.cells[:, 1] == field).any()) and not example.masked[:, field].all()


def _most_frequent(example: MaskedExample, field: int, baselines: Baselines) -> Integer[np.ndarray, " cells"]:
    masked = example.masked[:, field]
    table = baselines.span_table(field, int(masked.sum()))
    written = example.truth[:, field].copy()
    written[masked] = table.fill(written, masked)
    whole = example.truth.copy()
    whole[:, field] = written
    return np.asarray(whole[tuple(example.cells.T)])
