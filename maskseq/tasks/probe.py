"""What frozen vectors know of labels: models of scikit-learn, cross-validated by group, and simple methods."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from maskseq.errors import DataError, UsageError, nearest
from maskseq.tasks.config import TaskConfig
from maskseq.tasks.examples import TaskExample
from maskseq.tasks.figures import Figure, figures
from maskseq.tasks.simple import simple_methods_of_task
from maskseq.tasks.targets import TargetSpace
from maskseq.types import Vocabulary

Predicted = Float[np.ndarray, "answers predicted"]
Vectors = Float[np.ndarray, "records hidden"]


def _linear(regression: bool, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if regression:
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13)))
    strengths = {"C": np.logspace(-4, 2, 7)}
    model = GridSearchCV(LogisticRegression(max_iter=300), strengths, cv=3, scoring="neg_log_loss")
    return make_pipeline(StandardScaler(), model)


def _forest(regression: bool, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    made = RandomForestRegressor if regression else RandomForestClassifier
    return made(n_estimators=300, random_state=seed)


def _neighbours(regression: bool, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = KNeighborsRegressor if regression else KNeighborsClassifier
    return make_pipeline(StandardScaler(), made(n_neighbors=5))


PROBES: dict[str, Callable[[bool, int], Any]] = {"linear": _linear, "forest": _forest, "knn": _neighbours}


def check_probes(names: Sequence[str]) -> None:
    """`UsageError` for a model that there is not."""
    for name in names:
        if name not in PROBES:
            raise UsageError(f"there is no probe {name!r}\n\nhint: {nearest(name, PROBES)}", code="unknown-name")


def probe_vectors(
    config: TaskConfig,
    vocabulary: Vocabulary,
    examples: Sequence[TaskExample],
    vectors: Vectors,
    *,
    models: Sequence[str],
    folds: int,
    simple: bool = True,
) -> dict[str, dict[str, Figure]]:
    """Figures of each model, and of simple methods, from predictions of records that it was not fitted on."""
    space = TargetSpace.fit(config.kind, config.labels, examples)
    targets = space.targets(examples)
    predicted: dict[str, Predicted] = {}
    width = len(space.classes) if space.classes else 1
    for train, test in cross_validation(space, examples, folds, config.seed):
        found = {f"vectors, {name}": _probe(name, space, vectors, targets, train, test, config.seed) for name in models}
        if simple:
            own = [examples[i] for i in train]
            cut = max(1, len(own) // 5)
            for method in simple_methods_of_task(config, space, vocabulary, own[cut:], own[:cut]):
                found[method.name] = method.predict([examples[i] for i in test])
        for name, values in found.items():
            predicted.setdefault(name, np.zeros((len(examples), width)))[test] = values
    records = np.arange(len(examples))
    return {name: figures(space.kind, targets, each, records, seed=config.seed) for name, each in predicted.items()}


def cross_validation(
    space: TargetSpace, examples: Sequence[TaskExample], folds: int, seed: int
) -> Iterator[tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]]:
    """Folds that share no group; of classes, each with its share of them. Training records come in random order."""
    groups = {group: i for i, group in enumerate(sorted({each.group for each in examples}))}
    if not 2 <= folds <= len(groups):
        raise UsageError(
            f"{folds} folds of {len(groups):,} groups of records: give 2 to {len(groups):,}", code="bad-option"
        )
    rng = np.random.default_rng((seed, 5))
    order = rng.permutation(len(groups))
    if space.kind in ("binary", "multiclass"):
        label = {each.group: space.classes.index(each.labels[0]) for each in examples}
        of_group = np.array([label[group] for group in groups])
        order = order[np.argsort(of_group[order], kind="stable")]
    fold_of = np.empty(len(groups), dtype=np.int64)
    fold_of[order] = np.arange(len(groups)) % folds
    fold = fold_of[[groups[each.group] for each in examples]]
    for k in range(folds):
        yield rng.permutation(np.flatnonzero(fold != k)), np.flatnonzero(fold == k)


def _probe(
    name: str,
    space: TargetSpace,
    vectors: Vectors,
    targets: Float[np.ndarray, "answers columns"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    seed: int,
) -> Float[np.ndarray, " test predicted"]:
    if space.kind == "regression":
        model = PROBES[name](True, seed).fit(vectors[train], targets[train, 0])
        return np.asarray(model.predict(vectors[test]))[:, None]
    columns = range(targets.shape[1]) if space.kind == "multilabel" else [0]
    found = np.zeros((len(test), len(space.classes)))
    for column in columns:
        wanted = targets[train, column].astype(int)
        present, counts = np.unique(wanted, return_counts=True)
        if len(present) == 1 or counts.min() < 3:
            raise DataError(
                "the labels",
                "a fold has fewer than 3 records of a class\n\nhint: give fewer folds",
                code="too-little-data",
            )
        model = PROBES[name](False, seed).fit(vectors[train], wanted)
        shares = model.predict_proba(vectors[test])
        if space.kind == "multilabel":
            found[:, column] = shares[:, 1]
        else:
            found[:, present] = shares
    return found
