"""How fast does an encoder train, beside transformers and x-transformers on the same documents?

    python benchmarks/train_speed.py --shapes small --documents lognormal 1024 --json train_speed.json

Every peer gets the same shape, window pattern, documents, scored cells and fused AdamW; a step is forward, backward and
update. maskseq packs documents into rows. Peers pad: all documents as one batch, random batches as a Trainer makes
them, batches sorted by length, or, where all documents are as long, batches without padding; each in the per-device
batch of 8, 16 or 32 that suits it best (and takes less than 6 GB). Everybody is timed in turn, in one process, on
several draws of lengths.

Tokens are real tokens, never padding. Work is three times the forward pass: matrices, attention within windows and
documents only, and the head on scored cells; whatever else a peer computes is its own affair. Peak is the median rate
of 4096³ matrix products in bf16 of the same run. Memory is what an epoch adds at its peak to what was resident before;
that of peers is with their smallest batch. A ratio is the median over rounds of (the contestant's seconds / maskseq's
in the same round and precision).
On a busy machine `--clock cpu` counts CPU seconds instead.
"""

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from train_peers import DOCUMENTS, SHAPES, Case, Contestant, contestants, make_case

from maskseq.model.cpu import keep_freed_memory

Clock = Callable[[], float]


@dataclass
class Result:
    """One line of the table; figures are medians over the rounds."""

    shape: str
    documents: str
    contestant: str
    precision: str
    batches: str
    batch: str  # documents on a device, of those tried the fastest
    tokens_per_s: float
    share_of_peak: float
    memory_mb: float
    ratio: float  # how many times as fast maskseq is, in the same precision
    ratios: list[float]  # of each round, lowest first


def measure(cases: Sequence[Case], options: argparse.Namespace, clock: Clock) -> list[Result]:
    """Rounds over all contestants of one shape and kind of documents, on each draw of lengths in turn."""

    def field_of(case: Case) -> list[Contestant]:
        torch.manual_seed(0)
        return contestants(case, options.peers, options.precisions, compiled=options.compile)

    def seconds(contestant: Contestant, batch: str) -> float:
        began = clock()
        contestant.epochs[batch]()
        return clock() - began

    field = field_of(cases[0])
    best, memory = [], []
    for contestant in field:
        memory.append(peak_memory(next(iter(contestant.epochs.values()))))  # and warms up
        timed = {batch: seconds(contestant, batch) for batch in contestant.epochs}
        best.append(min(timed, key=lambda batch: timed[batch]))
    rates: list[list[float]] = [[] for _ in field]
    work: list[list[float]] = [[] for _ in field]
    spent: list[list[float]] = [[] for _ in field]
    peaks = []
    for case in cases:
        drawn = field if case is cases[0] else field_of(case)
        for _ in range(options.repeats):
            peaks.append(gemm_peak(torch.bfloat16, clock))
            for i, contestant in enumerate(drawn):
                batch = best[i] if best[i] in contestant.epochs else next(iter(contestant.epochs))
                t = seconds(contestant, batch)
                spent[i].append(t)
                rates[i].append(case.n_tokens / t)
                work[i].append(case.flops / t)
        progress(f"{case.shape.name}, {case.documents}: {len(peaks)} of {len(cases) * options.repeats} rounds")
    ours = {c.precision: spent[i] for i, c in enumerate(field) if c.name == "maskseq"}
    results = []
    for i, contestant in enumerate(field):
        ratios = sorted(t / own for t, own in zip(spent[i], ours[contestant.precision], strict=True))
        results.append(
            Result(
                shape=cases[0].shape.name,
                documents=cases[0].documents,
                contestant=contestant.name,
                precision=contestant.precision,
                batches=contestant.batches,
                batch=best[i],
                tokens_per_s=median(rates[i]),
                share_of_peak=median(work[i]) / median(peaks),
                memory_mb=memory[i] / 1e6,
                ratio=median(ratios),
                ratios=ratios,
            )
        )
    return results


def gemm_peak(dtype: torch.dtype, clock: Clock, size: int = 4096) -> float:
    """FLOP/s of one square matrix product."""
    a = torch.ones(size, size, dtype=dtype)
    began = clock()
    a @ a
    return 2 * size**3 / (clock() - began)


