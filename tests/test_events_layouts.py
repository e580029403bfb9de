"""Layouts of text logs that nobody has to describe: recognized, cut like another parser does, and written back."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from dateutil import parser as dateutil_parser

from maskseq.apps.init import init
from maskseq.errors import UsageError
from maskseq.survey import Head
from maskseq_events.case import UNKNOWN, UNKNOWN_TIME, Case
from maskseq_events.jsonlines import JsonLines
from maskseq_events.log_layouts import LAYOUTS
from maskseq_events.notation import pattern_of
from maskseq_events.stamps import STAMPS, stamp
from maskseq_events.textlog import TextLog

LOGS = {
    # Each: name of the layout, lines, fields of the first line, its time in a form that dateutil reads.
    "log4j": (
        "log4j",
        [
            "2015-10-18 18:01:47,978 INFO [main] org.apache.hadoop.mapreduce.v2.app.MRAppMaster: Created MRAppMaster",
            "2015-10-18 18:01:48,963 WARN [main] org.apache.hadoop.Conf: a: b - c",
            "2015-10-18 18:01:49,001 ERROR [IPC Server handler 3 on 62270] org.apache.hadoop.Ipc: Exit code 1",
        ],
        {"level": "INFO", "thread": "main", "message": "Created MRAppMaster"},
        "2015-10-18 18:01:47.978",
    ),
    "log4j, padded": (
        "log4j",
        [
            "2024-03-01 08:08:00,000 INFO  [worker-1] com.x.Svc: Register request 128",
            "2024-03-01 08:08:01,000 ERROR [worker-2] com.x.Svc: Register request 129",
            "2024-03-01 08:08:02,000 DEBUG [worker-1] com.x.Svc: Close",
        ],
        {"level": "INFO", "thread": "worker-1", "logger": "com.x.Svc", "message": "Register request 128"},
        "2024-03-01 08:08:00.000",
    ),
    "spark": (
        "log4j",
        [
            "17/06/09 20:10:40 INFO executor.Executor: Running task 0.0 in stage 0.0",
            "17/06/29 20:10:41 INFO rdd.HadoopRDD: Input split: hdfs://x",
            "17/06/29 20:10:42 WARN storage.BlockManager: Putting block",
        ],
        {"level": "INFO", "logger": "executor.Executor", "message": "Running task 0.0 in stage 0.0"},
        "2017-06-09 20:10:40",
    ),
    "logback": (
        "logback",
        [
            "2024-03-01 08:08:00.123 [http-nio-8080-exec-1] INFO  com.x.Svc - Register 1",
            "2024-03-01 08:08:01.123 [http-nio-8080-exec-2] ERROR com.x.Svc - failed - again",
            "2024-03-01 08:08:02.123 [main] DEBUG com.x.Svc - Close",
        ],
        {"level": "INFO", "thread": "http-nio-8080-exec-1", "logger": "com.x.Svc", "message": "Register 1"},
        "2024-03-01 08:08:00.123",
    ),
    "spring": (
        "spring",
        [
            "2024-03-01T08:08:00.123+01:00  INFO 4711 --- [demo] [           main] c.x.App   : Starting Demo",
            "2024-03-01T08:08:01.123+01:00  WARN 4711 --- [demo] [nio-8080-exec-1] o.s.web.Servlet       : No mapping",
            "2024-03-01T08:08:02.123+01:00 ERROR 4711 --- [demo] [nio-8080-exec-1] o.s.web.Servlet       : Failed: x",
        ],
        {"level": "INFO", "pid": "4711", "app": "demo", "thread": "main", "logger": "c.x.App"},
        "2024-03-01 08:08:00.123+01:00",
    ),
    "spring, older": (
        "spring",
        [
            "2020-03-01 08:08:00.123  INFO 4711 --- [           main] c.x.DemoApplication   : Starting Demo",
            "2020-03-01 08:08:01.123  WARN 4711 --- [nio-8080-exec-1] o.s.web.Servlet       : No mapping",
            "2020-03-01 08:08:02.123 ERROR 4711 --- [nio-8080-exec-1] o.s.web.Servlet       : Failed: x",
        ],
        {"level": "INFO", "app": None, "thread": "main", "message": "Starting Demo"},
        "2020-03-01 08:08:00.123",
    ),
    "rfc5424": (
        "rfc5424",
        [
            "<34>1 2003-10-11T22:14:15.003Z host.example.com su - ID47 - 'su root' failed for ann on /dev/pts/8",
            "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
            '<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [ex@32473 iut="3" src="A\\]p"][ex@1 a="b"] An entry',
            '<165>1 2003-10-11T22:14:16.003Z h evntslog - ID47 [exampleSDID@32473 iut="3"]',
        ],
        {"priority": "34", "host": "host.example.com", "process": "su", "msgid": "ID47", "data": None},
        "2003-10-11T22:14:15.003Z",
    ),
    "journal, ISO": (
        "syslog_iso",
        [
            "2024-03-01T08:08:00+0100 box kernel: Linux version 6.1",
            "2024-03-01T08:08:01+0100 box systemd[1]: Started Session 3 of user ann.",
            "2024-03-01T08:08:02+0100 box sshd[812]: Accepted publickey for ann: RSA",
        ],
        {"host": "box", "process": "kernel", "message": "Linux version 6.1"},
        "2024-03-01T08:08:00+01:00",
    ),
    "logfmt, logrus": (
        "logfmt",
        [
            'time="2024-03-01T08:08:00.123+01:00" level=info msg="Register request 128" worker=1',
            'time="2024-03-01T08:08:01.123+01:00" level=warning msg="a \\"quoted\\" word = here" err="msg=no"',
            'time="2024-03-01T08:08:02.123+01:00" level=info msg=Close',
        ],
        {"level": "info", "logger": None},
        "2024-03-01T08:08:00.123+01:00",
    ),
    "logfmt, go-kit": (
        "logfmt",
        [
            'level=info ts=2024-03-01T08:08:00.123456Z caller=main.go:12 component="web" msg="Start listening"',
            'level=warn ts=2024-03-01T08:08:01.123456Z caller=main.go:13 component="web" msg="" err="gone"',
            "level=info ts=2024-03-01T08:08:02.123456Z caller=tsdb.go:4 msg=Close",
        ],
        {"level": "info", "logger": "main.go:12", "message": "Start listening"},
        "2024-03-01T08:08:00.123456Z",
    ),
    "haproxy": (
        "haproxy",
        [
            "Feb  6 12:14:14 lb haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 "
            '10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1"',
            "Feb  6 12:14:15 lb haproxy[14389]: 10.0.1.2:33319 [06/Feb/2009:12:14:15.655] http-in static/srv1 "
            '10/0/30/+69/+109 304 +2750 - - CD-- 1/1/1/1/+3 0/0 "POST /form HTTP/1.1"',
            "Feb  6 12:14:16 lb haproxy[14389]: 10.0.1.3:33320 [06/Feb/2009:12:14:16.655] http-in http-in/<NOSRV> "
            '-1/-1/-1/-1/5001 408 212 - - cR-- 2/2/0/0/0 0/0 "<BADREQ>"',
        ],
        {"client": "10.0.1.2", "frontend": "http-in", "server": "srv1", "status": "200", "message": "/index.html"},
        "2009-02-06 12:14:14.655",
    ),
    "nginx": (
        "nginx_error",
        [
            "2024/03/01 08:08:00 [error] 123#7: *45 open() failed (2: No such file), client: 10.0.0.1",
            "2024/03/01 08:08:01 [warn] 123#7: conflicting server name",
            "2024/03/01 08:08:02 [notice] 123#0: signal process started",
        ],
        {"level": "error", "pid": "123", "thread": "7", "connection": "45"},
        "2024-03-01 08:08:00",
    ),
    "apache 2.4": (
        "apache24_error",
        [
            "[Fri Mar 01 08:08:00.123456 2024] [core:error] [pid 35:tid 47] [client 10.0.0.1:5] AH00037: Symbolic link",
            "[Fri Mar 01 08:08:01.123456 2024] [mpm_event:notice] [pid 35:tid 48] AH00489: Apache/2.4 configured",
            "[Fri Mar 01 08:08:02.123456 2024] [ssl:warn] [pid 36] AH01906: server certificate",
        ],
        {"module": "core", "level": "error", "pid": "35", "client": "10.0.0.1:5"},
        "2024-03-01 08:08:00.123456",
    ),
    "kubernetes, CRI": (
        "cri",
        [
            "2024-03-01T08:08:00.123456789Z stdout F Register request 1",
            "2024-03-01T08:08:01.123456789Z stderr F failed",
            "2024-03-01T08:08:02.123456789Z stdout P half of a ",
        ],
        {"stream": "stdout", "tag": "F", "message": "Register request 1"},
        "2024-03-01T08:08:00.123456Z",
    ),
    "python": (
        "python",
        [
            "2024-03-01 08:08:00,123 - my.app - INFO - Register 1",
            "2024-03-01 08:08:01,123 - my.app - WARNING - late - again",
            "2024-03-01 08:08:02,123 - root - ERROR - failed",
        ],
        {"level": "INFO", "logger": "my.app", "message": "Register 1"},
        "2024-03-01 08:08:00.123",
    ),
    "flask": (
        "timed",
        [
            "[2024-03-01 08:08:00,123] INFO in app: Register 1",
            "[2024-03-01 08:08:01,123] ERROR in app: Exception on / [GET]",
            "[2024-03-01 08:08:02,123] WARNING in views: late",
        ],
        {"level": "INFO", "message": "in app: Register 1"},
        "2024-03-01 08:08:00.123",
    ),
    "tomcat": (
        "timed",
        [
            "01-Mar-2024 08:08:00.123 INFO [main] org.apache.catalina.startup.Catalina.load Server initialization",
            "01-Mar-2024 08:08:01.123 SEVERE [main] org.apache.catalina.core.X.start A child failed",
            "01-Mar-2024 08:08:02.123 WARNING [main] org.apache.catalina.core.X.start late",
        ],
        {"level": "INFO"},
        "2024-03-01 08:08:00.123",
    ),
    "java.util.logging": (
        "timed",
        [
            "Mar 01, 2024 8:08:00 PM com.x.Svc register",
            "Mar 01, 2024 8:08:01 PM com.x.Svc close",
            "Mar 01, 2024 12:08:02 AM com.x.Svc close",
        ],
        {"message": "com.x.Svc register"},
        "2024-03-01 20:08:00",
    ),
    "health app": (
        "timed",
        [
            "20171223-22:15:29:606|Step_LSC|30002312|onStandStepChanged 3579",
            "20171223-22:15:29:615|Step_LSC|30002312|onExtend:1514038530000 14 0 4",
            "20171223-22:15:29:633|Step_StandReportReceiver|30002312|onReceive action",
        ],
        {"message": "Step_LSC|30002312|onStandStepChanged 3579"},
        "2017-12-23 22:15:29.606",
    ),
    "epochs": (
        "timed",
        ["1709280480.5 begin", "1709280481.25 go on", "1709280482 end"],
        {"message": "begin"},
        "2024-03-01T08:08:00.5Z",
    ),
    "date with the name of a zone": (
        "timed",
        [
            "Fri Mar  1 08:08:00 CET 2024 begin",
            "Fri Mar  1 08:08:01 CET 2024 go on",
            "Fri Jul  5 08:08:00 CEST 2024 end",
        ],
        {"message": "begin"},
        "2024-03-01T08:08:00+01:00",
    ),
    "pipes": (
        "timed",
        [
            "2024-03-01 08:08:00 | INFO | begin",
            "2024-03-01 08:08:01 | ERROR | go on",
            "2024-03-01 08:08:02 | INFO | end",
        ],
        {"level": "INFO", "message": "begin"},
        "2024-03-01 08:08:00",
    ),
}


def laid(tmp_path: Path, lines: list[str], name: str = "my.log", end: str = "\n") -> Path:
    path = tmp_path / name
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def recognized(path: Path) -> dict[str, object]:
    claim = TextLog.recognize(Head.of(path))
    assert claim is not None
    assert not claim.doubt
    return dict(claim.options)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", LOGS)
def test_layouts_are_recognized_and_cut(tmp_path: Path, name: str, end: str) -> None:
    layout, lines, fields, moment = LOGS[name]
    path = laid(tmp_path, lines, end=end)
    options = recognized(path)
    assert options["layout"] == layout
    reader = TextLog(**options)
    cases = list(reader.read(path))
    rows = {number: (case, e) for case in cases for e, number in enumerate(case.origin.numbers)}
    assert sorted(rows) == list(range(1, len(lines) + 1))
    case, event = rows[1]
    expected = dateutil_parser.parse(moment)
    expected = expected if expected.tzinfo else expected.replace(tzinfo=UTC)
    assert case.time[event] == round(expected.timestamp() * 1e6)
    assert case.offset[event] == expected.utcoffset().total_seconds()
    for field, value in fields.items():
        found = case.activity[event] if field == "message" else case.attributes[field][event]
        assert found == value, field
    for row, line in enumerate(lines, 1):
        case, event = rows[row]
        assert case.activity[event] in (UNKNOWN, "-") or case.activity[event] in line  # a message may be none
    reader.write(cases, tmp_path / "out.log")
    assert (tmp_path / "out.log").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", [name for name in LOGS if name not in ("spring, older", "haproxy")])
def test_a_filled_value_changes_nothing_else(tmp_path: Path, name: str) -> None:
    _, lines, _, _ = LOGS[name]
    path = laid(tmp_path, lines)
    reader = TextLog(**recognized(path))
    cases = list(reader.read(path))
    case = cases[0]
    filled = replace(case, activity=("something else", *case.activity[1:]))
    reader.write([filled, *cases[1:]], tmp_path / "out.log")
    old = case.activity[0]
    place = case.origin.numbers[0] - 1
    after = (tmp_path / "out.log").read_text().splitlines()
    assert after[place] == "something else".join(lines[place].rsplit(old, 1))
    assert [line for i, line in enumerate(after) if i != place] == [line for i, line in enumerate(lines) if i != place]


def test_python_writes_what_is_read(tmp_path: Path) -> None:
    """The reference is the library that writes such logs, with a trace of an exception."""
    path = tmp_path / "app.log"
    form = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
    code = f"""
