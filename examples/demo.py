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

import numpy as np

import maskseq
from maskseq.apps.evaluate import Question, evaluate_run
from maskseq.comparison.verdict import gained, shown
from maskseq.infill.table import FillRow, rows
from maskseq.reports.chart import Series, chart, logo
from maskseq.reports.page import table, verdict, write_page
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
    unit: str
    masked: int
    """Units of each stretch that is filled for the page."""


ACTS = (
    Act(
        "An event log with lost requests",
        "A web server's access log, by visit. Two requests in a row are lost: path, method, status, size and times. "
        "Right is a value only if the whole gap of its field is.",
        "apache",
        ("training.tokens=150_000", "data.split.test=0.1"),
        "gap-2",
        "request",
        2,
    ),
    Act(
        "A signal with half a year missing",
        "Weekly CO2 above Mauna Loa. 26 weeks in a row are redrawn, with the interval that holds the true "
        "value in 80 % of the cases.",
        "co2",
        ("training.tokens=40_000", 'data.split.test_regions=["co2:1401-1660"]'),
        "gap-26",
        "week",
        26,
    ),
    Act(
        "A genome with unread bases",
        "Phage lambda. Single bases are uncertain by nature: what a model knows is the distribution, drawn as letters "
        "as high as they are probable.",
        "lambda",
        ("training.tokens=150_000", "data.split.test=0.1"),
        "isolated",
        "base",
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
        parts.append(f"<h2>{escape(act.title)}</h2><p>{escape(act.about)}</p>{verdict(words)}{drawn(run, act)}")
    seconds = time.monotonic() - began
    parts.append(f"<p>Three small runs, trained and compared in {seconds:.0f} s. README.md says how to go on.</p>")
    page = output / "index.html"
    write_page(page, "maskseq: what is missing, and how surely", parts)
    return page


def in_words(found: Mapping[str, Any]) -> str:
    """Of each field, the run beside the best simple method, and the gain with its interval."""
    lines = []
    for each in found["fields"]:
        ours, theirs = each["by"]["model"], each["of the best simple method"]
        line = f"{each['field']}, {each['of']}: {shown(ours, each['metric'])}, {each['best simple method']}: "
        line += shown(theirs, each["metric"])
        if "gain" in each:
            line += f"; gained {gained(each['gain'], each['gain, 95 %'], each['metric'], each['regions'])}"
            line += " (95 % interval)" * (each["regions"] > 1)
        lines.append(line)
    return "; ".join(lines[:SHOWN])


def drawn(run: TrainedModel, act: Act) -> str:
    """Stretches of the test part, masked, filled and drawn beside the truth."""
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
        filled = list(
            rows(each.filled, each.before, run.fills, posterior=each.posterior, numbers=each.numbers, alternatives=3)
        )
        fields = run.fills.fields
        if fields[0].centres is not None:
            parts.append(_signal(each, filled, run, act))
        elif len(fields) == 1:
            parts.append(_letters(each, filled, run))
        else:
            parts.append(_events(each, filled))
    return "".join(parts)


def _signal(each: Any, filled: Sequence[FillRow], run: TrainedModel, act: Act) -> str:
    """The signal around the gap, the fill with its band, and the truth."""
    numbers = each.before.numbers[:, 0] if each.before.numbers is not None else _centres(each, run)
    first, last = filled[0].start - 1, filled[-1].stop
    left, right = max(first - 104, 0), min(last + 104, len(numbers))
    known = [[(float(at), float(numbers[at])) for at in part] for part in (range(left, first), range(last, right))]
    series = [Series("known", [p for p in part if np.isfinite(p[1])], tone=3) for part in known]
    middle = [(float(row.start - 1), float(row.median or 0)) for row in filled]
    band = [(float(row.low80 or 0), float(row.high80 or 0)) for row in filled]
    truth = [(float(at), float(numbers[at])) for at in range(first, last) if np.isfinite(numbers[at])]
    fills = Series("filled, with its 80 % interval", middle, band=band)
    return chart(
        each.record.key, act.unit, filled[0].field, [*series[:1], *series[1:], fills, Series("truth", truth, tone=1)]
    )


def _centres(each: Any, run: TrainedModel) -> Any:
    centres = np.array([*(run.fills.fields[0].centres or ()), *[np.nan] * 8])
    return centres[np.minimum(each.before.ids[:, 0], len(centres) - 1)]


def _letters(each: Any, filled: Sequence[FillRow], run: TrainedModel) -> str:
    """A logo of each gap in its context, and the truth below."""
    field, ids = run.fills.fields[0], each.before.ids[:, 0]
    gaps: list[list[FillRow]] = []
    for row in filled:
        if gaps and gaps[-1][-1].stop + 1 == row.start:
            gaps[-1].append(row)
        else:
            gaps.append([row])
    parts = []
    for gap in gaps:
        first, last = gap[0].start - 1, gap[-1].stop
        context = [
            "".join(map(field.token, ids[a:b].tolist())) for a, b in ((max(first - 12, 0), first), (last, last + 12))
        ]
        columns = [[(row.value, row.probability), *row.alternatives] for row in gap]
        truth = "".join(row.truth or "?" for row in gap)
        parts.append(
            f"<p><b>{escape(gap[0].key)}:{first + 1}-{last}</b><br>{logo(columns, (context[0], context[1]))}<br>"
        )
        parts.append(f"truth: <code>{escape(truth)}</code></p>")
    return "".join(parts)


def _events(each: Any, filled: Sequence[FillRow]) -> str:
    """The lost events, field by field: what was filled, how surely, and what had been there."""
    lines = [
        (
            row.start,
            row.field,
            row.value if row.number is None else row.number,
            f"{row.probability:.0%}",
            row.truth or "",
        )
        for row in filled
    ]
    return f"<h3>{escape(each.record.key)}</h3>" + table(("event", "field", "filled", "probability", "truth"), lines)


if __name__ == "__main__":
    main()
