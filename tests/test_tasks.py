"""Fine-tuning end to end on tasks whose right answer is known: `maskseq finetune` and `maskseq predict`."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result
from untrained import untrained

from maskseq.apps.finetune import finetune, load_task_file
from maskseq.apps.predict_labels import predict_frame
from maskseq.cli import app
from maskseq.errors import UsageError
from maskseq.tasks.table import prediction_rows
from maskseq.trained import load
from maskseq_events.tokenizer import EventTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_signals.tokenizer import QuantizeTokenizer

MOTIF = "TATAAA"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def with_motif(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Random bases of which every second one has the motif somewhere, and a label that says so."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        bases = "".join(rng.choice(list("ACG"), 24))
        start = int(rng.integers(len(bases) - len(MOTIF)))
        if i % 2:
            bases = bases[:start] + MOTIF + bases[start + len(MOTIF) :]
        found.append((bases, "yes" if i % 2 else "no"))
    return found


def table(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("sequence,label\n" + "".join(f"{bases},{label}\n" for bases, label in rows))
    return path


def task_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


FAST = "[training]\nepochs = 6\nbatch = 16\nlr = 3e-3\nhead_lr = 1e-2\n"


def dna_task(tmp_path: Path, *, extra: str = FAST, kind: str = "binary", n: int = 120) -> Path:
    table(tmp_path / "data.csv", with_motif(n))
    return task_file(
        tmp_path / "task.toml",
        f'kind = "{kind}"\n[data]\nfiles = ["data.csv"]\n[labels]\ncolumn = "label"\n' + extra,
    )


@pytest.fixture(scope="module")
def dna_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "dna"
    untrained(NucleotideTokenizer(), folder)
    return folder


def test_a_motif_is_found_from_the_command_line(dna_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    task = dna_task(tmp_path, extra='[head]\nkind = "cnn"\n' + FAST)
    done = invoke("finetune", dna_run, task, "--output", output, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["methods"]["network"]["accuracy"][0] > 0.9
    assert {"frequencies", "logistic regression on counts"} <= found["methods"].keys()
    for value, low, high in found["methods"]["network"].values():
        assert low <= value <= high
    new = table(tmp_path / "new.csv", with_motif(40, seed=1))
    answers = tmp_path / "answers.csv"
    done = invoke("predict", output, new, "--output", answers)
    assert done.exit_code == 0, done.output
    with answers.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [label for _, label in with_motif(40, seed=1)]
    assert [row["key"] for row in rows] == [str(i) for i in range(1, 41)]
    assert np.mean([row["prediction"] == label for row, label in zip(rows, wanted, strict=True)]) > 0.9
    for row in rows:
        assert float(row["p(no)"]) + float(row["p(yes)"]) == pytest.approx(1)
    assert invoke("embed", output, new, "-o", tmp_path / "v.npz").exit_code == 0  # a checkpoint like any other


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "tsv"])
def test_predictions_come_in_every_kind_of_table(tuned: Path, tmp_path: Path, ending: str) -> None:
    new, output = table(tmp_path / "new.csv", with_motif(6)), tmp_path / f"answers.{ending}"
    assert invoke("predict", tuned, new, "-o", output).exit_code == 0
    if ending == "parquet":
        import pyarrow.parquet as pq

        assert pq.read_table(output).num_rows == 6
    else:
        assert len(output.read_text().splitlines()) == 6 + (ending == "tsv")


@pytest.fixture(scope="module")
def tuned(dna_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    finetune(dna_run, dna_task(folder, extra="[training]\nepochs = 1\n", n=40), output=folder / "run")
    return folder / "run"


def test_a_data_frame_is_predicted_as_its_file_is(tuned: Path, tmp_path: Path) -> None:
    import pandas as pd

    file = table(tmp_path / "new.csv", with_motif(8))
    found = predict_frame(load(tuned), pd.read_csv(file))
    assert isinstance(found, pd.DataFrame)
    done = invoke("predict", tuned, file, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert found.to_dict("records") == [
        {**row, "p(yes)": pytest.approx(row["p(yes)"])} | {"p(no)": pytest.approx(row["p(no)"])} for row in rows
    ]


@pytest.mark.parametrize("train", ["full", "frozen", "lora"])
def test_a_fit_that_was_interrupted_goes_on_to_the_same_bits(dna_run: Path, tmp_path: Path, train: str) -> None:
    settings = f'[training]\ntrain = "{train}"\nepochs = 3\nbatch = 8\nsave_every = 2\nlr = 1e-3\nlayer_decay = 0.8\n'
    task = dna_task(tmp_path, extra=settings, n=60)
    finetune(dna_run, task, output=tmp_path / "whole")

    def stop(step: int, of: int | None) -> None:
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(dna_run, task, output=tmp_path / "parts", on_step=stop)
    assert not (tmp_path / "parts").exists()
    steps: list[int] = []
    finetune(dna_run, task, output=tmp_path / "parts", on_step=lambda step, of: steps.append(step))
    assert steps[0] > 1  # it did go on
    for name in ("model.safetensors", "task_head.safetensors", "task.json", "task_figures.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    same = (dna_run / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert same == (train == "frozen")


def test_a_fit_that_was_killed_goes_on_to_the_same_bits(dna_run: Path, tmp_path: Path) -> None:
    task = dna_task(tmp_path, extra="[training]\nepochs = 2\nbatch = 8\nsave_every = 2\n", n=40)
    finetune(dna_run, task, output=tmp_path / "whole")
    child = (  # ends like a process that is killed: nothing is cleaned up
        "import os, sys\nfrom pathlib import Path\nfrom maskseq.apps.finetune import finetune\n"
        "run, task, output = map(Path, sys.argv[1:])\n"
        "finetune(run, task, output=output, on_step=lambda step, of: os._exit(9) if step == 3 else None)"
    )
    words = [sys.executable, "-c", child, *map(str, (dna_run, task, tmp_path / "parts"))]
    assert subprocess.run(words, timeout=200).returncode == 9
    steps: list[int] = []
    finetune(dna_run, task, output=tmp_path / "parts", on_step=lambda step, of: steps.append(step))
    assert steps[0] == 3
    for name in ("model.safetensors", "task_head.safetensors", "task.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    assert {path.name for path in tmp_path.iterdir()} == {"data.csv", "task.toml", "whole", "parts"}


def test_another_task_does_not_go_on_from_what_was_interrupted(dna_run: Path, tmp_path: Path) -> None:
    task = dna_task(tmp_path, extra="[training]\nepochs = 2\nbatch = 8\n", n=40)

    def stop(step: int, of: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(dna_run, task, output=tmp_path / "run", on_step=stop)
    with pytest.raises(UsageError, match="another fine-tuning"):
        finetune(dna_run, load_task_file(task, ["seed=1"]), output=tmp_path / "run")


@pytest.mark.parametrize("head", ["mean", "max", "attention", "positions", "cnn"])
def test_every_head_predicts_the_same_whatever_is_predicted_with_it(dna_run: Path, tmp_path: Path, head: str) -> None:
    settings = f'[head]\nkind = "{head}"\nbins = 8\n[training]\nepochs = 1\n'
    finetune(dna_run, dna_task(tmp_path, extra=settings, n=40), output=tmp_path / "run")
    run = load(tmp_path / "run")
    task = run.task
    rows = [(bases[: 5 + i], label) for i, (bases, label) in enumerate(with_motif(12))]
    records = list(run.reader(tmp_path / "data.csv").read(table(tmp_path / "new.csv", rows)))
    together = [row for rows in prediction_rows(task, records) for row in rows]
    alone = [row for record in records for rows in prediction_rows(task, [record]) for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert one["p(yes)"] == pytest.approx(other["p(yes)"], abs=1e-5)


def test_sets_of_labels(dna_run: Path, tmp_path: Path) -> None:
    rows = [
        (bases, ";".join(name for name, found in (("tata", label == "yes"), ("c", bases[0] == "C")) if found) or "-")
        for bases, label in with_motif(120)
    ]
    table(tmp_path / "data.csv", rows)
    text = 'kind = "multilabel"\n[data]\nfiles = ["data.csv"]\n[labels]\ncolumn = "label"\n[head]\nkind = "cnn"\n'
    text += FAST
    found = finetune(dna_run, task_file(tmp_path / "task.toml", text), output=tmp_path / "run")
    assert found.methods["network"]["auprc"].value > found.methods["frequencies"]["auprc"].value + 0.1
    done = invoke("predict", tmp_path / "run", tmp_path / "data.csv", "--json")
    first = json.loads(done.stdout.splitlines()[0])
    assert {"p(c)", "p(tata)"} <= first.keys()


def test_numbers_come_with_intervals_that_cover_them(dna_run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(160):
        bases = "".join(rng.choice(list("ACGT"), 30))
        rows.append((bases, f"{10 * bases.count('G') + rng.normal():.3f}"))
    table(tmp_path / "data.csv", rows)
    text = 'kind = "regression"\n[data]\nfiles = ["data.csv"]\nselection = 0.25\n[labels]\ncolumn = "label"\n' + FAST
    found = finetune(dna_run, task_file(tmp_path / "task.toml", text), output=tmp_path / "run")
    assert found.methods["network"]["rmse"].value < 0.6 * found.methods["mean"]["rmse"].value
    done = invoke("predict", tmp_path / "run", tmp_path / "data.csv", "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    inside = [row["low"] <= float(y) <= row["high"] for row, (_, y) in zip(answers, rows, strict=True)]
    assert 0.75 < np.mean(inside) <= 1


def test_labels_of_positions_from_bed(dna_run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fasta, bed = "", ""
    for i in range(30):
        bases = list("".join(rng.choice(list("AC"), 150)))
        for start in rng.integers(0, 140, size=3).tolist():
            bases[start : start + 5] = "GTGTG"
        text = "".join(bases)
        fasta += f">s{i}\n{text}\n"
        inside = [letter in "GT" for letter in text]
        bed += "".join(f"s{i}\t{p}\t{p + 1}\n" for p, yes in enumerate(inside) if yes)
    (tmp_path / "data.fa").write_text(fasta)
    (tmp_path / "data.bed").write_text(bed)
    text = 'kind = "binary"\n[data]\nfiles = ["data.fa"]\n[labels]\nbed = "data.bed"\n' + FAST
    found = finetune(dna_run, task_file(tmp_path / "task.toml", text), output=tmp_path / "run")
    assert found.methods["network"]["mcc"].value > 0.9
    done = invoke("predict", tmp_path / "run", tmp_path / "data.fa", "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["key"], row["position"]) for row in answers[:151]] == [
        *(("s0", p) for p in range(1, 151)),
        ("s1", 1),
    ]  # windows of 64 positions: each position once, in order


def structures(folder: Path, n: int = 30) -> list[str]:
    """Bases, and in a second file of the same shape a letter for each: `s` within GTGTG, else `c`; no first one."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(n):
        bases = list("".join(rng.choice(list("AC"), 100)))
        for start in rng.integers(0, 90, size=3).tolist():
            bases[start : start + 5] = "GTGTG"
        texts.append("".join(bases))
    letters = ["".join("s" if letter in "GT" else "c" for letter in text) for text in texts]
    (folder / "data.fa").write_text("".join(f">s{i}\n{text}\n" for i, text in enumerate(texts)))
    (folder / "labels.fa").write_text("".join(f">s{i} structure\n.{text[1:]}\n" for i, text in enumerate(letters)))
    return letters


