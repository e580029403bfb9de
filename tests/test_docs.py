"""The documents name what is there: their links, the files of the reading path, and where things are added."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").rglob("*.md")])
DOCUMENTS.append(ROOT / "tokenizers" / "README.md")
LONGEST_PATH = 3_300


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, place = target.partition("#")
        found = document.parent / file if file else document
        assert found.exists(), target
        if place:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert place in {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}, target


def test_the_reading_path_is_as_short_as_it_says() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    files = re.findall(r"^\| \d+ \| `([\w/.]+)` \|", text, flags=re.MULTILINE)
    assert len(files) == len(set(files)) == 12
    assert sum(without_docstrings((ROOT / file).read_text(encoding="utf-8")) for file in files) <= LONGEST_PATH


def without_docstrings(text: str) -> int:
    """Lines of a module, but for those of texts that say what something is."""
    message = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    texts = [each for each in message if isinstance(each.value, ast.Constant) and isinstance(each.value.value, str)]
    return len(text.splitlines()) - sum((each.end_lineno or each.lineno) - each.lineno + 1 for each in texts)


def test_places_to_add_things_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| a ", "| an "))]
    assert len(rows) >= 12
    for what, change, test in rows:
        places = re.findall(r"`([a-z_]+/[\w/]*(?:\.py)?)", change)
        assert places, what
        for place in places:
            assert (ROOT / "maskseq" / place).exists() or (ROOT / place).exists(), place
        for file in re.findall(r"`(\w+\.py)`", test):
            assert (ROOT / "tests" / file).exists(), file
