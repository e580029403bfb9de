"""What a switch is worth: paired differences over seeds, with intervals, corrected for all that is compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.ablation.cells import BASE
from benchmarks.panel.rule import holm


@dataclass(frozen=True)
class Effect:
    """Turning a switch back, in shares of the base's bits: above 0, the base is better."""

    domain: str
    switch: str
    protocol: str
    predictor: str
    mean: float
    low: float
    high: float
    p: float
    seeds: int


def effects(results: Sequence[Mapping[str, object]], *, level: float = 0.95) -> list[Effect]:
    """One for each domain, switch, protocol and predictor of which two seeds or more have been run with their base.

    The interval is Student's over the seeds' paired differences; p is that of the paired t-test.
    """
    bits: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for result in results:
        figures: Mapping[str, Mapping[str, float]] = result["bits"]  # type: ignore[assignment]
        for protocol, by in figures.items():
            for predictor, value in by.items():
                key = str(result["domain"]), str(result["switch"]), protocol, predictor
                bits.setdefault(key, {})[int(str(result["seed"]))] = value
    found = []
    for (domain, switch, protocol, predictor), ours in bits.items():
        base = bits.get((domain, BASE, protocol, predictor), {})
        seeds = sorted(ours.keys() & base.keys())
        if switch == BASE or len(seeds) < 2:
            continue
        differences = np.array([ours[seed] / base[seed] - 1 for seed in seeds])
        test = stats.ttest_1samp(differences, 0.0)
        low, high = test.confidence_interval(level)
        found.append(
            Effect(
                domain,
                switch,
                protocol,
                predictor,
                float(differences.mean()),
                low,
                high,
                float(test.pvalue),
                len(seeds),
            )
        )
    return found


def corrected(found: Sequence[Effect]) -> list[float]:
    """The p-values after Holm's correction over everything that one predictor is compared in."""
    out = np.empty(len(found))
    for predictor in {each.predictor for each in found}:
        mine = [i for i, each in enumerate(found) if each.predictor == predictor]
        out[mine] = holm([found[i].p for i in mine])
    return [float(each) for each in out]
