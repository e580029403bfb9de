"""Feed a reader damaged files, in a process of its own with bounds on memory and on the time of each input.

    python tests/fuzz.py --examples 5000 --seed 1 fasta "ocel, XML"

Each input is a small valid file, damaged in one to four places, or random bytes. It must be read, tokenized and
written back, or refused by a `MaskseqError` in one line that names a file; where a format promises it, what was read
comes back byte for byte. Anything else (another exception, more memory or time than allowed) fails, and hypothesis
shrinks it.
"""

import argparse
import re
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from small_files import EXAMPLES, Example, contents

from maskseq.errors import MaskseqError, UsageError
from maskseq.plugins import format_for
from maskseq.survey import Head
from maskseq.tokenizer import Tokenizer
from maskseq.types import Record
from maskseq_events.case import Case
from maskseq_events.tokenizer import EventTokenizer
from maskseq_genomics.nucleotide import NucleotideTokenizer
from maskseq_genomics.sequence import Sequence
from maskseq_signals.tokenizer import QuantizeTokenizer
from maskseq_tables.record import TableRows
from maskseq_tables.tokenizer import ColumnsTokenizer

ADDRESS_SPACE = 3 << 30
"""Bytes, of which the libraries take about one GiB."""
SECONDS = 10
"""Of processor time for one input."""

