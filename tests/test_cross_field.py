"""Tables across the fields of an event, against counting by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.predict.experts import cross_field
from maskseq.predict.experts.cross_field import REACH, CrossFieldTables
from maskseq.predict.experts.left_out import OwnRecords
from maskseq.predict.experts.neighbour_index import FLOOR
from maskseq.predict.experts.training_data import TrainingData
from maskseq.predict.protocol import Example
from maskseq.tokenizer import Tokenizer
from maskseq.types import Encoded, Field, ListRecord, Vocabulary

FIELDS = (
    Field(name="x", tokens=tuple("abc")),
    Field(name="y", tokens=tuple("de")),
    Field(name="z", tokens=tuple("fghi")),
)
THREE = Vocabulary.of(FIELDS)
MASKS = THREE.mask_ids


class Triples(Tokenizer[ListRecord]):
    """Three fields."""

    fields = FIELDS

    def encode(self, record: ListRecord) -> Encoded:
        return Encoded(np.array(record.values, np.uint8))

    def decode(self, ids: np.ndarray) -> list[list[int]]:
        return ids.tolist()


EVENT = st.tuples(*(st.integers(0, mask) for mask in MASKS))
CASES = st.lists(
    st.lists(EVENT, min_size=1, max_size=8).map(lambda rows: np.array(rows, np.uint8).reshape(-1, 3)),
    min_size=1,
    max_size=8,
)


def digit(ids: np.ndarray, at: int, field: int) -> int | str:
    if not 0 <= at < len(ids):
        return "end" if at in (-1, len(ids)) else "beyond"
    return int(ids[at, field]) if ids[at, field] < MASKS[field] else "unknown"


def by_hand(table: CrossFieldTables, train: list[np.ndarray], seen: np.ndarray, at: int, field: int) -> np.ndarray:
    """Contexts of loops over lists, in the order and with the strengths that were fitted."""
    of_field, n_ids = table.fields[field], MASKS[field]
    context: list[tuple[int, int]] = []
    for offset in of_field.order:
        if abs(offset) == 3:  # a neighbour of the same field, the nearest known one
            sign = offset // 3
            far = [d for d in range(1, REACH + 1) if digit(seen, at + sign * d, field) != "unknown"]
            context += [(sign * far[0], field)] if far else []
        elif digit(seen, at, field + offset) != "unknown":
            context.append((0, field + offset))
    context = context[: cross_field.WIDTH]
    places = [(ids, i) for ids in train for i in range(len(ids)) if ids[i, field] < n_ids]
    answer = below = np.full(n_ids, 1 / n_ids)
    strengths = of_field.index.law(0, of_field.order[: cross_field.WIDTH])
    for level in range(min(len(context) + 1, len(strengths))):
        kept = [
            (ids, i)
            for ids, i in places
            if all(digit(ids, i + step, other) == digit(seen, at + step, other) for step, other in context[:level])
        ]
        below = below if len(kept) == len(places) else answer
        places = kept
        counts = np.bincount([ids[i, field] for ids, i in kept], minlength=n_ids)
        size = min(int(np.ceil(np.log2(max(counts.sum(), 1)))), 9)
        strength = strengths[level][2 * size + int(counts.max() == counts.sum())]
        answer = (counts + strength * below) / (counts.sum() + strength)
    return (1 - FLOOR) * answer + FLOOR / n_ids


@settings(max_examples=100, deadline=None)
@given(CASES, st.integers(0, 10**6), st.integers(0, 2**24 - 1))
def test_contexts_are_counted_as_by_hand(train: list[np.ndarray], pick: int, masked: int) -> None:
    seen = train[pick % len(train)].copy()
    holes = np.array([masked >> i & 1 for i in range(seen.size)], bool).reshape(seen.shape)
    seen = THREE.masked(seen, holes)
    at, field = pick % len(seen), pick % 3
    seen[at, field] = MASKS[field]
    table = CrossFieldTables(train, vocabulary=THREE)
    (answer,) = table([Example(seen)], [np.array([[at, field]])])
    expected = by_hand(table, train, seen, at, field)
    np.testing.assert_allclose(np.exp(answer[0, : MASKS[field]]), expected, rtol=1e-9)
    assert np.isneginf(answer[0, MASKS[field] :]).all()


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(0, 10**6))
def test_a_record_is_left_out(train: list[np.ndarray], pick: int) -> None:
    which = pick % len(train)
    data = TrainingData([str(i) for i in range(len(train))], train)
    full = CrossFieldTables(train, vocabulary=THREE, records=OwnRecords(data, Triples()))
    without = CrossFieldTables([ids for i, ids in enumerate(train) if i != which], vocabulary=THREE)
    seen = train[which].copy()
    seen[pick % len(seen)] = MASKS
    requested = [np.array([[pick % len(seen), field] for field in range(3)])]
    for mine, other in zip(full.fields, without.fields, strict=True):
        other.__dict__["order"] = mine.order  # what is fitted on all data is not what is compared
        mine.index.law(0, mine.order[: cross_field.WIDTH])
        other.index.fitted.update(mine.index.fitted)
    (answer,), support = full.answers([Example(seen, key=str(which))], requested)
    (expected,), behind = without.answers([Example(seen)], requested)
    np.testing.assert_allclose(answer, expected, atol=1e-9)
    np.testing.assert_array_equal(support, behind)


def source(seed: int, n: int) -> np.ndarray:
    """Y and z are drawn; x is their sum."""
    rng = np.random.default_rng(seed)
    y, z = rng.integers(2, size=n), rng.integers(4, size=n)
    return np.stack([(y + z) % 3, y, z], axis=1).astype(np.uint8)


def test_what_other_fields_say_is_found_and_looked_at_first() -> None:
    table = CrossFieldTables([source(0, 3000)], vocabulary=THREE)
    assert set(table.fields[0].order[:2]) == {1, 2}
    seen = source(1, 200)
    truth = seen[:, 0].copy()
    seen[::2, 0] = MASKS[0]
    requested = np.array([[at, 0] for at in range(0, 200, 2)])
    (answer,) = table([Example(seen)], [requested])
    assert (answer.argmax(axis=1) == truth[::2]).all()
    seen[::2, 1] = MASKS[1]  # without y, two values are left of each z
    (answer,) = table([Example(seen)], [requested])
    assert np.exp(answer[np.arange(100), truth[::2]]).mean() == pytest.approx(0.5, abs=0.05)
