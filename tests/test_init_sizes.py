"""What `maskseq init` chooses by how much data there is: of the whole file, and of what is trained on."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskseq.apps import init as starter
from maskseq.apps.init_sizes import MOST_EPOCHS, MOST_TOKENS, counted, sizes
from maskseq.apps.inspect import dry_run
from maskseq.formats import Format
from maskseq.recipe import load_recipe
from maskseq.survey import Size, Surveyed
from maskseq_genomics.fasta import Fasta
from maskseq_genomics.sequence import Sequence
from maskseq_genomics.survey import has_frames, suggest_nucleotides
from maskseq_signals.recording import Recording
from maskseq_signals.survey import suggest_bins

CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]


def random_bases(n: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), size=n))


def genes(n: int, seed: int) -> str:
    """Codons as a genome prefers them."""
    rng = np.random.default_rng(seed)
    return "".join(rng.choice(CODONS, size=n // 3, p=rng.dirichlet(np.full(64, 0.5))))


def begun(text: str, folder: Path, **options: Any) -> dict[str, Any]:
    folder.mkdir()
    (folder / "genome.fa").write_text(text)
    starter.init([folder / "genome.fa"], folder / "recipe.toml", **options)
    return tomllib.loads((folder / "recipe.toml").read_text())


def test_the_order_of_chromosomes_does_not_change_the_recipe(tmp_path: Path) -> None:
    chromosomes = [f">chromosome {n}\n{random_bases(size, n)}\n" for n, size in enumerate((1_200_000, 200_000, 300))]
    recipes = [
        begun("".join(chromosomes[n] for n in order), tmp_path / f"order {number}")
        for number, order in enumerate([(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    ]
    assert recipes[0] == recipes[1] == recipes[2]
    assert recipes[0]["model"]["ngram_prior"]["depth"] == 4  # 65,536 contexts, each about 43 times on both strands


def test_files_are_read_until_more_of_them_would_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "reads.fa"
    path.write_text("".join(f">r{n}\n{'ACGT' * 10_000}\n" for n in range(120)) + ">broken\nAC\x01GT\n")
    assert counted([path], Fasta(), "stop") == Size(records=100, units=4_000_000, longest=40_000)
    few = tmp_path / "few.fa"
    few.write_text(">a\nACGT\n>b\nACGTACGT\n")
    assert counted([few, few], Fasta(), "stop") == Size(records=4, units=24, longest=8)


@pytest.mark.parametrize(("units", "records"), [(500, 1), (2_284, 1), (15_000, 50), (97_004, 4_855), (5_000_000, 3)])
def test_tokens_are_those_of_what_is_trained_on_and_seen_no_more_than_so_often(units: int, records: int) -> None:
    size = Size(records=records, units=units, longest=units // records)
    table = sizes(size, 1.0, 512)
    trained = units * (1 - sum(table["data"]["split"].values()))
    assert table["training"]["tokens"] <= max(MOST_EPOCHS * trained + 1000, 1000)
    assert table["training"]["tokens"] <= MOST_TOKENS
    load_recipe({"tokenizer": {"name": "nucleotide"}, **table, "data": table["data"] | {"files": ["x"]}})


def test_positions_are_counted_not_units() -> None:
    size = Size(records=10, units=60_000, longest=6_000)
    assert sizes(size, 1 / 6, 512) == sizes(Size(records=10, units=10_000, longest=1_000), 1.0, 512)


def test_periods_are_suggested_where_there_are_codons() -> None:
    for letters, framed in ((genes(60_000, 1), True), (random_bases(60_000, 1), False)):
        records = [Sequence(key="a", residues=letters.encode())]
        assert has_frames(records) is framed
        suggestion = suggest_nucleotides(records)
        assert suggestion is not None
        assert ("phase_embeddings" in suggestion.recipe["model"]) is framed
    short = [Sequence(key=str(n), residues=genes(60, 2).encode()) for n in range(3)]
    assert not has_frames(short)  # too little to tell
    lower = [Sequence(key="a", residues=genes(60_000, 1).lower().encode())]
    assert has_frames(lower)


def test_what_is_suggested_goes_by_the_size_of_the_whole() -> None:
    bases = [Sequence(key="a", residues=random_bases(20_000, 3).encode())]
    few, many = (suggest_nucleotides(Surveyed(bases, Size(records=1, units=n, longest=n))) for n in (20_000, 5_000_000))
    assert few is not None
    assert many is not None
    assert few.recipe["model"]["ngram_prior"]["depth"] < many.recipe["model"]["ngram_prior"]["depth"] == 4
    wave = np.sin(np.arange(3_000) / 5)[:, None] + np.random.default_rng(0).normal(0, 0.1, (3_000, 1))
    signal = [Recording(key="a", channels=wave, names=("x",), units=("",), rate=1.0)]
    short, long = (suggest_bins(Surveyed(signal, Size(records=1, units=n, longest=n))) for n in (3_000, 300_000))
    assert short is not None
    assert long is not None
    assert short.recipe["optimizer"]["lr"] < long.recipe["optimizer"]["lr"]
    assert "mlp_dropout" in short.recipe["model"]
    assert "mlp_dropout" not in long.recipe["model"]


def test_a_plain_list_is_its_own_size() -> None:
    records = [Sequence(key="a", residues=b"ACGT"), Sequence(key="b", residues=b"ACGTACGT")]
    assert Size.of(records) == Size(records=2, units=12, longest=8)
    assert issubclass(Fasta, Format)


def test_the_time_that_is_told_is_that_of_steps_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured_speed: Callable[[Any, Any], float]
) -> None:
    for module in ("maskseq.apps.speed_probe", "maskseq.apps.inspect"):
        monkeypatch.setattr(f"{module}.speed_of", measured_speed)
    (tmp_path / "genome.fa").write_text(f">a\n{random_bases(30_000, 5)}\n")
    found = starter.init([tmp_path / "genome.fa"], tmp_path / "recipe.toml", probe=True)
    recipe = load_recipe(tmp_path / "recipe.toml")
    speed = float(found["training"]["speed"].split()[0].replace(",", ""))
    assert speed > 0
    minutes, seconds = map(int, found["training"]["time"].removeprefix("about ").split(":")[-2:])
    assert 60 * minutes + seconds == pytest.approx(recipe.training.tokens / speed % 3600, abs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "recipe.toml"]
    reported = dry_run(recipe, output=tmp_path / "run")
    assert "tokens/s" in reported["training"]["speed"]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_is_out_of_proportion(tmp_path: Path) -> None:
    (tmp_path / "genome.fa").write_text(f">a\n{random_bases(4_000, 5)}\n")
    starter.init([tmp_path / "genome.fa"], tmp_path / "recipe.toml")
    long = load_recipe(tmp_path / "recipe.toml", ["training.tokens=1_000_000"])
    advice = dry_run(long, output=tmp_path / "run")["training"]["advice"]
    assert "training.patience" in advice
    assert "--experts-only" in advice
