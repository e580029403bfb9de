"""From a file to its row of the panel, step by step; each step leaves a file behind, and none is done twice."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.panel import answers, questions
from benchmarks.panel.cut import cut
from benchmarks.panel.sets import Set

MODEL = Path(__file__).with_name("model.py")
STOPPED = (130, -signal.SIGINT)


@dataclass(frozen=True)
class Ended:
    """How a command of the judged code ended."""

    code: int
    cpu: float
    """Seconds."""
    output: str
    """The end of what it printed on stderr."""
    stopped: bool
    """It was interrupted at the limit."""


T = TypeVar("T")
Call = Callable[[list[str], float | None], Ended]
"""Run Python with these words, for so many CPU seconds at most (None: without a limit)."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Where things are, and what is run."""

    root: Path
    code: Path
    """The checkout whose `maskseq` is judged."""
    commit: str
    data: Path
    work: Path
    results: Path
    limit_cpu: float = 300.0
    seed: int = 0
    command: str = ""
    cells: int = questions.CELLS
    call: Call | None = field(default=None)
    """How the judged code is run (default: in processes of its own)."""

    def run(self, sets: Sequence[Set]) -> list[str]:
        """Make the rows that are missing; returns the sets that have failed."""
        failed = []
        started = time.monotonic()
        missing = [each for each in sets if not self.done(each)]
        for number, each in enumerate(missing):
            spent = time.monotonic() - started
            eta = f", about {spent / number * (len(missing) - number) / 60:.0f} min to go" if number else ""
            self.tell(each, f"set {number + 1} of {len(missing)}{eta}")
            if each.half == "report":
                self._log(each)
            try:
                reported = self.row(each)
            except Exception as error:  # whatever happens to one set, the others go on, and its row says so
                traceback.print_exc()
                reported = self._about(each) | {"failed": f"{type(error).__name__}: {error}"}
            if "failed" in reported:
                failed.append(each.name)
                self.tell(each, f"failed: {reported['failed']}")
            path = self.result(each)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(".tmp")
            aside.write_text(json.dumps(reported), encoding="utf-8")
            aside.replace(path)
        return failed

    def row(self, requested: Set) -> dict[str, Any]:
        """All that is said of one set."""
        folder = self.folder(requested)
        folder.mkdir(parents=True, exist_ok=True)
        reported = self._about(requested)
        train, test, reported["cut"] = self._cut(requested, folder)
        reported["training"] = training = self._trained(requested, folder, train)
        if "failed" in training:
            return reported | {"failed": training["failed"]}
        export = self._exported(requested, folder, train, test)
        drawn = questions.questions(export, requested.domain, cells=self.cells)
        self.tell(requested, f"asked: {', '.join(f'{where} {name}' for where, (name, _) in drawn.items())}")
        self._answered(requested, folder, export, drawn)
        reported["tokenizer"] = {
            "name": export.about["tokenizer"],
            "context": export.context,
            "fields": [f"{each.name} ({each.n_tokens})" for each in export.tokenizer.fields][:40],
        }
        reported["positions"] = {
            part: int(export.arrays[f"{part}/lengths"].sum()) for part in ("train", "selection", "test")
        }
        reported["methods"] = answers.METHODS
        reported["protocols"] = answers.judge(
            requested, export, drawn, folder / "answers", on_progress=lambda what: self.tell(requested, what)
        )
        return reported

    def folder(self, requested: Set) -> Path:
        return self.work.resolve() / short(self.commit) / f"{requested.name}-{self.seed}"

    def result(self, requested: Set) -> Path:
        return self.results / short(self.commit) / f"{requested.name}-{self.seed}.json"

    def done(self, requested: Set) -> bool:
        """A row that failed is tried again, from the step that failed on."""
        path = self.result(requested)
        return path.exists() and "failed" not in json.loads(path.read_text(encoding="utf-8"))

    def tell(self, requested: Set, what: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {requested.name}: {what}", file=sys.stderr, flush=True)

    def _about(self, requested: Set) -> dict[str, Any]:
        return {
            "set": requested.name,
            "file": requested.file,
            "half": requested.half,
            "domain": requested.domain,
            "family": requested.family,
            "commit": self.commit,
            "panel": _commit(self.root),
            "seed": self.seed,
            "command": self.command,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": machine(),
        }

    def _log(self, requested: Set) -> None:
        """A line for each time that a set of the report half is run."""
        self.results.mkdir(parents=True, exist_ok=True)
        line = {
            "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "commit": self.commit,
            "panel": _commit(self.root),
            "set": requested.name,
            "seed": self.seed,
            "command": self.command,
        }
        with (self.results / "report_runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _cut(self, requested: Set, folder: Path) -> tuple[Path, Path, str]:
        done = folder / "cut.json"
        if not done.exists():
            self.tell(requested, "cutting the file")
            test = self.data / requested.test if requested.test else None
            parts = cut(requested.cut, self.data / requested.file, folder, test, **dict(requested.options))
            _write(done, [str(parts[0].relative_to(folder)), str(parts[1].relative_to(folder)), parts[2]])
        train, test_part, reported = json.loads(done.read_text(encoding="utf-8"))
        return folder / train, folder / test_part, reported

    def _trained(self, requested: Set, folder: Path, train: Path) -> dict[str, Any]:
        done = folder / "trained.json"
        if done.exists():
            known: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
            return known
        recipe, run = folder / "recipe.toml", folder / "run"
        reported: dict[str, Any] = {"limit": self.limit_cpu}
        if not recipe.exists():
            self.tell(requested, "maskseq init")
            words = ["-m", "maskseq", "init", str(train), "-o", str(recipe)]
            ended = self._call([*words, "--yes"], self.limit_cpu)
            if ended.code and "--yes" in ended.output:  # code that does not ask yet
                ended = self._call(words, self.limit_cpu)
            if ended.code:
                return _write(done, reported | {"failed": f"init: {ended.output}"})
        reported["recipe"] = recipe.read_text(encoding="utf-8")
        self.tell(requested, f"maskseq pretrain, {self.limit_cpu:.0f} CPU seconds at most")
        words = ["-m", "maskseq", "pretrain", str(recipe), "-o", str(run), "--seed", str(self.seed)]
        words += (options := without_test(reported["recipe"]))
        ended = self._call(words, self.limit_cpu)
        reported |= {
            "options": " ".join(options),
            "cpu seconds": round(ended.cpu),
            "stopped at the limit": ended.stopped,
        }
        if not (run / "latest").exists():
            return _write(done, reported | {"failed": f"pretrain: {ended.output or 'no checkpoint within the limit'}"})
        if ended.code and not ended.stopped:
            return _write(done, reported | {"failed": f"pretrain: {ended.output}"})
        if ended.stopped:  # what follows the training, as its message says; code from before has no such command
            blended = self._call(["-m", "maskseq", "blend", str(run)], None)
            reported |= {"blended in CPU seconds": round(blended.cpu)} if not blended.code else {}
        return _write(done, reported | _last(run / "metrics.jsonl"))

    def _exported(self, requested: Set, folder: Path, train: Path, test: Path) -> questions.Export:
        out = folder / "encoded"
        if not out.with_suffix(".json").exists():
            self.tell(requested, "encoding")
            drifts = ["--drifts"] if requested.domain == "signal" else []
            self._must([str(MODEL), "encode", *map(str, (folder / "run", train, test, out)), *drifts])
        return questions.Export.read(out)

    def _answered(
        self, requested: Set, folder: Path, export: questions.Export, drawn: dict[str, tuple[str, list[Any]]]
    ) -> None:
        put, answered = folder / "questions", folder / "answers"
        put.mkdir(exist_ok=True)
        missing = False
        for where, (_, masked_examples) in drawn.items():
            part, _, kind = where.rpartition("/")
            path = put / f"{where.replace('/', '.')}.npz"
            if part != "selection" and not questions.asks(path, masked_examples):
                (answered / path.name).unlink(missing_ok=True)
                fills = questions.jointly(requested.domain, kind, masked_examples)
                questions.write(path, masked_examples, export.tokenizer, fills=fills)
            missing |= part != "selection" and not (answered / path.name).exists()
        if missing:
            self.tell(requested, "asking the run")
            self._must([str(MODEL), "answer", str(folder / "run"), str(put), str(answered)])

    def _must(self, words: list[str]) -> None:
        ended = self._call(words, None)
        if ended.code:
            raise RuntimeError(f"{Path(words[0]).name} {words[1]}: {ended.output}")

    def _call(self, words: list[str], limit: float | None) -> Ended:
        return self.call(words, limit) if self.call else process(words, limit, self.code)


def _interruptible() -> None:
    """Jobs that a shell starts in the background ignore interrupts, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def process(words: list[str], limit: float | None, code: Path) -> Ended:
    """A process of the judged code, on one thread; it is interrupted once at the limit."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(code), str(code / "tokenizers")]),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }
    before, stopped = _cpu(), False
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=code,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_interruptible,
    )
    output = ""
    while True:
        try:
            _, output = process.communicate(timeout=1.0)
            break
        except subprocess.TimeoutExpired:
            if limit is not None and not stopped and _cpu_of(process.pid) > limit:
                process.send_signal(signal.SIGINT)
                stopped = True
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
    lines = [line for line in output.strip().splitlines() if line.strip()]
    return Ended(process.returncode, _cpu() - before, "\n".join(lines[-4:])[-1000:], stopped)


def without_test(recipe: str) -> list[str]:
    """Options that leave the test part of a recipe to training, for code that writes one: the panel cuts its own."""
    split = tomllib.loads(recipe).get("data", {}).get("split", {})
    return ["--set", "data.split.test=0"] if split.get("test") else []


def _cpu() -> float:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _cpu_of(pid: int) -> float:
    """CPU seconds of a running process and of its children that have ended."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, values[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _write(path: Path, value: T) -> T:
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(value), encoding="utf-8")
    aside.replace(path)
    return value


def _last(metrics: Path) -> dict[str, Any]:
    """How far a training came."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    return {"steps": steps[-1]["step"], "tokens": steps[-1].get("tokens")} if steps else {}


def machine() -> dict[str, Any]:
    """The processor, its cores, and the versions that figures depend on."""
    names = (
        [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    return {
        "processor": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy")},
    }


def data_folder(root: Path) -> Path:
    """The shared data, found as the tests find them."""
    folder = Path(os.environ.get("MASKSEQ_SHARED_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"{folder}: there are no shared data here; set MASKSEQ_SHARED_DATA")
    return folder


@contextlib.contextmanager
def checkout(root: Path, commit: str | None, scratch: Path) -> Iterator[tuple[str, Path]]:
    """The name of a commit and a folder with its code; without one, those of this checkout."""
    if commit is None:
        yield _commit(root), root
        return
    named = _git(root, "rev-parse", f"{commit}^{{commit}}")
    tree = (scratch / short(named) / "code").resolve()
    if not tree.exists():
        tree.parent.mkdir(parents=True, exist_ok=True)
        _git(root, "worktree", "add", "--detach", "-f", str(tree), named)
    try:
        yield named, tree
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            _git(root, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(tree, ignore_errors=True)


def short(commit: str) -> str:
    """The name of a commit's folders."""
    return commit[:12] + commit[40:]


def _commit(root: Path) -> str:
    """The commit of a checkout, with a mark where files differ from it."""
    try:
        changed = _git(
            root, "status", "--porcelain", "--untracked-files=no", "--", "maskseq", "tokenizers", "benchmarks/panel"
        )
        return _git(root, "rev-parse", "HEAD") + ("-changed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()
