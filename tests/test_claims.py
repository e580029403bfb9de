"""Pages of figures are made from stored results: page and results must agree, to the letter."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.ablation import report as ablation
from benchmarks.panel import report as panel

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES: dict[str, Callable[[Path, Path], str]] = {"panel": panel.write_report, "ablation": ablation.write_report}
"""By the name of the folder of results and of the page."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_stored_results_say(name: str, tmp_path: Path) -> None:
    page = ROOT / "docs" / f"{name}.md"
    if not page.exists():
        assert not (RESULTS / name).exists(), f"python -m benchmarks.{name} --report writes {page.name}"
        pytest.skip("nothing has been run")
    PAGES[name](RESULTS / name, tmp_path / page.name)
    assert page.read_text() == (tmp_path / page.name).read_text(), f"python -m benchmarks.{name} --report"


def test_the_readme_says_what_the_panel_says() -> None:
    """Its table is one of the page, which is made from the results."""
    table = (ROOT / "README.md").read_text().partition("<!-- panel -->\n")[2].partition("<!-- /panel -->")[0]
    assert table.count("\n") > 2
    assert table in (ROOT / "docs" / "panel.md").read_text()
