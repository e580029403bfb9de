"""docs/ablation.md and its forest plot, from the results that are there."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ablation.cells import BASE, SWITCHES, cells
from benchmarks.ablation.statistics import Effect, corrected, effects

HEAD = """# Ablation: what the choices of newer BERTs are worth outside text

One encoder for each domain, the base, against itself with one switch turned back to classic BERT (or to another
choice of recent encoders), at equal tokens, with the same seeds for both: the seed decides the initial weights, the
order of the data and the masks. This page is made from `benchmarks/results/ablation` by
`python -m benchmarks.ablation --report`; `recipes/ablation` has the bases, `benchmarks/ablation/cells.py` the switches.
`python -m benchmarks.ablation --only NAME` runs one cell again.

- **Figures** are shares of the base's bits a cell on the test part: +2 % means that the switch costs 2 % more bits.
  Masks of evaluation are the same for all, however they were trained. *encoder* is the encoder alone, *blend* what the
  run predicts with.
- **Intervals** are Student's over paired seeds; p-values are those of the paired t-test after Holm's correction over
  all comparisons of a predictor. Three seeds show large effects only.
- Nothing was tuned for a switch: each is judged at the base's learning rate.
"""
WIDTH, LEFT, ROW, SCALE = 760, 300, 16, 0.10


def write_report(results: Path, page: Path) -> str:
    """Write the page and its plot; returns a line that says what is on them."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(results.glob("*.json"))]
    every = effects(found)
    by = list(zip(every, corrected(every), strict=True))
    page.write_text("\n".join([HEAD, *_tables(found, by)]) + "\n", encoding="utf-8")
    page.with_name("ablation.svg").write_text(forest([each for each in every if each.predictor == "encoder"]), "utf-8")
    return f"wrote {page}: {len(found)} of {len(cells())} cells"


def _tables(results: Sequence[Mapping[str, Any]], by: Sequence[tuple[Effect, float]]) -> Iterator[str]:
    if not results:
        yield "No cell has been run yet."
        return
    yield f"{len(results)} of {len(cells())} cells have been run; {_machines(results)}.\n"
    missing = [switch for switch in SWITCHES if switch not in {each["switch"] for each in results}]
    if missing:
        yield f"Not run: {', '.join(missing)}.\n"
    if by:
        yield "![Effects of the switches on the encoder alone, with intervals](ablation.svg)\n"
    for domain in dict.fromkeys(each["domain"] for each in results):
        mine = [each for each in results if each["domain"] == domain]
        seconds = [each["cpu seconds"] for each in mine]
        yield f"## {domain}\n"
        yield f"{min(seconds):.0f} to {max(seconds):.0f} CPU seconds a training.\n"
        protocols = list(dict.fromkeys(name for each in mine for name in each["bits"]))
        base = [each for each in mine if each["switch"] == BASE]
        for predictor in ("encoder", "blend"):
            rows = [(each, p) for each, p in by if (each.domain, each.predictor) == (domain, predictor)]
            if not rows:
                continue
            yield f"| {predictor} | {' | '.join(protocols)} | seeds |"
            yield f"|---|{'---:|' * len(protocols)}---:|"
            bits = [
                sum(each["bits"][name].get(predictor, float("nan")) for each in base) / len(base) for name in protocols
            ]
            yield f"| base, bits | {' | '.join(f'{each:.4f}' for each in bits)} | {len(base)} |"
            for switch in dict.fromkeys(each.switch for each, _ in rows):
                row = {each.protocol: (each, p) for each, p in rows if each.switch == switch}
                cells_ = [_shown(*row[name]) if name in row else "" for name in protocols]
                yield f"| {switch} | {' | '.join(cells_)} | {max(each.seeds for each, _ in row.values())} |"
            yield ""


def _shown(effect: Effect, p: float) -> str:
    mark = " *" if p < 0.05 else ""
    return f"{effect.mean:+.1%} ({effect.low:+.1%} to {effect.high:+.1%}){mark}"


def _machines(results: Sequence[Mapping[str, Any]]) -> str:
    machines = dict.fromkeys(
        f"{each['machine']['processor']}, {', '.join(f'{k} {v}' for k, v in each['machine']['versions'].items())}"
        for each in results
    )
    dates = sorted(each["date"] for each in results)
    return f"{'; '.join(machines)}; {dates[0]} to {dates[-1]}"


def forest(found: Sequence[Effect]) -> str:
    """A forest plot: an interval for each switch and protocol, the base at 0."""
    height = ROW * (len(found) + 3)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT) / 2 * (1 + max(-1.0, min(value / SCALE, 1.0)))

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="11" fill="currentColor" stroke="none">',
        f'<line x1="{x(0)}" x2="{x(0)}" y1="0" y2="{height - 2 * ROW}" stroke="currentColor" stroke-width="0.7"/>',
    ]
    for row, each in enumerate(found):
        y = ROW * (row + 1)
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{each.domain}, {each.switch}, {each.protocol}</text>',
            f'<line x1="{x(each.low):.1f}" x2="{x(each.high):.1f}" y1="{y}" y2="{y}" stroke="currentColor"/>',
            f'<circle cx="{x(each.mean):.1f}" cy="{y}" r="3"/>',
        ]
    for value in (-SCALE, -SCALE / 2, 0, SCALE / 2, SCALE):
        lines.append(f'<text x="{x(value):.1f}" y="{height - ROW}" text-anchor="middle">{value:+.0%}</text>')
    lines.append(
        f'<text x="{x(0)}" y="{height - 3}" text-anchor="middle">bits of the switch over those of the base</text></svg>'
    )
    return "\n".join(lines) + "\n"
