"""`maskseq init`: look at files that nobody has described yet, say what is there, and begin a recipe for them.

What a domain knows, its plug-ins say (`Format.recognize`, `Tokenizer.suggest`); here the sizes are chosen, and the
recipe is written so that it runs as it is.
"""

import os
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from maskseq.apps.init_readings import Reading, Readings, UndecidedError, command, readings_of
from maskseq.apps.init_sample import RecordSample, encoded_sample, read_sample, suggestion_for
from maskseq.apps.init_sizes import sizes
from maskseq.apps.init_split import held_out_warning, left_out_by_time, near_copies_of, too_little
from maskseq.contract import renamed
from maskseq.contract.toml_file import lay_over, today
from maskseq.corpus.intake import OnError, report, skipped
from maskseq.errors import DataWarning, MaskseqError, UsageError
from maskseq.recipe import Recipe, load_recipe
from maskseq.storage.outputs import write
from maskseq.storage.places import is_url
from maskseq.storage.toml_text import recipe_text
from maskseq.survey import Suggestion

MOST_READINGS = 6
"""Ways to read the files that are tried where it is not clear which is right."""
SHARES = {
    "data.split.selection": "stopping and calibration go by it",
    "data.split.test": 'figures are of it; a file of its own may be the test: test = "FILE"',
}
TOO_LITTLE = "too little data for a third part: figures are of the selection data"
RECIPE = Path("recipe.toml")
"""The recipe that is written where no other name is given."""


def init(
    files: Sequence[Path],
    output: Path = RECIPE,
    *,
    format: str | None = None,
    overrides: Sequence[str] = (),
    yes: bool = False,
    on_error: OnError = "stop",
    probe: bool = False,
) -> dict[str, Any]:
    """Look at files, write the recipe `output` for them, and return what was found, for people to read.

    `format` and `overrides` (`a.b=value`) take the place of what is recognized and chosen. Where the content does not
    say how to read the files, `UndecidedError` has the ways to choose from; `yes` takes the first. `on_error="skip"`
    leaves out records that cannot be read, here and in the recipe. `probe`: and train for a second, to say how long the
    recipe takes. Raises `UsageError` where the recipe exists already, files are of different formats or no plug-in
    knows them; `DataError` for broken data.
    """
    if os.path.lexists(output):
        raise UsageError(
            f"{output} exists already\n\nhint: choose another name with --output, or remove it", code="exists"
        )
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}", code="missing-file")
    given: dict[str, Any] = {}
    for override in overrides:
        lay_over(given, override)
    if on_error != "stop":
        lay_over(given, f'data.on_error="{on_error}"')
    data = _section(given, "data")
    readings = readings_of(files, format or data.get("format"), _section(data, "format_options"))
    ask = partial(command, files, output, overrides=overrides, usual=RECIPE)
    looked, doubt = _decided(files, readings, given, yes=yes, ask=ask)
    if (passed := looked.sample.passed).n:
        warnings.warn(report(passed.n, len(looked.sample.records), passed.why), DataWarning, stacklevel=2)
    reading = looked.reading
    known: dict[str, Any] = {
        "seed": 0,
        "data": {
            "files": [_relative(file, output) for file in files],
            "format": reading.format,
            "format_options": reading.options,
        },
    }
    draft = _merged(sizes(looked.sample.size, looked.sample.positions_a_unit, looked.suggestion.context), known)
    draft = _merged(draft, looked.draft)
    comments = {"data.format": reading.why, **SHARES}
    comments |= {renamed.key_today(key): why for key, why in looked.suggestion.comments.items()}
    for key, value in draft["data"]["split"].items():
        if key in ("selection", "test") and isinstance(value, str) and not is_url(value):
            draft["data"]["split"][key] = _relative(Path(value), output)
    if "test" not in _section(data, "split") and too_little(looked.sample, load_recipe(draft).data.split):
        draft["data"]["split"]["test"] = 0.0
        comments |= {"data.split.test": TOO_LITTLE}
    title = f"A first recipe for {', '.join(file.name for file in files)}."
    text = recipe_text(draft, comments, title)
    split = load_recipe(tomllib.loads(text)).data.split
    if warning := held_out_warning(looked.sample, split, draft["tokenizer"]):
        warnings.warn(warning, stacklevel=2)
    write(output, text, new=True)
    reported = dict(readings.reported)
    if doubt:
        reported[files[0].name] = f"{reading.format}: {reading.why} (a guess that you accepted: {doubt})"
    records = _facts(looked.sample)
    if crossing := left_out_by_time(looked.sample, split):
        records["left out at a time boundary"] = crossing.reported
        if crossing.warning:
            warnings.warn(crossing.warning, stacklevel=2)
    if near := near_copies_of(looked.sample, split):
        records["near-copies"] = f"{near:,} records, which the split keeps on one side of it with what they are like"
    facts = {"files": reported, "records": records, "content": dict(looked.suggestion.found)}
    if probe:
        facts["training"] = _time(load_recipe(tomllib.loads(text)), looked.sample)
    return {**facts, "recipe": str(output)}


def _time(recipe: Recipe, sample: RecordSample) -> dict[str, str]:
    """How long training takes; the recipe stands even where that cannot be measured."""
    from maskseq.apps.speed_probe import estimate, speed_on_records  # needs torch, which nothing else here does

    tokens = {"tokens": f"{recipe.training.tokens:,}"}
    try:
        return tokens | estimate(recipe, speed_on_records(recipe, sample.records, sample.tokenizer))
    except MaskseqError as error:
        return tokens | {"time": f"not known: {str(error).partition(chr(10))[0]}"}


