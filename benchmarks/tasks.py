"""Fine-tuned runs on real labels, beside simple methods: `python -m benchmarks.tasks DATA --output FOLDER [--sets …]`.

DATA holds the files that are named below. Encoders are pretrained on the training part alone; the test part is read
once for each seed. Each line is the JSON of a set and a seed; `--records N` uses the first N training records.
"""

import argparse
import csv
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import maskseq
from maskseq.apps.finetune import finetune, load_task_file

SMALL = {"preset": "nano", "n_layers": 2, "hidden_size": 64, "intermediate_size": 96}
Made = tuple[dict[str, Any], str]
"""A recipe for pretraining, and a task file."""


def recipe(files: list[Path], tokenizer: dict[str, Any], *, context: int, tokens: int, **data: Any) -> dict[str, Any]:
    return {
        "data": {"files": list(map(str, files)), "split": {"selection": 0.1}, **data},
        "tokenizer": tokenizer,
        "model": SMALL,
        "packing": {"row_tokens": max(1024, context), "context": context},
        "optimizer": {"name": "stable_adamw", "lr": 2e-3},
        "training": {"tokens": tokens, "rows": 1},
    }


def head_of(source: Path, target: Path, n: int | None) -> Path:
    """The header and the first `n` records of a table."""
    lines = source.read_text().splitlines(keepends=True)
    target.write_text("".join(lines if n is None else lines[: n + 1]))
    return target


def gue(name: str, context: int, head: str, symmetries: bool) -> Callable[[Path, Path, int | None], Made]:
    def make(data: Path, work: Path, n: int | None) -> Made:
        folder = data / "genomics" / "GUE" / name
        train = head_of(folder / "train.csv", work / "train.csv", n)
        base = recipe([train], {"name": "nucleotide"}, context=context, tokens=300_000, format="sequence-table")
        task = (
            f'kind = "binary"\n[data]\nfiles = ["{train}"]\nselection = "{folder / "dev.csv"}"\n'
            f'test = "{folder / "test.csv"}"\n[labels]\ncolumn = "label"\n[head]\n{head}\n'
            f"[training]\nepochs = 8\npatience = 3\nlr = 1e-3\nsymmetries = {str(symmetries).lower()}\n"
        )
        return base, task

    return make


def ucr(name: str, ending: str, head: str) -> Callable[[Path, Path, int | None], Made]:
    def make(data: Path, work: Path, n: int | None) -> Made:
        train, test = (data / "signals" / "ucr" / f"{name}_{part}{ending}" for part in ("TRAIN", "TEST"))
        format = {} if ending == ".ts" else {"format": "ucr"}
        base = recipe([train], {"name": "quantize", "bins": 32}, context=160, tokens=150_000, **format)
        base["model"] = {**SMALL, "ordinal_basis": {"cosines": 16}}
        named = "".join(f'format = "{value}"\n' for value in format.values())
        task = (
            f'kind = "binary"\n[data]\nfiles = ["{train}"]\nselection = 0.25\ntest = "{test}"\n{named}'
            f'[labels]\ncolumn = "label"\n[head]\n{head}\n'
            "[training]\nepochs = 60\npatience = 20\nbatch = 8\nlr = 1e-3\n"
        )
        return base, task

    return make


def sepsis(outcome: str, data: Path, work: Path, n: int | None) -> Made:
    """The last 30 % of the cases, by their first event, are the test."""
    source = data / "events" / "sepsis.csv"
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    first: dict[str, str] = {}
    for row in rows:
        first[row["case_id"]] = min(first.get(row["case_id"], "9"), row["timestamp"])
    cases = sorted(first, key=lambda case: first[case])
    early = set(cases[: round(0.7 * len(cases))])
    parts = {"train": work / "train.csv", "test": work / "test.csv"}
    for part, path in parts.items():
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
            writer.writeheader()
            writer.writerows(row for row in rows if (row["case_id"] in early) == (part == "train"))
    options = {"absent": ["NA", ""], "case": "case_id", "activity": "activity", "time": "timestamp"}
    tokenizer = {"name": "event", "attributes": ["leucocytes", "crp", "lacticacid", "age"]}
    base = recipe([parts["train"]], tokenizer, context=64, tokens=100_000, format="event-csv", format_options=options)
    task = (
        f'kind = "binary"\n[data]\nfiles = ["{parts["train"]}"]\nselection = 0.2\ntest = "{parts["test"]}"\n'
        f'format = "event-csv"\nformat_options = {{ absent = ["NA", ""], case = "case_id", activity = "activity", '
        f'time = "timestamp" }}\n[labels]\noutcome = "{outcome}"\n[prefixes]\nmin = 2\nmax = 14\nstep = 4\n'
        "[training]\nepochs = 12\npatience = 3\nlr = 5e-4\n"
    )
    return base, task


SETS: dict[str, Callable[[Path, Path, int | None], Made]] = {
    "gunpoint": ucr("GunPoint", ".ts", 'kind = "cnn"'),
    "ecg200": ucr("ECG200", ".txt", 'kind = "positions"\nbins = 48'),
    "sepsis_return": partial(sepsis, "contains Return ER"),
    "sepsis_ic": partial(sepsis, "contains Admission IC"),
    "prom_300_tata": gue("prom_300_tata", 300, 'kind = "positions"\nbins = 100\nwidth = 16\ndropout = 0.3', False),
    "tf_0": gue("tf_0", 101, 'kind = "cnn"', True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--records", type=int, help="Use at most this many training records of the tables.")
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], help="Of the task, as in `maskseq finetune`.")
    given = parser.parse_args()
    for name in given.sets:
        work: Path = given.output / name
        work.mkdir(parents=True, exist_ok=True)
        base, task = SETS[name](given.data, work, given.records)
        (work / "task.toml").write_text(task)
        began = time.process_time()
        maskseq.pretrain(base, output=work / "run")
        pretrained = time.process_time() - began
        for seed in range(given.seeds):
            config = load_task_file(work / "task.toml", [f"seed={seed}", *given.overrides])
            began = time.process_time()
            found = finetune(work / "run", config, output=work / f"tuned-{seed}").to_json()
            seconds = {"pretraining": round(pretrained), "fine-tuning": round(time.process_time() - began)}
            print(json.dumps({"set": name, "seed": seed, "cpu seconds": seconds, **found}), flush=True)


if __name__ == "__main__":
    main()
