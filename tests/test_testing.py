"""The contract checker passes honest tokenizers of several kinds, and names the rule that each broken one breaks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swapping import Hashed

from maskseq.errors import MaskseqError, UsageError
from maskseq.testing import ContractViolation, check_tokenizer
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import ABSENT, END, OTHER, Encoded, Field, LegalCells, ListRecord, Record

# --- honest tokenizers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Weather(Tokenizer[ListRecord]):
    """The example of `maskseq.tokenizer`, as it stands there."""

    fields = (Field(name="sky", tokens=("sun", "cloud", "rain")),)

    def encode(self, record):
        ids = [self.fields[0].tokens.index(value) for value in record.values]
        return Encoded(np.array(ids, dtype=np.uint8)[:, None])

    def decode(self, ids):
        return [self.fields[0].token(i) for i in ids[:, 0]]


@dataclass(frozen=True, kw_only=True)
class Bases(Tokenizer[ListRecord]):
    """Letters of DNA; R is A or G, unknown; lower case weighs less; the reverse complement is exact."""

    weight: float = 0.5
    fields = (Field(name="base", tokens=tuple("ACGT")),)

    def encode(self, record):
        text = "".join(record.values)
        ids = np.array(["ACGTR".index(c) for c in text.upper()], dtype=np.uint8)[:, None]
        weights = np.where([[c.islower()] for c in text] or np.zeros((0, 1), bool), self.weight, 1.0)
        unknown = np.argwhere(ids == 4)
        allowed = np.tile([True, False, True, False], (len(unknown), 1))
        return Encoded(ids, LegalCells(unknown, allowed), weights)

    def decode(self, ids):
        return "".join("ACGTN"[i] for i in ids[:, 0])

    def splice(self, record, ids, holes):
        values = list(record.values)
        for i in np.flatnonzero(holes[:, 0]):
            letter = "ACGTR"[ids[i, 0]]
            values[i] = letter.lower() if values[i].islower() else letter
        return replace(record, values=values)


@dataclass(frozen=True, kw_only=True)
class TwoStrands(Bases):
    """Without R, whose complement Y is not in this alphabet."""

    def symmetries(self):
        def flip(record):
            return replace(record, values=["TGCAtgca"["ACGTacgt".index(c)] for c in reversed(record.values)])

        return (Symmetry(name="reverse complement", transform=flip, id_maps=((3, 2, 1, 0, 4),), reverse=True),)


@dataclass(frozen=True, kw_only=True)
class Kmers(Tokenizer[ListRecord]):
    """Overlapping words of k letters, with the units that they have."""

    k: int = 3

    @property
    def fields(self):
        return (Field(name="kmer", tokens=tuple(str(n) for n in range(4**self.k)), source="base"),)

    def encode(self, record):
        codes = np.array(["ACGT".index(c) for c in record.values], dtype=np.int64)
        words = np.lib.stride_tricks.sliding_window_view(codes, self.k)
        return Encoded((words * 4 ** np.arange(self.k)).sum(axis=1)[:, None])

    def decode(self, ids):
        return [self.fields[0].token(i) for i in ids[:, 0]]

    def units(self, ids):
        start = np.arange(len(ids))[:, None]
        return np.stack([start, start + self.k], axis=-1)

    def splice(self, record, ids, holes):
        """A base is a hole where every word over it is."""
        values = list(record.values)
        for u in range(len(values)):
            words = [i for i in range(u - self.k + 1, u + 1) if 0 <= i < len(ids)]
            if all(holes[i, 0] for i in words) and ids[words[0], 0] < 4**self.k:
                values[u] = "ACGT"[int(ids[words[0], 0]) // 4 ** (u - words[0]) % 4]
        return replace(record, values=values)


@dataclass(frozen=True, kw_only=True)
class Log(Tokenizer[ListRecord]):
    """Events (activity, time): a gap depends on two timestamps; a last position says that the case is over."""

    activities: tuple[str, ...] = ("a", "b", "c")

    @property
    def fields(self):
        return (
            Field(name="activity", tokens=self.activities, controls=(OTHER, END)),
            Field(name="gap", tokens=tuple("01234567"), controls=(ABSENT,), source="time"),
            Field(name="hour", tokens=tuple("0123"), controls=(ABSENT,), source="time"),
        )

    def encode(self, record):
        activity, gap, _ = self.fields
        ids = []
        for e, (name, time) in enumerate(record.values):
            known = activity.tokens.index(name) if name in activity.tokens else activity.control_id(OTHER)
            known = activity.mask_id if name == "?" else known
            ids.append([known, 8 if e == 0 else min(max(time - record.values[e - 1][1], 0), 7), time % 4])
        ids.append([activity.control_id(END), gap.control_id(ABSENT), 4])
        return Encoded(np.array(ids, dtype=np.uint8))

    def decode(self, ids):
        return [[field.token(i) for field, i in zip(self.fields, row, strict=True)] for row in ids]

    def units(self, ids):
        units = super().units(ids).copy()
        units[:, 1, 0] -= 1
        return units

    def splice(self, record, ids, holes):
        values = list(record.values)
        for e, (name, time) in enumerate(record.values):
            if holes[e, 0]:
                token = int(ids[e, 0])
                name = self.activities[token] if token < len(self.activities) else "?"
            if holes[e, 2]:
                gap, hour = ids[e, 1:].tolist()
                since = values[e - 1][1] + (gap if gap < 8 else 0) if e else time
                time = since + (hour - since) % 4
            values[e] = (name, time)
        return replace(record, values=values)


@dataclass(frozen=True, kw_only=True)
class Stereo(Tokenizer[ListRecord]):
    """Two channels, each with a level and a residual of one sample; swapping left and right is a symmetry."""

    fields: ClassVar[tuple[Field, ...]] = tuple(
        Field(name=f"{side} {part}", tokens=tuple(str(n) for n in range(4)), source=side)
        for side in ("left", "right")
        for part in ("level", "residual")
    )

    def encode(self, record):
        samples = np.array(record.values, dtype=np.int64).reshape(-1, 2)
        return Encoded(np.stack([samples // 4, samples % 4], axis=-1).reshape(-1, 4))

    def decode(self, ids):
        return ids.reshape(-1, 2, 2) @ np.array([4, 1])

    def splice(self, record, ids, holes):
        values = [list(pair) for pair in record.values]
        for i, side in np.argwhere(holes[:, ::2] & holes[:, 1::2]).tolist():
            values[i][side] = int(ids[i, 2 * side] * 4 + ids[i, 2 * side + 1])
        return replace(record, values=values)

    def symmetries(self):
        def swap(record):
            return replace(record, values=[[right, left] for left, right in record.values])

        same = ((0, 1, 2, 3, 4),) * 4
        return (Symmetry(name="swap", transform=swap, id_maps=same, field_order=(2, 3, 0, 1)),)


def records(of: Callable[[np.random.Generator], Any], *, n: int = 12, length: int = 60) -> list[ListRecord]:
    rng = np.random.default_rng(0)
    lengths = [*range(7, 10), *rng.integers(10, length, n)]
    return [ListRecord(key=f"r{k}", values=[of(rng) for _ in range(size)]) for k, size in enumerate(lengths)]


SKIES = records(lambda rng: str(rng.choice(["sun", "cloud", "rain"])))
LONG_SKIES = records(lambda rng: str(rng.choice(["sun", "cloud", "rain"])), n=4, length=200)
DNA = records(lambda rng: str(rng.choice(list("ACGTacgtR"))))
PLAIN_DNA = records(lambda rng: str(rng.choice(list("ACGTacgt"))))
UPPER_DNA = records(lambda rng: str(rng.choice(list("ACGT"))))
EVENTS = [
    replace(
        r,
        values=list(zip(np.array(list("abcz?"))[[v % 5 for v in r.values]], np.cumsum(r.values).tolist(), strict=True)),
    )
    for r in records(lambda rng: int(rng.integers(0, 30)))
]
SOUND = records(lambda rng: rng.integers(0, 16, 2).tolist())


@pytest.mark.parametrize(
    ("tokenizer", "data", "skipped", "round_trip"),
    [
        (Weather(), SKIES, {"symmetries", "splice"}, {}),
        (Bases(), DNA, {"symmetries"}, {"base": 1.0}),
        (TwoStrands(weight=0.25), PLAIN_DNA, set(), {"base": 1.0}),
        (Kmers(), UPPER_DNA, {"symmetries"}, {"kmer": 1.0}),
        (Stereo(), SOUND, set(), {field.name: 1.0 for field in Stereo.fields}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Tokenizer) else "",
)
def test_honest_tokenizers_pass(
    tokenizer: Tokenizer[Any], data: list[ListRecord], skipped: set[str], round_trip: dict[str, float]
) -> None:
    report = check_tokenizer(tokenizer, data)
    assert set(report.skipped) == {"variants", "augmentations", *skipped}
    assert report.n_records == len(data)
    assert report.n_cells == sum(tokenizer.encode(record).ids.size for record in data)
    assert report.round_trip == round_trip
    assert {"JSON", "encode", "determinism", "decode", "units", "legal", "no leak"} <= set(report.checked)
    assert not set(report.checked) & skipped


def test_an_event_log_passes_though_gap_and_hour_may_contradict_each_other() -> None:
    report = check_tokenizer(Log(), EVENTS)
    assert report.round_trip["activity"] == 1.0
    assert report.round_trip["hour"] == 1.0
    assert 0.5 < report.round_trip["gap"] < 1.0


def test_the_share_that_hiding_one_unit_hides_is_reported() -> None:
    """A word of 3 letters hides with each of its letters; an average over units that can be counted by hand."""
    plain = check_tokenizer(Weather(), [replace(SKIES[0], values=SKIES[0].values[:7])])
    assert plain.hidden_by_one_unit == {"sky": pytest.approx(1 / 7)}
    words = check_tokenizer(Kmers(), [replace(UPPER_DNA[0], values=UPPER_DNA[0].values[:7])])
    assert words.hidden_by_one_unit == {"base": pytest.approx((1 + 2 + 3 + 3 + 3 + 2 + 1) / 7 / 5)}


def test_units_that_ids_do_not_tell_come_with_the_ids() -> None:
    report = check_tokenizer(Letters(given=True), WORDS)
    assert "record units" in report.checked
    assert report.hidden_by_one_unit["word"] == pytest.approx(
        sum(13 * n for n in range(1, 30)) / sum(13 * n * 4 * n for n in range(1, 30))
    )


# --- broken tokenizers ----------------------------------------------------------------------------------------------


def weather(**methods: Any) -> Tokenizer[Any]:
    return type("Broken", (Weather,), methods)()


def bases(**methods: Any) -> Tokenizer[Any]:
    return type("Broken", (Bases,), methods)()


def log(**methods: Any) -> Tokenizer[Any]:
    return type("Broken", (Log,), methods)()


def encoding(change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Encoded]:
    return lambda self, record: Encoded(change(Weather.encode(self, record).ids))


def weighing(weights: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Encoded]:
    def encode(self, record):
        ids = Weather.encode(self, record).ids
        return Encoded(ids, weights=weights(ids))

    return encode


def narrowing(legal: Callable[[np.ndarray], LegalCells]) -> Callable[..., Encoded]:
    def encode(self, record):
        ids = Weather.encode(self, record).ids
        return Encoded(ids, legal(ids))

    return encode


def symmetric(**changes: Any) -> Tokenizer[Any]:
    def symmetries(self):
        return (replace(TwoStrands.symmetries(self)[0], **changes),)

    return type("Broken", (TwoStrands,), {"symmetries": symmetries})()


def kmers(**methods: Any) -> Tokenizer[Any]:
    return type("Broken", (Kmers,), methods)()


def encode_by_chance(self: Any, record: ListRecord) -> Encoded:
    return Encoded(CHANCE.integers(0, 3, (len(record), 1)))


CHANCE = np.random.default_rng(0)


@dataclass(frozen=True, kw_only=True)
class Fitted(Weather):
    """What it learnt is not in its dataclass fields."""

    shift = 0

    @classmethod
    def fit(cls, records):
        tokenizer = cls()
        object.__setattr__(tokenizer, "shift", 1)
        return tokenizer

    def encode(self, record):
        return Encoded((Weather.encode(self, record).ids + self.shift) % 3)


@dataclass(frozen=True, kw_only=True)
class Scaled(Tokenizer[ListRecord]):
    """Signals centred on the mean of the window that is seen: each cell tells of all samples."""

    fields = (Field(name="x", tokens=tuple(str(n) for n in range(33))),)

    def encode(self, record):
        x = np.array(record.values, dtype=float)[:, 0]
        return Encoded(np.clip(np.round(x - x.mean()) + 16, 0, 32).astype(np.uint8)[:, None])

    def decode(self, ids):
        return ids - 16


@dataclass(frozen=True, kw_only=True)
class Runs(Weather):
    """One token for each run of equal values: how many there are depends on what they are."""

    def encode(self, record):
        ids = Weather.encode(self, record).ids
        return Encoded(ids[np.concatenate([[True], np.diff(ids[:, 0]) != 0])])


@dataclass(frozen=True, kw_only=True)
class Text(ListRecord):
    """Words; its raw units are their letters."""

    def __len__(self):
        return sum(map(len, self.values))

    def cut(self, start, stop):
        return Text(key=self.key, values=["".join(self.values)[start:stop]])


@dataclass(frozen=True, kw_only=True)
class Letters(Tokenizer[Text]):
    """Words of a list, and one token for all others: how many letters those have, the id does not tell."""

    given: bool = False
    """Whether `encode` tells the units."""
    fields = (Field(name="word", tokens=("a", "be", "sea"), controls=(OTHER,)),)
    boundaries_depend_on_data = True

    def encode(self, record):
        ids = [self.fields[0].tokens.index(w) if w in self.fields[0].tokens else 3 for w in record.values]
        stops = np.cumsum([len(word) for word in record.values], dtype=np.int64)
        units = np.stack([np.concatenate([[0], stops[:-1]]), stops], axis=-1)[:, None]
        return Encoded(np.array(ids, dtype=np.uint8)[:, None], units=units if self.given else None)

    def decode(self, ids):
        return [self.fields[0].token(i) for i in ids[:, 0]]

    def units(self, ids):
        stops = np.cumsum(np.array([1, 2, 3, 1, 1])[ids[:, 0]])
        return np.stack([stops - np.array([1, 2, 3, 1, 1])[ids[:, 0]], stops], axis=-1)[:, None]


WORDS = [Text(key=f"t{n}", values=["a", "sea", "unknown", "be"] * n) for n in range(1, 30)]


@dataclass(frozen=True, kw_only=True)
class Halved(ListRecord):
    def cut(self, start, stop):
        return replace(self, values=self.values[start // 2 : stop // 2])


HALVED = [Halved(key=record.key, values=record.values) for record in SKIES]


def allowed_all_but_truth(ids: np.ndarray) -> LegalCells:
    cells = np.argwhere(np.ones_like(ids, dtype=bool))
    return LegalCells(cells, np.arange(3) != ids)


def no_rain(self: Any, ids: np.ndarray) -> LegalCells:
    cells = np.argwhere(ids == 3)
    return LegalCells(cells, np.tile([True, True, False], (len(cells), 1)))


def plain_units(self: Any, ids: np.ndarray) -> np.ndarray:
    return Tokenizer.units(self, ids)


def first_base_only(self: Any, ids: np.ndarray) -> np.ndarray:
    """Each word is said to depend on its first base alone, the last one on all of its bases."""
    units = Tokenizer.units(self, ids).copy()
    units[-1:, :, 1] += self.k - 1
    return units


def greedy_splice(self: Any, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
    """Writes all letters of every word that is a hole."""
    values = list(record.values)
    for i in np.flatnonzero(holes[:, 0]):
        for j in range(self.k):
            values[i + j] = "ACGT"[int(ids[i, 0]) // 4**j % 4]
    return replace(record, values=values)


def splice_next(self: Any, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
    return Bases.splice(self, record, (ids + 1) % 4, holes)


def splice_all(self: Any, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
    return Bases.splice(self, record, ids[::-1], np.full_like(holes, holes.any()))


def splice_upper(self: Any, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
    return Bases.splice(self, replace(record, values=[v.upper() for v in record.values]), ids, holes)


def paired_units(self: Any, ids: np.ndarray) -> np.ndarray:
    """The last two cells share a unit, whatever the window."""
    units = Tokenizer.units(self, ids).copy()
    units[-2:] = units[-2:].min(), units[-2:].max()
    return units


def decode_domain(self: Any, ids: np.ndarray) -> list[str]:
    return [self.fields[0].tokens[i] for i in ids[:, 0]]


def first_twice(ids: np.ndarray) -> LegalCells:
    return LegalCells(np.zeros((2, 2), dtype=int), np.ones((2, 3), dtype=bool))


def nothing(ids: np.ndarray) -> LegalCells:
    return LegalCells(np.array([[1, 0]]), np.zeros((1, 3), dtype=bool))


def too_narrow(ids: np.ndarray) -> LegalCells:
    return LegalCells(np.array([[1, 0]]), np.ones((1, 2), dtype=bool))


def first_sun(self: Any, ids: np.ndarray) -> np.ndarray:
    ids[-1] = (ids[-1] + 1) % 3
    return ids


def drop_first(record: ListRecord) -> ListRecord:
    return replace(record, values=record.values[1:])


def ids_only(self: Any, record: ListRecord) -> Any:
    return [0] * len(record)


def splice_nothing(self: Any, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
    return record


BROKEN: dict[str, tuple[Tokenizer[Any], list[ListRecord], str, str]] = {
    "id out of range": (weather(encode=encoding(lambda ids: ids + 2)), SKIES, "encode", "out of range"),
    "no Encoded": (weather(encode=ids_only), SKIES, "encode", "a list"),
    "two columns": (weather(encode=encoding(lambda ids: np.repeat(ids, 2, axis=1))), SKIES, "encode", "a column for"),
    "negative weight": (weather(encode=weighing(lambda ids: -1.0 * ids)), SKIES, "encode", "negative"),
    "weight NaN": (weather(encode=weighing(lambda ids: np.full(ids.shape, np.nan))), SKIES, "encode", "finite"),
    "integer weights": (weather(encode=weighing(np.ones_like)), SKIES, "encode", "return floats"),
    "raises": (weather(encode=lambda self, record: 1 / 0), SKIES, "encode", "ZeroDivisionError"),
    "chance": (weather(encode=encode_by_chance), SKIES, "determinism", "asked again"),
    "hidden state": (Fitted.fit(SKIES), SKIES, "determinism", "rebuilt from JSON"),
    "decode without [MASK]": (weather(decode=decode_domain), SKIES, "decode", "IndexError"),
    "decode of nothing": (weather(decode=lambda self, ids: ids[0]), SKIES, "decode", "IndexError"),
    "empty units": (weather(units=lambda self, ids: 0 * plain_units(self, ids)), SKIES, "units", "no unit"),
    "flat units": (weather(units=lambda self, ids: np.zeros(ids.shape, int)), SKIES, "units", "shape"),
    "units of the window": (weather(units=paired_units), LONG_SKIES, "units", "when seen alone"),
    "legal without truth": (weather(encode=narrowing(allowed_all_but_truth)), SKIES, "legal", "excludes the id"),
    "legal twice": (weather(encode=narrowing(first_twice)), SKIES, "legal", "repeated"),
    "legal nothing": (weather(encode=narrowing(nothing)), SKIES, "legal", "no id at all"),
    "legal too narrow": (weather(encode=narrowing(too_narrow)), SKIES, "legal", "shape"),
    "grammar without truth": (weather(allowed=no_rain), SKIES, "legal", "allowed excludes"),
    "closed writes in place": (weather(closed=first_sun), SKIES, "closed", "writes into"),
    "closed shortens": (weather(closed=lambda self, ids: ids[:-1]), SKIES, "closed", "more than the last"),
    "closed stays open": (log(closed=lambda self, ids: ids), EVENTS, "closed", "do not end with [END]"),
    "no permutation": (symmetric(id_maps=((3, 2, 1, 1, 4),)), PLAIN_DNA, "symmetries", "permutations"),
    "moves [MASK]": (symmetric(id_maps=((4, 3, 2, 1, 0),)), PLAIN_DNA, "symmetries", "move [MASK]"),
    "no involution of ids": (symmetric(id_maps=((1, 2, 3, 0, 4),)), PLAIN_DNA, "symmetries", "ids differ"),
    "no involution": (symmetric(transform=drop_first), PLAIN_DNA, "symmetries", "twice: the record"),
    "not the complement": (symmetric(id_maps=((1, 0, 3, 2, 4),)), PLAIN_DNA, "symmetries", "encode(g(record))"),
    "not reversed": (symmetric(reverse=False), PLAIN_DNA, "symmetries", "encode(g(record))"),
    "splice touches the rest": (bases(splice=splice_upper), DNA, "splice", "without holes"),
    "splice writes visible cells": (bases(splice=splice_all), DNA, "splice", "a visible cell changes"),
    "splice is one off": (bases(splice=splice_next), DNA, "splice", "come back"),
    "splice writes nothing": (bases(splice=splice_nothing), DNA, "no leak", "not one of"),
    "DNABERT": (kmers(units=plain_units), UPPER_DNA, "no leak", "visible cell"),
    "greedy splice": (kmers(splice=greedy_splice), UPPER_DNA, "no leak", "visible cell"),
    "window-dependent scale": (Scaled(), SOUND, "no leak", "visible cell"),
    "length of another kind": (Letters(), WORDS, "record units", "no cell depends on unit"),
    "cut of another kind": (weather(), HALVED, "record units", "cut("),
    "lengths depend on the data": (Runs(), SKIES, "no leak", "boundaries_depend_on_data"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_broken_rule_is_named(name: str) -> None:
    tokenizer, data, rule, message = BROKEN[name]
    with pytest.raises(ContractViolation) as raised:
        check_tokenizer(tokenizer, data)
    assert (raised.value.rule, message in str(raised.value)) == (rule, True), str(raised.value)


def test_a_violation_tells_rule_record_place_and_remedy() -> None:
    with pytest.raises(ContractViolation) as raised:
        check_tokenizer(kmers(units=plain_units), UPPER_DNA)
    text = str(raised.value)
    for part in ("Broken", "record 'r", "position ", "field 'kmer'", "rule 'no leak'", "[", "hint: units must cover"):
        assert part in text
    assert isinstance(raised.value, AssertionError)
    assert isinstance(raised.value, MaskseqError)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_state_that_does_not_survive_json_is_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Lossy(Weather):
        edges: tuple[int, ...] = (1.5,)  # type: ignore[assignment]

    with pytest.raises(ContractViolation, match=r"Lossy breaks the rule 'JSON'.* option edges"):
        check_tokenizer(Lossy(), SKIES)


def test_no_records_is_the_callers_fault() -> None:
    with pytest.raises(UsageError, match="at least one record"):
        check_tokenizer(Weather(), [])


def test_a_leak_shows_through_splice_alone() -> None:
    """Where `splice` writes a base only if all words over it are holes, too small units leave nothing to write."""

    @dataclass(frozen=True, kw_only=True)
    class Contig(Record):
        values: list[str]

        def __len__(self):
            return len(self.values)

    contigs = [Contig(key=record.key, values=list(record.values)) for record in UPPER_DNA]
    assert "no leak" in check_tokenizer(Kmers(), contigs).checked  # type: ignore[arg-type]
    with pytest.raises(ContractViolation, match=r"not one of .* 'base'") as raised:
        check_tokenizer(kmers(units=first_base_only), [contig for contig in contigs if len(contig) > 20])
    assert raised.value.rule == "no leak"


# --- soundness and completeness over random tokenizers --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Hashing(Tokenizer[ListRecord]):
    """Each field hashes a few neighbouring values; its units may leave some of them out."""

    shapes: tuple[tuple[str, int, int], ...]
    """Of each field: source, first value relative to the position, number of values."""
    forgotten: tuple[int, ...] = ()
    """Fields whose units leave out their last value."""

    @property
    def fields(self):
        return tuple(Field(name=f"f{n}", tokens=tuple("01234567"), source=s) for n, (s, _, _) in enumerate(self.shapes))

    def encode(self, record):
        values = np.array(record.values, dtype=np.uint64).reshape(-1, 3) + np.uint64(1)
        columns = []
        for f, (source, offset, width) in enumerate(self.shapes):
            padded = np.zeros(len(values) + 16, dtype=np.uint64)  # beyond the ends there is nothing
            padded[8:-8] = values[:, "abc".index(source)]
            hashed = np.full(len(values), f, dtype=np.uint64)
            for u in range(8 + offset, 8 + offset + width):
                hashed = (hashed ^ padded[u : u + len(values)]) * np.uint64(0x9E3779B97F4A7C15)
                hashed ^= hashed >> np.uint64(29)
            columns.append(hashed >> np.uint64(61))
        return Encoded(np.stack(columns, axis=1).astype(np.uint8))

    def decode(self, ids):
        return ids.tolist()

    def units(self, ids):
        i = np.arange(len(ids))
        columns = [
            np.stack([i + offset, i + offset + width - (f in self.forgotten)], axis=1)
            for f, (_, offset, width) in enumerate(self.shapes)
        ]
        return np.stack(columns, axis=1)


SHAPE = st.tuples(st.sampled_from("abc"), st.integers(-3, 0), st.integers(2, 4))
SHAPES = st.lists(SHAPE.filter(lambda shape: shape[1] + shape[2] >= 2), min_size=1, max_size=4)  # own value, not last
VALUES = records(lambda rng: tuple(rng.integers(0, 100, 3).tolist()), n=4, length=40)


@settings(max_examples=25, deadline=None)
@given(shapes=SHAPES, data=st.data())
def test_honest_units_pass_and_units_that_leave_a_value_out_do_not(shapes: list[Any], data: st.DataObject) -> None:
    check_honest_and_forgetful(shapes, data.draw(st.integers(0, len(shapes) - 1)))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=2_000, deadline=None)
@given(shapes=SHAPES, data=st.data())
def test_honest_units_pass_and_others_do_not_soak(shapes: list[Any], data: st.DataObject) -> None:
    check_honest_and_forgetful(shapes, data.draw(st.integers(0, len(shapes) - 1)))


def check_honest_and_forgetful(shapes: list[Any], forgotten: int) -> None:
    check_tokenizer(Hashing(shapes=tuple(shapes)), VALUES)
    with pytest.raises(ContractViolation) as raised:
        check_tokenizer(Hashing(shapes=tuple(shapes), forgotten=(forgotten,)), VALUES)
    assert raised.value.rule == "no leak"


def test_a_vocabulary_in_the_order_of_a_set_is_found_by_another_process() -> None:
    records = [ListRecord(key="r", values=["sun", "rain", "cloud"])]
    with pytest.raises(ContractViolation) as broken:
        check_tokenizer(Hashed(), records)
    assert broken.value.rule == "another process"
    assert "'sky'" in str(broken.value)
    assert "set" in broken.value.hint
    assert "another process" in check_tokenizer(Weather(), records).checked


def test_a_class_that_no_other_process_can_import_is_left_out_and_said() -> None:
    class Local(Weather):
        pass

    report = check_tokenizer(Local(), [ListRecord(key="r", values=["sun", "rain", "cloud"])])
    assert "another process" not in report.checked
    assert "imported" in report.skipped["another process"]
