"""What plug-ins and scripts import by an older name is there, with a warning that names today's."""

import importlib
import sys

import pytest

from maskseq.contract.renamed import MODULES


@pytest.mark.parametrize(
    ("module", "name", "today"),
    [
        ("maskseq.tokenizer", "Format", "maskseq.formats.Format"),
        ("maskseq.types", "Loss", "maskseq.types.QuantizationError"),
        ("maskseq.apps.pretrain", "rows_of_run", "maskseq.apps.rows.rows_of_run"),
        ("maskseq.apps.pretrain", "fit_tokenizer", "maskseq.apps.prepare.fit_tokenizer"),
        ("maskseq.trained", "export_checkpoint", "maskseq.apps.interchange.export_checkpoint"),
        ("maskseq.trained", "recipe_file", "maskseq.loaded.recipe.recipe_file"),
    ],
)
def test_a_class_that_was_renamed_or_moved(module: str, name: str, today: str) -> None:
    with pytest.warns(DeprecationWarning, match=today):
        found = getattr(importlib.import_module(module), name)
    home, _, new = today.rpartition(".")
    assert found is getattr(importlib.import_module(home), new)


@pytest.mark.parametrize("older", MODULES)
def test_a_module_that_moved(older: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, older, raising=False)
    with pytest.warns(DeprecationWarning, match=MODULES[older]):
        assert importlib.import_module(older) is importlib.import_module(MODULES[older])
