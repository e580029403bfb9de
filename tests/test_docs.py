"""The documents name what is there: their links, the files of the reading path, and where things are added."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").rglob("*.md")])
DOCUMENTS.append(ROOT / "tokenizers" / "README.md")
LONGEST_PATH = 3_300
NAME = re.compile(r"[A-Za-z_]\w*(\.(?!html|json|toml|py)[a-z]\w*)?")
"""Of a class, a function, a constant or a method."""


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


def test_answers_name_what_is_there() -> None:
    """Each name in the answers to a new maintainer's questions stands in a file that the same answer names."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    answers = text.partition("## Ten questions")[2].partition("## ")[0]
    questions = re.split(r"^\d+\. ", answers, flags=re.M)[1:]
    assert len(questions) == 10
    for each in questions:
        quoted = re.findall(r"`([^`]+)`", each)
        files = [ROOT / room / name for name in quoted for room in ("maskseq", "") if "/" in name or ".py" in name]
        files = [file for file in files if file.exists()]
        assert {name for name in quoted if name.endswith((".py", "/"))} <= {
            str(file.relative_to(ROOT)).removeprefix("maskseq/") + "/" * file.is_dir() for file in files
        }, each
        there = "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
        for name in filter(NAME.fullmatch, quoted):
            assert all(re.search(rf"\b(def|class) {part}\b", there) for part in name.split(".")), name


def test_what_is_changed_to_add_things_is_there() -> None:
    """Constants, classes and functions that CONTRIBUTING names stand in one of the files that it names with them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| a ", "| an "))]
    for what, change, *_ in rows:
        quoted = re.findall(r"`([^`]+)`", change)
        places = [ROOT / room / name for name in quoted for room in ("maskseq", "") if "/" in name]
        files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))]
        there = "\n".join(file.read_text(encoding="utf-8") for file in files)
        for name in (part for each in quoted if NAME.fullmatch(each) for part in each.split(".")):
            assert re.search(rf"\b{name}\b", there), f"{what}: {name}"


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
