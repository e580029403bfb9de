"""What can be requested of infill: one object from the command line to the sampler."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from maskseq.constraints import Constraint
from maskseq.contract.own import found, look_up, named
from maskseq.errors import UsageError
from maskseq.infill.ranges import Range
from maskseq.infill.sampler_state import InfillConfig

Numbers = Literal["mean", "median", "bin"]


MAX_LENGTHS = 4096


@dataclass(frozen=True)
class Unsized:
    """The units `start:stop` of a record stand for `low` to `high` ones, nobody knows how many."""

    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Insertion:
    """Whether units are missing between two known neighbours, anywhere."""

    most: int
    """Between two neighbours."""
    threshold: float = 3.0
    """Nats of evidence for something missing against nothing; 3 are 20 to 1."""

    def __post_init__(self) -> None:
        if not (1 <= self.most <= MAX_LENGTHS and self.threshold >= 0):
            raise UsageError(
                f"at most {self.most} missing, by {self.threshold} nats: it takes 1 or more, and 0 or more",
                code="bad-option",
            )


@dataclass(frozen=True)
class Sized:
    """A length that was chosen, one row of `lengths.csv`."""

    key: str
    start: int
    """The first unit of the hole, from 1, in the record as it was given."""
    stop: int
    """Its last unit; the one before the first where there is no hole and units are inserted."""
    length: int
    probability: float
    """Among the lengths tried, each as likely beforehand."""
    evidence: float
    """Nats for it against the next best; against none, where units are inserted."""
    alternatives: str
    """JSON: the other lengths and their probabilities, the most probable first."""


@dataclass(frozen=True, kw_only=True)
class InfillOptions:
    """What to fill, how, and under which rules.

    Stretches and lengths are keyed by the names of records (`maskseq.formats`); "" means the file's only record.
    """

    config: InfillConfig = field(default_factory=InfillConfig)
    """The unmasking order, temperature, number of samples and seed."""
    ranges: Mapping[str, Sequence[Range]] = field(default_factory=dict)
    """Stretches to fill besides what is unknown, whatever is there."""
    only_ranges: bool = False
    """Leave what is unknown elsewhere."""
    unknown: Sequence[str] = ()
    """Fields to fill throughout, whatever is there."""
    lengths: Mapping[str, Sequence[Unsized]] = field(default_factory=dict)
    """Stretches that stand for an unknown number of units."""
    insertion: Insertion | None = None
    """Add units wherever evidence says that some are missing."""
    length_by: Literal["evidence", "head"] = "evidence"
    """What chooses unknown lengths: the evidence, or the head that `TrainedModel.fit_lengths` has fitted."""
    rules: Sequence[str | Constraint] = ()
    """What every fill keeps: rules by name, such as `motif=NNRYN@chr1:101-105` (`maskseq.infill.rules` and the
    tokenizer's), or functions of your own about whole records (`maskseq.constraints.Constraint`)."""
    accept: str | Callable[[Any], bool] | None = None
    """Your own word about whole fills, as `module:name` or as a callable: (the filled record) → whether it is accepted.
    A fill that is refused is drawn again; a record without an accepted one stays as it was."""
    accept_tries: int = 20
    """Fills of a record that are judged at most, the first one included. Those behind it are drawn at the `temperature`
    of the config, or at 1 where that is 0."""
    fill_long_holes: bool = False
    """Also fill holes longer than half the context."""
    numbers: Numbers | None = None
    """What ordinal fields are given: the mean or median of what the model holds possible, or the centre of the bin that
    was chosen. None: the mean, but where values are drawn, or under rules that tie cells to one another, the bin."""
    symmetries: bool = True
    """Average over the tokenizer's symmetries, such as the two strands of DNA."""
    calibrated: bool = True
    """Report calibrated probabilities and intervals if the run has a calibration."""
    experts: Sequence[str] = ()
    """Which of the run's experts predict, by name; none: its blend if it has a gate, or else its encoder."""

    def __post_init__(self) -> None:
        if self.accept_tries < 1:
            raise UsageError(f"accept_tries is {self.accept_tries}; at least one fill is judged", code="bad-option")
        given: object = self.accept
        if given is not None:
            name = given if isinstance(given, str) else named(given)
            look_up("acceptance", name, trust_code=True)  # who names it in this call means it
            object.__setattr__(self, "accept", name)

    @property
    def accepts(self) -> Callable[[Any], bool] | None:
        """What judges whole fills."""
        return found("acceptance", self.accept) if isinstance(self.accept, str) else None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "InfillOptions":
        """From keyword arguments; `UsageError` for a name that is not an option."""
        known = [each.name for each in fields(cls)]
        for name in options:
            if name not in known:
                raise UsageError(
                    f"infill has no option {name!r}\n\nhint: its options are {', '.join(known)}", code="unknown-option"
                )
        return cls(**options)

    def identity(self) -> dict[str, Any]:
        """What decides the fills of a window, for the journal: what is filled where is part of the window itself."""
        rules = [f"{rule}{_digest_of_file(rule)}" for rule in self.rules if isinstance(rule, str)]
        if len(rules) < len(self.rules):
            rules.append(uuid4().hex)  # nobody knows whether functions are the same as last time
        return {
            "config": asdict(self.config),
            "rules": rules,
            "symmetries": self.symmetries,
            "fill_long_holes": self.fill_long_holes,
        }


def _digest_of_file(rule: str) -> str:
    """Of the file that a rule may end in the name of."""
    path = Path(rule.partition("@")[0].rpartition(":")[2])
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
