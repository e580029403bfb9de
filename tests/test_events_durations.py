"""Events with a beginning and an end: durations as an attribute, read and written back."""

from dataclasses import replace

import numpy as np
import pytest

from maskseq.errors import DataError
from maskseq.testing import check_tokenizer
from maskseq_events.case import UNKNOWN
from maskseq_events.delimited import Csv
from maskseq_events.tokenizer import EventTokenizer

TEXT = """case,activity,began,time,room
a,visit,2024-03-01 09:00:00.000,2024-03-01 09:20:00.500,x
a,scan,?,2024-03-01 11:00:00.000,y
a,talk,2024-03-01 12:00:00.000,?,x
b,visit,2024-03-01 10:00:01.000,2024-03-01 10:00:00.000,x
b,scan,,2024-03-01 13:00:00.000,
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(TEXT)
    return path


def test_durations_are_the_seconds_from_start_to_end(log, tmp_path):
    reader = Csv(start="began")
    a, b = reader.read(log)
    assert a.attributes["duration"] == ("1200.5", UNKNOWN, UNKNOWN)
    assert b.attributes["duration"] == ("-1", UNKNOWN)
    assert "began" not in a.attributes
    assert a.kinds["duration"] == "numeric"
    reader.write([a, b], tmp_path / "same.csv")
    assert (tmp_path / "same.csv").read_text() == TEXT


def test_an_unknown_start_is_written_from_a_filled_duration_and_a_known_one_is_kept(log, tmp_path):
    reader = Csv(start="began")
    a, b = reader.read(log)
    a = replace(a, attributes=a.attributes | {"duration": ("1200.5", "90.25", "60")})
    b = replace(b, attributes=b.attributes | {"duration": ("-1", "3600")})
    reader.write([a, b], tmp_path / "new.csv")
    expected = TEXT.replace("scan,?", "scan,2024-03-01 10:58:29.750").replace("scan,,", "scan,2024-03-01 12:00:00.000,")
    assert (tmp_path / "new.csv").read_text() == expected


def test_durations_are_tokenized_as_numbers(tmp_path):
    rng = np.random.default_rng(0)
    ends = 1_709_300_000 + np.cumsum(rng.integers(60, 9000, 400))
    took = rng.integers(1, 5000, 400)
    path = tmp_path / "long.csv"
    rows = [f"c{i // 8},{'xyz'[i % 3]},{e - t},{e}" for i, (e, t) in enumerate(zip(ends, took, strict=True))]
    path.write_text("\n".join(["case,activity,start,time", *rows]) + "\n")
    cases = list(Csv(start="start", time_layout="epoch_s").read(path))
    assert [float(v) for case in cases for v in case.attributes["duration"]] == took.tolist()
    tokenizer = EventTokenizer.fit(cases, attributes=["duration"], numeric_bins=16)
    assert tokenizer.fields[1].centres is not None
    assert "no leak" in check_tokenizer(tokenizer, cases[:5]).checked


def test_a_start_that_is_no_time_is_named(log):
    log.write_text(TEXT.replace("?,2024-03-01 11", "soon,2024-03-01 11"))
    with pytest.raises(DataError, match=r"line 3, column 'began': 'soon' is not a timestamp"):
        list(Csv(start="began").read(log))
    with pytest.raises(DataError, match=r"no column 'begin' \(start\)"):
        list(Csv(start="begin").read(log))
