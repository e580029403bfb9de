"""How fast does an encoder train, beside transformers and x-transformers on the same documents?

    python benchmarks/train_speed.py --shapes small --documents lognormal 1024 --json train_speed.json

Every peer gets the same shape, window pattern, documents, scored cells and fused AdamW; a step is forward, backward and
update. Peers run padded, as their users' Trainer would run them, in the per-device batch of 8, 16, 32 or all documents
that suits them best (and takes less than 6 GB), in random order and sorted by length. All contestants of a case are
timed in turn, in one process.

Tokens are real tokens, never padding. Work is three times the forward pass: matrices, attention within windows and
documents only, and the head on scored cells; whatever else a peer computes is its own affair. Peak is the median rate
of 4096³ matrix products in bf16 of the same run. On a busy machine `--clock cpu` counts CPU seconds instead.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from train_peers import DOCUMENTS, SHAPES, Case, Epoch, contestants, make_case

from maskseq.model.cpu import keep_freed_memory


@dataclass
class Result:
    """One line of the table."""

    shape: str
    documents: str
    contestant: str
    precision: str
    batch: str
    seconds: float
    tokens_per_s: float
    share_of_peak: float
    ratio: float = 0.0  # how many times as fast maskseq is, in the same precision


def measure(
    case: Case, peers: Sequence[str], *, compiled: bool, repeats: int, clock: Callable[[], float]
) -> list[Result]:
    def seconds(epoch: Epoch) -> float:
        began = clock()
        epoch()
        return clock() - began

    field: list[tuple[str, str, str, Epoch]] = []
    for name, precision, epochs in contestants(case, peers, compiled=compiled):
        for epoch in epochs.values():
            epoch()  # kernels, caches, compilation
        best = min(epochs, key=lambda batch: seconds(epochs[batch])) if len(epochs) > 1 else next(iter(epochs))
        field.append((name, precision, best, epochs[best]))
    times: list[list[float]] = [[] for _ in field]
    peaks = []
    for _ in range(repeats):
        peaks.append(gemm_peak(torch.bfloat16, clock))
        for (*_, epoch), spent in zip(field, times, strict=True):
            spent.append(seconds(epoch))
    peak = median(peaks)
    results = [
        Result(case.shape.name, case.documents, name, precision, batch, t, case.n_tokens / t, case.flops / t / peak)
        for (name, precision, batch, _), t in zip(field, map(median, times), strict=True)
    ]
    ours = {result.precision: result.seconds for result in results if result.contestant == "maskseq"}
    for result in results:
        result.ratio = result.seconds / ours[result.precision]
    return results


def gemm_peak(dtype: torch.dtype, clock: Callable[[], float], size: int = 4096) -> float:
    """FLOP/s of one square matrix product."""
    a = torch.ones(size, size, dtype=dtype)
    began = clock()
    a @ a
    return 2 * size**3 / (clock() - began)


def table(results: Sequence[Result]) -> str:
    lines = [
        "| shape | documents | contestant | precision | batch | tokens/s | share of bf16 peak | maskseq is |",
        "|" + "---|" * 8,
    ]
    for r in results:
        lines.append(
            f"| {r.shape} | {r.documents} | {r.contestant} | {r.precision} | {r.batch} | {r.tokens_per_s:,.0f} "
            f"| {r.share_of_peak:.0%} | {r.ratio:.2f}x |"
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
    figure = Figure(figsize=(7, 1 + 2.2 * len(cases)), layout="constrained")
    for axes, case in zip(figure.subplots(len(cases), squeeze=False)[:, 0], cases, strict=True):
        members = [r for r in results if (r.shape, r.documents) == case][::-1]
        colours = ["#1f6f8b" if r.contestant.startswith("maskseq") else "#b9b9b9" for r in members]
        bars = axes.barh(
            [f"{r.contestant} {r.precision}" for r in members], [r.tokens_per_s for r in members], color=colours
        )
        axes.bar_label(bars, [f"{r.tokens_per_s:,.0f}" for r in members], padding=3, fontsize=8)
        axes.set_title(f"{case[0]}, documents: {case[1]}", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("real tokens per second")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--documents", nargs="+", choices=DOCUMENTS, default=list(DOCUMENTS))
    parser.add_argument(
        "--peers", nargs="*", choices=("transformers", "x-transformers"), default=["transformers", "x-transformers"]
    )
    parser.add_argument("--tokens", type=int, default=16_384, help="real tokens of all documents")
    parser.add_argument("--row-tokens", type=int, default=8_192, help="tokens of a packed row")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--compile", action="store_true", help="also time maskseq under torch.compile")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="an .svg or .png file")
    options = parser.parse_args()

    clock = time.perf_counter if options.clock == "wall" else time.process_time
    keep_freed_memory()  # for every contestant
    torch.manual_seed(0)
    results: list[Result] = []
    for shape in options.shapes:
        for documents in options.documents:
            case = make_case(SHAPES[shape], documents, options.tokens, options.row_tokens)
            new = measure(case, options.peers, compiled=options.compile, repeats=options.repeats, clock=clock)
            print(table(new), flush=True)
            results += new
    machine = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clock": options.clock,
        "gemm_bf16_gflops": round(gemm_peak(torch.bfloat16, clock) / 1e9),
        "gemm_fp32_gflops": round(gemm_peak(torch.float32, clock) / 1e9),
    }
    print(json.dumps(machine))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "results": [asdict(r) for r in results]}, indent=1))
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
