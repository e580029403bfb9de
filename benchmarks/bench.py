"""How fast is everything here, in one run: training beside transformers, attention, inference, start-up, large inputs.

    python benchmarks/bench.py [--quick] [--json benchmarks/results/speed.json]

Everything is timed in turns, so read ratios. `--quick` has fewer cases and rounds.

- training: an epoch on the same documents by maskseq and by ModernBERT of transformers, bf16 (`train_speed.py`);
- attention: a layer forward and backward by each CPU backend, documents as named, bf16 where that is what runs use;
- inference: forward tokens a second of `embed` and of `score`, over the tokens a second of training;
- start-up: CPU seconds of `maskseq infill` on a tiny file, and of `import torch`;
- planning: CPU seconds and memory of planning an epoch, by number of sequences.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from train_peers import SHAPES, make_case, maskseq
from train_speed import gemm_peak, measure

from maskseq.model.attention.packed import packed_self_attention
from maskseq.model.checkpoint import save_model
from maskseq.model.cpu import bf16_speedup, keep_freed_memory
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.model.rotary import rotation
from maskseq.predict.embed import Embedder
from maskseq.predict.encoder import EncoderPredict
from maskseq.predict.protocol import Example
from maskseq.types import Encoded
from maskseq_genomics.nucleotide import NucleotideTokenizer

ROOT = Path(__file__).resolve().parents[1]
CONTEXT = 512


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The fastest seconds of each, after a first round that only warms up."""
    fastest = dict.fromkeys(ways, float("inf"))
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                fastest[name] = min(fastest[name], time.perf_counter() - began)
    return fastest


def training(*, quick: bool) -> list[dict[str, Any]]:
    """Tokens a second, share of the peak, and how many times as fast as transformers."""
    cases = [("small", "1024", 4096)] if quick else [
        ("small", "lognormal", 8192), ("small", "1024", 8192), ("small", "64", 8192), ("small", "4096", 8192),
        ("d512", "lognormal", 4096), ("d512", "1024", 4096),
    ]  # fmt: skip
    rows = []
    for shape, documents, tokens in cases:
        options = argparse.Namespace(
            peers=["transformers"], precisions=["bf16"], compile=False, repeats=1 if quick else 2
        )
        case = make_case(SHAPES[shape], documents, tokens, 8192, 0)
        for each in measure([case], options, time.perf_counter):
            rows.append({
                "shape": each.shape, "documents": each.documents, "who": each.contestant, "batches": each.batches,
                "tokens/s": round(each.tokens_per_s), "share of peak": round(each.share_of_peak, 3),
                "memory MB": round(each.memory_mb), "maskseq is": round(each.ratio, 2),
            })  # fmt: skip
    return rows


def attention(*, quick: bool) -> list[dict[str, Any]]:
    """Milliseconds of a layer, forward and backward, by backend."""
    cases: list[tuple[int, str, int, int | None]] = [(8, "1024", 4096, None), (4, "64", 4096, None)]
    cases += [] if quick else [(4, "lognormal", 8192, None), (4, "4096", 8192, 64), (4, "4096", 8192, None)]
    rows = []
    for heads, documents, tokens, window in cases:
        lengths = make_case(SHAPES["small"], documents, tokens, 8192, 0).lengths
        cu = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        turn = rotation(torch.cat([torch.arange(n) for n in lengths]), 64, 1e4)
        qkv = torch.randn(tokens, 3, heads, 64).bfloat16().requires_grad_()
        grad = torch.randn(tokens, heads, 64).bfloat16()

        def layer(
            backend: str, qkv: torch.Tensor = qkv, turn: Any = turn, cu: torch.Tensor = cu, longest: int = max(lengths),
            window: int | None = window, grad: torch.Tensor = grad,
        ) -> None:  # fmt: skip
            out = packed_self_attention(qkv, turn, cu, max_seqlen=longest, window=window, backend=backend)
            out.backward(grad)

        ways = {name: (lambda name=name: layer(name)) for name in ("blocks", "bmm", "sdpa")}
        seconds = in_turns(ways, 2 if quick else 4)
        found = {name: round(1e3 * s, 1) for name, s in seconds.items()}
        rows.append({"heads": heads, "documents": documents, "tokens": tokens, "window": window, "ms": found})
    return rows


