"""How well a fine-tuned network does on the test part, what simple methods reach, and which of both is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.tasks.examples import TaskExample
from maskseq.tasks.figures import LOWER_IS_BETTER, Figure, FigureComparison, compare, figures, metrics_of, plain
from maskseq.tasks.simple import SimpleMethod, loss_of
from maskseq.tasks.targets import TargetSpace

Predicted = Float[np.ndarray, "answers predicted"]
NETWORK, BLEND = "network", "network and simple"
SHARES = np.linspace(0, 1, 21)


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """Figures of the test part."""

    n_records: int
    n_answers: int
    methods: dict[str, dict[str, Figure]]
    """By the name of the method: the network, each simple method, and a mean of the network and the best of these."""
    simple: str = ""
    """The simple method that was best on the selection part."""
    share: float = 1.0
    """Weight of the network in the mean of both, chosen on the selection part."""
    comparisons: dict[str, FigureComparison] = field(default_factory=dict)
    """The network, and the mean of both, against that simple method."""

    @property
    def words(self) -> str:
        """One line: whether the network is worth it."""
        if not self.simple:
            return "no simple method to compare with: pip install 'maskseq[tasks]'"
        lines = []
        for name, found in self.comparisons.items():
            ours, theirs = (self.methods[each][found.metric].value for each in (name, self.simple))
            verdict = {"better": "better than", "worse": "worse than"}.get(found.words, "not told apart from")
            lines.append(f"{name}: {verdict} {self.simple} ({found.metric} {ours:.3f} against {theirs:.3f})")
        return "; ".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "records": self.n_records,
            "answers": self.n_answers,
            "methods": {name: plain(found) for name, found in self.methods.items()},
            "best simple method": self.simple,
            "share of the network": self.share,
            "comparisons": {name: found.to_json() for name, found in self.comparisons.items()},
            "verdict": self.words,
        }


def shown(methods: Mapping[str, Mapping[str, Figure]]) -> dict[str, dict[str, str]]:
    """For each method, its metrics with their intervals, for people."""
    return {
        name: {metric: f"{f.value:.3f} ({f.low:.3f} to {f.high:.3f})" for metric, f in found.items()}
        for name, found in methods.items()
    }


def judge_task(
    space: TargetSpace,
    network: tuple[Float[np.ndarray, "selected predicted"], Predicted],
    simple: Sequence[SimpleMethod],
    selection: Sequence[TaskExample],
    test: Sequence[TaskExample],
    *,
    seed: int = 0,
) -> TaskFigures:
    """`network` has its predictions of the selection and of the test part."""
    chosen_by, targets = space.targets(selection), space.targets(test)
    names = {key: i for i, key in enumerate(dict.fromkeys(each.key for each in test))}
    records = np.repeat([names[each.key] for each in test], [each.n_answers for each in test])
    predicted = {NETWORK: network[1]}
    losses, of_selection = {}, {}
    for method in simple:
        predicted[method.name] = method.predict(test)
        of_selection[method.name] = method.predict(selection)
        losses[method.name] = _score(space, of_selection[method.name], chosen_by)
    best, share, comparisons = "", 1.0, {}
    if simple:
        best = min(losses, key=lambda name: losses[name])
        blends = [loss_of(space, s * network[0] + (1 - s) * of_selection[best], chosen_by) for s in SHARES]
        share = float(SHARES[int(np.argmin(blends))])
        predicted[BLEND] = share * network[1] + (1 - share) * predicted[best]
        comparisons = {
            name: compare(space.kind, targets, predicted[name], predicted[best], records, seed=seed)
            for name in (NETWORK, BLEND)
        }
    return TaskFigures(
        n_records=len(names),
        n_answers=len(targets),
        methods={name: figures(space.kind, targets, each, records, seed=seed) for name, each in predicted.items()},
        simple=best,
        share=share,
        comparisons=comparisons,
    )


def _score(
    space: TargetSpace, predictions: Predicted, targets: Float[np.ndarray, "answers columns"]
) -> tuple[float, float]:
    """The first metric, so that lower is better, and the loss where that ties."""
    name, metric = next(iter(metrics_of(space.kind).items()))
    value = metric(targets, predictions)
    worth = value if name in LOWER_IS_BETTER else -value
    return (worth if np.isfinite(worth) else np.inf), loss_of(space, predictions, targets)
