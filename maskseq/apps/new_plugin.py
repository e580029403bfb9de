"""`maskseq new-plugin`: a package with a format, a tokenizer and the tests of their contracts, to begin with."""

import keyword
import re
from pathlib import Path

from maskseq import plugins
from maskseq.errors import UsageError

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "maskseq-NAME"
version = "0.1"
dependencies = ["maskseq"]

[project.entry-points."maskseq.tokenizers"]
NAME = "maskseq_NAME:CLASSTokenizer"

[project.entry-points."maskseq.formats"]
NAME-lines = "maskseq_NAME:CLASSLines"

[tool.hatch.build.targets.wheel]
only-include = ["maskseq_NAME.py"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""

MODULE = '''\
"""A format and a tokenizer for maskseq. What they do is an example: change it to what your files hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from maskseq import DataError, Encoded, Field, Format, ListRecord, Tokenizer
from maskseq.files import create, open_bytes
from maskseq.types import OTHER

UNKNOWN = "?"


class CLASSLines(Format[ListRecord]):
    """One sequence a line: words with a blank between them, ? for an unknown one."""

    suffixes: ClassVar[tuple[str, ...]] = (".NAME",)

    def read(self, path: Path) -> Iterator[ListRecord]:
        with open_bytes(path) as lines:
            for number, line in enumerate(lines, start=1):
                words = line.decode().removesuffix("\\n").split(" ")
                if not all(word and word.isprintable() for word in words):
                    raise DataError(path, "expected words with one blank between them", place=f"line {number}")
                yield ListRecord(key=f"line {number}", values=words)

    def write(self, records: Iterable[ListRecord], path: Path) -> None:
        records = list(records)  # they may come from the file that is written
        with create(path) as file:
            file.writelines(" ".join(map(str, record.values)).encode() + b"\\n" for record in records)


@dataclass(frozen=True, kw_only=True)
class CLASSTokenizer(Tokenizer[ListRecord]):
    """One position a word. Its dataclass fields are its saved state."""

    words: tuple[str, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field(name="word", tokens=self.words, controls=(OTHER,)),)

    @classmethod
    def fit(cls, records: Iterable[ListRecord]) -> "CLASSTokenizer":
        """The words of the training records."""
        words = {str(word) for record in records for word in record.values} - {UNKNOWN}
        return cls(words=tuple(sorted(words)))

    def encode(self, record: ListRecord) -> Encoded:
        field = self.fields[0]
        ids = {word: index for index, word in enumerate(self.words)} | {UNKNOWN: field.mask_id}
        other = field.control_id(OTHER)
        return Encoded(np.array([ids.get(str(word), other) for word in record.values], dtype=np.int64)[:, None])

    def decode(self, ids: np.ndarray) -> str:
        return " ".join(self.fields[0].token(i) for i in ids[:, 0])

    def splice(self, record: ListRecord, ids: np.ndarray, holes: np.ndarray) -> ListRecord:
        new = [self.words[i] if i < len(self.words) else UNKNOWN for i in ids[:, 0].tolist()]
        values = [n if hole else old for n, old, hole in zip(new, record.values, holes[:, 0], strict=True)]
        return ListRecord(key=record.key, values=values)
'''

TESTS = '''\
"""The contracts of the format and of the tokenizer: run `pytest` in this folder."""

from maskseq.testing import check_format, check_tokenizer
from maskseq_NAME import CLASSLines, CLASSTokenizer

SOME = "red green ? blue\\nblue red\\ngreen green red ? blue red\\n"


def test_the_format_keeps_its_contract(tmp_path):
    path = tmp_path / "some.NAME"
    path.write_text(SOME)
    assert "bytes" in check_format(CLASSLines(), [path]).checked


def test_the_tokenizer_keeps_its_contract(tmp_path):
    path = tmp_path / "some.NAME"
    path.write_text(SOME)
    records = list(CLASSLines().read(path))
    assert "no leak" in check_tokenizer(CLASSTokenizer.fit(records), records).checked
'''


def new_plugin(name: str, folder: Path | None = None) -> list[Path]:
    """Write a package called `maskseq-NAME` into a new folder (default: of that name, here).

    Returns:
        The files that were written.

    Raises:
        UsageError: The name is not one that a module can have, or is taken; or the folder is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UsageError(
            f"{name!r} cannot name a plug-in\n\nhint: use lower-case letters, digits and single _ between them",
            code="bad-option",
        )
    if name in plugins.available("tokenizers"):
        raise UsageError(
            f"a tokenizer called {name!r} is installed already\n\nhint: choose another name", code="exists"
        )
    folder = folder or Path(f"maskseq-{name}")
    if folder.exists():
        raise UsageError(f"{folder} is there already\n\nhint: choose another with --output", code="exists")
    words = {"CLASS": "".join(part.capitalize() for part in name.split("_")), "NAME": name}
    files = {"pyproject.toml": PROJECT, f"maskseq_{name}.py": MODULE, f"tests/test_{name}.py": TESTS}
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub("CLASS|NAME", lambda found: words[found[0]], text), encoding="utf-8")
    return [folder / place for place in files]
