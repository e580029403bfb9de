"""`report.html` of a training run: how it went, what it predicts, what it was made from."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from maskseq.corpus.reader import Corpus
from maskseq.packing.rows import PackedRow
from maskseq.predict.protocol import Example
from maskseq.reports.chart import Series, chart
from maskseq.reports.page import section, table, verdict, write_page
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


@dataclass(frozen=True)
class Cell:
    """A position of one field: what was seen, and where it was hidden what is true and what was predicted."""

    truth: str
    predicted: str | None = None
    probability: float = 1.0


def write_run_report(
    run: TrainedModel, corpus: Corpus, row: PackedRow, recipe: Mapping[str, Any], worth: str | None = None
) -> Path:
    """Write the report into the run folder; the examples are the first pieces of `row`, under its masks.

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
            "selection data, right": _either(summary, "accuracy"),
            **{
                f"share of the loss saved, {name}": f"{skill:.1%}"
                for name, skill in watched.best.get("skills", {}).items()
            },
            **_tested(summary),
            "tokens per second": summary["tokens_per_s"],
            "seconds in steps": sum(watched.seconds),
            "share of the matrix product peak": summary["peak_share"],
            "peak memory, GiB": (summary["peak_memory"] or 0) / 2**30,
        },
    )
    yield "<h2>Curves</h2>"
    yield from (_chart(watched, name, *titles) for name, titles in CHARTS.items())
    reported = watched.test or watched.best or (watched.validations[-1] if watched.validations else watched.last)
    what = {"test": "The test data", "validation": f"The selection data, at step {reported.get('step', 0):,}"}
    of = what.get(reported.get("kind", ""), "The last step")
    yield f"<h2>By kind of question</h2><p>{of}, by what was asked of the model.</p>"
    yield from (_groups(reported, key, name) for key, name in GROUPS.items())
    yield (
        "<h2>Examples</h2><p>Pieces of the selection data as the model sees them, which may be turned by a symmetry. "
        'Hidden values are shaded by how sure the model is, <span class="right">right</span> or '
        '<span class="wrong">wrong</span>, above what is true.</p>'
    )
    yield from map(_example, _examples(run, row), _names(corpus, row))
    yield section("Machine", {key: started.get(key) for key in ("device", "precision", "world", "gemm_peak")})
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
        "test data, right": summary["test_accuracy"],
    }


# ---- curves and tables --------------------------------------------------------------------------------------------

GROUPS = {"by_objective": "objective", "by_ratio": "share hidden", "by_field": "field", "by_protocol": "protocol"}


def _groups(reported: Mapping[str, Any], key: str, name: str) -> str:
    rows = [
        (group, score["loss"] / np.log(2), score["accuracy"], score["cells"])
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


def _examples(run: TrainedModel, row: PackedRow) -> Iterator[dict[str, list[Cell]]]:
    """Of the first pieces, each field's cells: known ones, and hidden ones with the most probable value."""
    fields, predict = run.tokenizer.fields, run.predict(symmetries=False)
    for start, stop in _shown(row):
        # The whole piece is what the model sees; only its beginning is shown.
        inputs, targets, weights = row.inputs[start:stop], row.targets[start:stop], row.weights[start:stop]
        requested = np.argwhere(weights[:SHOWN_POSITIONS] > 0)
        (log_p,) = predict([Example(inputs)], [requested])
        best = {
            (position, field): (int(q.argmax()), float(np.exp(q.max())))
            for (position, field), q in zip(requested.tolist(), log_p, strict=True)
        }
        yield {
            field.name: [
                _cell(field, int(targets[position, column]), best.get((position, column)))
                for position in range(min(stop - start, SHOWN_POSITIONS))
            ]
            for column, field in enumerate(fields)
        }


def _cell(field: Field, truth: int, best: tuple[int, float] | None) -> Cell:
    return Cell(field.token(truth)) if best is None else Cell(field.token(truth), field.token(best[0]), best[1])


def _shown(row: PackedRow) -> list[tuple[int, int]]:
    """Where the first pieces with something to score begin and end."""
    bounds = zip(row.cu_seqlens[:-1].tolist(), row.cu_seqlens[1:].tolist(), strict=True)
    return [(a, b) for a, b in bounds if (row.weights[a:b][:SHOWN_POSITIONS] > 0).any()][:SHOWN_SEGMENTS]


def _names(corpus: Corpus, row: PackedRow) -> list[str]:
    """The record and place of each shown piece."""
    segment = {int(begin): i for i, begin in enumerate(row.cu_seqlens[:-1])}
    shown = [segment[start] for start, _ in _shown(row)]
    return [
        f"{corpus.key(row.sequence[i])}, positions from {corpus.starts[row.sequence[i]] + row.start[i] + 1:,}"
        for i in shown
    ]


def _example(fields: Mapping[str, Sequence[Cell]], name: str) -> str:
    body = ""
    for field, cells in fields.items():
        gap = "" if all(len(cell.truth) == 1 for cell in cells) else " "
        seen = gap.join(map(_seen, cells))
        truth = gap.join(_truth(cell, gap) for cell in cells)
        body += f"{escape(field)}<br><code>{seen}</code><br><code>{truth}</code> <small>truth</small><br>"
    return f"<p><b>{escape(name)}</b><br>{body}</p>"


def _seen(cell: Cell) -> str:
    if cell.predicted is None:
        return escape(cell.truth)
    kind = "right" if cell.predicted == cell.truth else "wrong"
    return (
        f'<span class="{kind}" style="opacity:{0.35 + 0.65 * cell.probability:.2f}" '
        f'title="{escape(cell.predicted)} {cell.probability:.2f}">{escape(cell.predicted)}</span>'
    )


def _truth(cell: Cell, gap: str) -> str:
    return escape(cell.truth) if cell.predicted is not None or gap else "·"


def _provenance(corpus: Corpus) -> dict[str, Any]:
    files = {source["name"]: f"{source['bytes']:,} bytes" for source in corpus.manifest["sources"]}
    return {
        **files,
        "corpus fingerprint": corpus.fingerprint,
        "tokenizer fingerprint": corpus.tokenizer.fingerprint,
        **{f"{name} version": version(name) for name in ("maskseq", "torch", "numpy", "zarr")},
    }
