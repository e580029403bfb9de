"""The encoder as a Predict: packed, asked at some cells only, and averaged over symmetries."""

import numpy as np
import pytest
import torch

from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.predict.encoder import EncoderPredict, batches
from maskseq.predict.protocol import Example, with_ids
from maskseq.tokenizer import Symmetry
from maskseq.types import ABSENT, Field, Vocabulary
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence as Dna

FIELDS = (
    Field(name="left", tokens=("a", "b", "c", "d")),
    Field(name="right", tokens=("a", "b", "c", "d")),
    Field(name="size", tokens=("S", "L"), controls=(ABSENT,)),
)
SWAP = Symmetry(  # reads backwards, swaps left and right, and renames a–d to d–a while it does
    name="mirror",
    transform=lambda record: record,
    id_maps=((3, 2, 1, 0, 4), (3, 2, 1, 0, 4), (0, 1, 2, 3)),
    reverse=True,
    field_order=(1, 0, 2),
)


def encoder(vocabulary: Vocabulary, seed: int = 1) -> Encoder:
    config = EncoderConfig(
        vocabulary=vocabulary, n_layers=2, hidden_size=32, n_heads=2, intermediate_size=48, init_std=0.3, init="normal"
    )
    return Encoder(config, seed=seed)


@pytest.fixture(scope="module")
def model() -> Encoder:
    return encoder(Vocabulary.of(FIELDS))


def some_sequences(lengths: list[int], seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(0, (5, 5, 4), (n, 3)).astype(np.uint8) for n in lengths]
    cells = [np.argwhere(rng.random(ids.shape) < 0.4) for ids in sequences]
    return sequences, cells


def alone(model: Encoder, ids: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The same by the plainest route: one sequence, every head at every position."""
    n = len(ids)
    with torch.inference_mode():
        states = model(torch.tensor(ids.astype(int)), torch.arange(n), torch.tensor([0, n], dtype=torch.int32), n)
        tables = [model.logits(states, f).log_softmax(-1).numpy() for f in range(3)]
    out = np.full((len(cells), 4), -np.inf)
    for row, (position, field) in enumerate(cells):
        out[row, : tables[field].shape[1]] = tables[field][position]
    return out


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_packed_answers_equal_each_sequence_alone(model: Encoder, batch_tokens: int) -> None:
    sequences, cells = some_sequences([7, 30, 1, 12, 12, 25])
    cells[3] = cells[3][:0]  # a sequence of which nothing is asked
    answers = with_ids(EncoderPredict(model, batch_tokens=batch_tokens))(sequences, cells)
    for ids, requested, answer in zip(sequences, cells, answers, strict=True):
        np.testing.assert_allclose(answer, alone(model, ids, requested), atol=2e-5)
    assert np.exp(answers[1]).sum(axis=1) == pytest.approx(np.ones(len(cells[1])))


def test_bf16_agrees_to_its_precision(model: Encoder) -> None:
    sequences, cells = some_sequences([20, 30])
    exact, rough = (with_ids(EncoderPredict(model, precision=p))(sequences, cells) for p in ("fp32", "bf16"))
    for a, b in zip(exact, rough, strict=True):
        np.testing.assert_allclose(np.exp(a), np.exp(b), atol=0.06)
        assert not np.array_equal(a, b)


def test_symmetries_are_averaged_in_log_space(model: Encoder) -> None:
    """Against the definition: every view mapped back cell by cell and id by id."""
    sequences, cells = some_sequences([9, 5])
    answers = with_ids(EncoderPredict(model, [SWAP]))(sequences, cells)
    other_column = (1, 0, 2)
    for ids, requested, answer in zip(sequences, cells, answers, strict=True):
        mirrored = SWAP.ids(ids)
        expected = alone(model, ids, requested)
        for row, (position, field) in enumerate(requested):
            column = other_column[field]
            seen = alone(model, mirrored, np.array([[len(ids) - 1 - position, column]]))[0]
            for token in range((4, 4, 3)[field]):
                expected[row, token] += seen[SWAP.id_maps[column][token]]
        expected /= 2
        expected -= np.log(np.exp(expected).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(answer, expected, atol=2e-5)


def test_the_ensemble_of_a_symmetry_is_symmetric() -> None:
    """Prediction of the reverse complement = reverse complement of the prediction, for an untrained encoder too."""
    tokenizer = NucleotideTokenizer()
    predict = EncoderPredict(encoder(tokenizer.vocabulary), tokenizer.symmetries())
    record = Dna(key="x", residues=b"ACGTNNGATTACANNNCC")
    ids = tokenizer.encode(record).ids
    (symmetry,) = tokenizer.symmetries()
    backward = tokenizer.encode(symmetry.transform(record)).ids
    every = np.stack([np.arange(len(ids)), np.zeros(len(ids), int)], axis=1)
    a, b = predict([Example(ids), Example(backward)], [every, every])
    np.testing.assert_allclose(a, b[::-1][:, [3, 2, 1, 0]], atol=1e-5)


def test_batches_hold_everything_once_and_keep_their_bound() -> None:
    lengths = np.random.default_rng(0).integers(0, 50, 200).tolist()
    made = list(batches(lengths, 500))
    assert sorted(i for batch in made for i in batch) == [i for i, n in enumerate(lengths) if n]
    assert all(sum(lengths[i] for i in batch) <= 500 for batch in made)
    assert sum(lengths) / (500 * len(made)) > 0.9
    assert list(batches([100, 3], 64)) == [[0], [1]]
