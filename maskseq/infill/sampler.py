"""Fill the holes of sequences with any model that can say how probable each value of a hidden cell is.

    fills = infill(predict, examples, holes, InfillConfig(), vocabulary=tokenizer.vocabulary, keys=range(n))

A cell outside the holes is never written. `order.py` decides which hidden cells each step commits; what they may
become is one mask of legal ids (`[OTHER]` is never among them), narrowed again by the constraints after every commit.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from maskseq.constraints import Constraint
from maskseq.infill.sampler_state import InfillConfig as InfillConfig
from maskseq.infill.sampler_state import Key, SamplerInput, SamplerState, dead_end, restrict
from maskseq.predict.protocol import Example, Fill, Predict, PredictJointly, PredictWithParts, answers_of
from maskseq.predict.stated import Stated
from maskseq.types import LegalCells, Vocabulary


def infill(
    predict: Predict,
    examples: Sequence[Example],
    holes: Sequence[Bool[np.ndarray, "_ _"]],
    config: InfillConfig,
    *,
    vocabulary: Vocabulary,
    keys: Sequence[Key],
    legal: Sequence[LegalCells | None] | None = None,
    constraints: Sequence[Sequence[Constraint]] | None = None,
    names: Sequence[str] | None = None,
) -> list[Fill]:
    """Fill the `holes` of every sequence, all of them together, one call of `predict` a step.

    Sample s of a sequence draws from `default_rng((seed, key, s))`: what else is in the call, and in which order, does
    not change it. `UsageError` tells which cells no id may fill, before the model is run; `names` are what errors call
    the sequences (default: their keys).
    """
    n = len(examples)
    columns = examples, holes, keys, names or map(str, keys), legal or [None] * n, constraints or [()] * n
    plans = [SamplerInput.of(vocabulary, *each) for each in zip(*columns, strict=True)]
    if config.beam > 1:
        return [_gather(best[: config.samples]) for best in _search(predict, plans, config)]
    runs = [SamplerState(plan, config, sample) for plan in plans for sample in range(config.samples)]
    joint = predict if isinstance(predict, PredictJointly) else None
    while active := [run for run in runs if run.phases]:
        for run, (log_probs, stated) in zip(active, _ask(predict, active), strict=True):
            run.advance(log_probs, stated, joint)
    return [_gather(runs[i * config.samples : (i + 1) * config.samples]) for i in range(n)]


Said = tuple[Float[np.ndarray, "_ _"], Stated | None]
"""Log-probabilities of cells, and the numbers behind them."""


def _ask(predict: Predict, runs: Sequence[SamplerState]) -> list[Said]:
    """One forward pass for all runs; those that are in the same state share it."""
    requested = [run.plan.cells[run.requested] for run in runs]
    seen = [run.example for run in runs]
    arrays = [(each.ids, each.numbers, cells) for each, cells in zip(seen, requested, strict=True)]
    states = [tuple(None if array is None else (array.shape, array.tobytes()) for array in each) for each in arrays]
    distinct = dict(zip(states, range(len(runs)), strict=True))
    examples, cells = [seen[i] for i in distinct.values()], [requested[i] for i in distinct.values()]
    if isinstance(predict, PredictWithParts) and all(run.n_passes == 0 for run in runs):
        answers, parts = predict.with_parts(examples, cells)
        stated: Sequence[Stated | None] = [None] * len(answers)
        of_state = dict(zip(distinct, parts, strict=True))
        for run, state in zip(runs, states, strict=True):
            run.parts = tuple(of_state[state])
    else:
        answers, stated = answers_of(predict, examples, cells)
    by_state = dict(zip(distinct, zip(answers, stated, strict=True), strict=True))
    found = [by_state[state] for state in states]
    return [(np.asarray(log_probs, dtype=np.float64), answered) for log_probs, answered in found]


def _search(predict: Predict, plans: Sequence[SamplerInput], config: InfillConfig) -> list[list[SamplerState]]:
    """The most probable fills of each sequence, best first: every step fills one more cell of each partial fill."""
    beams = [[SamplerState(plan, config, 0)] for plan in plans]
    while active := [i for i, beam in enumerate(beams) if beam[0].masked.any()]:
        answers = iter(_ask(predict, [attempt for i in active for attempt in beams[i]]))
        for i in active:
            beams[i] = _extended(beams[i], [next(answers) for _ in beams[i]], config.beam)
    return beams


def _extended(beam: Sequence[SamplerState], answers: Sequence[Said], width: int) -> list[SamplerState]:
    """The `width` most probable partial fills with one more cell."""
    scores = []
    for attempt, (log_probs, stated) in zip(beam, answers, strict=True):
        requested = np.flatnonzero(attempt.masked)
        restricted, _ = restrict(log_probs, attempt.allowed[requested])
        if attempt.n_passes == 0:
            attempt.marginals[:], attempt.stated = np.exp(restricted), stated
        scores.append(attempt.log_prob.sum() + restricted[0])
    ranked = np.stack(scores)
    found: list[SamplerState] = []
    for each in np.argsort(-ranked, axis=None, kind="stable").tolist():
        which, value = divmod(each, ranked.shape[1])
        if len(found) == width or np.isneginf(ranked[which, value]):
            break
        log_probs, stated = answers[which]
        twin = beam[which].extended(log_probs, value, stated)
        if twin is not None:
            found.append(twin)
    if not found:
        raise dead_end(beam[0].plan.name, len(beam))
    return found


def _gather(runs: Sequence[SamplerState]) -> Fill:
    return Fill(
        cells=runs[0].plan.cells,
        values=np.stack([run.values for run in runs]),
        probabilities=np.stack([run.probabilities for run in runs]),
        log_prob=np.stack([run.log_prob for run in runs]),
        legal_mass=np.stack([run.legal_mass for run in runs]),
        other_mass=np.stack([run.other_mass for run in runs]),
        marginals=runs[0].marginals,
        step=np.stack([run.committed_at for run in runs]),
        n_passes=np.array([run.n_passes for run in runs]),
        stated=runs[0].stated,
        numbers=None if runs[0].plan.example.numbers is None else np.stack([run.numbers for run in runs]),
        experts=np.stack([run.given_by_experts for run in runs]) if runs[0].parts else None,
    )
