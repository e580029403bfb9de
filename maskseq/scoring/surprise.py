"""Scores as tables: of records, of positions, of variants. What surprises a model most is where to look first."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from maskseq.scoring.score import Score
from maskseq.scoring.usual import Usual
from maskseq.scoring.variants import VariantScore
from maskseq.storage.tabular import Columns

RECORD_COLUMNS: Columns = {
    "key": str,
    "odd": float,
    "odd_part": str,
    "odd_position": int,
    "cells": int,
    "bits": float,
    "max_bits": float,
    "max_position": int,
    "max_field": str,
    "fields": str,
    "parts": str,
}
"""How odd a record is (1: as usual), by which part, and where its oddest cell is. Bits: the mean over scored cells; the
most surprising of them, and where it is; each field's mean. How odd each part is."""

EXACT_COLUMNS: Columns = {
    "key": str,
    "log_likelihood": float,
    "cells": int,
    "bits": float,
    "max_bits": float,
    "max_position": int,
    "max_field": str,
    "fields": str,
}
"""By the chain rule: nats of the whole record; the rest as in `RECORD_COLUMNS`, of cells given those before them."""


def exact_row(score: Score, fields: Sequence[str]) -> dict[str, Any]:
    """How probable a record is, and where it is least so."""
    row = record_row(score, fields) | {"log_likelihood": score.log_likelihood}
    return {name: row[name] for name in EXACT_COLUMNS}


def record_row(score: Score, fields: Sequence[str], usual: Usual | None = None) -> dict[str, Any]:
    """How odd and how surprising a record is, and where most; its fields and parts, the most surprising first."""
    row: dict[str, Any] = dict.fromkeys(RECORD_COLUMNS) | {"key": score.key, "cells": score.n_cells, "fields": {}}
    row["parts"] = {}
    scored = ~np.isnan(score.bits)
    if usual and scored.any():
        parts = usual.parts(score)
        row |= {
            "odd": usual.odd(parts),
            "odd_part": next(iter(parts)),
            "parts": {k: round(v, 4) for k, v in parts.items()},
        }
        row["odd_position"] = int(np.unravel_index(np.nanargmax(usual.cells(score)), score.bits.shape)[0]) + 1
    if not scored.any():
        return row
    position, column = np.unravel_index(np.nanargmax(score.bits), score.bits.shape)
    counts = scored.sum(axis=0)
    means = np.divide(
        np.nansum(score.bits, axis=0, dtype=np.float64), counts, where=counts > 0, out=np.zeros(len(counts))
    )
    reported = {fields[i]: round(float(means[i]), 4) for i in np.argsort(-means, kind="stable").tolist() if counts[i]}
    return row | {
        "bits": score.mean_bits,
        "max_bits": float(score.bits[position, column]),
        "max_position": int(position) + 1,
        "max_field": fields[int(column)],
        "fields": reported,
    }


def position_columns(fields: Sequence[str]) -> Columns:
    """How odd a position is, and by which field; the bits of each field, their sum, and the field with most of them."""
    first = {"key": str, "position": int, "odd": float, "odd_field": str, "bits": float, "top_field": str}
    return first | {f"bits:{name}": float for name in fields}


def position_rows(score: Score, fields: Sequence[str], usual: Usual | None = None) -> Iterator[dict[str, Any]]:
    """A row for each position of a record."""
    odd = np.full(score.bits.shape, np.nan) if usual is None else usual.cells(score)
    for position, bits in enumerate(score.bits.tolist(), start=1):
        known = {name: value for name, value in zip(fields, bits, strict=True) if value == value}
        ratios = {name: value for name, value in zip(fields, odd[position - 1].tolist(), strict=True) if value == value}
        yield {
            "key": score.key,
            "position": position,
            "odd": max(ratios.values(), default=None),
            "odd_field": max(ratios, key=lambda name: ratios[name], default=None),
            "bits": sum(known.values()) if known else None,
            "top_field": max(known, key=lambda name: known[name]) if known else None,
        } | {f"bits:{name}": known.get(name) for name in fields}


def variant_columns(columns: Sequence[str]) -> Columns:
    """What the file says of a variant, then nats (of flanks where the length changes), or why there are none."""
    numbers = ("log_ratio", "log_before", "log_after", "flank_log_ratio")
    return dict.fromkeys(columns, str) | dict.fromkeys(numbers, float) | {"reason": str}


def variant_row(score: VariantScore, columns: Sequence[str]) -> dict[str, Any]:
    """A variant and its score; empty where there is none."""
    numbers = {"log_ratio": score.log_ratio, "flank_log_ratio": score.flank_log_ratio}
    numbers |= {} if score.flanks else {"log_before": score.before, "log_after": score.after}
    row = dict.fromkeys(variant_columns(columns)) | dict(zip(columns, score.variant.columns, strict=True))
    return row | {name: value for name, value in numbers.items() if value == value} | {"reason": score.reason or None}