NUMBERS = [b"0", b"-1", b"1", b"3", b"255", b"65536", b"2147483647", b"4294967295", b"9223372036854775807", b"1" * 25]
NUMBERS += [b"1e308", b"1e999999999", b"-1e-999999999", b"nan", b"-inf", b"1_0", "٣".encode(), b"1" * 5000]
PIECES = [
    b"\0",
    b"\xff",
    b"\r",
    b"\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b",",
    b";",
    b'"',
    b"'",
    b"\\",
    b"?",
    b"-",
    b"@",
    b">",
    b"<",
]
PIECES += [b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b\x08\0", "é".encode("latin-1"), "漢".encode(), b"\\ud800", b"&#0;"]
PIECES += [
    b"<!DOCTYPE log [<!ENTITY a 'b'>]>",
    b"<trace>",
    b"</trace>",
    b"</event>",
    b"<!--",
    b"[" * 50_000,
    b"<a>" * 20_000,
]
PIECES += [
    b"{",
    b"}",
    b"[]",
    b"null",
    b"true",
    b'{"a":',
    b"/",
    b"../",
    b"9999-12-31T23:59:59",
    b"0001-01-01",
    b"x" * 200_000,
]
WORDS = [0, 1, 2, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 2**64 - 1]

Place = st.integers(0, 2**20 - 1)
"""A share of a file's length, in millionths of it or nearly so."""
Length = st.one_of(st.integers(1, 8), st.integers(9, 400))
MUTATION = st.one_of(
    st.tuples(st.just("flip"), Place, st.integers(1, 255)),
    st.tuples(st.just("cut"), Place),
    st.tuples(st.just("delete"), Place, Length),
    st.tuples(st.just("repeat"), Place, Length, Place),
    st.tuples(st.just("insert"), Place, st.sampled_from(PIECES)),
    st.tuples(st.just("number"), Place, st.sampled_from(NUMBERS), st.booleans()),
    st.tuples(st.just("word"), Place, st.sampled_from(WORDS), st.sampled_from([1, 2, 4, 8]), st.sampled_from("<>")),
    st.tuples(st.just("line"), Place, Place, st.sampled_from(["repeat", "drop", "swap"])),
)


class Hang(BaseException):
    """An input took too long. No `Exception`, so that no reader catches it."""


def mutate(content: bytes, mutation: tuple[Any, ...]) -> bytes:
    """Damage a file in one place."""
    kind, place, *rest = mutation
    at = place * len(content) >> 20
    match kind:
        case "flip" if content:
            return content[:at] + bytes([content[at] ^ rest[0]]) + content[at + 1 :]
        case "cut":
            return content[:at]
        case "delete":
            return content[:at] + content[at + rest[0] :]
        case "repeat":
            to = rest[1] * len(content) >> 20
            return content[:to] + content[at : at + rest[0]] + content[to:]
        case "insert":
            return content[:at] + rest[0] + content[at:]
        case "number":
            return _number(content, place, *rest)
        case "word":
            word = (rest[0] & (1 << 8 * rest[1]) - 1).to_bytes(rest[1], "little" if rest[2] == "<" else "big")
            return content[:at] + word + content[at + len(word) :]
        case "line":
            return _line(content, place, *rest)
    return content


def _number(content: bytes, place: int, other: bytes, in_place: bool) -> bytes:
    """Replace a number written in digits, or overwrite it where fields have fixed widths."""
    numbers = list(re.finditer(rb"\d+", content))
    if not numbers:
        return content
    start, stop = numbers[place * len(numbers) >> 20].span()
    return content[:start] + other + content[start + len(other) if in_place else stop :]


def _line(content: bytes, place: int, other: int, how: str) -> bytes:
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    i, j = place * len(lines) >> 20, other * len(lines) >> 20
    if how == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    elif how == "repeat":
        lines.insert(j, lines[i])
    else:
        del lines[i]
    return b"".join(lines)


@st.composite
def damaged(draw: st.DrawFn, example: Example) -> Mapping[str, bytes]:
    files = dict(contents(example))
    if draw(st.integers(0, 19)) == 0:
        return files | {draw(st.sampled_from(sorted(files))): draw(st.binary(max_size=400))}
    for mutation in draw(st.lists(MUTATION, min_size=1, max_size=4)):
        name = draw(st.sampled_from(sorted(files)))
        files[name] = mutate(files[name], mutation)
    return files


def use(example: Example, path: Path, options: Mapping[str, Any]) -> bool:
    """Read, tokenize and write back; whether the file was accepted. Whatever is not a `MaskseqError` gets out."""
    try:
        format = format_for(path, example.format, **options)
        with suppress(MaskseqError):
            type(format).recognize(Head.of(path))
        with suppress(MaskseqError):
            assert all(attempt is not None for attempt in format.attempts(path))
        records = list(format.read(path))
        assert records, "nothing was read, and nothing said of it"
        written = path.with_name("written-" + path.name)
        try:
            format.write(records, written)
        except UsageError:  # read only
            assert not example.returns
        else:
            assert not example.returns or written.read_bytes() == path.read_bytes(), "does not come back as it was"
    except MaskseqError as error:
        reported = str(error)
        assert "\n" not in reported.split("\n\nhint: ")[0], f"more than one line: {reported}"
        assert str(path.parent) in reported, f"no file is named: {reported}"
        return False
    tokenize(records)
    return True


def tokenize(records: list[Record]) -> None:
    """Fit what is to be fitted and encode; a tokenizer may refuse records by a `ValueError`."""
    for record in records:
        record.key.encode()  # keys are kept as UTF-8
    try:
        tokenizer = fitted(records)
    except ValueError:
        return
    for record in records:
        try:
            ids = tokenizer.encode(record).ids
        except ValueError:
            continue
        assert (ids >= 0).all()
        assert (ids < np.array(tokenizer.vocabulary.n_rows)).all()


def fitted(records: list[Record]) -> Tokenizer[Any]:
    match records[0]:
        case Sequence():
            return NucleotideTokenizer()
        case Case(attributes=attributes):
            return EventTokenizer.fit(records, attributes=list(attributes)[:2], min_count=1)
        case TableRows():
            return ColumnsTokenizer.fit(records)
    return QuantizeTokenizer.fit(records)


@contextmanager
def bounded_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s of processor time")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def fuzz(name: str, *, examples: int, chosen: int | None) -> tuple[int, int]:
    """How many inputs were tried, and how many of them were accepted in spite of their damage."""
    example = EXAMPLES[name]
    tried = accepted = 0

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=chosen is None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(files=damaged(example))
    def survives(files: Mapping[str, bytes]) -> None:
        nonlocal tried, accepted
        tried += 1
        with tempfile.TemporaryDirectory(dir=folder) as inner, bounded_time():
            accepted += use(example, *example.lay(Path(inner), files))

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        (survives if chosen is None else seed(chosen)(survives))()
    return tried, accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXAMPLES)} (default: all)")
    parser.add_argument("--examples", type=int, default=100, help="inputs a name")
    parser.add_argument("--seed", type=int, help="default: the same inputs each time")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
    for name in arguments.names or EXAMPLES:
        tried, accepted = fuzz(name, examples=arguments.examples, chosen=arguments.seed)
        print(f"{name}: {tried} inputs, {accepted} of them could be read", flush=True)


if __name__ == "__main__":
    sys.exit(main())
