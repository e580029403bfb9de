"""How much data there is, and how long a first training of them is: what `maskseq init` chooses in every domain."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskseq.corpus.intake import Intake, OnError
from maskseq.errors import MaskseqError
from maskseq.formats import Format
from maskseq.survey import Size

ENOUGH = Size(records=100, units=2_000_000, longest=2_000)
"""Beyond these no choice depends on how much more there is."""
MOST_COUNTED = 200_000_000
"""Raw units after which files are not read on, whatever they are."""
EPOCHS, MOST_EPOCHS = 30, 50
FEWEST_TOKENS, MOST_TOKENS = 200_000, 4_000_000
"""How long a first training is: minutes on a CPU. Little data are seen `MOST_EPOCHS` times at most."""
ROWS_AN_EPOCH = 64


def counted(files: Sequence[Path], reader: Format[Any], on_error: OnError) -> Size:
    """The size of the files, read until it is `ENOUGH`; a record that cannot be read ends it, and training names it."""
    records = units = longest = 0
    try:
        with warnings.catch_warnings(action="ignore"):  # those of the records that are looked at were shown
            for path in files:
                with Intake(reader, path, on_error=on_error, warns=False) as intake:
                    for record in intake:
                        records, units, longest = records + 1, units + len(record), max(longest, len(record))
                        enough = records >= ENOUGH.records and longest >= ENOUGH.longest and units >= ENOUGH.units
                        if enough or units >= MOST_COUNTED:
                            return Size(records=records, units=units, longest=longest)
    except MaskseqError:
        pass
    return Size(records=records, units=units, longest=longest)


def sizes(size: Size, positions_a_unit: float, context: int) -> dict[str, dict[str, Any]]:
    """Context, rows and length of a first training; `context` is what a piece needs to be understood."""
    total, longest = round(size.units * positions_a_unit), round(size.longest * positions_a_unit)
    context = min(context, -(-longest // 8) * 8)
    if size.records == 1:  # several pieces, one of them held out
        context = max(min(context, 1 << max((total // 8).bit_length() - 1, 0)), 8)
    rows = [1 << power for power in range(8, 13) if ROWS_AN_EPOCH << power <= total]
    share = 0.05 if total > 1_000_000 else 0.1
    trained = (1 - 2 * share) * total
    tokens = min(max(EPOCHS * trained, min(FEWEST_TOKENS, MOST_EPOCHS * trained)), MOST_TOKENS)
    return {
        "data": {"split": dict.fromkeys(("selection", "test"), share)},
        "model": {"preset": "nano"},
        "packing": {"row_tokens": max(context, max(rows, default=256)), "context": context},
        "optimizer": {"name": "stable_adamw", "lr": 2e-3},
        "schedule": {"decay": 0.3},
        "training": {"tokens": max(int(round(tokens, -3)), 1000), "rows": 1},
    }
