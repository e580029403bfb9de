"""Fills at the level of frequencies are told from fills that know something, and said in summary, report and table."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import entropy
from typer.testing import CliRunner, Result

import maskseq
from maskseq.baselines.frequencies import LEVEL, Chance, Frequencies, count
from maskseq.cli import app
from maskseq.predict.protocol import Fill
from maskseq.storage.run_folder import FREQUENCIES
from maskseq.trained import TrainedModel
from maskseq_genomics.kmer import KmerTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer


def maskseq_(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fill_of(marginals: np.ndarray, values: np.ndarray, fields: np.ndarray) -> Fill:
    n = len(values)
    zeros = np.zeros((1, n))
    return Fill(
        cells=np.stack([np.arange(n), fields], axis=1), values=values[None], probabilities=marginals[None],
        log_prob=zeros, legal_mass=zeros, other_mass=zeros, marginals=marginals, step=zeros.astype(int),
        n_passes=np.array([1]),
    )  # fmt: skip


def test_gains_are_divergences_among_what_a_cell_may_take() -> None:
    rng = np.random.default_rng(0)
    known = (rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(3)))
    n = 300
    fields = rng.integers(2, size=n)
    marginals = np.zeros((n, 6))
    for row, column in zip(marginals, fields.tolist(), strict=True):
        size = len(known[column])
        possible = np.append(rng.random(size) < 0.7, rng.random() < 0.5)  # behind the values stands a control
        possible[rng.integers(size)] = True
        row[: size + 1][possible] = rng.dirichlet(np.ones(possible.sum()))
    values = marginals.argmax(axis=1)
    gain, there = Frequencies(known).gains(fill_of(marginals, values, fields))
    for cell, (row, column) in enumerate(zip(marginals, fields.tolist(), strict=True)):
        size = len(known[column])
        possible = row[:size] > 0
        if values[cell] >= size or possible.sum() < 2:
            assert np.isnan(gain[cell])
            continue
        assert gain[cell] == pytest.approx(entropy(row[:size][possible], known[column][possible], base=2))
        assert there[cell] == pytest.approx(entropy(known[column][possible], base=2))


def test_frequencies_themselves_say_nothing_and_certainty_says_all() -> None:
    known = (np.array([0.5, 0.25, 0.125, 0.125]),)
    chance = Chance(["x"], Frequencies(known))
    values = np.zeros(50, int)
    assert np.allclose(chance.add(fill_of(np.tile(known[0], (50, 1)), values, values)), 0)
    assert chance.shares() == {"x": pytest.approx(0)}
    assert "x" in (chance.warning() or "")
    sure = Chance(["x"], Frequencies(known))
    drawn = np.repeat(np.arange(4), [4, 2, 1, 1])
    sure.add(fill_of(np.maximum(np.eye(4)[drawn], 1e-12), drawn, np.zeros(8, int)))
    assert sure.shares() == {"x": pytest.approx(1, abs=1e-6)}
    assert sure.warning() is None


def test_frequencies_of_bases_follow_from_those_of_overlapping_words() -> None:
    rng = np.random.default_rng(1)
    letters = rng.choice(4, 40_000, p=[0.4, 0.2, 0.3, 0.1])
    record = Sequence(key="s", residues=bytes(b"ACGT"[x] for x in letters))
    words, bases = KmerTokenizer(k=3, overlapping=True), NucleotideTokenizer()
    (found,) = Frequencies.of(count([words.encode(record).ids], words), words).fields
    (expected,) = Frequencies.of(count([bases.encode(record).ids], bases), bases).fields
    np.testing.assert_allclose(found, expected, atol=2e-3)


# ---- trained on noise, and on what can be learned -----------------------------------------------------------------

RECIPE: dict[str, Any] = {
    "blend": False,
    "calibrate": False,
    "data": {"split": {"by": "record", "selection": 0.1}},
    "model": {"preset": "nano", "n_layers": 1, "hidden_size": 32, "n_heads": 1, "intermediate_size": 48},
    "packing": {"row_tokens": 1024, "context": 64},
    "optimizer": {"lr": 1e-2},
    "training": {"tokens": 60_000, "rows": 1, "precision": "fp32"},
}


def genomes(learnable: bool) -> list[Sequence]:
    """Letters of uneven frequency, or a motif that comes again and again with one letter in ten replaced; the last one
    is never trained on, or what is counted would know it by heart.
    """
    rng = np.random.default_rng(17 + learnable)
    motif = np.array([0, 0, 3, 1, 2, 3, 3])
    found = []
    for number in range(21):
        drawn = rng.choice(4, 1000, p=[0.35, 0.15, 0.15, 0.35])
        again = motif[(np.arange(1000) + rng.integers(7)) % 7]
        letters = np.where(rng.random(1000) < 0.1, drawn, again) if learnable else drawn
        found.append(Sequence(key=f"s{number}", residues=bytes(b"ACGT"[x] for x in letters)))
    return found


def recordings(learnable: bool) -> list[Recording]:
    """Laplace noise, or a saw tooth below it; the last one is never trained on."""
    rng = np.random.default_rng(23 + learnable)
    noise = rng.laplace(size=(21, 1000))
    tooth = (np.arange(1000) + rng.integers(16, size=(21, 1))) % 16
    values = np.round(noise + (2.0 * tooth if learnable else 0), 2)
    return [Recording(key=f"r{i}", channels=row[:, None], names=("x",)) for i, row in enumerate(values)]


def trained(kind: str, learnable: bool, folder: Path) -> TrainedModel:
    if kind == "genome":
        records: list[Any] = genomes(learnable)[:-1]
        tokenizer: Any = NucleotideTokenizer()
    else:
        records = recordings(learnable)[:-1]
        tokenizer = QuantizeTokenizer.fit(records[:15], bins=24)
    model = RECIPE["model"] | ({"linear_prior": {"distances": [1, 2, 16]}} if kind == "signal" else {})
    recipe = RECIPE | {"model": model, "tokenizer": {}, "masking": {"tokens": {"replacement": {"mask": 1.0}}}}
    return maskseq.pretrain(recipe, output=folder, tokenizer=tokenizer, records=records)


def with_holes(kind: str, learnable: bool, file: Path) -> Path:
    holes = [i for i in range(1000) if i % 20 in (9, 10)]
    if kind == "genome":
        letters = bytearray(genomes(learnable)[-1].residues)
        for hole in holes:
            letters[hole] = ord("N")
        file = file.with_suffix(".fa")
        file.write_bytes(b">s\n" + bytes(letters) + b"\n")
        return file
    values = recordings(learnable)[-1].channels[:, 0]
    file = file.with_suffix(".csv")
    file.write_text("t,x\n" + "".join(f"{i},{'' if i in set(holes) else v}\n" for i, v in enumerate(values.tolist())))
    return file


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    folder = tmp_path_factory.mktemp("runs")
    cases = [(kind, learnable) for kind in ("genome", "signal") for learnable in (False, True)]
    return {case: trained(*case, folder / f"{case[0]}{case[1]:d}").path for case in cases}


def filled(run: Path, file: Path, output: Path, *more: str) -> tuple[dict[str, Any], list[dict[str, str]], str, str]:
    options = ("--format", "signal-csv") if file.suffix == ".csv" else ()
    result = maskseq_("infill", run, file, *options, *more, "-o", output, "--json")
    assert result.exit_code == 0, result.output
    table = list(csv.DictReader(io.StringIO((output / "fills.csv").read_text())))
    return json.loads(result.stdout), table, (output / "report.html").read_text(), result.stderr


@pytest.mark.parametrize("kind", ["genome", "signal"])
@pytest.mark.parametrize("learnable", [False, True])
def test_noise_is_warned_of_and_knowledge_is_not(
    runs: dict[tuple[str, bool], Path], kind: str, learnable: bool, tmp_path: Path
) -> None:
    field = "base" if kind == "genome" else "x"
    file = with_holes(kind, learnable, tmp_path / "holes")
    summary, table, report, answered = filled(runs[kind, learnable], file, tmp_path / "out")
    share = summary["beyond frequencies"][field]
    gains = np.array([float(row["gain"]) for row in table])
    assert (share < LEVEL) == (not learnable)
    assert (share > 5 * LEVEL) == learnable
    assert (gains.mean() < 0.1) == (not learnable)
    warned = [text for text in summary.get("warnings", ()) if "frequencies" in text and field in text]
    assert len(warned) == (not learnable)
    assert ("frequencies" in answered) == (not learnable)
    assert ("<b>Warning</b>" in report) == (not learnable)


def test_it_is_known_when_the_corpus_is_gone(runs: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    file = with_holes("genome", False, tmp_path / "holes")
    shares = []
    for number, gone in enumerate(([], ["corpus"], [FREQUENCIES], ["corpus", FREQUENCIES])):
        run = tmp_path / f"run{number}"
        shutil.copytree(runs["genome", False], run)
        for name in gone:
            shutil.rmtree(run / name) if name == "corpus" else (run / name).unlink()
        summary, table, _, answered = filled(run, file, tmp_path / f"out{number}", "--experts", "encoder")
        shares.append(summary["beyond frequencies"])
        assert ("frequencies" in answered) == (len(gone) < 2)
        assert all(bool(row["gain"]) == (len(gone) < 2) for row in table)
    assert shares[0] == shares[1] == shares[2]
    assert "not known" in shares[3]
    checkpoint = maskseq.load(runs["genome", False]).checkpoint
    of_checkpoint = filled(checkpoint, file, tmp_path / "of-checkpoint", "--experts", "encoder")[0]
    assert of_checkpoint["beyond frequencies"] == shares[0]


@pytest.mark.parametrize("broken", ['{"counts": 1}', "[", '{"counts": [[1, 2]]}', '{"counts": [[-1, 1, 1, 1]]}', "{}"])
def test_a_broken_file_is_named_and_stops_nothing(
    runs: dict[tuple[str, bool], Path], broken: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["genome", False], run)
    (run / FREQUENCIES).write_text(broken)
    summary, table, _, answered = filled(run, with_holes("genome", False, tmp_path / "holes"), tmp_path / "out")
    assert FREQUENCIES in answered
    assert "Traceback" not in answered
    assert len(table) == summary["filled"]["cells"] > 0
