"""Who reads which part: choices are made by selection, figures are of the test, or of selection where there is none."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import maskseq
from maskseq.apps.evaluate import evaluate_baselines, evaluate_run
from maskseq.apps.final_comparison import final_comparison
from maskseq.apps.init import init
from maskseq.apps.inspect import inspect
from maskseq.apps.judging import held_out_rows
from maskseq.apps.rows import rows_of
from maskseq.calibration.stored import held_out_records
from maskseq.cli import app
from maskseq.comparison.question import Question
from maskseq.corpus.dress import ReadAs
from maskseq.recipe import load_recipe
from maskseq.survey import Suggestion
from maskseq.training.metrics import Watched
from maskseq.training.step import TrainStep

RECIPE: dict[str, Any] = {
    "blend": False,
    "calibrate": False,
    "data": {"split": {"by": "record", "selection": 0.2}},
    "tokenizer": {"name": "nucleotide"},
    "model": {"preset": "nano", "n_layers": 1},
    "packing": {"row_tokens": 256, "context": 64},
    "training": {"tokens": 3_000, "validate_every": 0.5, "precision": "fp32", "comparison_cells": 100},
}


def recipe(folder: Path, *, test: float) -> Path:
    rng = np.random.default_rng(0)
    records = (f">r{i}\n{''.join(rng.choice(list('ACGT'), 200))}\n" for i in range(60))
    (folder / "x.fa").write_text("".join(records))
    table = {**RECIPE, "data": {"files": ["x.fa"], "split": {**RECIPE["data"]["split"], "test": test}}}
    path = folder / "recipe.toml"
    text = "\n".join(f"{name} = {_toml(value)}" for name, value in table.items())
    path.write_text(text)
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    maskseq.pretrain(recipe(folder, test=0.2), output=folder / "run")
    return folder


def command(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_pretrain_chooses_by_selection_and_reports_the_test_once(three: Path) -> None:
    lines = [json.loads(line) for line in (three / "run" / "metrics.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds.count("test") == 1
    assert kinds.count("validation") == 3  # before the first step, halfway and at the end
    run = maskseq.load(three / "run")
    resolved = load_recipe(three / "recipe.toml")
    learner = _learner(run.model, resolved)
    corpus = run.corpus()
    _, selection = rows_of(resolved, corpus)
    test = held_out_rows(resolved, corpus, "test")
    assert selection is not None
    assert test is not None
    reported = {line["kind"]: line for line in lines}
    reported["validation"] = max(
        (line for line in lines if line["kind"] == "validation"), key=lambda line: line["merit"]
    )
    assert run.checkpoint.name == f"step_{reported['validation']['step']}"
    assert reported["validation"]["loss"] == pytest.approx(learner.score(selection, 16).all.loss, rel=1e-5)
    assert reported["test"]["loss"] == pytest.approx(learner.score(test, 16).all.loss, rel=1e-5)
    page = (three / "run" / "report.html").read_text()
    assert "test data" in page
    assert f"{reported['test']['bits']:.4g}" in page
    summary = Watched(three / "run").update().summary()
    assert summary["test_bits"] == reported["test"]["bits"]
    assert inspect(three / "run")["test"]["bits"] == reported["test"]["bits"]


def _learner(model: Any, resolved: Any) -> TrainStep:
    from maskseq.training import parallel

    return TrainStep(
        model, resolved.training, resolved.optimizer, parallel.join("cpu"), precision="fp32", dropout_key=(0, 0)
    )


def test_evaluate_reads_the_test_and_calibrate_reads_selection(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskseq.cli import fit
    from maskseq.comparison import judge as evaluation

    run = maskseq.load(three / "run")
    corpus = run.corpus()
    keys = {part: {corpus.key(i) for i in corpus.sequences(part)} for part in ("train", "selection", "test")}
    seen: list[set[str]] = []

    def draw(question: Any, protocol: str, records: Any, *rest: Any, **options: Any) -> Any:
        seen.append({key.partition("@")[0] for key, _ in records})
        return original(question, protocol, records, *rest, **options)

    original = evaluation.draw
    monkeypatch.setattr(evaluation, "draw", draw)
    question = Question(cells=300, every=False)
    reported = evaluate_run(three / "run", question=question)
    assert "test data" in reported.to_json()["of"]["data"]
    assert (
        "test data" in evaluate_run(three / "run", three / "run" / "corpus", question=question).to_json()["of"]["data"]
    )
    assert "test data" in evaluate_baselines(three / "run" / "corpus", question=question).to_json()["of"]["data"]
    assert all(each == keys["test"] for each in seen)
    assert len(seen) == 3 * 3  # three protocols each
    chosen_by = {key.partition("@")[0] for key, _ in fit.known_records(run, None, ReadAs())}
    assert chosen_by == keys["selection"] == {key.partition("@")[0] for key, _ in held_out_records(corpus)}


def test_a_finished_run_is_compared_with_counting(three: Path) -> None:
    """Random letters: nothing can be better than counting, and the report says so before anything else."""
    run = maskseq.load(three / "run")
    found = final_comparison(run, run.corpus(), load_recipe(three / "recipe.toml"))
    assert found is not None
    assert found.verdict is not None
    assert found.verdict.outcome in ("no better than", "worse than")
    assert list(found.protocols) == ["masked", "isolated", "gap-5"]
    page = (three / "run" / "report.html").read_text()
    assert page.index(html.escape(found.in_words)) < page.index("<h2>")
    without = load_recipe(three / "recipe.toml", ["training.comparison_cells=0"])
    assert final_comparison(run, run.corpus(), without) is None


def test_the_last_line_names_the_part(three: Path, tmp_path: Path) -> None:
    for folder, test, words in ((tmp_path, 0.0, "selection data"), (tmp_path / "b", 0.2, "test data")):
        folder.mkdir(exist_ok=True)
        message = command("pretrain", recipe(folder, test=test), "-o", folder / "run", "--set", "training.tokens=600")
        (last,) = (line for line in message.stderr.splitlines() if line.startswith("finished"))
        assert words in last
        assert ("counting in its worst field" in message.stderr.splitlines()[-1]) is (test > 0)
        kinds = [json.loads(line)["kind"] for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        assert kinds.count("test") == (test > 0)
        requested = command("evaluate", folder / "run", "--cells", 200, "--few")
        assert words in requested.stderr
        assert inspect(folder / "run" / "corpus")["split"]["figures are of"] == words


@pytest.mark.filterwarnings("ignore:.*older names are still read:FutureWarning")
@pytest.mark.parametrize(
    ("n", "options", "parts"),
    [
        (400, (), (0.1, 0.1)),
        (400, ("data.split.validation=0.3",), (0.3, 0.1)),
        (400, ("data.split.test=0.0",), (0.1, 0.0)),
        (60, (), (0.1, 0.0)),  # six records would be held out for the test
        (60, ("data.split.test=0.2",), (0.1, 0.2)),
        (1, (), (0.1, 0.0)),
    ],
)
def test_init_writes_the_shares(tmp_path: Path, n: int, options: tuple[str, ...], parts: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    records = (f">r{i}\n{''.join(rng.choice(list('ACGT'), 200))}\n" for i in range(n))
    (tmp_path / "x.fa").write_text("".join(records))
    init([tmp_path / "x.fa"], tmp_path / "recipe.toml", overrides=options)
    text = (tmp_path / "recipe.toml").read_text()
    split = load_recipe(tmp_path / "recipe.toml").data.split
    assert (split.selection, split.test) == parts
    assert ("selection = " in text, "test = " in text, "validation = " in text) == (True, True, False)
    dry = json.loads(command("pretrain", tmp_path / "recipe.toml", "--dry-run", "--json").stdout)
    for name, share in zip(("validation tokens", "test tokens"), parts, strict=True):
        assert dry["data"][name] == pytest.approx(share * 200 * n, abs=201)
    assert dry["data"]["training tokens"] > 0


def test_a_suggestion_under_the_old_name_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskseq_genomics.nucleotide import NucleotideTokenizer

    suggestion = Suggestion(recipe={"data": {"split": {"by": "record", "validation": 0.25}}})
    monkeypatch.setattr(NucleotideTokenizer, "suggest", classmethod(lambda cls, records: suggestion))
    recipe(tmp_path, test=0.0)
    init([tmp_path / "x.fa"], tmp_path / "first.toml", overrides=["tokenizer.name=nucleotide"])
    assert load_recipe(tmp_path / "first.toml").data.split.selection == 0.25