def inference(*, quick: bool) -> dict[str, Any]:
    """Forward tokens a second, both strands counted, over what training does in bf16."""
    shape = SHAPES["small"]
    case = make_case(shape, "1024", 8192, 8192, 0)
    epoch = maskseq(case, torch.bfloat16)
    sizes = {"n_layers": shape.n_layers, "hidden_size": shape.hidden_size, "n_heads": shape.n_heads}
    tokenizer = NucleotideTokenizer()
    model = Encoder(
        preset("nano", tokenizer.vocabulary, intermediate_size=384, max_positions=1024, **sizes), seed=0
    ).requires_grad_(False)
    ids = np.random.default_rng(0).integers(4, size=(8, 1024, 1))
    ways: dict[str, Callable[[], object]] = {"training": epoch}
    for precision in ("bf16", "fp32"):
        embedder = Embedder(model=model, context=1024, symmetries=tokenizer.symmetries(), precision=precision)
        records = [(str(i), Encoded(each)) for i, each in enumerate(ids)]
        ways[f"embed, {precision}"] = lambda e=embedder, r=records: list(e.vectors(r))
        predict = EncoderPredict(model, tokenizer.symmetries(), precision=precision)
        examples, cells = [Example(each) for each in ids], [np.argwhere(np.arange(1024)[:, None] % 8 == 0)] * len(ids)
        ways[f"score, {precision}"] = lambda p=predict, e=examples, c=cells: p(e, c)
    seconds = in_turns(ways, 1 if quick else 3)
    strands = {name: 1 if name == "training" else 2 for name in ways}
    rates = {name: round(8192 * strands[name] / s) for name, s in seconds.items()}
    ratios = {name: round(rate / rates["training"], 2) for name, rate in rates.items() if name != "training"}
    return {"tokens/s": rates, "times training": ratios}


def startup(*, quick: bool) -> dict[str, float]:
    """CPU seconds, medians."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = NucleotideTokenizer()
        model = Encoder(preset("nano", tokenizer.vocabulary, max_positions=CONTEXT), seed=0)
        save_model(Path(folder) / "run", model, tokenizer)
        genome = Path(folder) / "genome.fa"
        genome.write_bytes(b">x\n" + b"GATTACA" * 200 + b"N" * 10 + b"CATTAGA" * 200 + b"\n")
        commands = {
            "import torch": ["-c", "import torch"],
            "maskseq infill": ["-m", "maskseq", "infill", str(Path(folder) / "run"), str(genome)],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(2 if quick else 4):
            for number, (name, arguments) in enumerate(commands.items()):
                output = ["--output", str(Path(folder) / f"filled-{len(seconds[name])}")] if number else []
                seconds[name].append(cpu_seconds([sys.executable, *arguments, *output]))
    found = {name: round(median(times[1:]), 2) for name, times in seconds.items()}  # the first one writes bytecode
    return found | {"beyond torch": round(found["maskseq infill"] - found["import torch"], 2)}


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def planning(*, quick: bool) -> list[dict[str, float]]:
    """Of an epoch of sequences of log-normal length, each number in a process of its own."""
    rows = []
    for n in (10_000, 1_000_000) if quick else (10_000, 100_000, 1_000_000, 10_000_000):
        command = [sys.executable, str(ROOT / "tests" / "corpora.py"), "plan", str(n)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT / "tests")
        seconds, megabytes = map(float, done.stdout.split())
        rows.append({"sequences": n, "CPU s": round(seconds, 2), "MB": round(megabytes), "us each": 1e6 * seconds / n})
    return rows


SECTIONS: dict[str, Callable[..., Any]] = {
    "startup": startup,
    "attention": attention,
    "inference": inference,
    "training": training,
    "planning": planning,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about two minutes: fewer cases and rounds")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    keep_freed_memory()
    found: dict[str, Any] = {
        "machine": {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "bf16 beside fp32": round(bf16_speedup(), 2),
            "bf16 GFLOP/s": round(gemm_peak(torch.bfloat16, time.perf_counter) / 1e9),
        },
        "quick": options.quick,
    }
    for name in options.only:
        began = time.perf_counter()
        found[name] = SECTIONS[name](quick=options.quick)
        print(f"{name}, {time.perf_counter() - began:.0f} s: {json.dumps(found[name], indent=1)}", flush=True)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
