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
    from maskseq.apps.estimator import SequenceClassifier as SequenceClassifier
    from maskseq.apps.estimator import SequenceRegressor as SequenceRegressor
    from maskseq.apps.evaluate import evaluate_run as evaluate
    from maskseq.apps.finetune import finetune as finetune
    from maskseq.apps.frames import recipe_for as recipe_for
    from maskseq.apps.interchange import export_checkpoint as export
    from maskseq.apps.interchange import import_checkpoint as import_hf
    from maskseq.apps.pretrain import pretrain as pretrain
    from maskseq.apps.rows import rows_of_run as rows_of_run
    from maskseq.comparison.question import Question as Question
    from maskseq.corpus.reader import Corpus as Corpus
    from maskseq.infill.filling import FilledRecord as FilledRecord
    from maskseq.infill.options import InfillOptions as InfillOptions
    from maskseq.infill.sampler import InfillConfig as InfillConfig
    from maskseq.infill.sampler import infill as fill
    from maskseq.model.config import EncoderConfig as EncoderConfig
    from maskseq.model.encoder import Encoder as Encoder
    from maskseq.packing.rows import PackedRow as PackedRow
    from maskseq.packing.rows import PackedRows as PackedRows
    from maskseq.predict.predictor import Predictor as Predictor
    from maskseq.predict.protocol import Example as Example
    from maskseq.predict.protocol import Fill as Fill
    from maskseq.recipe import Recipe as Recipe
    from maskseq.recipe import load_recipe as load_recipe
    from maskseq.testing import check_format as check_format
    from maskseq.testing import check_tokenizer as check_tokenizer
    from maskseq.trained import TrainedModel as Run
    from maskseq.trained import TrainedModel as TrainedModel
    from maskseq.trained import load as load
    from maskseq.training.loss import Batch as Batch
    from maskseq.training.loss import MaskedLoss as MaskedLoss
    from maskseq.types import Vocabulary as Vocabulary

read_moved_modules()

__version__ = "0.2.0"

_LAZY = {
    "pretrain": "maskseq.apps.pretrain.pretrain",
    "recipe_for": "maskseq.apps.frames.recipe_for",
    "load": "maskseq.trained.load",
    "TrainedModel": "maskseq.trained.TrainedModel",
    "SequenceClassifier": "maskseq.apps.estimator.SequenceClassifier",
    "SequenceRegressor": "maskseq.apps.estimator.SequenceRegressor",
    "finetune": "maskseq.apps.finetune.finetune",
    "evaluate": "maskseq.apps.evaluate.evaluate_run",
    "Question": "maskseq.comparison.question.Question",
    "import_hf": "maskseq.apps.interchange.import_checkpoint",
    "export": "maskseq.apps.interchange.export_checkpoint",
    "Recipe": "maskseq.recipe.Recipe",
    "load_recipe": "maskseq.recipe.load_recipe",
    "Corpus": "maskseq.corpus.reader.Corpus",
    "PackedRow": "maskseq.packing.rows.PackedRow",
    "PackedRows": "maskseq.packing.rows.PackedRows",
    "rows_of_run": "maskseq.apps.rows.rows_of_run",
    "Encoder": "maskseq.model.encoder.Encoder",
    "EncoderConfig": "maskseq.model.config.EncoderConfig",
    "Batch": "maskseq.training.loss.Batch",
    "MaskedLoss": "maskseq.training.loss.MaskedLoss",
    "Example": "maskseq.predict.protocol.Example",
    "Fill": "maskseq.predict.protocol.Fill",
    "Predictor": "maskseq.predict.predictor.Predictor",
    "InfillConfig": "maskseq.infill.sampler.InfillConfig",
    "InfillOptions": "maskseq.infill.options.InfillOptions",
    "FilledRecord": "maskseq.infill.filling.FilledRecord",
    "fill": "maskseq.infill.sampler.infill",
    "Vocabulary": "maskseq.types.Vocabulary",
    "check_format": "maskseq.testing.check_format",
    "check_tokenizer": "maskseq.testing.check_tokenizer",
    "Run": "maskseq.trained.TrainedModel",
}
"""Where names are found that load torch. `Run` is the former name of `TrainedModel`."""

__all__ = [
    "ABSENT",
    "END",
    "MASK",
    "OTHER",
    "Augmentation",
    "Batch",
    "Corpus",
    "DataError",
    "Encoded",
    "Encoder",
    "EncoderConfig",
    "Example",
    "Field",
    "Fill",
    "FilledRecord",
    "Format",
    "InfillConfig",
    "InfillOptions",
    "LegalCells",
    "ListRecord",
    "MaskedLoss",
    "MaskseqError",
    "PackedRow",
    "PackedRows",
    "Predictor",
    "Question",
    "Recipe",
    "Record",
    "Run",
    "SequenceClassifier",
    "SequenceRegressor",
    "Symmetry",
    "Tokenizer",
    "TrainedModel",
    "UsageError",
    "Variant",
    "Vocabulary",
    "check_format",
    "check_tokenizer",
    "evaluate",
    "export",
    "fill",
    "finetune",
    "import_hf",
    "load",
    "load_recipe",
    "pretrain",
    "recipe_for",
    "rows_of_run",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, _, attribute = _LAZY[name].rpartition(".")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'maskseq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
