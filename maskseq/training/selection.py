"""Which checkpoint of a run is the best, and whether its plateau has ended: pure functions of its validations in order.

They are read from `metrics.jsonl`, whose lines are on disk before any checkpoint that follows from them: a run that
goes on from a checkpoint decides as it would have without the break.
"""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Judged:
    """A validation: where it was made, and how good the model was there."""

    step: int
    merit: float

    @classmethod
    def of(cls, step: int, merit: float | None) -> "Judged":
        """What is not finite is worse than everything, and null where it is read back."""
        return cls(step, merit if merit is not None and math.isfinite(merit) else -math.inf)


def best(judged: Sequence[Judged]) -> int | None:
    """The step of the first validation that no other one surpasses; None where there is none."""
    return max(judged, key=lambda each: each.merit).step if judged else None


def out_of_patience(judged: Sequence[Judged], patience: int) -> bool:
    """Whether as many validations have followed the best one; never with a patience of 0."""
    chosen = best(judged)
    return chosen is not None and 0 < patience <= sum(each.step > chosen for each in judged)


def judged_until(metrics: Path, step: int) -> list[Judged] | None:
    """The validations up to a step that a run has on record; None where they were not judged, as by older versions."""
    judged = []
    for line in metrics.read_bytes().splitlines(keepends=True) if metrics.exists() else ():
        with suppress(ValueError, KeyError, TypeError):
            values = json.loads(line)
            if line.endswith(b"\n") and values["kind"] == "validation" and values["step"] <= step:
                if "merit" not in values:
                    return None
                judged.append(Judged.of(values["step"], values["merit"]))
    return judged
