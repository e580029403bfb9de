"""Raw units that come with the ids reach masks, ranges, scores and tables, through a corpus as well as directly."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import maskseq
from maskseq.corpus.build import build_from_records
from maskseq.errors import PluginError
from maskseq.infill.ranges import masked_cells
from maskseq.masking.config import MaskingConfig
from maskseq.masking.units import unit_blocks
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq.tokenizer import Symmetry, Tokenizer
from maskseq.types import OTHER, Encoded, Field, ListRecord


@dataclass(frozen=True, kw_only=True)
class Text(ListRecord):
    """Words; its raw units are their letters."""

    def __len__(self):
        return sum(map(len, self.values))


@dataclass(frozen=True, kw_only=True)
class Words(Tokenizer[Text]):
    """Words of a list, and one token for all others: how many letters those have, the id does not tell."""

    fields = (Field(name="word", tokens=("a", "be", "sea"), controls=(OTHER,)),)

    def encode(self, record):
        field = self.fields[0]
        ids = [
            field.tokens.index(w) if w in field.tokens else field.mask_id if "?" in w else field.control_id(OTHER)
            for w in record.values
        ]
        return Encoded(np.array(ids, dtype=np.uint8)[:, None], units=letters(record))

    def decode(self, ids):
        return [self.fields[0].token(i) for i in ids[:, 0]]

    def splice(self, record, ids, holes):
        new = [
            old if not hole else self.fields[0].token(i)
            for old, i, hole in zip(record.values, ids[:, 0], holes[:, 0], strict=True)
        ]
        return replace(record, values=new)


def letters(record: Text) -> np.ndarray:
    stops = np.cumsum([len(word) for word in record.values], dtype=np.int64)
    return np.stack([stops - [len(word) for word in record.values], stops], axis=-1)[:, None]


def texts(n: int, rng: np.random.Generator) -> list[Text]:
    some = ["a", "be", "sea", "unknown", "xy", "q" * 40]
    return [
        Text(key=f"t{k}", values=[some[i] for i in rng.integers(len(some), size=int(rng.integers(3, 40)))])
        for k in range(n)
    ]


TEXTS = texts(60, np.random.default_rng(0))


def test_a_corpus_keeps_them_and_rows_are_masked_by_them(tmp_path: Path) -> None:
    corpus = build_from_records(TEXTS, output=tmp_path / "c", tokenizer=Words())
    for index, encoded in corpus.each("train"):
        record = TEXTS[int(corpus.key(index)[1:])]
        assert np.array_equal(encoded.units, letters(record))
        part = corpus.read(index, 1, 3)
        assert np.array_equal(part.units, letters(record)[1:3])
    masking = MaskingConfig(ratio=0.2)
    rows = PackedRows(corpus, config=PackingConfig(row_tokens=256, context=64), masking=masking, seed=3)
    masked = [rows.row(n).weights[: rows.row(n).n_tokens, 0] > 0 for n in range(4)]
    ids = [rows.row(n).targets[: rows.row(n).n_tokens, 0] for n in range(4)]
    masked, ids = np.concatenate(masked), np.concatenate(ids)
    by_word = [masked[ids == word].mean() for word in range(4)]
    assert by_word[0] < by_word[2] < by_word[3]  # a word of many letters is hidden whenever one of them is


def test_they_are_asked_about_in_letters() -> None:
    record = Text(key="t", values=["a", "unknown", "be", "q" * 40, "sea"])
    encoded = Words().encode(record)
    for unit, word in enumerate(np.repeat(np.arange(5), [len(w) for w in record.values]).tolist()):
        (cell,) = np.argwhere(masked_cells(Words(), encoded, record, [(unit, unit + 1)]))
        assert cell.tolist() == [word, 0]
    ((start, units),) = unit_blocks(Words(), encoded.cut(1, 3))
    assert start == 0
    assert units[:, 0].tolist() == [[1, 8], [8, 10]]


def test_a_symmetry_moves_them() -> None:
    record = Text(key="t", values=["a", "unknown", "be"])
    encoded = Words().encode(record)
    flip = Symmetry(
        name="flip", transform=lambda r: replace(r, values=r.values[::-1]), id_maps=(tuple(range(5)),), reverse=True
    )
    assert np.array_equal(flip.encoded(encoded).units, letters(flip.transform(record)))


def test_a_run_fills_what_is_asked_for_in_letters(tmp_path: Path) -> None:
    recipe = {
        "blend": False,
        "data": {},
        "tokenizer": {},
        "model": {"preset": "nano", "n_layers": 1},
        "packing": {"row_tokens": 256, "context": 64},
        "training": {"tokens": 2_000, "rows": 1},
    }
    run = maskseq.pretrain(recipe, output=tmp_path / "run", tokenizer=Words(), records=TEXTS)
    record = Text(key="t", values=["a", "unknown", "be", "sea"])
    (filled,) = run.infill(
        [record], ranges={"t": [(4, 9)]}
    )  # inside the second word, and the first letter of the third
    assert filled.filled.fill.cells.tolist() == [[1, 0], [2, 0]]
    assert [w for w in filled.record.values if w not in ("a", "be", "sea")] == []
    (score,) = run.score([record])
    assert np.isfinite(score.bits).all()


def test_units_for_some_records_only_are_refused(tmp_path: Path) -> None:
    class Some(Words):
        def encode(self, record):
            encoded = super().encode(record)
            return encoded if record.key == "t0" else replace(encoded, units=None)

    with pytest.raises(PluginError, match="units"):
        build_from_records(TEXTS, output=tmp_path / "c", tokenizer=Some())
