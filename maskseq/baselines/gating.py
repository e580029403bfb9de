"""What a run predicts with besides its encoder: experts counted on its corpus, and the gate that weighs them.

The gate is fitted on held-out records while the experts are counted on the training part alone; afterwards they are
counted on the held-out part as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Int, Integer

from maskseq.contract.own import found as own_part
from maskseq.corpus.budget import reaching
from maskseq.corpus.reader import Corpus, Split
from maskseq.errors import UsageError, check_seed
from maskseq.evaluation.holdout import mask_spans
from maskseq.evaluation.protocols import Protocol
from maskseq.masking.config import MaskingConfig
from maskseq.model.checkpoint import weights_digest
from maskseq.predict.blend import ENCODER, Blend, Chosen, choose
from maskseq.predict.experts.counted import FOR_NEXT, count, is_small, seasons
from maskseq.predict.experts.left_out import with_file
from maskseq.predict.experts.number_experts import LOCAL, series_of
from maskseq.predict.experts.number_prior import cross_fitted_errors, worthless
from maskseq.predict.experts.training_data import training_data
from maskseq.predict.gate_file import StoredGate
from maskseq.predict.protocol import Example, Predict
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Progress

CELLS = 6000
"""Held-out cells that a gate is fitted on, about."""
ANSWERS = 1 << 23
"""Numbers that the answers of all experts about these cells may be: fewer cells for large vocabularies."""
SEGMENT = 512
"""Positions of the pieces that cells are masked in."""
PROTOCOLS = ("masked", "isolated", "gap-2", "gap-5")
"""How they are masked, besides in spans of several lengths, of all fields or of one."""
APART = 64
"""Positions for each gap: they see each other as masked, and none the truth of another."""
SPANS, SPAN_SHARE = (1, 1, 2, 5, 16), 0.15
ROUNDS = 16
"""How often the same pieces may be asked, each time with other cells masked."""
REPEATS = 3
"""How often each cell is asked for, about, where there are few: more of it adds little."""
POSITIONS = 1 << 16
"""That the experts are asked about at a time."""
SELECTED = 1 << 22
"""Positions of selection data that a gate may be fitted on."""
PARTS: tuple[Split, ...] = ("train", "selection")
"""What experts are counted on, once the gate is fitted."""
BY_WINDOW = "weights by window"


@dataclass(frozen=True)
class HeldOutCells:
    """Cells whose truth is known and that nobody sees."""

    examples: Sequence[Example]
    cells: Sequence[Integer[np.ndarray, "_ 2"]]
    truth: Int[np.ndarray, " cells"]
    regions: Int[np.ndarray, " cells"]
    """The record, or the stretch of a long one, that each is of: numbered in random order."""


def stored_gate(
    corpus: Corpus,
    records: Sequence[tuple[str, int, Encoded]] | None,
    *,
    encoder: Predict | None,
    own: Sequence[str] = (),
    checkpoint: Path,
    masking: MaskingConfig,
    context: int,
    n_cells: int = CELLS,
    data: str = "",
    seed: int = 0,
    on_progress: Progress = lambda done, of: None,
) -> StoredGate:
    """The gate of a checkpoint's encoder, if there is one, and of what its corpus counts, to be written.

    It is fitted on `records` (keys, where each begins in its record, ids), which are called `data`, or on what the
    corpus holds out for selection. Experts are counted on the training part alone meanwhile. Of numbers nothing is
    fitted: their weights are those of each window's own known numbers (`predict/experts/number_blend.py`).
    """
    check_seed(seed)
    counted = count_experts(corpus, ("train",), own=own)
    experts: dict[str, Predict] = ({} if encoder is None else {ENCODER: encoder}) | counted
    if not experts:
        raise UsageError(f"{corpus.path} holds no training data to count experts on", code="too-little-data")
    by_window = None not in corpus.tokenizer.vocabulary.centres
    masked = mask_cells(
        [] if by_window else list(_selection(corpus)) if records is None else records,
        corpus.tokenizer,
        masking,
        context=context,
        n_cells=n_cells,
        n_experts=len(experts),
        seed=seed,
    )
    chosen = fit_gate(experts, masked, corpus.tokenizer, on_progress=on_progress)
    n = len(masked.truth)
    found = "weights are those of each window's own known numbers" if by_window else "nothing is held out to fit on"
    weights, notes = chosen.gate.weights, [f"{n:,} cells of {data}" if n else found]
    if by_window and LOCAL in counted and not _earns(LOCAL, corpus, counted, context):
        weights = weights * (np.array([*experts]) != LOCAL)
        notes.append(f"without {LOCAL}, which take long and save nothing on training data")
    return StoredGate(
        checkpoint=weights_digest(checkpoint),
        experts=tuple(experts),
        weights=tuple(map(tuple, weights.tolist())),
        corpus=corpus.fingerprint,
        n_cells=n,
        n_regions=len(np.unique(masked.regions)),
        form=BY_WINDOW if by_window else chosen.form,
        fitted_on=data if n else "",
        bits=chosen.bits,
        notes=tuple(notes),
    )


def _earns(name: str, corpus: Corpus, counted: Mapping[str, Predict], context: int) -> bool:
    """Whether a method that states numbers is worth its time on training data that it was not counted on."""
    data, tokenizer = training_data(corpus), corpus.tokenizer
    periods = seasons(data.sequences, tokenizer)
    prior = cross_fitted_errors(series_of(data, tokenizer), periods, context=context, among=counted)
    return not worthless(prior, name)


def count_experts(
    corpus: Corpus, parts: Sequence[Split], file: Sequence[Example] = (), own: Sequence[str] = ()
) -> dict[str, Predict]:
    """The experts that suit the corpus's vocabulary, counted on some of its parts and on what is known of a file.

    `own` are the user's, which were looked up. Which others there are is decided by the training part alone, so that
    a gate finds those that it was fitted with. Without a file and the user's, which may change under one name, they are
    kept as long as the corpus is open: a gate and a calibration are fitted with the same ones.
    """
    if file or own:
        return _counted(corpus, parts, file, own)
    kept = _COUNTED.setdefault(corpus, {})
    if tuple(parts) not in kept:
        kept[tuple(parts)] = _counted(corpus, parts, file, own)
    return kept[tuple(parts)]


def let_go(corpus: Corpus, parts: tuple[Split, ...]) -> None:
    """Forget experts that were counted on these parts, to free the memory of their tables and answers."""
    _COUNTED.get(corpus, {}).pop(parts, None)


_COUNTED: WeakKeyDictionary[Corpus, dict[tuple[Split, ...], dict[str, Predict]]] = WeakKeyDictionary()


def _counted(corpus: Corpus, parts: Sequence[Split], file: Sequence[Example], own: Sequence[str]) -> dict[str, Predict]:
    tokenizer, trained = corpus.tokenizer, training_data(corpus)
    if not trained.n_positions:
        return {}
    data = trained if tuple(parts) == ("train",) else training_data(corpus, parts)
    data = with_file(data, file, tokenizer) if file else data
    small, periods = is_small(trained.n_positions, tokenizer), seasons(trained.sequences, tokenizer)
    found = count(data, tokenizer, periods=periods, small=small, without=FOR_NEXT)
    return found | {name: own_part("expert", name)(data, tokenizer) for name in own}


def fit_gate(
    experts: Mapping[str, Predict],
    held_out: HeldOutCells,
    tokenizer: Tokenizer[Any],
    *,
    on_progress: Progress = lambda done, of: None,
) -> Chosen:
    """How much each expert is worth, by what all of them answer about held-out cells."""
    blend = Blend(experts, None, tokenizer.vocabulary)
    done, answers, classes = 0, [], []
    for some in reaching(range(len(held_out.cells)), lambda i: len(held_out.examples[i].ids), POSITIONS):
        examples, cells = [held_out.examples[i] for i in some], [held_out.cells[i] for i in some]
        answers.append(blend.answers(examples, cells))
        classes.append(blend.situations(examples, cells))
        done += len(classes[-1])
        on_progress(done, len(held_out.truth))
    if not answers:
        answers = [np.empty((len(blend.experts), 0, max(tokenizer.vocabulary.n_outputs)))]
        classes = [np.empty(0, np.int64)]
    return choose(
        tuple(blend.experts),
        np.concatenate(answers, axis=1),
        held_out.truth,
        np.concatenate(classes),
        blend.situations.n,
        held_out.regions,
    )


def mask_cells(
    records: Sequence[tuple[str, int, Encoded]],
    tokenizer: Tokenizer[Any],
    masking: MaskingConfig,
    *,
    context: int,
    n_cells: int = CELLS,
    n_experts: int = 1,
    seed: int = 0,
) -> HeldOutCells:
    """Cells of held-out records, masked as in training, alone, in gaps and in spans; half of the gaps half filled.

    `records` are keys, where what is given begins in the record, and ids.
    """
    there = sum(int(np.count_nonzero(tokenizer.vocabulary.known(each.ids))) for _, _, each in records)
    n_cells = min(n_cells, REPEATS * there, ANSWERS // max(max(tokenizer.vocabulary.n_outputs) * n_experts, 1))
    size = min(SEGMENT, context)
    segments = [(key, first, start, each) for key, first, each in records for start in range(0, len(each), size)]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(segments)).tolist()
    examples: list[Example] = []
    cells: list[Int[np.ndarray, "_ 2"]] = []
    truths, regions = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for kind in (*PROTOCOLS, None):
        requested = 0
        for round_, (region, which) in ((n, each) for n in range(ROUNDS) for each in enumerate(order)):
            no_room = round_ > 0 and not requested
            if no_room or requested * (len(PROTOCOLS) + 1) >= n_cells:
                break
            key, first, start, record = segments[which]
            segment = record.cut(start, start + size)
            masked, wanted = _masked(segment, key, kind, tokenizer, masking, rng, seed * ROUNDS + round_)
            if not len(wanted):
                continue
            ids = tokenizer.vocabulary.masked(segment.ids, masked)
            numbers = None if segment.numbers is None else np.where(masked, np.nan, segment.numbers)
            examples.append(Example(ids, numbers, key, first + start))
            cells.append(wanted)
            truths.append(segment.ids[tuple(wanted.T)].astype(np.int64))
            regions.append(np.full(len(wanted), region))
            requested += len(wanted)
    return HeldOutCells(examples, cells, np.concatenate(truths), np.concatenate(regions))


def _masked(
    segment: Encoded,
    key: str,
    kind: str | None,
    tokenizer: Tokenizer[Any],
    masking: MaskingConfig,
    rng: np.random.Generator,
    seed: int,
) -> tuple[np.ndarray, Int[np.ndarray, "_ 2"]]:
    """What of a piece is masked, and which of it is asked for.

    Of gaps there is one in each `APART` positions: an encoder takes as long to answer about one as about all.
    """
    masked, cells = np.zeros(segment.ids.shape, bool), [np.empty((0, 2), np.int64)]
    size = APART if kind is not None and kind.startswith("gap") else max(len(segment), 1)
    for start in range(0, len(segment), size):
        part = segment.cut(start, start + size)
        if kind is None:
            hidden = mask_spans(part, tokenizer, rng, lengths=SPANS, share=SPAN_SHARE)
            found = [(hidden, np.argwhere(part.scorable(hidden)))]
        else:
            named = [(f"{key}@{start}" if start else key, part)]
            examples = Protocol.parse(kind, masking).examples(named, tokenizer, context=len(part), seed=seed)
            found = [(each.masked, each.cells) for each in examples]
        for hidden, wanted in found:
            hidden, wanted = _half_filled(hidden, wanted, rng)
            masked[start : start + len(part)] |= hidden
            cells.append(wanted + np.array([start, 0]))
    return masked, np.concatenate(cells)


def _half_filled(
    masked: np.ndarray, cells: Int[np.ndarray, "_ 2"], rng: np.random.Generator
) -> tuple[np.ndarray, Int[np.ndarray, "_ 2"]]:
    """As often as not, with a random share of the cells known, because most of a fill is made when a part stands."""
    if len(cells) < 2 or rng.random() >= 0.5:
        return masked, cells
    known = rng.random(len(cells)) < rng.random()
    known[rng.integers(len(cells))] = False
    masked = masked.copy()
    masked[tuple(cells[known].T)] = False
    return masked, cells[~known]


def _selection(corpus: Corpus) -> Iterator[tuple[str, int, Encoded]]:
    """Keys, places and ids of what a corpus holds out for selection, up to `SELECTED` positions."""
    room = SELECTED
    for sequence, encoded in corpus.each("selection"):
        if room <= 0:
            return
        yield corpus.key(sequence), int(corpus.starts[sequence]), encoded
        room -= len(encoded)
