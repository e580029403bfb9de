"""A head that was trained to tell how much is missing, on a law where that is known exactly."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from untrained import untrained

from maskseq.cli import app
from maskseq.errors import DataError, UsageError
from maskseq.infill.options import Insertion, Unsized
from maskseq.lengths.head import length_judge, load_length_head
from maskseq.lengths.missing import give_lengths, insert_missing
from maskseq.model.checkpoint import check
from maskseq.storage.run_folder import LENGTH_HEAD
from maskseq.trained import TrainedModel, load
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

NOISE = 0.1
MOST = 3


def walks(n: int, length: int, seed: int) -> list[Sequence]:
    """Round and round, A → C → G → T → A, but for a jump now and then."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random((n, length)) < NOISE, rng.integers(4, size=(n, length)), 1)
    ids = (np.cumsum(steps, axis=1) + rng.integers(4, size=(n, 1))) % 4
    return [Sequence(key=f"{seed}/{i}", residues=bytes(b"ACGT"[x] for x in row)) for i, row in enumerate(ids.tolist())]


def exact(before: int, after: int) -> np.ndarray:
    """P(length | the two neighbours), all lengths being equally likely: powers of the step matrix."""
    step = (1 - NOISE) * np.roll(np.eye(4), 1, axis=1) + NOISE / 4
    weights = np.array([np.linalg.matrix_power(step, n + 1)[before, after] for n in range(MOST + 1)])
    return weights / weights.sum()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    run = untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("run"))
    records = [(record.key, run.tokenizer.encode(record)) for record in walks(60, 120, 0)]
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    result = run.fit_lengths(records, most=MOST, gaps=3000)
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != LENGTH_HEAD} == before
    check(run.path)
    entropy = [-float(p @ np.log(p)) for p in (exact(0, after) for after in range(4))]
    assert result.nats < np.mean(entropy) + 0.1
    assert result.accuracy > 0.7
    return run


def test_it_comes_close_to_bayes_rule(fitted: TrainedModel) -> None:
    judge = length_judge(fitted.model, load_length_head(fitted.checkpoint))
    ids = [fitted.tokenizer.encode(record).ids for record in walks(40, 60, 1)]
    reported = judge(ids, [30] * 40, (0, MOST))
    bayes = np.stack([exact(*each[29:31, 0].tolist()) for each in ids])
    assert np.abs(np.exp(reported) - bayes).mean() < 0.08
    assert (reported.argmax(axis=1) == bayes.argmax(axis=1)).mean() > 0.9


def test_it_chooses_the_length_of_holes_and_finds_what_is_missing(fitted: TrainedModel) -> None:
    judge = length_judge(fitted.model, load_length_head(fitted.checkpoint))
    whole = b"ACGT" * 12
    record = Sequence(key="g", residues=whole[:20] + b"N" + whole[22:])
    _, (chosen,) = give_lengths(record, [Unsized(20, 21, 0, 3)], judge, fitted.tokenizer, context=64)
    assert chosen.length == 2
    gone = Sequence(key="g", residues=whole[:25] + whole[28:])
    found, sized = insert_missing(gone, Insertion(most=3, threshold=1.0), judge, fitted.tokenizer, context=64)
    assert [(each.start, each.length) for each in sized] == [(26, 3)]
    assert found.residues == whole[:25] + b"NNN" + whole[28:]


def test_it_is_used_by_infill_and_kept_with_its_model(fitted: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">g\n" + "ACGT" * 5 + "N" + "GT" + "ACGT" * 5 + "\n")
    requested = ["--length", "g:21-21=0..3", "--length-by", "head"]
    arguments = ["infill", fitted.path, tmp_path / "g.fa", "-o", tmp_path / "out", *requested]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "lengths.csv").read_text().splitlines()[1].startswith("g,21,21,2,")
    other = tmp_path / "other"
    shutil.copytree(fitted.path, other)
    (other / LENGTH_HEAD).write_bytes((other / LENGTH_HEAD).read_bytes()[:-50])
    with pytest.raises(DataError, match="length head"):
        load_length_head(other)
    untrained(NucleotideTokenizer(), tmp_path / "new", context=32)
    shutil.copy(fitted.path / LENGTH_HEAD, tmp_path / "new")
    moved = load(tmp_path / "new")
    if (moved.path / "model.safetensors").read_bytes() != (fitted.path / "model.safetensors").read_bytes():
        with pytest.raises(DataError, match="other weights"):
            load_length_head(moved.checkpoint)
    (moved.path / LENGTH_HEAD).unlink()
    with pytest.raises(UsageError, match="fit-lengths"):
        load_length_head(moved.checkpoint)


def test_records_without_room_for_gaps_are_refused(fitted: TrainedModel) -> None:
    short = [(record.key, fitted.tokenizer.encode(record)) for record in walks(10, 4, 3)]
    with pytest.raises(UsageError, match="gaps of up to 5"):
        fitted.fit_lengths(short, most=5)
    judge = length_judge(fitted.model, load_length_head(fitted.checkpoint))
    ids = fitted.tokenizer.encode(walks(1, 20, 4)[0]).ids
    with pytest.raises(UsageError, match="up to 3"):
        judge([ids], [5], (0, 4))
    with pytest.raises(UsageError, match="begin or end"):
        judge([ids], [0], (0, 1))
