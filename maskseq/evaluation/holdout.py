"""Holes made on purpose in known records: what calibration is fitted on and fills are judged by."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.calibration.fit import fit_calibration
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.window_plan import Task, key_number
from maskseq.infill.windows import fill_records
from maskseq.masking.units import raw_units
from maskseq.predict.calibrated import Calibration
from maskseq.predict.protocol import Fill, Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Progress

MAX_POSITIONS = 1 << 22
MASKED_SHARE = 0.2
"""Of the positions of held-out data, what calibration hides at a time."""
MAX_PROBABILITIES = 1 << 25
"""Numbers that calibration holds in memory, in each of two tables."""
MAX_ROUNDS = 50
"""How often the same pieces may be used, each time with other holes."""


def held_out_fills(
    predict: Predict,
    records: Iterable[tuple[str, Encoded]],
    config: InfillConfig,
    *,
    tokenizer: Tokenizer[Any],
    context: int,
    lengths: Sequence[int] = (1, 2, 4, 8, 16, 32),
    share: float = 0.1,
    batch_positions: int = 1 << 18,
) -> Iterator[tuple[Fill, Integer[np.ndarray, "length fields"]]]:
    """Mask spans of keys and encoded records, fill them as `config` says, and give each fill with the truth."""

    def tasks() -> Iterator[Task]:
        for key, encoded in records:
            rng = np.random.default_rng((config.seed, key_number(key)))
            masked = mask_spans(encoded, tokenizer, rng, lengths=lengths, share=share)
            requested = encoded.scorable(masked)
            seen = replace(encoded, ids=tokenizer.vocabulary.masked(encoded.ids, masked & ~requested))
            yield Task(key, seen, requested, payload=encoded.ids)

    for filled in fill_records(
        predict,
        tasks(),
        config,
        vocabulary=tokenizer.vocabulary,
        context=context,
        grammar=tokenizer.allowed if tokenizer.defines("allowed") else None,
        batch_positions=batch_positions,
    ):
        yield filled.fill, filled.task.payload


def segments_of(
    records: Iterable[tuple[str, Encoded]], *, context: int, cells: int, share: float, seed: int
) -> tuple[list[tuple[str, Encoded]], int]:
    """Pieces of these records to mask a `share` of, chosen at random among the first `MAX_POSITIONS` positions.

    And how often to use all of them, each time with other holes, for about so many cells.
    """
    segments: list[tuple[str, Encoded]] = []
    room = MAX_POSITIONS
    for key, encoded in records:
        starts = range(0, len(encoded), context)
        segments += [(f"{key}:{start}", encoded.cut(start, start + context)) for start in starts]
        room -= len(encoded)
        if room <= 0:
            break
    positions = sum(len(segment) for _, segment in segments)
    wanted = min(len(segments), 1 + int(cells / share * len(segments) / max(positions, 1)))
    chosen = [segments[i] for i in np.random.default_rng(seed).permutation(len(segments))[:wanted].tolist()]
    rounds = cells / share / max(sum(len(segment) for _, segment in chosen), 1)
    return chosen, min(max(round(rounds), 1), MAX_ROUNDS)


def calibrate_on(
    predict: Predict,
    records: Iterable[tuple[str, Encoded]],
    config: InfillConfig,
    *,
    tokenizer: Tokenizer[Any],
    context: int,
    cells: int,
    on_progress: Progress = lambda done, of: None,
) -> Calibration:
    """Mask about `cells` cells of known records, fill them, and fit a calibration on the result."""
    cells = min(cells, max(MAX_PROBABILITIES // max(tokenizer.vocabulary.n_outputs), 1000))
    n_fields = tokenizer.vocabulary.n_fields - len(tokenizer.vocabulary.given)
    a_position = (1 + n_fields) / 2  # spans are of one field or, as often, of all
    segments, rounds = segments_of(
        records, context=context, cells=round(cells / a_position), share=MASKED_SHARE, seed=config.seed
    )
    again = ((f"{key}#{number}", segment) for number in range(rounds) for key, segment in segments)

    def fills() -> Iterator[tuple[Fill, Integer[np.ndarray, "length fields"]]]:
        done = 0
        for fill, truth in held_out_fills(
            predict, again, config, tokenizer=tokenizer, context=context, share=MASKED_SHARE, batch_positions=1 << 15
        ):
            done += len(fill.cells)
            on_progress(done, cells)
            yield fill, truth

    return fit_calibration(fills(), centres=tokenizer.vocabulary.centres, n_records=max(len(segments), 1))


def mask_spans(
    encoded: Encoded,
    tokenizer: Tokenizer[Any],
    rng: np.random.Generator,
    *,
    lengths: Sequence[int],
    share: float,
) -> Bool[np.ndarray, "length fields"]:
    """Mask known cells in spans of these lengths, each length about as many cells, up to a share of the positions.

    A span takes all fields or, as often, one of them; spans of a field never touch. Cells that would give a masked one
    away are masked with it, also those of weight 0, which are context that is not asked about.
    """
    length, n_fields = encoded.ids.shape
    known = tokenizer.vocabulary.askable(encoded.ids)
    scorable = encoded.scorable(known)
    free_of_all = scorable | np.isin(np.arange(n_fields), tokenizer.vocabulary.given)  # a span passes given cells over
    wanted = np.zeros(known.shape, bool)
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
            free_of_all[start : start + span, fields].all()
            and scorable[start : start + span, fields].any()
            and not wanted[max(start - 1, 0) : start + span + 1, fields].any()
        )
        if free and span <= room:
            wanted[start : start + span, fields] = True
            room -= span
    units = raw_units(tokenizer, encoded)
    return np.asarray(units.widened(wanted & scorable) & known)
