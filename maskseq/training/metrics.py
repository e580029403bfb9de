"""What `metrics.jsonl` says about a run, while it grows and afterwards. No torch here.

Nothing else of the run folder is read, so a copy of that one file on another machine will do.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from maskseq.errors import UsageError
from maskseq.storage.run_folder import RunFolder
from maskseq.training.selection import Judged, best

RECENT_STEPS = 20
"""Steps that the speed is a mean of."""
SILENT_SECONDS, SILENT_STEPS = 60.0, 10.0
"""A run that has written nothing for longer than both is no longer called running."""
CURVES = ("loss", "bits", "accuracy", "lr", "grad_norm", "update_ratio", "tokens_per_s", "peak_share")

State = Literal["starting", "running", "silent", "stopped", "finished"]


class Watched:
    """A run as its metrics describe it; `update` reads what was added since the last call."""

    def __init__(self, run: Path) -> None:
        """`run` is a run folder, or a metrics file that was copied from one."""
        if not run.exists():
            raise UsageError(
                f"{run}: there is no such run folder\n\nhint: name the --output of a pretrain", code="missing-file"
            )
        self.run = run
        self._forget(inode=0)

    def _forget(self, inode: int) -> None:
        self._inode, self._offset = inode, 0
        self.started: Mapping[str, Any] = {}
        self.last: Mapping[str, Any] = {}
        """The last step."""
        self.validations: list[Mapping[str, Any]] = []
        self.plateau: Mapping[str, Any] = {}
        """The line that says that the plateau was ended early, if it was."""
        self.test: Mapping[str, Any] = {}
        """The test at the end, if there was one."""
        self.tokens: list[int] = []
        """Tokens seen after each step: what `curves` are drawn over."""
        self.curves: dict[str, list[float]] = {name: [] for name in CURVES}
        self.seconds: list[float] = []
        """How long each step took."""
        self.checkpoint: int | None = None
        """The step of the last one that is whole."""
        self.ended: Mapping[str, Any] = {}
        """The line of the end, if it has come."""
        self.spoken = 0.0
        """When the last line was written, in seconds since 1970."""

    @property
    def name(self) -> str:
        return self.run.name if self.run.is_dir() else self.run.parent.name or str(self.run)

    def update(self) -> "Watched":
        """Read on. A file that has become another, as when a run goes on from a checkpoint, is read anew.

        A line that is cut short is left for the next call, one that makes no sense is passed over.
        """
        path = RunFolder(self.run).metrics if self.run.is_dir() else self.run
        if not path.exists():
            return self
        with path.open("rb") as file:
            now = os.fstat(file.fileno())
            if now.st_ino != self._inode or now.st_size < self._offset:
                self._forget(now.st_ino)
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                with suppress(ValueError, KeyError, TypeError):
                    self._take(json.loads(line))
        return self

    def _take(self, line: Mapping[str, Any]) -> None:
        kind = line["kind"]
        self.spoken = line.get("time", self.spoken)
        if kind == "started":
            self.started, self.ended = line, {}
        elif kind == "step":
            self.last = line = _numbers(line)
            self.tokens.append(line["tokens"])
            self.seconds.append(line["seconds"])
            for name, values in self.curves.items():
                values.append(line.get(name, 0.0))
        elif kind == "validation":
            self.validations.append(_numbers(line))
        elif kind == "plateau":
            self.plateau = line
        elif kind == "test":
            self.test = _numbers(line)
        elif kind == "checkpoint":
            self.checkpoint = line["step"]
        elif kind in ("stopped", "finished"):
            self.ended = line

    @property
    def best(self) -> Mapping[str, Any]:
        """The validation of the best checkpoint; empty where nothing was chosen, as in runs of older versions."""
        judged = {line["step"]: line for line in self.validations if "merit" in line}
        return judged.get(best([Judged.of(step, line["merit"]) for step, line in judged.items()]), {})

    @property
    def total(self) -> int:
        """Tokens that the run will have seen."""
        return int(self.last.get("total_tokens") or self.started.get("total_tokens") or 0)

    @property
    def seen(self) -> int:
        return int(self.last.get("tokens") or self.started.get("tokens") or 0)

    @property
    def speed(self) -> float:
        """Tokens per second, over the last steps."""
        seconds = self.seconds[-RECENT_STEPS:]
        speeds = self.curves["tokens_per_s"][-RECENT_STEPS:]
        return sum(s * v for s, v in zip(seconds, speeds, strict=True)) / max(sum(seconds), 1e-9)

    @property
    def remaining(self) -> float | None:
        """Seconds to go at this speed; None where nothing is going on."""
        if self.state() not in ("running", "silent") or not self.speed:
            return None
        return max(self.total - self.seen, 0) / self.speed

    def state(self, now: float | None = None) -> State:
        if self.ended:
            return "finished" if self.ended["kind"] == "finished" else "stopped"
        if not self.started:
            return "starting"
        quiet = (time.time() if now is None else now) - self.spoken
        patience = max(SILENT_SECONDS, SILENT_STEPS * (self.seconds[-1] if self.seconds else 0.0))
        return "running" if quiet < patience else "silent"

    def summary(self, now: float | None = None) -> dict[str, Any]:
        """Everything of this moment as one flat JSON object."""
        validation, best = (self.validations[-1] if self.validations else {}), self.best
        kept = ("step", "loss", "bits", "accuracy", "lr", "grad_norm", "update_ratio", "peak_share", "wait_share")
        return {
            "run": str(self.run),
            "state": self.state(now),
            "reason": self.ended.get("reason"),
            "tokens": self.seen,
            "total_tokens": self.total,
            "tokens_per_s": self.speed,
            "remaining_s": self.remaining,
            **{key: self.last.get(key) for key in kept},
            "peak_memory": self.last.get("peak_memory"),
            **{f"validation_{key}": validation.get(key) for key in ("step", "bits", "accuracy")},
            **{f"best_{key}": best.get(key) for key in ("step", "bits", "accuracy", "merit")},
            **{f"test_{key}": self.test.get(key) for key in ("step", "bits", "accuracy")},
            "checkpoint": self.checkpoint,
            "silent_s": (time.time() if now is None else now) - self.spoken if self.spoken else None,
        }


def _numbers(line: Any) -> Any:
    """Of a step or a validation: what is null is a number that was not finite."""
    if isinstance(line, Mapping):
        return {name: _numbers(value) for name, value in line.items()}
    return math.nan if line is None else line


def thinned(xs: list[int], ys: list[float], n: int) -> list[tuple[float, float]]:
    """At most `n` points of a curve: the means of equal shares of its steps."""
    size = -(-len(xs) // n) or 1
    shares = (slice(i, i + size) for i in range(0, len(xs), size))
    return [(sum(xs[s]) / len(xs[s]), sum(ys[s]) / len(ys[s])) for s in shares]
