"""What a task needs no encoder for: counts of values and their neighbours, nearest neighbours, the most frequent class.

Every fine-tuned network is compared with these, so that it shows whether pretraining paid. They need scikit-learn
(`pip install 'maskseq[tasks]'`).
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.errors import UsageError
from maskseq.tasks.config import TaskConfig
from maskseq.tasks.examples import TaskExample
from maskseq.tasks.targets import TargetSpace
from maskseq.types import Vocabulary

Predicted = Float[np.ndarray, "answers predicted"]
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the penalty that the selection part chooses from."""
MOST_COLUMNS, MOST_ANSWERS = 1 << 16, 50_000
NEIGHBOURHOOD = 5
"""Positions on either side that the simple method of labelled units sees."""
SAMPLES = 128
"""Values that series of several lengths are brought to, to be compared."""


@dataclass(frozen=True)
class SimpleMethod:
    """A method that was fitted on the training part."""

    name: str
    predict: Callable[[Sequence[TaskExample]], Predicted]


def require_sklearn() -> None:
    """`UsageError` where scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UsageError(
            "simple methods and probes need scikit-learn\n\nhint: pip install 'maskseq[tasks]'", code="missing-extra"
        ) from None


def simple_methods_of_task(
    config: TaskConfig,
    space: TargetSpace,
    vocabulary: Vocabulary,
    train: Sequence[TaskExample],
    selection: Sequence[TaskExample],
) -> list[SimpleMethod]:
    """All that fit this task, each with its strength chosen on the selection part; the constant one first."""
    targets = space.targets(train)
    found = [constant(space, train, targets)]
    ordinal = [field for field, centres in enumerate(vocabulary.centres) if centres is not None]
    if config.labels.per_unit:
        features = _Neighbourhoods(vocabulary)
        found.append(_linear("logistic regression on neighbours", features, space, train, targets, selection))
        return found
    if len(ordinal) < vocabulary.n_fields:
        features_of_records = _Counts(vocabulary, train)
        name = "ridge regression" if space.kind == "regression" else "logistic regression"
        found.append(_linear(f"{name} on counts", features_of_records, space, train, targets, selection))
    else:
        found += [_nearest(space, vocabulary, train, targets)]
        name = "ridge regression" if space.kind == "regression" else "logistic regression"
        found.append(_linear(f"{name} on values", _Values(vocabulary, train), space, train, targets, selection))
    return found


def constant(
    space: TargetSpace, train: Sequence[TaskExample], targets: Float[np.ndarray, "answers columns"]
) -> SimpleMethod:
    """Frequencies of the classes, or the mean; of prefixes those of prefixes of the same length."""
    answers = _as_predictions(space, targets)
    lengths = np.repeat([each.n_units for each in train], [each.n_answers for each in train])
    by_length = len({each.key for each in train}) < len(train) and all(each.at is None for each in train)
    overall = answers.mean(axis=0)
    known = {int(n): answers[lengths == n].mean(axis=0) for n in np.unique(lengths)} if by_length else {}

    def predict(examples: Sequence[TaskExample]) -> Predicted:
        rows = [known.get(each.n_units, overall) for each in examples]
        return np.repeat(np.array(rows), [each.n_answers for each in examples], axis=0)

    name = "mean" if space.kind == "regression" else "frequencies"
    return SimpleMethod(f"{name} by length" if by_length else name, predict)


def _as_predictions(space: TargetSpace, targets: Float[np.ndarray, "answers columns"]) -> Predicted:
    if space.kind in ("binary", "multiclass"):
        return np.asarray(np.eye(len(space.classes))[targets[:, 0].astype(int)])
    return targets


def _linear(
    name: str,
    features: Callable[[Sequence[TaskExample]], Any],
    space: TargetSpace,
    train: Sequence[TaskExample],
    targets: Float[np.ndarray, "answers columns"],
    selection: Sequence[TaskExample],
) -> SimpleMethod:
    """Logistic or ridge regression on standardised features."""
    x, wanted = features(train), space.targets(selection)
    if len(targets) > MOST_ANSWERS:
        chosen = np.sort(np.random.default_rng(0).choice(len(targets), MOST_ANSWERS, replace=False))
        x, targets = x[chosen], targets[chosen]
    seen = features(selection)
    best: tuple[float, Callable[[Any], Predicted]] | None = None
    for strength in STRENGTHS:
        predict = fit_linear(space, x, targets, strength)
        loss = loss_of(space, predict(seen), wanted)
        if best is None or loss < best[0]:
            best = loss, predict
    assert best is not None
    chosen_predict = best[1]
    return SimpleMethod(name, lambda examples: chosen_predict(features(examples)))


def fit_linear(
    space: TargetSpace, x: Any, targets: Float[np.ndarray, "answers columns"], strength: float
) -> Callable[[Any], Predicted]:
    """Logistic regression of classes, ridge regression of numbers."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if space.kind == "regression":
        ridge = Ridge(alpha=1 / strength).fit(x, (targets[:, 0] - space.mean) / space.scale)
        return lambda rows: ridge.predict(rows)[:, None] * space.scale + space.mean

    def probabilities(column: Float[np.ndarray, " answers"], n_classes: int) -> Callable[[Any], Predicted]:
        present = np.unique(column).astype(int)
        if len(present) == 1:
            return lambda rows: np.eye(n_classes)[np.full(rows.shape[0], present[0])]
        model = LogisticRegression(C=strength, max_iter=300)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that is cut short is chosen, or not, by the selection part
            model.fit(x, column)

        def predict(rows: Any) -> Predicted:
            found = np.zeros((rows.shape[0], n_classes))
            found[:, present] = model.predict_proba(rows)
            return found

        return predict

    if space.kind == "multilabel":
        each = [probabilities(targets[:, c], 2) for c in range(targets.shape[1])]
        return lambda rows: np.stack([one(rows)[:, 1] for one in each], axis=1)
    return probabilities(targets[:, 0], len(space.classes))


