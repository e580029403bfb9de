"""How fast are holes filled, how well, and by how many forward passes, beside transformers' fill-mask in a loop?

    python benchmarks/infill_speed.py runs/demo recipes/samples/hpylori_SJM180.fasta.gz --json infill_speed.json

Holes of several lengths are made in windows of a file (whole records where they are short). The peer is what a user of
transformers has: the run exported (`maskseq export --format hf`) and its fill-mask pipeline, asked for one window at a
time and one token at a time, the first [MASK] filled with the best answer and the text given back. Every order of
`maskseq infill` fills the same holes with the same weights, without the symmetry ensemble that the peer has not.

Quality is judged alike for everybody: bits a token of what was filled in, by the chain rule from left to right under
the model (lower: the values fit together and into their surroundings), and how often it is what had been there.
All contestants are timed in turn in one process, medians of the rounds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from maskseq import load
from maskseq.apps.interchange import export_checkpoint
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.protocol import Example, Predict, of_ids
from maskseq.scoring.score import chain_log_probs
from maskseq.trained import TrainedModel
from maskseq.types import Vocabulary

LENGTHS = (1, 2, 4, 8, 16)
ORDERS = {
    "one_shot": InfillConfig(order="one_shot"),
    "entropy_bounded (default)": InfillConfig(),
    **{f"entropy_bounded, γ = {gamma}": InfillConfig(gamma=gamma) for gamma in (1.0, 0.3, 0.01, 0.0)},
    **{f"confidence, {n} steps": InfillConfig(order="confidence", steps=n) for n in (2, 4, 8)},
    **{f"margin, {n} steps": InfillConfig(order="margin", steps=n) for n in (4, 8)},
    **{f"entropy, {n} steps": InfillConfig(order="entropy", steps=n) for n in (4, 8)},
    "threshold 0.9": InfillConfig(order="threshold"),
    "ancestral, 8 steps": InfillConfig(order="ancestral", steps=8),
    "remdm, 8 steps": InfillConfig(order="remdm", steps=8),
    "left_to_right": InfillConfig(order="left_to_right"),
}
PEER = "transformers fill-mask, one at a time"


@dataclass(frozen=True)
class Holes:
    """Windows, each with one hole."""

    ids: list[np.ndarray]
    masked: list[np.ndarray]

    @property
    def n_cells(self) -> int:
        return sum(int(masked.sum()) for masked in self.masked)


@dataclass
class Result:
    """One line of the table."""

    who: str
    holes_per_s: float
    passes: float  # of the model over one window, on average
    bits: float  # a token, by the chain rule
    right: float
    times: float  # as many holes a second as the peer


def make_holes(run: TrainedModel, file: Path, format: str | None, n: int, context: int) -> Holes:
    """Windows of the file's records, at random among those that are known throughout; where they are short, records."""
    vocabulary, rng = run.tokenizer.vocabulary, np.random.default_rng(0)
    encoded = [run.tokenizer.encode(record).ids for record in islice(run.reader(file, format).read(file), 5000)]
    usable = [ids for ids in encoded if len(ids) > max(LENGTHS) + 2]
    lengths = np.array([len(ids) for ids in usable], float)
    holes = Holes([], [])
    while len(holes.ids) < n:
        ids = usable[rng.choice(len(usable), p=lengths / lengths.sum())]
        start = int(rng.integers(max(len(ids) - context, 0) + 1))
        window = ids[start : start + context]
        if not vocabulary.known(window).all():
            continue
        length = LENGTHS[len(holes.ids) % len(LENGTHS)]
        first = int(rng.integers(1, len(window) - length))
        masked = np.zeros(window.shape, bool)
        masked[first : first + length] = True
        holes.ids.append(window)
        holes.masked.append(masked)
    return holes


def ours(predict: Predict, holes: Holes, config: InfillConfig, vocabulary: Vocabulary) -> list[np.ndarray]:
    """All windows filled together."""
    fills = infill(
        predict,
        [Example(each) for each in holes.ids],
        holes.masked,
        config,
        vocabulary=vocabulary,
        keys=list(range(len(holes.ids))),
    )
    return [fill.written(ids) for fill, ids in zip(fills, holes.ids, strict=True)]


