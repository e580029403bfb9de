"""Texts in little memory, against tuples and lists of them."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq_signals.row_reader import taken
from maskseq_signals.texts import Texts

WORDS = st.lists(st.text(alphabet="a\r\n,é€", max_size=4), max_size=12)


@given(WORDS, st.integers(-15, 15), st.integers(-15, 15), st.sampled_from([1, 2, -1]))
def test_it_is_a_sequence_like_a_tuple(words: list[str], start: int, stop: int, step: int) -> None:
    texts = Texts.of(words)
    assert texts == tuple(words)
    assert tuple(words) == texts
    assert list(texts[start:stop:step]) == words[start:stop:step]
    assert list(texts[start:stop][1:]) == words[start:stop][1:]
    assert [texts[i] for i in range(-len(words), len(words))] == [words[i] for i in range(-len(words), len(words))]
    assert list(reversed(texts)) == words[::-1]
    assert Texts.joined([texts, texts]) == tuple(words + words)
    assert texts != (*words, "more")
    with pytest.raises(IndexError):
        texts[len(words)]


@given(st.text(alphabet="a\r\n é", max_size=20))
def test_lines_end_as_python_says(text: str) -> None:
    assert list(Texts.lines(text)) == list(io.StringIO(text, newline=""))


@given(st.lists(st.integers(-1, 4), max_size=9))
def test_rows_are_taken(rows: list[int]) -> None:
    words = ["a", "", "bc", "d", "€"]
    assert list(taken(Texts.of(words), np.array(rows, int))) == [words[row] if row >= 0 else "" for row in rows]


PEAK = """
import resource, sys
from pathlib import Path
from maskseq_signals.delimited import SignalCsv
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
(recording,) = SignalCsv().read(Path(sys.argv[1]))
print(len(recording), peak() - before)
"""


def test_a_long_table_takes_little_more_memory_than_its_text(tmp_path: Path) -> None:
    n = 400_000
    path = tmp_path / "long.csv"
    path.write_text("time,x\n" + "".join(f"{i / 250:.3f},{i % 977 / 200:.3f}\n" for i in range(n)))
    child = subprocess.run([sys.executable, "-c", PEAK, str(path)], stdout=subprocess.PIPE, text=True, check=True)
    length, more = map(int, child.stdout.split())
    assert length == n
    assert more < 200 * n  # a tuple of lines alone takes 80 bytes a row, lists of cells 300
