"""maskseq: masked modeling for sequences that are not text.

Pretrain a bidirectional encoder on your own file, fill the holes of another, and know how sure each value is:

    run = maskseq.pretrain("recipe.toml", output="runs/mine")
    for filled in maskseq.load("runs/mine").infill(records):
        ...

Nothing here loads torch until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from maskseq.contract.renamed import read_moved_modules
from maskseq.errors import DataError, MaskseqError, UsageError
from maskseq.formats import Format
from maskseq.tokenizer import Augmentation, Symmetry, Tokenizer, Variant
from maskseq.types import ABSENT, END, MASK, OTHER, Encoded, Field, LegalCells, ListRecord, Record

if TYPE_CHECKING:
    from maskseq.apps.estimator import SequenceClassifier, SequenceRegressor
    from maskseq.apps.frames import recipe_for
    from maskseq.apps.pretrain import pretrain
    from maskseq.trained import TrainedModel, load
    from maskseq.trained import TrainedModel as Run

read_moved_modules()

__version__ = "0.1.0"

_LAZY = {
    "pretrain": "maskseq.apps.pretrain.pretrain",
    "recipe_for": "maskseq.apps.frames.recipe_for",
    "load": "maskseq.trained.load",
    "TrainedModel": "maskseq.trained.TrainedModel",
    "SequenceClassifier": "maskseq.apps.estimator.SequenceClassifier",
    "SequenceRegressor": "maskseq.apps.estimator.SequenceRegressor",
    "Run": "maskseq.trained.TrainedModel",
}
"""Where names are found that load torch. `Run` is the former name of `TrainedModel`."""

__all__ = [
    "ABSENT",
    "END",
    "MASK",
    "OTHER",
    "Augmentation",
    "DataError",
    "Encoded",
    "Field",
    "Format",
    "LegalCells",
    "ListRecord",
    "MaskseqError",
    "Record",
    "Run",
    "SequenceClassifier",
    "SequenceRegressor",
    "Symmetry",
    "Tokenizer",
    "TrainedModel",
    "UsageError",
    "Variant",
    "load",
    "pretrain",
    "recipe_for",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, _, attribute = _LAZY[name].rpartition(".")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'maskseq' has no attribute {name!r}")
