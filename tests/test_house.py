"""The layout of the project: one word for one thing, few modules at the top, imports in layers."""

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = sorted((ROOT / "maskseq").rglob("*.py"))
SOURCES = CORE + sorted((ROOT / "tokenizers").rglob("*.py"))
MOST_AT_THE_TOP = 13
FORMER = {
    "Attempt",
    "Beyond",
    "Chunk",
    "ContextTable",
    "Job",
    "Judge",
    "Learner",
    "LinearContext",
    "OneWay",
    "Plan",
    "Puzzle",
}
"""Names of classes for which the field has a better word."""


def classes() -> dict[str, list[str]]:
    found = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    return found


def top_level_names() -> set[str]:
    found = set()
    for path in CORE:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return found


def test_no_two_classes_share_a_name() -> None:
    assert {name: files for name, files in classes().items() if len(files) > 1} == {}


def test_no_class_has_a_name_that_the_glossary_replaced() -> None:
    assert not FORMER & classes().keys()


def test_the_glossary_names_what_is_there() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    named = {name for row in rows for name in re.findall(r"`([A-Za-z_.]+)`", row[3])}
    known = top_level_names()
    assert len(named) > 30
    for name in named:
        path = ROOT / name.replace(".", "/")
        assert name in known or path.with_suffix(".py").is_file() or path.is_dir(), name
    terms = [row[1].strip() for row in rows]
    assert len(terms) == len(set(terms)) + terms.count("term") - 1, "a term is explained twice"


def test_the_top_level_holds_what_users_and_plug_in_authors_import() -> None:
    assert len(list((ROOT / "maskseq").glob("*.py"))) <= MOST_AT_THE_TOP


def test_the_design_prints_the_layers_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    assert "\n".join(["```", *layers, "```"]) in text
