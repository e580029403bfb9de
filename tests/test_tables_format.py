"""The format `table`: which rows belong together and in which order, what is refused, and what comes back."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskseq.apps.init import init
from maskseq.errors import DataError, UsageError
from maskseq.survey import Head
from maskseq_tables.record import TableRows
from maskseq_tables.table import KeyedTable

GAMES = "game,play,kind,yards\nb,2,run,1.50\na,1,pass,NA\nb,1,?,2\na,2,run,\n"


def written(tmp_path: Path, text: str | bytes, name: str = "x.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(path: Path, **options: Any) -> list[TableRows]:
    return list(KeyedTable(**options).read(path))


def test_rows_of_a_key_are_a_sequence_in_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, GAMES)
    b, a = read(path, key="game", order="play")
    assert (a.key, len(a)) == ("a", 2)
    assert a.columns["kind"] == ("pass", "run")
    assert a.columns["yards"] == ("?", "?")
    assert (b.key, b.columns["kind"]) == ("b", ("?", "run"))
    assert b.order is not None
    assert b.order.values.tolist() == [1, 2]
    assert b.unknown_values() == {"kind": 1}
    assert b.sources() == {"play", "kind", "yards"}
    (whole,) = read(path)
    assert whole.columns["game"] == ("b", "a", "b", "a")


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.jsonl", "x.parquet"])
def test_what_nobody_changed_comes_back_and_what_was_filled_is_written(tmp_path: Path, name: str) -> None:
    rows = [dict(zip(GAMES.split("\n")[0].split(","), line.split(","), strict=True)) for line in GAMES.split()[1:]]
    if name.endswith("parquet"):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {
            "game": pa.array(["b", "a", "b", "a"], pa.dictionary(pa.int8(), pa.string())),
            "play": pa.array([2, 1, 1, 2], pa.int16()),
            "kind": ["run", "pass", None, "run"],
            "yards": pa.array([1.5, None, 2, None], pa.float32()),
            "extra": [[1], None, [], [2]],
        }
        pq.write_table(pa.table(columns), tmp_path / name)
        options: dict[str, Any] = {"columns": ("kind", "yards")}
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows) if name.endswith("jsonl") else GAMES
        written(tmp_path, gzip.compress(text.encode()) if name.endswith("gz") else text, name)
        options = {}
    reader = KeyedTable(key="game", order="play", **options)
    records = list(reader.read(tmp_path / name))
    out = tmp_path / f"out-{name}"
    reader.write(records, out)
    if name in ("x.csv", "x.jsonl"):
        assert out.read_bytes() == (tmp_path / name).read_bytes()
    b, a = records
    filled = replace(b, columns=b.columns | {"kind": ("punt", b.columns["kind"][1])})
    filled_a = replace(a, columns=a.columns | {"yards": ("3.25", "?")})
    reader.write([filled, filled_a], out)
    again = list(reader.read(out))
    assert again[0].columns["kind"] == ("punt", "run")
    assert again[1].columns["yards"] == ("3.25", "?")
    if name == "x.csv":
        assert out.read_text() == GAMES.replace("?", "punt").replace("NA", "3.25")
    if name.endswith("parquet"):
        before, after = pq.read_table(tmp_path / name), pq.read_table(out)
        assert before.schema == after.schema
        assert after["yards"].to_pylist() == [1.5, 3.25, 2, None]
        assert after["extra"] == before["extra"]


def test_times_order_rows_across_zones_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = "k,t,x\n1,2024-01-01T10:00:00+02:00,b\n1,2024-01-01T09:00:00+02:00,a\n1,2024-01-01T08:00:00Z,c\n"
    (one,) = read(written(tmp_path, text), key="k", order="t")
    assert one.columns["x"] == ("a", "b", "c")
    moments = one.moments()
    assert moments is not None
    np.testing.assert_array_equal(np.diff(moments), [3600, 0])
    assert one.between("2024-01-01T07:30", "2024-01-01T08:30") == (1, 3)


def test_a_layout_and_decimal_commas(tmp_path: Path) -> None:
    text = "k;t;x\n1;02.01.2024;1,50\n1;01.01.2024;?\n"
    reader = KeyedTable(key="k", order="t", time_layout="%d.%m.%Y", decimal=",")
    (one,) = reader.read(written(tmp_path, text))
    assert one.columns["x"] == ("?", "1.50")
    reader.write([replace(one, columns=one.columns | {"x": ("2.25", "1.50")})], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == text.replace("?", "2,25")


def test_what_does_not_apply_is_no_hole(tmp_path: Path) -> None:
    (one,) = read(written(tmp_path, "x,y\n-,1\n?,\n"), absent=("-",))
    assert one.columns == {"x": (None, "?"), "y": ("1", "?")}
    (one,) = read(written(tmp_path, "x,y\n-,1\n?,\n"), absent=("",))
    assert one.columns == {"x": ("-", "?"), "y": ("1", None)}


BROKEN = {
    "ragged": ("k,t,x\na,1,y\na,2\na,3,z\n", "line 3", "2 cells"),
    "key": ("k,t,x\na,1,y\n,2,y\na,3,z\n", "line 3", "'k'"),
    "unknown key": ("k,t,x\na,1,y\n?,2,y\na,3,z\n", "line 3", "'k'"),
    "order": ("k,t,x\na,1,y\na,two,y\na,3,z\n", "line 3", "'two'"),
    "no order": ("k,t,x\na,1,y\na,NA,y\na,3,z\n", "line 3", "'t'"),
    "duplicate": ("k,t,x\na,1,y\na,1.0,y\na,3,z\n", "line 3", "line 2"),
    "time": ("k,t,x\na,2024-01-01,y\na,2024-13-01,y\na,2024-01-02,z\n", "line 3", "2024-13-01"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_row_is_one_line_and_can_be_left_out(tmp_path: Path, case: str) -> None:
    text, place, word = BROKEN[case]
    path = written(tmp_path, text)
    reader = KeyedTable(key="k", order="t")
    with pytest.raises(DataError) as found:
        list(reader.read(path))
    assert found.value.place.startswith(place)
    assert word in str(found.value)
    assert "\n" not in str(found.value).partition("\n\nhint")[0]
    records = list(reader.attempts(path))
    (one,) = [record for record in records if isinstance(record, TableRows)]
    assert one.columns["x"] == ("y", "z")
    assert sum(isinstance(record, DataError) for record in records) == 1
    reader.write(records, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == text


@pytest.mark.parametrize("option", ["key", "order", "columns"])
def test_a_missing_column_is_named_with_those_that_there_are(tmp_path: Path, option: str) -> None:
    value: Any = ("plays",) if option == "columns" else "plays"
    with pytest.raises(DataError, match=r"'plays'.*play"):
        read(written(tmp_path, GAMES), **{option: value})


def test_ties_of_numbers_can_be_kept(tmp_path: Path) -> None:
    path = written(tmp_path, "k,t,x\na,1,y\na,0,w\na,1,z\n")
    (one,) = read(path, key="k", order="t", ties="keep")
    assert one.columns["x"] == ("w", "y", "z")


@pytest.mark.parametrize("content", ["", "k,t\n", "\n\n"])
def test_empty_tables_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError):
        read(written(tmp_path, content), key="k")


def test_wrong_options_are_the_users() -> None:
    with pytest.raises(UsageError, match="key"):
        KeyedTable(key="a", order="a")
    with pytest.raises(UsageError, match="delimiter"):
        KeyedTable(delimiter="ab")
    with pytest.raises(UsageError, match="'a'"):
        KeyedTable(key="a", columns=("a", "b"))


def test_tables_of_different_files_are_not_mixed(tmp_path: Path) -> None:
    first, second = written(tmp_path, GAMES), written(tmp_path, GAMES.replace("yards", "metres"), "y.csv")
    reader = KeyedTable(key="game")
    with pytest.raises(UsageError, match="different files"):
        reader.write([*reader.read(first), *reader.read(second)], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_long_tables_are_grouped_through_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"k{rng.integers(7)},{n},{rng.integers(5)}" for n in rng.permutation(500)]
    path = written(tmp_path, "k,n,x\n" + "\n".join(rows) + "\n")
    few, many = (read(path, key="k", order="n", max_rows=size) for size in (40, 10_000))
    assert [(a.key, a.columns) for a in few] == [(b.key, b.columns) for b in many]
    reader = KeyedTable(key="k", order="n", max_rows=40)
    reader.write(reader.read(path), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_a_first_row_of_values_is_never_taken_for_a_header(tmp_path: Path) -> None:
    path = tmp_path / "nohead.csv"
    path.write_text("".join(f"{i // 4:05d},step {i % 4},2024-03-01T08:{i:02d}:00\n" for i in range(40)))
    assert KeyedTable.recognize(Head.of(path)) is None
    with pytest.raises(UsageError, match=r"names=\["):
        init([path], output=tmp_path / "recipe.toml", yes=True)