SECOND = 'kind = "binary"\n[data]\nfiles = ["data.fa"]\n[labels]\nfile = "labels.fa"\neach = "unit"\n'


def test_labels_of_positions_from_a_second_file_of_letters(dna_run: Path, tmp_path: Path) -> None:
    letters = structures(tmp_path)
    task = task_file(tmp_path / "task.toml", SECOND + FAST)
    found = finetune(dna_run, task, output=tmp_path / "run")
    assert found.methods["network"]["mcc"].value > 0.9
    done = invoke("predict", tmp_path / "run", tmp_path / "data.fa", "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["position"] for row in answers[:100]] == list(range(1, 101))  # those without a label, too
    right = [row["prediction"] == letter for row, letter in zip(answers, "".join(letters), strict=True)]
    assert np.mean(right) > 0.95


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda text: text.replace(">s7 ", ">s99 "), "s7"),
        (lambda text: text.replace(">s3 structure\n.", ">s3 structure\n"), "99"),
        (lambda text: text.replace(">s4 ", ">s3 "), "twice"),
        (lambda text: text.replace("s", "c").replace(">c", ">s"), "class"),
    ],
    ids=["a name that is missing", "another length", "a name twice", "one class only"],
)
def test_a_second_file_of_another_shape_is_refused(
    dna_run: Path, tmp_path: Path, change: Callable[[str], str], word: str
) -> None:
    structures(tmp_path)
    (tmp_path / "labels.fa").write_text(change((tmp_path / "labels.fa").read_text()))
    done = refused(dna_run, task_file(tmp_path / "task.toml", SECOND + FAST), tmp_path / "run")
    assert done.exit_code == 3
    assert word in done.output


