"""Records from the beginning of files that nobody has described yet, and how a tokenizer encodes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from maskseq import plugins
from maskseq.apps.init_readings import answers
from maskseq.apps.init_sizes import counted
from maskseq.contract.fence import encode, fenced, fit
from maskseq.corpus.intake import Intake, OnError, hinted, with_hint
from maskseq.errors import DataError, UsageError
from maskseq.formats import Format
from maskseq.survey import Size, Suggestion, Surveyed
from maskseq.tokenizer import Tokenizer
from maskseq.types import Record

SAMPLE_UNITS = 500_000
"""About how many raw units are looked at, in whole records."""


@dataclass(frozen=True)
class Passed:
    """How many records were passed over, and why the first ones were."""

    n: int = 0
    why: tuple[str, ...] = ()

    def and_also(self, n: int, why: Sequence[str]) -> "Passed":
        return Passed(self.n + n, (*self.why, *why))


@dataclass(frozen=True, kw_only=True)
class RecordSample:
    """Some records from the beginning of the files, and how a tokenizer encodes them."""

    records: Surveyed
    whole: bool
    """These are all records there are."""
    tokenizer: Tokenizer[Any]
    positions: Integer[np.ndarray, "records"]
    unknown: Integer[np.ndarray, "fields"]
    """How many cells of each field are unknown."""
    passed: Passed
    """Other records, which were passed over."""

    @property
    def size(self) -> Size:
        """That of the files."""
        return self.records.size

    @property
    def positions_a_unit(self) -> float:
        return float(self.positions.sum()) / max(sum(len(record) for record in self.records), 1)


def read_sample(
    files: Sequence[Path], format: str, options: Mapping[str, Any], on_error: OnError
) -> tuple[Surveyed, bool, Passed]:
    """Records from the beginning of the files, whether these are all, and why others were passed over."""
    reader = plugins.open_format(files[0], format, dict(options), trust_code=True)
    try:
        records, whole, passed = _sampled(files, reader, on_error)
        size = Size.of(records) if whole else counted(files, reader, on_error)
        return Surveyed(records, size), whole, passed
    except DataError as error:
        requested = [name for name in vars(reader) if f" {name} = " in error.problem]
        if not requested:
            raise
        raise with_hint(error, f"here: --set data.format_options.{requested[0]}=VALUE") from None


def _sampled(files: Sequence[Path], reader: Format[Any], on_error: OnError) -> tuple[list[Record], bool, Passed]:
    records: list[Record] = []
    passed = Passed()
    left = SAMPLE_UNITS
    for path in files:
        with Intake(reader, path, on_error=on_error, preview=left, warns=False) as intake:
            found = iter(intake)
            for record in found:
                records.append(record)
                left -= len(record)
                if left <= 0:
                    whole = path == files[-1] and next(found, None) is None
                    return records, whole, passed.and_also(intake.n_left, intake.why)
        passed = passed.and_also(intake.n_left, intake.why)
    if not records:
        raise DataError(files[0], "there are no records in this file", code="too-little-data")
    return records, True, passed


def suggestion_for(records: Sequence[Record], wanted: str | None) -> tuple[str, Suggestion]:
    """The tokenizer that knows these records, and what it suggests."""
    if wanted is not None:
        cls = plugins.load("tokenizers", wanted, trust_code=True)
        with fenced(cls, "suggest", records[0]):
            return wanted, cls.suggest(records) or Suggestion()
    for name, suggestion in answers("tokenizers", "suggest", records):
        if suggestion is not None:
            return name, suggestion
    raise UsageError(
        f"no tokenizer has a suggestion for a {type(records[0]).__name__}\n\n"
        f"hint: name one with --set tokenizer.name=NAME ({plugins.listed('tokenizers')})",
        code="not-supported",
    )


def encoded_sample(
    records: Surveyed, whole: bool, options: Mapping[str, Any], on_error: OnError, passed: Passed
) -> RecordSample:
    """Fit and encode: what cannot be encoded is better known now than when the recipe runs."""
    options = dict(options)
    tokenizer = fit(plugins.load("tokenizers", options.pop("name"), trust_code=True), records, options)
    kept: list[Record] = []
    positions: list[int] = []
    unknown = np.zeros(tokenizer.vocabulary.n_fields, np.int64)
    for record in records:
        try:
            ids = encode(tokenizer, record).ids
        except DataError as error:
            if on_error == "stop":
                raise hinted(error) from error
            passed = passed.and_also(1, [str(error)])
            continue
        kept.append(record)
        positions.append(len(ids))
        unknown += (~tokenizer.vocabulary.known(ids)).sum(axis=0)
    if not kept:
        raise UsageError(f"no record can be encoded: {passed.why[-1]}", code="too-little-data")
    return RecordSample(
        records=Surveyed(kept, records.size),
        whole=whole,
        tokenizer=tokenizer,
        positions=np.array(positions, np.int64),
        unknown=unknown,
        passed=passed,
    )
