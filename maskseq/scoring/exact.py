"""The likelihood of a sequence by the chain rule: position after position, field after field, each given those before.

Unlike a pseudo-likelihood it counts every cell once, so that its bits compare with those of a compressor. An encoder
with a head of what comes next gives it in one pass; any other predictor of open sequences in a pass for each cell.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from maskseq.corpus.budget import reaching, within
from maskseq.masking.causal import asked_in_order
from maskseq.masking.open_prefixes import mask_tail
from maskseq.model.encoder import Encoder
from maskseq.predict.next import next_log_probs, run_causal
from maskseq.predict.protocol import Example, Predict
from maskseq.scoring.score import Score, requested_fields
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded

BATCH = 1 << 14
"""Positions that are seen together, about."""
BITS = np.float32(-1 / np.log(2))
HINT = "leave out --exact, for bits of cells that see both sides"


def exact_scores(
    model: Encoder,
    records: Iterable[tuple[str, Encoded]],
    *,
    tokenizer: Tokenizer[Any],
    context: int,
    fields: Sequence[str] = (),
    precision: Literal["bf16", "fp32"] = "fp32",
) -> Iterator[Score]:
    """Bits of every cell given all before it, by the head of what comes next: one pass, whatever the length.

    NaN where a cell is unknown, or known already by those before it. Of records longer than the context, each position
    sees at least the half of it.
    """
    columns = requested_fields(tokenizer, fields)
    for batch in reaching(records, lambda each: len(each[1]), BATCH):
        windows = [(i, *window) for i, (_, each) in enumerate(batch) for window in _windows(len(each), context)]
        bits = [np.full(each.ids.shape, np.nan, np.float32) for _, each in batch]
        asked = [_asked(each, tokenizer, columns) for _, each in batch]
        segments = [batch[i][1].ids[start:stop] for i, start, stop, _ in windows]
        for packed in run_causal(model, segments, batch_tokens=BATCH, precision=precision):
            wanted = []  # (token before, record, position, field)
            for number, begin in zip(packed.which, packed.starts, strict=True):
                i, start, stop, kept = windows[number]
                for position, field in np.argwhere(asked[i][kept:stop]).tolist():
                    place = kept + position - start
                    wanted.append((begin + place - 1 if place else -1, i, kept + position, field))
            cells = np.array(wanted, np.int64).reshape(-1, 4)
            for column in np.unique(cells[:, 3]).tolist():
                before, which, at, _ = cells[cells[:, 3] == column].T
                events = np.stack([batch[i][1].ids[p] for i, p in zip(which.tolist(), at.tolist(), strict=True)])
                found = next_log_probs(model, packed.states, before, events.astype(np.int64), column).cpu().numpy()
                for row, i, p in zip(found, which.tolist(), at.tolist(), strict=True):
                    bits[i][p, column] = row[batch[i][1].ids[p, column]] * BITS
        for (key, each), found in zip(batch, bits, strict=True):
            yield Score(key, found, each.ids)


def exact_by_prefixes(
    predict: Predict,
    records: Iterable[tuple[str, Encoded]],
    *,
    tokenizer: Tokenizer[Any],
    context: int,
    fields: Sequence[str] = (),
) -> Iterator[Score]:
    """The same by any predictor of open sequences: every cell is the last of a prefix of its own."""
    columns = requested_fields(tokenizer, fields)
    for key, encoded in records:
        asked = _asked(encoded, tokenizer, columns)
        bits = np.full(encoded.ids.shape, np.nan, np.float32)
        prefixes = _prefixes(key, encoded, asked, tokenizer, context)
        for batch in within(prefixes, (lambda each: len(each[0].ids), BATCH)):
            cells = [np.array([[position - example.start, field]]) for example, position, field in batch]
            answers = predict([example for example, _, _ in batch], cells)
            for (_, position, field), answer in zip(batch, answers, strict=True):
                bits[position, field] = np.asarray(answer)[0, encoded.ids[position, field]] * BITS
        yield Score(key, bits, encoded.ids)


def _prefixes(
    key: str, encoded: Encoded, asked: Bool[np.ndarray, "length fields"], tokenizer: Tokenizer[Any], context: int
) -> Iterator[tuple[Example, int, int]]:
    """For each cell that is asked, all that is before it, and its position and field."""
    for position in np.flatnonzero(asked.any(axis=1)).tolist():
        start = max(position + 1 - context, 0)
        prefix = encoded.cut(start, position + 1)
        tail = mask_tail(prefix.ids, tokenizer.units_of(prefix), tokenizer.fields, positions=1).masked
        for field in np.flatnonzero(asked[position]).tolist():
            masked = tail & (np.arange(tail.shape[1]) >= field)
            yield Example(tokenizer.vocabulary.masked(prefix.ids, masked), key=key, start=start), position, field


def _asked(
    encoded: Encoded, tokenizer: Tokenizer[Any], columns: Bool[np.ndarray, " fields"]
) -> Bool[np.ndarray, "length fields"]:
    """The cells of a record that have a value which those before it do not give away."""
    new = asked_in_order(encoded.ids, tokenizer.units_of(encoded), tokenizer.fields, begins=True, hint=HINT)
    return np.asarray(new & tokenizer.vocabulary.askable(encoded.ids) & columns)


def _windows(length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """Where each window begins and ends, and from where on its positions are scored."""
    yield 0, min(length, context), 0
    step = max(context // 2, 1)
    for kept in range(context, length, step):
        stop = min(kept + step, length)
        yield stop - context, stop, kept
