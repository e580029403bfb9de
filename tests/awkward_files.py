"""Random legal files with awkward content, and what may stand in them after their holes were filled.

A `Text` is made of known pieces and holes. What is written back must match its pattern: every known byte where it was,
and in place of each hole something of the form that such a value has in the file.
"""

import io
import json
import re
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Text:
    """A file under construction."""

    content: bytearray = field(default_factory=bytearray)
    pattern: bytearray = field(default_factory=bytearray)
    n_holes: int = 0

    def known(self, text: str | bytes) -> "Text":
        data = text.encode() if isinstance(text, str) else text
        self.content += data
        self.pattern += re.escape(data)
        return self

    def hole(self, text: str | bytes, pattern: bytes) -> "Text":
        """Unknown here; filled, something that matches `pattern`."""
        self.content += text.encode() if isinstance(text, str) else text
        self.pattern += b"(?:" + pattern + b")"
        self.n_holes += 1
        return self


@dataclass(frozen=True)
class File:
    """What a reader is given, and what must come back."""

    format: str
    name: str
    content: bytes
    options: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "nucleotide"
    fit: dict[str, Any] = field(default_factory=dict)
    pattern: bytes | None = None
    """Of the filled file. None: it is compared by value, `same`."""
    same: Callable[[bytes], None] = lambda content: None
    """Raises unless all known values are in the filled file."""


Rng = np.random.Generator
WORDS = ("A", "B", "B+C", "+", "a,b", 'x "q" y', "it's", "é", "A&B", "<t>", "x;y", "-", "0", "007", "1e3", "NULL",
         "nan", "x y", "=1+1", "\\", "{}", "[ABSENT]", "[END]", "日本", "a|b", "%", "#", "end ")  # fmt: skip
NUMBERS = ("0", "1", "-1", "1.50", "1e3", "-0", "2.25", "12345678.9", "0.001", "100")


