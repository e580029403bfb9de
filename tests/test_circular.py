"""Circular records: it does not matter where the circle is cut open."""

from collections.abc import Sequence as Some
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.corpus.build import build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import UsageError
from maskseq.infill.ranges import masked_cells, read_ranges
from maskseq.infill.sampler import InfillConfig
from maskseq.infill.window_plan import Filled, Task
from maskseq.infill.windows import fill_records
from maskseq.masking.plan import MaskingConfig
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq.predict.embed import Embedder, Pooling
from maskseq.predict.protocol import Example
from maskseq.scoring.score import score_records
from maskseq.scoring.variants import score_variants
from maskseq.types import Encoded, LegalCells
from maskseq.variants import Records, stretches
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_genomics.vcf import Vcf

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


def corpus_of(tmp_path: Path, lengths: Some[int], *, circular: bool) -> Corpus:
    records = [
        Sequence(key=f"p{i}", residues=bytes(LETTERS[circle(i, n)[:, 0]]), circular=circular)
        for i, n in enumerate(lengths)
    ]
    split = SplitConfig(selection=0.0, test=0.0)
    return build_from_records(records, output=tmp_path / f"c{circular}", tokenizer=TOKENIZER, split=split)


LETTERS = np.frombuffer(b"ACGT", np.uint8)
LENGTHS = [70, 150, 20, 33, 64, 97, 1000, 31]


@pytest.mark.parametrize("chunk", [64, 1 << 19])
def test_training_windows_cross_the_origin(tmp_path: Path, chunk: int) -> None:
    """Every base once an epoch, in windows of a linear copy that is rotated anew each time."""
    corpus = corpus_of(tmp_path, LENGTHS, circular=True)
    config = PackingConfig(row_tokens=CONTEXT * 3, context=CONTEXT)
    rows = PackedRows(
        corpus, config=config, masking=MaskingConfig(), seed=1, symmetry=False, chunk_tokens=chunk, total_tokens=1 << 20
    )
    at, across = 0, np.zeros(len(LENGTHS), int)
    for epoch in range(12):
        seen = [np.zeros(n, int) for n in LENGTHS]
        for number in range(at, at + rows.n_rows(epoch)):
            row = rows.row(number)
            for i in np.flatnonzero(row.sequence >= 0).tolist():
                sequence, start = int(row.sequence[i]), int(row.start[i])
                ids = row.targets[row.cu_seqlens[i] : row.cu_seqlens[i + 1]]
                whole = corpus.read(sequence).ids
                assert len(ids) <= CONTEXT
                assert np.array_equal(ids, np.roll(whole, -start, axis=0)[: len(ids)])
                np.add.at(seen[sequence], (start + np.arange(len(ids))) % len(whole), 1)
                across[sequence] += start + len(ids) > len(whole)
        at += rows.n_rows(epoch)
        assert all((each == 1).all() for each in seen)
    lengths = corpus.lengths
    assert (across[lengths > CONTEXT] >= 8).all()  # in most epochs; else a window happens to end there
    assert (across[lengths <= CONTEXT] == 0).all()


def test_a_circle_that_is_divided_is_none_any_more(tmp_path: Path) -> None:
    records = [Sequence(key="g", residues=bytes(LETTERS[circle(1, 2000)[:, 0]]), circular=True)]
    split = SplitConfig(by="region", selection=0.2, test=0.0)
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=TOKENIZER, split=split)
    assert corpus.circular is not None
    assert not corpus.circular.any()


def test_linear_records_leave_no_trace_of_circles(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, LENGTHS, circular=False)
    assert corpus.circular is None
    assert "circular" not in corpus.manifest


class Local(Embedder):
    """Whose hidden states tell what stands within `REACH` of each position."""

    def _hidden(self, segments: Some[np.ndarray], numbers: Some[np.ndarray | None]) -> list[np.ndarray]:
        padded = [np.pad(each[:, 0].astype(np.float32), REACH) for each in segments]
        weights = WEIGHTS[:, 0, 0].astype(np.float32)
        return [np.correlate(each, weights)[:, None] for each in padded]


