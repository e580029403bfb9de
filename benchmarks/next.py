"""What comes next: a run beside counts that look to the left only, on one part of its corpus.

    python benchmarks/next.py RUN [--part selection] [--cases 60] [--samples 10]     logs
    python benchmarks/next.py RUN|CORPUS --steps 24 --context 96 --period 24         signals: beside closed forms

Logs: the next activity of every prefix from length 1, the end among the outcomes; and the time until the last event,
as the protocol `remaining` asks for it. Intervals of differences are 95 %, by resampling cases. All tables count the
training part alone.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskseq import load
from maskseq.apps.generate import open_predictors
from maskseq.comparison.remaining import remaining_time
from maskseq.corpus.reader import Corpus
from maskseq.evaluation.protocols import MaskedExample, Protocol
from maskseq.loaded.run import BLEND
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
    judged = open_predictors(run, corpus, (), symmetries=True, selection=requested.part != "selection")
    simple = left_only(list(corpus.training_ids()), tokenizer)
    who = {("what next asks" if name == BLEND else name): each for name, each in judged.items() if name not in simple}
    records = [(corpus.key(i), Encoded(each.ids, weights=each.weights)) for i, each in corpus.each(requested.part)]
    next_activity(who | simple, records, tokenizer, context)
    if tokenizer.elapsed and requested.samples:
        found = remaining_time(
            who | {PREFIXES: simple[PREFIXES]},
            list(corpus.training_ids()),
            records,
            tokenizer,
            context=context,
            product=next(iter(who)),
            cells=requested.cases,
            samples=requested.samples,
        )
        compared = found.comparison
        print(f"{compared.field}: mean absolute error, {found.cases} cases, {found.samples} samples")
        for name, error in compared.by.items():
            print(f"  {name:24} {error:.3f}")
        print(f"  {compared.in_words}")


if __name__ == "__main__":
    main()
