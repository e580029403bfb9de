"""The panel as a whole on made-up files of the three domains, and what its parts promise."""

import csv
import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import maskseq
from benchmarks.panel import questions as drawing
from benchmarks.panel import walk
from benchmarks.panel.answers import METHODS, fillers
from benchmarks.panel.cut import cut
from benchmarks.panel.drift import DRIFTS, SENTINEL, drifted
from benchmarks.panel.questions import Export, asks, draw, questions, write
from benchmarks.panel.report import lines_of, over_seeds, write_report
from benchmarks.panel.sets import SETS, Set
from benchmarks.panel.walk import Ended, Panel, without_test
from maskseq.baselines.baselines import Baselines
from maskseq.cli import app
from maskseq.evaluation.figures import ask
from maskseq.evaluation.protocols import MaskedExample
from maskseq.predict.protocol import with_ids

HERE = Path(walk.__file__).parent


def _write(folder: Path) -> list[Set]:
    rng = np.random.default_rng(0)
    phrases = ["".join(rng.choice(list("ACGT"), 40)) for _ in range(5)]
    with (folder / "reads.fa").open("w") as file:
        for number in range(60):
            file.write(f">read{number}\n{''.join(rng.choice(phrases, 3))}\n")
    with (folder / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "activity", "time"])
        for case in range(60):
            for event in range(int(rng.integers(6, 10))):
                hour = case * 24 + event
                rows.writerow(
                    [
                        f"c{case}",
                        "abcab"[event % 5],
                        f"2024-{1 + hour // 720:02}-{1 + hour // 24 % 30 % 28:02} {hour % 24:02}:00:00",
                    ]
                )
    steps = np.arange(1200)
    waves = np.stack([np.sin(steps / 4), np.cos(steps / 7)], axis=1) + rng.normal(0, 0.1, (1200, 2))
    np.save(folder / "waves.npy", waves)
    some = {"half": "tuning", "options": ()}
    return [
        Set(name="reads", domain="genome", family="reads", file="reads.fa", cut="fasta", **some),
        Set(
            name="log",
            half="report",
            domain="log",
            family="log",
            file="log.csv",
            cut="cases",
            options=(("case", "case"), ("time", "time")),
        ),
        Set(name="waves", domain="signal", family="waves", file="waves.npy", cut="recording", season=25, **some),
    ]


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    """A panel that has been run, whose judged code runs in this process and trains for a moment only."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(HERE)
        patched.setattr(drawing, "DRIFT_GAPS", 20)
        made = _panel(tmp_path_factory.mktemp("panel"))
        assert made.run(_write(made.data)) == []
        yield made


def _panel(folder: Path) -> Panel:
    spec = importlib.util.spec_from_file_location("panel_model", HERE / "model.py")
    assert spec is not None
    assert spec.loader is not None
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)

    def call(words: list[str], limit: float | None) -> Ended:
        if words[:2] != ["-m", "maskseq"]:
            model.main(words[1:])
            return Ended(0, 0.0, "", False)
        short = ("training.tokens=3000", "model.n_layers=1", "training.comparison_cells=0", "calibrate=false")
        more = [word for each in short for word in ("--set", each)] if words[2] == "pretrain" else []
        result = CliRunner().invoke(app, [*words[2:], *more])
        return Ended(result.exit_code, 0.0, result.output[-500:], False)

    return Panel(
        root=HERE.parents[1],
        code=HERE.parents[1],
        commit="0" * 40,
        data=folder,
        work=folder / "work",
        results=folder / "results",
        cells=90,
        call=call,
    )


def test_a_panel_of_three_domains_has_rows_resumes_and_makes_its_page(panel: Panel) -> None:
    tmp_path = panel.data
    sets = _write(tmp_path)
    reported = {each.name: json.loads(panel.result(each).read_text()) for each in sets}
    by_name = {each.name: each for each in sets}
    for name, methods in (
        ("reads", {"frequencies"}),
        ("log", {"most frequent span"}),
        ("waves", {"lines", "season of 25", "covariances"}),
    ):
        protocols = reported[name]["protocols"]
        assert {f"{part}/{kind}" for part in ("test", "selection") for kind in ("single", "gap", "masked")} <= set(
            protocols
        )
        mixtures = {"equal mixture", "fitted mixture"}
        assert methods | mixtures | {"shipped"} <= set(protocols["test/gap"]["means"])
        # Nothing is chosen by the model's own figure there, nor by that of a mixture that was fitted there.
        assert not (mixtures | {"shipped"}) & set(protocols["selection/gap"]["means"])
        assert methods <= set(protocols["selection/gap"]["means"])
        assert "test" not in json.loads((panel.folder(by_name[name]) / "run/corpus/manifest.json").read_text())["split"]
        for where, each in protocols.items():
            if where.startswith("selection/"):
                assert "sums" not in each
                continue
            assert each["regions"] == len(each["sizes"])
            for method, mean in each["means"].items():
                assert sum(each["sums"][method]) / sum(each["sizes"]) == pytest.approx(mean, rel=1e-3)
    assert {f"{kind}/gap" for kind in DRIFTS} <= set(reported["waves"]["protocols"])
    reads = panel.folder(sets[0])
    _, masked_examples = questions(Export.read(reads / "encoded"), "genome", cells=panel.cells)["test/masked"]
    run = maskseq.load(reads / "run")
    assert {"encoder alone", "without the encoder"} < set(reported["reads"]["protocols"]["test/masked"]["means"])
    direct = ask(run.predict_fills(), masked_examples, run.tokenizer.vocabulary)
    assert reported["reads"]["protocols"]["test/masked"]["means"]["shipped"] == pytest.approx(
        direct.bits.mean(), rel=1e-4
    )
    outside = ~np.concatenate(list(map(_repeated(Export.read(reads / "encoded").ids("train")), masked_examples)))
    assert reported["reads"]["protocols"]["test/masked"]["beside"]["shipped"][
        "bits outside exact repeats"
    ] == pytest.approx(direct.bits[outside].mean(), rel=1e-4)
    logged = [json.loads(line) for line in (tmp_path / "results" / "report_runs.jsonl").read_text().splitlines()]
    assert [(line["set"], line["commit"]) for line in logged] == [("log", "0" * 40)]

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*") if path.is_file()}
    panel.result(sets[0]).unlink()
    assert panel.run(sets) == []  # from what its steps have left behind
    assert json.loads(panel.result(sets[0]).read_text())["protocols"] == reported["reads"]["protocols"]
    assert before == before | {p: p.stat().st_mtime_ns for p in before if p != panel.result(sets[0])}

    write_report(tmp_path / "results", tmp_path / "panel.md")
    page = (tmp_path / "panel.md").read_text()
    assert all(word in page for word in ("reads", "waves", "sentinel", "lines", "fitted mixture", "Holm"))


def _repeated(train: list[np.ndarray], flank: int = 12) -> Callable[[MaskedExample], np.ndarray]:
    """By brute force: which cells have both flanks, cut short by an end or not, around one place of training."""
    texts = [each[:, 0].tolist() for each in train]
    complement = {0: 3, 1: 2, 2: 1, 3: 0}
    texts += [[complement.get(each, each) for each in reversed(text)] for text in texts]

    def around(text: list[int], at: int) -> tuple[int, ...]:
        padded = [-1] * flank + text + [-1] * flank
        return (*padded[at : at + flank], *padded[at + flank + 1 : at + 2 * flank + 1])

    known = {around(text, at) for text in texts for at, each in enumerate(text) if each < 4}

    def found(masked_example: MaskedExample) -> np.ndarray:
        return np.array(
            [around(masked_example.truth[:, 0].tolist(), at) in known for at in masked_example.cells[:, 0].tolist()]
        )

    return found


def test_numbers_out_of_the_range_of_training_are_nothing_to_methods_that_state_a_mean(panel: Panel) -> None:
    waves = _write(panel.data)[2]
    means = json.loads(panel.result(waves).read_text())["protocols"]["offset 5 sd/gap"]["means"]
    export = Export.read(panel.folder(waves) / "encoded")
    _, masked_examples = questions(export, "signal", cells=panel.cells)["offset 5 sd/gap"]
    spread = Baselines(export.ids("train"), export.tokenizer, 1).spreads()
    errors = []
    for masked_example in masked_examples:
        assert masked_example.numbers is not None
        for at, field in masked_example.cells.tolist():
            known = np.flatnonzero(~masked_example.masked[:, field])
            line = np.interp(at, known, masked_example.numbers[known, field])
            errors.append(((line - masked_example.numbers[at, field]) / spread[field]) ** 2)
    assert means["lines"] == pytest.approx(np.mean(errors), rel=1e-3)
    assert means["lines"] < means["frequencies"] / 3


def test_methods_that_fill_gaps_answer_from_the_known_cells_of_a_field_alone() -> None:
    export = _export()
    ids = export.ids("test")
    selection = [each for _, each in export.records("selection")]
    baselines = Baselines(ids, export.tokenizer, 3, every=True, selection=selection)
    seen = [each[:40].copy() for each in ids]
    for each in seen:
        each[10:14] = export.tokenizer.vocabulary.mask_ids
    cells = [np.array([[10, 0], [12, 0], [13, 0]])] * len(seen)
    other = [np.stack([each[:, 0], np.roll(each[:, 1], 7)], axis=1) for each in seen]
    assert {"spans", "fitted mixture"} <= set(fillers(baselines))
    for name in set(fillers(baselines)) - {"equal mixture", "fitted mixture"}:  # which know of other fields
        for one, two in zip(*(with_ids(baselines.predicts[name])(each, cells) for each in (seen, other)), strict=True):
            assert np.array_equal(one, two), name


def test_a_test_part_that_a_recipe_asks_for_is_left_to_training() -> None:
    assert without_test("[data.split]\nvalidation = 0.1\ntest = 0.1\n") == ["--set", "data.split.test=0"]
    assert without_test("[data.split]\nvalidation = 0.1\n") == without_test("seed = 0\n") == []


def test_answers_to_other_questions_are_not_taken_for_answers_to_these(tmp_path: Path) -> None:
    export = _export()
    masked_examples, others = (
        draw(export, export.records("test"), "masked", cells=90, thin=True, seed=i) for i in range(2)
    )
    path = tmp_path / "q.npz"
    assert not asks(path, masked_examples)
    write(path, masked_examples, export.tokenizer, fills=0)
    assert asks(path, masked_examples)
    assert not asks(path, others)


def test_a_set_that_fails_has_a_row_that_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    panel = _panel(tmp_path)
    (tmp_path / "odd.bin").write_bytes(bytes(range(256)))
    odd = Set(name="odd", half="tuning", domain="log", family="odd", file="odd.bin", cut="lines")
    assert panel.run([odd]) == ["odd"]
    assert "init" in json.loads(panel.result(odd).read_text())["failed"]
    write_report(tmp_path / "results", tmp_path / "panel.md")
    assert "failed" in (tmp_path / "panel.md").read_text()


def test_a_command_is_interrupted_once_at_its_limit_and_may_end_in_peace(tmp_path: Path) -> None:
    program = (
        "import sys\ntry:\n    while True: sum(range(1000))\n"
        "except KeyboardInterrupt:\n    print('checkpointed', file=sys.stderr); sys.exit(130)"
    )
    ended = walk.process(["-c", program], 1.5, tmp_path)
    assert (ended.code, ended.stopped, ended.output) == (130, True, "checkpointed")
    assert 1.5 <= ended.cpu < 6


def _export(n_fields: int = 2, length: int = 400) -> Export:
    from benchmarks.panel.questions import Exported
    from maskseq.masking.config import MaskingConfig
    from maskseq.types import Field

    fields = tuple(Field(name=f"f{i}", tokens=tuple("abcd")) for i in range(n_fields))
    ids = np.random.default_rng(0).integers(4, size=(length, n_fields)).astype(np.uint8)
    arrays = {f"{part}/{name}": array for part in ("test", "selection") for name, array in
              (("ids", ids), ("lengths", np.array([length // 2, length // 2])))}  # fmt: skip
    keys = {"test": ["one", "two"], "selection": ["three", "four"]}
    return Export(Exported(fields=fields), 64, (), MaskingConfig(), {"keys": keys}, arrays)


def test_questions_depend_on_ids_and_seed_alone_and_ask_about_as_many_cells_as_wanted() -> None:
    export = _export()
    first, again = (questions(export, "genome", cells=300) for _ in range(2))
    for where, (name, masked_examples) in first.items():
        assert name == again[where][0]
        for one, other in zip(masked_examples, again[where][1], strict=True):
            assert np.array_equal(one.cells, other.cells)
            assert np.array_equal(one.masked, other.masked)
            assert one.masked[tuple(one.cells.T)].all()
        assert 300 <= sum(len(masked_example.cells) for masked_example in masked_examples) < 360
    other = draw(export, export.records("test"), "masked", cells=300, thin=True, seed=1)
    assert any(not np.array_equal(a.masked, b.masked) for a, b in zip(other, first["test/masked"][1], strict=False))


@pytest.mark.parametrize("kind", DRIFTS)
def test_a_drift_moves_what_it_says_and_nothing_else(kind: str) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(7, 2, size=(400, 3))
    values[5, 1] = np.nan
    mean, sd = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    found = drifted(values, kind, mean, sd, np.random.default_rng(2))
    assert found.shape == values.shape
    assert np.isnan(found[5, 1])
    moved = (found - values)[np.arange(400) != 5]
    kept = values[np.arange(400) != 5]
    if kind == "offset 5 sd":
        assert moved == pytest.approx(np.broadcast_to(5 * sd, moved.shape))
    elif kind == "ramp":
        assert (np.diff(moved, axis=0) > 0).all()
        assert moved[[0, -1]] == pytest.approx(np.stack([0 * sd, 5 * sd]))
    elif kind == "sentinel":
        hit = found == SENTINEL
        assert 0 < hit.mean() < 0.03
        assert (moved[~hit[np.arange(400) != 5]] == 0).all()
    elif kind == "one channel re-zeroed":
        (channel,) = np.flatnonzero(np.abs(moved).sum(axis=0))
        assert (moved[:199, channel] == 0).all()
        assert moved[199:, channel] == pytest.approx(np.full(200, -3 * sd[channel]))
    else:
        factor = float(kind.split()[1])
        assert moved == pytest.approx((factor - 1) * (kept - mean))


def test_cuts_lose_nothing_keep_cases_whole_and_put_later_ones_in_the_test_part(tmp_path: Path) -> None:
    _write(tmp_path)
    train, test, _ = cut("cases", tmp_path / "log.csv", tmp_path / "a", case="case", time="time")
    rows = [list(csv.DictReader(io.StringIO(path.read_text()))) for path in (train, test)]
    cases = [{row["case"] for row in part} for part in rows]
    assert not cases[0] & cases[1]
    assert len(cases[1]) == pytest.approx(12, abs=1)
    assert sum(map(len, rows)) == len(list(csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text()))))
    starts = [
        [min(r["time"] for r in part if r["case"] == case) for case in have]
        for part, have in zip(rows, cases, strict=True)
    ]
    assert max(starts[0]) <= min(starts[1])

    train, test, _ = cut("fasta", tmp_path / "reads.fa", tmp_path / "b")
    entries = [set(path.read_text().split(">")[1:]) for path in (train, test)]
    assert entries[0] | entries[1] == set((tmp_path / "reads.fa").read_text().split(">")[1:])
    assert len(entries[1]) == pytest.approx(12, abs=1)

    train, test, _ = cut("recording", tmp_path / "waves.npy", tmp_path / "c")
    parts = [np.load(path) for path in (train, test)]
    assert np.array_equal(np.concatenate(parts), np.load(tmp_path / "waves.npy"))
    assert len(parts[1]) == 240


def test_every_set_of_the_panel_can_be_found_and_is_named_once(shared_data: Path) -> None:
    assert len({each.name for each in SETS}) == len(SETS)
    for each in SETS:
        assert (shared_data / each.file).exists()
        assert not each.test or (shared_data / each.test).exists()


def test_the_reference_is_chosen_on_the_selection_part_and_is_never_a_mixture() -> None:
    means = {"shipped": 1.0, "tables": 1.2, "chain": 1.1, "equal mixture": 0.9, "fitted mixture": 0.8}
    sizes = [10] * 12
    test = {
        "protocol": "event",
        "metric": "bits",
        "means": means,
        "sizes": sizes,
        "sums": {name: [10 * mean] * 12 for name, mean in means.items()},
        "independent": 12,
    }
    selection = test | {"means": {"tables": 1.0, "chain": 1.3}}
    result = {"set": "s", "half": "tuning", "family": "s", "domain": "log"}
    (line,) = lines_of(result | {"protocols": {"test/single": test, "selection/single": selection}})
    assert (line.reference, line.best) == ("tables", "chain")
    assert line.beside_reference.gain == pytest.approx(1 - 1.0 / 1.2)
    assert line.beside_best.gain == pytest.approx(1 - 1.0 / 1.1)
    assert {name: each.gain for name, each in line.beside_mixes.items()} == pytest.approx(
        {"equal mixture": 1 - 1.0 / 0.9, "fitted mixture": 1 - 1.0 / 0.8}
    )
    twice = over_seeds([result | {"protocols": {"test/single": test, "selection/single": selection}}] * 2)
    (again,) = lines_of(twice)
    assert (again.reference, again.beside_reference.gain) == ("tables", pytest.approx(line.beside_reference.gain))


@pytest.mark.parametrize("older", [True, False])
def test_results_that_were_judged_by_older_simple_methods_are_labelled(tmp_path: Path, *, older: bool) -> None:
    result = {
        "set": "s", "half": "tuning", "family": "s", "domain": "log", "file": "s", "date": "2026-01-01", "command": "x",
        "machine": {"versions": {}, "processor": "p", "cores": 1}, "protocols": {},
    }  # fmt: skip
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "s-0.json").write_text(json.dumps(result | ({} if older else {"methods": METHODS})))
    write_report(tmp_path, tmp_path / "panel.md")
    assert ("Older simple methods" in (tmp_path / "panel.md").read_text()) is older


def test_what_two_codes_gain_stands_side_by_side(tmp_path: Path) -> None:
    """The shipped prediction of the first loses a tenth, that of the second saves one; one code has no such table."""
    sums = {"tables": [10.0] * 12}
    of_part = {"protocol": "event", "metric": "bits", "sizes": [10] * 12, "independent": 12, "means": {"tables": 1.0}}
    for name, date, bits in (("b", "2026-01-01", 1.1), ("a", "2026-01-02", 0.9)):
        test = of_part | {"means": {"tables": 1.0, "shipped": bits}, "sums": sums | {"shipped": [10 * bits] * 12}}
        result = {
            "set": "s", "half": "tuning", "family": "s", "domain": "log", "file": "s", "date": date, "command": "x",
            "machine": {"versions": {}, "processor": "p", "cores": 1}, "methods": METHODS, "training": {},
            "protocols": {"test/single": test, "selection/single": of_part},
        }  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "s-0.json").write_text(json.dumps(result))
        write_report(tmp_path, tmp_path / "panel.md")
        page = (tmp_path / "panel.md").read_text()
        assert ("Before and after" in page) is (name == "a")
    assert "| tuning | logs | 1 | 0, 1 | 1, 0 |" in page
    assert page.index("## The code of a") < page.index("## The code of b")
