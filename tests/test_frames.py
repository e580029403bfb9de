"""Data frames in place of files: the same records, the same fills, and the same types back."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_tables_tokenizer import nights

import maskseq
from maskseq.apps.frames import infill_frame
from maskseq.apps.infill import infill_file
from maskseq.errors import DataError, DataWarning, UsageError

SHORT = ["training.tokens=2_000", 'training.device="cpu"']


def table(n: int, *, holes: float, seed: int = 0) -> pd.DataFrame:
    """Nights in the types that a data frame has: times, texts, numbers with NaN."""
    from io import StringIO

    frame = pd.read_csv(StringIO(nights(n, holes=holes, seed=seed)), na_values="?", parse_dates=["at"])
    frame["emg"] = frame["emg"].astype("Int64")
    frame["device"] = frame["device"].astype("category")
    return frame


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> maskseq.TrainedModel:
    frame = table(24, holes=0.05)
    recipe = maskseq.recipe_for(frame, overrides=SHORT)
    assert recipe["data"]["format_options"] == {"key": "night", "order": "at"}
    return maskseq.pretrain(recipe, output=tmp_path_factory.mktemp("frames") / "run", records=frame)


def kinds() -> list[Any]:
    found: list[Any] = [pytest.param(lambda frame: frame, id="pandas"), pytest.param(pa.Table.from_pandas, id="arrow")]
    try:
        import polars as pl
    except ImportError:
        return found
    return [*found, pytest.param(pl.from_pandas, id="polars")]


@pytest.mark.parametrize("of", kinds())
def test_a_frame_comes_back_filled_in_its_types(run: maskseq.TrainedModel, of: Any) -> None:
    import narwhals as nw

    frame = of(table(4, holes=0.2, seed=5))
    filled = run.infill_frame(frame)
    assert type(filled) is type(frame)
    before, after = nw.from_native(frame, eager_only=True), nw.from_native(filled, eager_only=True)
    assert before.columns == after.columns
    for name in before.columns:
        was, now = before.to_arrow()[name], after.to_arrow()[name]
        known = was.is_valid().to_numpy()
        assert was.filter(pa.array(known)).to_pylist() == now.filter(pa.array(known)).to_pylist()
        if name not in ("night", "at", "sex"):
            assert not known.all()
            assert now.null_count == 0, name
    for name in ("at", "eeg", "emg", "stage", "sex"):
        assert before.schema[name] == after.schema[name]


def test_a_frame_is_filled_as_its_file_is(run: maskseq.TrainedModel, tmp_path: Path) -> None:
    frame = table(4, holes=0.2, seed=6)
    frame.to_csv(tmp_path / "new.csv", index=False, na_rep="?")
    infill_file(run, tmp_path / "new.csv", output=tmp_path / "filled")
    of_file = pd.read_csv(tmp_path / "filled" / "new.csv")
    of_frame = run.infill_frame(frame)
    assert of_frame["stage"].tolist() == of_file["stage"].tolist()
    assert np.allclose(of_frame["eeg"], of_file["eeg"])


def test_an_index_of_pandas_is_kept_and_is_no_column(run: maskseq.TrainedModel) -> None:
    frame = table(3, holes=0.2, seed=7).sample(frac=1, random_state=0)
    filled = run.infill_frame(frame)
    assert filled.index.tolist() == frame.index.tolist()
    assert filled.columns.tolist() == frame.columns.tolist()
    known = frame["stage"].notna()
    assert filled.loc[known, "stage"].tolist() == frame.loc[known, "stage"].tolist()


def test_other_methods_read_frames(run: maskseq.TrainedModel) -> None:
    frame = table(3, holes=0.0, seed=8)
    records = run.read_frame(frame)
    assert [record.key for record in records] == ["n0", "n1", "n2"]
    assert len([*run.score(records)]) == 3
    found = run.next_frame(frame, steps=2)
    assert isinstance(found, pd.DataFrame)
    assert set(found["key"]) == {"n0", "n1", "n2"}
    assert set(found["step"]) == {1, 2}


def test_a_run_of_csv_event_logs_fills_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"c{n // 6}", "abc"[n % 3], f"2024-01-01T{n % 24:02d}:00:00", f"0{rng.integers(3)}") for n in range(120)]
    frame = pd.DataFrame(rows, columns=["case", "activity", "time", "team"])
    frame.to_csv(tmp_path / "log.csv", index=False)
    recipe = {
        "data": {"files": [str(tmp_path / "log.csv")], "format": "event-csv"},
        "tokenizer": {"name": "event", "attributes": ["team"]},
        "model": {"preset": "nano", "n_layers": 1},
        "packing": {"row_tokens": 256, "context": 32},
        "training": {"tokens": 2_000, "rows": 1},
    }
    run = maskseq.pretrain(recipe, output=tmp_path / "run")
    hole = frame.copy()
    hole.loc[[3, 50], "team"] = "?"
    filled = run.infill_frame(hole)
    assert filled["team"].isin(["00", "01", "02"]).all()  # texts stay texts
    assert filled.drop(columns="team").equals(frame.drop(columns="team"))


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (pd.DataFrame({"night": ["a", "b"], "stage": ["W", "?"]}), "at"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "unique"),
        (pd.DataFrame({"night": ["a", "a"], "at": [1, "x"], "stage": ["W", "?"]}), "several kinds"),
        ("night,at\n", "data frame"),
    ],
)
def test_frames_that_do_not_fit_are_refused_in_one_line(run: maskseq.TrainedModel, frame: Any, word: str) -> None:
    with pytest.raises((DataError, UsageError), match=word) as caught:
        infill_frame(run, frame)
    assert "/" not in str(caught.value).partition("\n\n")[0]


def test_a_frame_whose_sequences_nobody_names_is_a_guess_with_a_warning() -> None:
    frame = pd.DataFrame({"place": np.arange(30) + 0.5, "noise": [f"{n * 7 % 11} dB" for n in range(30)]})
    with pytest.warns(DataWarning, match="key"):
        recipe = maskseq.recipe_for(frame)
    assert "key" not in recipe["data"].get("format_options", {})
