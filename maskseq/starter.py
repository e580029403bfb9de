"""`maskseq init`: look at files that nobody has described yet, say what is there, and begin a recipe for them.

What a domain knows, its plug-ins say (`Format.recognize`, `Tokenizer.suggest`); here the sizes are chosen, and the
recipe is written so that it runs as it is.
"""

import json
import os
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from maskseq import plugins
from maskseq.errors import DataError, PluginError, UsageError
from maskseq.fence import encode, fenced, fit, reading
from maskseq.recipe import lay_over, load_recipe
from maskseq.survey import CERTAIN, Claim, Head, Suggestion
from maskseq.tokenizer import Format, Tokenizer
from maskseq.types import Record

SAMPLE_UNITS = 500_000
"""About how many raw units are looked at, in whole records."""
EPOCHS = 30
FEWEST_TOKENS, MOST_TOKENS = 200_000, 4_000_000
"""How long a first training is: minutes on a CPU."""
ROWS_AN_EPOCH = 64
SECTIONS = (
    *("", "data", "data.format_options", "data.split", "tokenizer", "model", "batch", "masking", "optimizer"),
    *("schedule", "training"),
)
"""The tables of a recipe that are written as such, in this order; what lies deeper is written in one line."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Some records from the beginning of the files, and how a tokenizer encodes them."""

    records: Sequence[Record]
    whole: bool
    """These are all records there are."""
    tokenizer: Tokenizer[Any]
    positions: Integer[np.ndarray, "records"]
    unknown: Integer[np.ndarray, "fields"]
    """How many cells of each field are unknown."""


