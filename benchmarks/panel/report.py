"""docs/panel.md from the results that are there: every figure of it is computed here from sums by region."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.panel.answers import METHODS, MIX, OUTSIDE
from benchmarks.panel.drift import DRIFTS
from benchmarks.panel.rule import Row, judged
from benchmarks.panel.sets import LEFT_OUT, SETS
from maskseq.evaluation.paired import FEWEST_REGIONS, MARGINS, Comparison, Metric, compared, reference

BASE = "91cfb568336b"
"""The code that later ones are compared with: without a blend."""
SHIPPED = "shipped"
OWN = (SHIPPED, "without the encoder", "encoder alone")
"""What a run predicts with; everything else is a simple method."""
FEWEST_GAPS = 100
"""Of a set, independent ones under a drift: with fewer its row is shown without a claim."""
POOLED_GAPS = 400
"""Of all sets together, for a claim about a drift."""
UNITS: Mapping[Metric, str] = {
    "bits": "bits",
    "squared error": "z-scored squared error",
    "exact": "share exactly right",
}
BESIDE: Mapping[Metric, tuple[str, ...]] = {
    "bits": (OUTSIDE, "accuracy"),
    "squared error": ("CRPS",),
    "exact": ("bits",),
}
"""The further figure of a table: the first of these that there is."""


@dataclass(frozen=True)
class Line:
    """A protocol of a set: the figures of all methods, and the run compared with its reference."""

    set: str
    half: str
    family: str
    domain: str
    kind: str
    """single, gap or masked; the name of a drift."""
    protocol: str
    metric: Metric
    means: Mapping[str, float]
    reference: str
    best: str
    """The simple method that is best on the test part."""
    beside_reference: Comparison
    beside_best: Comparison
    beside_mixes: Mapping[str, Comparison]
    ours: np.ndarray
    theirs: np.ndarray
    sizes: np.ndarray
    independent: int
    beside: Mapping[str, Mapping[str, float]]
    """Further figures of each method."""

    @property
    def drift(self) -> bool:
        return self.kind in DRIFTS

    @property
    def claimed(self) -> bool:
        return len(self.sizes) >= FEWEST_REGIONS and (not self.drift or self.independent >= FEWEST_GAPS)

    def reported(self, comparison: Comparison) -> str:
        """The gain, in brackets where nothing is claimed."""
        gain = _marked(comparison, self.metric) if self.claimed else _gain(comparison)
        return gain if self.claimed else f"({gain})"

    def row(self, comparison: Comparison) -> Row:
        kind = f"{self.domain}, {self.kind}"
        return Row(f"{self.set}, {self.kind}", self.family, kind, self.metric, comparison, len(self.sizes))


def lines_of(result: Mapping[str, Any]) -> Iterator[Line]:
    """The comparisons of one set; protocols of which the selection part has nothing take the best on the test part."""
    protocols = result.get("protocols", {})
    for where, reported in protocols.items():
        part, _, kind = where.rpartition("/")
        if part == "selection" or not reported["means"]:
            continue
        metric: Metric = reported["metric"]
        simple = {name: mean for name, mean in reported["means"].items() if name not in OWN}
        single = {name: mean for name, mean in simple.items() if not name.startswith(MIX)}
        selection = protocols.get(f"selection/{kind}", {}).get("means", {})
        known = {name: mean for name, mean in selection.items() if name in single}
        chosen = reference(known or single, metric)
        best = reference(single, metric)
        sums = {name: np.array(each) for name, each in reported["sums"].items()}
        sizes = np.array(reported["sizes"])

        def beside(
            name: str, sums: Mapping[str, np.ndarray] = sums, sizes: np.ndarray = sizes, m: Metric = metric
        ) -> Comparison:
            return compared(sums[SHIPPED], sums[name], sizes, m)

        yield Line(
            set=result["set"],
            half=result["half"],
            family=result["family"],
            domain=result["domain"],
            kind=kind if part == "test" else part,
            protocol=reported["protocol"],
            metric=metric,
            means=reported["means"],
            reference=chosen,
            best=best,
            beside_reference=beside(chosen),
            beside_best=beside(best),
            beside_mixes={name: beside(name) for name in simple if name.startswith(MIX)},
            ours=sums[SHIPPED],
            theirs=sums[chosen],
            sizes=sizes,
            independent=reported["independent"],
            beside=reported.get("beside", {}),
        )


def over_seeds(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One result of the several seeds of a set: sums are averaged where the same questions were asked."""
    first = results[0]
    if len(results) == 1:
        return first
    protocols = {}
    for where, reported in first.get("protocols", {}).items():
        if "sums" not in reported:  # the selection part: simple methods alone are asked there
            protocols[where] = reported
            continue
        others = [each.get("protocols", {}).get(where, {}) for each in results]
        same = [each for each in others if each.get("sizes") == reported["sizes"]]
        averaged = {
            key: {name: np.mean([each[key][name] for each in same], axis=0).tolist() for name in reported[key]}
            for key in ("means", "sums")
        }
        protocols[where] = reported | averaged
    return {**first, "protocols": protocols, "seeds": len(results)}


