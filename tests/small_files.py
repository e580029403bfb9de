"""A small valid example of every file format, as bytes: what damage starts from."""

import io
import json
import sqlite3
import struct
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Example:
    """Files that belong together; the first one is what the reader is given."""

    format: str
    files: Callable[[], Mapping[str, bytes]]
    options: Mapping[str, Any] = field(default_factory=dict)
    returns: bool = False
    """Whether everything that can be read is written back byte for byte."""

    def lay(self, folder: Path, files: Mapping[str, bytes] | None = None) -> tuple[Path, dict[str, Any]]:
        """Write the files (default: undamaged) into a folder; the path to read and the format's options."""
        files = files or contents(self)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        options = {name: str(folder / value) if name == "genome" else value for name, value in self.options.items()}
        return folder / next(iter(files)), options


@cache
def contents(example: Example) -> Mapping[str, bytes]:
    return example.files()


FASTA = b">chr1 first\nACGTNNacgt\nGGCCRYAATT\nACG\n>chr2\nTTTTACGNAA\nCC\n"
FAI = b"chr1\t23\t12\t10\t11\nchr2\t12\t44\t10\t11\n"
FASTQ = b"@r1 x\nACGTN\n+\nIIII#\n@r2\nGGCC\n+r2\nFFFF\n"
BED = b"chr1\t2\t9\ta\t0\t+\nchr2\t0\t4\tb\t0\t-\n"
SEQUENCE_TABLE = b'sequence,label,note\nACGTNACGT,1,"a, b"\nGGCCAATT,0,\n\nACG,1,x\n'
SEQUENCE_LINES = b"ACGTNACGT\nGGCCAATT\n\nACG\n"
EVENTS = (
    b"case,activity,time,cost,ward\n"
    b'a,register,2024-01-01 09:00:00,1.5,"A, 1"\n'
    b"b,register,2024-01-01 09:30:00,2.5,B\n"
    b"a,triage,2024-01-01 10:00:00,,?\n"
    b"b,?,2024-01-03 08:00:00,4,B\n"
    b"a,leave,2024-01-01 11:00:00,3,C\n"
)
OBJECTS = (
    b'{"case": "a", "activity": "register", "time": "2024-01-01T09:00:00Z", "cost": 1.5, "tags": ["x", {"y": null}]}\n'
    b'{"case": "b", "activity": "register", "time": "2024-01-01T09:30:00+01:00", "cost": 2}\n\n'
    b'{"case": "a", "activity": "leave", "time": "2024-01-02T10:00:00.250Z", "urgent": true}\n'
)
XES = b"""<?xml version="1.0" encoding="UTF-8"?>
<!-- a log --><log xes.version="1.0">
<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
<trace>
<string key="concept:name" value="a"/><int key="AMOUNT" value="5000"/>
<event><string key="concept:name" value="register"/>
<date key="time:timestamp" value="2024-01-01T09:00:00.000+01:00"/><float key="cost" value="1.5"/></event>
<event><string key="concept:name" value="?"/><string key="who" value="Ann &amp; Bob">
<string key="r" value="n"/></string></event>
</trace>
<trace><string key="concept:name" value="b"/><event><string key="concept:name" value="leave"/>
<date key="time:timestamp" value="2024-01-02T09:00:00"/></event></trace>
</log>
"""
ACCESS = (
    b'10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /a?x=1 HTTP/1.1" 200 203 "http://x/" "agent"\n'
    b'10.0.0.2 - - [17/May/2015:10:05:43 +0000] "GET /b HTTP/1.1" 404 - "-" "-"\n'
    b'10.0.0.1 - - [17/May/2015:12:05:47 +0000] "-" 400 0 "-" "-"\n'
)
SYSLOG = b"Dec 10 06:55:46 host sshd[24200]: reverse map failed\nDec 10 06:55:47 host sshd[24201]: Invalid user x\n"
LOG4J = (
    b"2024-03-01 08:08:00,000 INFO  [worker-1] com.x.Svc: Register\n\tat com.x.Svc.run(Svc.java:7)\n"
    b"Caused by: x\n2024-03-01 08:08:01,500 WARN  [worker-2] com.x.Svc: \x1b[31mClose\x1b[0m\n"
)
RFC5424 = (
    b'<34>1 2003-10-11T22:14:15.003Z h su 12 ID47 [ex@32473 iut="3" src="A\\]p"] An entry\n'
    b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time\n"
)
LOGFMT = (
    b'time="2024-03-01T08:08:00.123+01:00" level=info msg="Register request 128" worker=1\n'
    b'time="2024-03-01T08:08:01.123+01:00" level=warning msg="a \\"quoted\\" word" err="msg=no"\n'
)
HAPROXY = (
    b"Feb  6 12:14:14 lb haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 "
    b'10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1"\n'
    b"Feb  6 12:14:16 lb haproxy[14389]: 10.0.1.3:33320 [06/Feb/2009:12:14:16.655] http-in http-in/<NOSRV> "
    b'-1/-1/-1/-1/5001 408 212 - - cR-- 2/2/0/0/0 0/0 "<BADREQ>"\n'
)
JOURNAL = (
    b"-- Logs begin at Fri 2024-03-01 --\n2024-03-01T08:08:00+0100 box kernel: usb 1-1: new device\n"
    b"-- Boot 5f2c --\n2024-03-01T08:08:01+0100 box sshd[812]: Accepted publickey for ann\n"
)
JOURNAL_JSON = (
    b'{"__REALTIME_TIMESTAMP": "1709280480123456", "_HOSTNAME": "box", "MESSAGE": "eth0: link up"}\n'
    b'{"__REALTIME_TIMESTAMP": "1709280487123457", "_HOSTNAME": "box", "MESSAGE": [72, 105, 255]}\n'
    b'{"__REALTIME_TIMESTAMP": "1709290487123457", "_HOSTNAME": "box", "MESSAGE": "eth0: link up"}\n'
)
NOTATION = b"2024-03-01 08:08:00 INFO begin <a>\n2024-03-01 08:08:01 ERROR go on\n"
W3C = (
    b"#Version: 1.0\n#Fields: date time c-ip cs-uri-stem sc-status\n"
    b"2024-03-01 08:08:00 10.0.0.1 /a 200\n2024-03-01 08:08:09 10.0.0.1 /b -\n"
)
OFFICE_EVENTS = (
    b"sep=;\nreport of the ward\n\ncase;activity;Date;Time;cost\n;;;;EUR\n"
    b"a;register;03.01.2024;09:00;1,5\na;leave;03.01.2024;10:00;1.002,5\nb;register;04.01.2024;09:30;\n"
)
NO_HEADER = b"a,register,2024-01-01 09:00:00\na,leave,2024-01-01 10:00:00\nb,register,2024-01-02 09:00:00\n"
FASTA_AS_FOUND = b"\xef\xbb\xbf;by hand\n>p1 circular=true\nMKV*\n;more\n>empty\n>p2\nAC\nGT*\n\n"
FASTQ_LINES = b"@r1 x\nACG\nTN\n+\n@II\n+#\n@r2\nGGCC\n+r2\nFFFF\n\n"
SESSIONS = b"5 5 22 11\n\n7 ? 9\n5\n"
TABLE = b"game,turn,move,points\n1,1,hit,3\n1,2,?,\n2,1,stand,10.5\n2,2,hit,2\n"
SIGNAL_YEARS = b"Year,Jan,Feb,Mar,Apr,May,Jun,Jul,Aug,Sep,Oct,Nov,Dec,J-D\n" + b"".join(
    b"%d,1.5,2,,4,5,6,7,8,9,10,11,%d.25,6\n" % (year, year) for year in (1990, 1991, 1993)
)
SIGNAL_LONG = b"time;id;value;state\n" + b"".join(
    b"2024-01-01T00:0%d:00Z;%s;%d,5;on\n" % (minute, sensor, minute) for minute in range(4) for sensor in (b"a", b"b")
)
SIGNAL_MEASURED = b"# by hand\nyear,month,day,sensor,metric,value\n" + b"".join(
    b"2024,1,%d,%s,%s,%d.5\n" % (day, sensor, metric, day)
    for day in range(1, 5)
    for sensor in (b"a", b"b")
    for metric in (b"temp", b"hum")
)
MERGED_EVENTS = (
    b"Order;Customer;Step;Time;Cost\r\n7;x;register;44197,25;1,5\r\n;;ship;44197,5;?\r\n# checked\r\n"
    b"Order;Customer;Step;Time;Cost\r\n8;y;register;44198,3333333333;2\r\n;;?;;\r\n"
)
XES_NESTED = (
    b'<log><trace><string key="concept:name" value="a"/><list key="tags"><values><string key="t" value="x"/>'
    b'<string key="t" value="?"/></values></list><event><string key="concept:name" value="b"><int key="n" value="1"/>'
    b'</string><container key="org"><string key="who" value="Ann"/><list key="l"/></container></event>'
    b'<event><string key="who" value="B"/><string key="who" value="?"/></event></trace></log>'
)
SIGNAL = b"time,a,b\n2024-01-01,1.50,3\n2024-01-02,,4\n2024-01-03,2.25,?\n2024-01-04,-1e-3,7\n"
TS = b"# c\n@problemName x\n@timestamps false\n@classLabel true a b\n@data\n1,2,?:3,4,5:a\n1.5,NaN:3,-4:b\n"
UCR = b"1,0.5,0.25,-1\n2,1e-1,3,NaN\n-1,4,5,6\n"
OCEL = {
    "objectTypes": [{"name": "order", "attributes": []}],
    "eventTypes": [{"name": "pack", "attributes": []}],
    "objects": [
        {"id": "o1", "type": "order", "attributes": [{"name": "v", "time": "2024-01-01T00:00:00Z", "value": "5"}]},
        {"id": "o2", "type": "order"},
    ],
    "events": [
        {
            "id": "e1",
            "type": "pack",
            "time": "2024-01-03T09:00:00Z",
            "attributes": [{"name": "cost", "value": 1.5}],
            "relationships": [{"objectId": "o1", "qualifier": "x"}, {"objectId": "o2", "qualifier": "x"}],
        },
        {"id": "e2", "type": "ship", "time": "2024-01-04T09:00:00Z", "relationships": [{"objectId": "o1"}]},
    ],
}
OCEL_XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<log><object-types><object-type name="order"/></object-types>
<objects><object id="o1" type="order"><attributes>
<attribute name="v" time="2024-01-01T00:00:00Z">5</attribute></attributes></object>
<object id="o2" type="order"/></objects>
<events><event id="e1" type="pack" time="2024-01-03T09:00:00Z"><attributes>
<attribute name="c">1.5</attribute></attributes>
<objects><relationship object-id="o1" qualifier="x"/><relationship object-id="o2" qualifier="x"/></objects></event>
<event id="e2" type="ship" time="2024-01-04T09:00:00Z"><objects>
<relationship object-id="o1"/></objects></event></events></log>
"""
OCEL_SQL = """
CREATE TABLE event_map_type (ocel_type TEXT, ocel_type_map TEXT);
CREATE TABLE object_map_type (ocel_type TEXT, ocel_type_map TEXT);
CREATE TABLE event (ocel_id TEXT, ocel_type TEXT);
CREATE TABLE object (ocel_id TEXT, ocel_type TEXT);
CREATE TABLE event_object (ocel_event_id TEXT, ocel_object_id TEXT, ocel_qualifier TEXT);
CREATE TABLE event_Pack (ocel_id TEXT, ocel_time TEXT, cost REAL);
CREATE TABLE object_Order (ocel_id TEXT, ocel_time TEXT, v TEXT, ocel_changed_field TEXT);
INSERT INTO event_map_type VALUES ('pack', 'Pack');
INSERT INTO object_map_type VALUES ('order', 'Order');
INSERT INTO event VALUES ('e1', 'pack'), ('e2', 'pack');
INSERT INTO object VALUES ('o1', 'order');
INSERT INTO event_object VALUES ('e1', 'o1', 'x'), ('e2', 'o1', 'x');
INSERT INTO event_Pack VALUES ('e1', '2024-01-03 09:00:00', 1.5), ('e2', '2024-01-04 09:00:00', NULL);
INSERT INTO object_Order VALUES ('o1', '1970-01-01 00:00:00', '5', NULL);
"""
WFDB_HEADER = b"r 2 250 6\nr.dat 16 200(0)/mV 12 0 100 615 0 lead I\nr.dat 16 100/uV 12 5 -7 -17 0 lead II\n# c\n"
WFDB_212 = b"r 2 250 6\nr.dat 212 200 11 1024 100 615 0 I\nr.dat 212 200 11 1024 -7 -17 0 II\n"
WFDB_310 = b"r 2 250 6\nr.dat 310x2:1 200 10 0 20 700 0 I\nr.dat 310 200 10 0 -7 0 0 II\n"
WFDB_SEGMENTS = b"r/4 2 250 14\nr_layout 0\na 6\n~ 3\nb 5\n"
WFDB_LAYOUT = b"r_layout 2 250 0\n~ 0 200/mV 0 0 0 0 0 I\n~ 0 100/uV 0 0 0 0 0 II\n"
WFDB_FLAC = b"r 2 250 8\nr.dat 516x2 200 16 0 1 9 0 I\nr.dat 516x2 200 16 0 2 9 0 II\n"
DIGITAL = np.array([[100, -7], [101, -5], [102, -3], [103, -2], [104, 0], [105, 0]])


def _twobit(tmp: Path) -> bytes:
    from maskseq_genomics.sequence import Sequence
    from maskseq_genomics.twobit import TwoBit

    path = tmp / "x.2bit"
    TwoBit().write([Sequence(key="a", residues=b"ACGTNNacgtGGn"), Sequence(key="b", residues=b"TTTT")], path)
    return path.read_bytes()


def _in_folder(make: Callable[[Path], bytes]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder))


def _sqlite(tmp: Path) -> bytes:
    path = tmp / "x.sqlite"
    database = sqlite3.connect(path)
    database.executescript("PRAGMA page_size = 512;" + OCEL_SQL)
    database.close()
    return path.read_bytes()


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    moments = [1_704_100_000_000_000 + 3_600_000_000 * hour for hour in range(4)]
    table = pa.table(
        {
            "subject_id": pa.array([1, 2, 1, 2]),
            "code": pa.array(["LAB//a", "LAB//b", "LAB//a", None]),
            "time": pa.array([moments[0], None, *moments[2:]], pa.timestamp("us")),
            "numeric_value": pa.array([1.5, None, 2.5, 3.0], pa.float32()),
            "text_value": pa.array(["x", "y", None, "x"]).dictionary_encode(),
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out, compression="snappy")
    return out.getvalue()


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([[1.5, 2], [np.nan, 3], [4, 5]], np.float32))
    return out.getvalue()


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, a=np.arange(6, dtype=np.int16), b=np.array([[1.5, np.nan], [2.5, 3]]))
    return out.getvalue()


def _edf() -> bytes:
    import edfio

    rng = np.random.default_rng(0)
    signals = [edfio.EdfSignal(rng.normal(size=16), 8, label=label, physical_dimension="uV") for label in ("C3", "C4")]
    annotations = [edfio.EdfAnnotation(0.5, None, "blink")]
    out = io.BytesIO()
    edfio.Edf(signals, annotations=annotations).write(out)
    return out.getvalue()


def _wav() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((2, 2, 8000, 0, "NONE", ""))
        sound.writeframes(np.arange(-8, 8, dtype="<i2").tobytes())
    return out.getvalue()


def _wav_of(kind: int, samples: np.ndarray) -> bytes:
    """A sound file of one channel, of a length that is not given."""
    width = samples.itemsize
    layout = struct.pack("<HHIIHH", kind, 1, 8000, 8000 * width, width, 8 * width)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + b"\xff" * 4 + samples.tobytes()
    return b"RIFF" + b"\xff" * 4 + chunks


def _rf64() -> bytes:
    plain = _wav()[12:]
    at = plain.index(b"data") + 4
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 0, 32, 8, 0)
    return b"RF64" + b"\xff" * 4 + b"WAVE" + sizes + plain[:at] + b"\xff" * 4 + plain[at + 4 :]


def _packed_212() -> bytes:
    first, second = (DIGITAL & 0xFFF).T
    return np.stack([first & 0xFF, first >> 8 | second >> 8 << 4, second & 0xFF], axis=1).astype(np.uint8).tobytes()


def _segments() -> Mapping[str, bytes]:
    first = b"a 1 250 6\na.dat 16 200/mV 16 0 0 15 0 I\n"
    second = b"b 2 250\nb.dat 8 200/mV 8 0 5 0 0 I\nb.dat 8 100/uV 8 0 0 0 0 II\n"
    data = {"a.dat": np.arange(6, dtype="<i2").tobytes(), "b.dat": bytes([1, 2, 255, 254, 0, 0, 1, 1, 3, 3])}
    return {"r.hea": WFDB_SEGMENTS, "r_layout.hea": WFDB_LAYOUT, "a.hea": first, "b.hea": second} | data


def _parquet_of_days() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    days = {"date": np.arange("2024-01-01", "2024-01-05", dtype="datetime64[D]")}
    pq.write_table(pa.table(days | {f"{hour:02d}:00": np.arange(4.0) + hour for hour in range(24)}), out)
    return out.getvalue()


def _flac() -> bytes:
    import soundfile

    out = io.BytesIO()
    samples = np.arange(32, dtype=np.int16).reshape(16, 2)
    soundfile.write(out, samples, 250, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def _just(name: str, content: bytes) -> Callable[[], Mapping[str, bytes]]:
    return lambda: {name: content}


BED_FILES = {"x.bed": BED, "genome.fa": FASTA}
EXAMPLES = {
    "fasta": Example("fasta", _just("x.fa", FASTA), returns=True),
    "fastq": Example("fastq", _just("x.fq", FASTQ), returns=True),
    "2bit": Example("2bit", lambda: {"x.2bit": _in_folder(_twobit)}),
    "bed": Example("bed", lambda: BED_FILES, {"genome": "genome.fa"}),
    "bed, indexed": Example("bed", lambda: BED_FILES | {"genome.fa.fai": FAI}, {"genome": "genome.fa"}),
    "sequence-table": Example("sequence-table", _just("x.csv", SEQUENCE_TABLE), returns=True),
    "sequence-lines": Example("sequence-lines", _just("x.txt", SEQUENCE_LINES), returns=True),
    "event-csv": Example("event-csv", _just("x.csv", EVENTS), returns=True),
    "event-csv, epochs": Example(
        "event-csv", _just("x.csv", b"case;activity;time\na;x;1704100000\na;y;1704100060.5\n"),
        {"time_layout": "epoch_s"}, returns=True,
    ),
    "event-jsonl": Example("event-jsonl", _just("x.jsonl", OBJECTS), returns=True),
    "event-parquet": Example(
        "event-parquet", lambda: {"x.parquet": _parquet()},
        {"case": "subject_id", "activity": "code", "time": "time"},
    ),
    "meds": Example("meds", lambda: {"x.parquet": _parquet()}),
    "ocel, JSON": Example("ocel", lambda: {"x.jsonocel": json.dumps(OCEL, indent=1).encode()}, returns=True),
    "ocel, XML": Example("ocel", _just("x.xmlocel", OCEL_XML), returns=True),
    "ocel, SQLite": Example("ocel", lambda: {"x.sqlite": _in_folder(_sqlite)}, returns=True),
    "textlog": Example("textlog", _just("x.log", ACCESS), returns=True),
    "textlog, syslog": Example("textlog", _just("x.log", SYSLOG), {"layout": "syslog", "year": 2023}, returns=True),
    "textlog, log4j": Example(
        "textlog", _just("x.log", LOG4J), {"layout": "log4j", "session": "thread", "continued": True}, returns=True
    ),
    "textlog, rfc5424": Example("textlog", _just("x.log", RFC5424), {"layout": "rfc5424", "session": "pid"}, True),
    "textlog, logfmt": Example("textlog", _just("x.log", LOGFMT), {"layout": "logfmt", "session_lines": 2}, True),
    "textlog, haproxy": Example("textlog", _just("x.log", HAPROXY), {"layout": "haproxy", "idle": 1800}, True),
    "textlog, journal": Example(
        "textlog", _just("x.log", JOURNAL), {"layout": "syslog_iso", "idle": 1800, "continued": True}, returns=True
    ),
    "textlog, notation": Example(
        "textlog", _just("x.log", NOTATION), {"layout": "<Date> <Time> <Level> <Content>", "session_lines": 9}, True
    ),
    "textlog, W3C": Example(
        "textlog", _just("x.log", W3C),
        {"layout": "<date> <time> <c_ip> <cs_uri_stem> <sc_status>", "comments": "#", "session": "c_ip",
         "activity": "cs_uri_stem"}, True,
    ),
    "event-jsonl, journal": Example(
        "event-jsonl", _just("x.json", JOURNAL_JSON),
        {"case": "", "activity": "MESSAGE", "time": "__REALTIME_TIMESTAMP", "time_layout": "epoch_us", "idle": 1800},
        returns=True,
    ),
    "event-csv, of an office": Example(
        "event-csv", _just("x.csv", OFFICE_EVENTS),
        {"time": ["Date", "Time"], "time_layout": "%d.%m.%Y %H:%M", "decimal": ",", "preamble": 3, "units": True,
         "delimiter": ";"}, True,
    ),
    "event-csv, no header": Example(
        "event-csv", _just("x.csv", NO_HEADER), {"names": ["case", "activity", "time"]}, returns=True
    ),
    "fasta, as found": Example("fasta", _just("x.fa", FASTA_AS_FOUND), returns=True),
    "fastq, several lines": Example("fastq", _just("x.fq", FASTQ_LINES), returns=True),
    "signal-csv, years": Example(
        "signal-csv", _just("x.csv", SIGNAL_YEARS),
        {"columns": "steps", "channels": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
                                          "Dec")}, True,
    ),
    "signal-csv, long": Example(
        "signal-csv", _just("x.csv", SIGNAL_LONG), {"recording": "id", "channels": ("value",), "decimal": ","}, True
    ),
    "signal-csv, measured": Example(
        "signal-csv",
        _just("x.csv", SIGNAL_MEASURED),
        {"time": ("year", "month", "day"), "recording": "sensor", "metric": "metric", "channels": ("value",)},
        returns=True,
    ),
    "event-csv, merged": Example(
        "event-csv",
        _just("x.csv", MERGED_EVENTS),
        {
            **{"case": "Order", "activity": "Step", "time": "Time", "case_above": True, "time_layout": "excel"},
            **{"case_attributes": ("Customer",), "decimal": ","},
        },
        returns=True,
    ),
    "xes, nested": Example("xes", _just("x.xes", XES_NESTED), returns=True),
    "signal-parquet, days": Example(
        "signal-parquet", lambda: {"x.parquet": _parquet_of_days()}, {"columns": "steps"}
    ),
    "sessions": Example("sessions", _just("x.sessions", SESSIONS), returns=True),
    "xes": Example("xes", _just("x.xes", XES), returns=True),
    "signal-csv": Example("signal-csv", _just("x.csv", SIGNAL), returns=True),
    "signal-csv, in its dress": Example(
        "signal-csv", _just("x.csv", b'time,a,b\n(s),(mV),\n1/30/2024 1 PM,"1,234.50",inf\n1/30/2024 2 PM,7.00,\n'),
        {"thousands": ","}, returns=True,
    ),
    "table": Example("table", _just("x.csv", TABLE), {"key": "game", "order": "turn"}, returns=True),
    "signal-parquet": Example("signal-parquet", lambda: {"x.parquet": _parquet()}, {"channels": ("numeric_value",)}),
    "npy": Example("npy", lambda: {"x.npy": _npy()}),
    "npz": Example("npz", lambda: {"x.npz": _npz()}),
    "edf": Example("edf", lambda: {"x.edf": _edf()}),
    "ts": Example("ts", _just("x.ts", TS)),
    "ucr": Example("ucr", _just("x.tsv", UCR)),
    "wav": Example("wav", lambda: {"x.wav": _wav()}, returns=True),
    "wav, floats": Example(
        "wav", lambda: {"x.wav": _wav_of(3, np.array([0.5, np.nan, -0.25, 3], "<f4"))}, returns=True
    ),
    "wav, mu-law": Example("wav", lambda: {"x.wav": _wav_of(7, np.arange(0, 250, 9, dtype=np.uint8))}, returns=True),
    "wav, RF64": Example("wav", lambda: {"x.wav": _rf64()}, returns=True),
    "wfdb": Example("wfdb", lambda: {"r.hea": WFDB_HEADER, "r.dat": DIGITAL.astype("<i2").tobytes()}),
    "wfdb, 212": Example("wfdb", lambda: {"r.hea": WFDB_212, "r.dat": _packed_212()}),
    "wfdb, 310": Example("wfdb", lambda: {"r.hea": WFDB_310, "r.dat": bytes(range(24))}, {"checksums": False}),
    "wfdb, segments": Example("wfdb", _segments),
    "wfdb, FLAC": Example(
        "wfdb", lambda: {"r.hea": WFDB_FLAC, "r.dat": _flac()}, {"frames": "samples", "checksums": False}
    ),
}  # fmt: skip
