"""Runs that predict with a blend: what they are counted on, what is kept, and what holds where something is missing."""

import csv
import json
import random
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner
from untrained import load_model

import maskseq
from maskseq.apps import infill as roundtrip
from maskseq.apps import pretrain
from maskseq.apps.evaluate import Question, evaluate_run
from maskseq.apps.prepare import prepare_corpus
from maskseq.baselines.gating import _COUNTED
from maskseq.calibration.stored import held_out_records
from maskseq.cli import app
from maskseq.corpus.dress import ReadAs
from maskseq.errors import UsageError
from maskseq.infill.journal import Journal
from maskseq.infill.options import InfillOptions
from maskseq.loaded.run import BLEND
from maskseq.predict.blend import ENCODER
from maskseq.predict.gate_file import read_gate
from maskseq.predict.protocol import Example
from maskseq.recipe import load_recipe
from maskseq.trained import TrainedModel, load
from maskseq.training.events import Calibrated

TABLES = "12 + 12 neighbours"


def log(n: int, seed: int) -> str:
    """Cases that go round a to e, a value in ten another: counting finds it in seconds, a tiny encoder does not."""
    rng = random.Random(seed)
    rows = ["case,activity,colour"]
    for case in range(n):
        start = rng.randrange(5)
        for event in range(rng.randrange(4, 9)):
            at = (start + event) % 5 if rng.random() < 0.9 else rng.randrange(5)
            rows.append(f"{seed}-{case},{'abcde'[at]},{['red', 'green', 'blue'][at % 3]}")
    return "\n".join(rows) + "\n"


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "data": {
            "files": [str(folder / "log.csv")],
            "format": "event-csv",
            "format_options": {"case": "case", "activity": "activity", "time": ""},
            "workers": 1,
            "split": {"selection": 0.25},
        },
        "tokenizer": {"name": "event", "attributes": ["colour"]},
        "model": {"preset": "nano", "n_layers": 1, "hidden_size": 8, "intermediate_size": 8, "n_heads": 1},
        "packing": {"row_tokens": 256, "context": 32},
        "training": {"tokens": 2_000, "rows": 1, "precision": "fp32"},
        **changes,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, a file with holes, and a run of the log."""
    folder = tmp_path_factory.mktemp("blended")
    (folder / "log.csv").write_text(log(120, 1))
    holes = log(12, 2).splitlines()
    requested = [
        line.replace(",a,", ",?,").replace(",b,", ",?,") if i % 3 == 0 else line for i, line in enumerate(holes)
    ]
    (folder / "holes.csv").write_text("\n".join(requested) + "\n")
    maskseq.pretrain(recipe(folder), output=folder / "run")
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A copy, to change."""
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run"


def gate_of(run: Path) -> Path:
    (found,) = run.rglob("gate.json")
    return found


def answers(run: TrainedModel, file: Path, experts: Sequence[str] = ()) -> list[np.ndarray]:
    records = run.reader(file).read(file)
    return [each.filled.fill.marginals for each in run.infill(records, experts=experts)]


