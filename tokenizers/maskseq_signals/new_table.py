"""A table of a recording that was read from none: its lines, with times."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from maskseq_signals.cells import number_text, quoted
from maskseq_signals.recording import Recording


def are_stretches(recordings: Sequence[Recording]) -> bool:
    """Whether these are one recording, or its stretches in order of time."""
    channels = {record.names for record in recordings}
    timed = all(record.rate and record.times is None for record in recordings)
    ends = [(record.start, record.start + len(record) / (record.rate or 1)) for record in recordings]
    after = all(start > end for (_, end), (start, _) in pairwise(ends))
    return len(recordings) == 1 or (len(channels) == 1 and timed and after)


def new_lines(recordings: Sequence[Recording], delimiter: str, decimal: str) -> list[str]:
    """With their times; else the seconds on their clock, if their rate is known, or the number of each step."""
    first = recordings[0]
    rows = [["time" if first.times or first.rate else "step", *first.names]]
    for record in recordings:
        times = record.times or (_seconds(record, record.rate) if record.rate else map(str, range(len(record))))
        for time, values in zip(times, record.channels.tolist(), strict=True):
            texts = (number_text(v, d, decimal=decimal) for v, d in zip(values, record.decimals, strict=True))
            rows.append([time, *texts])
    return [delimiter.join(quoted(cell, delimiter) for cell in row) + "\n" for row in rows]


def _seconds(record: Recording, rate: float) -> list[str]:
    """When each step was, with digits enough to tell it from the next."""
    times = (record.start + np.arange(len(record)) / rate).tolist()
    digits = max(9, len(str(int(abs(times[-1])))) + max(math.ceil(math.log10(rate)), 0) + 2)
    return [f"{time:.{digits}g}" for time in times]
