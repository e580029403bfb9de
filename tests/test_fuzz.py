"""Damaged and random input to every reader and parser: refused in one line or read, never anything else."""

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fuzz import MUTATION, mutate
from hypothesis import given, settings
from hypothesis import strategies as st
from small_files import EXAMPLES

from maskseq.errors import MaskseqError
from maskseq.infill.ranges import read_ranges
from maskseq.infill.rules import NamedRule, read_interval
from maskseq.recipe import load_recipe
from maskseq.variants import Records, stretches
from maskseq_genomics.sequence import Sequence as Bases
from maskseq_genomics.vcf import Vcf

FUZZ = Path(__file__).with_name("fuzz.py")
REPOSITORY = FUZZ.parents[1]
SOAK = 4000
"""Inputs an example in the soak: over 100,000 in all."""


def fuzz(*arguments: str) -> None:
    done = subprocess.run([sys.executable, str(FUZZ), *arguments], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_500_damaged_files() -> None:
    """The same ones each time."""
    fuzz("--examples", str(-(-500 // len(EXAMPLES))))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", EXAMPLES)
def test_many_damaged_files(name: str) -> None:
    """Other ones each time; a failure prints the file, shrunk."""
    fuzz("--examples", str(SOAK), "--seed", str(random.randrange(2**32)), name)


def survives(call: Callable[..., object], *arguments: object) -> None:
    with suppress(MaskseqError):
        call(*arguments)


PIECES = st.sampled_from(
    ["chr1", ":", "-", "..", ",", "@", "=", "1", "0", "9" * 5000, "1e999", "nan", "\0", "é", " ", "٣"]
)
TEXT = st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=8).map("".join))


@settings(max_examples=300, derandomize=True)
@given(TEXT)
def test_ranges_rules_and_intervals(text: str) -> None:
    if not text.endswith(".bed"):
        survives(read_ranges, [text])
    survives(NamedRule.parse, text)
    survives(read_interval, text)


VCF = (
    b"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\n"
    b"chr1\t2\trs1\tA\tC,<DEL>,*\nchr1\t5\t.\tACGT\tA\nchr1\t0\t.\tN\tA]chr2:3]\n"
)


def damaged_vcf(mutations: Sequence[tuple[Any, ...]]) -> None:
    """Each line that is no comment is listed, scored or with a reason."""
    content = VCF
    for mutation in mutations:
        content = mutate(content, mutation)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.vcf"
        path.write_bytes(content)
        listed: list[Any] | None = None
        with suppress(MaskseqError):
            listed = list(Vcf().read(path))
        if listed is None:
            return
        lines = content.removeprefix(b"\xef\xbb\xbf").decode(errors="backslashreplace").split("\n")
        assert len(listed) >= sum(bool(line.strip()) and not line.startswith("#") for line in lines)
        list(stretches(listed, Records(lambda: [Bases(key="chr1", residues=b"AACGTACGT" * 9)]), 32))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(MUTATION, max_size=4))
def test_variant_files(mutations: list[tuple[Any, ...]]) -> None:
    damaged_vcf(mutations)


@pytest.mark.soak
@settings(max_examples=SOAK, deadline=None)
@given(st.lists(MUTATION, max_size=4))
def test_many_variant_files(mutations: list[tuple[Any, ...]]) -> None:
    damaged_vcf(mutations)


BED_PIECES = st.sampled_from(
    [b"chr1", b"\t", b"\n", b"0", b"7", b"-1", b"9" * 5000, b"#", b"track", b"\xff", b"\0", b"\r"]
)


@settings(max_examples=100, derandomize=True)
@given(st.lists(BED_PIECES, max_size=12).map(b"".join))
def test_beds_of_ranges(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.bed"
        path.write_bytes(content)
        survives(read_ranges, [str(path)])


DEMO = (REPOSITORY / "recipes" / "demo.toml").read_text(encoding="utf-8")
TOML = [
    "[",
    "]",
    "=",
    '"',
    "\n",
    "{",
    "}",
    "[[data]]\n",
    "nan",
    "-inf",
    "2024-01-31",
    "1" * 5000,
    "[" * 5000,
    "\0",
    "é",
    "0",
]
DAMAGE = st.tuples(st.integers(0, len(DEMO)), st.integers(0, 12), st.sampled_from([*TOML, ""]))
VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.dates()
)
KEYS = [
    "data.files",
    "data.split",
    "tokenizer.name",
    "model.preset",
    "masking.ratio",
    "training.tokens",
    "seed",
    "packing",
    "batch",
    "x.y",
]


@settings(max_examples=200, derandomize=True)
@given(st.lists(DAMAGE, min_size=1, max_size=3))
def test_damaged_recipes(damage: list[tuple[int, int, str]]) -> None:
    text = DEMO
    for at, n, other in damage:
        text = text[:at] + other + text[at + n :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.toml"
        path.write_text(text, encoding="utf-8")
        survives(load_recipe, path)


@pytest.mark.filterwarnings("ignore:.*older names:FutureWarning")
@settings(max_examples=200, derandomize=True)
@given(st.sampled_from(KEYS), st.one_of(VALUE.map(str), st.text(max_size=10), st.sampled_from(TOML)))
def test_wild_settings(key: str, value: str) -> None:
    survives(load_recipe, REPOSITORY / "recipes" / "demo.toml", [f"{key}={value}"])
