"""Shipped recipes: each says what it is for and what it needs, and trains on the data it was made for."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from maskseq.apps import samples as shipped
from maskseq.apps.inspect import dry_run
from maskseq.cli import app
from maskseq.recipe import load_recipe

OFFLINE = ("apache", "co2", "demo", "lambda")
DATA = {
    "ecoli": "genomics/ecoli_K12_MG1655.fasta.gz",
    "yeast": "genomics/yeast_S288C_R64_chrI-X_Mito.fa.gz",
    "promoters": "genomics/GUE/prom_300_tata/train.csv",
    "helpdesk": "events/helpdesk_full.csv",
    "bpi2012": "events/bpic2012.xes.gz",
    "hdfs": "events/hdfs_sessions_train.txt",
    "etth1": "signals/ETTh1.csv",
    "ecg": "signals/wfdb/100.hea",
    "eeg": "signals/EEGMMIDB_S001R04.edf",
}
QUICK = ("promoters", "hdfs", "etth1")


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def trains(recipe: Path, folder: Path, *, tokens: int, files: str = "") -> None:
    overrides = [f"training.tokens={tokens}", "training.validation_rows=1", "data.workers=1"]
    overrides += ["blend=false", "calibrate=false", "training.comparison_cells=0"]  # which other tests are about
    overrides += [f"data.files={json.dumps([files])}"] if files else []
    options = [part for override in overrides for part in ("--set", override)]
    result = maskseq("pretrain", recipe, "--json", "-o", folder / "run", *options)
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    steps = [event["scores"]["all"]["loss"] for event in events if event["event"] == "Step"]
    assert np.isfinite(steps).all()
    assert any(event["event"] == "Validation" for event in events), "nothing is held out"


def test_every_recipe_runs_offline_or_says_where_its_data_are() -> None:
    assert set(shipped.recipes()) == {*OFFLINE, *DATA}
    for name, path in shipped.recipes().items():
        assert shipped.first_comment(path)
        files = [Path(file) for file in load_recipe(path).data.files]
        if name in OFFLINE:
            assert all(file.is_file() for file in files)
        else:
            text = path.read_text()
            assert "https://" in text
            assert f"maskseq pretrain {name}.toml" in text
            assert all(file.parent == path.parent for file in files), "data lie beside the copied recipe"


@pytest.mark.parametrize("name", ["apache", "co2", "lambda"])
def test_a_copied_recipe_runs_with_its_samples(name: str, tmp_path: Path) -> None:
    assert maskseq("recipes", "copy", name, tmp_path / "mine.toml").exit_code == 0
    trains(tmp_path / "mine.toml", tmp_path, tokens=4000)


@pytest.mark.filterwarnings("ignore:channel.*quantile bins")
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in DATA]
)
def test_a_recipe_trains_on_the_data_it_was_made_for(name: str, shared_data: Path, tmp_path: Path) -> None:
    trains(shipped.recipes()[name], tmp_path, tokens=9000, files=str(shared_data / DATA[name]))


def test_the_recipe_of_a_bacterium_works_for_a_genome_of_several_replicons(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    genome = tmp_path / "genome.fa"
    genome.write_text("".join(f">replicon {n}\n{''.join(rng.choice(list('ACGT'), n))}\n" for n in (60_000, 20_000)))
    recipe = load_recipe(shipped.recipes()["ecoli"], [f"data.files={json.dumps([str(genome)])}"])
    data = dry_run(recipe, output=tmp_path / "run")["data"]
    assert data["validation tokens"] == pytest.approx(0.2 * 80_000, rel=0.05)
