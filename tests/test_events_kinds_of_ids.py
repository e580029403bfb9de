"""A column called an identifier may be that of a case, of a kind of event, or of a row: its values tell."""

import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from maskseq.apps.init import init
from maskseq.apps.init_readings import UndecidedError
from maskseq.survey import Claim, Head
from maskseq_events.delimited import Csv


def claimed(folder: Path, rows: list[str]) -> Claim:
    path = folder / "log.csv"
    path.write_text("\n".join([*rows, ""]))
    claim = Csv.recognize(Head.of(path))
    assert claim is not None
    return claim


def windows_events(header: str, row: str) -> list[str]:
    rng, when, rows = random.Random(3), datetime(2024, 3, 14), [header]
    for n in range(300):
        when += timedelta(seconds=rng.randint(1, 90))
        kind = rng.choice([4624, 4634, 4672, 7036, 1014, 4688])
        level, user = rng.choice(["Information", "Warning"]), rng.choice(["S-1-5-18", "S-1-5-19", "S-1-5-20"])
        port = rng.randint(1, 9999)
        rows.append(row.format(n=8000 + n, when=when, kind=kind, level=level, task=kind % 7, user=user, port=port))
    return rows


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (
            "TimeCreated,Id,LevelDisplayName,Message,MachineName",
            "{when:%Y-%m-%d %H:%M:%S},{kind},{level},event {kind} at port {port},PC1",
        ),
        (
            "RecordId,TimeCreated,Id,Task,Level,UserId",
            "{n},{when:%Y-%m-%d %H:%M:%S},{kind},{task},{level},{user}",
        ),
    ],
)
def test_event_ids_are_kinds_of_events_and_no_cases(tmp_path: Path, header: str, row: str) -> None:
    claim = claimed(tmp_path, windows_events(header, row))
    assert (claim.options["case"], claim.options["activity"]) == ("", "Id")
    assert "'Id'" in claim.doubt
    with pytest.raises(UndecidedError) as refused:
        init([tmp_path / "log.csv"], tmp_path / "recipe.toml")
    assert any("session_lines" in str(each) for each in refused.value.candidates)
    init([tmp_path / "log.csv"], tmp_path / "recipe.toml", yes=True)
    assert 'case = ""' in (tmp_path / "recipe.toml").read_text()


@pytest.mark.parametrize("name", ["id", "Id", "ID"])
def test_identifiers_of_rows_that_stand_together_are_cases(tmp_path: Path, name: str) -> None:
    rows, rng = [f"{name},step,when"], random.Random(1)
    for case in range(40):
        for i, step in enumerate(["create", "check", "ship", "close"][: rng.randint(2, 4)]):
            rows.append(f"{5000 + 7 * case},{step},{datetime(2024, 3, 1) + timedelta(hours=case, minutes=i)}")
    claim = claimed(tmp_path, rows)
    assert claim.options["case"] == name
    assert not claim.doubt


def test_an_identifier_of_every_row_is_no_case(tmp_path: Path) -> None:
    rows, rng = ["Id,OrderNo,Action,When"], random.Random(1)
    for case in range(40):
        for i, step in enumerate(["create", "check", "ship", "close"][: rng.randint(2, 4)]):
            when = datetime(2024, 3, 1) + timedelta(hours=case, minutes=i)
            rows.append(f"{rng.randint(10**6, 10**7)},{4000 + case},{step},{when}")
    claim = claimed(tmp_path, rows)
    assert (claim.options["case"], claim.options["activity"]) == ("OrderNo", "Action")


def test_a_case_that_every_row_has_for_itself_is_asked_about(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = [
        f"{10000 + 3 * n},{rng.choice(['create', 'check', 'ship'])},{datetime(2024, 3, 1) + timedelta(minutes=n)}"
        for n in range(200)
    ]
    claimed(tmp_path, ["case_id,event,time", *rows])
    with pytest.raises(UndecidedError) as refused:
        init([tmp_path / "log.csv"], tmp_path / "recipe.toml")
    assert any("session_lines" in str(each) for each in refused.value.candidates)