import logging
logging.basicConfig(filename={str(path)!r}, format={form!r}, level=10)
log = logging.getLogger("a.b")
for n in range(40):
    log.info("begin %d", n)
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("failed %d", n)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    reader = TextLog(**recognized(path))
    cases = list(reader.read(path))
    assert sum(map(len, cases)) == 80
    assert {name for case in cases for name in case.attributes["logger"]} == {"a.b"}
    assert [a for case in cases for a in case.activity][:2] == ["begin 0", "failed 0"]
    reader.write(cases, tmp_path / "out.log")
    assert (tmp_path / "out.log").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("layout", STAMPS)
def test_a_line_that_begins_with_what_parses_as_a_time_begins_a_message(tmp_path: Path, layout: str | None) -> None:
    """Any layout, with continuation lines; times as `strptime` reads them."""
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.integers(1_600_000_000, 1_600_900_000, 40))
    lines, moments = [], []
    for n, second in enumerate(seconds.tolist()):
        moment = datetime.fromtimestamp(second, UTC)
        epoch = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6, "epoch_ns": 10**9}.get(layout or "")
        text = moment.strftime("%Y-%m-%d %H:%M:%S") if layout is None else moment.strftime(layout)
        lines += [f"{second * epoch if epoch else text} message {n}", "    at somewhere", "  "]
        moments.append(second)
    path = laid(tmp_path, lines)
    claim = TextLog.recognize(Head.of(path))
    assert claim is not None
    options = dict(claim.options)
    assert options["continued"] is True
    assert options["layout"] == "timed"
    yearless = layout is not None and not re.search("%[Yy]|epoch", layout)
    case = next(TextLog(**options, **({"year": 2020} if yearless else {})).read(path))
    assert len(case) == 40
    assert case.activity[:2] == ("message 0", "message 1")
    assert (case.time // 1_000_000).tolist() == moments


def test_a_stamp_fits_exactly_what_it_writes() -> None:
    moment = datetime(2024, 3, 1, 8, 8, 0, 123456, tzinfo=UTC)
    for layout in STAMPS:
        if layout is not None and not layout.startswith("epoch"):
            assert re.fullmatch(stamp(layout), moment.strftime(layout)), layout


def test_day_and_month_are_asked_for_where_they_cannot_be_told_apart(tmp_path: Path) -> None:
    path = laid(tmp_path, [f"0{n}/02/2024 08:08:00 message {n}" for n in range(1, 8)])
    claim = TextLog.recognize(Head.of(path))
    assert claim is not None
    assert "%d/%m/%Y" in claim.doubt
    layouts = {claim.options["time_layout"], *(choice.options.get("time_layout") for choice in claim.instead)}
    assert {"%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"} <= layouts
    path = laid(tmp_path, [f"{n}/02/2024 08:08:00 message {n}" for n in range(10, 18)])
    assert recognized(path)["time_layout"] == "%d/%m/%Y %H:%M:%S"


def test_colours_are_no_part_of_the_message(tmp_path: Path, shared_cases: Path) -> None:
    path = shared_cases / "events/ansi.log"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", path.read_text()).splitlines()
    options = recognized(path)
    assert options["layout"] == "syslog"
    reader = TextLog(**options, year=2024)
    cases = list(reader.read(path))
    by_line = {number: (c, e) for c in cases for e, number in enumerate(c.origin.numbers)}
    for number, line in enumerate(plain, 1):
        case, event = by_line[number]
        assert line.endswith(": " + case.activity[event])
        assert datetime.fromtimestamp(case.time[event] / 1e6, UTC).strftime("%b %d %H:%M:%S") == line[:15]
    reader.write(cases, tmp_path / "out.log")
    assert (tmp_path / "out.log").read_bytes() == path.read_bytes()
    case, event = by_line[1]
    assert event == 0
    hosts = ("other", *case.attributes["host"][1:])
    filled = replace(case, attributes=case.attributes | {"host": hosts}, activity=("x", *case.activity[1:]))
    reader.write([filled if c is case else c for c in cases], tmp_path / "out.log")
    before, after = path.read_text().splitlines(), (tmp_path / "out.log").read_text().splitlines()
    assert after[0] == "\x1b[32mMar 01 08:08:00\x1b[0m other svc[101]: \x1b[1mx"
    assert after[1:] == before[1:]


def test_stack_traces_belong_to_their_event(tmp_path: Path, shared_cases: Path) -> None:
    path = shared_cases / "events/log4j_trace.log"
    text = path.read_text()
    reader = TextLog(**recognized(path))
    cases = list(reader.read(path))
    assert sum(map(len, cases)) == len(re.findall(r"^\d{4}-", text, re.MULTILINE))
    assert not any("\tat " in activity for case in cases for activity in case.activity)
    reader.write(cases, tmp_path / "out.log")
    assert (tmp_path / "out.log").read_text() == text


def test_a_file_of_mostly_traces_is_known_by_its_first_line(tmp_path: Path) -> None:
    trace = ["java.lang.Error: x"] + ["\tat a.b.C(D.java:1)"] * 20
    lines = [line for n in range(5) for line in (f"2024-03-01 08:08:0{n},000 ERROR [t{n % 2}] a.b: failed", *trace)]
    options = recognized(laid(tmp_path, lines))
    assert options["layout"] == "log4j"
    assert options["continued"] is True


def test_a_line_with_a_timestamp_that_does_not_fit_is_no_continuation(tmp_path: Path) -> None:
    line = '10.0.0.1 - {} [01/Mar/2024:08:08:0{} -0300] "GET /a HTTP/1.1" 200 0'
    lines = [line.format("ann", n) for n in range(9)] + [line.format("ann ", 9)]
    assert "continued" not in recognized(laid(tmp_path, lines))


@pytest.mark.parametrize("name", ["app.log.1", "syslog", "messages", "catalina.out", "x.log-20240301", "data"])
def test_rotated_logs_and_those_without_an_ending_are_recognized(tmp_path: Path, name: str) -> None:
    path = laid(tmp_path, LOGS["log4j"][1], name)
    assert recognized(path)["layout"] == "log4j"


W3C = """#Software: Microsoft Internet Information Services 10.0
#Version: 1.0
#Date: 2024-03-01 08:08:00
#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port c-ip cs(User-Agent) sc-status time-taken
2024-03-01 08:08:00 10.0.0.9 GET /a.htm - 80 10.0.0.1 Mozilla/5.0+(X11) 200 15
2024-03-01 08:08:03 10.0.0.9 GET /b.htm q=1 80 10.0.0.2 Mozilla/5.0+(X11) 404 16
#Date: 2024-03-01 08:09:00
2024-03-01 08:09:01 10.0.0.9 POST /a.htm - 80 10.0.0.1 - 200 ?
"""


def test_the_fields_that_a_w3c_log_declares_are_its_columns(tmp_path: Path) -> None:
    path = laid(tmp_path, W3C.splitlines(), "u_ex240301.log", end="\r\n")
    reader = TextLog(**recognized(path))
    one, two = reader.read(path)
    assert (one.key, two.key) == ("10.0.0.1", "10.0.0.2")
    assert one.activity == ("/a.htm", "/a.htm")
    assert two.attributes["cs_uri_query"] == ("q=1",)
    assert one.attributes["cs_User_Agent"] == ("Mozilla/5.0+(X11)", None)
    assert one.attributes["time_taken"] == ("15", UNKNOWN)
    expected = [datetime.strptime(t, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() for t in
                ("2024-03-01 08:08:00", "2024-03-01 08:09:01")]  # fmt: skip
    assert (one.time / 1e6).tolist() == expected
    reader.write([two, one], tmp_path / "out.log")
    assert (tmp_path / "out.log").read_bytes() == path.read_bytes()


# loghub's notation: https://github.com/logpai/loghub, with the regular expression that its parser makes of it
LOGHUB = {
    "HDFS": ("<Date> <Time> <Pid> <Level> <Component>: <Content>", "%y%m%d %H%M%S", {}),
    "Apache": (r"\[<Time>\] \[<Level>\] <Content>", "%a %b %d %H:%M:%S %Y", {}),
    "OpenSSH": (r"<Date> <Day> <Time> <Component> sshd\[<Pid>\]: <Content>", "%b %d %H:%M:%S", {}),
    "BGL": (
        "<Label> <Timestamp> <Date> <Node> <Time> <NodeRepeat> <Type> <Component> <Level> <Content>",
        "%Y-%m-%d-%H.%M.%S.%f",
        {"time": "Time", "absent": ["-none-"]},
    ),
}


@pytest.mark.parametrize("name", LOGHUB)
def test_the_notation_of_loghub_cuts_lines_as_loghub_does(shared_data: Path, tmp_path: Path, name: str) -> None:
    layout, time_layout, more = LOGHUB[name]
    path = shared_data / f"events/loghub/{name}_2k.log"
    reader = TextLog(layout=layout, time_layout=time_layout, session_lines=100, sort=False, **more)
    cases = list(reader.read(path))
    with (shared_data / f"events/loghub/{name}_2k.log_structured.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    content = [activity for case in cases for activity in case.activity]
    assert len(content) == len(expected)
    strip = str.strip
    assert list(map(strip, content)) == [row["Content"].strip() for row in expected]
    for column in set(cases[0].attributes) & set(expected[0]):
        found = [value for case in cases for value in case.attributes[column]]
        texts = [row[column].strip() for row in expected]
        assert [v or "" for v in found] == ["" if text == "-none-" else text for text in texts], column
    time = more.get("time") or [c for c in ("Date", "Day", "Time") if c in expected[0]]
    texts = [" ".join(row[c] for c in ([time] if isinstance(time, str) else time)) for row in expected]
    year = "2000 " if name == "OpenSSH" else ""
    moments = [datetime.strptime(f"{year}{text}", f"{year and '%Y '}{time_layout}") for text in texts]
    assert [t for case in cases for t in case.time.tolist()] == [
        round(m.replace(tzinfo=UTC).timestamp() * 1e6) for m in moments
    ]
    reader.write(cases, tmp_path / "out.log")
    assert (tmp_path / "out.log").read_bytes() == path.read_bytes()


def test_columns_by_position(tmp_path: Path) -> None:
    lines = ["2024-03-01 08:08:00 INFO    main      begin here  ", "2024-03-01 08:08:01 ?       ann b     end"]
    path = laid(tmp_path, lines)
    reader = TextLog(layout="<Time:19> <Level:7> <Thread:10><Message>", session_lines=10, activity="Message")
    (case,) = reader.read(path)
    assert case.attributes["Level"] == ("INFO", UNKNOWN)
    assert case.attributes["Thread"] == ("main", "ann b")
    assert case.activity == ("begin here", "end")
    assert np.diff(case.time) == [1_000_000]
    reader.write([case], tmp_path / "out.log")
    assert (tmp_path / "out.log").read_bytes() == path.read_bytes()
    filled = replace(case, attributes=case.attributes | {"Level": ("INFO", "WARN")})
    reader.write([filled], tmp_path / "out.log")
    assert (tmp_path / "out.log").read_text().splitlines() == [lines[0], lines[1].replace("?   ", "WARN")]
    with pytest.raises(UsageError, match="Level"):
        reader.write([replace(case, attributes=case.attributes | {"Level": ("INFO", "TOO LONG A LEVEL")})], path)


@pytest.mark.parametrize("layout", ["<a> <a-> <a_>", "<1> <2>", "[<Level>] <Msg>", r"<A>(\[<B>\])?: <C>"])
def test_any_fields_have_names(layout: str) -> None:
    names = list(re.compile(pattern_of(layout)).groupindex)
    assert len(names) == layout.count("<")


def test_layouts_are_named_where_none_fits() -> None:
    assert "timed" in LAYOUTS
    with pytest.raises(UsageError, match="known layouts"):
        TextLog(layout="log5j", session_lines=10)


def test_an_unknown_time_stays_in_its_line(tmp_path: Path) -> None:
    layout = "<Date> <Time> <Level> <Content>"
    path = laid(tmp_path, ["2024-03-01 08:08:00 INFO a", "2024-03-01 ? INFO b", "2024-03-02 08:08:00 INFO c"])
    reader = TextLog(layout=layout, session_lines=10)
    (case,) = reader.read(path)
    assert (case.time == UNKNOWN_TIME).tolist() == [False, True, False]
    time = case.time.copy()
    time[1] = time[0] + 5_000_000
    reader.write([replace(case, time=time)], tmp_path / "out.log")
    assert (tmp_path / "out.log").read_text().splitlines()[1] == "2024-03-01 08:08:05 INFO b"


def test_init_writes_a_recipe_that_runs(tmp_path: Path) -> None:
    for name, lines in [("log4j", LOGS["log4j"][1]), ("rfc5424", LOGS["rfc5424"][1])]:
        path = laid(tmp_path, lines * 60, f"{name}.log")
        found = init([path], tmp_path / f"{name}.toml", yes=True)
        assert name in json.dumps(found["files"])


JOURNALS = {
    "short-iso": [
        "-- Logs begin at Fri 2024-03-01 08:00:00 CET, end at Fri 2024-03-01 09:00:00 CET. --",
        "2024-03-01T08:08:00+0100 box kernel: usb 1-1: new device number 7",
        "2024-03-01T08:08:01+0100 box systemd-logind[612]: New session 3 of user ann.",
        "-- Boot 5f2c0a --",
        "2024-03-31T03:00:00+0200 box (udev-worker)[99]: eth0: Process failed",
        "2024-03-31T03:00:01+0200 box org.gnome.Shell.desktop[1812]: Window manager warning: 0x1",
    ],
    "short-iso-precise": [
        "2024-03-01T08:08:00.000001+0100 box kernel: usb 1-1: new device number 7",
        "2024-03-01T08:08:01.999999+0100 box systemd-logind[612]: New session 3 of user ann.",
        "2024-03-31T03:00:00.500000+02:00 box CRON[99]: pam_unix(cron:session): session opened",
    ],
}


@pytest.mark.parametrize("name", JOURNALS)
def test_journals_in_iso_times(tmp_path: Path, name: str) -> None:
    """What `journalctl -o short-iso` writes, its own remarks between the lines included."""
    lines, path = JOURNALS[name], tmp_path / "journal.log"
    path.write_text("\n".join(lines) + "\n")
    claim = TextLog.recognize(Head.of(path))
    assert claim is not None
    assert claim.options["layout"] == "syslog_iso"
    reader = TextLog(**{**claim.options, "session": None, "session_lines": 100, "continued": True})
    (case,) = reader.read(path)
    written = [line for line in lines if not line.startswith("--")]
    expected = [dateutil_parser.parse(line.split()[0]) for line in written]
    assert [datetime.fromtimestamp(t / 1e6, UTC) for t in case.time.tolist()] == expected
    assert list(case.attributes["process"]) == [re.split(r"[\[:]", line.split()[2])[0] for line in written]
    reader.write([case], tmp_path / "back.log")
    assert (tmp_path / "back.log").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".log"])
def test_journals_in_json(tmp_path: Path, ending: str) -> None:
    """What `journalctl -o json` writes: microseconds as texts, and messages that are no UTF-8 as lists of bytes."""
    events = [
        {"__CURSOR": f"s=1;i={i:x}", "__REALTIME_TIMESTAMP": str(1709280480123456 + 7_000_001 * i), "_HOSTNAME": "box",
         "SYSLOG_IDENTIFIER": name, "MESSAGE": message}
        for i, (name, message) in enumerate(
            [("sshd", "Accepted publickey for ann"), ("kernel", "eth0: link up"), ("cron", [72, 105, 255]),
             ("sshd", "Accepted publickey for ben"), ("sshd", None)] * 3
        )
    ]  # fmt: skip
    path = tmp_path / f"journal{ending}"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    claim = JsonLines.recognize(Head.of(path))
    assert claim is not None
    choice = claim.instead[0]
    assert choice.options["time"] == "__REALTIME_TIMESTAMP"
    assert choice.options["activity"] == "MESSAGE"
    reader = JsonLines(**choice.options)
    cases = list(reader.attempts(path))
    kept = [case for case in cases if isinstance(case, Case)]
    (case,) = kept
    expected = [int(event["__REALTIME_TIMESTAMP"]) for event in events]
    assert case.time.tolist() == expected
    assert datetime.fromtimestamp(case.time[0] / 1e6, UTC).isoformat().startswith("2024-03-01T08:08:00.123456")
    reader.write(cases, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
