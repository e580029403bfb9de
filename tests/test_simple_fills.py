"""What simple fills say of hidden numbers: as the imputers that `evaluate` judges by, piece by piece, and no more."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from maskseq.errors import UsageError
from maskseq.inference import imputers
from maskseq.model.encoder import Encoder, EncoderConfig
from maskseq.model.interop import export_onnx
from maskseq.model.simple_fills import one_period_away, straight_line
from maskseq.model.waves import weights
from maskseq.types import Field, Vocabulary

CENTRES = tuple(np.cumsum(np.random.default_rng(0).exponential(size=12)).tolist())
VOCABULARY = Vocabulary.of(
    [
        Field(name="level", tokens=tuple(map(str, range(12))), centres=CENTRES),
        Field(name="letter", tokens=tuple("abc")),
        Field(name="constant", tokens=("7",), centres=(7.0,)),
    ]
)
MASK = VOCABULARY.mask_ids[0]
SHAPE = {"n_layers": 1, "hidden_size": 16, "n_heads": 2, "intermediate_size": 8, "embedding_norm": False}
pieces = st.lists(st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=9), min_size=1, max_size=4)


def packed(texts: list[list[float | None]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    flat = [value for text in texts for value in text]
    values = torch.tensor([np.nan if value is None else value for value in flat])
    positions = torch.cat([torch.arange(len(text)) for text in texts])
    return values.nan_to_num(99.0), ~values.isnan(), positions


@given(pieces, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_pieces_of_a_row_are_filled_as_the_imputers_fill_each_alone(
    texts: list[list[float | None]], period: int
) -> None:
    values, known, positions = packed(texts)
    line, nearness = straight_line(values, known, positions)
    mean, of_period = one_period_away(values, known, positions, period)
    first = 0
    for text in texts:
        alone = np.array([np.nan if value is None else value for value in text], float)
        here = slice(first, first + len(text))
        first += len(text)
        hidden = np.isnan(alone)
        if hidden.all():
            assert (nearness[here] == 0).all()
        else:
            expected = imputers.linear(alone[:, None])[:, 0]
            np.testing.assert_allclose(line[here].numpy()[hidden], expected[hidden], atol=1e-5)
        for i in np.flatnonzero(hidden).tolist():
            steps = [abs(i - j) for j in np.flatnonzero(~hidden).tolist()]
            assert nearness[here][i] == (pytest.approx(1 / min(steps)) if steps else 0)
        for i in range(len(text)):
            told = [alone[j] for j in (i - period, i + period) if 0 <= j < len(text) and not np.isnan(alone[j])]
            assert bool(of_period[here][i]) == bool(told)
            if told:
                assert mean[here][i] == pytest.approx(np.mean(told), abs=1e-5)


def test_only_hidden_numbers_are_given_an_answer_and_it_is_embedded_between_the_bins() -> None:
    config = EncoderConfig(vocabulary=VOCABULARY, simple_fills=4, periods=(3,), **SHAPE)
    model = Encoder(config, seed=0)
    bare = Encoder(EncoderConfig(vocabulary=VOCABULARY, periods=(3,), **SHAPE), seed=0)
    bare.load_state_dict({name: model.state_dict()[name] for name in bare.state_dict()})
    ids = torch.tensor([[2, 0, 0], [MASK, 1, 0], [MASK, 3, 0], [11, 2, 0], [MASK, 0, 0]])
    added = model.embeddings(ids, torch.arange(5)) - bare.embeddings(ids, torch.arange(5))
    assert (added[[0, 3]] == 0).all()

    def row(value: float, learned: torch.Tensor) -> torch.Tensor:
        below = max(int(np.searchsorted(CENTRES, value)) - 1, 0)
        share = (value - CENTRES[below]) / (CENTRES[below + 1] - CENTRES[below])
        mixture = (1 - share) * weights(CENTRES, 4)[below] + share * weights(CENTRES, 4)[below + 1]
        return torch.tensor(mixture, dtype=torch.float32) @ learned

    line, three_away = (each.weight for each in model.embeddings.fills[0].fills)
    third = CENTRES[2] + (CENTRES[11] - CENTRES[2]) / 3
    torch.testing.assert_close(added[1], row(third, line), atol=1e-6, rtol=1e-4)  # nothing is known three away
    torch.testing.assert_close(added[4], row(CENTRES[11], line), atol=1e-6, rtol=1e-4)
    ids = torch.tensor([[2, 0, 0], [MASK, 1, 0], [MASK, 3, 0], [MASK, 2, 0], [5, 0, 0]])
    found = (model.embeddings(ids, torch.arange(5)) - bare.embeddings(ids, torch.arange(5)))[1:3]
    quarter, half = (CENTRES[2] + (CENTRES[5] - CENTRES[2]) * share for share in (1 / 4, 1 / 2))
    torch.testing.assert_close(found[0], row(quarter, line) + row(CENTRES[5], three_away), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found[1], row(half, line) / 2, atol=1e-6, rtol=1e-4)  # two steps from either


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="context_sees_target must be true"):
        EncoderConfig(vocabulary=VOCABULARY, simple_fills=4, context_sees_target=False, **SHAPE)
    with pytest.raises(UsageError, match="simple_fills = -1 must be 0 or more"):
        EncoderConfig(vocabulary=VOCABULARY, simple_fills=-1, **SHAPE)
    pytest.importorskip("onnxscript")
    with pytest.raises(UsageError, match="simple_fills"):
        export_onnx(Encoder(EncoderConfig(vocabulary=VOCABULARY, simple_fills=4, **SHAPE)), tmp_path / "model.onnx")
