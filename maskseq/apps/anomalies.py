"""Labelled records of a file, and how well each column of `maskseq score` and each simple method separates them."""

from collections.abc import Sequence
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from maskseq.corpus.dress import AS_TRAINED, ReadAs
from maskseq.errors import DataError, UsageError
from maskseq.evaluation.anomalies import best_f1, false_alarms
from maskseq.formats import Names
from maskseq.infill.options import InfillOptions
from maskseq.scoring.score import Score
from maskseq.scoring.usual import Usual
from maskseq.tasks.config import LabelSource
from maskseq.tasks.figures import auroc, average_precision, bootstrap
from maskseq.tasks.labels import listed, record_labels
from maskseq.trained import TrainedModel

ABNORMAL = ("1", "true", "yes", "abnormal", "anomaly", "anomalous", "attack", "fault")
"""Labels that say by themselves which records are abnormal."""
RECALLS = (0.95, 0.99)


def evaluate_anomalies(
    run: TrainedModel,
    file: Path,
    labels: str,
    *,
    abnormal: str | None = None,
    fields: Sequence[str] = (),
    stride: int | None = 8,
    experts: Sequence[str] = (),
    symmetries: bool = True,
    read_as: ReadAs = AS_TRAINED,
    seed: int = 0,
) -> dict[str, Any]:
    """AUROC and average precision of each score of a file's records, and F1 compared with that of its prevalence.

    `labels` is a CSV of keys and labels, or an attribute of the records; `abnormal` the label of abnormal ones.
    """
    source = LabelSource(file=labels) if Path(labels).is_file() else LabelSource(column=labels)
    given: dict[str, Any] = {"stride": stride, "fields": fields, "symmetries": symmetries, "experts": experts}
    found = record_labels(source, run.tokenizer)
    intake = run.intake(file, read_as)
    with intake.silent() as first:
        run = run.knowing(first, InfillOptions(experts=tuple(experts)))  # as `score` does
    usual = run.usual(**given)
    names = Names()
    with intake:
        records, same = tee(intake)
        of = (found.of(names.next(record.key).text, record) for record in same)
        rows = [
            (label, _scores(score, usual))
            for score, label in zip(run.score(records, usual=usual, **given), of, strict=True)
        ]
    warnings = found.check()
    is_abnormal = _abnormal(file, [label for label, _ in rows], abnormal)
    columns = list(rows[0][1])
    table = {name: np.array([row[name] for _, row in rows], np.float64) for name in columns}
    drawn = list(bootstrap(np.arange(len(rows)), seed=seed))
    prevalence = float(is_abnormal.mean())
    return {
        "file": str(file),
        "records": len(rows),
        "prevalence": prevalence,
        "F1 of calling all abnormal": 2 * prevalence / (1 + prevalence),
        "scores": {
            name: _figures(is_abnormal, np.nan_to_num(each, nan=-np.inf), drawn) for name, each in table.items()
        },
        "warnings": warnings,
    }


def _scores(score: Score, usual: Usual | None) -> dict[str, float]:
    """The columns of a record that may tell that it is abnormal, the default one first."""
    bits = {"bits": score.mean_bits, "max_bits": float(np.fmax.reduce(score.bits, axis=None, initial=np.nan))}
    if usual is None:
        return bits
    parts = usual.parts(score)
    cells = {f"oddest {name}": parts.get(name, np.nan) for name in usual.fields}
    return {"odd": usual.odd(parts)} | bits | cells | {name: parts.get(name, np.nan) for name in usual.detectors}


def _abnormal(file: Path, labels: list[str], chosen: str | None) -> Bool[np.ndarray, " records"]:
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise DataError(
            file,
            f"has records of one class only ({listed(classes)}): there is nothing to separate",
            code="too-little-data",
        )
    if chosen is None:
        chosen = next((each for each in classes if each.lower() in ABNORMAL), None)
    if chosen not in classes:
        raise UsageError(
            f"which records are abnormal? labels are {listed(classes)}\n\nhint: name one of them with --abnormal",
            code="bad-option",
        )
    return np.array([label == chosen for label in labels])


def _figures(
    labels: Bool[np.ndarray, " records"], scores: Float[np.ndarray, " records"], drawn: Sequence[np.ndarray]
) -> dict[str, Any]:
    areas = np.array([auroc(labels[some], scores[some]) for some in drawn])
    bounds = np.nanquantile(areas, [0.025, 0.975]).tolist()
    return {
        "AUROC": auroc(labels, scores),
        "AUROC, 95 %": bounds,
        "average precision": average_precision(labels, scores),
        **{f"false alarms at {recall:.0%} recall": false_alarms(labels, scores, recall) for recall in RECALLS},
        "best F1": best_f1(labels, scores),
    }
