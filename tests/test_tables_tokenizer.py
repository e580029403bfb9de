"""The tokenizer `columns`: a field for each kind of column, fitted on training records, and its contract."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskseq.errors import UsageError
from maskseq.testing import check_tokenizer
from maskseq.types import OTHER
from maskseq_tables.record import TableRows
from maskseq_tables.table import KeyedTable
from maskseq_tables.tokenizer import ColumnsTokenizer

STAGES = ("W", "N1", "N2", "N3")


def nights(n: int = 8, *, holes: float = 0.1, seed: int = 0) -> str:
    """Sleep: a night is a key, an epoch half a minute; each row has a stage, two numbers, a device and a sex."""
    rng = np.random.default_rng(seed)
    lines = ["night,at,stage,eeg,emg,device,sex"]
    for night in range(n):
        stage, sex = 0, rng.choice(["f", "m"])
        for epoch in range(int(rng.integers(20, 40))):
            stage = int(np.clip(stage + rng.integers(-1, 2), 0, 3))
            moment = np.datetime64(f"2024-03-{1 + night:02d}T23:50:00") + np.timedelta64(30 * epoch, "s")
            cells = [
                STAGES[stage],
                f"{stage + rng.normal(0, 0.1):.2f}",
                str(int(40 - 9 * stage)),
                rng.choice(["x", "y"]),
            ]
            cells = ["?" if rng.random() < holes else cell for cell in cells]
            lines.append(",".join([f"n{night}", str(moment), *cells, sex]))
    return "\n".join(lines) + "\n"


OPTIONS: dict[str, Any] = {
    "columns": ["stage", "eeg", "emg", "device", "sex"],
    "ordered": {"stage": list(STAGES)},
    "numeric": ["eeg", "emg"],
    "given": ["device"],
    "whole": ["sex"],
    "calendar": {"at": ["hour", "weekday", "gap"]},
    "bins": 8,
}


def records(tmp_path: Path, text: str | None = None, **options: Any) -> list[TableRows]:
    path = tmp_path / "nights.csv"
    path.write_text(nights() if text is None else text)
    return list(KeyedTable(**{"key": "night", "order": "at", **options}).read(path))


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    found = records(tmp_path)
    report = check_tokenizer(ColumnsTokenizer.fit(found, **OPTIONS), found)
    assert {"no leak", "splice"} <= set(report.checked)
    check_tokenizer(ColumnsTokenizer.fit(found), found)


def test_each_kind_of_column_is_a_field_of_its_kind(tmp_path: Path) -> None:
    found = records(tmp_path)
    tokenizer = ColumnsTokenizer.fit(found, **OPTIONS)
    fields = {field.name: field for field in tokenizer.fields}
    assert fields["stage"].tokens == STAGES
    assert fields["stage"].centres == (0, 1, 2, 3)
    assert fields["eeg"].centres is not None
    assert 2 <= len(fields["eeg"].centres) <= 8
    assert set(fields["sex"].tokens) == {"f", "m"}
    assert {name for name, field in fields.items() if field.given} == {
        "device",
        "at (hour)",
        "at (weekday)",
        "at (gap)",
    }
    encoded = tokenizer.encode(found[0])
    column = list(fields).index("at (hour)")
    hours = [fields["at (hour)"].token(i) for i in encoded.ids[:, column]]
    moments = found[0].moments()
    assert moments is not None
    assert hours == [str(np.datetime64(int(m), "s"))[11:13] for m in moments]
    weekday = [tokenizer.fields[column + 1].token(i) for i in encoded.ids[:, column + 1]]
    assert set(weekday) == {"Fri", "Sat"}  # the night from Friday, 1 March 2024
    numbers = tokenizer.numbers(found[0])
    eeg = list(fields).index("eeg")
    known = [value != "?" for value in found[0].columns["eeg"]]
    np.testing.assert_array_equal(numbers[known, eeg], [float(v) for v in found[0].columns["eeg"] if v and v != "?"])


def test_it_is_fitted_on_training_records_only(tmp_path: Path) -> None:
    found = records(tmp_path)
    tokenizer = ColumnsTokenizer.fit(found, **OPTIONS)
    other = records(tmp_path, nights(seed=1).replace(",x,", ",z,").replace("n0", "o0"))
    ids = tokenizer.encode(other[0]).ids
    device = [field.name for field in tokenizer.fields].index("device")
    field = tokenizer.fields[device]
    values = other[0].columns["device"]
    for value, token in zip(values, ids[:, device].tolist(), strict=True):
        assert field.token(token) == (value if value == "y" else OTHER)  # an unknown given value, too
    assert tokenizer.fingerprint == ColumnsTokenizer.from_state(tokenizer.state()).fingerprint


def test_filled_numbers_are_in_the_notation_of_their_column(tmp_path: Path) -> None:
    found = records(tmp_path)
    tokenizer = ColumnsTokenizer.fit(found, **OPTIONS)
    names = [field.name for field in tokenizer.fields]
    record = found[0]
    ids = tokenizer.encode(record).ids
    holes = np.zeros(ids.shape, bool)
    for name in ("stage", "eeg", "emg"):
        holes[:, names.index(name)] = True
    ids = ids.copy()
    ids[:, [names.index("eeg"), names.index("emg"), names.index("stage")]] = 1
    filled = tokenizer.splice(record, ids, holes)
    assert set(filled.columns["stage"]) == {"N1"}
    for text in filled.columns["eeg"]:
        assert text is not None
        assert len(text.partition(".")[2]) == 2
    cells = np.array([(0, names.index("stage")), (0, names.index("eeg")), (1, names.index("emg"))])
    put = tokenizer.put_numbers(filled, cells, np.array([2.4, 0.5, 21.7]))
    assert put.columns["stage"][0] == "N2"
    assert put.columns["eeg"][0] == "0.50"
    assert put.columns["emg"][1] == "22"
    assert put.columns["device"] is record.columns["device"]


def test_what_holds_for_a_whole_sequence_is_hidden_and_filled_as_one(tmp_path: Path) -> None:
    found = records(tmp_path)
    tokenizer = ColumnsTokenizer.fit(found, **OPTIONS)
    column = [field.name for field in tokenizer.fields].index("sex")
    ids = tokenizer.encode(found[0]).ids
    assert (tokenizer.units(ids)[:, column] == (0, 1)).all()
    some = ids.copy()
    some[3:, column] = tokenizer.fields[column].mask_id
    legal = tokenizer.allowed(some)
    assert legal is not None
    assert len(legal.cells) == len(ids) - 3
    assert (legal.allowed.sum(axis=1) == 1).all()
    assert legal.allowed[0, ids[0, column]]
    sex = found[0].columns["sex"]
    broken = replace(found[0], columns=found[0].columns | {"sex": ("f", "m", *sex[2:])})
    with pytest.raises(ValueError, match="'sex'"):
        tokenizer.encode(broken)


def test_rare_categories_are_other(tmp_path: Path) -> None:
    (one,) = records(tmp_path, "x\n" + "a\na\nb\nb\nb\nc\n", key="", order="")
    tokenizer = ColumnsTokenizer.fit([one])
    assert tokenizer.fields[0].tokens == ("b", "a")
    assert tokenizer.fields[0].token(tokenizer.encode(one).ids[-1, 0]) == OTHER


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"columns": ["stag"]}, "stage"),
        ({"given": ["nothing"]}, "nothing"),
        ({"columns": ["stage"], "given": ["stage"]}, "given"),
        ({"columns": ["eeg"], "numeric": ["eeg"], "categorical": ["eeg"]}, "eeg"),
        ({"columns": ["device"], "numeric": ["device"]}, "device"),
        ({"ordered": {"stage": ["W"]}}, "stage"),
        ({"calendar": {"stage": ["hour"]}}, "stage"),
        ({"calendar": {"at": ["century"]}}, "calendar"),
        ({"bins": 0}, "bins"),
        ({"colums": []}, "columns"),
        ({"columns": ["stage", "stage"]}, "stage"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        ColumnsTokenizer.fit(records(tmp_path), **options)


def test_the_order_is_given_where_it_is_a_field(tmp_path: Path) -> None:
    text = "k,n,x\n" + "".join(f"a,{n},{'uv'[n % 2]}\n" for n in range(40))
    found = records(tmp_path, text, key="k", order="n")
    assert [field.name for field in ColumnsTokenizer.fit(found).fields] == ["x"]
    tokenizer = ColumnsTokenizer.fit(found, columns=["n", "x"], calendar={"n": ["gap"]})
    assert [field.given for field in tokenizer.fields] == [True, False, True]
    check_tokenizer(tokenizer, found)
