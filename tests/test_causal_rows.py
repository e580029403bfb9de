"""Where causal segments begin, and which fields they cannot be of."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from maskseq.corpus.build import build_from_records
from maskseq.corpus.splits import SplitConfig
from maskseq.masking.config import MaskingConfig
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

TELLING = 9
"""Bases, from which on a piece is found in its sequence in one place."""


def test_a_piece_that_is_read_backwards_begins_at_the_other_end(tmp_path: Path) -> None:
    tokenizer, rng = NucleotideTokenizer(), np.random.default_rng(0)
    records = [Sequence(key=f"s{i}", residues=bytes(rng.choice(list(b"ACGT"), 75).tolist())) for i in range(8)]
    split = SplitConfig(by="record", selection=0.2, duplicates="ignore")
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=tokenizer, split=split)
    (symmetry,) = tokenizer.symmetries()
    config = PackingConfig(row_tokens=64, context=16)
    rows, seen = PackedRows(corpus, config=config, masking=MaskingConfig(causal=1.0), seed=3), set()
    for number in range(4 * rows.n_rows()):
        row = rows.row(number)
        for piece, (start, stop) in enumerate(pairwise(row.cu_seqlens.tolist())):
            if row.sequence[piece] < 0 or stop - start < TELLING:
                continue
            ids = row.targets[start:stop]
            forward = corpus.read(int(row.sequence[piece])).ids
            found = [
                (way, i)
                for way, whole in (("forward", forward), ("backward", symmetry.ids(forward)))
                for i in range(len(whole) - len(ids) + 1)
                if np.array_equal(whole[i : i + len(ids)], ids)
            ]
            ((way, at),) = found
            assert (row.weights[start] > 0).all() == (at == 0)
            assert (row.weights[start + 1 : stop] > 0).all()
            seen.add((way, at == 0))
    assert len(seen) == 4
