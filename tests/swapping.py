"""A plug-in whose vocabulary a test may change behind the back of what was made with it."""

import os
from dataclasses import dataclass

import numpy as np

from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord

ORDERS = {"sky": ("sun", "cloud", "rain"), "other": ("sun", "rain", "cloud")}


@dataclass(frozen=True, kw_only=True)
class Weather(Tokenizer[ListRecord]):
    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field(name="sky", tokens=ORDERS[os.environ.get("MASKSEQ_TEST_ORDER", "sky")]),)

    def encode(self, record: ListRecord) -> Encoded:
        tokens = self.fields[0].tokens
        return Encoded(np.array([tokens.index(str(value)) for value in record.values], np.uint8)[:, None])

    def decode(self, ids: np.ndarray) -> list[str]:
        return [self.fields[0].token(i) for i in ids[:, 0]]


class Hashed(Weather):
    """Its vocabulary is in the order of a set."""

    fields = (Field(name="sky", tokens=tuple({"sun", "cloud", "rain", "snow", "fog", "hail", "dew", "ice", "wind"})),)


RECORDS = [
    ListRecord(key=f"r{i}", values=[ORDERS["sky"][(i + j * j) % 3] for j in range(20 + i % 7)]) for i in range(40)
]
