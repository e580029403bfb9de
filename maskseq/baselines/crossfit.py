"""Weights of a mixture where no data are held out to fit them on: blocked cross-fitting of the training data.

Training data are cut into blocks, contiguous in the order of the file. Each block is asked about by methods that were
counted on the others, and the weights are fitted on the cells of all blocks (Bergmeir & Benítez 2012,
doi:10.1016/j.ins.2011.12.028; Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1). The methods are then those that are
counted on everything.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from maskseq.baselines.mixtures import CELLS, masked_cells
from maskseq.predict.blend import Blend, Gate
from maskseq.predict.experts.counted import Sequences, count
from maskseq.predict.experts.training_data import TrainingData, views_of
from maskseq.predict.protocol import Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded

FOLDS = 5
GUARD, GAPS = 512, 20
"""Positions on either side of a block that are counted by nobody, where a sequence is cut; at most one in so many."""


def cross_fitted(
    methods: Mapping[str, Predict],
    sequences: Sequences,
    tokenizer: Tokenizer[Any],
    *,
    periods: Sequence[int] = (),
    seed: int = 0,
) -> Blend | None:
    """The methods, which are counted on the sequences, weighted by what they answer when counted on a part of them.

    Methods that some blocks are too small for take no part in it. None where there is too little to cut.
    """
    vocabulary = tokenizer.vocabulary
    found = []
    for counted, requested in blocks(sequences, tokenizer):
        seen, cells, truth = masked_cells([Encoded(ids) for ids in requested], tokenizer, CELLS // FOLDS, seed)
        if not counted or not cells:
            return None
        alone = count(TrainingData.of(counted), tokenizer, periods=periods)
        methods = {name: predict for name, predict in methods.items() if name in alone}
        found.append((alone, seen, cells, truth))
    if not found or not methods:
        return None
    blends = [Blend({name: alone[name] for name in methods}, None, vocabulary) for alone, *_ in found]
    answers = [blend.answers(seen, cells) for blend, (_, seen, cells, _) in zip(blends, found, strict=True)]
    classes = [blend.situations(seen, cells) for blend, (_, seen, cells, _) in zip(blends, found, strict=True)]
    truths = np.concatenate([truth for *_, truth in found])
    gate = Gate.fit(np.concatenate(answers, axis=1), truths, np.concatenate(classes), blends[0].situations.n)
    return Blend(methods, gate, vocabulary)


def blocks(sequences: Sequences, tokenizer: Tokenizer[Any], n: int = FOLDS) -> Iterator[tuple[list[Any], list[Any]]]:
    """For each block, what the others hold, and what it holds itself.

    Of whole sequences, copies (also up to symmetries) together, where none is longer than a block; else cut.
    """
    lengths = np.array([len(ids) for ids in sequences], np.int64)
    total, begin = int(lengths.sum()), np.cumsum(lengths) - lengths
    if n * int(lengths.max(initial=0)) <= total:
        first: dict[bytes, int] = {}
        leader = [first.setdefault(_content(ids, tokenizer), i) for i, ids in enumerate(sequences)]
        block = ((2 * begin + lengths) * n // (2 * total))[leader].tolist()
        for which in range(n):
            sides: tuple[list[Any], list[Any]] = ([], [])
            for ids, its in zip(sequences, block, strict=True):
                sides[its == which].append(ids)
            yield sides
        return
    for which in range(n):
        start, stop = (np.clip(total * edge // n - begin, 0, lengths).tolist() for edge in (which, which + 1))
        counted, requested = [], []
        for ids, since, until in zip(sequences, start, stop, strict=True):
            gap = min(GUARD, len(ids) // GAPS) if since < until else 0
            requested.append(ids[since:until])
            counted += [ids[: max(since - gap, 0)], ids[until + gap :]] if since < until else [ids]
        yield [ids for ids in counted if len(ids)], [ids for ids in requested if len(ids)]


def _content(ids: Any, tokenizer: Tokenizer[Any]) -> bytes:
    """The same of sequences that are copies of each other, or images of copies."""
    return min(np.ascontiguousarray(view).tobytes() for view in views_of([ids], tokenizer))
