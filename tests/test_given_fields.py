"""Given fields are context wherever cells are hidden, asked about or filled; without them, nothing is otherwise."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from small_run import Letters

from maskseq.contract.fence import encode
from maskseq.corpus.build import build_from_records
from maskseq.errors import PluginError, UsageError
from maskseq.evaluation.holdout import mask_spans
from maskseq.evaluation.protocols import Protocol
from maskseq.infill.ranges import field_cells, masked_cells
from maskseq.masking.config import MaskingConfig, Spans
from maskseq.masking.plan import mask_segment
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq.scoring.score import score_records
from maskseq.testing import ContractViolation, check_tokenizer
from maskseq.tokenizer import Tokenizer
from maskseq.types import OTHER, Encoded, Field, ListRecord, Vocabulary


@dataclass(frozen=True, kw_only=True)
class Plays(Tokenizer[ListRecord]):
    """Moves of a game whose mode is known all along."""

    fields: ClassVar[tuple[Field, ...]] = (
        Field(name="move", tokens=("a", "b", "c")),
        Field(name="mode", tokens=("day", "night"), controls=(OTHER,), given=True),
        Field(name="size", tokens=("0", "1", "2", "3")),
    )

    def encode(self, record: ListRecord) -> Encoded:
        ids = [[self._id(*cell) for cell in zip(self.fields, row, strict=True)] for row in record.values]
        return Encoded(np.array(ids, dtype=np.uint8).reshape(-1, 3))

    def _id(self, field: Field, value: str) -> int:
        return field.tokens.index(value) if value in field.tokens else self._unlisted(field)

    def _unlisted(self, field: Field) -> int:
        return field.control_id(OTHER) if field.given else field.mask_id

    def decode(self, ids: np.ndarray) -> list[list[str]]:
        return [[field.token(i) for field, i in zip(self.fields, row, strict=True)] for row in ids]

    def splice(self, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
        values = [list(row) for row in record.values]
        for position, column in np.argwhere(holes):
            values[position][column] = self.fields[column].token(ids[position, column])
        return replace(record, values=values)


@dataclass(frozen=True, kw_only=True)
class Holes(Plays):
    """Breaks the rule: what nobody knows of a given field is `[MASK]`."""

    def _unlisted(self, field: Field) -> int:
        return field.mask_id


@dataclass(frozen=True, kw_only=True)
class Shared(Plays):
    """Breaks the rule: the given field is computed from what may be hidden."""

    fields: ClassVar[tuple[Field, ...]] = (
        Plays.fields[0],
        replace(Plays.fields[1], source="move"),
        Plays.fields[2],
    )


GIVEN = 1


def game(n: int, rng: np.random.Generator, *, key: str = "game") -> ListRecord:
    mode = ("day", "night", "dusk")[int(rng.integers(3))]
    return ListRecord(key=key, values=[[rng.choice(list("abc")), mode, rng.choice(list("0123"))] for _ in range(n)])


def games(n: int) -> list[ListRecord]:
    rng = np.random.default_rng(1)
    return [game(int(rng.integers(20, 60)), rng, key=str(i)) for i in range(n)]


@pytest.mark.parametrize("mode", ["cell", "position", "field", "tail"])
@pytest.mark.parametrize("objective", ["tokens", "spans", "infill"])
def test_no_mask_hides_a_given_cell(mode: str, objective: str) -> None:
    rng = np.random.default_rng(0)
    weights = {name: float(name == objective) for name in ("tokens", "spans", "infill")}
    default = MaskingConfig()
    config = MaskingConfig(
        ratio=(0.2, 0.9),
        mode=mode,
        tokens=replace(default.tokens, weight=weights["tokens"]),
        spans=Spans(weight=weights["spans"]),
        infill=replace(default.infill, weight=weights["infill"]),
    )
    tokenizer = Plays()
    for record in games(20):
        ids = tokenizer.encode(record).ids
        scorable = tokenizer.vocabulary.askable(ids)
        mask = mask_segment(ids, tokenizer.units(ids), scorable, tokenizer.fields, config, rng=rng)
        assert mask.masked.any()
        assert not mask.masked[:, GIVEN].any()
        np.testing.assert_array_equal(mask.inputs[:, GIVEN], ids[:, GIVEN])


def test_training_rows_show_given_cells_and_never_weigh_them(tmp_path: Path) -> None:
    corpus = build_from_records(games(30), output=tmp_path / "corpus", tokenizer=Plays())
    rows = PackedRows(
        corpus,
        config=PackingConfig(row_tokens=128, context=128),
        masking=MaskingConfig(mode="position", ratio=0.5),
        seed=0,
    )
    weights = [0.0, 0.0, 0.0]
    for row in map(rows.row, range(8)):
        np.testing.assert_array_equal(row.inputs[:, GIVEN], row.targets[:, GIVEN])
        weights = [a + b for a, b in zip(weights, row.weights.sum(axis=0).tolist(), strict=True)]
    assert weights[0] > 0
    assert weights[GIVEN] == 0
    assert weights[2] > 0


@pytest.mark.parametrize(
    "protocol", ["masked", "isolated", "event", "gap-3", "gaps-2", "block-3", "field-3", "point-30"]
)
def test_no_protocol_asks_for_a_given_cell(protocol: str) -> None:
    tokenizer = Plays()
    encoded = [(record.key, tokenizer.encode(record)) for record in games(5)]
    masked_examples = list(Protocol.parse(protocol, MaskingConfig()).examples(encoded, tokenizer, context=64))
    assert masked_examples
    for masked_example in masked_examples:
        assert not masked_example.masked[:, GIVEN].any()
        assert GIVEN not in masked_example.cells[:, 1]


def test_spans_over_all_fields_pass_given_cells_over() -> None:
    tokenizer = Plays()
    rng = np.random.default_rng(0)
    both = 0
    for record in games(20):
        masked = mask_spans(tokenizer.encode(record), tokenizer, rng, lengths=(1, 2, 4), share=0.3)
        assert not masked[:, GIVEN].any()
        both += int(masked[:, [0, 2]].all(axis=1).sum())
    assert both > 0


def test_score_says_nothing_of_given_cells() -> None:
    tokenizer = Plays()
    encoded = [(record.key, tokenizer.encode(record)) for record in games(2)]

    def predict(examples, cells):
        for example, of in zip(examples, cells, strict=True):
            assert (example.ids[:, GIVEN] < 3).all()
            assert GIVEN not in of[:, 1]
        return [np.full((len(of), 4), np.log(0.25)) for of in cells]

    for score in score_records(predict, encoded, tokenizer=tokenizer, context=64, stride=4):
        assert np.isnan(score.bits[:, GIVEN]).all()
        assert (score.bits[:, [0, 2]] == 2).all()


def test_ranges_of_users_hide_the_other_fields_only() -> None:
    tokenizer = Plays()
    record = games(1)[0]
    encoded = tokenizer.encode(record)
    masked = masked_cells(tokenizer, encoded, record, [(2, 5)])
    assert masked[2:5, [0, 2]].all()
    assert masked.sum() == 6
    with pytest.raises(UsageError, match="mode"):
        field_cells(tokenizer, encoded, len(record), ["mode"])


def test_the_check_accepts_given_fields_and_refuses_broken_ones() -> None:
    check_tokenizer(Plays(), games(4))
    with pytest.raises(ContractViolation) as found:
        check_tokenizer(Shared(), games(4))
    assert "move" in str(found.value)
    with pytest.raises(ContractViolation) as found:
        check_tokenizer(Holes(), games(8))
    assert found.value.rule == "encode"


def test_an_unknown_given_value_needs_an_id_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    record = ListRecord(key="odd", values=[[rng.choice(list("abc")), "dusk", "1"] for _ in range(5)])
    assert (encode(Plays(), record).ids[:, GIVEN] == 2).all()
    with pytest.raises(PluginError, match="mode"):
        encode(Holes(), record)
    with pytest.raises(PluginError, match="mode"):
        build_from_records([record], output=tmp_path / "corpus", tokenizer=Holes())


def test_without_given_fields_nothing_is_otherwise() -> None:
    """What a vocabulary is saved as, and the fingerprint of a tokenizer, are those of before."""
    from pydantic import TypeAdapter

    saved = TypeAdapter(Vocabulary).dump_python(Letters().vocabulary, mode="json")
    assert "given" not in saved
    assert TypeAdapter(Vocabulary).dump_python(Plays().vocabulary, mode="json")["given"] == [1]
    assert TypeAdapter(Vocabulary).validate_python(saved) == Letters().vocabulary

    @dataclass(frozen=True, kw_only=True)
    class Open(Plays):
        fields: ClassVar[tuple[Field, ...]] = tuple(replace(each, given=False) for each in Plays.fields)

    Open.__qualname__, Open.__module__ = Plays.__qualname__, Plays.__module__
    assert Open().fingerprint != Plays().fingerprint