# ---- event logs and signals ----------------------------------------------------------------------------------------


def log(path: Path, n: int = 80) -> Path:
    """Cases that begin with `x` end in `bad`, those that begin with `y` do not; `x` cases last 10 days."""
    rng = np.random.default_rng(1)
    lines = ["case,activity,time,team,case:channel"]
    for i in range(n):
        kind = "xy"[i % 2]
        middle = rng.choice(["b", "c"], size=int(rng.integers(2, 5))).tolist()
        events = [kind, *middle, "bad" if kind == "x" else "good"]
        for k, activity in enumerate(events):
            day = 1 + k if k < len(events) - 1 else (20 if kind == "x" else 6)
            team = "red" if activity in ("b", "good") else "blue"
            lines.append(f"c{i},{activity},2024-01-{day:02d}T08:00:00,{team},{'web' if kind == 'x' else 'phone'}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def log_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    from maskseq_events.delimited import Csv

    cases = list(Csv().read(log(folder / "log.csv")))
    untrained(EventTokenizer.fit(cases, attributes=[]), folder / "log", context=16)
    return folder / "log"


OUTCOME = '[data]\nfiles = ["log.csv"]\n[prefixes]\nmax = 4\n[labels]\noutcome = "{}"\n' + FAST


@pytest.mark.parametrize("outcome", ["contains bad", "duration > 7d"])
def test_outcomes_of_running_cases(log_run: Path, tmp_path: Path, outcome: str) -> None:
    log(tmp_path / "log.csv")
    task = task_file(tmp_path / "task.toml", 'kind = "binary"\n' + OUTCOME.format(outcome))
    found = finetune(log_run, task, output=tmp_path / "run")
    assert found.methods["network"]["auroc"].value > 0.95
    (tmp_path / "running.csv").write_text(
        "case,activity,time,team,case:channel\n"
        "new1,x,2024-02-01T08:00:00,blue,web\nnew1,b,2024-02-02T08:00:00,red,web\n"
        "new2,y,2024-02-01T08:00:00,blue,phone\n"
    )
    done = invoke("predict", tmp_path / "run", tmp_path / "running.csv", "--json")
    assert done.exit_code == 0, done.output
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["key"], row["units"], row["prediction"]) for row in answers] == [("new1", 2, "1"), ("new2", 1, "0")]


