"""`maskseq init` where the content does not say how to read a file: it asks, and every answer that it prints works."""

import csv
import json
import shlex
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from maskseq.apps import init as starter
from maskseq.apps.init_readings import UndecidedError
from maskseq.cli import app
from maskseq.errors import UsageError
from maskseq.survey import BY_NAME, Claim, Head
from maskseq_events.delimited import Csv
from maskseq_events.roles import says_activity, says_case, words

START = datetime(2024, 3, 1, tzinfo=UTC)


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def requested(*files: Path, folder: Path, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """The question that `init` asks of files, which leaves nothing behind; every answer is typed, and works."""
    output = folder / "asked" / "recipe.toml"
    output.parent.mkdir(exist_ok=True)
    result = maskseq("init", *files, "-o", output, "--json", *options)
    assert result.exit_code == 2, result.output
    assert list(output.parent.iterdir()) == []
    question: dict[str, Any] = json.loads(result.stdout)
    for number, candidate in enumerate(question["candidates"]):
        program, *typed = shlex.split(candidate["command"])
        assert program == "maskseq"
        answered = maskseq(*typed)
        assert answered.exit_code == 0, answered.output
        recipe = tomllib.loads(output.read_text())
        assert recipe["data"]["format"] == candidate["format"]
        output.unlink()
        if number == 0:
            accepted = maskseq("init", *files, "-o", output, "--yes", *options)
            assert accepted.exit_code == 0, accepted.output
            assert tomllib.loads(output.read_text()) == recipe
            output.unlink()
    return question


def options_of(candidate: dict[str, Any]) -> dict[str, Any]:
    """What its overrides say of the format, as a recipe has it."""
    return {
        key.removeprefix("data.format_options."): value
        for key, _, value in (override.partition("=") for override in candidate["overrides"])
    }


def table(path: Path, names: str, rows: Sequence[Sequence[object]]) -> Path:
    path.write_text("\n".join([names, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def stream(n: int) -> list[list[object]]:
    """Events of eight cases that go on side by side, with a number, a date, a time of the day, a node and a kind."""
    rows = []
    for i in range(n):
        at = START + timedelta(minutes=9 * i)
        rows.append([i + 1, f"{at:%Y-%m-%d}", f"{at:%H:%M:00}", f"n{i * 7 % 5}", f"E{i * i % 7}"])
    return rows


def test_a_time_of_day_and_a_line_number_are_no_case(tmp_path: Path) -> None:
    """The time of a day comes again every day, and the node is but where it happened: a choice, not a fact."""
    path = table(tmp_path / "log.csv", "LineId,Date,Time,Node,EventId", stream(480))
    cases = {options_of(each).get("case") for each in requested(path, folder=tmp_path)["candidates"]}
    assert {"Node", '""'} <= cases <= {"Node", '""', None}  # or one stream, parted into sessions


def test_what_counts_the_rows_is_no_attribute(tmp_path: Path) -> None:
    """Cases run side by side, so that from one event of a case to the next it grows by more than one."""
    rows: list[list[object]] = [
        [i + 1, f"c{i % 12 + i // 120 * 12}", "abcdefghij"[i // 12 % 10], START + timedelta(hours=i), i % 7]
        for i in range(480)
    ]
    path = table(tmp_path / "log.csv", "LineNo,case,activity,time,level", rows)
    assert maskseq("init", path, "-o", tmp_path / "recipe.toml").exit_code == 0
    assert tomllib.loads((tmp_path / "recipe.toml").read_text())["tokenizer"]["attributes"] == ["level"]


def test_the_rows_of_a_filtered_log_are_counted_as_well(tmp_path: Path) -> None:
    """Gaps between the numbers, which grow with the time; a reading that grows as well but repeats is none."""
    rows: list[list[object]] = [
        [5 * i + i % 3, f"c{i % 12 + i // 120 * 12}", "abcdefghij"[i // 12 % 10], START + timedelta(hours=i), i // 2]
        for i in range(480)
    ]
    path = table(tmp_path / "log.csv", "seq,case,activity,time,meter", rows)
    assert maskseq("init", path, "-o", tmp_path / "recipe.toml").exit_code == 0
    assert tomllib.loads((tmp_path / "recipe.toml").read_text())["tokenizer"]["attributes"] == ["meter"]


def test_names_are_split_where_words_begin() -> None:
    assert words("CaseID") == words("case_id") == words("Case Id") == ["case", "id"]
    assert words("HTTPStatusCode") == ["http", "status", "code"]
    assert [says_case(name) for name in ("TicketID", "orderNumber", "LineItem", "EventId", "customer_name")] == [
        *(True, True, False, False, True)
    ]
    assert [says_activity(name) for name in ("EventId", "StepName", "customer_name", "Brand", "ActivityName")] == [
        *(True, True, False, False, True)
    ]


def test_columns_in_camel_case_are_understood(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        [i + 1, f"T{i // 4}", ["open", "work", "check", "close"][i % 4], START + timedelta(hours=i), f"p{i // 4 % 3}"]
        for i in range(160)
    ]
    path = table(tmp_path / "log.csv", "LineId,TicketID,StepName,HappenedAt,AgentId", rows)
    assert maskseq("init", path, "-o", tmp_path / "recipe.toml").exit_code == 0
    options = tomllib.loads((tmp_path / "recipe.toml").read_text())["data"]["format_options"]
    assert options == {"case": "TicketID", "activity": "StepName", "time": "HappenedAt"}


def test_two_columns_that_could_be_the_activity_are_a_question(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        [f"k{i // 6}", "abcdef"[i % 6], "uvwxyz"[(i * 5 + i // 6) % 6], START + timedelta(hours=i)] for i in range(240)
    ]
    path = table(tmp_path / "log.csv", "one,two,three,when", rows)
    question = requested(path, folder=tmp_path)
    assert {options_of(each).get("activity") for each in question["candidates"]} == {"two", "three"}
    narrowed = maskseq("init", path, "-o", tmp_path / "r.toml", "--set", "data.format_options.activity=three")
    assert narrowed.exit_code == 0, narrowed.output
    recipe = tomllib.loads((tmp_path / "r.toml").read_text())
    assert recipe["data"]["format_options"] == {"case": "one", "activity": "three", "time": "when"}


def test_the_user_may_choose_what_is_not_offered(tmp_path: Path) -> None:
    path = table(tmp_path / "log.csv", "LineId,Date,Time,Level,EventId", [[*r[:3], r[0] % 2, r[4]] for r in stream(99)])
    roles = [f"data.format_options.{role}" for role in ("case=Level", "activity=EventId", "time=Date")]
    found = maskseq("init", path, "-o", tmp_path / "r.toml", *(part for role in roles for part in ("--set", role)))
    assert found.exit_code == 0, found.output
    options = tomllib.loads((tmp_path / "r.toml").read_text())["data"]["format_options"]
    assert options == {"case": "Level", "activity": "EventId", "time": "Date"}


def test_days_and_months_that_cannot_be_told_apart_are_a_question(tmp_path: Path) -> None:
    """Both read, and in both the time never goes back within a case; where it does in one, the other is right."""

    def log(days: list[str]) -> Path:
        rows: list[list[object]] = [[f"c{c}", a, f"{day} 10:0{i}:00"] for c in range(30) for i, (a, day) in
                                    enumerate(zip("abc", days, strict=True))]  # fmt: skip
        return table(tmp_path / "log.csv", "case,activity,time", rows)

    question = requested(log(["03/04/2024"] * 3), folder=tmp_path)
    layouts = {options_of(each).get("time_layout") for each in question["candidates"]}
    assert layouts - {None} == {"%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"}
    path = log(["01/12/2024", "02/10/2024", "03/05/2024"])  # with the day first, the year would run backwards
    assert maskseq("init", path, "-o", tmp_path / "r.toml").exit_code == 0
    recipe = tomllib.loads((tmp_path / "r.toml").read_text())
    assert recipe["data"]["format_options"]["time_layout"] == "%m/%d/%Y %H:%M:%S"


def test_a_first_line_that_is_an_event_names_no_columns(tmp_path: Path) -> None:
    rows: list[list[object]] = [[f"c{i // 3}", "abc"[i % 3], START + timedelta(hours=i)] for i in range(90)]
    path = table(tmp_path / "log.csv", f"c0,a,{START}", rows)
    result = maskseq("init", path, "-o", tmp_path / "recipe.toml")
    assert result.exit_code == 2, result.output
    assert str(START) in result.output


def test_sessions_of_a_single_line_are_a_question(tmp_path: Path) -> None:
    path = tmp_path / "auth.log"
    lines = [f"Dec 10 {i // 60:02d}:{i % 60:02d}:00 h sshd[{i}]: Failed password {i % 3}" for i in range(300)]
    path.write_text("\n".join(lines) + "\n")
    first, *others = requested(path, folder=tmp_path)["candidates"]
    assert options_of(first)["session_lines"] == "100"
    assert any("session_lines" not in options_of(each) for each in others)
    path.write_text("\n".join(line.replace(f"[{i}]", f"[{i // 5}]") for i, line in enumerate(lines)) + "\n")
    assert maskseq("init", path, "-o", tmp_path / "recipe.toml").exit_code == 0


def test_cases_of_a_single_event_are_a_question_though_the_column_is_called_case(tmp_path: Path) -> None:
    rows: list[list[object]] = [[i, f"o{i // 4}", "abcd"[i % 4], START + timedelta(hours=i)] for i in range(200)]
    path = table(tmp_path / "log.csv", "case,order,activity,time", rows)
    first, *others = requested(path, folder=tmp_path)["candidates"]
    assert options_of(first)["case"] == "order"
    assert {} in [options_of(each) for each in others]  # the usual names are no options


def test_two_formats_that_know_a_file_alike_are_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskseq_signals.delimited import SignalCsv

    path = tmp_path / "levels.csv"
    path.write_text(
        "when,level\n" + "\n".join(f"2024-01-{1 + h // 24:02d} {h % 24:02d}:00:00,{h * h % 7}" for h in range(96))
    )
    strength = Claim.strength if isinstance(getattr(Claim, "strength", None), int) else 3
    recognize = SignalCsv.recognize

    def alike(head: Head) -> Claim | None:
        assert recognize(head) is not None
        return Claim(
            strength=strength, why="a table of lines", options={"layout": "(?P<message>.*)", "session_lines": 8}
        )

    monkeypatch.setattr("maskseq_events.textlog.TextLog.recognize", alike)
    question = requested(path, folder=tmp_path, options=())
    assert {each["format"] for each in question["candidates"]} == {"signal-csv", "textlog"}


def test_a_question_is_an_error_with_the_answers_in_python(tmp_path: Path) -> None:
    path = table(tmp_path / "log.csv", "LineId,Date,Time,Node,EventId", stream(480))
    with pytest.raises(UsageError, match="case") as raised:
        starter.init([path], tmp_path / "recipe.toml")
    assert isinstance(raised.value, UndecidedError)
    assert not (tmp_path / "recipe.toml").exists()
    for index, each in enumerate(raised.value.candidates):
        output = tmp_path / f"{index}.toml"
        starter.init([path], output, format=each["format"], overrides=each["overrides"])
        assert tomllib.loads(output.read_text())["data"]["format"] == each["format"]
    starter.init([path], tmp_path / "recipe.toml", yes=True)


def test_what_else_the_user_set_is_part_of_every_answer(tmp_path: Path) -> None:
    path = table(tmp_path / "a b's.csv", "LineId,Date,Time,Node,EventId", stream(480))
    question = requested(path, folder=tmp_path, options=("--set", "training.tokens=9000"))
    for each in question["candidates"]:
        assert "training.tokens=9000" in shlex.split(each["command"])


def test_a_table_that_holds_no_events_says_so_by_its_name_only(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", "a,b", [[i, i * i] for i in range(30)])
    claim = Csv.recognize(Head.of(path))
    assert claim is not None
    assert claim.strength == BY_NAME
    assert claim.doubt


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(6)),
    names=st.permutations(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]),
    side_by_side=st.booleans(),
    seed=st.integers(0, 9),
)
def test_under_any_names_no_counter_and_no_time_is_a_role(
    order: list[int], names: list[str], side_by_side: bool, seed: int, tmp_path: Path
) -> None:
    """A log of 30 cases in columns of any order and name: what it is read as, or may be, is never nonsense."""
    events = [(c, k) for c in range(30) for k in range(6)]
    if side_by_side:
        events.sort(key=lambda event: event[0] // 3 * 100 + event[1])
    columns: dict[int, list[object]] = {n: [] for n in range(6)}
    for i, (c, k) in enumerate(events):
        at = START + timedelta(minutes=7 * i)
        for n, cell in enumerate((f"k{c}", "abcdef"[(k * 5 + c * seed) % 6], at, i + 1, f"{at:%H:%M}", f"w{c % 4}")):
            columns[n].append(cell)
    rows = [[columns[n][i] for n in order] for i in range(len(events))]
    path = table(tmp_path / "log.csv", ",".join(names), rows)
    title = {n: names[order.index(n)] for n in range(6)}
    output = tmp_path / "recipe.toml"
    output.unlink(missing_ok=True)
    try:
        starter.init([path], output)
    except UndecidedError as question:
        offered = [options_of(dict(each)) for each in question.candidates if each["format"] == "event-csv"]
    else:
        offered = [tomllib.loads(output.read_text())["data"]["format_options"]]
    for options in offered:
        assert options["case"] in (title[0], title[5])
        assert options["activity"] in (title[1], title[5])
        assert options["time"] in (title[2], "")


@pytest.mark.parametrize("by_time", [pytest.param(False, marks=pytest.mark.soak), True])
def test_of_a_real_log_whose_columns_have_other_names_the_case_is_the_first_choice(
    by_time: bool, shared_data: Path, tmp_path: Path
) -> None:
    """Cases of a help desk, in their order or that of the time; customers have tickets in several of them."""
    with (shared_data / "events" / "helpdesk_full.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    kept = [header.index(name) for name in ("Case ID", "Activity", "Resource", "Complete Timestamp", "customer")]
    rows = [[row[i] for i in kept] for row in (sorted(rows, key=lambda row: row[kept[3]]) if by_time else rows)][:1500]
    path = table(tmp_path / "log.csv", "Vorfall,Was,Wer,Wann,customer", rows)
    first = requested(path, folder=tmp_path)["candidates"][0]
    assert options_of(first) == {"case": "Vorfall", "activity": "Was", "time": "Wann"}


REAL = ("Apache_2k.log_structured.csv", "OpenSSH_2k.log_structured.csv", "HDFS_2k.log")
MORE = ("BGL_2k.log_structured.csv", "HDFS_2k.log_structured.csv", "BGL_2k.log")


@pytest.mark.parametrize("name", [*REAL, *(pytest.param(name, marks=pytest.mark.soak) for name in MORE)])
def test_of_real_logs_without_cases_nothing_is_stated_as_a_fact(name: str, shared_data: Path, tmp_path: Path) -> None:
    for each in requested(shared_data / "events" / "loghub" / name, folder=tmp_path)["candidates"]:
        assert options_of(each).get("case") not in ("LineId", "Time", "Date", "Timestamp", "Day", "EventId")


@pytest.mark.parametrize("name", ["date_time_cols.csv", "docker.jsonl"])
def test_of_small_files_without_cases_nothing_is_stated_as_a_fact(
    name: str, shared_cases: Path, tmp_path: Path
) -> None:
    requested(shared_cases / "events" / name, folder=tmp_path)


@pytest.mark.parametrize(
    ("day", "options", "by"),
    [
        ("Mar {:2d} ", (), "record"),
        ("Mar {:2d} ", ("--set", "data.format_options.year=2024"), "time"),
        ("2024-03-{:02d}T", (), "time"),  # by pid: the process is the same in all lines
    ],
)
def test_a_split_by_time_is_proposed_only_where_all_records_have_times(
    day: str, options: tuple[str, ...], by: str, tmp_path: Path
) -> None:
    """Sixty sessions of a log that says no year cannot be split by time; with a year they can."""
    lines = [
        f"{day.format(1 + n // 24)}{n % 24:02d}:{step:02d}:00 host sshd[{4000 + n}]: {what}"
        for n in range(60)
        for step, what in enumerate(("opened", "password accepted", "closed"))
    ]
    log, recipe = tmp_path / "auth.log", tmp_path / "recipe.toml"
    log.write_text("\n".join(lines) + "\n")
    assert maskseq("init", log, "-o", recipe, *options).exit_code == 0
    assert tomllib.loads(recipe.read_text())["data"]["split"]["by"] == by
    result = maskseq("pretrain", recipe, "-o", tmp_path / "run", "--dry-run")
    assert result.exit_code == 0, result.output