def _section(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A table that `--set` gave, or an empty one."""
    section = table.get(name, {})
    if not isinstance(section, dict):
        raise UsageError(
            f"--set …{name}={section}: {name} is a section\n\nhint: set one of its keys: …{name}.KEY=VALUE",
            code="bad-option",
        )
    return section


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What one way to read the files finds in them."""

    reading: Reading
    sample: RecordSample
    suggestion: Suggestion
    draft: dict[str, Any]
    """The recipe as far as the tokenizer and the user have a say in it."""

    @property
    def lengths(self) -> Integer[np.ndarray, "records"]:
        return np.array([len(record) for record in self.sample.records])

    @property
    def single(self) -> bool:
        """Most records are one unit, of which nothing can be learned from its neighbours."""
        return len(self.lengths) > 1 and bool(np.median(self.lengths) < 2)

    @property
    def lonely(self) -> bool:
        """So are those in which most units stand: it is not that a few long records hold nearly everything."""
        return self.single and bool(np.median(np.repeat(self.lengths, self.lengths)) < 2)


def _decided(
    files: Sequence[Path], readings: Readings, given: Mapping[str, Any], *, yes: bool, ask: Callable[[Reading], str]
) -> tuple[_Looked, str]:
    """The reading that is clear, or that `yes` takes, and why it is in doubt; `UndecidedError` has those that work.

    A clear one is in doubt after all where its records are single units and something else can be read.
    """
    doubt, found, problems = readings.doubt, [], []
    if readings.each and not doubt:
        found = [_looked_at(files, readings.each[0], given)]
        if readings.chosen or not found[0].single:
            return found[0], ""
        so = found[0].reading.why
        doubt = f"most of the {len(found[0].lengths):,} records are a single unit if it is read so: {so}"
    for reading in readings.each[len(found) : MOST_READINGS]:
        try:
            found.append(_looked_at(files, reading, given))
        except MaskseqError as error:
            problems.append((reading, error))
    if not found:
        own = [error for reading, error in problems if reading.format == readings.format]
        raise own[0] if own else UsageError(f"{files[0]}: {doubt}", code="undecided")
    found.sort(key=lambda looked: looked.lonely)
    if problems and problems[0][0] == readings.each[0]:
        doubt += f"; as {readings.each[0].format} it cannot be read: {problems[0][1]}"
    if len(found) == 1 and not readings.doubt:
        return found[0], ""  # there is nothing else to choose
    if yes:
        return found[0], doubt
    candidates = [
        {
            "format": looked.reading.format,
            "overrides": looked.reading.overrides,
            "why": looked.reading.why,
            "records": f"{len(looked.lengths):,} records, {_range(looked.lengths)} units",
            "command": ask(looked.reading),
        }
        for looked in found
    ]
    raise UndecidedError(files[0], doubt, candidates)


def _range(lengths: Integer[np.ndarray, "records"]) -> str:
    return f"{lengths.min():,} to {lengths.max():,}, median {int(np.median(lengths)):,}"


def _looked_at(files: Sequence[Path], reading: Reading, given: Mapping[str, Any]) -> _Looked:
    """Records from the beginning of the files, and the tokenizer that suits them; raises what reading them raises."""
    options = {**reading.options, **_section(_section(given, "data"), "format_options")}
    on_error = _section(given, "data").get("on_error", "stop")
    records, whole, passed = read_sample(files, reading.format, options, on_error)
    tokenizer, suggestion = suggestion_for(records, _section(given, "tokenizer").get("name"))
    suggested = today(suggestion.recipe)
    draft = _merged(_merged({"tokenizer": {"name": tokenizer}}, suggested), given)
    sample = encoded_sample(records, whole, draft["tokenizer"], on_error, passed)
    return _Looked(reading=replace(reading, options=options), sample=sample, suggestion=suggestion, draft=draft)


def _facts(sample: RecordSample) -> dict[str, Any]:
    """What holds for records of any domain."""
    records = sample.records
    lengths = np.array([len(record) for record in records])
    facts: dict[str, Any] = {
        "looked at": f"{'all' if sample.whole else 'the first'} {len(records):,} records, {lengths.sum():,} raw units",
        **({} if sample.whole else {"counted": f"{sample.size.records:,} records, {sample.size.units:,} raw units"}),
        "lengths": _range(lengths),
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
    if sample.passed.n:
        facts["skipped"] = skipped(sample.passed.n, len(records), sample.passed.why)
    facts["unknown, which infill fills"] = ", ".join(holes[:8]) + ", …" * (len(holes) > 8) if holes else "none"
    facts["fields (tokens)"] = ", ".join(f"{field.name} ({field.n_tokens})" for field in sample.tokenizer.fields[:12])
    return facts


def _relative(file: Path, output: Path) -> str:
    """As the recipe names its files: seen from its own folder."""
    return Path(os.path.relpath(file.resolve(), output.parent.resolve())).as_posix()


def _merged(table: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One table laid over another, section by section."""
    both = {
        key: _merged(table[key], above[key]) for key in table.keys() & above.keys() if isinstance(table[key], Mapping)
    }
    return {**table, **above, **both}
