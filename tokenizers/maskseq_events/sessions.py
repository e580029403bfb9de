"""Sessions without time: one a line, event keys with blanks between them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from maskseq.errors import DataError, UsageError
from maskseq.files import create
from maskseq.formats import Format
from maskseq.survey import CERTAIN, Claim, Head
from maskseq_events.case import Case, no_time
from maskseq_events.files import MARK, encoding_of, read_lines


@dataclass(frozen=True)
class _SessionText:
    text: str
    """The line as it is, with the blank lines around it, and a byte-order mark."""
    encoding: str = "utf-8"


@dataclass(frozen=True, kw_only=True)
class Sessions(Format[Case]):
    """One session a line, whitespace between its event keys, `?` for an unknown one. Keys of cases are line numbers."""

    suffixes: ClassVar[tuple[str, ...]] = (".sessions",)

    encoding: str = "utf-8"

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        """Short keys between blanks, of which a session has now more, now fewer."""
        sessions = [line.split() for line in head.lines[:1000]]
        keys = {key for session in sessions for key in session}
        alike = all(re.fullmatch(r"[A-Za-z]{0,4}\d{1,4}", key) for key in keys)
        if not sessions or not alike or len({len(session) for session in sessions}) < 2:
            return super().recognize(head)
        return Claim(strength=CERTAIN, why="lines of event keys, of different lengths")

    def read(self, path: Path) -> Iterator[Case]:
        encoding = encoding_of(path, self.encoding)
        held, number = "", 0
        blank = ""
        for current, line in enumerate(read_lines(path, self.encoding), 1):
            if "\0" in line:
                raise DataError(path, "a NUL byte: this is not a text file", place=f"line {current}")
            if not line.removeprefix(MARK).split():
                blank += line
                continue
            if number:
                yield _session(number, held + blank, encoding)
                blank = ""
            held, number, blank = blank + line, current, ""
        if not number:
            raise DataError(path, "there are no sessions in this file")
        yield _session(number, held + blank, encoding)

    def write(self, records: Iterable[Case], path: Path) -> None:
        """Lines in the order of the records; keys that did not change, and all blanks, are copied as they were."""
        with create(path) as file:
            for case in records:
                known = isinstance(case.origin, _SessionText)
                own = case.origin if known else _SessionText(" ".join(case.activity) + "\n", self.encoding)
                wrong = [key for key in case.activity if key.split() != [key]]
                if wrong:
                    problem = f"session {case.key}: {wrong[0]!r} cannot be written as one key, as blanks part keys"
                    raise UsageError(f"{path}: {problem}\n\nhint: write the sessions as CSV", code="not-supported")
                keys = iter(case.activity)
                text = re.sub(rf"[^\s{MARK}]+", lambda _, keys=keys: next(keys), own.text)
                file.write(text.encode(own.encoding))


def _session(number: int, text: str, encoding: str) -> Case:
    keys = tuple(text.removeprefix(MARK).split())
    time, offset = no_time(len(keys))
    return Case(key=str(number), activity=keys, time=time, offset=offset, origin=_SessionText(text, encoding))
