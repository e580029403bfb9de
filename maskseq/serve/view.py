"""What stands around fills, for a page to show: values of all fields in a stretch around each group of filled cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from maskseq.infill.filling import FilledRecord
from maskseq.tokenizer import Tokenizer
from maskseq.types import Field

AROUND = 24
"""Positions that are shown on either side."""
MOST = 4000
"""Positions of a record that are shown."""


def around(each: FilledRecord, tokenizer: Tokenizer[Any], fixed: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Stretches of a record around its fills and positions that were fixed; the first sample is filled in."""
    at = np.unique([*each.filled.fill.cells[:, 0].tolist(), *fixed])
    if not len(at):
        return []
    ids = each.filled.fill.written(each.before.ids)
    shown, room = [], MOST
    for group in np.split(at, np.flatnonzero(np.diff(at) > 2 * AROUND) + 1):
        start, stop = max(int(group[0]) - AROUND, 0), min(int(group[-1]) + 1 + AROUND, len(ids))
        room -= stop - start
        if room < 0:
            break
        fields = {
            field.name: [_shown(field, token) for token in ids[start:stop, column].tolist()]
            for column, field in enumerate(tokenizer.fields)
        }
        numbers = [field.name for field in tokenizer.fields if field.centres is not None]
        shown.append({"key": each.filled.task.key, "start": start, "fields": fields, "numbers": numbers})
    return shown


def _shown(field: Field, token: int) -> str | float | None:
    """A value as text, or as the number that it stands for; None where a field of numbers has none."""
    if field.centres is None:
        return field.token(token)
    return field.centres[token] if token < len(field.centres) else None
