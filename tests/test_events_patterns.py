"""Patterns of users: the same matches as those of `re`, as fast where they are plain, and never without an end."""

import contextlib
import pickle
import re
import sys
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maskseq.errors import UsageError
from maskseq_events import patterns
from maskseq_events.drain import Drain, DrainTree
from maskseq_events.log_layouts import LAYOUTS
from maskseq_events.patterns import Pattern, is_decided
from maskseq_events.textlog import TextLog
from maskseq_events.times import TimeLayout
from maskseq_events.tokenizer import EventTokenizer

DECIDED = [
    r"(?P<time>\S+ \S+) (?P<level>\w+): (?P<message>.*)",
    r"\[(?P<time>[^\]]+)\] (?P<message>.*)",
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?Z? .*",
    r"[0-9]+\s+x|y+",
    *Drain().masks,
]
RUNAWAYS = [
    (r"(a+)+b", "a" * 60),
    (r"(a|aa)+b", "a" * 90),
    (r"(\w+\s?)+!", "word " * 30),
    (r"(.*)(.*)(.*)(.*)(.*)(.*)x", "y" * 500),
    (r"((a*)*)*b", "a" * 60),
    (r"(?i)(a+)+b", "A" * 60),
    (r"(a{1,20}){1,20}b", "a" * 60),
]


@pytest.fixture
def short(monkeypatch):
    """A budget that a test can wait for."""
    monkeypatch.setattr(patterns, "BUDGET", 0.3)


@pytest.mark.parametrize("pattern", DECIDED)
def test_plain_patterns_are_left_to_re(pattern, monkeypatch):
    monkeypatch.setitem(sys.modules, "regex", None)
    assert is_decided(pattern)
    Pattern(pattern).fullmatch("x" * 100_000)
    Pattern(pattern).search("x" * 1000)
    Pattern(pattern).sub("", "x" * 1000)


@pytest.mark.parametrize(("pattern", "text"), RUNAWAYS, ids=[r[0] for r in RUNAWAYS])
@pytest.mark.parametrize("method", ["fullmatch", "search", "sub"])
def test_a_pattern_that_runs_away_is_stopped_and_named(pattern, text, method, short):
    assert not is_decided(pattern)
    begin = time.monotonic()
    arguments = ("", text) if method == "sub" else (text,)
    with contextlib.suppress(UsageError):  # an engine may see that there is no match
        getattr(Pattern(pattern), method)(*arguments)
    assert time.monotonic() - begin < 5


def test_a_pattern_that_is_slow_on_many_texts_is_stopped_too(short):
    slow, texts = Pattern(r"(a|aa)+[bc]"), iter(range(10_000))
    with pytest.raises(UsageError, match=re.escape(slow.text)):
        all(slow.fullmatch("a" * 21) is None for _ in texts)
    assert next(texts) > 1


LINES = "".join(f"2024-01-01T00:00:0{n} aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{n}\n" for n in range(9))


@pytest.mark.parametrize(
    "options",
    [
        {"layout": r"(?P<time>\S+) (?P<message>(a|aa)+)", "session_lines": 3},
        {"layout": r"(?P<time>\S+) (?P<message>.*)", "session_pattern": r"(a|aa)+b"},
    ],
    ids=["layout", "session"],
)
def test_a_text_log_names_the_line_that_a_pattern_runs_away_on(tmp_path, options, short):
    (tmp_path / "my.log").write_text(LINES)
    with pytest.raises(UsageError, match=r"my\.log, line 1.*aa"):
        list(TextLog(**options).read(tmp_path / "my.log"))


def test_masks_of_templates_cannot_run_away(tmp_path, short):
    (tmp_path / "my.log").write_text(LINES)
    cases = list(TextLog(layout=r"(?P<time>\S+) (?P<message>.*)", session_lines=3).read(tmp_path / "my.log"))
    with pytest.raises(UsageError, match="takes too long"):
        EventTokenizer.fit(cases, templates={"masks": [r"(a|aa)+b"]})
    begin = time.monotonic()
    with contextlib.suppress(UsageError):
        DrainTree(Drain()).add("7" * 1_000_000 + ".")  # an address may begin at each digit
    assert time.monotonic() - begin < 5


