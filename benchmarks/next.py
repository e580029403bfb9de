"""What comes next: a run beside counts that look to the left only, on one part of its corpus.

    python benchmarks/next.py RUN [--part selection] [--cases 60] [--samples 10]     logs
    python benchmarks/next.py RUN|CORPUS --steps 24 --context 96 --period 24         signals: beside closed forms

Logs: the next activity of every prefix from length 1, the end among the outcomes; and the time until the last event
from one random prefix of each case, by the median of samples, beside the training mean by prefix length. Intervals of
differences are 95 %, by resampling cases. Times are the centres of the bins, the truth's as well.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskseq import load
from maskseq.apps.generate import chosen, seen_open
from maskseq.corpus.reader import Corpus
from maskseq.evaluation.protocols import MaskedExample, Protocol
from maskseq.generate.continuation import GenerateConfig, continuations
from maskseq.masking.config import MaskingConfig
from maskseq.predict.experts.left_only import PREFIXES, left_only
from maskseq.predict.protocol import Example, Predict
from maskseq.types import Encoded

AT_ONCE = 256


def examples(masked_examples: Sequence[MaskedExample], vocabulary: Any) -> list[Example]:
    return [Example(vocabulary.masked(each.truth, each.masked)) for each in masked_examples]


def answers(predict: Predict, masked_examples: Sequence[MaskedExample], vocabulary: Any) -> np.ndarray:
    """Log-probabilities of all cells."""
    found = []
    for first in range(0, len(masked_examples), AT_ONCE):
        some = masked_examples[first : first + AT_ONCE]
        found += [np.asarray(each) for each in predict(examples(some, vocabulary), [each.cells for each in some])]
    width = min(each.shape[1] for each in found)
    return np.concatenate([each[:, :width] for each in found])


def interval(differences: np.ndarray, groups: np.ndarray, seed: int = 0) -> str:
    """The mean with its interval, by resampling groups."""
    _, which = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(which, differences), np.bincount(which)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(2000, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return f"{differences.mean():+.4g} ({low:+.4g} to {high:+.4g})"


def next_activity(who: dict[str, Predict], records: list[tuple[str, Encoded]], tokenizer: Any, context: int) -> None:
    protocol = Protocol.parse("next", MaskingConfig())
    first = tokenizer.fields[0].name
    requested = [
        each for each in protocol.examples(records, tokenizer, context=context, fields=(first,)) if len(each.truth) > 1
    ]
    truth = np.array([each.truth[-1, 0] for each in requested])
    groups = np.array([each.region for each in requested])
    found = {name: answers(predict, requested, tokenizer.vocabulary) for name, predict in who.items()}
    right = {name: each.argmax(axis=1) == truth for name, each in found.items()}
    print(f"next {first}: {len(requested):,} prefixes of {len(set(groups.tolist()))} cases")
    for name, each in right.items():
        log_probs = found[name] - np.logaddexp.reduce(found[name], axis=1, keepdims=True)
        bits = -log_probs[np.arange(len(truth)), truth] / np.log(2)
        paired = [f"− {other} {interval(each.astype(float) - right[other], groups)}" for other in who if other != name]
        print(f"  {name:24} right {each.mean():.4f}  {bits.mean():.3f} bits   {'   '.join(paired)}")


def remaining(
    who: dict[str, Predict],
    training: list[np.ndarray],
    records: list[tuple[str, Encoded]],
    tokenizer: Any,
    context: int,
    samples: int,
) -> None:
    gap = tokenizer.vocabulary.names.index(tokenizer.elapsed)
    centres = np.append(np.asarray(tokenizer.fields[gap].centres), 0.0)

    def rest(ids: np.ndarray, known: int) -> float:
        return float(centres[np.minimum(ids[known:, gap], len(centres) - 1)].sum())

    by_length = defaultdict(list)
    for ids in training:
        for known in range(1, len(tokenizer.opened(ids)) + 1):
            by_length[known].append(rest(ids, known))
    rng = np.random.default_rng(0)
    known = [int(rng.integers(1, len(tokenizer.opened(each.ids)) + 1)) for _, each in records]
    prefixes = [(key, each.cut(0, n)) for (key, each), n in zip(records, known, strict=True)]
    truth = np.array([rest(each.ids, n) for (_, each), n in zip(records, known, strict=True)])
    longest = max(by_length)
    mean = np.array([np.mean(by_length[min(n, longest)]) for n in known])
    median = np.array([np.median(by_length[min(n, longest)]) for n in known])
    errors = {"mean by prefix": np.abs(mean - truth), "median by prefix": np.abs(median - truth)}
    for name, predict in who.items():
        config = GenerateConfig(steps=context, samples=samples)
        found = continuations(predict, tokenizer, prefixes, config, context=context)
        errors[name] = np.abs(np.array([np.median(each.sums(gap, tuple(centres[:-1]))) for each in found]) - truth)
    groups = np.arange(len(records))
    print(f"remaining time, mean absolute error in days, {len(records)} prefixes, {samples} samples")
    for name, each in errors.items():
        paired = interval((each - errors["mean by prefix"]) / 86400, groups)
        print(f"  {name:24} {each.mean() / 86400:.3f}   − mean by prefix {paired}")


def forecast(encoder: dict[str, Predict], corpus: Corpus, part: str, steps: int, context: int, period: int) -> None:
    tokenizer, vocabulary = corpus.tokenizer, corpus.tokenizer.vocabulary
    who = {**encoder, **left_only(list(corpus.training_ids()), tokenizer, periods=[period])}
    records = [(str(i), Encoded(each.ids)) for i, each in corpus.each(part)]
    protocol = Protocol.parse(f"forecast-{steps}", MaskingConfig())
    requested = [
        each for each in protocol.examples(records, tokenizer, context=context, stride=steps) if len(each.cells)
    ]
    fields = np.concatenate([each.cells[:, 1] for each in requested])
    centres = [np.asarray(each) for each in vocabulary.centres]
    truth = np.concatenate([[centres[f][each.truth[p, f]] for p, f in each.cells.tolist()] for each in requested])
    train = np.concatenate(list(corpus.training_ids()))
    spread = np.array([centres[f][train[:, f][train[:, f] < len(centres[f])]].std() for f in range(len(centres))])
    groups = np.repeat(np.arange(len(requested)), [len(each.cells) for each in requested])
    errors = {}
    for name, predict in who.items():
        found = np.exp(answers(predict, requested, vocabulary))
        mean = np.array([found[i, : len(centres[f])] @ centres[f] for i, f in enumerate(fields.tolist())])
        errors[name] = np.abs(mean - truth) / spread[fields]
    naive = f"season of {period}"
    print(
        f"{steps} steps ahead, {context - steps} known, {len(requested)} windows: mean |error| in training deviations"
    )
    for name, each in errors.items():
        print(f"  {name:24} {each.mean():.4f}   − {naive} {interval(each - errors[naive], groups)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--part", default="test")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--context", type=int, default=96)
    parser.add_argument("--period", type=int, default=24)
    requested = parser.parse_args()
    if (requested.run / "manifest.json").exists():
        forecast({}, Corpus.open(requested.run), requested.part, requested.steps, requested.context, requested.period)
        return
    run = load(requested.run)
    corpus, tokenizer, context = run.corpus(), run.tokenizer, run.model.config.max_positions
    if None not in tokenizer.vocabulary.centres:
        forecast(
            {"encoder": run.predict()}, corpus, requested.part, requested.steps, requested.context, requested.period
        )
        return
    training = list(corpus.training_ids())
    predictor, by = chosen(run, None)
    print(f"maskseq next asks: {by}")
    who: dict[str, Predict] = {"as asked": predictor.predict, **left_only(training, tokenizer)}
    if seen_open(run):
        who["encoder"] = run.predict_next()
    records = [(str(i), Encoded(each.ids, weights=each.weights)) for i, each in corpus.each(requested.part)]
    next_activity(who, records, tokenizer, context)
    if tokenizer.elapsed and requested.samples:
        whole = [each for each in records if each[1].weights is None or (each[1].weights > 0).all()]
        order = np.random.default_rng(1).permutation(len(whole))[: requested.cases]
        simple = {name: who[name] for name in ("as asked", PREFIXES)}
        remaining(simple, training, [whole[i] for i in order], tokenizer, context, requested.samples)


if __name__ == "__main__":
    main()