def write_report(results: Path, output: Path) -> str:
    """Write the page; returns a line that says what is on it."""
    by_commit = _by_commit(results)
    text = [HEAD]
    if len(by_commit) > 1:
        text += _side_by_side(by_commit)
    for name, found in reversed(by_commit.items()):
        text += _of_commit(name, found)
    output.write_text("\n".join(text) + "\n", encoding="utf-8")
    return f"wrote {output}: {sum(each['seeds'] for found in by_commit.values() for each in found)} results"


def _by_commit(results: Path) -> dict[str, list[dict[str, Any]]]:
    """The results of each code with their lines, the oldest code first; seeds of a set are one result."""
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in sorted(path for path in results.glob("*") if path.is_dir()):
        sets: dict[str, list[Mapping[str, Any]]] = {}
        for file in sorted(folder.glob("*.json")):
            each = json.loads(file.read_text(encoding="utf-8"))
            sets.setdefault(each["set"], []).append(each)
        if sets:
            whole = [over_seeds(each) for each in sets.values()]
            found[folder.name] = [
                {**each, "seeds": len(seeds), "lines": list(lines_of(each))}
                for each, seeds in zip(whole, sets.values(), strict=True)
            ]
    dates = {name: min(each["date"] for each in sets) for name, sets in found.items()}
    return {name: found[name] for name in sorted(found, key=lambda name: (name != BASE, dates[name], name))}


def _both(by_commit: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[Line, Line, str]]:
    """The same questions to the first code and to the last that was asked, and which that was."""
    first, *later = by_commit
    before = {(line.set, line.kind): line for each in by_commit[first] for line in each["lines"]}
    after = {
        (line.set, line.kind): (line, name) for name in later for each in by_commit[name] for line in each["lines"]
    }
    pairs = [(before[key], line, name) for key, (line, name) in after.items() if key in before]
    return [(old, new, name) for old, new, name in pairs if old.claimed and new.claimed]


def _counts(first: str, both: Sequence[tuple[Line, Line, str]]) -> Iterator[str]:
    yield f"| half | | comparisons | {first}: won, lost | later code: won, lost |"
    yield "|---|---|---:|---:|---:|"
    for half in ("tuning", "report"):
        for domain in ("genome", "log", "signal"):
            pairs = [(old, new) for old, new, _ in both if (new.half, new.domain) == (half, domain)]
            if pairs:
                counts = [
                    _won_and_lost([line.beside_reference for line in lines]) for lines in zip(*pairs, strict=True)
                ]
                yield f"| {half} | {domain}s | {len(pairs)} | {' | '.join(counts)} |"


