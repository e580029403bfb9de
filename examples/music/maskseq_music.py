"""Tunes of three fields: a tune a line, `name TAB key TAB pitch:length pitch:length …`, and `?` for what nobody knows.

Pitches are numbers of semitones (MIDI) or `z` for a rest; lengths are in eighths; a key is a tonic (0 is C) and a mode.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from maskseq import OTHER, Augmentation, DataError, Encoded, Field, Format, Record, Tokenizer

REST, UNKNOWN = "z", "?"
MODES = ("major", "minor", "dorian", "mixolydian")
KEYS = tuple(f"{tonic} {mode}" for mode in MODES for tonic in range(12))
LOW, HIGH = 48, 96
PITCHES = (REST, *map(str, range(LOW, HIGH)))
SHIFTS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6)


@dataclass(frozen=True, kw_only=True)
class Tune(Record):
    """Notes of one voice, and the key that they are in."""

    key_signature: str
    pitches: tuple[str, ...]
    lengths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pitches)

    def cut(self, start: int, stop: int) -> "Tune":
        return replace(self, pitches=self.pitches[start:stop], lengths=self.lengths[start:stop])


class Tunes(Format[Tune]):
    """Reads and writes such lines."""

    suffixes: ClassVar[tuple[str, ...]] = (".tunes",)

    def read(self, path: Path) -> Iterator[Tune]:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                parts = line.rstrip("\n").split("\t")
                notes = [note.partition(":") for note in parts[-1].split()]
                if len(parts) != 3 or not all(colon for _, colon, _ in notes):
                    raise DataError(path, "expected name, key and notes between tabs", place=f"line {number}")
                pitches, lengths = ([note[i] for note in notes] for i in (0, 2))
                yield Tune(key=parts[0], key_signature=parts[1], pitches=tuple(pitches), lengths=tuple(lengths))

    def write(self, records: Iterable[Tune], path: Path) -> None:
        with path.open("w", encoding="utf-8") as lines:
            for tune in records:
                notes = " ".join(map(":".join, zip(tune.pitches, tune.lengths, strict=True)))
                lines.write(f"{tune.key}\t{tune.key_signature}\t{notes}\n")


@dataclass(frozen=True, kw_only=True)
class TuneTokenizer(Tokenizer[Tune]):
    """Pitch and length of each note, and the key, which every note knows."""

    lengths: tuple[str, ...]
    with_key: bool = True

    @classmethod
    def fit(cls, records: Iterable[Tune], **options: Any) -> "TuneTokenizer":
        counts = Counter(length for tune in records for length in tune.lengths if length != UNKNOWN)
        return cls(lengths=tuple(length for length, n in counts.most_common() if n > 1), **options)

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        pitch = Field(name="pitch", tokens=PITCHES, controls=(OTHER,))
        length = Field(name="length", tokens=self.lengths, controls=(OTHER,))
        key = Field(name="key", tokens=KEYS, controls=(OTHER,), given=True)
        return (pitch, length, key) if self.with_key else (pitch, length)

    def encode(self, record: Tune) -> Encoded:
        columns = [record.pitches, record.lengths, [record.key_signature] * len(record)]
        found = []
        for field, values in zip(self.fields, columns, strict=False):
            ids = {token: index for index, token in enumerate(field.tokens)}
            other = field.control_id(OTHER)
            known = ids if field.given else ids | {UNKNOWN: field.mask_id}
            found.append([known.get(value, other) for value in values])
        return Encoded(np.array(found, np.uint8).T.copy())

    def decode(self, ids: np.ndarray) -> list[str]:
        return [" ".join(f.token(i) for f, i in zip(self.fields, row, strict=True)) for row in ids.tolist()]

    def splice(self, record: Tune, ids: np.ndarray, holes: np.ndarray) -> Tune:
        columns = [list(record.pitches), list(record.lengths)]
        for position, column in np.argwhere(holes[:, :2]).tolist():
            columns[column][position] = self.fields[column].token(ids[position, column])
        return replace(record, pitches=tuple(columns[0]), lengths=tuple(columns[1]))

    def augmentations(self) -> tuple[Augmentation[Tune], ...]:
        """The same tune in another key; none where a note leaves the range."""
        found = []
        for steps in SHIFTS:
            maps = [[ids_moved(token, steps, field) for token in field.tokens] for field in self.fields]
            for field, images in zip(self.fields, maps, strict=True):
                images += range(field.n_tokens, field.n_rows)
            found.append(
                Augmentation(
                    name=f"{steps:+} semitones",
                    transform=partial(transposed, steps=steps),
                    id_maps=tuple(map(tuple, maps)),
                )
            )
        return tuple(found)


def ids_moved(token: str, steps: int, field: Field) -> int:
    """The id that a token has some semitones higher; −1 outside the range."""
    if field.name == "pitch" and token != REST:
        moved = str(int(token) + steps)
    elif field.name == "key":
        tonic, mode = token.split()
        moved = f"{(int(tonic) + steps) % 12} {mode}"
    else:
        moved = token
    return field.tokens.index(moved) if moved in field.tokens else -1


def transposed(tune: Tune, steps: int) -> Tune | None:
    """The tune some semitones higher; None where a note leaves the range."""
    known = [pitch in PITCHES for pitch in tune.pitches]
    moved = [str(int(p) + steps) if k and p != REST else p for p, k in zip(tune.pitches, known, strict=True)]
    if any(k and p not in PITCHES for p, k in zip(moved, known, strict=True)):
        return None
    key = tune.key_signature
    if key in KEYS:
        tonic, mode = key.split()
        key = f"{(int(tonic) + steps) % 12} {mode}"
    return replace(tune, pitches=tuple(moved), key_signature=key)