def loss_of(space: TargetSpace, predictions: Predicted, targets: Float[np.ndarray, "answers columns"]) -> float:
    """Mean squared error, or nats."""
    if space.kind == "regression":
        return float(np.mean((predictions - targets) ** 2))
    clipped = np.clip(predictions, 1e-6, 1 - 1e-6)
    if space.kind == "multilabel":
        return float(-np.mean(targets * np.log(clipped) + (1 - targets) * np.log(1 - clipped)))
    return float(-np.mean(np.log(clipped[np.arange(len(targets)), targets[:, 0].astype(int)])))


def _nearest(
    space: TargetSpace, vocabulary: Vocabulary, train: Sequence[TaskExample], targets: Float[np.ndarray, "_ _"]
) -> SimpleMethod:
    """The label of the nearest training series, by Euclidean distance."""
    from sklearn.neighbors import NearestNeighbors

    features, answers = _Values(vocabulary, train), _as_predictions(space, targets)
    index = NearestNeighbors(n_neighbors=1).fit(features(train))
    return SimpleMethod(
        "1-NN", lambda examples: answers[index.kneighbors(features(examples), return_distance=False)[:, 0]]
    )


class _Counts:
    """How often each value and each run of neighbouring values occurs (tf-idf), and what stands where."""

    def __init__(self, vocabulary: Vocabulary, train: Sequence[TaskExample]) -> None:
        self.vocabulary = vocabulary
        self.n_ids = int(max(vocabulary.n_rows))
        self.depth = 6 if vocabulary.n_fields == 1 and self.n_ids <= 8 else 2
        self.columns = {gram: i for i, gram in enumerate(self._known(train))}
        rows = self._matrix(train)
        documents = np.asarray((rows > 0).sum(axis=0)).ravel()
        self.idf = np.log((1 + len(train)) / (1 + documents)) + 1
        lengths = {len(each.ids) for each in train}
        self.length = lengths.pop() if len(lengths) == 1 and vocabulary.n_fields == 1 else 0
        if self.length * self.n_ids > MOST_COLUMNS:
            self.length = 0

    def __call__(self, examples: Sequence[TaskExample]) -> Any:
        from scipy import sparse

        rows = self._matrix(examples).astype(np.float64)
        rows.data = 1 + np.log(rows.data)
        rows = rows @ sparse.diags(self.idf)
        norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        blocks = [sparse.diags(math.sqrt(len(self.idf)) * 0.1 / np.maximum(norms, 1e-12)) @ rows]
        if self.length:
            blocks.append(self._places(examples))
        return sparse.hstack(blocks, format="csr")

    def _grams(self, each: TaskExample) -> list[tuple[int, int, int]]:
        """Field, length and number of every run of values."""
        found = []
        for field in range(each.ids.shape[1]):
            values = each.ids[:, field].astype(np.int64)
            codes = np.zeros(len(values), np.int64)
            for n in range(1, self.depth + 1):
                codes = codes[: len(values) - n + 1] * self.n_ids + values[n - 1 :] if n <= len(values) else codes[:0]
                found += [(field, n, code) for code in codes.tolist()]
        return found

    def _known(self, train: Sequence[TaskExample]) -> list[tuple[int, int, int]]:
        counts: dict[tuple[int, int, int], int] = {}
        for each in train:
            for gram in set(self._grams(each)):
                counts[gram] = counts.get(gram, 0) + 1
        return sorted(counts, key=lambda gram: (-counts[gram], gram))[:MOST_COLUMNS]

    def _matrix(self, examples: Sequence[TaskExample]) -> Any:
        from scipy import sparse

        rows, columns = [], []
        for row, each in enumerate(examples):
            own = [self.columns[gram] for gram in self._grams(each) if gram in self.columns]
            rows += [row] * len(own)
            columns += own
        shape = (len(examples), len(self.columns))
        return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)  # repeated cells add up

    def _places(self, examples: Sequence[TaskExample]) -> Any:
        from scipy import sparse

        rows, columns = [], []
        for row, each in enumerate(examples):
            n = min(len(each.ids), self.length)
            rows += [row] * n
            columns += (np.arange(n) * self.n_ids + each.ids[:n, 0]).tolist()
        shape = (len(examples), self.length * self.n_ids)
        return sparse.csr_matrix((np.full(len(rows), 0.3), (rows, columns)), shape=shape)