def same(some: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all(np.array_equal(each, other, equal_nan=True) for each, other in zip(some, others, strict=True))


def test_pretraining_weighs_what_was_counted(folder: Path) -> None:
    loaded = load(folder / "run")
    assert loaded.experts.stored is not None
    assert {ENCODER, TABLES} <= set(loaded.experts.stored.experts)
    reported = evaluate_run(folder / "run", question=Question(cells=300, protocols=("event",))).to_json()
    bits = {name: each["bits"] for name, each in reported["protocols"]["event"]["by"].items()}
    assert bits["model"] < bits[f"{ENCODER} (expert)"] - 0.2
    assert bits["model"] < 1.05 * bits[f"{TABLES} (expert)"]


def test_the_encoder_alone_is_what_a_run_without_a_gate_is(folder: Path, run: Path) -> None:
    file = folder / "holes.csv"
    blended, alone = answers(load(run), file), answers(load(run), file, (ENCODER,))
    assert not same(blended, alone)
    scores = [each.bits for each in load(run).score(load(run).reader(file).read(file), experts=(ENCODER,))]
    gate_of(run).unlink()
    assert same(answers(load(run), file), alone)
    assert same([each.bits for each in load(run).score(load(run).reader(file).read(file))], scores)
    with pytest.raises(UsageError, match="gate"):
        answers(load(run), file, (TABLES,))


def test_a_switch_of_the_recipe_leaves_the_gate_out_and_changes_no_identity(folder: Path, tmp_path: Path) -> None:
    maskseq.pretrain(recipe(folder, blend=False), output=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("gate.json"))
    ours, theirs = (json.loads((each / "run" / "recipe.json").read_bytes()) for each in (tmp_path, folder))
    assert ours == theirs
    maskseq.pretrain(recipe(folder), output=tmp_path / "run")  # goes on with the same run: there is nothing to train
    assert gate_of(tmp_path / "run")


def test_some_experts_have_the_weights_of_the_situations_of_all(folder: Path) -> None:
    """What an expert that is left out tells apart stays apart."""
    run = load(folder / "run")
    stored = run.experts.stored
    assert stored is not None
    every = run.experts.all(run.predict())
    chosen = [name for name in stored.experts if name != "cross-field"][:2]
    blend = run.experts.predict(run.predict(), chosen)
    assert blend.situations.n == len(stored.weights) == len(blend.gate.weights)
    assert list(blend.experts) == chosen
    assert set(chosen) < set(every)
    assert run.experts.used((chosen[0], chosen[0])) == (chosen[0],)


def test_a_run_without_a_trained_encoder_never_fills_by_it(folder: Path, tmp_path: Path) -> None:
    run = maskseq.pretrain(recipe(folder), output=tmp_path / "run", experts_only=True)
    shutil.move(tmp_path / "run" / "corpus", tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="corpus"), pytest.raises(UsageError, match="encoder"):
        answers(load(run.path), folder / "holes.csv")
    with pytest.raises(UsageError, match="trained"):
        maskseq.pretrain(recipe(folder), output=folder / "run", experts_only=True)


@pytest.mark.parametrize("how", ["text", "weights", "checkpoint", "corpus", "expert", "classes"])
def test_a_gate_that_does_not_fit_is_ignored_with_a_line(folder: Path, run: Path, how: str) -> None:
    alone = answers(load(run), folder / "holes.csv", (ENCODER,))
    path = gate_of(run)
    gate = json.loads(path.read_bytes())
    changes: dict[str, Any] = {
        "weights": {"weights": [[-1.0] * len(gate["experts"])]},
        "checkpoint": {"checkpoint": "0" * 64},
        "corpus": {"corpus": "0" * 64},
        "expert": {"experts": [*gate["experts"][:-1], "nobody"]},
        "classes": {"weights": gate["weights"][:-1]},
    }
    path.write_text("no JSON" if how == "text" else json.dumps(gate | changes[how]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert same(answers(load(run), folder / "holes.csv"), alone)
    (line,) = {str(each.message).partition("\n\n")[0] for each in caught}
    assert "alone" in line
    assert "\n" not in line


def test_without_its_corpus_the_encoder_predicts_alone(folder: Path, run: Path) -> None:
    file = folder / "holes.csv"
    alone = answers(load(run), file, (ENCODER,))
    shutil.rmtree(run / "corpus")
    with pytest.warns(UserWarning, match="corpus"):
        assert same(answers(load(run), file), alone)
    with pytest.warns(UserWarning, match="corpus"), pytest.raises(UsageError, match="corpus"):
        answers(load(run), file, (TABLES,))


def test_a_corpus_that_lies_elsewhere_is_found(folder: Path, tmp_path: Path) -> None:
    data = recipe(folder)["data"] | {"corpus": str(tmp_path / "corpus")}
    maskseq.pretrain(recipe(folder, data=data), output=tmp_path / "run")
    assert load(tmp_path / "run").experts.used() != (ENCODER,)


def test_the_corpus_of_the_gate_is_found_beside_the_run_s_own(folder: Path, run: Path, tmp_path: Path) -> None:
    """Experts may be counted on other data than the encoder was trained on."""
    (tmp_path / "other.csv").write_text(log(60, 3))
    data = recipe(folder)["data"] | {"files": [str(tmp_path / "other.csv")]}
    loaded = load_recipe(recipe(folder, data=data))
    other = prepare_corpus(loaded, default=tmp_path / "corpus", tokenizer=load(run).tokenizer)
    load(run).blend(corpus=other)
    again = load(run)
    assert again.experts.used() != (ENCODER,)
    assert again.corpus_of_experts().fingerprint == other.fingerprint != again.corpus().fingerprint
    shutil.rmtree(tmp_path / "corpus")
    with pytest.warns(UserWarning, match="corpus"):
        assert load(run).experts.used() == (ENCODER,)


def test_a_gate_that_a_checkpoint_is_given_moves_with_its_run(run: Path, tmp_path: Path) -> None:
    checkpoint = gate_of(run).parent
    load(checkpoint).blend()
    assert json.loads(gate_of(run).read_text())["corpus_path"] == ""
    shutil.move(run, tmp_path / "moved")
    assert load(tmp_path / "moved").experts.used() != (ENCODER,)


def test_one_expert_answers_as_it_does_by_itself(folder: Path) -> None:
    loaded = load(folder / "run")
    examples = [next(iter(loaded.corpus().each("train")))[1].ids.copy()]
    examples[0][1, 0] = loaded.tokenizer.vocabulary.mask_ids[0]
    requested = [np.array([[1, 0]])]
    predictors = loaded.predictors()
    given = [maskseq.predict.protocol.Example(ids) for ids in examples]
    (alone,) = loaded.predict_fills(experts=(TABLES,))(given, requested)
    np.testing.assert_array_equal(alone, predictors[TABLES](given, requested)[0])
    assert set(predictors) == {BLEND, ENCODER, *loaded.experts.stored.experts}  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="encoder"):
        loaded.predict_fills(experts=("encodr",))


def test_a_calibration_is_of_one_predictor(folder: Path, run: Path) -> None:
    loaded = load(run)
    fitted = loaded.calibrate(held_out_records(loaded.corpus()), cells=200)
    assert fitted.calibration(InfillOptions().config) is not None
    with pytest.warns(UserWarning, match="another predictor"):
        assert fitted.calibration(InfillOptions().config, experts=(ENCODER,)) is None
    again = fitted.calibrate(held_out_records(loaded.corpus()), cells=200, experts=(ENCODER,))
    assert again.calibration(InfillOptions().config, experts=(ENCODER,)) is not None
    with pytest.warns(UserWarning, match="another predictor"):
        assert again.calibration(InfillOptions().config) is None


def test_a_journal_is_of_one_predictor(folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, Any]] = []

    class Spied(Journal):
        def __init__(self, place: Path, identity: dict[str, Any]) -> None:
            kept.append(identity)
            super().__init__(place, identity)

    monkeypatch.setattr(roundtrip, "Journal", Spied)
    summary = roundtrip.infill_file(load(run), folder / "holes.csv", output=run.parent / "one")
    assert sum(summary["experts"].values()) == pytest.approx(1)
    reported = roundtrip.infill_file(load(run), folder / "holes.csv", output=run.parent / "two", experts=(ENCODER,))
    assert "experts" not in reported
    gate_of(run).unlink()
    roundtrip.infill_file(load(run), folder / "holes.csv", output=run.parent / "three")
    assert kept[0] != kept[1]
    assert kept[1] == kept[2]


def test_experts_alone_make_a_run_that_training_goes_on_from(folder: Path, tmp_path: Path) -> None:
    run = maskseq.pretrain(recipe(folder), output=tmp_path / "run", experts_only=True)
    assert run.checkpoint.name == "step_0"
    assert run.experts.stored is not None
    assert ENCODER not in run.experts.stored.experts
    assert answers(load(tmp_path / "run"), folder / "holes.csv")
    fitted = run.calibrate(held_out_records(run.corpus()), cells=200)
    assert fitted.calibration(InfillOptions().config) is not None
    maskseq.pretrain(recipe(folder), output=tmp_path / "run")
    ours, theirs = (dict(load_model(each / "run")[0].named_parameters()) for each in (tmp_path, folder))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    stored = load(tmp_path / "run").experts.stored
    assert stored is not None
    assert ENCODER in stored.experts


def test_an_older_run_is_given_a_gate_on_the_command_line(folder: Path, run: Path) -> None:
    gate_of(run).unlink()
    (run.parent / "more.csv").write_text(log(60, 3))
    command = ["blend", str(run), "--data", str(run.parent / "more.csv"), "--cells", "500", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    reported = json.loads(result.stdout)
    assert set(reported["shares"]) >= {ENCODER, TABLES}
    assert "more.csv" in json.loads(gate_of(run).read_bytes())["fitted_on"]
    infill = ["infill", str(run), str(folder / "holes.csv"), "-o", str(run.parent / "filled"), "--experts"]
    assert CliRunner().invoke(app, [*infill, "nobody"]).exit_code == 2
    result = CliRunner().invoke(app, [*infill, TABLES])
    assert result.exit_code == 0, result.output


def test_without_selection_data_all_are_worth_the_same(folder: Path, tmp_path: Path) -> None:
    data = recipe(folder)["data"] | {"split": {"by": "none"}}
    run = maskseq.pretrain(recipe(folder, data=data), output=tmp_path / "run")
    stored = run.experts.stored
    assert stored is not None
    assert {weight for row in stored.weights for weight in row} == {1 / len(stored.experts)}
    assert "nothing is held out" in " ".join(stored.notes)


@pytest.mark.filterwarnings("ignore")
def test_no_value_in_a_gate_does_harm(run: Path) -> None:
    """Each field replaced: it is read as a gate, or ignored."""
    path = gate_of(run)
    gate = json.loads(path.read_bytes())
    places: list[tuple[Any, ...]] = [(name,) for name in gate]
    places += [("weights", 0), ("weights", 0, 0), ("experts", 0), ("holes", 0), ("notes", 0)]
    for place in places:
        for value in ("x:Class", "../../outside", 10**15, -1, [], {"a": 1}, None, [[]], "NaN", 1e308):
            changed = json.loads(path.read_bytes())
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            path.write_text(json.dumps(changed))
            found = read_gate(path.parent)
            assert found is None or np.isfinite(found.gate.weights).all()
            path.write_text(json.dumps(gate))


def drifted(folder: Path, masked: str = "?") -> Path:
    """Cases that go round the other way than those in training, an event in some of them unknown."""
    rows = ["case,activity,colour"]
    for case in range(30):
        for event in range(6):
            at = (case - event) % 5
            name = masked if event == 3 and case % 3 == 0 else "abcde"[at]
            rows.append(f"new-{case},{name},{['red', 'green', 'blue'][at % 3]}")
    path = folder / "drifted.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_what_is_known_in_a_file_counts_for_its_other_records(folder: Path, tmp_path: Path) -> None:
    file, run = drifted(tmp_path), load(folder / "run")
    records = list(run.reader(file).read(file))

    def surprise(loaded: TrainedModel) -> float:
        """Bits of the events that are unknown, by the way that the cases of the file go."""
        found = []
        for case, each in enumerate(loaded.infill(records, experts=(TABLES,))):
            if case % 3 == 0:
                true = run.tokenizer.fields[0].tokens.index("abcde"[(case - 3) % 5])
                found.append(-np.log2(each.filled.fill.marginals[0, true]))
        return float(np.mean(found))

    before = surprise(run)
    assert surprise(run.knowing(records)) < before - 1
    unknown = InfillOptions(unknown=("activity",), experts=(TABLES,))
    kept = [(each.key, each.ids[:, 0].tolist()) for each in run.knowing(records, unknown).known]
    assert all(set(ids[:-1]) == {run.tokenizer.fields[0].mask_id} for _, ids in kept)  # all but the mark of the end
    summary = roundtrip.infill_file(run, file, output=tmp_path / "out")
    assert summary["filled"]["cells"] == 10


def test_records_that_are_scored_do_not_count_for_themselves(folder: Path, tmp_path: Path) -> None:
    """One odd case stays odd; how much counts are worth is fitted anew, so that it is not as odd to the bit."""
    file, run = tmp_path / "odd.csv", load(folder / "run")
    file.write_text("case,activity,colour\n" + "".join(f"odd,{each},red\n" for each in "aceb"))
    (record,) = run.reader(file).read(file)
    bits = [next(iter(each.score([record], experts=(TABLES,)))).bits for each in (run, run.knowing([record]))]
    assert np.nansum(bits[1]) > 0.7 * np.nansum(bits[0]) > 20


def signal(length: int, seed: int) -> np.ndarray:
    """Two smooth channels that know of one another."""
    steps = np.random.default_rng(seed).normal(0, 0.1, (length + 40, 2)) @ np.array([[1, 0.5], [0, 1]])
    smooth = np.stack([np.convolve(column, np.hanning(20), mode="valid") for column in steps.T], axis=1)
    return np.asarray(np.round(smooth[:length], 4))


def write_signal(path: Path, values: np.ndarray) -> None:
    rows = [",".join("" if np.isnan(x) else repr(float(x)) for x in row) for row in values]
    path.write_text("\n".join(["a,b", *rows]) + "\n")


@pytest.mark.parametrize("experts_only", [True, False])
def test_runs_of_numbers_fill_a_file_that_drifted(tmp_path: Path, *, experts_only: bool) -> None:
    """Their experts weigh by each window's own known numbers, and what they fill leaves the bins with the file."""
    write_signal(tmp_path / "train.csv", signal(3000, 0))
    settings: dict[str, Any] = {
        "data": {"files": [str(tmp_path / "train.csv")], "format": "signal-csv", "workers": 1},
        "tokenizer": {"name": "quantize", "bins": 32},
        "packing": {"row_tokens": 256, "context": 64},
    }
    recorded = recipe(tmp_path) | settings
    recorded["data"] |= {"split": {"regions": ["2501-2900"]}}
    run = maskseq.pretrain(recorded, output=tmp_path / "run", experts_only=experts_only)
    truth = signal(300, 1) + 25.0
    requested = truth.copy()
    for start in range(10, 290, 24):
        requested[start : start + 5, start // 24 % 2] = np.nan
    write_signal(tmp_path / "asked.csv", requested)
    roundtrip.infill_file(run, tmp_path / "asked.csv", output=tmp_path / "out", read_as=ReadAs(format="signal-csv"))
    filled = np.genfromtxt(tmp_path / "out" / "asked.csv", delimiter=",", skip_header=1)
    holes = np.isnan(requested)
    assert np.array_equal(filled[~holes], truth[~holes])
    lines = requested.copy()
    for column in lines.T:
        known = ~np.isnan(column)
        column[~known] = np.interp(np.flatnonzero(~known), np.flatnonzero(known), column[known])
    errors = [float(np.mean((each - truth)[holes] ** 2)) for each in (filled, lines)]
    assert errors[0] < 0.7 * errors[1]


def test_evaluation_counts_what_infill_would(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known cells of other records; of what came later nothing where the future is asked about."""
    file = drifted(tmp_path, masked="a")

    def bits(protocol: str) -> float:
        question = Question(cells=300, protocols=(protocol,))
        found = evaluate_run(folder / "run", file, question=question, experts=(TABLES,))
        assert found.of["known cells counted"] == (protocol == "event")
        simple[protocol] = found.protocols[protocol].figures.by["5 + 5 neighbours"].bits
        return found.protocols[protocol].figures.by["model"].bits

    simple: dict[str, float] = {}
    with_file = {protocol: bits(protocol) for protocol in ("event", "next")}
    monkeypatch.setattr(TrainedModel, "counting", lambda self, file, experts=(): self)
    question = Question(cells=300, protocols=("event", "next"))
    without = evaluate_run(folder / "run", file, question=question, experts=(TABLES,))
    assert with_file["event"] < without.protocols["event"].figures.by["model"].bits - 0.5
    assert with_file["next"] == without.protocols["next"].figures.by["model"].bits
    assert simple["event"] < without.protocols["event"].figures.by["5 + 5 neighbours"].bits - 0.1
    assert simple["next"] == without.protocols["next"].figures.by["5 + 5 neighbours"].bits


def test_a_table_of_fills_says_what_each_expert_gave(folder: Path, tmp_path: Path) -> None:
    """As each expert answers by itself, given the known cells alone."""
    run = load(folder / "run")
    records = list(run.reader(folder / "holes.csv").read(folder / "holes.csv"))
    knowing = run.knowing(records)
    used = knowing.experts.used()
    every = knowing.experts.all(knowing.predict())
    for each in knowing.infill(records):
        fill = each.filled.fill
        if not len(fill.cells):
            continue
        masked = run.tokenizer.vocabulary.masked(each.before.ids, np.zeros(each.before.ids.shape, bool))
        masked[tuple(fill.cells.T)] = [run.tokenizer.fields[column].mask_id for column in fill.cells[:, 1]]
        assert fill.experts is not None
        for column, name in enumerate(used):
            (alone,) = every[name]([Example(masked, key=each.filled.task.key)], [fill.cells])
            expected = np.exp(alone[np.arange(len(fill.cells)), fill.values[0]])
            np.testing.assert_allclose(fill.experts[0, :, column], expected, atol=1e-4)
    summary = roundtrip.infill_file(run, folder / "holes.csv", output=tmp_path / "out")
    assert set(summary["given by experts"]) == set(used)
    with (tmp_path / "out" / "fills.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert all([name for name, _ in json.loads(row["experts"])] == list(used) for row in rows)
    means = np.mean([[given for _, given in json.loads(row["experts"])] for row in rows], axis=0)
    np.testing.assert_allclose(means, list(summary["given by experts"].values()), atol=1e-5)


def test_what_a_run_predicts_with_is_calibrated_by_the_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    plan = recipe(folder)

    def pretrained(name: str, **changes: Any) -> TrainedModel:
        heard.clear()
        maskseq.pretrain(
            plan | changes,
            output=tmp_path / name,
            experts_only=True,
            on_event=lambda event: heard.append(event.in_words) if isinstance(event, Calibrated) else None,
        )
        return load(tmp_path / name)

    assert pretrained("few").fitted is None
    assert "not calibrated" in heard[0]
    assert f"{pretrain.FEWEST_CALIBRATED:,}" in heard[0]
    monkeypatch.setattr(pretrain, "FEWEST_CALIBRATED", 400)
    monkeypatch.setattr(pretrain, "CALIBRATED", 600)
    kept: list[set[tuple[str, ...]]] = []
    monkeypatch.setattr(pretrain, "final_comparison", lambda run, corpus, recipe: kept.append({*_COUNTED[corpus]}))
    assert pretrained("off", calibrate=False).fitted is None
    assert not heard
    run = pretrained("run")
    assert ("train",) not in kept[-1]  # tables that the gate and the calibration were fitted with
    assert run.fitted is not None
    assert "calibrated on" in heard[0]
    assert run.calibration(InfillOptions().config) is not None  # of the predictor that infill asks
    before = (run.checkpoint / "calibration.json").read_bytes()
    pretrained("run")  # once more: there is one
    assert (run.checkpoint / "calibration.json").read_bytes() == before