def test_remaining_time_is_a_number_of_days(log_run: Path, tmp_path: Path) -> None:
    log(tmp_path / "log.csv")
    task = task_file(tmp_path / "task.toml", 'kind = "regression"\n' + OUTCOME.format("remaining"))
    found = finetune(log_run, task, output=tmp_path / "run")
    assert found.methods["network"]["rmse"].value < 0.7 * found.methods["mean by length"]["rmse"].value


def test_case_attributes_and_attributes_of_events(log_run: Path, tmp_path: Path) -> None:
    log(tmp_path / "log.csv")
    text = '[data]\nfiles = ["log.csv"]\n[labels]\n{}\n' + FAST
    task = task_file(tmp_path / "case.toml", 'kind = "binary"\n' + text.format('column = "case:channel"'))
    assert finetune(log_run, task, output=tmp_path / "case").methods["network"]["mcc"].value > 0.9
    task = task_file(tmp_path / "event.toml", 'kind = "binary"\n' + text.format('column = "team"\neach = "unit"'))
    assert finetune(log_run, task, output=tmp_path / "event").methods["network"]["mcc"].value > 0.9


def test_labels_of_events_from_a_second_log(log_run: Path, tmp_path: Path) -> None:
    lines = log(tmp_path / "all.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    (tmp_path / "log.csv").write_text("".join(",".join([*row[:3], row[4]]) + "\n" for row in cells))
    (tmp_path / "teams.csv").write_text("".join(",".join(row[:4]) + "\n" for row in cells))
    text = '[data]\nfiles = ["log.csv"]\n[labels]\nfile = "teams.csv"\ncolumn = "{}"\neach = "unit"\n' + FAST
    task = task_file(tmp_path / "event.toml", 'kind = "binary"\n' + text.format("team"))
    assert finetune(log_run, task, output=tmp_path / "event").methods["network"]["mcc"].value > 0.9
    done = refused(log_run, task_file(tmp_path / "no.toml", 'kind = "binary"\n' + text.format("taem")), tmp_path / "no")
    assert done.exit_code == 3
    assert "team" in done.output


def series(path: Path, n: int, seed: int) -> Path:
    """Slow waves are class 1, fast ones class 2."""
    rng = np.random.default_rng(seed)
    lines = ["@problemName waves", "@univariate true", "@classLabel true 1 2", "@data"]
    for i in range(n):
        speed, phase = (0.2, 0.7)[i % 2], rng.uniform(0, 6)
        values = np.sin(speed * np.arange(40) + phase) + rng.normal(0, 0.1, 40)
        lines.append(",".join(f"{v:.4f}" for v in values) + f":{i % 2 + 1}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_classes_of_series(tmp_path: Path) -> None:
    from maskseq_signals.ucr import Ts

    series(tmp_path / "train.ts", 60, seed=2)
    series(tmp_path / "test.ts", 40, seed=3)
    tokenizer = QuantizeTokenizer.fit(Ts().read(tmp_path / "train.ts"), bins=16)
    untrained(tokenizer, tmp_path / "base")
    text = (
        'kind = "binary"\n[data]\nfiles = ["train.ts"]\ntest = "test.ts"\nselection = 0.2\n'
        '[labels]\ncolumn = "label"\n[head]\nkind = "cnn"\n' + FAST
    )
    found = finetune(tmp_path / "base", task_file(tmp_path / "task.toml", text), output=tmp_path / "run")
    assert found.n_records == 40
    assert found.methods["network"]["accuracy"].value > 0.9
    assert {"1-NN", "logistic regression on values"} <= found.methods.keys()


def test_series_with_their_class_in_arff(tmp_path: Path) -> None:
    from maskseq_signals.ucr import Ts

    text = series(tmp_path / "train.ts", 6, seed=2).read_text().partition("@data\n")[2]
    rows = [line.replace(":", ",") for line in text.splitlines()]
    head = ["% made", "@RELATION waves", *(f"@attribute 'att {i}' numeric" for i in range(40))]
    (tmp_path / "train.arff").write_text("\n".join([*head, "@attribute target {1,2}", "", "@data", *rows]) + "\n")
    ours, theirs = (list(Ts().read(tmp_path / f"train.{ending}")) for ending in ("arff", "ts"))
    assert [each.label for each in ours] == [each.label for each in theirs]
    assert all(np.array_equal(a.channels, b.channels) for a, b in zip(ours, theirs, strict=True))
    several = (
        "@relation r\n@attribute bag relational\n  @attribute a numeric\n  @attribute b numeric\n@end bag\n"
        "@attribute class {up,down}\n@data\n'1,2,3\\n4,?,6',up\n'7,8,9\\n1,2,3',down\n"
    )
    (tmp_path / "two.arff").write_text(several)
    first, second = Ts().read(tmp_path / "two.arff")
    np.testing.assert_array_equal(first.channels, np.array([[1, 4], [2, np.nan], [3, 6]]))
    assert (first.label, second.label) == ("up", "down")
    number = "@relation r\n@attribute a real\n@attribute b real\n@attribute target real\n@data\n1,2,0.5\n"
    (tmp_path / "number.arff").write_text(number)
    (only,) = Ts().read(tmp_path / "number.arff")
    assert only.label == "0.5"
    assert len(only.channels) == 2


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("@relation r\n@attribute a real\n@attribute c {x,y}\n@data\n1,2,x\n", "line 5"),
        ("@relation r\n@attribute a {p,q}\n@attribute c {x,y}\n@data\np,x\n", "'a'"),
        ("@relation r\n@attribute a real\n@attribute c {x,y}\n@data\n{0 1.5}\n", "line 5"),
        ("@relation r\n@attribute a real\n1,x\n", "line 3"),
        ("@relation r\n@attribute\n@attribute a real\n@data\n1\n", "line 2"),
        ("@relation r\n@attribute a real\n@data\n", "no series"),
    ],
)
def test_arff_that_is_no_series_ends_in_one_line(tmp_path: Path, text: str, word: str) -> None:
    from maskseq.errors import DataError
    from maskseq_signals.ucr import Ts

    (tmp_path / "x.arff").write_text(text)
    with pytest.raises(DataError, match=word):
        list(Ts().read(tmp_path / "x.arff"))