class _Values:
    """The numbers of a series, unknown ones by the line between their neighbours, brought to one length."""

    def __init__(self, vocabulary: Vocabulary, train: Sequence[TaskExample]) -> None:
        lengths = {len(each.ids) for each in train}
        self.samples = lengths.pop() if len(lengths) == 1 else SAMPLES
        self.centres = [np.array(centres, dtype=np.float64) for centres in vocabulary.centres if centres is not None]
        rows = self._rows(train)
        n_fields = len(self.centres)
        by_field = rows.reshape(len(train), self.samples, n_fields)
        self.mean, scale = by_field.mean(axis=(0, 1)), by_field.std(axis=(0, 1))
        self.scale = np.where(scale > 0, scale, 1.0)

    def __call__(self, examples: Sequence[TaskExample]) -> Float[np.ndarray, "records values"]:
        rows = self._rows(examples).reshape(len(examples), self.samples, -1)
        return np.asarray((rows - self.mean) / self.scale).reshape(len(examples), -1)

    def _rows(self, examples: Sequence[TaskExample]) -> Float[np.ndarray, "records values"]:
        rows = []
        for each in examples:
            columns = []
            for field, centres in enumerate(self.centres):
                ids = each.ids[:, field].astype(int)
                known = np.flatnonzero(ids < len(centres))
                where = np.linspace(0, max(len(ids) - 1, 0), self.samples)
                columns.append(np.interp(where, known, centres[ids[known]]) if len(known) else np.zeros(self.samples))
            rows.append(np.stack(columns, axis=1).ravel())
        return np.array(rows)


class _Neighbourhoods:
    """One-hot values of a labelled position and of those around it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.n_rows = [int(n) for n in vocabulary.n_rows]

    def __call__(self, examples: Sequence[TaskExample]) -> Any:
        from scipy import sparse

        columns, n = [], 0
        offsets = np.arange(-NEIGHBOURHOOD, NEIGHBOURHOOD + 1)
        width = sum(self.n_rows)
        for each in examples:
            assert each.at is not None
            where = each.at[:, None] + offsets
            inside = (where >= 0) & (where < len(each.ids))
            for field, first in enumerate(np.cumsum([0, *self.n_rows[:-1]]).tolist()):
                values = each.ids[:, field].astype(np.int64)[np.clip(where, 0, len(each.ids) - 1)]
                column = np.arange(len(offsets)) * width + first + values
                row = np.broadcast_to(n + np.arange(len(where))[:, None], where.shape)
                columns.append(np.stack([row[inside], column[inside]]))
            n += len(each.at)
        cells = np.concatenate(columns, axis=1)
        shape = (n, len(offsets) * width)
        return sparse.csr_matrix((np.ones(cells.shape[1]), (cells[0], cells[1])), shape=shape)
