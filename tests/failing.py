"""A tokenizer and a format that fail where they are told to, as other people's plug-ins may."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from corpora import Letters, Lines, Text

from maskseq.survey import CERTAIN, Claim, Head, Suggestion
from maskseq.types import Encoded

BAD = "r3"
"""The record that they fail at."""


def fail(error: str) -> None:
    raise {"KeyError": KeyError, "ValueError": ValueError, "SystemExit": SystemExit}[error](f"no {error} of mine")


@dataclass(frozen=True, kw_only=True)
class FailingLetters(Letters):
    """`method` raises `error`, or gives an id that does not exist ("id"), at record `BAD` or where there is none."""

    method: str = ""
    error: str = "KeyError"

    def _at(self, method: str, key: str = BAD) -> None:
        if self.method == method and key == BAD and self.error != "id":
            fail(self.error)

    @classmethod
    def fit(cls, records: Iterable[Text], *, method: str = "", error: str = "KeyError") -> "FailingLetters":
        for record in records:
            if method == "fit" and record.key == BAD:
                fail(error)
        return cls(method=method, error=error)

    @classmethod
    def suggest(cls, records: Sequence[Any]) -> Suggestion | None:
        return Suggestion(recipe={"tokenizer": {}})

    def encode(self, record: Text) -> Encoded:
        self._at("encode", record.key)
        encoded = super().encode(record)
        if self.method == "encode" and self.error == "id" and record.key == BAD:
            encoded.ids[1, 0] = 200
        return encoded

    def units(self, ids: np.ndarray) -> np.ndarray:
        self._at("units")
        return super().units(ids)

    def decode(self, ids: np.ndarray) -> str:
        self._at("decode")
        return super().decode(ids)

    def splice(self, record: Text, ids: np.ndarray, holes: np.ndarray) -> Text:
        self._at("splice", record.key)
        new = self.decode(ids)
        text = "".join(n if hole.all() else old for n, old, hole in zip(new, record.text, holes, strict=True))
        return replace(record, text=text)


@dataclass(frozen=True, kw_only=True)
class FailingLines(Lines):
    """`method` raises `error` at record `BAD`."""

    method: str = ""
    error: str = "KeyError"

    def read(self, path: Path) -> Iterator[Text]:
        for record in super().read(path):
            if self.method == "read" and record.key == BAD:
                fail(self.error)
            yield record

    def write(self, records: Iterable[Text], path: Path) -> None:
        kept = list(records)
        if self.method == "write":
            fail(self.error)
        super().write(kept, path)

    @classmethod
    def recognize(cls, head: Head) -> Claim | None:
        if b"recognize" in head.content:
            fail("KeyError")
        return Claim(strength=CERTAIN, why="it is asked for")
