"""Runs whose encoder has learned nothing: enough wherever what is filled in does not matter."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskseq.model.checkpoint import find_checkpoint, read_model, save_model
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.plugins import Trust
from maskseq.tokenizer import Tokenizer
from maskseq.trained import TrainedModel, load

SHAPE = {"n_layers": 1, "hidden_size": 32, "n_heads": 1, "intermediate_size": 32}


def untrained(tokenizer: Tokenizer[Any], folder: Path, *, context: int = 64) -> TrainedModel:
    """A checkpoint of a random encoder in `folder`, loaded."""
    model = Encoder(preset("nano", tokenizer.vocabulary, **SHAPE, max_positions=context), seed=3)
    save_model(folder, model, tokenizer)
    return load(folder, trust_code=True)


def load_model(
    folder: Path, *, trust_code: Trust = False, warn: Callable[[str], object] = warnings.warn
) -> tuple[Encoder, Tokenizer[Any]]:
    """The model and tokenizer of a checkpoint folder, or of the best checkpoint of a run folder."""
    return read_model(find_checkpoint(folder, warn), trust_code=trust_code)
