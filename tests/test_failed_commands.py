"""A command that failed leaves nothing behind, and the same command with a corrected file does its work."""

from pathlib import Path

import pytest
from typer.testing import CliRunner
from untrained import untrained

from maskseq.cli import app
from maskseq.trained import TrainedModel
from maskseq_genomics.nucleotide import NucleotideTokenizer

GOOD = "".join(f">r{i}\n{'ACGTTGCAAN' * 12}\n" for i in range(30))
BROKEN = GOOD + ">x\nAC!!\n>y\nACGT\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return untrained(NucleotideTokenizer(), tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("infill", "filled"),
        ("embed", "v.zarr"),
        ("embed", "v.parquet"),
        ("embed", "v.npz"),
        ("score", "s.tsv"),
    ],
)
def test_of_a_run(command: str, output: str, run: TrainedModel, tmp_path: Path) -> None:
    file = tmp_path / "x.fa"
    arguments = [command, str(run.path), str(file), "-o", str(tmp_path / output)]
    file.write_text(BROKEN)
    assert CliRunner().invoke(app, arguments).exit_code == 3
    assert list(tmp_path.iterdir()) == [file]
    file.write_text(GOOD)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, output])


RECIPE = """
blend = false
calibrate = false
data.files = ["x.fa"]
tokenizer.name = "nucleotide"
model = {preset = "nano", n_layers = 1}
packing = {row_tokens = 256, context = 64}
training = {tokens = 1000, rows = 1}
"""


@pytest.mark.parametrize("command", ["tokenize", "pretrain"])
def test_of_a_recipe(command: str, tmp_path: Path) -> None:
    """Also where the recipe was what was wrong, and another tokenizer corrects it."""
    recipe, file = tmp_path / "r.toml", tmp_path / "x.fa"
    arguments = [command, str(recipe), "--output", str(tmp_path / "out")]
    for text, content, code in (
        (RECIPE, BROKEN, 3),
        (RECIPE.replace("nucleotide", "protein"), BROKEN, 3),
        (RECIPE, GOOD, 0),
    ):
        recipe.write_text(text)
        file.write_text(content)
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, result.output
