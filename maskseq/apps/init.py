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

from maskseq import plugins
from maskseq.apps.init_readings import Reading, Readings, UndecidedError, answers, command, readings_of
from maskseq.apps.init_sizes import counted, sizes
from maskseq.contract import renamed
from maskseq.contract.fence import encode, fenced, fit
from maskseq.corpus.intake import Intake, OnError, hinted, report, skipped, with_hint
from maskseq.corpus.near_copies import near_copies
from maskseq.corpus.out_of_range import OutOfRange
from maskseq.corpus.overlap import Overlap, overlap
from maskseq.corpus.sides import choose
from maskseq.corpus.split_config import TEST
from maskseq.corpus.splits import SplitConfig, table_of, training_records
from maskseq.errors import DataError, DataWarning, MaskseqError, UsageError
from maskseq.formats import Format
from maskseq.recipe import Recipe, lay_over, load_recipe, today
from maskseq.storage.outputs import write
from maskseq.storage.places import is_url
from maskseq.storage.toml_text import recipe_text
from maskseq.survey import Size, Suggestion, Surveyed
from maskseq.tokenizer import Tokenizer
from maskseq.types import Record

SAMPLE_UNITS = 500_000
"""About how many raw units are looked at, in whole records."""
MOST_READINGS = 6
"""Ways to read the files that are tried where it is not clear which is right."""
FEWEST_RECORDS, FEWEST_POSITIONS = 10, 500
"""What a test part has at least (the records where whole ones are held out); with less there are two parts."""
SHARES = {
    "data.split.selection": "stopping and calibration go by it",
    "data.split.test": 'figures are of it; a file of its own may be the test: test = "FILE"',
}
TOO_LITTLE = "too little data for a third part: figures are of the selection data"
RECIPE = Path("recipe.toml")
"""The recipe that is written where no other name is given."""


@dataclass(frozen=True)
class Passed:
    """How many records were passed over, and why the first ones were."""

    n: int = 0
    why: tuple[str, ...] = ()

    def and_also(self, n: int, why: Sequence[str]) -> "Passed":
        return Passed(self.n + n, (*self.why, *why))


@dataclass(frozen=True, kw_only=True)
class RecordSample:
    """Some records from the beginning of the files, and how a tokenizer encodes them."""

    records: Surveyed
    whole: bool
    """These are all records there are."""
    tokenizer: Tokenizer[Any]
    positions: Integer[np.ndarray, "records"]
    unknown: Integer[np.ndarray, "fields"]
    """How many cells of each field are unknown."""
    passed: Passed
    """Other records, which were passed over."""

    @property
    def size(self) -> Size:
        """That of the files."""
        return self.records.size

    @property
    def positions_a_unit(self) -> float:
        return float(self.positions.sum()) / max(sum(len(record) for record in self.records), 1)


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
        raise UsageError(f"{output} exists already\n\nhint: choose another name with --output, or remove it")
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}")
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
    if "test" not in _section(data, "split") and _too_little(looked.sample, load_recipe(draft).data.split):
        draft["data"]["split"]["test"] = 0.0
        comments |= {"data.split.test": TOO_LITTLE}
    title = f"A first recipe for {', '.join(file.name for file in files)}."
    text = recipe_text(draft, comments, title)
    split = load_recipe(tomllib.loads(text)).data.split
    if warning := _of_what_is_held_out(looked.sample, split, draft["tokenizer"]):
        warnings.warn(warning, stacklevel=2)
    write(output, text, new=True)
    reported = dict(readings.reported)
    if doubt:
        reported[files[0].name] = f"{reading.format}: {reading.why} (a guess that you accepted: {doubt})"
    records = _facts(looked.sample)
    if crossing := _overlap(looked.sample, split):
        records["left out at a time boundary"] = crossing.reported
        if crossing.warning:
            warnings.warn(crossing.warning, stacklevel=2)
    if near := _near_copies(looked.sample, split):
        records["near-copies"] = f"{near:,} records, which the split keeps on one side of it with what they are like"
    facts = {"files": reported, "records": records, "content": dict(looked.suggestion.found)}
    if probe:
        facts["training"] = _time(load_recipe(tomllib.loads(text)), looked.sample)
    return {**facts, "recipe": str(output)}


def _time(recipe: Recipe, sample: RecordSample) -> dict[str, str]:
    """How long training takes; the recipe stands whether that can be told or not."""
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
            f"--set …{name}={section}: {name} is a section\n\nhint: set one of its keys: …{name}.KEY=VALUE"
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
        raise own[0] if own else UsageError(f"{files[0]}: {doubt}")
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
    records, whole, passed = _records(files, reading.format, options, on_error)
    tokenizer, suggestion = _suggestion(records, _section(given, "tokenizer").get("name"))
    suggested = today(suggestion.recipe)
    draft = _merged(_merged({"tokenizer": {"name": tokenizer}}, suggested), given)
    sample = _encoded(records, whole, draft["tokenizer"], on_error, passed)
    return _Looked(reading=replace(reading, options=options), sample=sample, suggestion=suggestion, draft=draft)


def _records(
    files: Sequence[Path], format: str, options: Mapping[str, Any], on_error: OnError
) -> tuple[Surveyed, bool, Passed]:
    """Records from the beginning of the files, whether these are all, and why others were passed over."""
    reader = plugins.open_format(files[0], format, dict(options), trust_code=True)
    try:
        records, whole, passed = _sampled(files, reader, on_error)
        size = Size.of(records) if whole else counted(files, reader, on_error)
        return Surveyed(records, size), whole, passed
    except DataError as error:
        requested = [name for name in vars(reader) if f" {name} = " in error.problem]
        if not requested:
            raise
        raise with_hint(error, f"here: --set data.format_options.{requested[0]}=VALUE") from None