def test_a_long_message_is_masked(tmp_path):
    message = "from 10.0.0.1:80 to 0xff " * 2000
    assert Drain().words(message) == ("from", "<*>", "to", "<*>") * 2000


def test_known_layouts_end_soon_on_every_line():
    for name, layout in LAYOUTS.items():
        pattern = Pattern(layout.pattern, ours=True)
        for text in (
            "a " * 20_000,
            '"' * 20_000,
            "\\" * 20_000,
            '- - - [x] "' + '\\"' * 20_000,
            "[" * 9 + "] [" * 9_000,
        ):
            begin = time.monotonic()
            pattern.fullmatch(text)
            assert time.monotonic() - begin < 1, name


def test_blanks_within_a_timestamp_take_no_time():
    begin = time.monotonic()
    with pytest.raises(ValueError, match="not a timestamp"):
        TimeLayout().parse("2024-01-01" + " " * 1_000_000 + "x")
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize(
    "pattern", ["(", "(" * 5000 + ")" * 5000, "(?P<a>x)(?P<a>y)", "a{2,1}", "[z-a]", "(?P<a>x){99999999999}"]
)
def test_what_is_no_pattern_is_named(pattern):
    with pytest.raises(UsageError, match="no regular expression"):
        TextLog(layout=pattern, session_lines=1)
    with pytest.raises(ValueError, match="no regular expression"):
        Drain(masks=(pattern,))


def test_deep_patterns_are_looked_into_no_longer_than_it_takes():
    begin = time.monotonic()
    for depth in (10, 40, 80):
        is_decided("(" * depth + "a" + "{2})" * depth)
    is_decided("".join(chr(200 + n) for n in range(490)))
    is_decided("a" * 100_000)
    assert time.monotonic() - begin < 5


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "regex", None)
    with pytest.raises(UsageError, match=r"maskseq\[events\]"):
        Pattern("(a+)+b").fullmatch("a")


def test_groups_without_a_name_are_no_columns(tmp_path):
    (tmp_path / "my.log").write_text("a 1 x=2\nb 2 y\n")
    log = TextLog(layout=r"(a|b) (?P<time>\d) (?P<message>(x|y)(=\d)?)", session_lines=9, time_layout="epoch_s")
    (case,) = log.read(tmp_path / "my.log")
    assert (case.activity, dict(case.attributes)) == (("x=2", "y"), {})


atoms = st.sampled_from(["a", "b", "x", ".", r"\d", r"\w", r"\s", r"\S", "[ab]", "[^a]", "[0-9b]", r"[^\w]", "_", "é"])
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?", "+?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
        inner.map(lambda part: f"({part})"),
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(expressions, st.text("abx 1_é\n", max_size=9))
def test_matches_are_those_of_re(pattern, text):
    plain, own = re.compile(pattern), Pattern(pattern)

    def reported(match):
        return None if match is None else (match.span(), match.groups())

    assert reported(own.fullmatch(text)) == reported(plain.fullmatch(text))
    assert reported(own.search(text)) == reported(plain.search(text))
    assert own.sub("<*>", text) == plain.sub("<*>", text)


@settings(max_examples=300)
@given(expressions, st.text("ab1 ", min_size=1, max_size=3), st.sampled_from(["", "!", "b"]))
def test_what_is_decided_takes_as_many_steps_as_characters(pattern, piece, last):
    assume(is_decided(pattern))
    text = piece * (20_000 // len(piece)) + last
    begin = time.monotonic()
    re.compile(pattern).fullmatch(text)
    assert time.monotonic() - begin < 1  # a square of it takes seconds, an exponential for ever


def test_patterns_go_to_other_processes_as_they_are_used():
    for text in ("(a+)+b", "(?P<x>a+)b", "(x)(?P<a>a+)b"):
        used = Pattern(text)
        before = used.search("xaab"), used.fullmatch("xaab"), used.texts
        again = pickle.loads(pickle.dumps(used))
        assert str(again.search("xaab")) == str(before[0])
        assert again.texts(again.search("xaab")) == used.texts(before[0])
