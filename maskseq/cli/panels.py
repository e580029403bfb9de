"""Panels of `--help`: what commands and their options are about."""

from collections.abc import Mapping, Sequence
from typing import Any

MANY = 9
"""Options of a command, from which on `--help` shows them in panels."""
PANELS = {
    "What is filled": (
        "mask",
        "region",
        "unknown",
        "length",
        "insert_missing",
        "evidence",
        "length_by",
        "fill_long_holes",
    ),
    "How it is filled": (
        "order",
        "temperature",
        "samples",
        "beam",
        "rule",
        "accept",
        "accept_tries",
        "numbers",
        "seed",
    ),
    "What predicts": ("experts", "calibration", "symmetries", "by", "layer"),
    "What is read": (
        "format",
        "overrides",
        "on_error",
        "field",
        "case",
        "labels",
        "column",
        "data",
        "corpus",
        "trust_code",
    ),
    "What is written": ("output", "table", "drawn", "as_json", "per_position", "keep"),
}
"""Of options, by the names of their parameters."""
COMMANDS = {
    "Train": ("init", "tokenize", "pretrain", "watch", "finetune"),
    "Use": ("infill", "next", "forecast", "score", "embed", "predict", "serve", "share"),
    "Judge": ("evaluate", "baseline", "calibrate", "blend", "fit-lengths", "probe"),
    "Look and move": ("inspect", "verify", "doctor", "recipes", "new-plugin", "import-hf", "export"),
}
"""Of commands."""


def _panel(name: str | None, panels: Mapping[str, Sequence[str]]) -> str | None:
    return next((panel for panel, names in panels.items() if name in names), None)


def in_panels(name: str, command: Any) -> Any:
    """The command, shown in its panel, and its options in theirs where there are many."""
    command.rich_help_panel = _panel(name, COMMANDS) or command.rich_help_panel
    options = [each for each in command.params if each.param_type_name == "option"]
    for each in options if len(options) >= MANY else ():
        each.rich_help_panel = _panel(each.name, PANELS) or each.rich_help_panel
    return command
