"""Run folders and corpora made to harm: each field of each of their JSON files replaced, and all digests signed anew.

Whatever is done with such a folder, nothing is imported, started, connected to, or read or written outside of it, and
it ends in one clear line or, where the field does not matter there, as with the folder as it was.
"""

import copy
import hashlib
import json
import random
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import maskseq
from maskseq import plugins
from maskseq.apps.evaluate import evaluate_run
from maskseq.apps.fill_score import count_baselines
from maskseq.apps.inspect import inspect
from maskseq.apps.rows import rows_of_run
from maskseq.calibration.stored import held_out_records
from maskseq.comparison.question import Question
from maskseq.contract.fence import read
from maskseq.corpus.reader import Corpus, verify_corpus
from maskseq.errors import MaskseqError
from maskseq.storage.folder import block_digests, digest, to_json
from maskseq.trained import load
from maskseq_events.tokenizer import EventTokenizer

BAIT = "hostile_bait"
VALUES: tuple[Any, ...] = (f"{BAIT}:Class", "http.server:test", "../../outside.txt", 10**15, -1, [], {"a": 1}, None)
"""Code names, a path, a huge number and a negative one, wrong types."""
FEW = Question(protocols=("masked",), cells=20, depth=1, imputers=("linear",), every=False)
READ_BY_EVALUATE = ("recipe.json", "manifest.json", "tokenizer.json")
"""Evaluation takes longest: with other files, only where there is time for it."""
SECONDS = 20
"""More than any of it may take."""
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.")

RECIPE = {
    "data": {
        "files": ["log.csv"],
        "format": "event-csv",
        "format_options": {"case": "case", "activity": "activity", "time": ""},
        "workers": 1,
        "split": {"selection": 0.2},
    },
    "tokenizer": {"name": "event", "attributes": ["amount"], "numeric": ["amount"]},
    "model": {"preset": "nano", "n_layers": 1, "hidden_size": 8, "intermediate_size": 8, "n_heads": 1},
    "packing": {"row_tokens": 256, "context": 32},
    "training": {"tokens": 2_000, "rows": 1, "precision": "fp32", "keep_last": 1},
}


class Watch:
    """What an audit hook, which nothing can take out again, saw while it was asked to look."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.known: set[str] = set()
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "import":
            name = str(arguments[0])
            if name.partition(".")[0] not in self.known or name in (BAIT, "http.server"):
                self.seen.append(f"import {name}")
        elif event.startswith(FORBIDDEN):
            self.seen.append(event)
        elif event == "shutil.rmtree" and not Path(str(arguments[0])).resolve().is_relative_to(self.folder):
            self.seen.append(f"remove {arguments[0]}")
        elif event == "open" and isinstance(arguments[0], str | Path):
            path, mode, flags = Path(arguments[0]).absolute(), arguments[1], arguments[2]
            inside = path.resolve().is_relative_to(self.folder)
            writes = any(letter in (mode or "") for letter in "wax+") or flags & 3
            if path.name in ("outside.txt", "passwd") or (writes and not inside and not path.is_relative_to("/dev")):
                self.seen.append(f"open {path} {mode}")

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        self.known = {name.partition(".")[0] for name in sys.modules}
        before, tempfile.tempdir = tempfile.tempdir, str(folder / "temporary")  # where samples of files may lie
        (folder / "temporary").mkdir(exist_ok=True)
        self.folder, self.seen = folder.resolve(), []
        try:
            yield self.seen
        finally:
            self.folder, tempfile.tempdir = None, before


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run, calibrated, a log, and a file beside it that is nobody's business."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = random.Random(0)
    rows = ["case,activity,amount"]
    for case in range(60):
        rows += [f"c{case},{rng.choice('abcd')},{rng.random():.3f}" for _ in range(rng.randrange(3, 9))]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    (folder / "outside.txt").write_text("secret")
    recipe = copy.deepcopy(RECIPE)
    recipe["data"]["files"] = [str(folder / "log.csv")]  # type: ignore[index]
    run = maskseq.pretrain(recipe, output=folder / "run")
    run.calibrate(held_out_records(run.corpus()), cells=200)
    return folder


def paths_of(value: Any, most: int = 2) -> Iterator[tuple[str | int, ...]]:
    """The place of each value in a JSON value, and of the first few in each list."""
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value[:most]) if isinstance(value, list) else ()
    )
    for key, inner in items:
        yield (key,)
        yield from ((key, *rest) for rest in paths_of(inner, most))


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


class Hostile:
    """A folder in which one field at a time is another, signed as if it had always been."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run, self.corpus = folder, folder / "run", folder / "run" / "corpus"
        (self.checkpoint,) = (self.run / "checkpoints").iterdir()
        self.kept: dict[Path, bytes] = {}

    def files(self) -> list[Path]:
        written = [path for path in self.run.rglob("*.json") if path != self.checkpoint / "recipe.json"]
        return sorted(written, key=str)

    def write(self, path: Path, content: bytes) -> None:
        self.kept.setdefault(path, path.read_bytes())
        path.write_bytes(content)

    def restore(self) -> None:
        for path, content in self.kept.items():
            path.write_bytes(content)
        self.kept = {}

    def change(self, file: Path, value: Any) -> None:
        """Write the value into the file, and whatever else vouches for it."""
        if file.is_relative_to(self.corpus):
            self._change_corpus(file, value)
        else:
            self._change_run(file, value)

    def _change_run(self, file: Path, value: Any) -> None:
        if file.name == "tokenizer.json" and isinstance(value.get("state"), dict):
            identity = [EventTokenizer.__module__, EventTokenizer.__qualname__, value["state"]]
            signed = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
            if value["state"] != json.loads(file.read_bytes())["state"]:
                value["fingerprint"] = signed
                config = json.loads((self.checkpoint / "config.json").read_bytes())
                self.write(self.checkpoint / "config.json", json.dumps(config | {"tokenizer": signed}).encode())
        self.write(file, json.dumps(value).encode())
        if file.name == "recipe.json":
            self.write(self.checkpoint / "recipe.json", json.dumps(value).encode())
        if file.name != "digests.json":
            digests = json.loads((self.checkpoint / "digests.json").read_bytes())
            digests = {name: digest((self.checkpoint / name).read_bytes()) for name in digests}
            self.write(self.checkpoint / "digests.json", json.dumps(digests).encode())

    def _change_corpus(self, file: Path, value: Any) -> None:
        self.write(file, to_json(value))
        manifest = json.loads((self.corpus / "manifest.json").read_bytes())
        if file.name == "zarr.json":
            part = next(parent for parent in file.parents if (parent / "part.json").exists())
            summary = json.loads((part / "part.json").read_bytes())
            content = file.read_bytes()
            entry = {"size": len(content), "blocks": block_digests(content)}
            summary["files"][file.relative_to(part).as_posix()] = entry
            file = part / "part.json"
            self.write(file, to_json(summary))
        if file.name == "part.json":
            for entry in manifest["parts"]:
                if self.corpus / entry["name"] == file.parent:
                    entry["digest"] = digest(file.read_bytes())
        signed = value if file.name == "manifest.json" else manifest
        if file.name != "manifest.json" or signed.get("digest") == json.loads(self.kept[file])["digest"]:
            signed = {key: inner for key, inner in signed.items() if key != "digest"}
            signed["digest"] = digest(to_json(signed))
        self.write(self.corpus / "manifest.json", to_json(signed))


