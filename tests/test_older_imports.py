"""What plug-ins and scripts imported before modules and classes moved is still found, with a warning."""

import subprocess
import sys

import pytest

from maskseq.contract.renamed import MODULES

OLDER = (
    ("maskseq.tokenizer", "Format", "maskseq.formats", "Format"),
    ("maskseq.tokenizer", "attempted", "maskseq.formats", "attempted"),
    ("maskseq.names", "distinct", "maskseq.formats", "distinct"),
    ("maskseq.outputs", "derived", "maskseq.storage.outputs", "derived"),
    ("maskseq.run", "Run", "maskseq.trained", "TrainedModel"),
    ("maskseq.run", "load", "maskseq.trained", "load"),
    ("maskseq.types", "Loss", "maskseq.types", "QuantizationError"),
    ("maskseq.data.corpus", "Corpus", "maskseq.corpus.reader", "Corpus"),
    ("maskseq.inference.infill", "infill", "maskseq.infill.sampler", "infill"),
)


def run(program: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-W", "always::DeprecationWarning", "-c", program]
    return subprocess.run(words, capture_output=True, text=True, check=True)


def test_older_names_mean_the_same_objects() -> None:
    lines = [
        f"from {module} import {name} as older; from {now} import {new} as today; assert older is today, {name!r}"
        for module, name, now, new in OLDER
    ]
    warned = run("\n".join(lines)).stderr
    for module, name, _, _ in OLDER:
        assert f"{module}.{name} is now" in warned or f"{module} is now" in warned


def test_every_module_that_moved_is_found() -> None:
    run("\n".join(f"import {module}" for module in MODULES))


def test_a_module_keeps_its_own_name() -> None:
    program = "import maskseq.run, maskseq.trained, sys; print(maskseq.trained.__spec__.name, maskseq.trained.__name__)"
    assert run(program).stdout.split() == ["maskseq.trained", "maskseq.trained"]


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run("import maskseq.nothing")
    with pytest.raises(subprocess.CalledProcessError):
        run("from maskseq.tokenizer import Nothing")
