"""A calibration stored with the checkpoint that it was fitted for: a JSON file outside its digests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from maskseq.corpus.reader import Corpus
from maskseq.errors import DataError, UsageError, first_problem
from maskseq.model.checkpoint import read_json, weights_digest
from maskseq.predict.calibrated import Calibration
from maskseq.predict.posterior import LEVELS
from maskseq.storage.outputs import write
from maskseq.storage.run_folder import CheckpointFolder
from maskseq.storage.standard_json import to_json
from maskseq.types import Encoded, Field

HINT = "hint: run `maskseq calibrate` again, or do without it: --no-calibration"


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A calibration, and what it is true of."""

    calibration: Calibration
    model: str
    """SHA-256 of the weights."""
    order: str
    symmetries: bool
    """How the fills were made that it was fitted on."""
    fitted_on: str
    """Which data."""
    predictor: str = ""
    """Digest of the experts that were asked and their weights; "": the encoder alone."""


def write_calibration(
    checkpoint: Path, calibration: Calibration, *, order: str, symmetries: bool, data: str, predictor: str = ""
) -> Path:
    """Write it into the checkpoint folder, in place of an earlier one; nothing else there is touched."""
    fitted = Fitted(
        calibration=calibration,
        model=weights_digest(checkpoint),
        order=order,
        symmetries=symmetries,
        fitted_on=data,
        predictor=predictor,
    )
    path = CheckpointFolder(checkpoint).calibration
    write(path, to_json(TypeAdapter(Fitted).dump_python(fitted), lossless=True, indent=1))
    return path


def read_calibration(checkpoint: Path) -> Fitted | None:
    """The one that lies in the checkpoint folder, if any; `DataError` if it is damaged or of other weights."""
    path = CheckpointFolder(checkpoint).calibration
    if not path.exists():
        return None
    try:
        fitted = TypeAdapter(Fitted).validate_python(read_json(path))
    except ValidationError as error:
        where, problem = first_problem(error)
        raise DataError(path, f"{problem}\n\n{HINT}", place=where, code="damaged-file") from None
    except DataError as error:
        raise DataError(path, f"{error.problem}\n\n{HINT}", code="damaged-file") from None
    if fitted.model != weights_digest(checkpoint):
        raise DataError(
            path, f"was fitted for other weights than those of this checkpoint\n\n{HINT}", code="other-data"
        )
    return fitted


def reported(fitted: Fitted) -> str:
    """What it is worth, in one line: errors of cells that temperatures were not fitted on."""
    groups = [each for each in fitted.calibration.groups if each.n_cells]
    sizes = [each.n_cells for each in groups]
    before, after = (
        np.average([getattr(each, name) for each in groups], weights=sizes) for name in ("ece_before", "ece_after")
    )
    return (
        f"calibrated on {sum(sizes):,} cells of {fitted.fitted_on}: stated probabilities are off by {after:.1%} "
        f"({before:.1%} before)"
    )


def summary(fitted: Fitted, fields: Sequence[Field]) -> dict[str, Any]:
    """What it says of each field, for people: errors before and after, and how many true values intervals held."""
    reported: dict[str, Any] = {"fitted on": fitted.fitted_on, "order": fitted.order}
    for column, field in enumerate(fields):
        groups = [group for group in fitted.calibration.groups if group.field == column]
        if not groups:
            continue
        sizes = [group.n_cells for group in groups]
        section: dict[str, Any] = {
            "cells": sum(sizes),
            "calibration error before": float(np.average([group.ece_before for group in groups], weights=sizes)),
            "calibration error after": float(np.average([group.ece_after for group in groups], weights=sizes)),
            "temperatures by span": {f"{group.span}+": round(group.temperature, 3) for group in groups},
        }
        with_intervals = [group for group in groups if group.coverage_before and group.coverage_after]
        for name in ("before", "after") if with_intervals else ():
            shares = [getattr(group, f"coverage_{name}") for group in with_intervals]
            held = np.average(shares, axis=0, weights=[group.n_cells for group in with_intervals]).tolist()
            section |= {
                f"held by the {level:.0%} interval {name}": round(share, 4)
                for level, share in zip(LEVELS, held, strict=True)
            }
        reported[field.name] = section
    return reported


def held_out_records(corpus: Corpus, part: Literal["selection", "test"] = "selection") -> Iterator[tuple[str, Encoded]]:
    """Keys and ids of what a corpus holds out for selection or the test; `UsageError` if that is nothing."""
    if not len(corpus.sequences(part)):
        raise UsageError(
            f"{corpus.path} holds nothing out for {'selection' if part == 'selection' else 'the test'}\n\n"
            f"hint: name a file of data that the run has not seen",
            code="too-little-data",
        )
    for sequence, segment in corpus.each(part, numbers=True):
        seen = Encoded(segment.ids, weights=segment.weights, numbers=segment.numbers)
        yield f"{corpus.key(sequence)}@{corpus.starts[sequence]}", seen
