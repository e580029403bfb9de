"""Files of every format that is written back: holes filled with random legal values, and with absence; all else stays.

The values come from no model but from a generator, so that whatever a model could write is written at some time.
"""

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import awkward_files
import numpy as np
import pytest
from awkward_files import MAKERS, File

from maskseq import plugins
from maskseq.errors import MaskseqError
from maskseq.formats import Format
from maskseq.tokenizer import Tokenizer
from maskseq.types import ABSENT

IN_TEST, IN_SOAK = 2_000, 50_000
"""Files over all formats."""


def filled_at_random(tokenizer: Tokenizer[Any], record: Any, rng: np.random.Generator) -> Any:
    """The record with every unknown cell filled, one after the other, by any id that the grammar then allows."""
    encoded = tokenizer.encode(record)
    ids, vocabulary = encoded.ids.copy(), tokenizer.vocabulary
    holes = ~vocabulary.known(ids)
    written = np.zeros(ids.shape, bool)
    for position, column in rng.permutation(np.argwhere(holes)).tolist():
        allowed = vocabulary.committable[column].copy()
        for legal in (encoded.legal, tokenizer.allowed(ids)):
            if legal is not None:
                for row in np.flatnonzero((legal.cells == (position, column)).all(axis=1)):
                    allowed &= legal.allowed[row][: len(allowed)]
        field = tokenizer.fields[column]
        absent = field.control_id(ABSENT) if ABSENT in field.controls else None
        if not allowed.any():
            continue
        chosen = (
            absent
            if absent is not None and allowed[absent] and rng.random() < 0.3
            else rng.choice(np.flatnonzero(allowed))
        )
        ids[position, column] = chosen
        written[position, column] = True
    if not written.any():
        return record
    record = tokenizer.splice(record, ids, written)
    cells = [
        (position, column)
        for position, column in np.argwhere(written).tolist()
        if tokenizer.fields[column].centres and ids[position, column] < tokenizer.fields[column].n_tokens
    ]
    if cells and rng.random() < 0.5:
        centres = np.array([tokenizer.fields[column].centres[ids[position, column]] for position, column in cells])
        numbers = centres * pick_scale(rng) + rng.normal(size=len(cells))
        record = tokenizer.put_numbers(record, np.array(cells), np.maximum(numbers, 0))
    return record


def pick_scale(rng: np.random.Generator) -> float:
    return float(rng.choice([1.0, 1.01, 1e-4]))


def round_trip(file: File, folder: Path, rng: np.random.Generator) -> None:
    """Read, fill at random, write, compare, read again."""
    path = folder / file.name
    path.write_bytes(file.content)
    reader: Format[Any] = plugins.format_for(path, file.format, **file.options)
    records = list(reader.read(path))
    fitted: Tokenizer[Any] = plugins.load("tokenizers", file.tokenizer).fit(records, **file.fit)
    view = fitted.by_unit()
    tokenizer = fitted if view is None else view[0]
    before = [tokenizer.encode(record).ids for record in records]
    filled = [filled_at_random(tokenizer, record, rng) for record in records]
    writer, target = reader.written_as(folder / "out" / file.name)
    target.parent.mkdir(exist_ok=True)
    writer.write(filled, target)
    content = target.read_bytes()
    if file.pattern is None:
        file.same(content)
    else:
        assert re.fullmatch(file.pattern, content, re.DOTALL), difference(file, content)
    again = list(plugins.format_for(target, file.format, **file.options).read(target))
    assert [record.key for record in again] == [record.key for record in records]
    for record, ids in zip(again, before, strict=True):
        known = tokenizer.vocabulary.known(ids)
        now = tokenizer.encode(record).ids
        assert now.shape == ids.shape
        gaps = np.array([field.name == "gap" for field in tokenizer.fields])  # a filled time moves the gap behind it
        moved = np.argwhere((now != ids) & known & ~gaps)
        assert not len(moved), f"cells {moved.tolist()} were known and read otherwise now\n{difference(file, content)}"


def difference(file: File, content: bytes) -> str:
    given, written = (each.decode(errors="replace") for each in (file.content, content))
    return f"{file.format} {file.options}\n--- given\n{given}\n--- written\n{written}"


def check(name: str, seed: int, n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n):
            rng = np.random.default_rng((seed, number, *name.encode()))
            file = MAKERS[name](rng)
            try:
                round_trip(file, Path(folder), rng)
            except MaskseqError as error:
                raise AssertionError(
                    f"seed {seed}, file {number}: refused: {error}\n{difference(file, b'')}"
                ) from error
            except Exception as error:
                raise AssertionError(f"seed {seed}, file {number}: {error}") from error


@pytest.mark.parametrize("name", MAKERS)
def test_known_bytes_stay_whatever_is_filled(name: str) -> None:
    check(name, 0, -(-IN_TEST // len(MAKERS)))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", MAKERS)
def test_known_bytes_stay_whatever_is_filled_soak(name: str) -> None:
    check(name, int(time.time()), -(-IN_SOAK // len(MAKERS)))


def test_every_written_format_is_tried() -> None:
    """Those that are read only, or written as another format, aside."""
    others = {"2bit", "bed", "edf", "meds", "npz", "ts", "ucr", "wfdb"}
    assert set(plugins.available("formats")) == {awkward_files.MAKERS and name for name in MAKERS} | others
