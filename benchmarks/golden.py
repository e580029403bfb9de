"""Golden values: whether a change moved anything that it should not move.

    python benchmarks/golden.py BASE           # this working tree and the commit BASE, compared on this machine
    python benchmarks/golden.py BASE --keep D  # and what both produced, kept in the folder D

For a genome, an event log and a signal, a small run is trained in fp32 on one thread, by the code of BASE and by that
of the working tree, and everything that a user gets is compared: token ids, packed and masked rows, losses, weights,
fills and their tables, evaluation, scores, logits of what is exported. On one machine all of it must be equal bit for
bit. `tests/test_golden.py` holds the integers and, to a tolerance, the floats of the stored values in `tests/golden`;
`python benchmarks/golden.py --store` renews those, after a change that is meant to move them.

`collect` uses the public door only (the command line, `maskseq.pretrain`, `maskseq.load`), and looks for the two other
functions that it needs where older code has them.
"""

import argparse
import contextlib
import csv
import gzip
import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
STORED = REPOSITORY / "tests" / "golden"
TRAINING = {"tokens": 20 * 512, "rows": 1, "precision": "fp32", "checkpoint_every": 10 * 400, "device": "cpu"}
OPTIMIZER = {"name": "stable_adamw", "lr": 2e-3}
SMALL = {"preset": "nano", "n_layers": 2, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48}
# Keys of recipes are spelled as the oldest BASE reads them; what they are called now, today's code knows.
CASES: dict[str, dict[str, Any]] = {
    "genome": {
        "input": "genome.fa",
        "recipe": {
            "data": {"split": {"by": "region", "regions": ["lambda:5001-6500"], "guard": 128}},
            "tokenizer": {"name": "nucleotide"},
            "model": SMALL | {"mlp_dropout": 0.1},
            "batch": {"row_tokens": 512, "context": 128},
            "masking": {"ratio": 0.2, "tokens": {"weight": 0.7}, "spans": {"weight": 0.3, "mean_length": 10}},
        },
        "exports": ("hf", "onnx"),
        "protocols": ("masked", "isolated", "gap-3"),
    },
    "genome with tables": {
        "input": "genome.fa",
        "recipe": {
            "data": {"split": {"by": "region", "regions": ["lambda:5001-6500"], "guard": 128}},
            "tokenizer": {"name": "nucleotide", "soft_mask_weight": 0.5},
            "model": SMALL | {"context_table": 3, "periods": [3]},
            "batch": {"row_tokens": 512, "context": 128},
            "masking": {"ratio": 0.2, "infill": {"weight": 1.0}},
        },
        "exports": ("onnx",),
        "protocols": ("masked",),
    },
    "k-mers": {
        "input": "genome.fa",
        "recipe": {
            "data": {"split": {"by": "region", "regions": ["lambda:5001-6500"], "guard": 128}},
            "tokenizer": {"name": "kmer", "k": 3, "overlapping": True},
            "model": SMALL | {"placement": "post", "positions": "learned"},
            "batch": {"row_tokens": 512, "context": 128},
            "masking": {"ratio": 0.15},
        },
        "exports": (),
        "protocols": ("masked",),
    },
    "log": {
        "input": "access.log",
        "recipe": {
            "data": {
                "format": "textlog",
                "format_options": {"layout": "access", "idle": 1800},
                "split": {"by": "time", "validation": 0.2},
            },
            "tokenizer": {
                "name": "event",
                "attributes": ["method", "status", "bytes"],
                "numeric": ["bytes"],
                "categorical": ["status"],
            },
            "model": SMALL | {"neighbours": [[1, 0], [0, 1]]},
            "batch": {"row_tokens": 512, "context": 128, "cut": 0.3},
            "masking": {"ratio": [0.1, 0.5], "mode": ["cell", "position"], "spans": {"weight": 0.3, "mean_length": 3}},
        },
        "exports": ("onnx",),
        "protocols": ("masked", "event", "gap-2"),
    },
    "signal": {
        "input": "co2.csv",
        "recipe": {
            "data": {"format": "signal-csv", "split": {"by": "region", "regions": ["co2:1001-1208"], "guard": 52}},
            "tokenizer": {"name": "quantize", "scheme": "uniform", "bins": 64},
            "model": SMALL | {"waves": 16, "linear_context": [1, 2, 3, 26, 52], "attention_dropout": 0.1},
            "batch": {"row_tokens": 512, "context": 128},
            "masking": {"ratio": [0.1, 0.5], "spans": {"weight": 0.5, "mean_length": 6}},
        },
        "exports": (),
        "protocols": ("masked", "block-6", "point-20"),
    },
}
UNSTABLE = ("seconds", "time", "tokens_per_s", "version", "maskseq", "machine", "file", "run", "date")
"""Keys of an evaluation that say nothing of its result."""
RESUMED = ("genome with tables", "log", "signal")
"""Cases of which a run that stands half-way is stored, with its corpus."""