def pick(rng: Rng, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


# --- sequences ------------------------------------------------------------------------------------------------------

NAMES = ("chr1", "x y", "gi|1|ref|NC.1|", "a\tb", "é", ">", "=cmd", "s 1 circular=true", "n'1\"")


def letters(rng: Rng, text: Text, n: int, *, holes: float = 0.15) -> None:
    """Bases, soft-masked ones too, and codes of the alphabet: N and R are unknown."""
    for _ in range(n):
        if rng.random() < holes:
            letter = pick(rng, "NNNRYKn")
            text.hole(letter, b"[ACGTacgt]" if letter.isupper() else b"[acgtACGT]")
        else:
            text.known(pick(rng, "ACGTacgt"))


def fasta(rng: Rng) -> File:
    text, end = Text(), pick(rng, ("\n", "\n", "\r\n"))
    for record in range(rng.integers(1, 4)):
        text.known(f">{record}{pick(rng, NAMES)}{end}")
        left, width = int(rng.integers(5, 60)), int(rng.integers(4, 30))
        while left > 0:
            letters(rng, text, min(left, width))
            left -= width
            text.known(end)
        text.known(end * int(rng.integers(2)))
    if rng.random() < 0.3:
        return _ended(File("fasta", "x.fa", b"", tokenizer="kmer", fit={"k": 3, "overlapping": True}), text)
    return _ended(File("fasta", "x.fa", b""), text)


def fastq(rng: Rng) -> File:
    text = Text()
    for record in range(rng.integers(1, 4)):
        n = int(rng.integers(1, 30))
        text.known(f"@{record}{pick(rng, NAMES)}\n")
        letters(rng, text, n)
        text.known("\n+\n" + "".join(pick(rng, "!IF#@+,") for _ in range(n)) + "\n")
    return _ended(File("fastq", "x.fq", b""), text)


def sequence_table(rng: Rng) -> File:
    text = Text().known("note,sequence,label\n")
    for _ in range(rng.integers(1, 5)):
        text.known(_cell(pick(rng, WORDS), ",", rng) + ",")
        letters(rng, text, int(rng.integers(3, 25)))
        text.known(f",{rng.integers(2)}\n")
    return _ended(File("sequence-table", "x.csv", b""), text)


def sequence_lines(rng: Rng) -> File:
    text = Text()
    for _ in range(rng.integers(1, 5)):
        letters(rng, text, int(rng.integers(3, 25)))
        text.known("\n" * int(rng.integers(1, 3)))
    return _ended(File("sequence-lines", "x.txt", b""), text)


# --- event logs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """None: absent. `?`: unknown."""

    case: str
    activity: tuple[str, ...]
    time: str
    kind: str | None
    number: str | None


def events(rng: Rng, *, parts: int = 1) -> list[Event]:
    """Some cases whose events follow one another, values of each kind at least twice: `min_count` is 1 anyway."""
    words, found, minute = [pick(rng, WORDS) for _ in range(4)], [], 0
    for case in range(rng.integers(2, 5)):
        for _ in range(rng.integers(1, 6)):
            minute += int(rng.integers(0, 500))
            known = tuple(pick(rng, words) for _ in range(parts))
            activity = tuple("?" if rng.random() < 0.2 else word for word in known)
            time = (
                "?" if rng.random() < 0.15 else str(np.datetime64("2024-01-01T00:00:00") + np.timedelta64(minute, "m"))
            )
            kind = "?" if rng.random() < 0.2 else pick(rng, (None, *words))
            number = "?" if rng.random() < 0.2 else pick(rng, (None, *NUMBERS))
            found.append(Event(f"c{case}", activity, time, kind, number))
    plain = Event("c0", tuple(pick(rng, words) for _ in range(parts)), "2023-12-31T23:00:00", words[0], "1.5")
    return [plain, plain, *found]


FIT = {
    "attributes": ["kind", "number"],
    "numeric": ["number"],
    "categorical": ["kind"],
    "min_count": 1,
    "gap_bins": 6,
    "numeric_bins": 6,
}


def event_csv(rng: Rng) -> File:
    comma, end, parts = pick(rng, ",;\t"), pick(rng, ("\n", "\r\n")), int(rng.integers(1, 3))
    value = rb'"(?:[^"]|"")*"|[^"\r\n' + re.escape(comma.encode()) + rb"]*"
    names = ["case", *["activity", "lifecycle"][:parts], "time", "note", "kind", "number"]
    text = Text().known(comma.join(names) + end)
    for event in events(rng, parts=parts):
        row: list[str | None] = [event.case, *event.activity, event.time, pick(rng, WORDS), event.kind, event.number]
        for index, cell in enumerate(row):
            text.known(comma * (index > 0))
            if cell == "?":
                text.hole(pick(rng, ("?", "?", '"?"')), value)
            else:
                text.known(_cell(cell or "", comma, rng))
        text.known(end)
    options = {
        "activity": ["activity", "lifecycle"][:parts] if parts > 1 else "activity",
        "case": "case",
        "time": "time",
    }
    return _ended(File("event-csv", "x.csv", b"", options | {"delimiter": comma}, "event", FIT), text)


def _cell(value: str, comma: str, rng: Rng) -> str:
    must = any(c in value for c in (comma, '"', "\n")) or value != value.strip()
    return '"' + value.replace('"', '""') + '"' if must or rng.random() < 0.1 else value


def event_jsonl(rng: Rng) -> File:
    text = Text()
    value = rb'"(?:[^"\\]|\\.)*"|[^,}\s"]+'
    for event in events(rng):
        number = None if event.number is None else event.number if event.number == "?" else float(event.number)
        fields = {
            "case": event.case,
            "activity": event.activity[0],
            "time": event.time,
            "kind": event.kind,
            "number": number,
        }
        fields |= {"tags": pick(rng, ([], {"x": None}, "}", True))}
        names = [name for name in fields if fields[name] is not None or rng.random() < 0.5]
        order = [names[i] for i in rng.permutation(len(names))]
        text.known("{" + " " * int(rng.integers(2)))
        for index, name in enumerate(order):
            text.known(
                (", " if rng.random() < 0.5 else ",") * (index > 0) + json.dumps(name) + pick(rng, (":", ": ", " : "))
            )
            if fields[name] == "?":
                text.hole('"?"', value)
            else:
                text.known(json.dumps(fields[name], ensure_ascii=bool(rng.integers(2))))
        text.known("}" + "\n" * int(rng.integers(1, 3)))
    options = {"case": "case", "activity": "activity", "time": "time"}
    return _ended(File("event-jsonl", "x.jsonl", b"", options, "event", FIT), text)


TABLE_FIT = {
    "columns": ["kind", "size", "number", "team"],
    "numeric": ["number"],
    "categorical": ["kind", "team"],
    "ordered": {"size": ["S", "M", "L"]},
    "whole": ["team"],
    "min_count": 1,
    "bins": 5,
}


def table(rng: Rng) -> File:
    """CSV or JSON Lines whose rows stand in no order; keys, places in the order and notes are known."""
    words, rows = [pick(rng, WORDS) for _ in range(4)], []
    words = [word for word in words if word not in ("nan", "NULL")] or ["A"]
    for key in range(rng.integers(2, 5)):
        team = pick(rng, words)
        for place in rng.permutation(int(rng.integers(1, 6))).tolist():
            values = [pick(rng, words), pick(rng, "SML"), pick(rng, NUMBERS), team]
            holes = ["?" if rng.random() < 0.2 else value for value in values]
            rows.append([f"k{key}", str(place * 1.5), pick(rng, WORDS), *holes])
    rows = [["k", "-1", "", words[0], "M", "1.5", words[0]], *[rows[i] for i in rng.permutation(len(rows))]]
    names = ["key", "at", "note", "kind", "size", "number", "team"]
    options = {"key": "key", "order": "at"}
    if rng.random() < 0.4:
        return _table_of_objects(rng, names, rows, options)
    comma, end = pick(rng, ",;\t"), pick(rng, ("\n", "\r\n"))
    text = Text().known(comma.join(names) + end)
    value = rb'"(?:[^"]|"")*"|[^"\r\n' + re.escape(comma.encode()) + rb"]*"
    for row in rows:
        for index, cell in enumerate(row):
            text.known(comma * (index > 0))
            if cell == "?" and index > 2:
                text.hole(pick(rng, ("?", "", "NA", '"?"')), value)
            else:
                text.known(_cell(cell, comma, rng))
        text.known(end)
    return _ended(File("table", "x.csv", b"", options | {"delimiter": comma}, "columns", TABLE_FIT), text)


def _table_of_objects(rng: Rng, names: list[str], rows: list[list[str]], options: dict[str, Any]) -> File:
    text = Text()
    value = rb'"(?:[^"\\]|\\.)*"|[^,}\s"]+'
    for row in rows:
        text.known("{" + " " * int(rng.integers(2)))
        for place, index in enumerate(rng.permutation(len(names)).tolist()):
            text.known(", " * (place > 0) + json.dumps(names[index]) + pick(rng, (":", ": ")))
            if row[index] == "?" and index > 2:
                text.hole(pick(rng, ('"?"', '"NA"', "null")), value)
            elif names[index] in ("at", "number"):
                text.known(json.dumps(float(row[index])))
            else:
                text.known(json.dumps(row[index], ensure_ascii=bool(rng.integers(2))))
        text.known("}" + "\n" * int(rng.integers(1, 3)))
    return _ended(File("table", "x.jsonl", b"", options, "columns", TABLE_FIT), text)


def xes(rng: Rng) -> File:
    """Attributes in any order, some with children, some closed in themselves, comments between them."""

    def escaped(value: str) -> str:
        for raw, entity in (
            ("&", "&amp;"),
            ("<", "&lt;"),
            ('"', "&quot;"),
            *([(">", "&gt;")] if rng.random() < 0.5 else []),
        ):
            value = value.replace(raw, entity)
        return value

    gap = lambda: pick(rng, ("", "", "\n", "  ", "<!-- > ? -->", "\r\n\t"))  # noqa: E731
    text = Text().known('<?xml version="1.0" encoding="UTF-8"?>\n<log xes.version="1.0">' + gap())
    by_case: dict[str, list[Event]] = {}
    for event in events(rng):
        by_case.setdefault(event.case, []).append(event)
    for case, members in by_case.items():
        text.known(f'<trace><string key="concept:name" value="{case}"/>{gap()}')
        for event in members:
            values = [("string", "concept:name", event.activity[0]), ("date", "time:timestamp", event.time)]
            values += [("string", "kind", event.kind), ("float", "number", event.number), ("boolean", "extra", "true")]
            text.known("<event>")
            for index in rng.permutation(len(values)):
                tag, key, value = values[index]
                if value is None:
                    continue
                before = gap()
                child = rng.random() < 0.25
                inner = f'<string key="in" value="{escaped(pick(rng, WORDS))}"/>' if child else ""
                close = f">{inner}</{tag}>" if child or rng.random() < 0.2 else pick(rng, ("/>", " />"))
                if value != "?":
                    text.known(f'{before}<{tag} key="{key}" value="{escaped(value)}"{close}')
                    continue
                start = f'{before}<{tag} key="{key}" value='
                form = re.escape(start.encode()) + rb"""(?:"[^"<]*"|'[^'<]*')""" + re.escape(close.encode())
                if key in ("kind", "number") and not child:  # absent: it goes, with the blanks before it
                    form += b"|" + (re.escape(before.encode()) if before.strip() else b"")
                text.hole(f'{start}"?"{close}', form)
            text.known(gap())
            text.known("</event>" + gap())
        text.known("</trace>" + gap())
    return _ended(File("xes", "x.xes", b"", {}, "event", FIT), text.known("</log>\n"))


def sessions(rng: Rng) -> File:
    text = Text()
    for _ in range(rng.integers(2, 6)):
        for index in range(rng.integers(1, 8)):
            text.known(pick(rng, (" ", "  ", "\t")) * (index > 0))
            if rng.random() < 0.2 and index:
                text.hole("?", rb"\S+")
            else:
                text.known(pick(rng, ("5", "22", "B+C", "é", "007")))
        text.known(pick(rng, ("\n", " \n", "\n\n")))
    return _ended(File("sessions", "x.sessions", b"", {}, "event", {"min_count": 1}), text)


def access_log(rng: Rng) -> File:
    text = Text()
    for number in range(rng.integers(3, 9)):
        host, path = f"10.0.0.{rng.integers(3)}", pick(rng, ("/", "/a?x=1&y=%20", "/é", "/b"))
        text.known(f'{host} - - [17/May/2015:10:{number:02}:03 +0000] "')
        if number and rng.random() < 0.2:
            text.hole("?", rb"[^ \"]+")
        else:
            text.known(pick(rng, ("GET", "POST")))
        text.known(f' {path} HTTP/1.1" ')
        if number and rng.random() < 0.25:
            text.hole("?", rb"[0-9]+|-")
        else:
            text.known(pick(rng, ("200", "404")))
        text.known(" ")
        if number and rng.random() < 0.25:
            text.hole("?", rb"[0-9]+|-")
        else:
            text.known(pick(rng, ("-", "0", "203", "4096")) if number else "17")
        text.known(f' "{pick(rng, ("-", "http://x/?q=a"))}" "{pick(rng, ("-", "agent (x; y)"))}"\n')
    fit = {"attributes": ["method", "status", "bytes"], "numeric": ["bytes"], "categorical": ["status"], "min_count": 1}
    fit |= {"gap_bins": 6, "numeric_bins": 6}
    return _ended(File("textlog", "x.log", b"", {"layout": "access", "idle": 1800}, "event", fit), text)


def ocel(rng: Rng) -> File:
    """JSON as it comes, with blanks anywhere; every object's events are a case."""
    log = events(rng)
    value = rb'"(?:[^"\\]|\\.)*"|[^,}\]\s"]+'
    blank = lambda: pick(rng, ("", " ", "\n  "))  # noqa: E731
    cases = list(dict.fromkeys(event.case for event in log))
    head = {
        "objectTypes": [{"name": "order", "attributes": []}],
        "objects": [{"id": c, "type": "order"} for c in cases],
    }
    text = Text().known(json.dumps(head)[:-1] + ', "events": [')
    for number, event in enumerate(log):
        text.known("," * (number > 0) + blank() + f'{{"id": "e{number}",{blank()}"type": ')
        _json_value(text, event.activity[0], value)
        text.known(f',{blank()}"time": ')
        _json_value(text, event.time, value)
        text.known(f',{blank()}"attributes": [')
        present = [(n, v) for n, v in (("kind", event.kind), ("number", event.number)) if v is not None]
        for index, (name, content) in enumerate(present):
            text.known(", " * (index > 0) + f'{{"name": "{name}",{blank()}"value": ')
            _json_value(text, content, value)
            text.known("}")
        text.known(f'],{blank()}"relationships": [{{"objectId": "{event.case}", "qualifier": "{{}}"}}]}}')
    return _ended(File("ocel", "x.jsonocel", b"", {"object_type": "order"}, "event", FIT), text.known("]}\n"))


def _json_value(text: Text, content: str, value: bytes) -> None:
    if content == "?":
        text.hole('"?"', value)
    else:
        text.known(json.dumps(content))


def event_parquet(rng: Rng) -> File:
    """With columns of types that no field has; all known values come back, and the types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    log = events(rng)
    number = [None if e.number in (None, "?") else float(e.number) for e in log]
    times = [None if e.time == "?" else np.datetime64(e.time, "us").item() for e in log]
    table = pa.table(
        {
            "case": pa.array([e.case for e in log]),
            "activity": pa.array([e.activity[0] for e in log]),
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "kind": pa.array([e.kind for e in log]).dictionary_encode(),
            "number": pa.array(number, pa.float32()),
            "blob": pa.array([{"x": [1, None]}] * len(log)),
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out)

    def same(content: bytes) -> None:
        back = pq.read_table(io.BytesIO(content))
        assert back.schema.equals(table.schema), back.schema
        for name in table.column_names:
            for old, new in zip(table[name].to_pylist(), back[name].to_pylist(), strict=True):
                assert old == new or old in (None, "?"), (name, old, new)

    options = {
        "case": "case",
        "activity": "activity",
        "time": "time",
        "empty_unknown": ["number"],
        "attributes": ["kind", "number"],
    }
    return File("event-parquet", "x.parquet", out.getvalue(), options, "event", FIT, same=same)


# --- signals --------------------------------------------------------------------------------------------------------

QUANTIZE = {"scheme": "uniform", "bins": 16}


def signal_csv(rng: Rng) -> File:
    comma, end, channels = pick(rng, ",;\t"), pick(rng, ("\n", "\r\n")), int(rng.integers(1, 4))
    text = Text().known(comma.join(["time", *[pick(rng, ("a", "b é", "x_y")) + str(c) for c in range(channels)]]) + end)
    for step in range(rng.integers(6, 20)):
        text.known(str(np.datetime64("2024-01-01") + step))
        for channel in range(channels):
            text.known(comma)
            if step > 2 and rng.random() < 0.2:
                text.hole(pick(rng, ("", "?", "NaN")), rb"[-+0-9.eE]+")
            else:
                text.known(
                    pick(rng, ("1.50", "-2", "1e-3", "+3", "0.0", "7", "12.25")) if step > 1 else str(step + channel)
                )
        text.known(end)
    return _ended(File("signal-csv", "x.csv", b"", {"delimiter": comma}, "quantize", QUANTIZE), text)


def _samples(rng: Rng) -> np.ndarray:
    values = np.round(rng.normal(size=(int(rng.integers(6, 30)), int(rng.integers(1, 4)))), 3)
    values[2:][rng.random(values[2:].shape) < 0.2] = np.nan
    return values


def npy(rng: Rng) -> File:
    values = np.asarray(_samples(rng), dtype=pick(rng, ("<f4", "<f8", ">f8", "<f2")), order=pick(rng, "CF"))
    values = values[:, 0].copy() if rng.random() < 0.3 else values
    out = io.BytesIO()
    np.save(out, values)

    def same(content: bytes) -> None:
        back = np.load(io.BytesIO(content))
        assert (back.dtype, back.shape, back.flags.f_contiguous) == (
            values.dtype,
            values.shape,
            values.flags.f_contiguous,
        )
        _unchanged(values, back)

    return File("npy", "x.npy", out.getvalue(), {}, "quantize", QUANTIZE, same=same)


def signal_parquet(rng: Rng) -> File:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = _samples(rng)
    channels = {f"v{c}": pa.array(column, pa.float64(), from_pandas=True) for c, column in enumerate(values.T)}
    days = pa.array(np.datetime64("2024-01-01") + np.arange(len(values)))
    table = pa.table({"time": days, **channels, "text": pa.array(["x", None] * len(values))[: len(values)]})
    out = io.BytesIO()
    pq.write_table(table, out)

    def same(content: bytes) -> None:
        back = pq.read_table(io.BytesIO(content))
        assert back.schema.equals(table.schema), back.schema
        assert back["text"].equals(table["text"])
        assert back["time"].equals(table["time"])
        _unchanged(values, np.stack([back[name].to_numpy() for name in channels], axis=1))

    return File(
        "signal-parquet", "x.parquet", out.getvalue(), {"channels": list(channels)}, "quantize", QUANTIZE, same=same
    )


def _unchanged(before: np.ndarray, after: np.ndarray) -> None:
    known = ~np.isnan(before)
    assert np.array_equal(after[known], before[known])
    assert not np.isnan(after).any()


def wav(rng: Rng) -> File:
    """16-bit sound with chunks before and behind the samples. A sound has no unknown samples: nothing may change."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((int(rng.integers(1, 3)), 2, 8000, 0, "NONE", ""))
        sound.writeframes(rng.integers(-9999, 9999, 64).astype("<i2").tobytes())
    content = bytearray(out.getvalue())
    for name in (b"LIST", b"cue ", b"bext")[: int(rng.integers(4))]:
        body = rng.bytes(int(rng.integers(0, 9)))
        chunk = name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)
        at = 36 if rng.random() < 0.5 else len(content)  # behind `fmt `, or at the end
        content[at:at] = chunk
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    return File("wav", "x.wav", bytes(content), {}, "quantize", QUANTIZE, re.escape(bytes(content)))


MAKERS: dict[str, Callable[[Rng], File]] = {
    "fasta": fasta,
    "fastq": fastq,
    "sequence-table": sequence_table,
    "sequence-lines": sequence_lines,
    "event-csv": event_csv,
    "event-jsonl": event_jsonl,
    "event-parquet": event_parquet,
    "table": table,
    "xes": xes,
    "sessions": sessions,
    "textlog": access_log,
    "ocel": ocel,
    "signal-csv": signal_csv,
    "signal-parquet": signal_parquet,
    "npy": npy,
    "wav": wav,
}


def _ended(file: File, text: Text) -> File:
    return File(
        file.format, file.name, bytes(text.content), file.options, file.tokenizer, file.fit, bytes(text.pattern)
    )
