"""What `maskseq init` is told of signals: channels, rates, periods, what is missing, and bins that suit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from maskseq.survey import Size, Suggestion
from maskseq.survey.periods import found_period
from maskseq_signals.clock import clock, step_of
from maskseq_signals.recording import Recording

STEPS = 1 << 16
"""Time steps that are looked at."""
MOST_CHANNELS = 32
SHOWN = 8
"""Channels that are told of one by one."""
SHORTEST_PERIOD = 4
"""In steps; shorter ones are noise, whose differences alternate."""
MOST_VARIABLES = 128
"""Numbers around a position whose covariances are worth their time: systems of so many equations are solved."""
FEWER_STEPS, FEW_STEPS, MANY_STEPS = 5_000, 20_000, 100_000
"""Time steps below which the learning rate is lower, below which there is dropout, and from which it is higher."""


def suggest_bins(records: Sequence[Any]) -> Suggestion | None:
    """For recordings of any format."""
    if not records or not all(isinstance(record, Recording) for record in records):
        return None
    first = records[0]
    values = _steps(records, first.names)
    flat = [name for name, column in zip(first.names, values.T, strict=True) if not np.nanstd(column) > 0]
    kept = [name for name in first.names if name not in flat] or list(first.names)
    chosen = _spread(kept)
    values = values[:, [first.names.index(name) for name in chosen]]
    longest = [max(records, key=len)]
    period = _period(_steps(longest, chosen), step_of(longest, STEPS))  # one recording: others begin anew
    options, why = _bins(values)
    if len(chosen) < len(first.names):
        options["channels"] = chosen
    steps = Size.of(records).units
    left = f"constant: {', '.join(flat)}" if flat and len(kept) < len(first.names) else ""
    many = f"{MOST_CHANNELS} of {len(kept)} that vary" if len(chosen) < len(kept) else ""
    span = min(max(4, period // 4 if period else 8), 64)
    context = min(max(64, 1 << (4 * period - 1).bit_length() if period else 256), 1024)
    near = period if period and period < context else None
    around = _distances(len(chosen), near) if options["scheme"] != "level" else []
    return Suggestion(
        found=_channels(first, values, chosen)
        | clock(records, STEPS)
        | ({"period": f"{period:,} steps"} if period else {}),
        context=context,
        recipe={
            "tokenizer": options,
            "model": {"n_heads": 4, "ordinal_basis": {"cosines": 16}}
            | ({"linear_prior": {"distances": around}} if around else {})
            | ({"attention_dropout": 0.1, "mlp_dropout": 0.1} if steps < FEW_STEPS else {}),
            "masking": {
                "ratio": [0.1, 0.5],
                "tokens": {"weight": 0.3, "replacement": {"mask": 1.0}},
                "spans": {"weight": 0.7, "mean_length": span},
            },
            "optimizer": {"lr": 3e-4 if steps < FEWER_STEPS else 1e-3 if steps < MANY_STEPS else 2e-3},
            "training": {"smoothing": 1.0, "ema": 0.98},
        },
        comments={
            "tokenizer.scheme": why,
            "tokenizer.channels": "; ".join(filter(None, (many, left))),
            "model.ordinal_basis": "neighbouring bins are alike from the first step on",
            "model.linear_prior": "it starts from what samples so far away say, of all channels",
            "masking.ratio": "share of the samples, drawn for each piece",
            "masking.spans": "gaps" + (", a quarter of the period long" if period else ""),
            "training.smoothing": "neighbouring bins are nearly right",
            "optimizer.lr": "the less data, the lower: it starts from a prediction that is good already",
        },
    )


def _steps(records: Sequence[Recording], names: Sequence[str]) -> Float64[np.ndarray, "steps channels"]:
    """The first steps of the recordings that have these channels."""
    parts, left = [], STEPS
    for record in records:
        if left > 0 and set(names) <= set(record.names):
            parts.append(record.channels[:left, record.select(names, [None] * len(names))])
            left -= len(parts[-1])
    return np.concatenate(parts)


def _bins(values: Float64[np.ndarray, "steps channels"]) -> tuple[dict[str, Any], str]:
    """Tokenizer options, and why."""
    known = min(int(column.sum()) for column in (~np.isnan(values)).T)
    bins = min(256 if values.shape[1] <= SHOWN else 64, 1 << max(4, (known // 16).bit_length() - 1))
    spread = np.nanmax(values, axis=0) - np.nanmin(values, axis=0)
    moves = np.nanmedian(np.abs(np.diff(values, axis=0)), axis=0)
    fine = moves[moves > 0] < spread[moves > 0] / (4 * bins)
    if len(fine) and fine.mean() > 0.5:
        why = "its detail is small beside its range: a level, and what is left of it"
        return {"name": "quantize", "scheme": "level", "levels": 32, "bins": 32}, why
    return {"name": "quantize", "scheme": "quantile", "bins": bins}, "bins with about as many values each"


def _distances(n_channels: int, period: int | None) -> list[int]:
    """How far away samples are that predict others: the nearest, and those one period away; fewer of many channels."""
    useful = dict.fromkeys([1, 2, 3, *([period] if period else []), 4, 6, 8])
    return sorted(list(useful)[: (MOST_VARIABLES // n_channels - 1) // 2])


def _period(values: Float64[np.ndarray, "steps channels"], step: float | None) -> int | None:
    """That of the channels, unless it is no longer than noise, whose differences alternate."""
    found = found_period([values], step=step)
    return found if found is not None and found >= SHORTEST_PERIOD else None


def _spread(names: Sequence[str]) -> list[str]:
    """As many as are looked at, from all over the file: neighbours are often alike."""
    which = np.linspace(0, len(names) - 1, min(len(names), MOST_CHANNELS)).round().astype(int)
    return [names[i] for i in which.tolist()]


def _channels(
    first: Recording, values: Float64[np.ndarray, "steps channels"], chosen: Sequence[str]
) -> dict[str, object]:
    used = f", {len(chosen)} used" if len(chosen) < len(first.names) else ""
    found: dict[str, object] = {"channels": f"{len(first.names)}{used}"}
    for name, column in list(zip(chosen, values.T, strict=True))[:SHOWN]:
        unit = first.units[first.names.index(name)]
        missing = int(np.isnan(column).sum())
        reported = f"{np.nanmin(column):g} to {np.nanmax(column):g} {unit}".rstrip()
        runs = np.diff(column) == 0
        if runs.mean() > 0.1:
            reported += f", {runs.mean():.0%} of the steps without a change"
        found[f"channel {name}"] = reported + (
            f", {missing:,} unknown ({missing / len(column):.1%})" if missing else ""
        )
    return found
