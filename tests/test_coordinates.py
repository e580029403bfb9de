"""Positions from the data: rows and columns, and time, as coordinates of RoPE; rectangles; masks by given fields."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import maskseq
from maskseq.cli import app
from maskseq.errors import UsageError
from maskseq.infill.ranges import Where, read_ranges
from maskseq.masking.config import MaskingConfig, Spans, Tokens
from maskseq.masking.plan import mask_segment
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.model.rotary import axial, coordinates_of, rotation
from maskseq.types import Field, Vocabulary

N = 16
FIELDS = (
    Field(name="value", tokens=tuple("abcd")),
    Field(name="row", tokens=tuple(map(str, range(N))), centres=tuple(map(float, range(N))), given=True),
    Field(
        name="column",
        tokens=tuple(map(str, range(N))),
        controls=("[OTHER]",),
        centres=tuple(map(float, range(N))),
        given=True,
    ),
)


def encoder(**changes: Any) -> Encoder:
    """One whose given fields say where things are, and nothing else."""
    shape = {"n_layers": 2, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48}
    model = Encoder(preset("nano", Vocabulary.of(FIELDS), **(shape | changes)), seed=1)
    first = int(model.config.vocabulary.offsets[1])
    with torch.no_grad():
        model.embeddings.tok_embeddings.weight[first:] = 0
        for layer in model.layers:  # else attention is nearly uniform, wherever things stand
            layer.attn.Wqkv.weight *= 10  # type: ignore[union-attr, operator]
    return model.eval()


def states(model: Encoder, *pieces: np.ndarray) -> torch.Tensor:
    ends = torch.tensor(np.cumsum([0, *map(len, pieces)]).astype(np.int32))
    positions = torch.from_numpy(np.concatenate([np.arange(len(piece)) for piece in pieces]))
    ids = torch.from_numpy(np.concatenate(pieces).astype(np.int64))
    with torch.inference_mode():
        found: torch.Tensor = model(ids, positions, ends, max(map(len, pieces))).hidden_states
    return found


def piece(rows: Any, columns: Any) -> np.ndarray:
    values = np.random.default_rng(len(rows)).integers(4, size=len(rows))
    return np.stack([values, rows, columns], axis=1)


def test_a_coordinate_that_counts_positions_is_a_position() -> None:
    there = piece(np.arange(12), np.zeros(12, int))
    usual, by_row = encoder(), encoder(rope_fields=("row",))
    torch.testing.assert_close(states(by_row, there), states(usual, there))
    positions = torch.arange(12)
    for one, other in zip(rotation(positions, 16, 1e4), axial(positions[:, None].double(), 16, 1e4), strict=True):
        torch.testing.assert_close(one, other)


def test_what_counts_is_the_distance_along_each_axis() -> None:
    model = encoder(rope_fields=("row", "column"))
    rows, columns = np.divmod(np.arange(12), 4)
    there = states(model, piece(rows, columns))
    torch.testing.assert_close(states(model, piece(rows + 3, columns + 5)), there, atol=1e-4, rtol=1e-3)
    order = np.random.default_rng(0).permutation(12)  # the order of positions says nothing any more
    shuffled = piece(rows, columns)[order]
    torch.testing.assert_close(states(model, shuffled), there[order], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(states(model, piece(rows, columns * 2)), there, atol=1e-2)


def test_gaps_add_up_to_time_within_each_piece() -> None:
    gaps = np.array([7, 1, 0, 3, 1])
    by_gap, by_row = encoder(rope_gaps="row"), encoder(rope_fields=("row",))
    times = np.cumsum(gaps) - gaps[0]
    expected = piece(times, np.zeros(5, int))
    given = np.stack([expected[:, 0], gaps, expected[:, 2]], axis=1)
    torch.testing.assert_close(states(by_gap, given), states(by_row, expected))
    together = states(by_gap, given, piece([2, 2, 9], [0, 0, 0]), given)
    torch.testing.assert_close(together[:5], states(by_gap, given), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(together[8:], together[:5], atol=1e-4, rtol=1e-3)


def test_units_scale_and_unknown_places_are_nowhere() -> None:
    model = encoder(rope_fields=("row",), rope_unit=2.0)
    torch.testing.assert_close(
        states(model, piece(np.arange(6) * 2, [0] * 6)), states(encoder(), piece(np.arange(6) * 2, [0] * 6))
    )
    table = encoder(rope_fields=("column",)).config.axes()[0][1]
    ids = torch.tensor([[0, 0, 5], [0, 0, N], [0, 0, N + 1]])
    found = coordinates_of(ids, torch.arange(3), [(2, table)], summed=False)
    assert found.ravel().tolist() == [5.0, 0.0, 0.0]


@pytest.mark.parametrize("changes", [{"rope_fields": ("value",)}, {"rope_gaps": "nothing"}])
def test_only_given_numbers_are_coordinates(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"row, column"):
        states(encoder(**changes), piece([0, 1], [0, 1]))
    with pytest.raises(UsageError, match="rope_gaps"):
        encoder(rope_fields=("row",), rope_gaps="row")


def rectangles(area: float, ratio: float, seed: int) -> np.ndarray:
    config = MaskingConfig(
        ratio=ratio, tokens=Tokens(weight=0.0), spans=Spans(weight=1.0, mean_length=area, grid=8), mode="position"
    )
    field = (Field(name="value", tokens=tuple("abcd")),)
    units = np.arange(64)[:, None, None] + np.array([0, 1])
    ids = np.zeros((64, 1), np.uint8)
    mask = mask_segment(ids, units, np.ones((64, 1), bool), field, config, rng=np.random.default_rng(seed))
    return mask.masked.reshape(8, 8)


def test_rectangles_are_exact_and_fair() -> None:
    masks = np.stack([rectangles(9.0, 0.25, seed) for seed in range(1500)])
    assert (masks.sum(axis=(1, 2)) == 16).all()
    share = masks.mean(axis=0)
    assert abs(share - 0.25).max() < 0.07
    lines = np.stack([np.random.default_rng(seed).permutation(64).reshape(8, 8) < 16 for seed in range(1500)])

    def neighbours(found: np.ndarray) -> float:
        both = (found[:, 1:] & found[:, :-1]).sum() + (found[:, :, 1:] & found[:, :, :-1]).sum()
        return float(both / found.sum())

    assert neighbours(masks) > 2 * neighbours(lines)


def test_masks_are_read_as_values_of_fields() -> None:
    assert read_ranges(["a:row=2-4,column=1"]) == {"a": [Where((("row", "2", "4"), ("column", "1", "1")))]}
    assert read_ranges(["mode=half-open"]) == {"": [Where((("mode", "half-open", "half-open"),))]}
    assert read_ranges(["chr1:5-9"]) == {"chr1": [(4, 9)]}


def test_a_plate_is_learned_and_a_rectangle_of_it_filled_without_code(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with (tmp_path / "plates.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["plate", "row", "column", "state"])
        for plate in range(20):
            for place in range(16):
                state = "ab"[(place // 4 + place % 4 + plate) % 2] if rng.random() < 0.95 else "c"
                rows.writerow([f"p{plate}", place // 4, place % 4, state])
    recipe = {
        "data": {
            "files": [str(tmp_path / "plates.csv")],
            "format": "table",
            "format_options": {"key": "plate"},
            "split": {"by": "record"},
        },
        "tokenizer": {
            "name": "columns",
            "columns": ["row", "column", "state"],
            "ordered": {"row": list("0123"), "column": list("0123")},
            "given": ["row", "column"],
        },
        "model": {"preset": "nano", "n_layers": 1, "hidden_size": 32, "n_heads": 2, "rope_fields": ["row", "column"]},
        "packing": {"row_tokens": 128, "context": 16},
        "masking": {"spans": {"weight": 1.0, "mean_length": 4, "grid": 4}},
        "training": {"tokens": 2_000, "rows": 1, "device": "cpu", "comparison_cells": 0},
        "blend": False,
    }
    maskseq.pretrain(recipe, output=tmp_path / "run")
    command = ["infill", tmp_path / "run", tmp_path / "plates.csv", "-o", tmp_path / "out"]
    done = CliRunner().invoke(app, [*map(str, command), "--mask", "p3:row=1-2,column=2-3"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "out" / "fills.csv").open(newline="") as table:
        cells = [(row["key"], row["field"], int(row["start"])) for row in csv.DictReader(table)]
    assert cells == [("p3", "state", place + 1) for place in (6, 7, 10, 11)]
    for mask in ("p3:row=7", "p3:state=a", "p3:row=x-y"):
        command[-1] = tmp_path / "refused"
        done = CliRunner().invoke(app, [*map(str, command), "--mask", mask])
        assert done.exit_code == 2, done.output
    with pytest.raises(UsageError, match="rope_fields"):
        maskseq.pretrain(recipe | {"model": {"preset": "nano", "rope_fields": ["state"]}}, output=tmp_path / "other")
