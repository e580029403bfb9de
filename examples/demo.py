"""What masked modelling is good at, in three acts on data that ship here: `make demo`, or

    python examples/demo.py --output runs/demo

Each act trains a small run, compares it on held-out data with the best simple method, and fills stretches of these.
All of it stands on one page, which needs no network: runs/demo/index.html.
"""

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import maskseq
from maskseq.apps.evaluate import Question, evaluate_run
from maskseq.comparison.verdict import gained, shown
from maskseq.infill.table import rows
from maskseq.reports.infill import stretches
from maskseq.reports.page import table, verdict, write_page
from maskseq.reports.stretch import drawn
from maskseq.trained import TrainedModel

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
SHOWN = 3
"""Stretches that are drawn in each act."""


@dataclass(frozen=True)
class Act:
    """One kind of sequence."""

    title: str
    about: str
    recipe: str
    changes: tuple[str, ...]
    """Of the recipe: less training, and a part that nothing is chosen by."""
    protocol: str
    masked: int
    """Units of each stretch that is filled for the page."""


ACTS = (
    Act(
        "An event log with lost requests",
        "A web server's access log, by visit. Two requests in a row are lost: path, method, status, size and times. "
        "A gap is right only if both values of a field are. Each filled value stands with its probability, the next "
        "ones and, where it is wrong, what had been there.",
        "apache",
        ("training.tokens=150_000", "data.split.test=0.1"),
        "gap-2",
        2,
    ),
    Act(
        "A signal with half a year missing",
        "Weekly CO2 above Mauna Loa. 26 weeks in a row are redrawn, with the interval that holds the true "
        "value in 80 % of the cases.",
        "co2",
        ("training.tokens=40_000", 'data.split.test_regions=["co2:1401-1660"]'),
        "gap-26",
        26,
    ),
    Act(
        "A genome with unread bases",
        "Phage lambda. Single bases are uncertain by nature: what a model knows is the distribution, drawn as letters "
        "as high as they are probable.",
        "lambda",
        ("training.tokens=150_000", "data.split.test=0.1"),
        "isolated",
        12,
    ),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--output", type=Path, default=Path("runs/demo"))
    options.add_argument("--tokens", type=int, help="train each run on so many tokens (default: as each act says)")
    options.add_argument("--cells", type=int, default=1500, help="cells that are compared in each act")
    given = options.parse_args()
    print(demo(given.output, tokens=given.tokens, cells=given.cells))


def demo(output: Path, *, tokens: int | None = None, cells: int = 1500, overrides: Sequence[str] = ()) -> Path:
    """Run the acts, whatever lies in the folder from before; the page. `overrides` are further ones of all recipes."""
    began = time.monotonic()
    parts = []
    for act in ACTS:
        shutil.rmtree(output / act.recipe, ignore_errors=True)
        # Each act makes its own comparison, and calibrating a genome would take longer than training it.
        changes = [*act.changes, "training.comparison_cells=0", "calibrate=false", *overrides]
        changes += [] if tokens is None else [f"training.tokens={tokens}"]
        run = maskseq.pretrain(RECIPES / f"{act.recipe}.toml", output=output / act.recipe, overrides=changes)
        question = Question(protocols=(act.protocol,), cells=cells, every=False)
        found = evaluate_run(output / act.recipe, question=question).to_json()["protocols"][act.protocol]
        words = in_words(found)
        print(f"{act.title}: {words}", flush=True)
        parts.append(f"<h2>{escape(act.title)}</h2><p>{escape(act.about)}</p>{verdict(words.capitalize())}")
        parts += [filled(run, act), compared(found)]
    seconds = time.monotonic() - began
    parts.append(f"<p>Three small runs, trained and compared in {seconds:.0f} s. README.md says how to go on.</p>")
    page = output / "index.html"
    write_page(page, "maskseq: what is missing, and how surely", parts)
    return page


def in_words(found: Mapping[str, Any]) -> str:
    """In how many comparisons the run is better or worse than the best simple method."""
    outcomes = [each["verdict"] for each in found["fields"] if "verdict" in each]
    better, worse = (outcomes.count(outcome) for outcome in ("better than", "worse than"))
    line = f"better than the best simple method in {better} of {len(outcomes)} comparisons, worse in {worse}"
    return line + (f", no clear difference in {n}" if (n := len(outcomes) - better - worse) else "")


def compared(found: Mapping[str, Any]) -> str:
    """Field by field, the run beside the best simple method, and the gain with its interval."""
    lines = []
    for each in found["fields"]:
        ours, theirs = (shown(each[of], each["metric"]) for of in ("of the product", "of the best simple method"))
        gain = gained(each["gain"], each["gain, 95 %"], each["metric"], each["regions"])
        lines.append((each["field"], each["of"], ours, each["best simple method"], theirs, gain))
    return table(("field", "scored", "the run", "best simple method", "its figure", "gain, 95 % interval"), lines)


def filled(run: TrainedModel, act: Act) -> str:
    """Stretches of the test part, masked, filled and drawn in their context beside the truth."""
    corpus = run.corpus()
    ranges: dict[str, list[tuple[int, int]]] = {}
    for sequence in corpus.sequences("test").tolist():
        start, length = int(corpus.starts[sequence]), int(corpus.lengths[sequence])
        room = length - act.masked
        if room >= 4 and sum(map(len, ranges.values())) < SHOWN:
            at = start + room // 2
            ranges.setdefault(corpus.key(sequence), []).append((at, at + act.masked))
    (name,) = (each["name"] for each in corpus.manifest["sources"])
    file = RECIPES / "samples" / Path(name).name
    records = [each for each in run.reader(file).read(file) if each.key in ranges]
    parts = []
    for each in run.infill(records, ranges=ranges, only_ranges=True):
        table = list(rows(each.filled, each.before, run.fills, posterior=each.posterior, numbers=each.numbers))
        parts += map(drawn, stretches(each, table, run.fills))
    return "".join(parts)


if __name__ == "__main__":
    main()
