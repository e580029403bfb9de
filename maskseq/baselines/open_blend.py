"""Experts of what comes next, and a gate of their own.

A run's gate is fitted on holes whose neighbours are known on both sides, and experts that read the margin as the end of
a sequence are wrong where it is open. So what looks to the left only is weighed beside the encoder, on prefixes of
selection data: how each event would have been foreseen.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool

from maskseq.baselines.gating import PARTS, SELECTED, HeldOutCells, fit_gate
from maskseq.corpus.reader import Corpus
from maskseq.masking.open_prefixes import mask_tail
from maskseq.predict.blend import ENCODER, Blend
from maskseq.predict.experts.left_only import left_only
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.experts.remembered import Remembered
from maskseq.predict.experts.training_data import training_data
from maskseq.predict.protocol import Example, Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import END, Encoded, Progress

PREFIXES = 1200
"""Prefixes of selection data that a gate is fitted on, at most."""
ROOM, FEW = 1 << 17, 100
"""Positions that all of them may have, and how many there are in any case."""


def open_experts(corpus: Corpus, *, selection: bool = True) -> dict[str, Predict]:
    """Tables that look to the left only, the best guess first; each leaves out the record that it is asked about."""
    data = training_data(corpus, PARTS if selection else ("train",))
    tokenizer = corpus.tokenizer
    return left_only(data.views(tokenizer), tokenizer, records=OwnRecords(data, tokenizer))


def open_blend(
    corpus: Corpus,
    encoder: Predict | None,
    *,
    context: int,
    prefixes: int = PREFIXES,
    seed: int = 0,
    selection: bool = True,
    counts_selection: bool = True,
    on_progress: Progress = lambda done, of: None,
) -> tuple[Predict, tuple[str, ...]]:
    """What predicts the next position, and the names of the experts that have a say, the encoder last.

    Weights are fitted on prefixes of selection data while tables are counted on the training part alone; afterwards on
    both, but where they are compared with methods that count the training part (`counts_selection` is false). Without
    such data, or where it is judged (`selection` is false), the first table is taken alone, or all are
    worth the same where there is an encoder.
    """
    tokenizer, vocabulary = corpus.tokenizer, corpus.tokenizer.vocabulary
    own: dict[str, Predict] = {} if encoder is None else {ENCODER: Remembered(encoder)}
    counted = open_experts(corpus, selection=False)
    held_out = open_cells(corpus, context=context, most=prefixes if selection else 0, seed=seed)
    if not len(held_out.truth) and encoder is None:
        name = next(iter(counted))
        return counted[name], (name,)
    chosen = fit_gate(counted | own, held_out, tokenizer, on_progress=on_progress)
    weighed: list[bool] = np.asarray(chosen.gate.weights.any(axis=0)).tolist()
    used = tuple(name for name, some in zip(counted | own, weighed, strict=True) if some)
    tables = open_experts(corpus, selection=selection and counts_selection)
    return Blend(tables | own, chosen.gate, vocabulary), used


def open_cells(corpus: Corpus, *, context: int, most: int = PREFIXES, seed: int = 0) -> HeldOutCells:
    """The last positions of prefixes of selection data: the fields with the mark of the end first, given nothing of the
    position, then the others, given these.
    """
    tokenizer = corpus.tokenizer
    ends = np.array([END in each.controls for each in tokenizer.fields])
    records, room = [], SELECTED
    for sequence, encoded in corpus.each("selection"):
        if room <= 0:
            break
        room -= len(encoded)
        records.append((corpus.key(sequence), int(corpus.starts[sequence]), encoded))
    stops = np.cumsum([0, *(len(each) for _, _, each in records)])
    rng = np.random.default_rng(seed)
    number = rng.permutation(len(records))
    places = rng.permutation(stops[-1])[: min(most, max(ROOM // context, FEW))]
    examples: list[Example] = []
    cells, truths, regions = [], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for place in places.tolist():
        record = int(np.searchsorted(stops, place, side="right")) - 1
        stop = place - int(stops[record]) + 1
        key, first, encoded = records[record]
        begin = max(stop - context, 0)
        for seen, wanted in _questions(encoded.cut(begin, stop), tokenizer, ends):
            examples.append(Example(seen, key=key, start=first + begin))
            cells.append(wanted)
            truths.append(encoded.ids[begin:stop][tuple(wanted.T)].astype(np.int64))
            regions.append(np.full(len(wanted), number[record]))
    return HeldOutCells(examples, cells, np.concatenate(truths), np.concatenate(regions))


def _questions(
    prefix: Encoded, tokenizer: Tokenizer[Any], ends: Bool[np.ndarray, " fields"]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is seen of a prefix, and which cells of its last position are asked for."""
    masked = mask_tail(prefix.ids, tokenizer.units_of(prefix), tokenizer.fields, positions=1).masked
    asked = masked & prefix.scorable(tokenizer.vocabulary.askable(prefix.ids))
    asked[:-1] = False
    found = []
    for fields, known in ((ends, ~np.ones_like(ends)), (~ends, ends)):
        wanted = np.argwhere(asked & fields)
        if len(wanted) and not (known.any() and tokenizer.is_end(prefix.ids[-1])):
            found.append((tokenizer.vocabulary.masked(prefix.ids, masked & ~known), wanted))
    return found
