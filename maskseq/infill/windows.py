"""Fill the holes of whole records, of any length, streaming: only windows around holes are ever run.

Chunks that do not see one another (`window_plan.py` decides which) run together, and so do those of different records.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Integer

from maskseq.constraints import Constraint, Grammar
from maskseq.corpus.budget import reaching, within
from maskseq.errors import UsageError
from maskseq.infill.journal import Journal, read_fills, write_fills
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.infill.window_plan import Filled, Task, Window, WindowPlan, key_number
from maskseq.predict.protocol import Example, Fill, Predict, Rejects
from maskseq.types import Encoded, LegalCells, Vocabulary

BATCH_PROBABILITIES = 1 << 24
"""Numbers that the distributions of one batch may be."""

WindowSample = tuple[WindowPlan, Window, int]
"""A chunk of a job, and a sample of it."""
WindowInput = tuple[Encoded, Bool[np.ndarray, "_ _"]]
"""What the model sees of a part, and which cells of it are asked for."""


def fill_records(
    predict: Predict,
    tasks: Iterable[Task],
    config: InfillConfig,
    *,
    vocabulary: Vocabulary,
    context: int,
    grammar: Callable[[Integer[np.ndarray, "length fields"]], LegalCells | None] | None = None,
    fill_long_holes: bool = False,
    batch_positions: int = 1 << 18,
    journal: Journal | None = None,
) -> Iterator[Filled]:
    """Fill one record after the other, about `batch_positions` at a time; results do not depend on that number.

    `context` is the longest stretch that the model was trained on. `grammar` is `tokenizer.allowed` where the tokenizer
    defines one; it is asked about windows. A stretch of more than context/2 positions of which no cell is known is left
    and listed, unless `fill_long_holes`: far from its ends the model then knows only what it has made up itself.
    What a `journal` has on record is not done again.
    """
    if context < 2:
        raise UsageError(
            f"context is {context}; a model with room for at least 2 positions is needed", code="bad-option"
        )
    jobs = (WindowPlan(task, vocabulary, config.samples, context, fill_long_holes) for task in tasks)

    def positions(job: WindowPlan) -> int:
        return config.samples * (job.context * len(job.chunks) + 1)

    for together in reaching(jobs, positions, batch_positions + 1):
        yield from _run(predict, together, config, vocabulary, grammar, batch_positions, journal)


def _run(
    predict: Predict,
    jobs: list[WindowPlan],
    config: InfillConfig,
    vocabulary: Vocabulary,
    grammar: Callable[[Integer[np.ndarray, "length fields"]], LegalCells | None] | None,
    batch_positions: int,
    journal: Journal | None,
) -> Iterator[Filled]:
    """All jobs, a wave at a time: what a wave fills is written when all of it is done."""
    one = replace(config, samples=1)
    rules: list[Constraint] = [Grammar(grammar)] if grammar else []
    n_waves = max((chunk.wave + 1 for job in jobs for chunk in job.chunks), default=0)
    for wave in range(n_waves):
        parts = [
            (job, chunk, sample)
            for job in jobs
            for chunk in job.chunks
            if chunk.wave == wave
            for sample in range(config.samples)
        ]
        done: list[Fill] = []
        for batch in _batches(parts, batch_positions, max(vocabulary.n_outputs)):
            windows = [job.window(chunk, sample) for job, chunk, sample in batch]
            keys = [(key_number(job.task.key), chunk.origin, sample) for job, chunk, sample in batch]
            examples = [
                Example(encoded.ids, encoded.numbers, job.task.key, job.begins(chunk), job.given(chunk))
                for (job, chunk, _), (encoded, _) in zip(batch, windows, strict=True)
            ]
            if isinstance(predict, Rejects):
                for (job, chunk, _), example in zip(batch, examples, strict=True):
                    job.reject(chunk, predict.rejected(example))
            place = None if journal is None else journal.place(_inputs(batch, windows, keys))
            fills = None if place is None else read_fills(place)
            if fills is None:
                fills = infill(
                    predict,
                    examples,
                    [holes for _, holes in windows],
                    one,
                    vocabulary=vocabulary,
                    keys=keys,
                    legal=[encoded.legal for encoded, _ in windows],
                    constraints=[job.constraints(chunk, sample) + rules for job, chunk, sample in batch],
                    names=[f"record {job.task.key!r}" for job, _, _ in batch],
                )
                if place is not None:
                    write_fills(place, fills)
            done += fills
        for (job, chunk, sample), each in zip(parts, done, strict=True):
            job.values[sample, chunk.first : chunk.last] = each.values[0]
            if each.numbers is not None:
                job.numbers[sample, chunk.first : chunk.last] = each.numbers[0]
            job.fills[sample].append(each.shifted(chunk.start))
    for job in jobs:
        yield job.result()


def _batches(parts: list[WindowSample], batch_positions: int, n_outputs: int) -> Iterator[list[WindowSample]]:
    """Parts that are run together: as many as memory has room for, of positions and of probabilities."""
    return within(
        parts,
        (lambda part: part[0].context, batch_positions),
        (lambda part: part[1].last - part[1].first, BATCH_PROBABILITIES // n_outputs),
    )


def _inputs(
    batch: list[WindowSample],
    windows: list[WindowInput],
    keys: list[tuple[int, int, int]],
) -> list[np.ndarray | None]:
    """All that decides the fills of a batch, but for what the journal belongs to."""
    inputs: list[np.ndarray | None] = [np.array(keys, dtype=np.uint64)]
    for (job, _, sample), (encoded, holes) in zip(batch, windows, strict=True):
        legal = encoded.legal
        inputs += [encoded.ids, holes, *((legal.cells, legal.allowed) if legal else (None,))]
        if encoded.numbers is not None:
            inputs.append(encoded.numbers)
        if job.rules:  # these see the whole record
            inputs += [job.masked, job.values[sample]]
    return inputs