def uses_of_run(hostile: Hostile) -> dict[str, Callable[[], object]]:
    """What people do with a run, each as small as it comes."""
    run, log = hostile.run, hostile.folder / "log.csv"

    def infill() -> None:
        """With what `infill --mask` reads of the corpus beside it, but without writing a report."""
        loaded = load(run)
        records = islice(read(loaded.reader(log), log), 2)
        list(loaded.infill(records, ranges={"c1": [(0, 2)]}, only_ranges=True))
        count_baselines(loaded.corpus())

    def score() -> None:
        loaded = load(run)
        list(loaded.score(islice(read(loaded.reader(log), log), 2)))

    return {
        "inspect": lambda: inspect(run, layers=True),
        "score": score,
        "infill": infill,
        "evaluate": lambda: evaluate_run(run, question=FEW),
        "rows": lambda: rows_of_run(run).row(0),
    }


def uses_of_corpus(hostile: Hostile) -> dict[str, Callable[[], object]]:
    corpus = hostile.corpus

    def read() -> None:
        opened = Corpus.open(corpus)
        opened.read_span(0, opened.manifest["positions"])
        [opened.key(sequence) for sequence in range(len(opened.lengths))]
        [opened.variant(sequence) for sequence in range(len(opened.lengths))]

    return {
        "inspect": lambda: inspect(corpus),
        "verify": lambda: verify_corpus(corpus),
        "read": read,
        "evaluate": lambda: evaluate_run(hostile.run, question=FEW),
        "rows": lambda: rows_of_run(hostile.run).row(0),
    }


def outcome(use: Callable[[], object]) -> str:
    """Nothing, or what is wrong with how it ended."""

    def out_of_time(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(action="ignore"):
            use()
    except MaskseqError as error:
        line = str(error).partition("\n\n")[0]
        return "" if line and "\n" not in line and len(line) < 1000 else f"not one line: {line!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return ""


def cases(hostile: Hostile, every: int) -> Iterator[tuple[Path, tuple[str | int, ...], Any]]:
    """Each field of each file with each value, or with every n-th of them."""
    number = 0
    for file in hostile.files():
        for path in paths_of(json.loads(file.read_bytes())):
            for value in VALUES:
                number += 1
                if number % every == 0:
                    yield file, path, value


SOAK = (pytest.mark.soak, pytest.mark.timeout(7200))


@pytest.mark.parametrize("every", [61, pytest.param(1, marks=SOAK)])
def test_no_field_of_a_folder_does_harm(folder: Path, watch: Watch, every: int) -> None:
    hostile = Hostile(folder)
    for use in (uses_of_run(hostile) | uses_of_corpus(hostile)).values():
        use()  # as it is, it works; and all is imported that takes part
    plugins.inventory()  # what is installed may be looked through for the format of a file
    found: list[str] = []
    n_folders = 0
    for file, path, value in cases(hostile, every):
        n_folders += 1
        hostile.change(file, replaced(json.loads(file.read_bytes()), path, value))
        uses = uses_of_corpus if file.is_relative_to(hostile.corpus) else uses_of_run
        with watch.over(folder) as seen:
            for name, use in uses(hostile).items():
                if name == "evaluate" and file.name not in READ_BY_EVALUATE and every > 1:
                    continue
                if problem := outcome(use):
                    found.append(f"{file.relative_to(folder)} {path} = {value!r}: {name}: {problem}")
        found += [f"{file.relative_to(folder)} {path} = {value!r}: {event}" for event in seen]
        hostile.restore()
    assert BAIT not in sys.modules
    assert n_folders >= 100
    assert not found, f"{len(found)} of {n_folders}:\n" + "\n".join(found[:40])