def _side_by_side(by_commit: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What the first and the last code gain on the reference of each question."""
    first, both = next(iter(by_commit)), _both(by_commit)
    if not both:
        return
    yield "\n## Before and after\n"
    yield (
        "Gains on the simple method that is best on selection data; *won*: the whole interval is above 0, *lost*: it "
        "is below. Drifts are questions of their own.\n"
    )
    yield from _counts(first, both)
    yield f"\n| | half | asked | {first} | later code | |"
    yield "|---|---|---|---:|---:|---|"
    for old, new, name in both:
        gains = f"{old.reported(old.beside_reference)} | {new.reported(new.beside_reference)}"
        yield f"| {new.set}, {new.kind} | {new.half} | {new.protocol} | {gains} | {name} |"


def _won_and_lost(comparisons: Sequence[Comparison]) -> str:
    return f"{sum(each.low > 0 for each in comparisons)}, {sum(each.high < 0 for each in comparisons)}"


HEAD = f"""# The panel

What `maskseq init` and `maskseq pretrain` reach, with nothing changed and at most a few CPU minutes a file, beside
simple methods that are counted on the same training part, on every suitable file of a collection. This page is made
from `benchmarks/results/panel` by `python -m benchmarks.panel --report`; `benchmarks/panel` has the code.

- **Parts.** Each file is cut in two; the larger part goes to `init` and `pretrain`, which holds a selection part out
  and no second test; nothing is chosen on the test part. The reference of a protocol is the simple method that is best
  on the selection part; the one that is best on the test part is shown as well.
- **Simple methods** are those of [Simple methods](baselines.md), counted on the same training part. Mixtures of them
  have rows of their own and are never the reference. The weights of the fitted mixture come from the selection part,
  so that mixtures are judged on the test part alone.
- **Figures.** Bits of single cells, of cells masked as in training and of gaps of bases; the share of gaps of events
  that are exactly right; squared errors of numbers, in units of each channel's training variance. Simple methods that
  state a mean are judged by it, computed from numbers that are not rounded to bins. A gain is the share of bits or
  squared error that is saved, or the difference of the shares, with a 95 % interval from a bootstrap over records or
  stretches. Behind a stroke stands a second figure: CRPS in standard deviations, accuracy of cells, bits of the cells
  outside exact repeats (genomes) or bits by cell (gaps of events).
- **Rule.** δ is {MARGINS["bits"]:.0%} of bits, {MARGINS["squared error"]:.0%} of squared error and one point of exact
  gaps. (a) No interval lies wholly beyond −δ. (b) There are no more nominal losses than chance makes, and none after
  Holm's correction. (c) Pooled by family of files (shares saved as ratios, by their logarithms), the lower
  bound of the gain is above 0 in each class of protocols;
  against mixtures of simple methods (a) and (b) alone count, and a tie is allowed. (d) The ten rows that are worst
  in units of δ are listed.
- **Drifts.** Test parts of signals are moved as instruments drift. Their reference is that of the same gaps without
  drift. A set with fewer than {FEWEST_GAPS} independent gaps is shown without a claim, in brackets, and so are
  figures of fewer than {FEWEST_REGIONS} records or stretches.

Left out: {"; ".join(f"`{name}`, {why}" for name, why in LEFT_OUT.items())}.
"""


def _of_commit(name: str, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    first = results[0]
    machine = first["machine"]
    yield f"\n## The code of {name}\n"
    versions = ", ".join(f"{each} {number}" for each, number in machine["versions"].items())
    yield (
        f"{len(results)} files; {machine['processor']}, {machine['cores']} cores, one thread; {versions}; "
        f"{min(each['date'] for each in results)} to {max(each['date'] for each in results)}. "
        f"`{first['command']}`"
    )
    if missing := [each.name for each in SETS if each.name not in {result["set"] for result in results}]:
        yield f"\nNot judged yet: {', '.join(missing)}."
    older = [each["set"] for each in results if each.get("methods", 1) < METHODS]
    if older:
        yield (
            f"\n**Older simple methods.** {_all_or(older, results)} judged beside an earlier, smaller set of simple "
            f"methods: these gains are not comparable with those of newer results."
        )
    lines = [line for each in results for line in each["lines"]]
    for half in ("tuning", "report"):
        mine = [line for line in lines if line.half == half]
        if mine:
            yield f"\n### The {half} half\n"
            yield from _verdicts(mine)
            yield from _tables([line for line in mine if not line.drift])
            yield from _drifts([line for line in mine if line.drift])
    yield from _trainings(results)


def _all_or(names: Sequence[str], results: Sequence[Any]) -> str:
    return "All were" if len(names) == len(results) else f"{', '.join(names)} were"


def _verdicts(lines: Sequence[Line]) -> Iterator[str]:
    claimed = [line for line in lines if line.claimed]
    yield from _verdict(
        "each protocol's reference", [(line, line.reference, line.beside_reference) for line in claimed]
    )
    for mix in dict.fromkeys(name for line in claimed for name in line.beside_mixes):
        mixed = [(line, mix, line.beside_mixes[mix]) for line in claimed if mix in line.beside_mixes]
        yield from _verdict(f"the {mix}", mixed, pools=False)
    wanted = [f"{line.set}, {line.kind}" for line in claimed if line.beside_reference.undecided(MARGINS[line.metric])]
    if wanted:
        yield f"\nMore seeds are needed for: {'; '.join(wanted)}."


def _verdict(against: str, compared: Sequence[tuple[Line, str, Comparison]], *, pools: bool = True) -> Iterator[str]:
    verdict = judged([line.row(comparison) for line, _, comparison in compared])
    yield f"\nAgainst {against}, {verdict.comparisons} comparisons:\n"
    yield f"- (a) wholly beyond −δ: {len(verdict.real)}{_listed(verdict.real)}"
    yield (
        f"- (b) nominal losses: {len(verdict.nominal)}, where chance makes up to {verdict.allowed}; after Holm's "
        f"correction {len(verdict.after_holm)}{_listed(verdict.after_holm)}"
    )
    if pools:
        reported = "; ".join(f"{kind} {_gained(*gain)}" for kind, gain in sorted(verdict.pools.items()))
        yield f"- (c) pooled by family: {reported}"
    yield "- (d) the worst:\n"
    yield "| | asked | against | its figure | shipped | gain |"
    yield "|---|---|---|---:|---:|---|"
    found = {line.row(comparison).name: (line, other) for line, other, comparison in compared}
    for row in verdict.worst:
        line, other = found[row.name]
        figures = f"{_figure(line.means[other])} | {_figure(line.means[SHIPPED])}"
        yield f"| {row.name} | {line.protocol} | {other} | {figures} | {_marked(row.comparison, row.metric)} |"


def _tables(lines: Sequence[Line]) -> Iterator[str]:
    """One table for each domain and class: a column for each set, a row for each method."""
    for domain, kind in dict.fromkeys((line.domain, line.kind) for line in lines):
        mine = [line for line in lines if (line.domain, line.kind) == (domain, kind)]
        metric = mine[0].metric
        methods = sorted(dict.fromkeys(name for line in mine for name in line.means), key=_place)
        there = {key for line in mine for each in line.beside.values() for key in each}
        second = next((key for key in BESIDE[metric] if key in there), "")
        yield f"\n**{domain}, {kind}** ({UNITS[metric]}{f' / {second}' if second else ''})\n"
        yield f"| | {' | '.join(line.set for line in mine)} |"
        yield f"|---|{'---:|' * len(mine)}"
        rows: dict[str, list[str]] = {
            "asked": [line.protocol for line in mine],
            "records or stretches": [str(len(line.sizes)) for line in mine],
        }
        for name in methods:
            figures = [(line.means.get(name), line.beside.get(name, {}).get(second)) for line in mine]
            rows[f"*{name}*" if name.startswith(MIX) else name] = [
                " / ".join(_figure(each) for each in pair if each is not None) for pair in figures
            ]
        rows["**reference**"] = [line.reference for line in mine]
        rows["gain on it"] = [line.reported(line.beside_reference) for line in mine]
        rows["best on test"] = ["the same" if line.best == line.reference else line.best for line in mine]
        rows["gain on that"] = ["" if line.best == line.reference else line.reported(line.beside_best) for line in mine]
        for name in dict.fromkeys(name for line in mine for name in line.beside_mixes):
            rows[f"gain on the {name}"] = [
                line.reported(line.beside_mixes[name]) if name in line.beside_mixes else "" for line in mine
            ]
        for name, cells in rows.items():
            yield f"| {name} | {' | '.join(cells)} |"


def _place(name: str) -> tuple[bool, bool]:
    """What a run predicts with comes first, mixtures last."""
    return name not in OWN, name.startswith(MIX)


def _drifts(lines: Sequence[Line]) -> Iterator[str]:
    if not lines:
        return
    yield "\n**signal, gaps under drift** (z-scored squared error)\n"
    yield "| drift | set | asked | gaps | shipped | reference | its figure | gain on it | best on test | gain on that |"
    yield "|---|---|---|---:|---:|---|---:|---|---|---|"
    for drift in DRIFTS:
        mine = [line for line in lines if line.kind == drift]
        for line in mine:
            yield (
                f"| {drift} | {line.set} | {line.protocol} | {line.independent} | {_figure(line.means[SHIPPED])} | "
                f"{line.reference} | {_figure(line.means[line.reference])} | {line.reported(line.beside_reference)} | "
                f"{line.best} {_figure(line.means[line.best])} | {line.reported(line.beside_best)} |"
            )
        if mine:
            gaps = sum(line.independent for line in mine)
            gain = _marked(_pooled(mine), "squared error")
            yield f"| {drift} | **all** | | {gaps} | | | | {gain if gaps >= POOLED_GAPS else f'({gain})'} | | |"


def _pooled(lines: Sequence[Line]) -> Comparison:
    """Several sets as one: a gap counts as a gap, however many channels and steps it has."""
    weights = [line.independent / line.sizes.sum() for line in lines]
    ours, theirs, sizes = (
        np.concatenate([getattr(line, name) * weight for line, weight in zip(lines, weights, strict=True)])
        for name in ("ours", "theirs", "sizes")
    )
    return compared(ours, theirs, sizes, "squared error")


def _trainings(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "\n**The files and their trainings**\n"
    yield "| set | file | cut | tokenizer | training positions | tokens seen | CPU s | |"
    yield "|---|---|---|---|---:|---:|---:|---|"
    for each in results:
        training = each.get("training", {})
        remarks = [f"failed: {_cell(each['failed'])}"] if "failed" in each else []
        if training.get("stopped at the limit"):
            remarks.append(f"stopped at {training['limit']:.0f} CPU seconds")
        if each.get("seeds", 1) > 1:
            remarks.append(f"{each['seeds']} seeds")
        yield (
            f"| {each['set']} | {each['file']} | {each.get('cut', '')} | {each.get('tokenizer', {}).get('name', '')} | "
            f"{each.get('positions', {}).get('train', 0):,} | {training.get('tokens') or 0:,} | "
            f"{training.get('cpu seconds', '')} | {', '.join(remarks)} |"
        )


def _marked(comparison: Comparison, metric: Metric) -> str:
    """The gain, in bold where it is surely above 0, with a mark where it is surely lost."""
    reported = _gain(comparison)
    if comparison.wins():
        return f"**{reported}**"
    if comparison.loses_by(MARGINS[metric]):
        return f"{reported} lost"
    return f"{reported} (lost, within δ)" if comparison.loses() else reported


def _gain(comparison: Comparison) -> str:
    return _gained(comparison.gain, comparison.low, comparison.high)


def _gained(gain: float, low: float, high: float) -> str:
    return f"{100 * gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] %"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _listed(names: Sequence[str]) -> str:
    return f" ({'; '.join(names)})" if names else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]
