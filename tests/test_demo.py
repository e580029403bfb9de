"""The demo runs on what ships, compares every act with a simple method, and ends in a page that needs no network."""

import re
import runpy
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo.py"


SMALL = ("blend=false", "model.n_layers=1")


@pytest.mark.parametrize("overrides", [SMALL, pytest.param((), marks=pytest.mark.soak)])
def test_the_demo_makes_one_page_of_three_acts(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    page = runpy.run_path(str(DEMO))["demo"](tmp_path / "demo", tokens=2_000, cells=60, overrides=overrides)
    text = page.read_text(encoding="utf-8")
    assert text.count('class="verdict"') == 3
    assert len(re.findall(r"95 % interval|no interval", text)) >= 3
    assert text.count("<svg") >= 2  # the signal and the genome; the log is a table
    assert not re.findall(r"""(?:src|href)=|https?://""", text)
