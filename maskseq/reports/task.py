"""The report of a fine-tuning: whether the network is worth it, all methods with intervals, and the learning curve."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from maskseq.reports.chart import Series, chart, intervals
from maskseq.reports.page import section, table, verdict, write_page


def write_task_report(
    path: Path,
    found: Mapping[str, Any],
    shown: Mapping[str, Mapping[str, str]],
    losses: Sequence[tuple[float, float]],
    made_from: Mapping[str, Any],
) -> None:
    """Write the page; `found` are the figures of the test part, `shown` the same as texts.

    `losses` are, by epoch, those of the training and the selection part.
    """
    metrics = list(dict.fromkeys(metric for each in shown.values() for metric in each))
    rows = [(name, *(each.get(metric, "") for metric in metrics)) for name, each in shown.items()]
    curves = [
        Series("training", [(float(n), train) for n, (train, _) in enumerate(losses, 1)]),
        Series("selection data", [(float(n), other) for n, (_, other) in enumerate(losses, 1)], tone=1),
    ]
    write_page(
        path,
        "maskseq finetune",
        [
            verdict(found["verdict"]),
            "<h2>Test part</h2>",
            table(("", *metrics), rows),
            *(_compared(metric, found["methods"]) for metric in metrics),
            "<h2>Learning</h2>",
            chart("Loss", "epoch", "loss", curves),
            section("Made from", {**made_from, "maskseq": version("maskseq"), "torch": version("torch")}),
        ],
    )


def _compared(metric: str, methods: Mapping[str, Any]) -> str:
    """One figure of all methods with their intervals."""
    there = {name: each[metric] for name, each in methods.items() if len(each.get(metric, ())) >= 3}
    rows = [(name, float(mean), float(low), float(high)) for name, (mean, low, high, *_) in there.items()]
    return intervals(metric, f"{metric}, 95 % interval", rows, percent=False)