@pytest.mark.parametrize("length", [20, 33, 64, 150])
@pytest.mark.parametrize("pooling", ["none", "mean", "max"])
def test_vectors_do_not_depend_on_where_the_circle_is_cut(length: int, pooling: Pooling) -> None:
    ids, by = circle(5, length).astype(np.uint8), 11
    shape = preset("nano", TOKENIZER.vocabulary, hidden_size=32, n_heads=1, n_layers=1, intermediate_size=32)
    embedder = Local(model=Encoder(shape, seed=1), context=CONTEXT, pooling=pooling)

    def embedded(ids: np.ndarray, *, circular: bool) -> np.ndarray:
        group = [("before", Encoded(ids[:9])), ("p", Encoded(ids, circular=circular)), ("behind", Encoded(ids[:40]))]
        found = list(embedder.vectors(group))
        assert [each for each, _ in found] == sorted(each for each, _ in found)
        return np.concatenate([vectors for index, vectors in found if index == 1])

    here, there = embedded(ids, circular=True), embedded(np.roll(ids, by, axis=0), circular=True)
    linear = embedded(ids, circular=False)
    assert here.shape == linear.shape
    if length <= CONTEXT:
        assert np.array_equal(here, linear)  # a short circle is read as it stands
    elif pooling == "none":
        assert np.allclose(np.roll(there, -by, axis=0), here, atol=1e-5)
        assert np.allclose(linear[REACH:-REACH], here[REACH:-REACH], atol=1e-5)
        assert not np.allclose(linear, here, atol=1e-3)
    else:
        assert np.allclose(there, here, atol=1e-5)


@pytest.mark.parametrize("pos", [1, 3, 75, 148, 150])
@pytest.mark.parametrize(("ref", "alt"), [(1, "A"), (1, "ACG"), (4, "C")])
def test_variants_near_the_origin_are_scored_as_in_a_rotated_linear_copy(
    tmp_path: Path, pos: int, ref: int, alt: str
) -> None:
    length = 150
    residues = bytes(LETTERS[circle(7, length)[:, 0]])
    was = (residues + residues)[pos - 1 : pos - 1 + ref].decode()

    def ratio(record: Sequence, pos: int) -> float:
        path = tmp_path / "v.vcf"
        path.write_text(f"#CHROM\tPOS\tID\tREF\tALT\np\t{pos}\t.\t{was}\t{alt}\n")
        found = stretches(Vcf().read(path), Records(lambda: [record]), CONTEXT)
        (score,) = score_variants(local, found, tokenizer=TOKENIZER)
        assert not score.reason
        return score.after - score.before

    turned = residues[75:] + residues[:75]
    alone = ratio(Sequence(key="p", residues=turned), (pos - 1 - 75) % length + 1) if pos != 75 else None
    here = ratio(Sequence(key="p", residues=residues, circular=True), pos)
    if alone is not None:
        assert here == pytest.approx(alone, abs=1e-6)
    else:
        assert here == pytest.approx(ratio(Sequence(key="p", residues=residues), pos), abs=1e-6)


def test_a_circle_is_turned_only_for_variants_whose_context_crosses_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn copies the whole record, and genomes list many variants."""
    length, turns, turned = 150, list[int](), Sequence.turned

    def counted(record: Sequence, by: int) -> Sequence | None:
        turns.append(by)
        return turned(record, by)

    monkeypatch.setattr(Sequence, "turned", counted)
    residues = bytes(LETTERS[circle(7, length)[:, 0]])
    lines = [f"p\t{at + 1}\t.\t{residues[at : at + 1].decode()}\tN\n" for at in range(length)]
    path = tmp_path / "v.vcf"
    path.write_text("#CHROM\tPOS\tID\tREF\tALT\n" + "".join(lines))
    record = Sequence(key="p", residues=residues, circular=True)
    for at, (_, stretch) in enumerate(stretches(Vcf().read(path), Records(lambda: [record]), CONTEXT)):
        assert not isinstance(stretch, str)
        begins = length + at - CONTEXT // 2
        around = (residues * 3)[begins - 1 : begins + CONTEXT + 1]
        assert stretch.before.residues in around
        assert len(stretch.before.residues) == CONTEXT
        start, stop = stretch.changed
        assert (stop - start, stretch.before.residues[start:stop]) == (1, residues[at : at + 1])
    assert 0 < len(turns) <= CONTEXT


def test_a_variant_across_the_end_of_a_linear_record_has_no_score(tmp_path: Path) -> None:
    path = tmp_path / "v.vcf"
    path.write_text("#CHROM\tPOS\tID\tREF\tALT\np\t149\t.\tACGT\tC\n")
    record = Sequence(key="p", residues=b"ACGTA" * 30)
    ((_, reason),) = stretches(Vcf().read(path), Records(lambda: [record]), CONTEXT)
    assert isinstance(reason, str)
    assert "150" in reason


@pytest.mark.parametrize("length", [31, 150])
def test_a_variant_beyond_the_end_has_no_score(tmp_path: Path, length: int) -> None:
    residues = (b"ACGTA" * 30)[:length]
    path = tmp_path / "v.vcf"
    path.write_text(f"#CHROM\tPOS\tID\tREF\tALT\np\t{length + 30}\t.\t{residues[29:30].decode()}\tN\n")
    for circular in (False, True):
        record = Sequence(key="p", residues=residues, circular=circular)
        ((_, reason),) = stretches(Vcf().read(path), Records(lambda r=record: [r]), CONTEXT)
        assert isinstance(reason, str)
        assert f"ends at {length}" in reason
