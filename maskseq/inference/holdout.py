"""Holes made on purpose in known records: what calibration is fitted on and fills are judged by."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.inference.chunks import Task, fill_records, key_number
from maskseq.inference.fill import Fill, Predict
from maskseq.inference.infill import InfillConfig
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded
from maskseq.units import RawUnits


def held_out_fills(
    predict: Predict,
    records: Iterable[tuple[str, Encoded]],
    config: InfillConfig,
    *,
    tokenizer: Tokenizer[Any],
    context: int,
    lengths: Sequence[int] = (1, 2, 4, 8, 16, 32),
    share: float = 0.1,
) -> Iterator[tuple[Fill, Integer[np.ndarray, "length fields"]]]:
    """Hide spans of keys and encoded records, fill them as `config` says, and give each fill with the truth."""
    truths: list[Integer[np.ndarray, "length fields"]] = []

    def tasks() -> Iterator[Task]:
        for key, encoded in records:
            rng = np.random.default_rng((config.seed, key_number(key)))
            holes = hide_spans(encoded.ids, tokenizer, rng, lengths=lengths, share=share)
            truths.append(encoded.ids)
            yield Task(key, encoded, holes)

    has_grammar = type(tokenizer).allowed is not Tokenizer.allowed
    for filled in fill_records(
        predict,
        tasks(),
        config,
        vocabulary=tokenizer.vocabulary,
        context=context,
        grammar=tokenizer.allowed if has_grammar else None,
    ):
        yield filled.fill, truths.pop(0)


def hide_spans(
    ids: Integer[np.ndarray, "length fields"],
    tokenizer: Tokenizer[Any],
    rng: np.random.Generator,
    *,
    lengths: Sequence[int],
    share: float,
) -> Bool[np.ndarray, "length fields"]:
    """Hide known cells in spans of these lengths, each length about as many cells, up to a share of the positions.

    A span takes all fields or, as often, one of them; spans of a field never touch. Cells that would give a hidden one
    away are hidden with it.
    """
    length, n_fields = ids.shape
    known = tokenizer.vocabulary.known(ids)
    wanted = np.zeros(ids.shape, bool)
    if not length:
        return wanted
    room = max(share * length, 1)
    fitting = np.array([n for n in lengths if n <= max(length // 2, 1)] or [1])
    tries = 4 * round(room)  # enough to fill the share, or nearly
    spans = rng.choice(fitting, size=tries, p=1 / fitting / (1 / fitting).sum())
    starts = rng.integers(length - spans + 1)
    columns = np.where(rng.random(tries) < 0.5, rng.integers(n_fields, size=tries), -1)
    for span, start, column in zip(spans.tolist(), starts.tolist(), columns.tolist(), strict=True):
        fields = slice(None) if column < 0 else slice(column, column + 1)
        free = (
            known[start : start + span, fields].all() and not wanted[max(start - 1, 0) : start + span + 1, fields].any()
        )
        if free and span <= room:
            wanted[start : start + span, fields] = True
            room -= span
    units = RawUnits.of(tokenizer.units(ids), tokenizer.fields)
    return np.asarray(units.cells(units.units(wanted)) & known)
