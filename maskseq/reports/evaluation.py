"""An evaluation as a table for the terminal, as JSON and as one self-contained page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from maskseq.comparison.verdict import gained, shown
from maskseq.reports.chart import Series, intervals, reliability
from maskseq.reports.page import section, table, verdict, write_page
from maskseq.reports.stretch import Cell, Excerpt, Form, drawn
from maskseq.storage.outputs import replacing, require_apart
from maskseq.storage.standard_json import to_json


@contextmanager
def evaluation_writer(folder: Path | None, *inputs: Path | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Takes an evaluation and writes it to `evaluation.json` and `evaluation.html`, if there is a folder for them.

    It holds them from the beginning, and they appear when they are whole.
    """
    if folder is None:
        yield lambda found: None
        return
    figures, page = folder / "evaluation.json", folder / "evaluation.html"
    for path in (figures, page):
        require_apart(path, *inputs)
    with replacing(figures, parents=True) as aside:

        def write(found: Mapping[str, Any]) -> None:
            aside.write_text(to_json(found, indent=1), encoding="utf-8")
            write_page(page, "Evaluation", _parts(found))

        yield write


def brief(protocol: str, figures: Mapping[str, Any]) -> Table:
    """Bits and accuracy of all methods under one protocol."""
    view = Table(title=f"{protocol}: {figures['cells']:,} cells, {figures['regions']:,} records or stretches")
    for name in HEADER:
        view.add_column(name)
    for row in _scores(figures):
        view.add_row(*row)
    if "skill" in figures:
        low, high = figures["skill, 95 %"]
        view.caption = f"skill over {figures['best baseline']}: {figures['skill']:.1%} ({low:.1%} to {high:.1%})"
    return view


def brief_remaining(figures: Mapping[str, Any]) -> Table:
    """Errors of the time that is left by all methods."""
    compared = figures["comparison"]
    view = Table(title=f"{compared['protocol']}: {compared['field']}, {figures['cases']:,} cases")
    for name in REMAINING:
        view.add_column(name)
    for row in _remaining(figures):
        view.add_row(*row)
    return view


REMAINING = ("", "mean absolute error", "continuations that reached an end")


