"""Tables as programs export them: what `maskseq init` must ask, and must not take for something else."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from maskseq.apps.init import init
from maskseq.errors import UsageError
from maskseq.survey import Head
from maskseq_events.delimited import Csv
from maskseq_events.jsonlines import JsonLines
from maskseq_signals.delimited import SignalCsv

HEADER = "Level,Date and Time,Source,Task\n"


def windows(path: Path, *, days: int) -> Path:
    """Newest first, as Windows exports events; its dates are month/day/year."""
    lines = []
    for i in range(200):
        at = datetime(2024, 3, 9, 17) - timedelta(hours=24 * days * i / 200)
        clock = f"{at.month}/{at.day}/{at.year} {at.hour % 12 or 12}:{at:%M:%S} {at:%p}"
        lines.append(f"{('Information', 'Warning')[i % 3 == 0]},{clock},{('DNS', 'Kernel', 'Disk')[i % 3]},None\n")
    path.write_text(HEADER + "".join(lines))
    return path


def test_day_and_month_are_not_swapped_where_all_would_take_far_longer(tmp_path: Path) -> None:
    claim = Csv.recognize(Head.of(windows(tmp_path / "e.csv", days=4)))
    assert claim is not None
    layouts = {choice.options.get("time_layout") for choice in claim.instead if choice.format is None}
    assert layouts == {"%m/%d/%Y %I:%M:%S %p"}


def test_both_orders_are_offered_where_nothing_tells(tmp_path: Path) -> None:
    claim = Csv.recognize(Head.of(windows(tmp_path / "e.csv", days=0)))
    assert claim is not None
    layouts = {choice.options.get("time_layout") for choice in claim.instead if choice.format is None}
    assert layouts == {"%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p"}


def test_what_is_always_the_same_is_no_activity(tmp_path: Path) -> None:
    claim = Csv.recognize(Head.of(windows(tmp_path / "e.csv", days=4)))
    assert claim is not None
    assert {choice.options["activity"] for choice in claim.instead if "activity" in choice.options} <= {
        "Level",
        "Source",
    }


def test_the_line_that_powershell_begins_with_is_passed_over(tmp_path: Path) -> None:
    rows = "".join(f'"a{i % 9}";"step {i % 3}";"2024-03-04 08:{i:02d}:00";"line\r\nline"\r\n' for i in range(50))
    path = tmp_path / "e.csv"
    path.write_bytes(f'#TYPE Selected.EventLogRecord\r\n"case";"activity";"time";"text"\r\n{rows}'.encode())
    claim = Csv.recognize(Head.of(path))
    assert claim is not None
    reader = Csv(**claim.options)
    cases = list(reader.read(path))
    assert [len(case) for case in cases] == [6] * 5 + [5] * 4
    reader.write(cases, tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "text", ['[\n {"a": 1},\n {"a": 2}\n]\n', '[{"a": 1}, {"a": 2}]', '{\n "a": 1\n}\n{\n "a": 2\n}\n']
)
def test_json_that_is_not_an_object_a_line_is_refused_with_what_makes_it_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "e.json"
    path.write_text(text)
    assert JsonLines.recognize(Head.of(path)) is not None
    with pytest.raises(UsageError, match="jq"):
        init([path], output=tmp_path / "recipe.toml", yes=True)


@pytest.mark.parametrize("name", ["ts", "epoch", "sample", "x0"])
def test_a_column_that_rises_by_equal_steps_is_the_time(tmp_path: Path, name: str) -> None:
    path, values = tmp_path / "s.csv", np.sin(np.arange(200) / 9)
    path.write_text(f"{name},v\n" + "".join(f"{1709280480123 + 20 * i},{v:.3f}\n" for i, v in enumerate(values)))
    claim = SignalCsv.recognize(Head.of(path))
    assert claim is not None
    (record,) = SignalCsv(**claim.options).read(path)
    assert record.names == ("v",)
    assert np.allclose(record.channels[:, 0], values, atol=1e-3)


def test_a_measured_column_is_none(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("a,b\n" + "".join(f"{i % 50},{np.sin(i / 9):.3f}\n" for i in range(200)))
    claim = SignalCsv.recognize(Head.of(path))
    assert claim is not None
    assert "time" not in claim.options