def theirs(run: TrainedModel) -> Callable[[Holes], list[np.ndarray]]:
    """The loop around the fill-mask pipeline."""
    import transformers

    folder = Path(tempfile.mkdtemp()) / "hf"
    export_checkpoint(run, folder, format="hf")
    fill_mask = transformers.pipeline("fill-mask", model=str(folder), tokenizer=str(folder), device="cpu")
    field = run.tokenizer.fields[0]
    letters = [field.token(i) for i in range(field.n_predictable)]
    space = "" if all(len(letter) == 1 for letter in field.tokens) else "\t"
    mask = fill_mask.tokenizer.mask_token

    def fill(holes: Holes) -> list[np.ndarray]:
        filled = []
        for ids, masked in zip(holes.ids, holes.masked, strict=True):
            text = [mask if hole else letters[i] for i, hole in zip(ids[:, 0].tolist(), masked[:, 0], strict=True)]
            for place in np.flatnonzero(masked[:, 0]).tolist():
                answers = fill_mask(space.join(text), top_k=1)
                first = answers[0] if isinstance(answers[0], dict) else answers[0][0]
                text[place] = first["token_str"].strip()
            filled.append(np.array([[letters.index(letter)] for letter in text], ids.dtype))
        return filled

    return fill


def judge(predict: Predict, holes: Holes, filled: Sequence[np.ndarray], vocabulary: Vocabulary) -> tuple[float, float]:
    """Bits a token by the chain rule, and the share of tokens that are right."""
    orders = [np.argwhere(masked) for masked in holes.masked]
    log_probs = np.concatenate(chain_log_probs(predict, filled, orders, vocabulary=vocabulary))
    pairs = zip(filled, holes.ids, holes.masked, strict=True)
    right = sum(int((new == old)[masked].sum()) for new, old, masked in pairs)
    return float(-log_probs.mean() / np.log(2)), right / holes.n_cells


def measure(run: TrainedModel, holes: Holes, repeats: int) -> list[Result]:
    vocabulary = run.tokenizer.vocabulary
    plain = run.predict(symmetries=False)
    requested = 0

    @of_ids
    def counting(sequences: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        nonlocal requested
        requested += len(sequences)
        return plain(sequences, cells)

    def filler(config: InfillConfig) -> Callable[[Holes], list[np.ndarray]]:
        return lambda holes: ours(counting, holes, config, vocabulary)

    field: dict[str, Callable[[Holes], list[np.ndarray]]] = {PEER: theirs(run)}
    field |= {name: filler(config) for name, config in ORDERS.items()}
    times: dict[str, list[float]] = {name: [] for name in field}
    filled, passes = {}, {}
    for _ in range(repeats):
        for name, fill in field.items():
            requested, began = 0, time.perf_counter()
            filled[name] = fill(holes)
            times[name].append(time.perf_counter() - began)
            passes[name] = (requested or holes.n_cells) / len(holes.ids)
    results = []
    for name in field:
        bits, right = judge(plain, holes, filled[name], vocabulary)
        ratio = median(peer / own for peer, own in zip(times[PEER], times[name], strict=True))
        results.append(Result(name, len(holes.ids) / median(times[name]), passes[name], bits, right, ratio))
    return results


def table(results: Sequence[Result]) -> str:
    lines = ["| filled by | holes/s | passes a hole | bits a token | right | times the peer |", "|---|" + "---:|" * 5]
    for r in results:
        lines.append(
            f"| {r.who} | {r.holes_per_s:,.1f} | {r.passes:.2f} | {r.bits:.3f} | {r.right:.1%} | {r.times:.1f} |"
        )
    return "\n".join(lines)


def plot(results: Sequence[Result], path: Path) -> None:
    """Passes a hole against bits a token."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for r in results:
        axes.plot(r.passes, r.bits, "o", color="#b9b9b9" if r.who == PEER else "#1f6f8b")
        axes.annotate(r.who, (r.passes, r.bits), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel("forward passes a hole")
    axes.set_ylabel("bits a token of the fill, chain rule (lower is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--format", help="the file's format (default: by its ending)")
    parser.add_argument("--holes", type=int, default=100)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="an .svg or .png file")
    options = parser.parse_args()
    run = load(options.run)
    results = measure(
        run, make_holes(run, options.file, options.format, options.holes, options.context), options.repeats
    )
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=1))
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
