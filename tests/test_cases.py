"""The page of small files as people have them says what is stored, and that is what becomes of them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.cases import PAGE, RESULTS, outcome, page, stored

STORED = stored("after") if RESULTS.is_dir() else {}  # which a source distribution leaves out


@pytest.mark.skipif(not STORED, reason="benchmarks/results is not here")
def test_the_page_is_made_from_what_is_stored() -> None:
    assert PAGE.read_text() == page(stored("before"), STORED)


def test_nothing_raised_a_traceback() -> None:
    assert not [text for text in STORED.values() if text.startswith("**")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(STORED))
def test_each_file_is_read_as_is_stored(shared_cases: Path, name: str) -> None:
    assert outcome(shared_cases / name) == STORED[name]
