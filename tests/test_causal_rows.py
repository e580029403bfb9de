"""Where causal segments begin, which fields they cannot be of, and what the likelihood by prefixes asks for."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from untrained import untrained

from maskseq.apps.exact import exact_scores_of
from maskseq.apps.prepare import prepare_corpus
from maskseq.corpus.build import build_from_records
from maskseq.corpus.splits import SplitConfig
from maskseq.errors import UsageError
from maskseq.masking.config import MaskingConfig
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq.recipe import load_recipe
from maskseq.scoring.exact import BATCH, exact_by_prefixes
from maskseq.tokenizer import Tokenizer
from maskseq.types import ABSENT, Encoded, Field, ListRecord
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence

TELLING = 9
"""Bases, from which on a piece is found in its sequence in one place."""


def test_a_piece_that_is_read_backwards_begins_at_the_other_end(tmp_path: Path) -> None:
    tokenizer, rng = NucleotideTokenizer(), np.random.default_rng(0)
    records = [Sequence(key=f"s{i}", residues=bytes(rng.choice(list(b"ACGT"), 75).tolist())) for i in range(8)]
    split = SplitConfig(by="record", selection=0.2, duplicates="ignore")
    corpus = build_from_records(records, output=tmp_path / "c", tokenizer=tokenizer, split=split)
    (symmetry,) = tokenizer.symmetries()
    config = PackingConfig(row_tokens=64, context=16)
    rows, seen = PackedRows(corpus, config=config, masking=MaskingConfig(causal=1.0), seed=3), set()
    for number in range(4 * rows.n_rows()):
        row = rows.row(number)
        for piece, (start, stop) in enumerate(pairwise(row.cu_seqlens.tolist())):
            if row.sequence[piece] < 0 or stop - start < TELLING:
                continue
            ids = row.targets[start:stop]
            forward = corpus.read(int(row.sequence[piece])).ids
            found = [
                (way, i)
                for way, whole in (("forward", forward), ("backward", symmetry.ids(forward)))
                for i in range(len(whole) - len(ids) + 1)
                if np.array_equal(whole[i : i + len(ids)], ids)
            ]
            ((way, at),) = found
            assert (row.weights[start] > 0).all() == (at == 0)
            assert (row.weights[start + 1 : stop] > 0).all()
            seen.add((way, at == 0))
    assert len(seen) == 4


@dataclass(frozen=True, kw_only=True)
class Ahead(Tokenizer[ListRecord]):
    """Letters, each beside the one that follows."""

    fields = (
        Field(name="now", tokens=("a", "b"), source="letter"),
        Field(name="ahead", tokens=("a", "b"), controls=(ABSENT,), source="letter"),
    )

    def encode(self, record: ListRecord) -> Encoded:
        now = np.array([int(value == "b") for value in record.values], np.uint8)
        return Encoded(np.stack([now, np.append(now[1:], 2)], axis=1))

    def units(self, ids: np.ndarray) -> np.ndarray:
        place = np.arange(len(ids))
        stop = np.stack([place + 1, np.minimum(place + 2, len(ids))], axis=1)
        return np.stack([np.stack([place, place], axis=1), stop], axis=-1)

    def decode(self, ids: np.ndarray) -> Any:
        return ids[:, 0].tolist()


RECORDS = [ListRecord(key=f"r{i}", values=list("abbab" * 3)) for i in range(12)]


def test_a_field_that_tells_of_what_follows_is_refused_before_a_corpus_is_built(tmp_path: Path) -> None:
    recipe = {
        "data": {"split": {"by": "record", "selection": 0.2, "duplicates": "ignore"}},
        "tokenizer": {"name": "unused"},
        "packing": {"row_tokens": 64, "context": 16},
    }
    short = ListRecord(key="short", values=["a"])  # of which nothing can be seen
    for share in (0.5, 0.0):
        made = load_recipe({**recipe, "masking": {"causal": share}})
        given: dict[str, Any] = {"default": tmp_path / "c", "tokenizer": Ahead(), "records": [short, *RECORDS]}
        if share:
            with pytest.raises(UsageError, match="'ahead'") as raised:
                prepare_corpus(made, **given)
            assert "masking.causal" in str(raised.value)
            assert not (tmp_path / "c").exists()
        else:
            assert len(prepare_corpus(made, **given).lengths) == len(RECORDS) + 1


def test_the_likelihood_of_such_fields_is_refused_in_its_own_words() -> None:
    records = [("x", Ahead().encode(RECORDS[0]))]
    with pytest.raises(UsageError, match="ahead") as raised:
        list(exact_by_prefixes(no_answer, records, tokenizer=Ahead(), context=16))
    assert "--exact" in str(raised.value)
    assert "masking" not in str(raised.value)


def test_without_a_trained_encoder_the_likelihood_is_refused_for_that(tmp_path: Path) -> None:
    run = untrained(NucleotideTokenizer(), tmp_path / "run")
    records = [Sequence(key="x", residues=b"ACGT")]
    assert len(list(exact_scores_of(run, records))) == 1
    run.experts.stored = SimpleNamespace(experts=("tables",))  # type: ignore[assignment]
    with pytest.raises(UsageError, match="encoder") as raised:
        exact_scores_of(run, records)
    assert "end" not in str(raised.value).split()
    assert "packing.open" not in str(raised.value)


def no_answer(examples: Any, cells: Any) -> Any:
    raise NotImplementedError


def test_prefixes_are_asked_within_a_budget() -> None:
    tokenizer = NucleotideTokenizer()
    (ids,) = [tokenizer.encode(Sequence(key="x", residues=b"ACGTTGCA" * 80))]
    together: list[int] = []

    def uniform(examples: Any, cells: Any) -> Any:
        together.append(sum(len(each.ids) for each in examples))
        return [np.full((len(each), 4), -np.log(4), np.float32) for each in cells]

    (found,) = exact_by_prefixes(uniform, [("x", ids)], tokenizer=tokenizer, context=128)
    assert max(together) <= BATCH < sum(together)
    assert np.allclose(found.bits, 2)
