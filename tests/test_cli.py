"""The command line as a user meets it: what it answers, what it refuses, with which exit code, and what it leaves."""

import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from maskseq.cli import app

TINY = """
[data]
files = ["{file}"]
workers = 1
[tokenizer]
name = "nucleotide"
[model]
preset = "nano"
n_layers = 1
hidden_size = 32
intermediate_size = 32
n_heads = 1
[packing]
row_tokens = 1024
context = 128
[training]
tokens = 20_000
rows = 1
validate_every = 0.5
checkpoint_every = 0.5
precision = "fp32"
"""


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def recipe_for(file: Path) -> Path:
    recipe = file.parent / "recipe.toml"
    recipe.write_text(TINY.format(file=file.name))
    return recipe


@pytest.fixture(scope="module")
def lambda_run(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, pretrained for seconds on phage lambda."""
    folder = tmp_path_factory.mktemp("lambda")
    (folder / "lambda.fa.gz").write_bytes((samples / "lambda_virus.fa.gz").read_bytes())
    result = maskseq("pretrain", recipe_for(folder / "lambda.fa.gz"), "-o", folder / "run", "--json")
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [e["event"] for e in events if e["event"] in ("Started", "Finished")] == ["Started", "Finished"]
    assert sum(e["event"] == "Step" for e in events) == 20
    return folder / "run"


def test_a_run_folder_holds_what_the_design_says(lambda_run: Path) -> None:
    assert {"recipe.json", "metrics.jsonl", "checkpoints", "latest"} <= {p.name for p in lambda_run.iterdir()}
    newest = lambda_run / "checkpoints" / (lambda_run / "latest").read_text().strip()
    assert {"model.safetensors", "config.json", "tokenizer.json", "training_state"} <= {
        p.name for p in newest.iterdir()
    }
    steps = [json.loads(line) for line in (lambda_run / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps if s["kind"] == "step"] == list(range(1, 21))


def test_inspect_knows_recipes_corpora_and_runs(lambda_run: Path) -> None:
    run = json.loads(maskseq("inspect", lambda_run, "--layers", "--json").stdout)
    assert run["tokenizer"]["name"] == "nucleotide"
    assert run["last step"]["tokens"] >= 20_000
    assert sum(layer["parameters"] for layer in run["layers"]) == run["model"]["parameters"]
    corpus = json.loads(maskseq("inspect", lambda_run / "corpus", "--json").stdout)
    assert corpus["corpus"]["raw units"] == 48_502
    recipe = json.loads(maskseq("inspect", lambda_run.parent / "recipe.toml", "--json").stdout)
    assert recipe["recipe"]["packing"]["context"] == 128
    assert maskseq("inspect", lambda_run.parent).exit_code == 2


def test_verify_names_the_damaged_part(lambda_run: Path, tmp_path: Path) -> None:
    import shutil

    corpus = tmp_path / "corpus"
    shutil.copytree(lambda_run / "corpus", corpus)
    assert maskseq("verify", corpus).exit_code == 0
    chunk = max((p for p in corpus.glob("parts/*/*.zarr/**/*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    result = maskseq("verify", corpus, "--json")
    assert result.exit_code == 3
    assert any("000000.zarr" in problem for problem in json.loads(result.stdout)["problems"])


def test_a_command_leaves_the_filters_of_warnings_as_they_were() -> None:
    filters, show = list(warnings.filters), warnings.showwarning
    assert maskseq("recipes", "list").exit_code == 0
    assert (list(warnings.filters), warnings.showwarning) == (filters, show)


def test_dry_run_trains_nothing(lambda_run: Path, tmp_path: Path) -> None:
    result = maskseq("pretrain", lambda_run.parent / "recipe.toml", "-o", tmp_path / "new", "--dry-run", "--json")
    summary = json.loads(result.stdout)
    assert summary["training"]["steps"] == 20
    assert summary["first batch"]["scored cells"] > 0
    assert not (tmp_path / "new").exists()


def test_the_same_command_again_finds_the_run_finished(lambda_run: Path) -> None:
    before = (lambda_run / "metrics.jsonl").read_bytes()
    result = maskseq("pretrain", lambda_run.parent / "recipe.toml", "-o", lambda_run, "--json")
    assert result.exit_code == 0
    assert not [line for line in result.stdout.splitlines() if json.loads(line)["event"] == "Step"]
    assert (lambda_run / "metrics.jsonl").read_bytes() == before


def test_an_output_folder_with_another_run_is_refused(lambda_run: Path) -> None:
    result = maskseq("pretrain", lambda_run.parent / "recipe.toml", "-o", lambda_run, "--set", "optimizer.lr=1e-2")
    assert result.exit_code == 2
    assert "holds another run" in result.stderr
    assert "optimizer.lr" in result.stderr


def test_a_checkpoint_that_was_cut_short_is_named_and_the_one_before_is_used(lambda_run: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(lambda_run, run)
    newest, older = sorted((run / "checkpoints").glob("step_*"), key=lambda p: int(p.name[5:]), reverse=True)[:2]
    model = newest / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1000])
    result = maskseq("inspect", run)
    assert result.exit_code == 0
    assert newest.name in result.stderr
    assert older.name in result.stderr
    shutil.rmtree(older)
    result = maskseq("inspect", run)
    assert result.exit_code == 3
    assert str(model) in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.fa", None, "missing.fa"),
        ("empty.fa", b"", "empty"),
        ("empty.fa.gz", b"", "empty.fa.gz"),
        ("cut.fa.gz", gzip.compress(b">a\n" + b"ACGT" * 5000, mtime=0)[:-40], "cut.fa.gz"),
        ("headless.fa", b"ACGT\nACGT\n", "line 1"),
        ("letter.fa", b">a\nACGT\nACXT\n", "line 3"),
        ("unknown.xyz", b"?", "no format"),
    ],
)
def test_broken_files_end_in_one_line_and_leave_nothing(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    result = maskseq("pretrain", recipe_for(file), "-o", tmp_path / "run")
    assert result.exit_code == (2 if name.endswith(".xyz") else 3), result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    assert not (tmp_path / "run" / "corpus" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "{recipe}", "--set", "traning.tokens=5"], "did you mean 'training'"),
        (["pretrain", "{recipe}", "--set", "tokenizer.name=nucleotid"], "did you mean 'nucleotide'"),
        (["pretrain", "{recipe}", "--set", "tokenizer.kmer=3"], "kmer"),
        (["pretrain", "{recipe}", "--set", "model.preset=nanoo"], "did you mean 'nano'"),
        (["pretrain", "{recipe}", "--set", "packing.context=9000"], "context"),
        (["pretrain", "nowhere.toml"], "no such recipe"),
        (["pretrain", "{recipe}", "--no-such-option"], "no-such-option"),
        (["inspect", "nowhere"], "nowhere"),
        (["infill", "nowhere", "{recipe}"], "nowhere"),
        (["recipes", "copy", "demmo", "x.toml"], "did you mean 'demo'"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_hint(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "a.fa").write_bytes(b">a\n" + b"ACGT" * 500 + b"\n")
    recipe = recipe_for(tmp_path / "a.fa")
    result = maskseq(
        *(a.format(recipe=recipe) for a in arguments), *(["-o", tmp_path / "o"] * (arguments[0] == "pretrain"))
    )
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_a_context_longer_than_every_record_is_fine(tmp_path: Path) -> None:
    """Short records are packed; the context is an upper bound."""
    import random

    letters = random.Random(0)
    records = [f">r{i}\n{''.join(letters.choices('ACGT', k=40 + i))}\n" for i in range(60)]
    (tmp_path / "short.fa").write_text("".join(records))
    recipe = recipe_for(tmp_path / "short.fa")
    result = maskseq(
        "pretrain", recipe, "-o", tmp_path / "run", "--set", "packing.context=1024", "--set", "training.tokens=4000"
    )
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_checkpoints_and_says_how_to_go_on(
    samples: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "lambda.fa.gz").write_bytes((samples / "lambda_virus.fa.gz").read_bytes())
    recipe = recipe_for(tmp_path / "lambda.fa.gz")
    command = [sys.executable, "-m", "maskseq", "pretrain", str(recipe), "-o", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, "--set", "training.tokens=100_000_000"], stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, talk = process.communicate(timeout=120)
    assert process.returncode == code, talk
    assert "goes on from here" in talk
    assert (tmp_path / "run" / "latest").exists()


def test_recipes_copy_brings_its_samples(tmp_path: Path) -> None:
    result = maskseq("recipes", "copy", "demo", tmp_path / "mine.toml")
    assert result.exit_code == 0, result.output
    from maskseq.recipe import load_recipe

    assert all(Path(file).is_file() for file in load_recipe(tmp_path / "mine.toml").data.files)
    assert maskseq("recipes", "copy", "demo", tmp_path / "mine.toml").exit_code == 2


def test_help_teaches() -> None:
    assert "pretrain" in maskseq("--help").stdout
    assert "same command" in maskseq("pretrain", "--help").stdout
    assert maskseq("--version").stdout.strip()[0].isdigit()


def _letters(path: Path) -> str:
    return "".join(gzip.decompress(path.read_bytes()).decode().splitlines()[1:])


def test_infill_changes_hidden_stretches_only_and_scores_them(lambda_run: Path, tmp_path: Path) -> None:
    file = lambda_run.parent / "lambda.fa.gz"
    key = "gi|9626243|ref|NC_001416.1|"
    (tmp_path / "holes.bed").write_text(f"{key}\t500\t505\n")
    out = tmp_path / "out"
    masks = ["--mask", f"{key}:1001-1010", "--mask", tmp_path / "holes.bed"]
    result = maskseq("infill", lambda_run, file, "-o", out, "--json", *masks)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["filled"]["cells"] == summary["against what was hidden"]["cells"] == 15
    assert summary["against what was hidden"]["holes"] == 2
    before, after = _letters(file), _letters(out / "lambda.fa.gz")
    masked = {*range(500, 505), *range(1000, 1010)}
    assert len(before) == len(after)
    assert {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b} <= masked
    rows = list(csv.DictReader(io.StringIO((out / "fills.csv").read_text())))
    assert [int(row["start"]) for row in rows] == sorted(i + 1 for i in masked)
    for row in rows:
        assert row["value"] == after[int(row["start"]) - 1]
        assert row["truth"] == before[int(row["start"]) - 1]
    right = sum(row["value"] == row["truth"] for row in rows) / len(rows)
    assert summary["against what was hidden"]["right"] == pytest.approx(right)
    assert "<h1>" in (out / "report.html").read_text()
    again = maskseq("infill", lambda_run, file, "-o", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("mask", "code", "message"),
    [
        ("chr9:1-10", 2, "no record is called"),
        ("10-5", 2, "END is not before START"),
        ("1-99999999", 2, "leaves the record"),
        ("nonsense", 2, "expected KEY:START-END"),
        ("absent.bed", 3, "no such file"),
    ],
)
def test_a_mask_that_fits_nothing_leaves_nothing(
    lambda_run: Path, tmp_path: Path, mask: str, code: int, message: str
) -> None:
    result = maskseq("infill", lambda_run, lambda_run.parent / "lambda.fa.gz", "-o", tmp_path / "out", "--mask", mask)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:probabilities are not calibrated")  # which is of the blend
def test_score_and_embed_write_what_the_api_returns(lambda_run: Path, tmp_path: Path) -> None:
    import numpy as np

    import maskseq as api
    from maskseq_genomics.fasta import Fasta

    file = tmp_path / "two.fa"
    file.write_text(">a\nACGTNACGTTAGC\n>b\nTTTTACGACTACG\n")
    run = api.load(lambda_run)
    printed = maskseq("score", lambda_run, file, "--experts", "encoder").stdout.splitlines()
    rows = csv.DictReader(printed, delimiter="\t")
    scores = list(run.score(Fasta().read(file), experts=("encoder",)))
    assert [(row["key"], row["cells"], row["bits"]) for row in rows] == [
        (s.key, str(s.n_cells), f"{s.mean_bits:.4f}") for s in scores
    ]
    assert scores[0].n_cells == 12
    assert maskseq("embed", lambda_run, file, "-o", tmp_path / "v.npz").exit_code == 0
    saved = np.load(tmp_path / "v.npz")
    for key, vector in run.embed(Fasta().read(file)):
        np.testing.assert_array_equal(saved["vectors"][saved["keys"].tolist().index(key)], vector)


def test_a_run_can_be_exported_and_imported_again(lambda_run: Path, tmp_path: Path) -> None:
    assert maskseq("export", lambda_run, "-o", tmp_path / "hf").exit_code == 0
    assert maskseq("import-hf", tmp_path / "hf", "-o", tmp_path / "back").exit_code == 0
    from safetensors.numpy import load_file

    newest = lambda_run / "checkpoints" / (lambda_run / "latest").read_text().strip()
    before, after = (load_file(folder / "model.safetensors") for folder in (newest, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    assert maskseq("infill", tmp_path / "back", lambda_run.parent / "lambda.fa.gz", "-o", tmp_path / "o").exit_code == 0


def test_a_corpus_built_in_shares_is_the_corpus_built_at_once(lambda_run: Path, tmp_path: Path) -> None:
    recipe = lambda_run.parent / "recipe.toml"
    for share in ("2/2", "1/2"):
        assert maskseq("tokenize", recipe, "-o", tmp_path / "corpus", "--part", share).exit_code == 0
        assert not (tmp_path / "corpus" / "manifest.json").exists()
    assert maskseq("tokenize", recipe, "-o", tmp_path / "corpus").exit_code == 0
    assert (tmp_path / "corpus" / "manifest.json").read_bytes() == (
        lambda_run / "corpus" / "manifest.json"
    ).read_bytes()


def test_a_stage_begins_from_another_run(lambda_run: Path, tmp_path: Path) -> None:
    recipe = lambda_run.parent / "recipe.toml"
    longer = ["--set", "packing.context=256", "--set", "training.tokens=3000", "--set", "model.rope_theta=160000.0"]
    result = maskseq("pretrain", recipe, "-o", tmp_path / "longer", "--extend", lambda_run, "--json", *longer)
    assert result.exit_code == 0, result.output
    started = json.loads(result.stdout.splitlines()[0])
    assert started["resumed_from"].endswith((lambda_run / "latest").read_text().strip())
    assert started["stage"] == 1


def test_a_fill_keeps_the_rules_that_are_named(lambda_run: Path, tmp_path: Path) -> None:
    file, key = lambda_run.parent / "lambda.fa.gz", "gi|9626243|ref|NC_001416.1|"
    hide = ["--mask", f"{key}:1001-1010", "--mask", f"{key}:2001-2030"]
    rules = ["--rule", f"motif=CCNNNRRYYG@{key}:1001-1010", "--rule", f"gc=0.9..1@{key}:2001-2030"]
    result = maskseq("infill", lambda_run, file, "-o", tmp_path / "out", *hide, *rules)
    assert result.exit_code == 0, result.output
    after = _letters(tmp_path / "out" / "lambda.fa.gz")
    assert re.fullmatch("CC...[AG][AG][CT][CT]G", after[1000:1010])
    assert sum(letter in "GC" for letter in after[2000:2030]) >= 27
    wrong = maskseq("infill", lambda_run, file, "-o", tmp_path / "no", "--rule", f"motiv=CC@{key}:1-2")
    assert wrong.exit_code == 2
    assert "did you mean 'motif'" in wrong.stderr
    impossible = maskseq("infill", lambda_run, file, "-o", tmp_path / "no", "--rule", f"motif=AAAA@{key}:1-4")
    assert impossible.exit_code == 2  # those bases are known, and they are GGGC
    assert "position 1" in impossible.stderr
