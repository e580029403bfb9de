"""Write a recipe as TOML, with comments behind its lines."""

import json
import re
from collections.abc import Mapping
from typing import Any

SECTIONS = (
    *("", "data", "data.format_options", "data.split", "tokenizer", "model", "packing", "masking", "optimizer"),
    *("schedule", "training"),
)
"""The tables of a recipe that are written as such, in this order; what lies deeper is written in one line."""


def recipe_text(recipe: Mapping[str, Any], comments: Mapping[str, str], title: str) -> str:
    """A recipe under its title; `comments` say why a key such as `masking.ratio` has its value."""
    lines = [f"# {_plain(title)}", "# `maskseq pretrain RECIPE --dry-run` shows every default."]
    for section in SECTIONS:
        table: Any = recipe
        for part in section.split(".") if section else ():
            table = table.get(part, {})
        keys = [key for key in table if f"{section}.{key}".lstrip(".") not in SECTIONS]
        if section and keys:
            lines += ["", f"[{section}]"]
        for key in keys:
            names, value = [key], table[key]
            why = comments.get(f"{section}.{key}")
            while isinstance(value, Mapping) and len(value) == 1:  # section.key = value, without braces
                ((inner, value),) = value.items()
                names.append(inner)
                why = comments.get(".".join([section, *names]), why)
            lines.append(f"{'.'.join(map(_key, names))} = {toml_value(value)}" + (f"  # {_plain(why)}" if why else ""))
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML writes it; strings, numbers and lists are written as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    """A key, in quotes where it is not made of letters, digits, - and _: keys may be names of columns."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def _plain(text: str) -> str:
    """In one line, as a comment must be, whatever columns and files are called."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