# ---- what is refused -----------------------------------------------------------------------------------------------


def refused(run: Path, task: Path, output: Path) -> Result:
    done = invoke("finetune", run, task, "--output", output)
    assert not output.exists()
    assert done.exit_code in (2, 3), done.output
    assert isinstance(done.exception, SystemExit)
    return done


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ('column = "activity"\neach = "unit"', 2, "activity"),
        ('column = "case:activity"', 2, "activity"),
        ('column = "nowhere"', 3, "nowhere"),
        ('column = "nowhere"\neach = "unit"', 3, "nowhere"),
        ('outcome = "contains bda"\n[prefixes]\nmax = 4', 2, "'bad'"),
        ('outcome = "contains bad"\n[prefixes]\nmax = 17', 2, "17"),
        ('outcome = "contains bad"', 2, "prefixes"),
        ('outcome = "ends well"\n[prefixes]', 2, "ends well"),
        ('colunm = "case:channel"', 2, "column"),
        ("", 2, "labels"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(
    log_run: Path, tmp_path: Path, text: str, code: int, word: str
) -> None:
    log(tmp_path / "log.csv", n=20)
    task = task_file(tmp_path / "task.toml", 'kind = "binary"\n[data]\nfiles = ["log.csv"]\n[labels]\n' + text)
    done = refused(log_run, task, tmp_path / "run")
    assert done.exit_code == code, done.output
    assert word in done.output


def test_one_class_too_many_or_too_few(dna_run: Path, tmp_path: Path) -> None:
    table(tmp_path / "data.csv", [(bases, "same") for bases, _ in with_motif(20)])
    text = 'kind = "binary"\n[data]\nfiles = ["data.csv"]\n[labels]\ncolumn = "label"\n'
    done = refused(dna_run, task_file(tmp_path / "task.toml", text), tmp_path / "run")
    assert done.exit_code == 3
    assert "same" in done.output
    table(tmp_path / "data.csv", [(bases, "abc"[i % 3]) for i, (bases, _) in enumerate(with_motif(30))])
    assert refused(dna_run, tmp_path / "task.toml", tmp_path / "run").exit_code == 2
    table(tmp_path / "test.csv", [(bases, "d") for bases, _ in with_motif(4)])
    text = 'kind = "multiclass"\n[data]\nfiles = ["data.csv"]\ntest = "test.csv"\n[labels]\ncolumn = "label"\n'
    done = refused(dna_run, task_file(tmp_path / "task.toml", text), tmp_path / "run")
    assert "'d'" in done.output


def test_a_record_without_its_label_is_named(dna_run: Path, tmp_path: Path) -> None:
    rows = with_motif(20)
    table(tmp_path / "data.csv", [*rows[:7], (rows[7][0], ""), *rows[8:]])
    text = 'kind = "binary"\n[data]\nfiles = ["data.csv"]\n[labels]\ncolumn = "label"\n'
    done = refused(dna_run, task_file(tmp_path / "task.toml", text), tmp_path / "run")
    assert done.exit_code == 3
    assert "'8'" in done.output
    assert len([line for line in done.output.splitlines() if line.strip()]) <= 3  # the error, and a hint


def test_keys_without_labels_are_listed(dna_run: Path, tmp_path: Path) -> None:
    rows = with_motif(20)
    table(tmp_path / "data.csv", rows)
    labels = [f"{i},{label}\n" for i, (_, label) in enumerate(rows, 1)]
    task = task_file(
        tmp_path / "task.toml",
        'kind = "binary"\n[data]\nfiles = ["data.csv"]\n[labels]\nfile = "labels.csv"\n[training]\nepochs = 1\n',
    )
    (tmp_path / "labels.csv").write_text("key,label\n" + "".join(labels[:-2]))
    done = refused(dna_run, task, tmp_path / "run")
    assert done.exit_code == 3
    assert "19, 20" in done.output
    (tmp_path / "labels.csv").write_text("key,label\n" + "".join(labels) + "99,yes\n")
    with pytest.warns(UserWarning, match="99"):
        finetune(dna_run, task, output=tmp_path / "run")


def test_a_run_that_was_not_fine_tuned_predicts_no_labels(dna_run: Path, tmp_path: Path) -> None:
    done = invoke("predict", dna_run, table(tmp_path / "new.csv", with_motif(2)))
    assert done.exit_code == 2
    assert "finetune" in done.output


# ---- probes, and labels that travel with vectors --------------------------------------------------------------------


def test_probes_are_cross_validated_beside_simple_methods(dna_run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rich = ["".join(rng.choice(list("ACGT"), 30, p=p)) for p in ((0.4, 0.1, 0.1, 0.4), (0.2, 0.3, 0.3, 0.2)) * 30]
    data = table(tmp_path / "data.csv", [(bases, "at" if i % 2 == 0 else "gc") for i, bases in enumerate(rich)])
    done = invoke("probe", dna_run, data, "--column", "label", "--model", "linear", "--folds", 3, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["vectors, linear"]["mcc"][0] > 0.6
    assert {"frequencies", "logistic regression on counts"} <= found.keys()
    assert found["frequencies"]["auroc"][0] == pytest.approx(0.5, abs=0.1)
    done = invoke("probe", dna_run, data, "--column", "label", "--model", "tree")
    assert done.exit_code == 2
    assert "forest" in done.output
    assert invoke("probe", dna_run, data, "--column", "label", "--layer", 9).exit_code == 2


@pytest.mark.parametrize("ending", ["zarr", "parquet", "npz"])
def test_labels_travel_with_vectors(dna_run: Path, tmp_path: Path, ending: str) -> None:
    rows = with_motif(9)
    output = tmp_path / f"v.{ending}"
    arguments = ("embed", dna_run, table(tmp_path / "data.csv", rows), "-o", output, "--keep", "label")
    assert invoke(*arguments, "--layer", 0).exit_code == 0
    if ending == "parquet":
        import pyarrow.parquet as pq

        read = pq.read_table(output)
        labels, vectors = read["label"].to_pylist(), np.array(read["vector"].to_pylist())
    elif ending == "npz":
        arrays = np.load(output)
        labels, vectors = arrays["label"].tolist(), arrays["vectors"]
    else:
        import zarr

        group = zarr.open_group(output, mode="r")
        labels, vectors = list(group["label"][:]), group["vectors"][:]
    assert labels == [label for _, label in rows]
    run = load(dna_run)
    records = list(run.reader(tmp_path / "data.csv").read(tmp_path / "data.csv"))
    own = np.array([vector for _, vector in run.embed(records, layer=0)])
    np.testing.assert_allclose(vectors, own, rtol=1e-6)
    last = np.array([vector for _, vector in run.embed(records)])
    assert not np.allclose(own, last)


def test_a_table_of_vectors_has_no_two_columns_of_a_name(dna_run: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "data.csv", with_motif(3))
    assert invoke("embed", dna_run, data, "-o", tmp_path / "v.npz", "--keep", "keys").exit_code == 2
