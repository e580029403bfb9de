"""Everybody's answers to the panel's questions, as losses summed by region: all that the statistics need."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.panel.questions import Export, independent, jointly
from benchmarks.panel.sets import Domain, Set
from maskseq.baselines.baselines import FREQUENCIES, MARKOV_ORDER, Baselines
from maskseq.baselines.mixtures import EQUAL, FITTED, Mixture
from maskseq.evaluation import figures as evaluate
from maskseq.evaluation import numbers as evaluate_numbers
from maskseq.evaluation.paired import Metric
from maskseq.evaluation.protocols import MaskedExample
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.experts.imputers import imputer
from maskseq.predict.experts.numbers import NumberPredict
from maskseq.predict.protocol import Example, Predict
from maskseq.types import LegalCells, Vocabulary

DEPTH = 5
REGIONS = 200
"""Records and stretches are gathered into so many regions at most, by a hash of their names."""
MOST_BITS = 40.0
"""What a probability of 0 costs."""
DIGITS, OF_SUMS = 5, 4
"""Of the figures, and of the sums of regions, that are kept."""
MIX = (EQUAL, FITTED)
"""How the names of mixtures of simple methods begin: they have rows of their own and are never the reference."""
METHODS = 3
"""Version of the simple methods, kept with each result; raised when what runs are judged beside changes."""
CHAIN = f"order-{MARKOV_ORDER} Markov chain"
SPAN = "most frequent span"
OUTSIDE = "bits outside exact repeats"
Told = dict[str, Any]


def metric_of(domain: Domain, kind: str) -> Metric:
    if domain == "signal":
        return "squared error"
    return "exact" if domain == "log" and kind == "gap" else "bits"


def simple_methods(requested: Set, export: Export) -> Baselines:
    """All of them, counted on the training part that the run was trained on.

    The weights of the fitted mixture come from the whole selection part. Mixtures are therefore not asked about that
    part but judged on the test part. Under drifts, where methods are judged by the means that they state, the fitted
    mixture, which states none, is left out.
    """
    return Baselines(
        export.ids("train"),
        export.tokenizer,
        DEPTH,
        export.distances,
        every=True,
        selection=[encoded for _, encoded in export.records("selection")],
        periods=(requested.season,) if requested.season else (),
    )


def judge(
    requested: Set,
    export: Export,
    questions: Mapping[str, tuple[str, list[MaskedExample]]],
    answered: Path,
    *,
    on_progress: Callable[[str], None] = lambda what: None,
) -> Told:
    """For each protocol of each part, the means of all methods and their sums by region. JSON takes it.

    Of the selection part, which only serves to choose a reference, means alone are kept.
    """
    on_progress("counting simple methods")
    baselines = simple_methods(requested, export)
    vocabulary = export.tokenizer.vocabulary
    reported: Told = {}
    for where, (protocol, masked_examples) in questions.items():
        on_progress(f"asking simple methods: {where}")
        part, _, kind = where.rpartition("/")
        stored: dict[str, np.ndarray] = {}
        if part != "selection":
            with np.load(answered / f"{where.replace('/', '.')}.npz") as file:
                stored = dict(file)
        metric = metric_of(requested.domain, kind)
        unasked = {"test": (), "selection": MIX}.get(part, (FITTED,))
        who: dict[str, Predict] = {
            name.partition("/")[2]: _recorded(stored[name]) for name in stored if name.startswith("log_probs/")
        }
        for name, predict in baselines.predicts.items():
            if not name.startswith(unasked):
                who[name] = predict
        if metric == "squared error":
            stated = {name.partition("/")[2]: stored[name] for name in stored if name.startswith("means/")}
            losses, beside = _numbers(requested, masked_examples, who, baselines, stated, means_only=part != "test")
        else:
            losses, beside = _ids(masked_examples, who, baselines)
        sizes = np.array([len(masked_example.cells) for masked_example in masked_examples])
        groups = np.array([zlib.crc32(masked_example.region.encode()) % REGIONS for masked_example in masked_examples])
        gaps = masked_examples[: jointly(requested.domain, kind, masked_examples)]
        filled = _filled(gaps, stored, baselines, who, _primary(vocabulary))
        for name, each in filled.items():
            beside.setdefault(name, {})["exact"] = float(np.nanmean(each))
        if metric == "exact":
            for name, each in losses.items():
                beside[name]["bits"] = float(each.mean())
            losses, sizes = filled, np.ones(len(masked_examples), int)
        summed = _summed(losses, np.repeat(groups, sizes))
        reported[where] = {
            "protocol": protocol,
            "metric": metric,
            "puzzles": len(masked_examples),
            "independent": independent(masked_examples),
            **({"cells": summed["cells"], "means": summed["means"]} if part == "selection" else summed),
        }
        if part == "test":
            reported[where]["beside"] = {
                name: {key: _short(value) for key, value in each.items()} for name, each in beside.items()
            }
    return reported


def _summed(losses: Mapping[str, np.ndarray], group: np.ndarray) -> Told:
    """Means and sums by region, over what all methods have an answer to."""
    there = ~np.isnan(np.stack(list(losses.values()))).any(axis=0)
    names, group = np.unique(group[there], return_inverse=True)
    sums = {name: np.bincount(group, each[there], len(names)) for name, each in losses.items()}
    return {
        "cells": int(there.sum()),
        "regions": len(names),
        "means": {name: _short(each[there].mean()) for name, each in losses.items()} if there.any() else {},
        "sizes": np.bincount(group, minlength=len(names)).tolist(),
        "sums": {name: [_short(value, OF_SUMS) for value in each.tolist()] for name, each in sums.items()},
    }


def _ids(
    masked_examples: Sequence[MaskedExample], who: Mapping[str, Predict], baselines: Baselines
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """Bits of each cell; beside them accuracy and, for genomes, bits of the cells outside exact repeats."""
    answers = {
        name: evaluate.ask(predict, masked_examples, baselines.tokenizer.vocabulary) for name, predict in who.items()
    }
    losses = {name: np.minimum(each.bits, MOST_BITS) for name, each in answers.items()}
    truth = np.concatenate([masked_example.truth[tuple(masked_example.cells.T)] for masked_example in masked_examples])
    beside = {name: {"accuracy": float((each.value == truth).mean())} for name, each in answers.items()}
    if baselines.repeats is not None:
        repeated = np.concatenate(
            baselines.repeats([p.truth for p in masked_examples], [p.cells for p in masked_examples])
        )
        for name, each in losses.items():
            if not repeated.all():
                beside[name][OUTSIDE] = float(each[~repeated].mean())
    return losses, beside


def _numbers(
    requested: Set,
    masked_examples: Sequence[MaskedExample],
    who: Mapping[str, Predict],
    baselines: Baselines,
    stated: Mapping[str, np.ndarray],
    *,
    means_only: bool,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """Squared errors in units of each field's training variance, and CRPS and bits beside.

    A method that states a mean is judged by that mean, computed from numbers that are not rounded to bins, so that a
    drift out of the range of the bins is none of its concern; `stated` are means that a run stated. `means_only`: the
    distribution of such a method is not asked for.
    """
    vocabulary, spreads = baselines.tokenizer.vocabulary, baselines.spreads()
    truth = evaluate_numbers.true_numbers(masked_examples, vocabulary)
    fields = np.concatenate([masked_example.cells[:, 1] for masked_example in masked_examples])
    scale = np.array([spreads.get(field, np.nan) for field in range(vocabulary.n_fields)])[fields]
    fills: dict[str, Any] = {"mean": imputer("mean"), "covariances": baselines.covariances.fill}
    if requested.season:
        fills[f"mixed-{requested.season}"] = imputer(f"mixed-{requested.season}")
    fills |= {name: fill for name, predict in who.items() if (fill := _stated(predict)) is not None}
    answers = {
        name: evaluate.ask(predict, masked_examples, vocabulary)
        for name, predict in who.items()
        if not means_only or (name not in fills and name not in stated and name != EQUAL)
    }
    means = {name: each.mean for name, each in answers.items()} | dict(stated)
    means |= {name: evaluate_numbers.imputed(fill, masked_examples, vocabulary) for name, fill in fills.items()}
    equal = who.get(EQUAL)
    if isinstance(equal, Mixture):
        means[EQUAL] = np.mean([means[name] for name in equal.predicts], axis=0)
    # Where a record shows no number to start from, the training mean is filled in.
    filled = {name: np.where(np.isnan(each), means[FREQUENCIES], each) for name, each in means.items()}
    errors = {name: ((each - truth) / scale) ** 2 for name, each in filled.items()}
    beside = {
        name: {"CRPS": float(np.nanmean(each.crps / scale)), "bits": float(np.minimum(each.bits, MOST_BITS).mean())}
        for name, each in answers.items()
    }
    return errors, beside


def _stated(predict: Predict) -> Callable[[np.ndarray], np.ndarray] | None:
    """The means that a method states, if it is one of numbers."""
    method = getattr(predict, "predict", predict)  # behind what remembers its answers
    if not isinstance(method, NumberPredict):
        return None
    return lambda values: np.asarray(method.posterior(values)[0])


def _filled(
    masked_examples: Sequence[MaskedExample],
    stored: Mapping[str, np.ndarray],
    baselines: Baselines,
    who: Mapping[str, Predict],
    field: int,
) -> dict[str, np.ndarray]:
    """Of each gap, 1.0 where all its cells of the field are right; NaN where none of them is asked for."""
    if not masked_examples:
        return {}
    vocabulary = baselines.tokenizer.vocabulary
    ends = np.cumsum([len(masked_example.cells) for masked_example in masked_examples])[:-1]
    filled = {name.partition("/")[2]: np.split(stored[name], ends) for name in stored if name.startswith("fills/")}
    legal: list[np.ndarray] | None = None
    if "legal" in stored:
        width = vocabulary.committable.shape[1]
        legal = np.split(np.unpackbits(stored["legal"], axis=1, count=width).astype(bool), ends)
    for name in fillers(baselines):
        if name in who:
            filled[name] = _by_tables(who[name], masked_examples, field, vocabulary, legal)
    filled[SPAN] = [_by_spans(masked_example, field, baselines) for masked_example in masked_examples]
    return {
        name: np.array(
            [_exact(masked_example, each, field) for masked_example, each in zip(masked_examples, values, strict=True)]
        )
        for name, values in filled.items()
    }


def fillers(baselines: Baselines) -> list[str]:
    """The methods that fill gaps cell by cell."""
    return [name for name in baselines.predicts if name in (FREQUENCIES, CHAIN, *baselines.fillers, *MIX)]


def _exact(masked_example: MaskedExample, values: np.ndarray, field: int) -> float:
    mine = masked_example.cells[:, 1] == field
    if not mine.any() or masked_example.masked[:, field].all():
        return np.nan
    return float((masked_example.truth[tuple(masked_example.cells[mine].T)] == values[mine]).all())


def _by_tables(
    predict: Predict,
    masked_examples: Sequence[MaskedExample],
    field: int,
    vocabulary: Vocabulary,
    legal: Sequence[np.ndarray] | None,
) -> list[np.ndarray]:
    """Filled by `infill`, under the grammar as far as it is known before anything is filled.

    Only the field that is judged is filled: most of these methods answer from the known cells of a field alone, and
    what mixtures know of other fields is what is known before anything is filled.
    """
    masks = np.asarray(vocabulary.mask_ids, masked_examples[0].truth.dtype)
    values = []
    for first in range(0, len(masked_examples), 64):
        batch = masked_examples[first : first + 64]
        seen = [np.where(masked_example.masked, masks, masked_example.truth) for masked_example in batch]
        holes = [np.zeros(masked_example.masked.shape, bool) for masked_example in batch]
        allowed: list[LegalCells | None] = []
        for i, (hole, masked_example) in enumerate(zip(holes, batch, strict=True)):
            mine = masked_example.cells[:, 1] == field
            hole[tuple(masked_example.cells[mine].T)] = True
            allowed.append(None if legal is None else LegalCells(masked_example.cells[mine], legal[first + i][mine]))
        keys = list(range(first, first + len(batch)))
        fills = infill(
            predict,
            [Example(ids) for ids in seen],
            holes,
            InfillConfig(),
            vocabulary=vocabulary,
            keys=keys,
            legal=allowed,
        )
        values += [f.written(ids)[tuple(p.cells.T)] for f, ids, p in zip(fills, seen, batch, strict=True)]
    return values


def _by_spans(masked_example: MaskedExample, field: int, baselines: Baselines) -> np.ndarray:
    masked = masked_example.masked[:, field]
    written = masked_example.truth.copy()
    if masked.any() and not masked.all():
        written[masked, field] = baselines.span_table(field, int(masked.sum())).fill(written[:, field], masked)
    return np.asarray(written[tuple(masked_example.cells.T)])


def _primary(vocabulary: Vocabulary) -> int:
    """The field whose gaps are to be exactly right: the first without numbers, such as the activity of a log."""
    return next((field for field, centres in enumerate(vocabulary.centres) if centres is None), 0)


def _recorded(log_probs: np.ndarray) -> Predict:
    """What was said before, in the order in which it is asked for now."""
    at = 0

    def predict(examples: Sequence[Example], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        nonlocal at
        first, at = at, at + sum(map(len, cells))
        return np.split(log_probs[first:at], np.cumsum([len(each) for each in cells])[:-1])

    return predict


def _short(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")
