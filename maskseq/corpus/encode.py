"""Records to the rows of a part: encoded, with their variants, and checked for what a plug-in promised."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Integer

from maskseq.contract.fence import broken, check_ids, check_shape, encode, fenced, with_numbers
from maskseq.corpus.hashing import hash64
from maskseq.corpus.intake import hinted
from maskseq.corpus.record_table import UNALIGNED
from maskseq.errors import DataError, PluginError, UsageError
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Record

EMPTY = "it is empty"


def encode_records(
    records: Sequence[Record | DataError], tokenizer: Tokenizer[Any], on_error: str
) -> tuple[list[Record], list[Encoded], list[str]]:
    """The records that can be encoded, and why others cannot: together, and one by one where something is wrong.

    Records without units are passed over whatever `on_error` says: nothing in them is broken.
    """
    readable = [record for record in records if not isinstance(record, DataError)]
    together: Exception | None = None
    if len(readable) == len(records):
        try:
            with fenced(tokenizer, "encode_many"):
                encoded = tokenizer.encode_many(readable)
                if all(len(own) or not len(record) for record, own in zip(readable, encoded, strict=True)):
                    return _without_empty(readable, encoded)
        except UsageError:  # not the records' fault
            raise
        except (DataError, PluginError) as error:  # of which record?
            together = error
    kept, encoded, skipped = [], [], []
    for record in records:
        if isinstance(record, DataError):
            skipped.append(str(record))
            continue
        try:
            result = encode(tokenizer, record)
            if not len(result) and not len(record):
                skipped.append(f"{record.key}: {EMPTY}")
                continue
            if not len(result):
                raise DataError(f"record {record.key!r}", "there is nothing in it to tokenize", code="empty-data")
        except DataError as error:
            if on_error == "stop":
                raise (hinted(error) if len(records) > 1 else error) from error
            problem = str(error).removeprefix(f"record {record.key!r}: ")
            skipped.append(f"{record.key}: {problem}")
            continue
        encoded.append(result)
        kept.append(record)
    if isinstance(together, PluginError) and len(kept) == len(records):
        raise together
    return kept, encoded, skipped


def _without_empty(records: list[Record], encoded: list[Encoded]) -> tuple[list[Record], list[Encoded], list[str]]:
    empty = [f"{record.key}: {EMPTY}" for record, own in zip(records, encoded, strict=True) if not len(own)]
    if empty:
        records = [record for record, own in zip(records, encoded, strict=True) if len(own)]
    return records, [own for own in encoded if len(own)], empty


class EncodedRow(NamedTuple):
    """A sequence of a part: a record's own, or that of a variant."""

    record: Record
    encoded: Encoded
    variant: int = 0
    """0 for the record's own; n for the n-th variant, -n where that one runs backwards, n + `UNALIGNED` for one
    whose raw units are others."""
    also: int | None = None
    """For a variant that reads the record otherwise: the hash of what the tokenizer itself makes of that reading."""


def with_variants(
    records: Sequence[Record], encoded: Sequence[Encoded], tokenizer: Tokenizer[Any], n_variants: int
) -> list[EncodedRow]:
    """The records' own sequences, behind each those of its first variants."""
    if not n_variants or not tokenizer.defines("variants"):
        return [EncodedRow(record, own) for record, own in zip(records, encoded, strict=True)]
    if n_variants >= UNALIGNED:
        raise UsageError(f"data.variants = {n_variants}: a record has at most {UNALIGNED - 1}", code="bad-option")
    rows, dtype = [], tokenizer.vocabulary.dtype
    for record, own in zip(records, encoded, strict=True):
        rows.append(EncodedRow(record, own))
        for number, variant in enumerate(islice(tokenizer.variants(record), n_variants), 1):
            also = None
            if variant.record is not record:
                also = hash64(encode(tokenizer, variant.record).ids.astype(dtype).data)
            seen = encode(variant.tokenizer, variant.record)
            kept = number if variant.aligned else number + UNALIGNED
            rows.append(EncodedRow(record, seen, -kept if variant.reverse else kept, also))
    return rows


def checked_tokens(rows: Sequence[EncodedRow], tokenizer: Tokenizer[Any]) -> Integer[np.ndarray, "positions fields"]:
    """All ids, after checking what the plug-in promised of them."""
    vocabulary = tokenizer.vocabulary
    for row in rows:
        check_shape(tokenizer, row.record, row.encoded)
        if (row.encoded.units is None) != (rows[0].encoded.units is None):
            raise broken(tokenizer, row.record, "units only for some records")
    tokens = np.concatenate([row.encoded.ids for row in rows] or [np.empty((0, vocabulary.n_fields), vocabulary.dtype)])
    if len(tokens) and ((tokens.min(axis=0) < 0) | (tokens.max(axis=0) >= vocabulary.n_ids)).any():
        for row in rows:
            check_ids(tokenizer, row.record, row.encoded)
    return tokens.astype(vocabulary.dtype, copy=False)


def numbers_of_rows(rows: Sequence[EncodedRow], tokenizer: Tokenizer[Any]) -> Float64[np.ndarray, "positions fields"]:
    """What the ordinal cells of all rows were rounded from; NaN elsewhere, and in variants that do not give them."""
    found = [np.empty((0, len(tokenizer.fields)))]
    for row in rows:
        own = row.encoded if row.variant else with_numbers(tokenizer, row.record, row.encoded)
        found.append(np.full(own.ids.shape, np.nan) if own.numbers is None else np.asarray(own.numbers, np.float64))
    return np.concatenate(found)


def offsets_of(lengths: Sequence[int]) -> Int[np.ndarray, "n_plus_1"]:
    """Where each of several things begins that stand one after the other, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
