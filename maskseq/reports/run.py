"""`report.html` of a training run: how it went, what it predicts, what it was made from."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from maskseq.comparison.shown import best, number_of, stated
from maskseq.corpus.reader import Corpus
from maskseq.packing.rows import PackedRow
from maskseq.predict.protocol import Example
from maskseq.reports.chart import Series, chart
from maskseq.reports.page import section, share, table, verdict, write_page
from maskseq.reports.stretch import Cell, Excerpt, Form, drawn, form_of, measures_of
from maskseq.storage.run_folder import RunFolder
from maskseq.storage.standard_json import to_json
from maskseq.trained import TrainedModel
from maskseq.training.metrics import Watched, thinned
from maskseq.types import Field

AS_TRAINED = "masked as in training"
SHOWN_SEGMENTS, SHOWN_POSITIONS = 6, 120
POINTS = 400
CHARTS = {
    "loss": ("Loss", "nats per scored cell"),
    "bits": ("Bits", "bits per scored cell"),
    "accuracy": ("Right", "share of scored cells"),
    "lr": ("Learning rate", "per step"),
    "grad_norm": ("Gradient norm", "before clipping"),
    "update_ratio": ("Update over weights", "ratio"),
    "tokens_per_s": ("Speed", "tokens per second"),
    "peak_share": ("Share of the matrix product peak", "share"),
}


def write_run_report(
    run: TrainedModel, corpus: Corpus, row: PackedRow, recipe: Mapping[str, Any], worth: str | None = None
) -> Path:
    """Write the report into the run folder; the examples are the first segments of `row`, under its masks.

    `worth` is the first line: how the run compares with counting.
    """
    watched = Watched(run.path).update()
    path = RunFolder(run.path).report
    write_page(path, f"maskseq pretrain: {run.path.name}", _parts(watched, run, corpus, row, recipe, worth))
    return path


def _parts(
    watched: Watched,
    run: TrainedModel,
    corpus: Corpus,
    row: PackedRow,
    recipe: Mapping[str, Any],
    worth: str | None,
) -> Iterator[str]:
    if worth is not None:
        yield verdict(f"Compared with counting on test data: {worth}")
    started, summary = watched.started, watched.summary()
    yield section(
        "Result",
        {
            "state": summary["state"],
            "tokens": summary["tokens"],
            "parameters": run.model.n_parameters,
            "checkpoint": _chosen(watched),
            "selection data, bits per scored cell": _either(summary, "bits"),
            "selection data, right": _share(_either(summary, "accuracy")),
            **{
                f"share of the loss of frequencies saved, {name}": share(skill)
                for name, skill in watched.best.get("skills", {}).items()
            },
            **_tested(summary),
            "tokens per second": summary["tokens_per_s"],
            "seconds in steps": sum(watched.seconds),
            "share of the matrix product peak": _share(summary["peak_share"]),
            "peak memory, GiB": (summary["peak_memory"] or 0) / 2**30,
        },
    )
    used = run.experts.used()
    if len(used) > 1:
        shares = run.experts.shares(used)
        rows = [(name, share(shares[name]) if shares else "by window, from the known numbers around") for name in used]
        yield "<h2>What predicts</h2>" + table(("", "share of the blend"), rows)
    yield "<h2>Curves</h2>"
    yield from (_chart(watched, name, *titles) for name, titles in CHARTS.items())
    reported = watched.test or watched.best or (watched.validations[-1] if watched.validations else watched.last)
    what = {"test": "The test data", "validation": f"The selection data, at step {reported.get('step', 0):,}"}
    of = what.get(reported.get("kind", ""), "The last step")
    yield f"<h2>By kind of question</h2><p>{of}, by what was asked of the model.</p>"
    yield from (_groups(reported, key, name) for key, name in GROUPS.items())
    yield (
        "<h2>Examples</h2><p>Segments of the selection data as the model sees them, which may be turned by a symmetry. "
        'Of masked values the most probable one with its probability, <span class="right">right</span> or '
        '<span class="wrong">wrong</span>; letters are as high as they are probable, above the truth.</p>'
    )
    yield from map(drawn, _examples(run, row, corpus))
    peak = started.get("gemm_peak")
    yield section(
        "Machine",
        {
            "device": started.get("device"),
            "precision": started.get("precision"),
            "processes": started.get("world"),
            "peak of matrix products": f"{peak / 1e9:,.0f} GFLOP/s" if peak else "not measured",
        },
    )
    yield section("Made from", _provenance(corpus))
    yield f"<h2>Recipe</h2><pre>{escape(to_json(recipe, ascii=False, indent=1))}</pre>"


def _chosen(watched: Watched) -> str:
    """Which checkpoint the figures are of, and why."""
    if not watched.best:
        return "the last one: there was nothing to choose by"
    step, n = watched.best["step"], len(watched.validations)
    chosen = f"step_{step}, the best of {n} validations"
    if watched.plateau:
        ended, begun = watched.plateau["step"], watched.plateau["best"]
        chosen += f"; the plateau ended at step {ended:,}, and the decay began from step_{begun}"
    return chosen


def _either(summary: Mapping[str, Any], figure: str) -> Any:
    """What the best validation says; of runs that chose none, the last one."""
    return summary[f"{'validation' if summary['best_step'] is None else 'best'}_{figure}"]


def _tested(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the test at the end came to, or that there was none."""
    if summary["test_bits"] is None:
        return {"test data": "none: there are two parts, and choices were made by the selection data"}
    return {
        "test data, bits per scored cell": summary["test_bits"],
        "test data, right": _share(summary["test_accuracy"]),
    }


