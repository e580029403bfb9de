"""Logs as spreadsheets export them: dates as numbers of days, and a case that only the first of its rows names."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskseq.apps.init import init
from maskseq.errors import DataError
from maskseq.survey import Claim, Head
from maskseq_events.delimited import Csv
from maskseq_events.spreadsheet import parse_serial, render_serial

STEPS = ("register", "check", "approve", "close")


def laid(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text(text, newline="")
    return path


def claimed(path: Path) -> Claim:
    claim = Csv.recognize(Head.of(path))
    assert claim is not None
    return claim


def returns(path: Path, reader: Csv) -> bool:
    out = path.with_name("again.csv")
    reader.write(reader.read(path), out)
    return out.read_bytes() == path.read_bytes()


def serials(point: str = ".", digits: int = 10) -> str:
    rows = ["case;activity;timestamp;amount"]
    for n in range(40):
        day = f"{44197 + n / 4 + (n % 7) / 24:.{digits}f}".rstrip("0").rstrip(".").replace(".", point)
        rows.append(f"c{n // 4};{STEPS[n % 4]};{day};{40000.5 + n}".replace(".", point))
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("point", [".", ","])
def test_days_of_a_spreadsheet_are_times(tmp_path: Path, point: str) -> None:
    path = laid(tmp_path, serials(point))
    claim = claimed(path)
    assert claim.options["time_layout"] == "excel"
    assert "excel" in claim.why
    reader = Csv(**claim.options)
    cases = list(reader.read(path))
    texts = [line.split(";")[2].replace(",", ".") for line in path.read_text().splitlines()[1:]]
    expected = pd.to_datetime(pd.Series(map(float, texts)), unit="D", origin="1899-12-30").dt.round("s")
    times = np.concatenate([case.time for case in cases]).astype("datetime64[us]")
    assert (times == expected.to_numpy().astype("datetime64[us]")).all()
    assert returns(path, reader)
    later = replace(cases[0], time=cases[0].time + 3_600_000_000)
    reader.write([later, *cases[1:]], tmp_path / "out.csv")
    assert next(iter(reader.read(tmp_path / "out.csv"))).time.tolist() == later.time.tolist()
    assert f"44197{point}0416666667" in (tmp_path / "out.csv").read_text()
    init([path], tmp_path / "recipe.toml", yes=True)
    assert '"excel"' in (tmp_path / "recipe.toml").read_text()


@pytest.mark.parametrize("name", ["amount", "weight", "timestamp"])
def test_other_numbers_of_that_size_are_no_times(tmp_path: Path, name: str) -> None:
    digits = [f"{40000 + n}" + (".5" if name != "timestamp" else "") for n in range(40)]
    rows = [f"c{n // 4},{STEPS[n % 4]},{digit}" for n, digit in enumerate(digits)]
    path = laid(tmp_path, "\n".join([f"case,activity,{name}", *rows, ""]))
    assert "time_layout" not in claimed(path).options


def test_whole_days_need_to_be_said(tmp_path: Path) -> None:
    path = laid(tmp_path, "case,activity,date\na,x,44197\na,y,44198\n")
    with pytest.raises(DataError, match="excel"):
        list(Csv().read(path))
    (case,) = Csv(time_layout="excel").read(path)
    assert case.time.astype("datetime64[us]").astype(str).tolist()[0] == "2021-01-01T00:00:00.000000"


def written_as_read(millis: int, digits: int) -> None:
    """A moment is written so that it is read again, with no more digits than it needs or others have."""
    micros = millis * 1000
    text = render_serial(micros, f"44197.{'3' * digits}")
    assert parse_serial(text) == micros
    assert parse_serial(f"{millis / 86_400_000 + 25569:.10f}") == micros
    assert abs(float(text) - (millis / 86_400_000 + 25569)) < 1e-5


MILLIS = st.integers(0, 4_102_444_800_000) | st.integers(0, 4_102_444_800).map(lambda s: 1000 * s)


@settings(max_examples=200, derandomize=True)
@given(MILLIS, st.integers(1, 16))
def test_moments_come_back(millis: int, digits: int) -> None:
    written_as_read(millis, digits)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(MILLIS, st.integers(1, 16))
def test_many_moments_come_back(millis: int, digits: int) -> None:
    written_as_read(millis, digits)


def merged(rng: random.Random, n: int = 30, *, blank: str = "") -> tuple[str, list[list[str]]]:
    """A table in which a case and its customer stand in the first row of the case only; the activities of each."""
    rows, cases = ["Order;Customer;Activity;Time;Cost"], []
    for number in range(n):
        steps = [rng.choice(STEPS) for _ in range(rng.randint(1, 6))]
        cases.append(steps)
        for i, step in enumerate(steps):
            own = f"{5000 + 7 * number};customer {number % 4}" if i == 0 else f"{blank};"
            rows.append(f"{own};{step};2024-03-{1 + number % 28:02d} 08:{i:02d}:00;{rng.randint(1, 99)}")
    return "\r\n".join(rows) + "\r\n", cases


def test_a_case_named_in_its_first_row_only(tmp_path: Path) -> None:
    text, expected = merged(random.Random(1))
    path = laid(tmp_path, text)
    claim = claimed(path)
    assert claim.options["case_above"] is True
    assert claim.options["case_attributes"] == ["Customer"]
    assert "'Order'" in claim.why
    assert "row above" in claim.why
    reader = Csv(**claim.options)
    cases = list(reader.read(path))
    assert [list(case.activity) for case in cases] == expected
    assert [case.key for case in cases] == [str(5000 + 7 * n) for n in range(30)]
    assert [case.case_attributes["Customer"] for case in cases] == [f"customer {n % 4}" for n in range(30)]
    assert returns(path, reader)
    init([path], tmp_path / "recipe.toml", yes=True)
    assert "case_above = true" in (tmp_path / "recipe.toml").read_text()


def test_cases_that_are_missing_here_and_there_are_no_merged_cells(tmp_path: Path) -> None:
    rows = [f"{n // 4 if n % 5 else ''},{STEPS[n % 4]},2024-03-01 08:{n:02d}:00" for n in range(40)]
    path = laid(tmp_path, "\n".join(["case,activity,time", *rows, ""]))
    assert "case_above" not in claimed(path).options
    with pytest.raises(DataError, match="case_above"):
        list(Csv().read(path))


def test_rows_below_one_that_cannot_be_read_belong_to_nobody(tmp_path: Path) -> None:
    path = laid(tmp_path, "case,activity,time\na,x,2024-01-01\n,y,2024-01-02\nb,x\n,y,2024-01-04\nc,x,2024-01-05\n")
    found = list(Csv(case_above=True).attempts(path))
    assert [list(f.activity) for f in found if not isinstance(f, DataError)] == [["x", "y"], ["x"]]
    assert sum(isinstance(f, DataError) for f in found) == 2
    Csv(case_above=True).write(found, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.integers(0, 1 << 30), st.sampled_from(["", " ", '""']), st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)
)
def test_events_may_be_taken_out_and_put_in(seed: int, blank: str, a: int, b: int, length: int) -> None:
    resized_anywhere(seed, blank, a, b, length)


@pytest.mark.soak
@settings(max_examples=4000, deadline=None)
@given(
    st.integers(0, 1 << 30), st.sampled_from(["", " ", '""']), st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)
)
def test_many_events_taken_out_and_put_in(seed: int, blank: str, a: int, b: int, length: int) -> None:
    resized_anywhere(seed, blank, a, b, length)


def resized_anywhere(seed: int, blank: str, a: int, b: int, length: int) -> None:
    """Each case keeps its events, whichever of its rows are replaced by others."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = laid(Path(folder), merged(rng, 4, blank=blank)[0])
        reader = Csv(
            case="Order", activity="Activity", time="Time", case_above=True, case_attributes=("Customer",), sort=False
        )
        cases = list(reader.read(path))
        at = rng.randrange(len(cases))
        start, stop = sorted((min(a, len(cases[at])), min(b, len(cases[at]))))
        if stop - start == len(cases[at]):  # an event has to be left, beside which others are put
            start = 1
        cases[at] = cases[at].resized(start, stop, length)
        reader.write(cases, Path(folder) / "out.csv")
        again = list(reader.read(Path(folder) / "out.csv"))
        assert [(case.key, case.activity) for case in again] == [(case.key, case.activity) for case in cases]
