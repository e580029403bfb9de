"""Fill bases with a model of overlapping words: every word over a base has a say in it, and all words agree."""

from collections import abc
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from maskseq_genomics.alphabet import NUCLEOTIDES
from maskseq_genomics.words import Frame, Words, words

Asked = abc.Sequence[Integer[np.ndarray, "_ 2"]]
Predict = abc.Callable[[abc.Sequence[Integer[np.ndarray, "_ _"]], Asked], abc.Sequence[Float[np.ndarray, "_ _"]]]


@dataclass(frozen=True)
class ByBase:
    """A model of words of k overlapping bases, asked about bases (codes; the unknown one is hidden).

    The distribution of a base is the product of those that the words over it give it, each to the power of one over
    their number. An exact model's words all say the same of a base, and this is it; a plain product would be as bold as
    if each had seen something else.
    """

    predict: Predict
    k: int

    def __call__(self, sequences: abc.Sequence[Integer[np.ndarray, "_ _"]], cells: Asked) -> list[np.ndarray]:
        codes = [ids[:, 0].astype(np.uint8) for ids in sequences]
        frames = [Frame.of(len(each), k=self.k, step=1, phase=0) for each in codes]
        covering = [
            _covering(requested[:, 0], len(frame), self.k) for requested, frame in zip(cells, frames, strict=True)
        ]
        wanted = [np.unique(each[each >= 0]) for each in covering]
        answers = self.predict(
            [_word_ids(each, frame) for each, frame in zip(codes, frames, strict=True)],
            [np.stack([each, np.zeros_like(each)], axis=1) for each in wanted],
        )
        return [
            self._bases(requested[:, 0], over, of, answer, letters)
            for requested, over, of, answer, letters in zip(cells, covering, wanted, answers, codes, strict=True)
        ]

    def _bases(
        self,
        positions: Int[np.ndarray, "bases"],
        covering: Int[np.ndarray, "bases k"],
        requested: Int[np.ndarray, "words"],
        log_probs: Float[np.ndarray, "words outputs"],
        codes: UInt8[np.ndarray, "length"],
    ) -> Float[np.ndarray, "bases 4"]:
        """The say of all words, each of which knows the bases that are known within it."""
        vocabulary = words(self.k)
        length = min(self.k, len(codes))
        allowed = vocabulary.legal(codes[requested[:, None] + np.arange(length)])
        logits = np.where(allowed, np.asarray(log_probs, np.float64)[:, : allowed.shape[1]], -np.inf)
        by_offset = np.stack([_marginal(logits, vocabulary, offset) for offset in range(length)], axis=1)
        total = np.zeros((len(positions), 4))
        n_words = np.zeros((len(positions), 1))
        for column in range(covering.shape[1]):
            rows = np.flatnonzero(covering[:, column] >= 0)
            word = np.searchsorted(requested, covering[rows, column])
            total[rows] += by_offset[word, positions[rows] - covering[rows, column]]
            n_words[rows] += 1
        mean = total / n_words
        return np.asarray(mean - np.logaddexp.reduce(mean, axis=1, keepdims=True))


def _covering(positions: Int[np.ndarray, "bases"], n_words: int, k: int) -> Int[np.ndarray, "bases k"]:
    """The words over each base; −1 where the sequence ends before."""
    over = positions[:, None] - np.arange(k)
    return np.where((over >= 0) & (over < n_words), over, -1)


def _word_ids(codes: UInt8[np.ndarray, "length"], frame: Frame) -> Integer[np.ndarray, "words 1"]:
    ids = frame.ids(codes)
    ids[frame.any(codes >= NUCLEOTIDES.unknown)] = words(frame.k).mask_id
    return ids[:, None]


def _marginal(logits: Float[np.ndarray, "words ids"], vocabulary: Words, offset: int) -> Float[np.ndarray, "words 4"]:
    """What each word says of its base number `offset`; nothing where the model calls every word impossible."""
    letters = vocabulary.bases[:-1, offset]
    parts = [np.logaddexp.reduce(logits[:, letters == base], axis=1) for base in range(4)]
    reported = np.stack(parts, axis=1)
    total = np.logaddexp.reduce(reported, axis=1, keepdims=True)
    possible = np.isfinite(reported).any(axis=1, keepdims=True)
    return np.where(possible, reported - np.where(possible, total, 0.0), -np.log(4.0))