def _share(value: float | None) -> str | None:
    return None if value is None else share(value)


# ---- curves and tables --------------------------------------------------------------------------------------------

GROUPS = {"by_objective": "objective", "by_ratio": "share masked", "by_field": "field", "by_protocol": "protocol"}


def _groups(reported: Mapping[str, Any], key: str, name: str) -> str:
    rows = [
        (group, score["loss"] / np.log(2), share(score["accuracy"]), score["cells"])
        for group, score in reported.get(key, {}).items()
    ]
    return table((name, "bits", "right", "scored cells"), rows) if rows else ""


def _chart(watched: Watched, name: str, title: str, up: str) -> str:
    """One curve as a drawing of its own: training steps, selection data, and what counting reaches."""
    steps = [point for point in thinned(watched.tokens, watched.curves[name], POINTS) if math.isfinite(point[1])]
    held_out = [(v["tokens"], v[name]) for v in watched.validations if name in v and math.isfinite(v[name])]
    series = [Series("training", steps), Series("selection data", held_out, "held-out", tone=1)]
    if (level := _counting(watched)) is not None and name in level:
        series.append(Series("selection data by counting", [(0.0, level[name])], "level", tone=3))
    return chart(title, "tokens", up, series)


def _counting(watched: Watched) -> dict[str, float] | None:
    """The loss of the best simple method on the selection data, masked as in training, from the skill over it."""
    best = watched.best or {}
    skill = best.get("skills", {}).get(AS_TRAINED)
    if skill is None or skill >= 1 or "loss" not in best:
        return None
    loss = best["loss"] / (1 - skill)
    return {"loss": loss, "bits": loss / math.log(2)}


# ---- examples -----------------------------------------------------------------------------------------------------


def _examples(run: TrainedModel, row: PackedRow, corpus: Corpus) -> Iterator[Excerpt]:
    """The first segments, known cells and masked ones with what is predicted of them."""
    fields, predict = run.tokenizer.fields, run.predict(symmetries=False)
    form = form_of(fields)
    for start, stop in _shown(row):
        # The whole segment is what the model sees; only its beginning is shown.
        inputs, targets, weights = row.inputs[start:stop], row.targets[start:stop], row.weights[start:stop]
        requested = np.argwhere(weights[:SHOWN_POSITIONS] > 0)
        (log_p,) = predict([Example(inputs)], [requested])
        answers = dict(zip(map(tuple, requested.tolist()), log_p, strict=True))
        positions = range(min(stop - start, SHOWN_POSITIONS))
        segment = int(np.searchsorted(row.cu_seqlens, start))
        first = int(corpus.starts[row.sequence[segment]] + row.start[segment]) + 1
        yield Excerpt(
            title=f"{corpus.key(row.sequence[segment])}, positions from {first:,}",
            units=[position + 1 for position in positions],
            tracks={
                field.name: [
                    _cell(field, int(targets[position, column]), answers.get((position, column)), form)
                    for position in positions
                ]
                for column, field in enumerate(fields)
                if form == "strip" or not field.given
            },
            form=form,
            measures=measures_of(fields),
        )


def _cell(field: Field, truth: int, log_p: Float[np.ndarray, " ids"] | None, form: Form) -> Cell:
    number = number_of(field, truth)
    if log_p is None:
        return Cell(field.token(truth), number=number)
    (value, p), *others = best(field, log_p)
    cell = Cell(value, p, truth=field.token(truth), others=others, true_number=number)
    if field.centres is None:
        return cell
    low, middle, high = stated(field.centres, log_p)
    in_bin = number_of(field, field.tokens.index(value)) if value in field.tokens else None
    return replace(cell, number=middle if form == "lines" else in_bin, band=(low, high))


def _shown(row: PackedRow) -> list[tuple[int, int]]:
    """Where the first segments with something to score begin and end."""
    bounds = zip(row.cu_seqlens[:-1].tolist(), row.cu_seqlens[1:].tolist(), strict=True)
    return [(a, b) for a, b in bounds if (row.weights[a:b][:SHOWN_POSITIONS] > 0).any()][:SHOWN_SEGMENTS]


def _provenance(corpus: Corpus) -> dict[str, Any]:
    files = {source["name"]: f"{source['bytes']:,} bytes" for source in corpus.manifest["sources"]}
    return {
        **files,
        "corpus fingerprint": corpus.fingerprint,
        "tokenizer fingerprint": corpus.tokenizer.fingerprint,
        **{f"{name} version": version(name) for name in ("maskseq", "torch", "numpy", "zarr")},
    }