def inputs(folder: Path, samples: Path) -> None:
    """Write the small input files, the same everywhere: parts of what ships in `recipes/samples`."""
    genome = b"".join(gzip.decompress((samples / "lambda_virus.fa.gz").read_bytes()).split(b"\n")[1:])[:8000]
    genome = genome[:700] + b"NNNNNRY" + genome[707:3000].lower() + b"N" * 12 + genome[3012:]
    lines = [genome[at : at + 70] + b"\n" for at in range(0, len(genome), 70)]
    (folder / "genome.fa").write_bytes(b">lambda of phage\n" + b"".join(lines))
    log = gzip.decompress((samples / "apache_access.log.gz").read_bytes()).splitlines(keepends=True)[:900]
    holes = {
        number: line.replace(b'"GET ', b'"? ', 1) if number % 2 else line
        for number, line in enumerate(log)
        if number % 29 == 0
    }
    (folder / "access.log").write_bytes(b"".join(holes.get(n, line) for n, line in enumerate(log)))
    shutil.copyfile(samples / "co2.csv", folder / "co2.csv")


def collect(
    case: str, folder: Path, *, use: bool = True, overrides: Sequence[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Train the case in `folder`, which holds its input, and go on with a run that is there: arrays by name.

    Names that begin with `int/` are integers and the same on every machine. With `use`, the run also fills, evaluates
    and exports, which gives JSON values by name. `overrides` are of the recipe, under names that BASE may not know.
    """
    import torch

    import maskseq

    torch.set_num_threads(1)
    about = CASES[case]
    recipe = about["recipe"] | {"seed": 3, "training": TRAINING, "optimizer": OPTIMIZER}
    recipe["data"] = recipe["data"] | {"files": [about["input"]]}
    with contextlib.chdir(folder):
        maskseq.pretrain(recipe, output="run", overrides=overrides)
        for gate in Path("run").rglob("gate.json"):
            gate.unlink()  # the encoder alone is what older code has as well
        arrays = _integers(Path("run")) | _floats(Path("run"))
        values: dict[str, Any] = {}
        Path("run", "best").unlink(missing_ok=True)  # the newest checkpoint is compared, which every version has
        if use:
            _maskseq("infill", "run", about["input"], "--output", "filled", "--samples", "2", "--temperature", "0.7")
            with Path("filled/fills.csv").open(encoding="utf-8", newline="") as table:
                header, *lines = csv.reader(table)
            values["fills"] = dict(zip(header, map(list, zip(*lines, strict=True)), strict=True))
            values["filled file"] = Path("filled", about["input"]).read_bytes().decode("latin-1")
            protocols = [word for name in about["protocols"] for word in ("--protocol", name)]
            _maskseq("evaluate", "run", "--output", "judged", "--cells", "300", "--few", *protocols)
            values["evaluation"] = _stable(json.loads(Path("judged/evaluation.json").read_text(encoding="utf-8")))
            for form in about["exports"]:
                output = "exported" if form == "hf" else "exported.onnx"
                _maskseq("export", "run", "--output", output, "--format", form)
                arrays[f"{form} logits"] = _logits(Path(output), arrays["int/ids"])
        run = maskseq.load("run")
        records = _imported("maskseq.plugins:format_for")(
            Path(about["input"]), recipe["data"].get("format"), **recipe["data"].get("format_options", {})
        ).read(Path(about["input"]))
        first = next(iter(records))
        first = first.cut(0, 200) if len(first) > 200 else first
        (score,) = run.score([first])
        arrays["score"] = np.asarray(score.bits, np.float32)
    return arrays, values


def _integers(run: Path) -> dict[str, np.ndarray]:
    """Token ids, splits, packed rows and masks."""
    corpus = _imported("maskseq:Corpus", "maskseq.corpus.reader:Corpus", "maskseq.data.corpus:Corpus").open(
        run / "corpus", trust_code=True
    )
    found = {"int/ids": np.concatenate([encoded.ids for _, encoded in corpus.each("train")])}
    for split in ("train", "validation"):
        found[f"int/{split} lengths"] = np.array([len(each) for _, each in corpus.each(split)])
    rows = _imported(
        "maskseq.apps.rows:rows_of_run",
        "maskseq:rows_of_run",
        "maskseq.apps.pretrain:rows_of_run",
        "maskseq.commands:rows_of_run",
    )(run)
    for number in range(3):
        row = rows.row(number)
        for name in ("inputs", "targets", "positions", "cu_seqlens", "objective", "target", "sequence", "start"):
            found[f"int/row {number} {name}"] = np.asarray(getattr(row, name))
        found[f"int/row {number} scored"] = row.weights > 0
    return found


def _floats(run: Path) -> dict[str, np.ndarray]:
    """Losses of every step, and the weights at the end."""
    from safetensors.numpy import load_file

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {"losses": np.array([line["loss"] for line in lines if line["kind"] == "step"])}
    (weights,) = (run / "checkpoints" / (run / "latest").read_text(encoding="utf-8").strip()).glob("*.safetensors")
    for name, tensor in load_file(weights).items():
        found[f"weights/{name}"] = tensor
    return found


def _logits(exported: Path, ids: np.ndarray) -> np.ndarray:
    """Of the first ids, the logits of what was exported."""
    import torch

    if exported.is_dir():
        from transformers import AutoModelForMaskedLM

        model = AutoModelForMaskedLM.from_pretrained(exported).eval()
        with torch.inference_mode():
            return np.asarray(model(input_ids=torch.tensor(ids[None, :96, 0].astype(np.int64))).logits[0])
    import onnxruntime

    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    outputs = session.run(None, {given.name: ids[:96].astype(np.int64)})
    return np.concatenate([np.asarray(each, np.float32).ravel() for each in outputs])


def _imported(*places: str) -> Any:
    """The first of `module:attribute` that there is."""
    for place in places:
        module, _, attribute = place.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), attribute)
    raise ImportError(f"none of {', '.join(places)}")


def _maskseq(*arguments: str) -> None:
    command = [sys.executable, "-m", "maskseq", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _stable(value: Any) -> Any:
    """JSON without what differs from one run of the same to the next."""
    if isinstance(value, dict):
        return {key: _stable(each) for key, each in value.items() if key not in UNSTABLE}
    return [_stable(each) for each in value] if isinstance(value, list) else value


def differences(ours: Path, theirs: Path) -> Iterator[str]:
    """Where two folders of collected values differ in a single bit."""
    for case in CASES:
        with np.load(ours / f"{case}.npz") as new, np.load(theirs / f"{case}.npz") as old:
            for name in sorted({*new.files, *old.files}):
                if name not in new.files or name not in old.files:
                    yield f"{case}: {name} is only in {'BASE' if name in old.files else 'the working tree'}"
                elif new[name].shape != old[name].shape or not np.array_equal(new[name], old[name], equal_nan=True):
                    yield f"{case}: {name} differs{_by_how_much(new[name], old[name])}"
        new_values, old_values = (json.loads((folder / f"{case}.json").read_text()) for folder in (ours, theirs))
        for name in sorted({*new_values, *old_values}):
            yield from (f"{case}: {each}" for each in _unequal(new_values.get(name), old_values.get(name), name))


def _by_how_much(new: np.ndarray, old: np.ndarray) -> str:
    if new.shape != old.shape:
        return f" in shape: {old.shape} before, {new.shape} now"
    if new.dtype.kind != "f":
        return f" in {np.count_nonzero(new != old):,} of {new.size:,} values"
    return f" by {np.nanmax(np.abs(new.astype(np.float64) - old)):.3g} at most"


def _unequal(new: Any, old: Any, where: str) -> Iterator[str]:
    if isinstance(new, dict) and isinstance(old, dict):
        for key in sorted(new.keys() | old.keys()):
            yield from _unequal(new.get(key), old.get(key), f"{where}.{key}")
    elif isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        for index, pair in enumerate(zip(new, old, strict=True)):
            yield from _unequal(*pair, f"{where}[{index}]")
    elif new != old:
        yield f"{where} was {str(old)[:80]!r} and is {str(new)[:80]!r}"


def write(folder: Path, *, samples: Path) -> None:
    """Collect every case of the code that is imported into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        with tempfile.TemporaryDirectory() as work:
            inputs(Path(work), samples)
            arrays, values = collect(case, Path(work))
        np.savez_compressed(folder / f"{case}.npz", **arrays)
        (folder / f"{case}.json").write_text(json.dumps(values, indent=1))


def store() -> None:
    """Renew the stored values, and keep a run of each case that stands half-way, as an upgrade meets it."""
    shutil.rmtree(STORED, ignore_errors=True)
    STORED.mkdir(parents=True)
    for case, about in CASES.items():
        with tempfile.TemporaryDirectory() as work:
            inputs(Path(work), REPOSITORY / "recipes" / "samples")
            arrays, _ = collect(case, Path(work), use=False)
            np.savez_compressed(STORED / f"{case}.npz", **{n: a for n, a in arrays.items() if not n.startswith("weig")})
            if case not in RESUMED:
                continue
            run = Path(work, "run")
            steps = sorted((run / "checkpoints").iterdir(), key=lambda path: int(path.name.split("_")[1]))
            first, *later = [path for path in steps if path.name != "step_0"]
            (run / "latest").write_text(f"{first.name}\n", encoding="utf-8")
            for unwanted in (*later, run / "report.html"):
                shutil.rmtree(unwanted) if unwanted.is_dir() else unwanted.unlink()
            with tarfile.open(STORED / f"{case}.tar.gz", "w:gz") as archive:
                archive.add(run, "run", filter=_anonymous)
                archive.add(Path(work, about["input"]), about["input"], filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def compare(base: str, keep: Path | None) -> int:
    """Collect from BASE and from the working tree, in processes of their own, and print where they differ."""
    with tempfile.TemporaryDirectory() as scratch:
        tree, results = Path(scratch, "base"), keep or Path(scratch, "results")
        subprocess.run(["git", "worktree", "add", "--detach", "-f", tree, base], check=True, cwd=REPOSITORY)
        try:
            for name, code in (("base", tree), ("head", REPOSITORY)):
                environment = os.environ | {
                    "PYTHONPATH": os.pathsep.join([str(code), str(code / "tokenizers")]),
                    "OMP_NUM_THREADS": "1",
                }
                command = [sys.executable, __file__, "--collect", results / name]
                subprocess.run(command, check=True, env=environment, cwd=scratch)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], check=True, cwd=REPOSITORY)
        found = list(differences(results / "head", results / "base"))
    print("\n".join(found) or f"{len(CASES)} cases: equal bit for bit to {base}")
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", help="the commit to compare with")
    parser.add_argument("--keep", type=Path, help="a folder for what both produced")
    parser.add_argument("--collect", type=Path, help="only collect from the code that is imported, into this folder")
    parser.add_argument("--store", action="store_true", help="renew the values that the tests compare with")
    requested = parser.parse_args()
    if requested.collect:
        write(requested.collect, samples=REPOSITORY / "recipes" / "samples")
    elif requested.store:
        store()
    elif requested.base:
        return compare(requested.base, requested.keep)
    else:
        parser.error("name a commit, or --store")
    return 0


if __name__ == "__main__":
    sys.exit(main())
