"""How the project is laid out, in figures: modules at the top, lines, shared names of classes, the reading path.

    python benchmarks/house.py [ROOT]            # the figures as JSON, of this checkout or of another
    python benchmarks/house.py --path RUN FILE OUTPUT  # files of ours between `maskseq infill` and the forward pass

Lines are counted without docstrings, comments and blank ones, and with all of them.
"""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOOR = ("__init__", "errors", "types", "tokenizer", "formats", "files", "constraints", "variants", "survey", "plugins")
KERNEL = ("masking", "corpus", "packing", "model", "training", "predict", "infill")
MOST_BRANCHES = 15

TRACE = """
import sys, traceback
import torch
from maskseq.model.encoder import Encoder
from maskseq.cli import main
forward = Encoder.forward
def traced(*args, **kwargs):
    files = []
    for frame in traceback.extract_stack():
        if "/maskseq/" in frame.filename.replace("\\\\", "/") and frame.filename not in files:
            files.append(frame.filename)
    print("\\n".join(files))
    sys.stdout.flush()
    import os
    os._exit(0)
Encoder.forward = traced
sys.argv = ["maskseq", "infill", *sys.argv[1:]]
main()
"""


def figures(root: Path) -> dict[str, object]:
    """All that can be counted in the sources below `root`."""
    core = sorted((root / "maskseq").rglob("*.py"))
    every = core + sorted((root / "tokenizers").rglob("*.py"))
    kernel = [path for path in core if in_kernel(path.relative_to(root / "maskseq"))]
    classes = Counter(node.name for path in every for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef))
    sizes = [(len(path.read_text(encoding="utf-8").splitlines()), path) for path in every]
    return {
        "modules at the top": len(list((root / "maskseq").glob("*.py"))),
        "modules": len(every),
        "lines of code": sum(code_lines(path) for path in every),
        "lines in all": sum(n for n, _ in sizes),
        "kernel: lines of code": sum(code_lines(path) for path in kernel),
        "longest modules": {
            str(path.relative_to(root)): n
            for n, path in sorted(((len(path.read_text("utf-8").splitlines()), path) for path in every), reverse=True)[
                :5
            ]
        },
        "reading path": reading_path(root),
        "classes of one name": sorted(name for name, n in classes.items() if n > 1),
        f"functions of more than {MOST_BRANCHES} branches": too_complex(root),
    }


def reading_path(root: Path) -> dict[str, int]:
    """The files that `docs/design.md` lists to be read first, and their lines."""
    design = root / "docs" / "design.md"
    text = design.read_text(encoding="utf-8") if design.exists() else ""
    files = [root / name for name in re.findall(r"^\| \d+ \| `([^`]+)`", text, flags=re.M)]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return {"files": len(files), "lines": sum(len(each.splitlines()) for each in texts)}


def in_kernel(path: Path) -> bool:
    room = path.parts[0]
    return path.stem in DOOR if len(path.parts) == 1 else room in KERNEL and "experts" not in path.parts


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def code_lines(path: Path) -> int:
    """Lines that hold a token of code."""
    text = path.read_text(encoding="utf-8")
    strings = {line for node in ast.walk(ast.parse(text)) for line in _lines_of_text(node)}
    ignored = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in ignored:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - strings)


def _lines_of_text(node: ast.AST) -> Iterator[int]:
    """Lines of a string that stands alone: a docstring, of an attribute as well."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def too_complex(root: Path) -> list[str]:
    """Functions that ruff counts more branches in."""
    words = ["ruff", "check", "--isolated", "--select", "C901", "--output-format", "json", "--config"]
    config = f"lint.mccabe.max-complexity={MOST_BRANCHES}"
    done = subprocess.run(
        [sys.executable, "-m", *words, config, "maskseq", "tokenizers"], cwd=root, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    return [f"{Path(each['filename']).relative_to(root)}: {each['message'].split('`')[1]}" for each in found]


def path_to_forward(run: str, file: str, output: str) -> list[str]:
    """The files of ours on the stack when the encoder is first run for `maskseq infill`."""
    done = subprocess.run(
        [sys.executable, "-c", TRACE, run, file, "--output", output], capture_output=True, text=True, check=True
    )
    return [line[line.rindex("maskseq/") :] for line in done.stdout.splitlines() if line.endswith(".py")]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--path"]:
        files = path_to_forward(*sys.argv[2:5])
        print(json.dumps({"files": len(files), "path": files}, indent=1))
    else:
        print(json.dumps(figures(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT), indent=1))