def _sampled(files: Sequence[Path], reader: Format[Any], on_error: OnError) -> tuple[list[Record], bool, Passed]:
    records: list[Record] = []
    passed = Passed()
    left = SAMPLE_UNITS
    for path in files:
        with Intake(reader, path, on_error=on_error, preview=left, warns=False) as intake:
            found = iter(intake)
            for record in found:
                records.append(record)
                left -= len(record)
                if left <= 0:
                    whole = path == files[-1] and next(found, None) is None
                    return records, whole, passed.and_also(intake.n_left, intake.why)
        passed = passed.and_also(intake.n_left, intake.why)
    if not records:
        raise DataError(files[0], "there are no records in this file")
    return records, True, passed


def _suggestion(records: Sequence[Record], wanted: str | None) -> tuple[str, Suggestion]:
    """The tokenizer that knows these records, and what it suggests."""
    if wanted is not None:
        cls = plugins.load("tokenizers", wanted, trust_code=True)
        with fenced(cls, "suggest", records[0]):
            return wanted, cls.suggest(records) or Suggestion()
    for name, suggestion in answers("tokenizers", "suggest", records):
        if suggestion is not None:
            return name, suggestion
    raise UsageError(
        f"no tokenizer has a suggestion for a {type(records[0]).__name__}\n\n"
        f"hint: name one with --set tokenizer.name=NAME ({plugins.listed('tokenizers')})"
    )


def _encoded(
    records: Surveyed, whole: bool, options: Mapping[str, Any], on_error: OnError, passed: Passed
) -> RecordSample:
    """Fit and encode: what cannot be encoded is better known now than when the recipe runs."""
    options = dict(options)
    tokenizer = fit(plugins.load("tokenizers", options.pop("name"), trust_code=True), records, options)
    kept: list[Record] = []
    positions: list[int] = []
    unknown = np.zeros(tokenizer.vocabulary.n_fields, np.int64)
    for record in records:
        try:
            ids = encode(tokenizer, record).ids
        except DataError as error:
            if on_error == "stop":
                raise hinted(error) from error
            passed = passed.and_also(1, [str(error)])
            continue
        kept.append(record)
        positions.append(len(ids))
        unknown += (~tokenizer.vocabulary.known(ids)).sum(axis=0)
    if not kept:
        raise UsageError(f"no record can be encoded: {passed.why[-1]}")
    return RecordSample(
        records=Surveyed(kept, records.size),
        whole=whole,
        tokenizer=tokenizer,
        positions=np.array(positions, np.int64),
        unknown=unknown,
        passed=passed,
    )


def _too_little(sample: RecordSample, split: SplitConfig) -> bool:
    """Whether a test part of these records would be too small to tell anything."""
    table = table_of(sample.records, split)
    share = split.shares[TEST]
    if table is None or not share or not sample.whole:
        return False
    try:
        by = choose(table, split).by
    except MaskseqError:  # which the build will name
        return False
    few_records = by != "region" and share * len(table) < FEWEST_RECORDS
    return few_records or share * int(sample.positions.sum()) < FEWEST_POSITIONS


def _of_what_is_held_out(sample: RecordSample, split: SplitConfig, options: Mapping[str, Any]) -> str | None:
    """What to say if its numbers lie outside the range of those that the recipe's split leaves for training."""
    if type(sample.tokenizer).beyond is Tokenizer.beyond:
        return None
    kept, training = dict(options), []
    try:
        training = list(training_records(lambda: sample.records, split))
        with warnings.catch_warnings(action="ignore"):  # those of the first fit were shown
            tokenizer = fit(plugins.load("tokenizers", kept.pop("name"), trust_code=True), training, kept)
    except MaskseqError:  # of the whole file, the split leaves more
        return None
    seen, held_out = OutOfRange(tokenizer.fields), OutOfRange(tokenizer.fields)
    for record in training:
        seen.add(tokenizer.beyond(record))
    for record in sample.records:
        held_out.add(tokenizer.beyond(record))
    return held_out.without(seen).warning("held-out numbers")


def _overlap(sample: RecordSample, split: SplitConfig) -> Overlap | None:
    """What a split by time would leave out of the records that were looked at."""
    table = table_of(sample.records, split)
    try:
        choice = None if table is None else choose(table, split)
    except MaskseqError:  # records without times, which the build will name
        return None
    if table is None or choice is None or choice.by != "time" or choice.before is None:
        return None
    requested = np.zeros(len(table), np.int64)
    for record in np.flatnonzero(choice.before).tolist():
        last = sample.tokenizer.units_of(encode(sample.tokenizer, sample.records[record]))[..., 1].max(axis=1)
        requested[record] = np.count_nonzero(last > choice.before[record])
    return overlap(replace(table, positions=sample.positions), choice, requested)


def _near_copies(sample: RecordSample, split: SplitConfig) -> int:
    """How many of the records are nearly another one, as the build will find."""
    if not split.seeks_near_copies:
        return 0
    units = np.array([len(record) for record in sample.records])
    tokenizer, records = sample.tokenizer, sample.records
    found = near_copies(tokenizer, units, lambda n: [encode(tokenizer, records[n]).ids], split.near_copies)
    return 0 if found is None else int((found != np.arange(len(found))).sum())


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
