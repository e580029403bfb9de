"""Sequences are cut at long runs of unknown positions, and nothing else about them changes."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.corpus.build import build_corpus, build_from_records
from maskseq.corpus.reader import Corpus
from maskseq.corpus.splits import SplitConfig
from maskseq.corpus.unknown_runs import RECORDED, UnknownRuns, cut_out, find_runs
from maskseq.errors import UsageError
from maskseq.masking.config import MaskingConfig
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq_genomics.fasta import Fasta, FastaSequence
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer

NO_SPLIT = SplitConfig(by="none")
RUN_LENGTHS = st.lists(st.tuples(st.booleans(), st.integers(1, 80)), min_size=1, max_size=9)


def bases(n: int, seed: int) -> bytes:
    return np.random.default_rng(seed).choice(list(b"ACGT"), size=n).astype(np.uint8).tobytes()


@given(records=st.lists(RUN_LENGTHS, min_size=1, max_size=5))
def test_runs_are_found_within_records(records: list[list[tuple[bool, int]]]) -> None:
    flags = [[unknown for unknown, n in runs for _ in range(n)] for runs in records]
    expected, at = [], 0
    for record in flags:
        for unknown, run in groupby(record):
            n = len(list(run))
            if unknown and n >= RECORDED:
                expected.append([at, at + n])
            at += n
    offsets = np.cumsum([0, *map(len, flags)])
    assert find_runs(np.concatenate(flags), offsets).tolist() == expected


@given(
    gaps=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 150)), min_size=1, max_size=5),
    runs=st.lists(st.tuples(st.integers(1, 60), st.integers(32, 150)), max_size=6),
    cut_from=st.sampled_from([0, 33, 64, 100]),
    margin=st.sampled_from([0, 1, 16]),
)
def test_what_is_cut_out_by_definition(
    gaps: list[tuple[int, int]], runs: list[tuple[int, int]], cut_from: int, margin: int
) -> None:
    """Position by position: inside a long run, and a margin away from each of its ends that lies in the segment."""
    segments, known_runs = (
        np.cumsum(np.ravel(pairs)).reshape(-1, 2) for pairs in (gaps, runs or np.empty((0, 2), int))
    )
    expected = []
    for start, stop in segments.tolist():
        kept = [
            not any(
                cut_from
                and b - a >= cut_from
                and a <= p < b
                and (p - a >= margin or a <= start)
                and (b - 1 - p >= margin or b >= stop)
                for a, b in known_runs.tolist()
            )
            for p in range(start, stop)
        ]
        at = start
        for keep, group in groupby(kept):
            n = len(list(group))
            expected += [[at, at + n]] * keep
            at += n
    assert cut_out(segments, known_runs, UnknownRuns(cut_from=cut_from, margin=margin)).tolist() == expected


def test_megabases_of_n_do_not_reach_the_rows_and_coordinates_stay_right(tmp_path: Path) -> None:
    """A chromosome as in hg38, with telomeres, a centromere and gaps of Ns, and one of which nothing is known."""
    parts = [b"N" * 10_000, bases(200_000, 0), b"N" * 1_500_000, bases(150_000, 1), b"N" * 50_000, bases(9_000, 2)]
    parts += [b"N" * 100, bases(5_000, 3), b"N" * 20, bases(5_000, 4), b"n" * 10_000]
    records = [
        FastaSequence(key="chr1", residues=b"".join(parts), header=b"chr1"),
        FastaSequence(key="chrUn", residues=b"N" * 70_000, header=b"chrUn"),
        FastaSequence(key="chrM", residues=bases(16_569, 5) + b"N" * 30, header=b"chrM"),
    ]
    Fasta().write(records, tmp_path / "genome.fa")
    corpus = build_corpus(
        [tmp_path / "genome.fa"], output=tmp_path / "c", tokenizer=NucleotideTokenizer(), split=NO_SPLIT
    )
    edges = np.cumsum([0, *map(len, parts)]).tolist()
    spans = [(edges[1] - 16, edges[2] + 16), (edges[3] - 16, edges[4] + 16), (edges[5] - 16, edges[6] + 16)]
    spans += [(edges[7] - 16, edges[10] + 16)]
    found = [(corpus.key(i), int(corpus.starts[i]), int(corpus.lengths[i])) for i in range(len(corpus.lengths))]
    assert found == [*(("chr1", start, stop - start) for start, stop in spans), ("chrM", 0, 16_599)]
    text = {record.key: record.residues.upper() for record in records}
    for i, (key, start, length) in enumerate(found):
        assert corpus.tokenizer.decode(corpus.read(i).ids) == text[key][start : start + length].decode()
    report = corpus.manifest["split"]
    assert report["left_out"]["in_unknown_runs"] == sum(map(len, records)) - sum(length for _, _, length in found)
    assert corpus.manifest["positions"] == sum(map(len, records))  # all are on disk, for another choice

    rows = PackedRows(corpus, config=PackingConfig(row_tokens=4096, context=512), masking=MaskingConfig(), seed=0)
    n_unknown = n_tokens = 0
    for number in range(rows.n_rows()):
        row = rows.row(number)
        n_tokens += row.n_tokens
        n_unknown += int((row.targets[: row.n_tokens] == 4).sum())
    assert n_tokens == rows.n_tokens == report["train"]["positions"]
    assert n_unknown / n_tokens < 0.001  # of the file, it is 80 %


def test_another_length_needs_no_other_parts(tmp_path: Path) -> None:
    source = tmp_path / "genome.fa"
    Fasta().write([FastaSequence(key="a", residues=bases(900, 0) + b"N" * 200 + bases(900, 1), header=b"a")], source)
    parts, lengths = [], []
    for unknown in (UnknownRuns(), UnknownRuns(cut_from=0), UnknownRuns(cut_from=201), UnknownRuns(margin=0)):
        corpus = build_corpus(
            [source], output=tmp_path / "c", tokenizer=NucleotideTokenizer(), split=NO_SPLIT, unknown=unknown
        )
        parts.append(corpus.manifest["parts"])
        lengths.append(corpus.lengths.tolist())
    assert lengths == [[916, 916], [2000], [2000], [900, 900]]
    assert parts == parts[:1] * 4


def test_runs_count_positions_of_the_tokenizer(tmp_path: Path) -> None:
    """600 Ns are 100 unknown 6-mers side by side, and 300 are 50, which is short."""
    record = Sequence(key="a", residues=bases(600, 0) + b"N" * 600 + bases(600, 1) + b"N" * 300 + bases(600, 2))
    corpus = build_from_records(
        [record], output=tmp_path / "c", tokenizer=KmerTokenizer(k=6), split=NO_SPLIT, variants=0
    )
    assert corpus.starts.tolist() == [0, 184]
    assert corpus.lengths.tolist() == [116, 16 + 100 + 50 + 100]


def test_only_what_is_unknown_in_every_field_is_cut_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1000, 2))
    values[100:300, 0] = np.nan
    values[200:400, 1] = np.nan
    record = Recording(key="ecg", channels=values, names=("I", "II"))
    tokenizer = QuantizeTokenizer.fit([record])
    corpus = build_from_records([record], output=tmp_path / "c", tokenizer=tokenizer, split=NO_SPLIT)
    assert list(zip(corpus.starts.tolist(), corpus.lengths.tolist(), strict=True)) == [(0, 216), (284, 716)]


def test_held_out_regions_are_cut_as_well(tmp_path: Path) -> None:
    record = Sequence(key="a", residues=bases(1000, 0) + b"N" * 1000 + bases(1000, 1))
    split = SplitConfig(regions=("501-1500",), guard=10)
    corpus = build_from_records([record], output=tmp_path / "c", tokenizer=NucleotideTokenizer(), split=split)
    assert corpus.starts.tolist() == [0, 1984, 500]
    assert corpus.lengths.tolist() == [490, 1016, 516]
    split = SplitConfig(regions=("1101-1200",), guard=10)
    corpus = build_from_records(
        [record], output=tmp_path / "c", tokenizer=NucleotideTokenizer(), split=split, overwrite=True
    )
    assert not len(corpus.sequences("validation"))
    assert "nothing known" in corpus.manifest["split"]["notes"][-1]


def table_of(corpus: Corpus) -> list[list[int]]:
    return [column.tolist() for column in corpus.table]


@pytest.mark.parametrize("name", ["yeast_S288C_R64_chrI-X_Mito.fa.gz", "ecoli_K12_MG1655.fasta.gz"])
def test_finished_genomes_stay_as_they_are(name: str, shared_data: Path, tmp_path: Path) -> None:
    (path,) = (shared_data / "genomics").rglob(name)
    tables = [
        table_of(build_corpus([path], output=tmp_path / "c", tokenizer=NucleotideTokenizer(), unknown=unknown))
        for unknown in (UnknownRuns(), UnknownRuns(cut_from=0))
    ]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("wrong", [{"cut_from": 31}, {"cut_from": 40, "margin": 20}, {"margin": -1}, {"cut_from": -1}])
def test_lengths_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="unknown: cut_from"):
        UnknownRuns(**wrong)
