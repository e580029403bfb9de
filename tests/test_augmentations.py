"""Changes that leave a record as likely: transpositions, rotations, and spellings of another length, drawn by key."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskseq import Augmentation, Encoded, Field, LegalCells, ListRecord, Tokenizer, Variant
from maskseq.corpus.build import build_from_records
from maskseq.corpus.splits import SplitConfig
from maskseq.masking.config import MaskingConfig
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq.testing import ContractViolation, check_tokenizer

PITCHES = tuple(str(pitch) for pitch in range(12))
SIDE = 3


def turned(length: int) -> np.ndarray | None:
    """A square, a quarter turn to the left."""
    return np.rot90(np.arange(SIDE * SIDE).reshape(SIDE, SIDE)).ravel() if length == SIDE * SIDE else None


def transposed(record: ListRecord, steps: int) -> ListRecord | None:
    values = [value if value == "?" else str(int(value) + steps) for value in record.values]
    return replace(record, values=values) if set(values) <= {*PITCHES, "?"} else None


def rotated(record: ListRecord) -> ListRecord | None:
    order = turned(len(record))
    return None if order is None else replace(record, values=[record.values[i] for i in order])


@dataclass(frozen=True, kw_only=True)
class Tones(Tokenizer[ListRecord]):
    fields = (Field(name="pitch", tokens=PITCHES),)
    wrong: bool = False

    def encode(self, record: ListRecord) -> Encoded:
        field = self.fields[0]
        ids = [field.mask_id if value == "?" else field.tokens.index(value) for value in record.values]
        return Encoded(np.array(ids, np.uint8)[:, None])

    def decode(self, ids: np.ndarray) -> list[str]:
        return [self.fields[0].token(i) for i in ids[:, 0]]

    def augmentations(self) -> tuple[Augmentation[ListRecord], ...]:
        found = []
        for steps in (-2, 3):
            moved = [n + steps + self.wrong for n in range(len(PITCHES))]
            images = (*(n if 0 <= n < len(PITCHES) else -1 for n in moved), len(PITCHES))
            found.append(
                Augmentation(name=f"{steps:+}", transform=lambda r, s=steps: transposed(r, s), id_maps=(images,))
            )
        same = (tuple(range(len(PITCHES) + 1)),)
        return (*found, Augmentation(name="turn", transform=rotated, id_maps=same, order=turned))

    def variants(self, record: ListRecord) -> Iterator[Variant[ListRecord]]:
        doubled = replace(record, values=[value for value in record.values for _ in (0, 1)])
        yield Variant(name="slower", record=doubled, tokenizer=self, aligned=False)


def melodies(n: int = 40, length: int = 9) -> list[ListRecord]:
    rng = np.random.default_rng(0)
    return [
        ListRecord(
            key=f"m{i}",
            values=[*map(str, rng.integers(3, 9, size=length).tolist())],
        )
        for i in range(n)
    ]


def test_the_contract_knows_them() -> None:
    report = check_tokenizer(Tones(), melodies())
    assert {"augmentations", "variants"} <= set(report.checked)
    with pytest.raises(ContractViolation, match="augmentations"):
        check_tokenizer(Tones(wrong=True), melodies())


def rows(folder: Path, records: list[ListRecord], **options: Any) -> PackedRows:
    corpus = build_from_records(records, output=folder, tokenizer=Tones(), variants=0, **options)
    masking = MaskingConfig()
    return PackedRows(corpus, config=PackingConfig(row_tokens=90, context=9), masking=masking, seed=3)


def test_training_draws_each_by_key(tmp_path: Path) -> None:
    records = melodies()
    made = rows(tmp_path / "c", records, split=SplitConfig(selection=0.0))
    tokenizer, seen = Tones(), Counter[str]()
    known = {tuple(tokenizer.encode(record).ids[:, 0].tolist()): record for record in records}
    images = {key: {"": key} for key in known}
    for key, record in known.items():
        for each in tokenizer.augmentations():
            image = each.transform(record)
            assert image is not None
            images[key][each.name] = tuple(tokenizer.encode(image).ids[:, 0].tolist())
    names = {image: name for each in images.values() for name, image in each.items()}
    for number in range(40):
        row = made.row(number)
        assert np.array_equal(row.targets, made.row(number).targets)
        for start, stop in zip(row.cu_seqlens, row.cu_seqlens[1:], strict=False):
            piece = tuple(row.targets[start:stop, 0].tolist())
            if len(piece) == 9 and set(piece) != {12}:
                seen[names[piece]] += 1
    assert set(seen) == {"", "-2", "+3", "turn"}
    assert min(seen.values()) > 0.15 * sum(seen.values())


def test_what_leaves_the_range_stays_as_it_is() -> None:
    up = Tones().augmentations()[1]
    low, high = (Tones().encode(ListRecord(key="x", values=[value])) for value in ("0", "11"))
    assert up.encoded(low) is not None
    assert up.encoded(high) is None


def test_legal_cells_and_weights_move_along() -> None:
    ids = np.arange(9, dtype=np.uint8)[:, None]
    allowed = np.zeros((1, 12), bool)
    allowed[0, [4, 5]] = True
    encoded = Encoded(ids, LegalCells(np.array([[4, 0]]), allowed), np.arange(9.0)[:, None])
    turn, up = Tones().augmentations()[2], Tones().augmentations()[0]
    moved = turn.encoded(encoded)
    assert moved is not None
    assert moved.weights is not None
    assert moved.legal is not None
    assert moved.weights.ravel().tolist() == moved.ids.ravel().tolist()
    assert moved.legal.cells.tolist() == [[4, 0]]  # the middle of the square
    assert turn.encoded(encoded, whole=False) is None
    shifted = up.encoded(replace(encoded, ids=ids + 2))
    assert shifted is not None
    assert shifted.legal is not None
    assert np.flatnonzero(shifted.legal.allowed[0]).tolist() == [2, 3]


def test_spellings_of_another_length_stay_on_their_records_side(tmp_path: Path) -> None:
    records = melodies(60)
    split = SplitConfig(by="record", selection=0.2, test=0.2)
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=Tones(), variants=1, split=split)
    sides: dict[str, set[str]] = {}
    lengths = Counter[int]()
    for part in ("train", "selection", "test"):
        for index, encoded in corpus.each(part):
            sides.setdefault(corpus.key(index), set()).add(part)
            lengths[len(encoded)] += part == "train"
    assert all(len(found) == 1 for found in sides.values())
    assert lengths[18] == lengths[9] > 0


def test_where_regions_are_held_out_they_are_left_out(tmp_path: Path) -> None:
    long = melodies(3, length=400)
    split = SplitConfig(by="region", selection=0.2, guard=8)
    corpus = build_from_records(long, output=tmp_path / "c", tokenizer=Tones(), variants=1, split=split)
    cut = {corpus.key(index) for index, _ in corpus.each("selection")}
    assert cut
    for index, encoded in corpus.each("train"):
        assert corpus.key(index) not in cut or len(encoded) <= 400
        assert corpus.key(index) not in cut or corpus.variant(index) == 0
