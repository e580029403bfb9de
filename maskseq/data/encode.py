"""Records to the rows of a part: encoded, with their variants, and checked for what a plug-in promised."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from maskseq.data.hashing import hash64
from maskseq.errors import DataError, UsageError
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Record


def encode_records(
    records: Sequence[Record | DataError], tokenizer: Tokenizer[Any], on_error: str
) -> tuple[list[Record], list[Encoded], list[str]]:
    """The records that can be encoded, and why others cannot: together, and one by one where something is wrong."""
    readable = [record for record in records if not isinstance(record, DataError)]
    if len(readable) == len(records):
        with suppress(ValueError):
            encoded = tokenizer.encode_many(readable)
            if all(map(len, encoded)):
                return readable, encoded, []
    kept, encoded, skipped = [], [], []
    for record in records:
        if isinstance(record, DataError):
            skipped.append(str(record))
            continue
        try:
            result = tokenizer.encode(record)
            if not len(result):
                raise ValueError("there is nothing in it to tokenize")
        except UsageError:  # not the record's fault
            raise
        except ValueError as error:
            if on_error == "skip":
                skipped.append(f"{record.key}: {error}")
                continue
            if isinstance(error, DataError):
                raise
            raise DataError(f"record {record.key!r}", str(error)) from error
        encoded.append(result)
        kept.append(record)
    return kept, encoded, skipped


class Row(NamedTuple):
    """A sequence of a part: a record's own, or that of a variant."""

    record: Record
    encoded: Encoded
    variant: int = 0
    """0 for the record's own; n for the n-th variant, -n where that one runs backwards."""
    also: int | None = None
    """For a variant that reads the record otherwise: the hash of what the tokenizer itself makes of that reading."""


def with_variants(
    records: Sequence[Record], encoded: Sequence[Encoded], tokenizer: Tokenizer[Any], n_variants: int
) -> list[Row]:
    """The records' own sequences, behind each those of its first variants."""
    if not n_variants or type(tokenizer).variants is Tokenizer.variants:
        return [Row(record, own) for record, own in zip(records, encoded, strict=True)]
    rows, dtype = [], tokenizer.vocabulary.dtype
    for record, own in zip(records, encoded, strict=True):
        rows.append(Row(record, own))
        for number, variant in enumerate(islice(tokenizer.variants(record), n_variants), 1):
            also = None
            if variant.record is not record:
                also = hash64(tokenizer.encode(variant.record).ids.astype(dtype).data)
            seen = variant.tokenizer.encode(variant.record)
            rows.append(Row(record, seen, -number if variant.reverse else number, also))
    return rows


def checked_tokens(rows: Sequence[Row], tokenizer: Tokenizer[Any]) -> Integer[np.ndarray, "positions fields"]:
    """All ids, after checking what the plug-in promised of them."""
    vocabulary, name = tokenizer.vocabulary, type(tokenizer).__name__

    def broken(row: Row, problem: str) -> UsageError:
        return UsageError(f"{name} made of record {row.record.key!r} {problem}: a bug in the tokenizer")

    for row in rows:
        ids, weights = row.encoded.ids, row.encoded.weights
        if ids.ndim != 2 or ids.shape[1] != vocabulary.n_fields:
            raise broken(row, f"ids of shape {ids.shape} instead of [length, {vocabulary.n_fields}]")
        if weights is not None and (weights.shape != ids.shape or not (weights >= 0).all() or np.isinf(weights).any()):
            raise broken(row, "loss weights that are not finite, not >= 0, or not of the ids' shape")
        units = row.encoded.units
        if (units is None) != (rows[0].encoded.units is None) or (
            units is not None and (units.shape != (*ids.shape, 2) or units.dtype.kind not in "iu")
        ):
            raise broken(row, "units that are not integers [length, fields, 2], or only for some records")
    tokens = np.concatenate([row.encoded.ids for row in rows] or [np.empty((0, vocabulary.n_fields), vocabulary.dtype)])
    for field, n_rows in enumerate(vocabulary.n_rows):
        if len(tokens) and not 0 <= tokens[:, field].min() <= tokens[:, field].max() < n_rows:
            at = int(np.argmax((tokens[:, field] < 0) | (tokens[:, field] >= n_rows)))
            offsets = offsets_of([len(row.encoded) for row in rows])
            index = int(np.searchsorted(offsets, at, side="right")) - 1
            row, first = rows[index], int(offsets[index])
            known = f"field {vocabulary.names[field]!r} has the ids 0 to {n_rows - 1}"
            raise broken(row, f"id {tokens[at, field]} at position {at - first}, but {known}")
    return tokens.astype(vocabulary.dtype, copy=False)


def offsets_of(lengths: Sequence[int]) -> Int[np.ndarray, "n_plus_1"]:
    """Where each of several things begins that stand one after the other, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
