"""Public names say what they take, return and raise, and their examples run."""

import doctest
import inspect
from importlib import import_module
from types import ModuleType

import pytest

import maskseq

WITH_EXAMPLES = {
    "types": ("Record", "Field", "LegalCells", "Encoded"),
    "tokenizer": ("Tokenizer",),
    "contract.symmetry": ("Symmetry", "Augmentation"),
    "formats": ("Format",),
    "constraints": ("Automaton", "Total"),
    "testing": ("check_tokenizer",),
    "survey": ("Head", "Claim", "Suggestion"),
    "predict.protocol": ("Example",),
    "trained": ("load",),
    "apps.pretrain": ("pretrain",),
}


def loaded(name: str) -> ModuleType:
    return import_module(f"maskseq.{name}")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str) -> None:
    failed, tried = doctest.testmod(loaded(name))
    assert tried
    assert not failed


@pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in WITH_EXAMPLES.items() for name in names])
def test_public_names_have_an_example(module: str, name: str) -> None:
    assert ">>>" in (inspect.getdoc(getattr(loaded(module), name)) or "")


@pytest.mark.parametrize("name", [name for name in maskseq.__all__ if callable(getattr(maskseq, name))])
def test_public_names_have_a_docstring_of_their_own(name: str) -> None:
    value = getattr(maskseq, name)
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert text
    assert not text.startswith(f"{name}(")  # what a dataclass writes where there is none
