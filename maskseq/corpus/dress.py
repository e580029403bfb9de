"""How a file is read that a run was not trained on: as the training files were, or in the dress that it comes in.

The format is that of the training files, or another one whose records the run's tokenizer reads. Options that say how
a text is written (`Format.dress`) are chosen by the file's content, where the run's tokenizer knows more values so.
"""

import itertools
import tempfile
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from maskseq import plugins
from maskseq.contract.fence import beyond_of, encode, record_type
from maskseq.corpus.intake import Intake, OnError
from maskseq.corpus.out_of_range import OUTSIDE
from maskseq.errors import DataWarning, MaskseqError
from maskseq.files import plain_name
from maskseq.formats import Format
from maskseq.plugins import Trust, open_format
from maskseq.survey import Head
from maskseq.tokenizer import Tokenizer

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
TRIED_BYTES = 1 << 16
"""Of a file's beginning, by which its dress is chosen."""
MARGIN = 0.01
"""Of the cells: so many more must be known for another dress to be taken."""


@dataclass(frozen=True, kw_only=True)
class ReadAs:
    """How a user wants a file to be read that the run was not trained on."""

    format: str | None = None
    """By name (default: that of the training files, if it reads this file)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the format, in place of those that the training files were read with."""
    on_error: OnError = "stop"
    """At a record that cannot be read."""

    @classmethod
    def taken(cls, given: dict[str, Any]) -> "ReadAs":
        """What of some keyword arguments is about it, which they are without afterwards."""
        return cls(**{each.name: given.pop(each.name) for each in fields(cls) if each.name in given})


AS_TRAINED = ReadAs()


@dataclass(frozen=True)
class TrainedOn:
    """What a recipe says of the files that were learned from."""

    source: str = "recipe.json"
    """Where that stands."""
    files: tuple[str, ...] = ()
    format: str | None = None
    format_options: dict[str, Any] = field(default_factory=dict)


def reader_for(
    file: Path,
    tokenizer: Tokenizer[Any],
    trained: TrainedOn,
    name: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    *,
    trust_code: Trust = False,
) -> Format[Any]:
    """The format that reads `file` for a tokenizer: the one called `name`, or as the training files were read.

    The user's `options` come first. Warns of a dress that is another than that of the training files.
    """
    trust = trust_code if name is None else True  # who names code in this call means it
    if name is not None and name != trained.format:
        return open_format(file, name, dict(options), trust_code=trust)
    if name is None and all(_endings(Path(other)).isdisjoint(_endings(file)) for other in trained.files):
        found = _by_content(file, tokenizer)
        if found is None or found[0] != (trained.format or _by_name(Path(next(iter(trained.files), "")), tokenizer)):
            name, needed = found or (None, {})
            return open_format(file, name, {**needed, **options}, trust_code=trust)
    given = {**trained.format_options, **options}
    format_ = trained.format or _by_name(file, tokenizer)  # other plug-ins need not be loaded then
    reader = open_format(file, format_, given, trust_code=trust, source=trained.source)
    return _dressed(reader, file, tokenizer, fixed=options)


def _by_content(file: Path, tokenizer: Tokenizer[Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The format, and options that it needs, of a file that no training file is like: of those whose records the
    tokenizer reads, the one that its name says, else the one that knows its content best.
    """
    if (name := _by_name(file, tokenizer)) is not None:
        return name, {}
    claims = []
    with suppress(MaskseqError):  # which reading it will raise as well
        head = Head.of(file)
        for name, cls in plugins.usable("formats").items():
            if _reads(cls, tokenizer) and (claim := cls.recognize(head)) and not claim.doubt:
                claims.append((claim.strength, name, claim.options))
    return max(claims, key=lambda claim: claim[0])[1:] if claims else None


def _by_name(file: Path, tokenizer: Tokenizer[Any]) -> str | None:
    plain = plain_name(file)
    for name, cls in plugins.nearest_first("formats", type(tokenizer)) if plain else ():
        if plain.endswith(tuple(cls.suffixes)) and _reads(cls, tokenizer):
            return name
    return None


def _reads(format: type[Any], tokenizer: Tokenizer[Any]) -> bool:
    """Whether records of the format are what the tokenizer is for, as far as both say so."""
    given, needed = record_type(format), record_type(tokenizer)
    return given is None or needed is None or issubclass(given, needed)


def _endings(path: Path) -> set[str]:
    """How its name ends, but for the ending of a compressed file; of a zip archive, that of the file in it, too."""
    return {Path(plain_name(path)).suffix} | {suffix for suffix in [path.suffix.lower()] if suffix == ".zip"}


def _dressed(own: Format[Any], file: Path, tokenizer: Tokenizer[Any], *, fixed: Collection[str]) -> Format[Any]:
    """`own`, or as it reads the file with other values of `Format.dress`, where the tokenizer knows more values so."""
    names = [name for name in type(own).dress if name not in fixed]
    if not names:
        return own
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        try:
            head = Head.of(file)
        except MaskseqError:  # which reading it will raise as well
            return own
        start = head.content
        if len(start) > TRIED_BYTES or not head.whole:
            start = start[:TRIED_BYTES]
            start = start[: start.rfind(b"\n") + 1] or start
        sample = Path(folder) / head.name
        sample.write_bytes(start)
        best, known = own, _share_known(own, sample, tokenizer)
        for values in itertools.product(*(type(own).dress[name] for name in names)) if known < 1 else ():
            with suppress(MaskseqError):  # values that do not go together
                other = replace(own, **dict(zip(names, values, strict=True)))  # type: ignore[type-var]
                if other != own and (share := _share_known(other, sample, tokenizer)) > known + MARGIN:
                    best, known = other, share
    if best is not own:
        changed = [name for name in names if getattr(best, name) != getattr(own, name)]
        taken = ", ".join(f"{name} = {getattr(best, name)!r}" for name in changed)
        before = ", ".join(repr(getattr(own, name)) for name in changed)
        warnings.warn(
            f"{file}: read with {taken} (as trained: {before}), which fits its content better",
            DataWarning,
            stacklevel=4,
        )
    return best


def _share_known(reader: Format[Any], file: Path, tokenizer: Tokenizer[Any]) -> float:
    """The share of cells whose values the tokenizer has seen the like of; −1 where nothing can be read."""
    n_tokens = np.array([each.n_tokens for each in tokenizer.fields])
    records = Intake(reader, file, on_error="skip", tokenizer=tokenizer)
    known = total = 0
    try:
        for record in records:
            ids, beyond = encode(tokenizer, record).ids, beyond_of(tokenizer, record)
            sound = ids < n_tokens
            known += int((sound if beyond is None else sound & ~(beyond > OUTSIDE)).sum())
            total += ids.size
    except MaskseqError:
        return -1.0
    return known / max(total, 1) * records.n_read / max(records.n_read + records.n_left, 1)
