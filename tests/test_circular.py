"""Circular records: it does not matter where the circle is cut open."""

from collections.abc import Sequence as Some
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq.infill.ranges import masked_cells, read_ranges
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.window_plan import Filled, Task
from maskseq.infill.windows import fill_records
from maskseq.predict.protocol import Example
from maskseq.scoring.score import score_records
from maskseq.types import Encoded, LegalCells
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

CONTEXT, REACH = 32, 6
TOKENIZER = NucleotideTokenizer()
WEIGHTS = np.random.default_rng(0).normal(size=(2 * REACH + 1, 6, 4))


def local(examples: Some[Example], cells: Some[np.ndarray]) -> list[np.ndarray]:
    """A predictor that looks `REACH` positions to either side; 5 stands for what lies beyond the window."""
    answers = []
    for example, requested in zip(examples, cells, strict=True):
        padded = np.pad(example.ids[:, 0].astype(int), REACH, constant_values=5)
        seen = np.stack([padded[at : at + 2 * REACH + 1] for at in requested[:, 0]])
        logits = WEIGHTS[np.arange(2 * REACH + 1), seen].sum(axis=1)
        answers.append(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return answers


def circle(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (length, 1))


def filled(ids: np.ndarray, holes: np.ndarray, *, circular: bool, legal: LegalCells | None = None) -> Filled:
    task = Task("plasmid", Encoded(ids, legal, circular=circular), holes)
    config = InfillConfig(order="confidence", temperature=1.0, samples=2)
    (result,) = fill_records(local, [task], config, vocabulary=TOKENIZER.vocabulary, context=CONTEXT)
    return result


@given(st.integers(0, 99), st.integers(1, 149))
def test_fills_do_not_depend_on_where_the_circle_is_cut(seed: int, by: int) -> None:
    ids, holes = circle(seed, 150), np.zeros((150, 1), bool)
    holes[[3, 4, 5, 149, 0, 40, 60]] = True  # the longest known stretch is 61 to 148
    legal = LegalCells(np.array([[0, 0], [4, 0]]), np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool))
    here = filled(ids, holes, circular=True, legal=legal)
    there = filled(np.roll(ids, by, 0), np.roll(holes, by, 0), circular=True, legal=legal.turned(-by, 150))
    assert here.fill.cells.tolist() == np.argwhere(holes).tolist()
    back = there.fill.turned(by, 150)
    for name in ("cells", "values", "probabilities", "marginals", "log_prob", "step"):
        assert np.array_equal(getattr(here.fill, name), getattr(back, name)), name
    assert here.fill.values[:, 0].max() <= 1  # A or C at position 0


def test_a_hole_at_the_origin_sees_both_of_its_sides() -> None:
    ids, holes = circle(1, 150), np.zeros((150, 1), bool)
    holes[[0, 1]] = True
    turned, moved = np.roll(ids, 75, 0), np.roll(holes, 75, 0)
    alone = filled(turned, moved, circular=False).fill.marginals
    assert np.allclose(filled(ids, holes, circular=True).fill.marginals, alone, atol=1e-6)
    assert not np.allclose(filled(ids, holes, circular=False).fill.marginals, alone, atol=1e-3)


def test_long_holes_across_the_origin_are_left_and_named_on_both_sides() -> None:
    holes = np.zeros((150, 1), bool)
    holes[140:] = holes[:10] = True
    assert filled(circle(2, 150), holes, circular=True).left == [(0, 10), (140, 150)]


@pytest.mark.parametrize("length", [20, 33, 64, 150])
def test_scores_do_not_depend_on_where_the_circle_is_cut(length: int) -> None:
    def scored(ids: np.ndarray) -> np.ndarray:
        records = [("plasmid", Encoded(ids, circular=True))]
        (score,) = score_records(local, records, tokenizer=TOKENIZER, context=CONTEXT, stride=None)
        return score.bits

    ids = circle(3, length)
    here = scored(ids)
    assert here.shape == (length, 1)
    assert not np.isnan(here).any()
    inner = slice(REACH, length - REACH) if length <= CONTEXT else slice(None)  # a short circle is read as it stands
    if length > CONTEXT:
        assert np.allclose(np.roll(scored(np.roll(ids, 11, 0)), -11, 0), here, atol=1e-5)
    else:
        (flat,) = score_records(local, [("x", Encoded(ids))], tokenizer=TOKENIZER, context=CONTEXT, stride=None)
        assert np.allclose(flat.bits[inner], here[inner])


def test_ranges_may_cross_the_origin() -> None:
    record = Sequence(key="p", residues=b"ACGT" * 25, circular=True)
    encoded = TOKENIZER.encode(record)
    assert encoded.circular
    masked = masked_cells(TOKENIZER, encoded, record, read_ranges(["p:99-2"])["p"])
    assert np.flatnonzero(masked).tolist() == [0, 1, 98, 99]
    flat = Sequence(key="p", residues=b"ACGT" * 25)
    with pytest.raises(UsageError, match="p:99-2"):
        masked_cells(TOKENIZER, TOKENIZER.encode(flat), flat, read_ranges(["p:99-2"])["p"])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("p1 length=5 circular=true", True),
        ("p1 [topology=circular] [completeness=complete]", True),
        ("p1 topology: circular", True),
        ("p1 circular=false", False),
        ("p1 a circular RNA", False),
        ("p1", False),
    ],
)
def test_headers_say_what_is_a_circle(tmp_path: Path, header: str, *, expected: bool) -> None:
    path = tmp_path / "p.fa"
    path.write_text(f">{header}\nACGTACGT\n")
    assert [next(Fasta(circular=how).read(path)).circular for how in ("header", "all", "none")] == [
        expected,
        True,
        False,
    ]
    Fasta().write(Fasta().read(path), tmp_path / "q.fa")
    assert (tmp_path / "q.fa").read_bytes() == path.read_bytes()
