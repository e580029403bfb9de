"""Rows of a table as time steps: in the order of their times, with unknown steps where rows are missing."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, Shaped

from maskseq.errors import DataError, DataWarning
from maskseq.formats import distinct
from maskseq_signals.times import OddTimeError, to_moments

Steps = Literal["times", "rows"]
LONGEST_GAP = 64
"""Steps from a row to the next. Behind more a new recording begins: training cuts such unknown stretches out anyway."""
NEAR, FAR = 0.1, 0.35
"""Parts of a step that a time may be off: unnoticed, and at all."""
FARTHEST = 1e15
"""Steps; what is farther is as far."""
MOST_ODD = 0.05
"""The share of steps that may be further off."""
ROWS_ARE_STEPS = 'to take each row for one step whatever its time says, set steps = "rows"'


def spread(values: Shaped[np.ndarray, "rows channels"], steps: Int64[np.ndarray, "steps"]) -> np.ndarray:
    """The values of each time step, NaN where it has no row; `values` themselves where nothing moves."""
    if np.array_equal(steps, np.arange(len(values))):
        return values
    spaced = np.asarray(values[steps])
    spaced[steps < 0] = np.nan
    return spaced


@dataclass
class Timeline:
    """Brings the rows of a file's recordings into the order of their times, and reports what was not regular."""

    path: Path
    place: Callable[[int], str]
    """Where in the file a row is, for messages."""
    steps: Steps = "times"
    decimal: str = "."
    hint: str = ROWS_ARE_STEPS
    late: int = 0
    """Rows that are earlier than the row before."""
    missing: int = 0
    """Steps in short gaps."""
    short_gaps: list[str] = field(default_factory=list)
    """Behind which row each is."""
    long_gaps: list[str] = field(default_factory=list)
    uneven: int = 0
    """Steps that are not quite whole ones."""
    unread: str = ""
    """A time that cannot be understood, and where it is."""

    def recordings(
        self, owned: Iterable[tuple[str, Int64[np.ndarray, "_"]]], times: Sequence[str] | None
    ) -> Iterator[tuple[str, Int64[np.ndarray, "_"]]]:
        """Each recording and the row of each of its time steps, -1 where it is missing.

        `owned` says which rows a recording has, `times` when each row of the file was taken. A recording with long gaps
        becomes several: `s`, `s#2`, … `DataError` where the times cannot be those of steps.
        """
        keys, parts = [], []
        for key, rows in owned:
            every = times is not None and np.array_equal(rows, np.arange(len(times)))
            own = times if every or times is None else [times[row] for row in rows.tolist()]
            for steps in self.in_order(own, rows):
                keys.append(key)
                parts.append(steps)
        self.tell()
        return zip(distinct(keys), parts, strict=True)

    def in_order(
        self, times: Sequence[str] | None, rows: Int64[np.ndarray, "rows"]
    ) -> Iterator[Int64[np.ndarray, "_"]]:
        """The row of each time step of a recording, parted at long gaps; `times` are those of the `rows`."""
        if times is None or self.steps == "rows" or len(rows) < 2:
            return iter([rows])
        found = self.moments(times, rows)
        if found is None:
            return iter([rows])
        moments = found.astype(np.int64) if found.dtype.kind == "M" else found
        late = int(np.count_nonzero(moments[1:] < moments[:-1]))
        if late:
            self.late += late
            order = np.argsort(moments, kind="stable")
            times, rows, moments = [times[at] for at in order.tolist()], rows[order], moments[order]
        with np.errstate(over="ignore"):
            lengths = np.diff(moments).astype(np.float64, copy=False)
        equal = np.flatnonzero(lengths == 0)
        if len(equal):
            first = times[int(equal[0])]
            problem = f"{len(equal):,} of {len(rows):,} rows have the time of another one, first {first!r}"
            hint = "if a column tells several recordings apart, name it with the option recording"
            raise self._error(problem, self.place(int(rows[equal[0] + 1])), hint)
        return self.parted(rows, self._moves(lengths, rows))

    def parted(
        self, rows: Int64[np.ndarray, "rows"], moves: Int64[np.ndarray, "moves"]
    ) -> Iterator[Int64[np.ndarray, "_"]]:
        """The row of each time step, -1 where it is missing, parted at long gaps.

        The rows are in order of time; `moves` are the steps from each to the next.
        """
        for index in np.flatnonzero(moves > 1).tolist():
            long = moves[index] > LONGEST_GAP
            (self.long_gaps if long else self.short_gaps).append(self.place(int(rows[index])))
            self.missing += 0 if long else int(moves[index]) - 1
        ends = [*(np.flatnonzero(moves > LONGEST_GAP) + 1).tolist(), len(rows)]
        for start, stop in zip([0, *ends[:-1]], ends, strict=True):
            at = np.concatenate([[0], np.cumsum(moves[start : stop - 1])])
            steps = np.full(at[-1] + 1, -1)
            steps[at] = rows[start:stop]
            yield steps

    def tell(self) -> None:
        """Warn, once for the file, of everything that was not regular."""
        found = []
        if self.unread:
            found.append(f"the time {self.unread} is neither date nor number: rows are taken for equal steps")
        if self.late:
            found.append(f"{_counted(self.late, 'row')} earlier than the row before: read in order of time")
        if self.short_gaps:
            gaps = f"{_counted(self.missing, 'time step')} missing in {_counted(len(self.short_gaps), 'gap')}"
            found.append(f"{gaps}, the first behind {self.short_gaps[0]}: read as unknown, not written back")
        if self.long_gaps:
            gaps = f"{_counted(len(self.long_gaps), 'gap')} of {LONGEST_GAP} time steps or more"
            found.append(f"{gaps}, the first behind {self.long_gaps[0]}: a new recording begins behind each")
        if self.uneven:
            found.append(f"{_counted(self.uneven, 'time step')} uneven by more than {NEAR:.0%}: taken for whole ones")
        if found:
            hint = f" ({self.hint})" if self.hint and not self.unread else ""
            warnings.warn(f"{self.path}: {'; '.join(found)}{hint}", DataWarning, stacklevel=2)

    def moments(self, times: Sequence[str], rows: Int64[np.ndarray, "rows"]) -> Shaped[np.ndarray, "rows"] | None:
        """As `to_moments` has them; None, and remembered, where the times are neither dates nor numbers."""
        try:
            moments = to_moments(times, decimal=self.decimal)
        except ValueError as error:
            if self.steps == "rows":  # whatever the times say
                return None
            if isinstance(error, OddTimeError):
                where = self.place(int(rows[list(times).index(error.text)]))
                problem = f"{error.count:,} of {len(times):,} times cannot be understood, first {error.text!r}"
                raise self._error(problem, where) from None
            self.unread = self.unread or f"{times[0]!r} ({self.place(int(rows[0]))})"
            return None
        return moments

    def _moves(
        self, lengths: Shaped[np.ndarray, "moves"], rows: Int64[np.ndarray, "rows"]
    ) -> Int64[np.ndarray, "moves"]:
        """How many steps each row is before the next."""
        usual = np.partition(lengths, (len(lengths) - 1) // 2)[(len(lengths) - 1) // 2]  # others are longer
        near = (lengths > usual / 2) & (lengths < 1.5 * usual)
        step = lengths.mean(where=near) if near.any() else usual  # rounded times differ by one in the last digit
        with np.errstate(over="ignore", invalid="ignore"):
            off = lengths / step
            moves = np.clip(np.rint(off), 1, FARTHEST)
            off -= moves  # in place, as below: a day at 250 Hz has 21.6 million steps
            np.abs(off, out=off)
            off[moves > LONGEST_GAP] = 0
        wrong = ~(off <= FAR)  # NaN is wrong
        single = (moves == 1) & ~wrong
        if 2 * single.sum() < len(moves) or wrong.sum() > max(MOST_ODD * len(moves), 1):
            first = int(np.argmin(single))
            problem = (
                f"{np.count_nonzero(~single):,} of {len(moves):,} steps between rows are not of the usual length, "
                f"this being the first"
            )
            raise self._error(problem, self.place(int(rows[first + 1])), "bring them to equal steps first")
        self.uneven += int(np.count_nonzero(off > NEAR))
        return np.asarray(moves, dtype=np.int64)

    def _error(self, problem: str, where: str, hint: str = "") -> DataError:
        hints = "; ".join(filter(None, (hint, self.hint)))
        return DataError(self.path, f"{problem}\n\nhint: {hints}", place=where)


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
