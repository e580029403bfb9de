"""Models of overlapping words fill bases: what an exact one says of words is what the law says of bases."""

import csv
import io
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from untrained import untrained

from maskseq.apps.infill import infill_file
from maskseq.infill.sampler import InfillConfig
from maskseq_genomics.by_base import ByBase
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.sequence import Sequence as Bases
from maskseq_genomics.words import Frame, words

LENGTH, K = 8, 3
STEP = np.random.default_rng(0).dirichlet(np.full(4, 0.6), 4)
EVERY = np.array(list(product(range(4), repeat=LENGTH)))
LAW = 0.25 * np.prod(STEP[EVERY[:, :-1], EVERY[:, 1:]], axis=1)


def as_words(codes: np.ndarray) -> np.ndarray:
    return Frame.of(codes.shape[-1], k=K, step=1, phase=0).ids(codes.astype(np.uint8))


WORDS = np.array([as_words(codes) for codes in EVERY])


def exact_words(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The distribution of hidden words given the visible ones, by enumeration of all sequences."""
    n_words = len(words(K).tokens)
    answers = []
    for ids, requested in zip(sequences, cells, strict=True):
        visible = ids[:, 0] != words(K).mask_id
        weight = LAW * (WORDS[:, visible] == ids[visible, 0]).all(axis=1)
        counts = np.stack([np.bincount(WORDS[:, word], weight, n_words) for word in requested[:, 0]])
        with np.errstate(divide="ignore"):
            answers.append(np.log(counts / counts.sum(axis=1, keepdims=True)))
    return answers


@pytest.mark.parametrize("masked", [[3], [4], [3, 4], [0, 1], [5, 6, 7], [0], [7]])
def test_an_exact_model_of_words_is_one_of_bases(masked: list[int]) -> None:
    codes = np.array([1, 0, 2, 3, 1, 2, 0, 3])
    codes[masked] = 4
    fits = (EVERY[:, codes < 4] == codes[codes < 4]).all(axis=1)
    expected = np.stack([np.bincount(EVERY[:, base], LAW * fits, 4) for base in masked])
    expected /= expected.sum(axis=1, keepdims=True)
    cells = np.array([[base, 0] for base in masked])
    (found,) = ByBase(exact_words, K)([codes[:, None]], [cells])
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-9)


def test_sequences_shorter_than_a_word_are_one_word() -> None:
    def flat(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert [len(ids) for ids in sequences] == [1]
        scores = np.where(np.array(words(K).tokens) == "CA", 0.0, -50.0)
        return [np.repeat(scores[None], len(each), axis=0) for each in cells]

    (found,) = ByBase(flat, K)([np.array([[4], [0]])], [np.array([[0, 0]])])
    assert found.argmax() == 1


def test_holes_are_filled_base_by_base_and_all_words_agree(tmp_path: Path) -> None:
    run = untrained(KmerTokenizer(k=4, overlapping=True), tmp_path / "run")
    letters = "".join(np.random.default_rng(1).choice(list("ACGT"), 150))
    before = letters[:20] + "NNN" + letters[23:70] + "R" + letters[71:]
    file = tmp_path / "a.fa"
    file.write_text(f">a\n{before}\n")
    infill_file(run, file, output=tmp_path / "out", config=InfillConfig(temperature=1.0), rules=["motif=GC@a:21-22"])
    after = (tmp_path / "out" / "a.fa").read_text().split("\n")[1]
    assert len(after) == len(before)
    assert after[:20] + after[23:70] + after[71:] == before[:20] + before[23:70] + before[71:]
    assert after[20:22] == "GC"
    assert after[70] in "AG"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "fills.csv").read_text())))
    assert [(row["field"], row["start"], row["stop"]) for row in rows] == [
        ("base", str(n), str(n)) for n in (21, 22, 23, 71)
    ]
    assert [row["value"] for row in rows] == [after[n] for n in (20, 21, 22, 70)]
    assert run.tokenizer.encode(Bases(key="a", residues=after.encode())).ids.max() < run.tokenizer.fields[0].mask_id
