"""How methods that state numbers err on training data that they were not counted on."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from maskseq.model.gaussian import WINDOW, moments
from maskseq.predict.experts.convex import convex_weights
from maskseq.predict.experts.number_blend import NumberBlend, PriorErrors
from maskseq.predict.experts.number_experts import HasNumbers, count_numbers, frequencies_of, methods_of, series_of
from maskseq.predict.experts.numbers import Series, Values
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer

FOLDS = 3
WINDOWS = 18
"""Of each fold."""
RUNS = (1, 2, 4, 8, 16, 24, 48, 96, 192)
"""Lengths of the stretches that are hidden."""
SHARE = 0.3
"""Of the numbers of a window, what is hidden."""
COUNTED = 1 << 17
"""Positions of the other folds that methods are counted on."""
WORTH = 0.03
"""Of squared errors, what a slow method has to save."""
CELLS = 60
"""Of a window, the errors that are kept."""


def count_blend(
    data: HasNumbers,
    tokenizer: Tokenizer[Any],
    periods: Sequence[int] = (),
    *,
    context: int,
    others: Mapping[str, Predict] | None = None,
) -> NumberBlend:
    """All methods that state numbers, counted on training records, and `others`, such as the encoder, as one.

    `context` is the length of the windows that it will be asked about.
    """
    experts = count_numbers(data, tokenizer, periods) | dict(others or {})
    return by_window(experts, data, tokenizer, periods, context=context)


def by_window(
    experts: Mapping[str, Predict],
    data: HasNumbers,
    tokenizer: Tokenizer[Any],
    periods: Sequence[int] = (),
    *,
    context: int,
) -> NumberBlend:
    """Experts that were counted on training records (and others) as one."""
    series = series_of(data, tokenizer)
    prior = cross_fitted_errors(series, periods, context=context, among=experts)
    return NumberBlend(
        experts, tokenizer.vocabulary, frequencies_of(data.sequences, tokenizer), moments(series)[1], prior
    )


def cross_fitted_errors(
    series: Series, periods: Sequence[int] = (), *, context: int, among: Container[str] | None = None, seed: int = 0
) -> PriorErrors | None:
    """Errors at numbers hidden in blocks of training data, by methods counted on the others; None of too little.

    `among`: the names of the methods that are asked.
    """
    std = moments(series)[1]
    errors, variances, window, lengths = [], [], [], []
    names: tuple[str, ...] | None = None
    rng = np.random.default_rng(seed)
    for counted, requested in folds(series, context):
        if not counted or not requested:
            continue
        methods = methods_of(shortened(counted, COUNTED), periods, among=among)
        names = tuple(name for name in (names or methods) if name in methods)
        for number in range(WINDOWS):
            values = requested[int(rng.integers(len(requested)))]
            start = int(rng.integers(max(len(values) - context, 0) + 1))
            values = values[start : start + context]
            run = RUNS[number % len(RUNS)]
            run = min(run, max(len(values) // 3, 1))
            masked, part = np.zeros(values.shape, bool), middle(len(values), max(WINDOW // values.shape[1], 4 * run))
            masked[part] = stretches(values[part], run, rng, together=bool(number // len(RUNS) % 2))
            cells = np.argwhere(masked)
            if len(cells) < 2:
                continue
            cells = cells[rng.permutation(len(cells))[:CELLS]]
            at, shown = tuple(cells.T), np.where(masked, np.nan, values)
            answered = {name: each.posterior(shown) for name, each in methods.items()}
            scale = std[cells[:, 1]]
            errors.append({name: (mean[at] - values[at]) / scale for name, (mean, _) in answered.items()})
            variances.append({name: variance[at] / scale**2 for name, (_, variance) in answered.items()})
            window += [len(errors)] * len(cells)
            lengths += [run] * len(cells)
    if not errors or not names:
        return None
    columns = [
        np.concatenate([np.column_stack([one[name] for name in names]) for one in each]) for each in (errors, variances)
    ]
    return PriorErrors(names, columns[0], columns[1], np.array(window), np.array(lengths))


def worthless(prior: PriorErrors | None, name: str) -> bool:
    """Whether a mixture of the other methods is as good in holes of every length."""
    if prior is None or name not in prior.names or len(prior.names) < 2:
        return False
    others = np.array([each != name for each in prior.names])
    for length in np.unique(prior.length).tolist():
        scaled = prior.like(float(length), prior.names).scaled
        without, all_ = (_mixture_error(some) for some in (scaled[:, others], scaled))
        if all_ < (1 - WORTH) * without:
            return False
    return True


def _mixture_error(errors: Float[np.ndarray, "cells methods"]) -> float:
    """Mean squared error of the best convex mixture."""
    return float(((errors @ convex_weights(errors.T @ errors)) ** 2).mean())


def shortened(series: Series, most: int) -> Series:
    """The first series, about as many numbers of each field: more tell covariances no better."""
    ends = np.cumsum([len(values) for values in series])
    n = int(np.searchsorted(ends, most)) + 1
    last = most - (int(ends[n - 2]) if n > 1 else 0)
    return [*series[: n - 1], *(values[: max(last, 2)] for values in series[n - 1 : n])]


def middle(length: int, size: int) -> slice:
    """A stretch in the middle of a window."""
    start = max((length - size) // 2, 0)
    return slice(start, start + size)


def folds(series: Series, context: int) -> Iterator[tuple[Series, Series]]:
    """What is counted, and what is asked about: whole series where there are several, else stretches of one."""
    if len(series) >= FOLDS:
        order = np.random.default_rng(0).permutation(len(series)).tolist()
        for fold in range(FOLDS):
            yield ([series[i] for i in order if i % FOLDS != fold], [series[i] for i in order if i % FOLDS == fold])
        return
    for fold in range(FOLDS):
        counted: list[np.ndarray] = []
        requested: list[np.ndarray] = []
        for values in series:
            start, stop = (len(values) * edge // FOLDS for edge in (fold, fold + 1))
            gap = min(context, (stop - start) // 4)
            requested.append(values[start:stop])
            counted += [part for part in (values[: max(start - gap, 0)], values[stop + gap :]) if len(part) > 1]
        yield counted, requested


def stretches(values: Values, length: int, rng: np.random.Generator, *, together: bool) -> Bool[np.ndarray, "_ _"]:
    """Known numbers to hide, in stretches of one field, or of all together."""
    n, n_fields = values.shape
    masked = np.zeros(values.shape, bool)
    wanted = max(int(SHARE * values.size), length)
    for _ in range(4 * wanted):
        fields = slice(None) if together else slice(field := int(rng.integers(n_fields)), field + 1)
        start = int(rng.integers(max(n - length, 0) + 1))
        around = slice(max(start - 1, 0), start + length + 1)
        if length == 1 or not masked[around, fields].any():
            masked[start : start + length, fields] = True
        if np.count_nonzero(masked) >= wanted:
            break
    return np.asarray(masked & ~np.isnan(values))
