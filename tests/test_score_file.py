"""Tables of scores: killed and begun again, they have the same bytes, and what was done is not done again."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from untrained import untrained

import maskseq
from maskseq import trained
from maskseq.apps.score import Extent, score_file
from maskseq.infill.journal import Journal
from maskseq.predict.encoder import EncoderPredict
from maskseq.scoring.score import score_records
from maskseq.storage.outputs import work_folder
from maskseq_genomics.nucleotide import NucleotideTokenizer

pytestmark = pytest.mark.filterwarnings("ignore:nothing says how odd is usual")  # there is no corpus
BATCH = 300
"""Positions: a record is in several batches."""


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    file = tmp_path / "genome.fa"
    file.write_text("".join(f">r{i}\n{''.join(rng.choice(list('ACGT'), 90 + 30 * i))}\n" for i in range(5)))
    return file


def scored(folder: Path, file: Path, output: Path, **given: Any) -> None:
    run = maskseq.load(folder)
    with patch.object(trained, "score_records", partial(score_records, batch_positions=BATCH)):
        score_file(run, run.intake(file), output=output, per_position=True, stride=4, **given)


def test_a_killed_score_goes_on_to_the_same_bytes(
    tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    untrained(NucleotideTokenizer(), folder)
    calls = 0
    asked = EncoderPredict.__call__

    def counted(self: EncoderPredict, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return asked(self, *arguments)

    monkeypatch.setattr(EncoderPredict, "__call__", counted)
    scored(folder, genome, tmp_path / "whole.tsv")
    every, calls = calls, 0
    broken = tmp_path / "broken.tsv"
    child = subprocess.run([sys.executable, __file__, str(folder), str(genome), str(broken)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert not broken.exists()
    kept = len(list((work_folder(broken) / "journal").glob("*.npz")))
    assert 0 < kept < every
    scored(folder, genome, broken)
    assert calls == every - kept
    assert broken.read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert not work_folder(broken).exists()


def test_another_question_begins_anew(tmp_path: Path, genome: Path) -> None:
    folder, output = tmp_path / "run", tmp_path / "scores.tsv"
    untrained(NucleotideTokenizer(), folder)
    assert subprocess.run([sys.executable, __file__, str(folder), str(genome), str(output)]).returncode < 0
    scored(folder, genome, output, symmetries=False)
    scored(folder, genome, tmp_path / "again.tsv", symmetries=False)
    assert output.read_bytes() == (tmp_path / "again.tsv").read_bytes()


def test_another_precision_begins_anew(tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where bf16 is fast, when the first attempt ran on another."""
    folder, output = tmp_path / "run", tmp_path / "scores.tsv"
    untrained(NucleotideTokenizer(), folder)
    scored(folder, genome, tmp_path / "fp32.tsv")
    assert subprocess.run([sys.executable, __file__, str(folder), str(genome), str(output)]).returncode < 0
    monkeypatch.setattr(trained.TrainedModel, "precision", "bf16")
    scored(folder, genome, output)
    scored(folder, genome, tmp_path / "again.tsv")
    assert output.read_bytes() == (tmp_path / "again.tsv").read_bytes() != (tmp_path / "fp32.tsv").read_bytes()


def test_what_is_damaged_is_asked_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", {"of": 1})
    inputs = [np.arange(3)]
    first = journal.arrays(inputs, lambda: {"bits": np.arange(2.0)})
    assert journal.arrays(inputs, dict)["bits"].tolist() == first["bits"].tolist() == [0, 1]
    (file,) = (tmp_path / "journal").glob("*.npz")
    file.write_bytes(file.read_bytes()[:-40])
    assert journal.arrays(inputs, lambda: {"bits": np.arange(4.0)})["bits"].tolist() == [0, 1, 2, 3]


def test_progress_is_that_of_positions_and_ends_at_all(tmp_path: Path, genome: Path) -> None:
    untrained(NucleotideTokenizer(), tmp_path / "run")
    said: list[tuple[int, int | None]] = []
    scored(tmp_path / "run", genome, tmp_path / "s.tsv", on_progress=lambda done, of: said.append((done, of)))
    total = sum(90 + 30 * i for i in range(5))
    assert said == sorted(said)
    assert len(said) > 5
    assert said[-1] == (total, total)
    assert {of for _, of in said} == {total}


def test_how_long_a_file_is_goes_by_positions() -> None:
    extent = Extent(NucleotideTokenizer())
    assert list(extent.over([])) == []
    assert extent.positions == 0


if __name__ == "__main__":
    batches = iter(range(1, 1_000_000))

    def listen(done: int, of: int | None) -> None:
        if next(batches) == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    scored(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), on_progress=listen)