def init(
    files: Sequence[Path], output: Path, *, format: str | None = None, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Look at files, write the recipe `output` for them, and return what was found, for people to read.

    `format` and `overrides` (`a.b=value`) take the place of what is recognized and chosen. Raises `UsageError` where
    the recipe exists already, files are of different formats or no plug-in knows them; `DataError` for broken data.
    """
    if output.exists():
        raise UsageError(f"{output} exists already\n\nhint: choose another name with --output, or remove it")
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}")
    given: dict[str, Any] = {}
    for override in overrides:
        lay_over(given, override)
    data, wanted = _section(given, "data"), _section(given, "tokenizer")
    name, claim, told = _format_of(files, format or data.get("format"))
    options = {**claim.options, **_section(data, "format_options")}
    records, whole = _records(files, name, options)
    tokenizer, suggestion = _suggestion(records, wanted.get("name"))
    known: dict[str, Any] = {
        "seed": 0,
        "data": {"files": [_relative(file, output) for file in files], "format": name, "format_options": options},
        "tokenizer": {"name": tokenizer},
    }
    draft = _merged(_merged(known, suggestion.recipe), given)
    sample = _encoded(records, whole, draft["tokenizer"])
    draft = _merged(_sizes(sample, suggestion), draft)
    title = f"A first recipe for {', '.join(file.name for file in files)}."
    text = _text(draft, {"data.format": claim.why, **suggestion.comments}, title)
    load_recipe(tomllib.loads(text))
    aside = output.with_name(output.name + ".tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(output)
    return {"files": told, "records": _facts(sample), "content": dict(suggestion.found), "recipe": str(output)}


def _section(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A table that `--set` gave, or an empty one."""
    section = table.get(name, {})
    if not isinstance(section, dict):
        raise UsageError(
            f"--set …{name}={section}: {name} is a section\n\nhint: set one of its keys: …{name}.KEY=VALUE"
        )
    return section


def _format_of(files: Sequence[Path], wanted: str | None) -> tuple[str, Claim, dict[str, str]]:
    """The format of all files, what its claim says of the first of them, and what to tell of each."""
    chosen: list[tuple[str, Claim]] = []
    told: dict[str, str] = {}
    for path in files:
        head = Head.of(path)
        claims = _claims(head, wanted)
        if not claims:
            known = plugins.listed("formats")
            raise UsageError(
                f"{path}: no format recognizes this file\n\nhint: name one with --format ({known}); its options, such "
                f"as the names of columns, with --set data.format_options.OPTION=VALUE"
            )
        (name, claim), *others = claims
        chosen.append((name, claim))
        told[path.name] = f"{name}: {claim.why}"
        if others:
            also = "; ".join(f"{other} ({why.why})" for other, why in others)
            told[path.name] += f". Also possible, with --format: {also}"
    odd = next((i for i, (name, _) in enumerate(chosen) if name != chosen[0][0]), None)
    if odd is not None:
        raise UsageError(
            f"{files[0]} looks like {chosen[0][0]}, but {files[odd]} like {chosen[odd][0]}; a recipe reads one "
            f"format\n\nhint: begin a recipe for each, or say what they are with --format"
        )
    return *chosen[0], told


def _claims(head: Head, wanted: str | None) -> list[tuple[str, Claim]]:
    """Claims to a file, the surest first, without those that are far less sure."""
    if wanted is not None:
        cls = plugins.load("formats", wanted, trust_code=True)
        with fenced(cls, "recognize", file=head.path):
            claim = cls.recognize(head)
        options = claim.options if claim else {}
        return [(wanted, Claim(strength=CERTAIN, why="as you say", options=options))]
    asked = _ask("formats", "recognize", head)
    claims = sorted(((name, claim) for name, claim in asked if claim), key=lambda pair: -pair[1].strength)
    return [pair for pair in claims if pair[1].strength >= claims[0][1].strength - 1]


def _ask(group: plugins.Group, method: str, about: Any) -> Iterator[tuple[str, Any]]:
    """What each plug-in that can be loaded answers; one that fails, and that nobody named, is passed over."""
    for name, cls in plugins.usable(group).items():
        try:
            with fenced(cls, method):
                answer = getattr(cls, method)(about)
        except PluginError as error:
            warnings.warn(str(error).partition("\n")[0], stacklevel=2)
            continue
        yield name, answer


def _records(files: Sequence[Path], format: str, options: Mapping[str, Any]) -> tuple[list[Record], bool]:
    """Records from the beginning of the files, and whether these are all."""
    reader = plugins.open_format(files[0], format, dict(options), trust_code=True)
    try:
        return _sampled(files, reader)
    except DataError as error:
        asked = [name for name in vars(reader) if f" {name} = " in error.problem]
        if not asked:
            raise
        hint = f"here: --set data.format_options.{asked[0]}=VALUE"
        raise DataError(error.path, f"{error.problem}\n\nhint: {hint}", place=error.place) from None


def _sampled(files: Sequence[Path], reader: Format[Any]) -> tuple[list[Record], bool]:
    records: list[Record] = []
    left = SAMPLE_UNITS
    for path in files:
        found = reading(reader, path, "preview", partial(reader.preview, n_units=left))
        for record in found:
            records.append(record)
            left -= len(record)
            if left <= 0:
                return records, path == files[-1] and next(found, None) is None
    if not records:
        raise DataError(files[0], "there are no records in this file")
    return records, True


def _suggestion(records: Sequence[Record], wanted: str | None) -> tuple[str, Suggestion]:
    """The tokenizer that knows these records, and what it suggests."""
    if wanted is not None:
        cls = plugins.load("tokenizers", wanted, trust_code=True)
        with fenced(cls, "suggest", records[0]):
            return wanted, cls.suggest(records) or Suggestion()
    for name, suggestion in _ask("tokenizers", "suggest", records):
        if suggestion is not None:
            return name, suggestion
    raise UsageError(
        f"no tokenizer has a suggestion for a {type(records[0]).__name__}\n\n"
        f"hint: name one with --set tokenizer.name=NAME ({plugins.listed('tokenizers')})"
    )


def _encoded(records: Sequence[Record], whole: bool, options: Mapping[str, Any]) -> Sample:
    """Fit and encode: what cannot be encoded is better known now than when the recipe runs."""
    kept = dict(options)
    tokenizer = fit(plugins.load("tokenizers", kept.pop("name"), trust_code=True), records, kept)
    positions = np.zeros(len(records), np.int64)
    unknown = np.zeros(tokenizer.vocabulary.n_fields, np.int64)
    for index, record in enumerate(records):
        ids = encode(tokenizer, record).ids
        positions[index] = len(ids)
        unknown += (~tokenizer.vocabulary.known(ids)).sum(axis=0)
    return Sample(records=records, whole=whole, tokenizer=tokenizer, positions=positions, unknown=unknown)


def _facts(sample: Sample) -> dict[str, Any]:
    """What holds for records of any domain."""
    records = sample.records
    lengths = np.array([len(record) for record in records])
    facts: dict[str, Any] = {
        "looked at": f"{'all' if sample.whole else 'the first'} {len(records):,} records, {lengths.sum():,} raw units",
        "lengths": f"{lengths.min():,} to {lengths.max():,}, median {int(np.median(lengths)):,}",
    }
    spans = [span for span in (record.span() for record in records) if span is not None]
    if spans:
        first, last = min(start for start, _ in spans), max(end for _, end in spans)
        facts["time"] = " to ".join(f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}" for moment in (first, last))
    repeated = len(records) - len({record.key for record in records})
    if repeated:
        facts["repeated keys"] = repeated
    total = sample.positions.sum()
    holes = [
        f"{field.name} {n:,} ({n / total:.1%})"
        for field, n in zip(sample.tokenizer.fields, sample.unknown.tolist(), strict=True)
        if n
    ]
    facts["unknown, which infill fills"] = ", ".join(holes[:8]) + ", …" * (len(holes) > 8) if holes else "none"
    facts["fields (tokens)"] = ", ".join(f"{field.name} ({field.n_tokens})" for field in sample.tokenizer.fields[:12])
    return facts


def _sizes(sample: Sample, suggestion: Suggestion) -> dict[str, dict[str, Any]]:
    """Context, rows and length of a first training, from how much there is."""
    total, longest = int(sample.positions.sum()), int(sample.positions.max())
    context = min(suggestion.context, -(-longest // 8) * 8)
    if len(sample.positions) == 1:
        context = max(min(context, 1 << (total // 8).bit_length() - 1), 8)  # several pieces, one of them held out
    rows = [1 << power for power in range(8, 14) if ROWS_AN_EPOCH << power <= total]
    tokens = min(max(EPOCHS * total, FEWEST_TOKENS), MOST_TOKENS) if sample.whole else MOST_TOKENS
    return {
        "data": {"split": {"validation": 0.05 if total > 1_000_000 else 0.1}},
        "model": {"preset": "nano"},
        "batch": {"row_tokens": max(context, max(rows, default=256)), "context": context},
        "optimizer": {"name": "stable_adamw", "lr": 2e-3},
        "training": {"tokens": round(tokens, -4), "rows": 1},
    }


def _relative(file: Path, output: Path) -> str:
    """As the recipe names its files: seen from its own folder."""
    return Path(os.path.relpath(file.resolve(), output.parent.resolve())).as_posix()


def _merged(table: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One table laid over another, section by section."""
    both = {
        key: _merged(table[key], above[key]) for key in table.keys() & above.keys() if isinstance(table[key], Mapping)
    }
    return {**table, **above, **both}


def _text(recipe: Mapping[str, Any], comments: Mapping[str, str], title: str) -> str:
    """The recipe as TOML, with comments behind its lines."""
    lines = [f"# {_plain(title)}", "# `maskseq pretrain RECIPE --dry-run` shows every default."]
    for section in SECTIONS:
        table: Any = recipe
        for part in section.split(".") if section else ():
            table = table.get(part, {})
        keys = [key for key in table if f"{section}.{key}".lstrip(".") not in SECTIONS]
        if section and keys:
            lines += ["", f"[{section}]"]
        for key in keys:
            why = comments.get(f"{section}.{key}")
            lines.append(f"{key} = {_toml(table[key])}" + (f"  # {_plain(why)}" if why else ""))
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """In one line, as a comment must be, whatever columns and files are called."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _toml(value: Any) -> str:
    """A value as TOML writes it; strings, numbers and lists are written as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
