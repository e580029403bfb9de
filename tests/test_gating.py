"""The held-out cells that a gate is fitted on."""

import numpy as np

from maskseq.baselines.gating import APART, PROTOCOLS, SEGMENT, mask_cells
from maskseq.masking.config import MaskingConfig
from maskseq.types import Encoded
from maskseq_genomics.nucleotide import NucleotideTokenizer


def test_many_gaps_share_a_window_and_hide_what_is_requested() -> None:
    """An encoder takes as long to answer about one as about all; none of them shows the truth of another."""
    ids = np.random.default_rng(0).integers(4, size=(200_000, 1)).astype(np.uint8)
    held_out = mask_cells([("chr", 0, Encoded(ids))], NucleotideTokenizer(), MaskingConfig(), context=SEGMENT)
    n = len(held_out.truth)
    assert n > 5000
    assert len(held_out.examples) < n / len(PROTOCOLS) / 3
    gaps = []
    for example, cells, start in zip(
        held_out.examples, held_out.cells, np.cumsum([0, *map(len, held_out.cells)]), strict=False
    ):
        truth = ids[example.start : example.start + len(example.ids)]
        hidden = example.ids[:, 0] == 4
        assert hidden[cells[:, 0]].all()
        assert (example.ids[~hidden] == truth[~hidden]).all()
        assert (held_out.truth[start : start + len(cells)] == truth[tuple(cells.T)]).all()
        if hidden.sum() == len(cells) and np.unique(cells[:, 0] // APART, return_counts=True)[1].max() <= 5:
            gaps.append(len(np.unique(cells[:, 0] // APART)))
    assert max(gaps) == SEGMENT // APART  # one gap in each stretch of a window
    assert len(np.unique(held_out.regions)) > 20
