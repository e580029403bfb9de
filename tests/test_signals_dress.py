"""Numbers and times as people write them: units, thousands, infinities, digits, AM and PM."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from maskseq.errors import DataError, DataWarning, UsageError
from maskseq.survey import Head
from maskseq_signals.delimited import SignalCsv
from maskseq_signals.times import to_moments
from maskseq_signals.tokenizer import QuantizeTokenizer


def laid(folder, text):
    (folder / "x.csv").write_text(text)
    return folder / "x.csv"


def begun(path):
    """The recording that `init` would read, and the options it sets."""
    claim = SignalCsv.recognize(Head.of(path))
    reader = SignalCsv(**{k: tuple(v) if isinstance(v, list) else v for k, v in claim.options.items()})
    (record,) = reader.read(path)
    return reader, record, dict(claim.options)


def filled(record, value, step=1):
    values = record.channels.copy()
    values[step, 0] = value
    return replace(record, channels=values)


def test_a_row_of_units_is_kept_and_used_as_units(shared_cases, tmp_path):
    path = shared_cases / "signals" / "c_units_row.csv"
    reader, record, options = begun(path)
    assert (record.names, record.units, len(record), options) == (("a", "b"), ("mV", "uV"), 600, {})
    reader.write([record], tmp_path / "y.csv")
    assert (tmp_path / "y.csv").read_bytes() == path.read_bytes()
    assert record.channels[0].tolist() == [0.38, 26.53]


@pytest.mark.parametrize("row", ["7,NA", "2024-01-01,?", "s,", "s,5"])
def test_what_is_no_row_of_units(row, tmp_path):
    """A row with a time or a number, or without any unit, is one of values; else a text is no number."""
    rows = "2024-01-02,2\n2024-01-03,3\n"
    (record,) = SignalCsv(steps="rows").read(laid(tmp_path, f"time,x\n{row}\n{rows}"))
    assert (len(record), record.units) == (3, ("",))
    with pytest.raises(DataError, match=r"line 2.*'mV'|'mV'"):
        list(SignalCsv().read(laid(tmp_path, f"time,x\n2024-01-01,mV\n{rows}")))


def test_separated_thousands_are_read_and_written(shared_cases, tmp_path):
    path = shared_cases / "signals" / "c_thousands.csv"
    reader, record, options = begun(path)
    assert options == {"thousands": ","}
    assert (record.names, record.channels[1].tolist()) == (("a", "b"), [5147.82, 25.72])
    lines = path.read_text().splitlines()
    reader.write([filled(record, -1234567.5)], tmp_path / "y.csv")
    lines[2] = '1,"-1,234,567.50",25.72'
    assert (tmp_path / "y.csv").read_text().splitlines() == lines


@pytest.mark.parametrize(
    ("cells", "options", "values"),
    [
        (["1.234,5", "-12.345.678,25", "7,5"], {"decimal": ",", "thousands": "."}, [1234.5, -12345678.25, 7.5]),
        (["1'234.5", "2'000.0", "7.0"], {"thousands": "'"}, [1234.5, 2000, 7]),
        (["1 234 567", "2 000.5", "7"], {"thousands": " "}, [1234567, 2000.5, 7]),
        (["1,234", "2,000", "7,000"], {"decimal": ","}, [1.234, 2, 7]),  # nothing says that these are thousands
    ],
)
def test_what_separates_thousands(cells, options, values, tmp_path):
    path = laid(tmp_path, "time;x\n" + "".join(f"2024-01-0{i};{cell}\n" for i, cell in enumerate(cells, 1)))
    _, record, found = begun(path)
    assert (found, record.channels[:, 0].tolist()) == (options, values)


def test_a_sign_cannot_separate_thousands_and_decimals():
    with pytest.raises(UsageError, match="thousands"):
        SignalCsv(thousands=".")


@pytest.mark.filterwarnings("ignore:.*'-Infinity':maskseq.errors.DataWarning")
def test_an_infinite_value_is_named_and_its_channel_stays(shared_cases, tmp_path):
    path = shared_cases / "signals" / "c_inf.csv"
    with pytest.warns(DataWarning, match="line 42, column 'a'"):
        reader, record, options = begun(path)
    assert (record.names, options) == (("a", "b"), {})
    assert np.argwhere(np.isnan(record.channels)).tolist() == [[40, 0], [41, 1]]
    reader.write([record], tmp_path / "y.csv")
    assert (tmp_path / "y.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["5.0", "6.0", "", "9.0"], "7.0"),
        (["5", "6", "", "9"], "7"),
        (["5.10", "6.50", "", "9.20"], "7.00"),
        (["5.0", "5.0", "", "5.0"], "5.0"),
        (["5.25", "6.5", "", "9.0"], "7"),
        (["5", "6.5", "", "9.25"], "7"),
    ],
)
def test_fills_have_the_digits_of_known_values(cells, expected, tmp_path):
    path = laid(tmp_path, "time,x\n" + "".join(f"2024-01-0{i},{cell}\n" for i, cell in enumerate(cells, 1)))
    (record,) = SignalCsv().read(path)
    tokenizer = QuantizeTokenizer.fit([record], scheme="uniform", bins=2)
    number = 6.9666 if len(set(cells)) > 2 else 5.0
    new = tokenizer.put_numbers(record, np.array([[2, 0]]), np.array([number]))
    SignalCsv().write([new], tmp_path / "y.csv")
    assert (tmp_path / "y.csv").read_text().splitlines()[3] == f"2024-01-03,{expected}"


TIMES = [datetime(2024, 11, 9, 22) + timedelta(minutes=37 * i) for i in range(200)]
LAYOUTS = ["%Y-%m-%d %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M", "%d.%m.%Y %I:%M%p"]


@pytest.mark.parametrize("layout", [*LAYOUTS, "%m/%d/%Y, %I:%M:%S.%f p.m."[:-5] + "%p"])
def test_times_of_half_days(layout):
    moments = to_moments([time.strftime(layout) for time in TIMES])
    assert moments.astype("datetime64[us]").tolist() == TIMES


def test_noon_and_midnight():
    hours = ["12:00 AM", "1:30 am", "12:00 PM", "12:59 p.m.", "11:59:59 PM"]
    moments = to_moments([f"2024-01-05 {hour}" for hour in hours])
    assert [str(m)[11:19] for m in moments] == ["00:00:00", "01:30:00", "12:00:00", "12:59:00", "23:59:59"]
    with pytest.raises(ValueError, match="dates nor numbers"):
        to_moments(["2024-01-05 13:00 PM"])


def test_day_and_month_are_not_guessed():
    """Rows of one day a month read both ways; of days that go back otherwise only one way."""
    with pytest.raises(ValueError, match="dates nor numbers"):
        to_moments(["01/02/2024", "01/03/2024", "01/04/2024"])
    assert str(to_moments(["01/11/2024", "02/11/2024", "01/12/2024"])[2])[:10] == "2024-12-01"
    assert str(to_moments(["01/11/2024", "01/12/2024", "02/11/2024"])[2])[:10] == "2024-02-11"
