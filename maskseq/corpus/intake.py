"""How every command reads a user's file: broken records stop it, or are passed over, counted and reported.

    with Intake(reader, file, on_error="skip", tokenizer=run.tokenizer) as records:
        for record in records: ...

What cannot be encoded is broken as well. Errors name the file and, where it helps, the option that passes them over.
"""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from maskseq.contract.fence import encode, naming, read, streamed
from maskseq.errors import DataError, DataWarning
from maskseq.formats import Format
from maskseq.tokenizer import Tokenizer
from maskseq.types import Record

OnError = Literal["stop", "skip"]
SHOWN = 3
"""Errors of what was passed over that are shown."""
KEPT = 20
"""Those that are kept."""


class Left(NamedTuple):
    """What is passed over: a record that cannot be encoded, or an error in place of one that cannot be read."""

    item: Record | DataError
    why: DataError


class Intake:
    """The records of one file, which can be gone through several times."""

    def __init__(
        self,
        reader: Format[Any],
        file: Path,
        *,
        on_error: OnError = "stop",
        tokenizer: Tokenizer[Any] | None = None,
        preview: int | None = None,
        warns: bool = True,
    ) -> None:
        """Without a tokenizer, records are not tried to be encoded. `preview` is how many raw units will do; `warns`
        is whether a warning says at the end what was passed over.
        """
        self.warns = warns
        self.reader, self.file, self.on_error, self.tokenizer, self.preview = reader, file, on_error, tokenizer, preview
        self.n_read = self.n_left = 0
        self.why: list[str] = []
        self._naming = naming(file)

    def __iter__(self) -> Iterator[Any]:
        """The records that can be read and encoded."""
        return (item for item in self.items() if not isinstance(item, Left))

    def items(self) -> Iterator[Any]:
        """These, and in its place what is passed over. `DataError` where nothing but that is there."""
        if self.on_error == "stop":
            if self.preview is None:
                yield from read(self.reader, self.file)
            else:
                preview = partial(self.reader.preview, n_units=self.preview)
                yield from streamed(self.reader, self.file, "preview", preview)
            return
        self.n_read = self.n_left = 0  # of this pass
        self.why = []
        first: DataError | None = None
        for item in self._tried():
            if isinstance(item, Left):
                first = first or item.why
                self.n_left += 1
                self.why += [_line(item.why)] * (len(self.why) < KEPT)
            else:
                self.n_read += 1
            yield item
        if first is not None and not self.n_read:
            raise first

    def silent(self) -> "Intake":
        """The same records, to be looked at beforehand: no warning says what was passed over."""
        return Intake(
            self.reader,
            self.file,
            on_error=self.on_error,
            tokenizer=self.tokenizer,
            preview=self.preview,
            warns=False,
        )

    @property
    def summary(self) -> dict[str, Any]:
        """What was passed over, for a summary; empty where that is nothing."""
        return {"skipped": skipped(self.n_left, self.n_read, self.why)} if self.n_left else {}

    def _tried(self) -> Iterator[Any]:
        for item in streamed(self.reader, self.file, "attempts", self.reader.attempts):
            if isinstance(item, DataError):
                yield Left(item, item)
                continue
            try:
                if self.tokenizer is not None:
                    encode(self.tokenizer, item)
            except DataError as error:
                yield Left(item, self._placed(error))
            else:
                yield item

    def __enter__(self) -> "Intake":
        self._naming = naming(self.file)
        self._naming.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Errors get the file's name and, where another record can be read, the way to pass them over."""
        if error is None and self.n_left and self.warns:
            warnings.warn(report(self.n_left, self.n_read, self.why), DataWarning, stacklevel=2)
        if isinstance(error, DataError) and not self._of_another_file(error):
            placed = self._placed(error)
            raise hinted(placed) if self.on_error == "stop" and self._may_go_on() else placed from error.__cause__
        self._naming.__exit__(kind, error, trace)

    def _of_another_file(self, error: DataError) -> bool:
        """Whether it names a file that is not the one read, such as what is written meanwhile."""
        return Path(error.path).is_absolute() and str(self.file) not in str(error)

    def _placed(self, error: DataError) -> DataError:
        """With the file, where it names the record only."""
        if error.path and str(self.file) in str(error):
            return error
        place = ": ".join(part for part in (error.path, error.place) if part)
        return DataError(self.file, error.problem, place=place, kept=error.kept, code=error.code)

    def _may_go_on(self) -> bool:
        """Whether the first error can be passed over, and another record be read."""
        first = good = None
        try:
            for item in self._tried():
                first, good = (first or item, good) if isinstance(item, Left) else (first, good or item)
                if first is not None and (good is not None or first.why.ends):
                    break
        except Exception:  # whatever it is, it is not what the user is to hear of
            return False
        return first is not None and good is not None and not first.why.ends


def hinted(error: DataError) -> DataError:
    """The error with the option that passes it over as its hint."""
    return with_hint(error, "--on-error skip leaves out what cannot be read, and counts it")


def with_hint(error: DataError, hint: str) -> DataError:
    """The error with a hint, behind the one that it may have."""
    problem, _, before = error.problem.partition("\n\nhint: ")
    hint = f"{before}; or {hint}" if before else hint
    return DataError(error.path, f"{problem}\n\nhint: {hint}", place=error.place, kept=error.kept, code=error.code)


def report(n_left: int, n_read: int, why: Sequence[str]) -> str:
    """What was passed over, in one line."""
    shown = "; ".join(why[:SHOWN]) + "; …" * (n_left > SHOWN)
    return f"{n_left:,} of {n_left + n_read:,} records skipped: {shown}"


def skipped(n_left: int, n_read: int, why: Sequence[str]) -> dict[str, Any]:
    """The same for a summary."""
    return {"records": n_left, "of": n_left + n_read, "first": list(why[:SHOWN])}


def _line(error: DataError) -> str:
    return str(error).partition("\n\n")[0] + ", and nothing behind it can be read" * error.ends


class Restored:
    """Puts what was passed over back in its place among what became of the records."""

    def __init__(self, items: Iterable[Any], *, kept: bool = True) -> None:
        """Without `kept`, errors leave nothing in their place."""
        self._items, self._kept = items, kept
        self._left: deque[tuple[int, Left]] = deque()
        """Behind how many records each was."""

    def records(self) -> Iterator[Any]:
        """The records among the items."""
        n = 0
        for item in self._items:
            if isinstance(item, Left):
                self._left.append((n, item))
            else:
                n += 1
                yield item

    def before(self, n: int | None) -> Iterator[Record | DataError]:
        """What was passed over before the nth record, from 0, or at the end: a record as it was, or an error.

        Raises an error in whose place nothing can be written.
        """
        while self._left and (n is None or self._left[0][0] <= n):
            _, (item, why) = self._left.popleft()
            if not isinstance(item, DataError):
                yield item
            elif self._kept and item.kept is None:
                problem = f"{why.problem} (it cannot be skipped, as what stands there could not be written back)"
                raise DataError(why.path, problem, place=why.place, code=why.code)
            elif self._kept:
                yield item