def peak_memory(epoch: Callable[[], None]) -> float:
    """Bytes that an epoch adds at its peak to the resident memory; 0 where the kernel does not tell."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident("VmRSS")
        epoch()
        return resident("VmHWM") - before
    except OSError:
        epoch()
        return 0.0


def resident(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def table(results: Sequence[Result]) -> str:
    lines = [
        "| shape | documents | contestant | precision | batches | tokens/s | of bf16 peak | memory | maskseq is |",
        "|" + "---|" * 9,
    ]
    for r in results:
        batches = f"{r.batches} ({r.batch})" if r.batch else r.batches
        lines.append(
            f"| {r.shape} | {r.documents} | {r.contestant} | {r.precision} | {batches} | {r.tokens_per_s:,.0f} "
            f"| {r.share_of_peak:.0%} | {r.memory_mb:,.0f} MB | {r.ratio:.2f}x |"
        )
    return "\n".join(lines)


def plot(results: Sequence[Result], path: Path) -> None:
    """Bars of tokens per second, one panel a case."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no matplotlib: {path} is not drawn")
        return
    cases = list(dict.fromkeys((r.shape, r.documents) for r in results))
    rows = [sum((r.shape, r.documents) == case for r in results) for case in cases]
    figure = Figure(figsize=(7, sum(rows) * 0.22 + 0.7 * len(cases)), layout="constrained")
    panels = figure.subplots(len(cases), squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
    for axes, case in zip(panels, cases, strict=True):
        members = [r for r in results if (r.shape, r.documents) == case][::-1]
        colours = ["#1f6f8b" if r.contestant.startswith("maskseq") else "#b9b9b9" for r in members]
        names = [f"{r.contestant} {r.precision}, {r.batches}" for r in members]
        bars = axes.barh(names, [r.tokens_per_s for r in members], color=colours)
        axes.bar_label(bars, [f"{r.tokens_per_s:,.0f}" for r in members], padding=3, fontsize=7)
        axes.tick_params(labelsize=7)
        axes.set_title(f"{case[0]}, documents: {case[1]}", fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("real tokens per second", fontsize=8)
    figure.savefig(path)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--documents", nargs="+", choices=DOCUMENTS, default=list(DOCUMENTS))
    parser.add_argument(
        "--peers", nargs="*", choices=("transformers", "x-transformers"), default=["transformers", "x-transformers"]
    )
    parser.add_argument("--precisions", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    parser.add_argument("--tokens", type=int, default=8_192, help="real tokens of all documents")
    parser.add_argument("--row-tokens", type=int, default=8_192, help="tokens of a packed row")
    parser.add_argument("--draws", type=int, default=3, help="draws of lengths, where they are drawn")
    parser.add_argument("--repeats", type=int, default=2, help="rounds on each draw")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--compile", action="store_true", help="also time maskseq under torch.compile")
    parser.add_argument("--json", type=Path, help="results go here; those of other cases that it holds are kept")
    parser.add_argument("--plot", type=Path, help="an .svg or .png file of all results in --json")
    options = parser.parse_args()

    clock = time.perf_counter if options.clock == "wall" else time.process_time
    keep_freed_memory()  # for every contestant
    machine = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clock": options.clock,
        "gemm_bf16_gflops": round(gemm_peak(torch.bfloat16, clock) / 1e9),
        "gemm_fp32_gflops": round(gemm_peak(torch.float32, clock) / 1e9),
    }
    print(json.dumps(machine), flush=True)
    results: list[Result] = []
    if options.json and options.json.exists():
        results = [Result(**each) for each in json.loads(options.json.read_text())["results"]]
    for shape in options.shapes:
        for documents in options.documents:
            draws = range(options.draws if documents == "lognormal" else 1)
            tokens = max(options.tokens, 0 if documents == "lognormal" else int(documents))
            cases = [make_case(SHAPES[shape], documents, tokens, options.row_tokens, draw) for draw in draws]
            new = measure(cases, options, clock)
            print(table(new), flush=True)
            results = [r for r in results if (r.shape, r.documents) != (shape, documents)] + new
            if options.json:
                found = {"machine": machine, "results": [asdict(r) for r in results]}
                options.json.write_text(json.dumps(found, indent=1))
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