def _remaining(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, error in figures["comparison"]["by"].items():
        ended = figures["ended"].get(name)
        yield name, f"{error:.4g}", "" if ended is None else f"{ended:.1%} of {figures['samples']}"


def brief_fields(found: Mapping[str, Any]) -> Table:
    """Field by field: the product, the best simple method, the gain and the verdict."""
    view = Table(title="field by field, against the best simple method", caption=_choice(found))
    header, rows = _fields(found)
    for name in header:
        view.add_column(name, overflow="fold")
    for row in rows:
        view.add_row(*row)
    return view


def _choice(found: Mapping[str, Any]) -> str:
    return f"the best simple method is chosen {found['best simple method is chosen']}"


def _fields(found: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The header and a row for each field of each protocol, the fields in their order."""
    compared = [each for figures in found["protocols"].values() for each in figures["fields"]]
    compared += [found["remaining time"]["comparison"]] if "remaining time" in found else []
    order = {name: i for i, name in enumerate(dict.fromkeys(each["field"] for each in compared))}
    own = found.get("predictors", [])
    rows = []
    for each in sorted(compared, key=lambda each: order[each["field"]]):
        row = [each["field"], f"{each['protocol']}, {each['of']}", f"{each['n']:,}"]
        row += [shown(each["by"][name], each["metric"]) if name in each["by"] else "" for name in own]
        row += [each["best simple method"], shown(each["of the best simple method"], each["metric"])]
        if "gain" in each:
            gain = gained(each["gain"], each["gain, 95 %"], each["metric"], each["regions"])
            row += [gain, each["verdict"].removesuffix(" than")]
        rows.append(tuple(row))
    verdict = ("gain (95 %)", "verdict") if found.get("product") else ()
    return ("field", "masked", "scored", *own, "best simple method", "its figure", *verdict), rows


def brief_gaps(protocol: str, fields: Mapping[str, Mapping[str, Any]], product: str | None) -> Table:
    """Whole gaps by all methods under one protocol, field by field."""
    view = Table(title=f"{protocol}: whole gaps")
    for name in ("", *GAPS):
        view.add_column(name)
    for field, sections in fields.items():
        for row in _gaps(sections):
            view.add_row(field, *row)
        if product is not None and "exact gained, 95 %" in sections.get(product, {}):
            low, high = sections[product]["exact gained, 95 %"]
            view.add_row(field, f"gained on {sections[product]['best baseline']}", "", "", f"{low:.1%} to {high:.1%}")
    return view


GAPS = ("filled by", "gaps", "exactly right", "95 %", "right by cell", "edits a cell")


def _gaps(sections: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for who, each in sections.items():
        low, high = each["exact, 95 %"]
        exact = f"{each['exact']:.2%}", f"{low:.2%} to {high:.2%}"
        yield who, f"{each['gaps']:,}", *exact, f"{each['accuracy']:.2%}", f"{each['edits a cell']:.4f}"


def brief_errors(protocol: str, figures: Mapping[str, Any]) -> Table:
    """Errors of numbers by all methods under one protocol."""
    view = Table(title=f"{protocol}: numbers of {figures['cells']:,} cells, each field z-scored")
    for name in ERRORS:
        view.add_column(name)
    for row in _errors(figures):
        view.add_row(*row)
    if "best baseline" in figures:
        low, high = figures["MSE saved, 95 %"]
        view.caption = f"of the MSE of {figures['best baseline']}, saved: {low:.1%} to {high:.1%}"
    return view


ERRORS = ("", "MSE", "95 %", "MAE")


def _errors(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, each in figures["by"].items():
        low, high = each["MSE, 95 %"]
        yield name, f"{each['MSE, z-scored']:.4f}", f"{low:.4f} to {high:.4f}", f"{each['MAE, z-scored']:.4f}"


HEADER = ("", "bits", "95 %", "right", "95 %", "macro-F1", "calibration error")


def _scores(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, each in figures["by"].items():
        bits, right = each["bits, 95 %"], each["accuracy, 95 %"]
        yield (
            name,
            f"{each['bits']:.4f}",
            f"{bits[0]:.4f} to {bits[1]:.4f}",
            f"{each['accuracy']:.2%}",
            f"{right[0]:.2%} to {right[1]:.2%}",
            f"{each['macro-F1']:.3f}",
            f"{each['calibration error']:.4f}",
        )


def _parts(found: Mapping[str, Any]) -> Iterator[str]:
    if "verdict" in found:
        yield verdict(found["verdict"]["in words"])
    if found["protocols"] or "remaining time" in found:
        header, rows = _fields(found)
        yield f"<h2>Field by field</h2><p>{escape(_choice(found).capitalize())}.</p>{_gains(found)}" + table(
            header, rows
        )
    requested = {**found.get("of", {}), **found["asked"], **found["infill"]}
    yield "<h2>What was scored</h2>" + table(("", ""), list(requested.items()))
    for protocol, figures in found["protocols"].items():
        yield from _protocol(protocol, figures, found.get("predictors", []))
    if "remaining time" in found:
        yield "<h2>remaining</h2>" + table(REMAINING, _remaining(found["remaining time"]))
    yield section("Made with", {"maskseq": version("maskseq"), "torch": version("torch")})


def _protocol(protocol: str, figures: Mapping[str, Any], own: Sequence[str]) -> Iterator[str]:
    yield f"<h2>{escape(protocol)}</h2>"
    yield (
        f"<p>{figures['cells']:,} cells in {figures['puzzles']:,} masked examples; intervals from a bootstrap over "
        f"{figures['regions']:,} records or stretches of long ones.</p>"
    )
    if "skill" in figures:
        low, high = figures["skill, 95 %"]
        yield (
            f"<p><b>Skill {figures['skill']:.1%}</b> ({low:.1%} to {high:.1%}): 1 minus the bits of the run over "
            f"those of “{escape(figures['best baseline'])}”, the best baseline.</p>"
        )
    yield table(HEADER, _scores(figures))
    asked = [*own[:2], figures.get("best baseline", "")]
    names = [name for name in dict.fromkeys(asked) if name in figures["by"]]
    for name, groups in figures["breakdown"].items():
        if len(groups) > 1:
            yield f"<h3>By {escape(name)}</h3>{_skills(groups, name)}{_by_group(groups, names or list(figures['by']))}"
    for name, sections in figures.get("whole gaps", {}).items():
        yield f"<h3>Whole gaps of {escape(name)}</h3>" + table(GAPS, _gaps(sections))
    if "errors of all fields" in figures:
        yield "<h3>Errors of numbers, each field z-scored</h3>"
        yield table(ERRORS, _errors(figures["errors of all fields"]))
    for name, each in figures.get("errors", {}).items():
        header = ("", *next(iter(each["by"].values())))
        yield f"<h3>Errors of {escape(name)}</h3>" + table(
            header, [(who, *values.values()) for who, values in each["by"].items()]
        )
    for name, each in figures.get("honesty", {}).items():
        header = ("", *next(iter(each.values())))
        yield f"<h3>Intervals of {escape(name)}</h3>" + table(
            header, [(who, *values.values()) for who, values in each.items()]
        )
    curves = figures["reliability"]
    yield f"<h3>Reliability</h3><p>{_reliability({name: curves[name] for name in names or list(curves)[:4]})}</p>"
    yield "<h3>Examples</h3>" + "".join(map(_example, figures["examples"]))


def _gains(found: Mapping[str, Any]) -> str:
    """The gain over the best simple method by field and protocol with its interval, shares and points apart."""
    compared = [each for figures in found["protocols"].values() for each in figures["fields"] if "gain" in each]
    compared = sorted((each for each in compared if each["regions"] > 1), key=lambda each: str(each["field"]))
    rows = {
        exact: [
            (f"{each['field']}, {each['protocol']}", each["gain"], *each["gain, 95 %"])
            for each in compared
            if (each["metric"] == "exact") == exact
        ]
        for exact in (False, True)
    }
    against = "over the best simple method, 95 % interval"
    saved = intervals("Gain by field and gap", f"share of bits or error saved {against}", rows[False])
    return saved + intervals("Gain in whole gaps", f"gaps exactly right, gained {against}", rows[True])


def _by_group(groups: Mapping[str, Any], names: Sequence[str]) -> str:
    rows = []
    for group, each in groups.items():
        scores = [f"{each['by'][name]['bits']:.4f} / {each['by'][name]['accuracy']:.1%}" for name in names]
        rows.append((group, each["cells"], *scores))
    return table(("", "cells", *(f"{name}: bits / right" for name in names)), rows)


def _reliability(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Stated confidence and right answers, a drawing for each few methods."""
    lines = [
        Series(name, [(point["confidence"], point["right"]) for point in points], tone=n % 4)
        for n, (name, points) in enumerate(curves.items())
    ]
    return "".join(reliability(lines[first : first + 4]) for first in range(0, len(lines), 4))


def _skills(groups: Mapping[str, Any], name: str) -> str:
    """The skill by group, with intervals, where there is one."""
    rows = [(group, each["skill"], *each["skill, 95 %"]) for group, each in groups.items() if "skill, 95 %" in each]
    return intervals(f"skill by {name}", "bits saved against the best simple method, 95 % interval", rows)


def _example(example: Mapping[str, Any]) -> str:
    """A stretch of held-out data; what was masked stands there as it is predicted, with the truth."""
    fields = example["fields"]
    form: Form = "strip"
    if all("numbers" in field for field in fields.values()):
        form = "lines"
    elif len(fields) == 1 and all(len(token) == 1 for field in fields.values() for token in field["truth"]):
        form = "letters"
    places = range(len(next(iter(fields.values()))["truth"]))
    return drawn(
        Excerpt(
            title=f"{example['of']}, from position {example['from']:,} of a window, filled by: {example['filled by']}",
            units=[example["from"] + place for place in places],
            tracks={name: [_cell(field, place, form) for place in places] for name, field in fields.items()},
            form=form,
            measures={name: field["unit"] for name, field in fields.items() if field.get("unit")},
        )
    )


def _cell(field: Mapping[str, Any], place: int, form: Form) -> Cell:
    truth, best = field["truth"][place], field["best"][place]
    number = field["numbers"][place] if "numbers" in field else None
    if best is None:  # masked and not scored, where nobody knows the truth or it cannot be filled
        return Cell("[MASK]") if field["hidden"][place] else Cell(truth, number=number)
    (value, p), *others = best
    cell = Cell(value, p, truth=truth, others=others, true_number=number)
    if "stated" not in field:
        return cell
    low, middle, high = field["stated"][place]
    return replace(cell, number=middle if form == "lines" else None, band=(low, high))
