"""Byte-pair encoding of DNA: words of a vocabulary trained on the user's own genome (as in DNABERT-2 and GENA-LM)."""

import json
import re
from collections import abc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
import tokenizers  # Hugging Face's
from jaxtyping import Bool, Int, Integer, UInt8
from tokenizers import models, trainers

from maskseq.errors import UsageError
from maskseq.tokenizer import Tokenizer, Variant
from maskseq.types import Encoded, Field, LegalCells, Vocabulary
from maskseq_genomics.alphabet import NUCLEOTIDES, both_strands, reverse_complement
from maskseq_genomics.sequence import Sequence

BLOCK = 4096  # bases: no token crosses a multiple of it, so that a change is felt in its own block only
LEGAL_BYTES = 1 << 26  # of the table of legal tokens; where it would be larger, every unknown letter counts as N
RUNS = re.compile("[ACGT]+|N+")


@dataclass(frozen=True, kw_only=True)
class BpeTokenizer(Tokenizer[Sequence]):
    """Tokens of several bases, frequent ones long. Each unknown base is one `[MASK]`, which a single base may fill.

    Where the tokens are cut depends on the bases: what is hidden cannot be read from what is visible, but how long the
    hidden tokens are can. Fit it on training records, or give the merges.
    """

    boundaries_depend_on_data = True

    merges: tuple[tuple[str, str], ...]
    """Pairs of tokens that become one, the first merge first."""

    def __post_init__(self) -> None:
        made = set(NUCLEOTIDES.known)
        for left, right in self.merges:
            if left not in made or right not in made:
                raise ValueError(f"merge {left!r} + {right!r} joins tokens that no earlier merge makes")
            made.add(left + right)

    @classmethod
    def fit(  # type: ignore[override]
        cls, records: Iterable[Sequence], *, size: int = 4096, longest: int = 16, sample: int = 5_000_000
    ) -> "BpeTokenizer":
        """Learn a vocabulary of `size` tokens of up to `longest` bases from the first `sample` known bases.

        Time grows with both: about 20 s on one core for the default. Fewer tokens result where the data are too few.
        """
        if size < 4 or longest < 1 or sample < 1:
            raise UsageError(
                f"size is {size}, longest {longest}, sample {sample}; they are at least 4, 1 and 1", code="bad-option"
            )
        model = tokenizers.Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=list(NUCLEOTIDES.known),
            max_token_length=longest,
            special_tokens=[],
            show_progress=False,
        )
        model.train_from_iterator(_sample(records, sample), trainer)
        return cls(merges=tuple((left, right) for left, right in json.loads(model.to_str())["model"]["merges"]))

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*NUCLEOTIDES.known, *("".join(pair) for pair in self.merges)]))

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return (Field(name="piece", tokens=self.tokens, source="base"),)

    @cached_property
    def _lengths(self) -> Int[np.ndarray, "ids"]:
        """Bases of each token; one for `[MASK]`."""
        return np.array([*map(len, self.tokens), 1], np.int64)

    @cached_property
    def _model(self) -> Any:
        vocabulary = {token: i for i, token in enumerate(self.tokens)}
        return tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=list(self.merges)))

    def encode(self, record: Sequence) -> Encoded:
        codes = NUCLEOTIDES.codes(record)
        dtype = Vocabulary.of(self.fields).dtype
        ids = [np.zeros(0, dtype)]
        for runs in _batched(_runs(NUCLEOTIDES.text(np.minimum(codes, NUCLEOTIDES.unknown))), 256):
            known = [run for run in runs if run[0] != "N"]
            pieces = iter(self._model.encode_batch_fast(known, add_special_tokens=False))
            ids += [
                np.full(len(r), len(self.tokens), dtype) if r[0] == "N" else np.array(next(pieces).ids, dtype)
                for r in runs
            ]
        column = np.concatenate(ids)
        return Encoded(column[:, None], self._legal(column, codes))

    def _legal(self, ids: Integer[np.ndarray, "tokens"], codes: UInt8[np.ndarray, "length"]) -> LegalCells | None:
        """Single bases for each unknown letter: the first four ids."""
        cells = np.flatnonzero(ids == len(self.tokens))
        if not len(cells):
            return None
        letters = codes[codes >= NUCLEOTIDES.unknown]
        if len(letters) * len(self.tokens) > LEGAL_BYTES:
            letters = np.full_like(letters, NUCLEOTIDES.unknown)
        if (letters == NUCLEOTIDES.unknown).all():
            letters = letters[:1]  # one row in memory stands for all
        allowed = np.zeros((len(letters), len(self.tokens)), bool)
        allowed[:, : len(NUCLEOTIDES.known)] = NUCLEOTIDES.possible[letters]
        allowed = np.broadcast_to(allowed, (len(cells), len(self.tokens)))
        return LegalCells(np.stack([cells, np.zeros_like(cells)], axis=1), allowed)

    def decode(self, ids: Integer[np.ndarray, "length 1"]) -> str:
        """The tokens with blanks between them; `[MASK]` as N."""
        return " ".join(self._texts(ids))

    def strands(self, ids: Integer[np.ndarray, "length 1"]) -> abc.Sequence[UInt8[np.ndarray, "letters"]]:
        return both_strands(NUCLEOTIDES.codes(Sequence(key="", residues="".join(self._texts(ids)).encode())))

    def _texts(self, ids: Integer[np.ndarray, "length 1"]) -> list[str]:
        texts = [*self.tokens, NUCLEOTIDES.anything]
        return [texts[i] for i in ids[:, 0].tolist()]

    def units(self, ids: Integer[np.ndarray, "length 1"]) -> Int[np.ndarray, "length 1 2"]:
        lengths = self._lengths[ids[:, 0]]
        stops = np.cumsum(lengths)
        return np.stack([stops - lengths, stops], axis=-1)[:, None]

    def splice(
        self, record: Sequence, ids: Integer[np.ndarray, "length 1"], holes: Bool[np.ndarray, "length 1"]
    ) -> Sequence:
        """Here `ids` may be other tokens than the record's, in another number, as long as they have as many bases."""
        lengths = self._lengths[ids[:, 0]]
        if lengths.sum() != len(record):
            raise ValueError(f"the tokens have {lengths.sum():,} bases where record {record.key!r} has {len(record):,}")
        text = "".join(self._texts(ids))
        positions = np.flatnonzero(np.repeat(holes[:, 0], lengths))
        codes = NUCLEOTIDES.codes(Sequence(key=record.key, residues=text.encode()))
        return NUCLEOTIDES.put(record, positions, codes[positions])

    def variants(self, record: Sequence) -> Iterator[Variant[Sequence]]:
        """The reverse complement, which is cut into other tokens."""
        yield Variant(name="reverse complement", record=reverse_complement(record), tokenizer=self, reverse=True)


def _runs(text: str) -> Iterator[str]:
    """Known bases and Ns apart, no run across a multiple of `BLOCK`."""
    return chain.from_iterable(RUNS.findall(text[i : i + BLOCK]) for i in range(0, len(text), BLOCK))


def _sample(records: Iterable[Sequence], n_bases: int) -> Iterator[str]:
    """Runs of known bases of the records until there are `n_bases`."""
    for record in records:
        codes = NUCLEOTIDES.codes(record)
        for run in _runs(NUCLEOTIDES.text(np.minimum(codes, NUCLEOTIDES.unknown))):
            if run[0] != "N":
                yield run[:n_bases]
                n_bases -= len(run)
            if n_bases <= 0:
                return


def _batched(runs: Iterator[str], n: int) -> Iterator[list[str]]:
    while batch := list(islice(runs, n)):
        yield batch
