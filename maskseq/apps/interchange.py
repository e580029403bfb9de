"""Encoders from and for elsewhere: Hugging Face folders and ONNX."""

from pathlib import Path
from typing import Literal

from maskseq import plugins
from maskseq.contract.fence import fit
from maskseq.errors import UsageError
from maskseq.interop.convert import export_hf, export_onnx, import_hf
from maskseq.model.checkpoint import save_model
from maskseq.storage.outputs import claimed, replacing, sync
from maskseq.trained import TrainedModel


def import_checkpoint(folder: Path, output: Path, *, tokenizer: str | None = None, trust_code: bool = False) -> int:
    """Turn a Hugging Face folder into a checkpoint folder; returns its number of parameters.

    `tokenizer` names an installed one that needs no fitting; its tokens' rows are picked from theirs by their text.
    """
    chosen = fit(plugins.load("tokenizers", tokenizer, trust_code=True), (), {}) if tokenizer else None
    with replacing(output, new=True, parents=True) as aside:
        model, own = import_hf(folder, tokenizer=chosen, trust_code=trust_code)
        if own is None:
            raise UsageError(
                f"{folder} was not written by maskseq: nothing here says how your data become its ids\n\n"
                f"hint: name a tokenizer whose tokens are among theirs with --tokenizer",
                code="foreign-folder",
            )
        save_model(aside, model, own)
    return model.n_parameters


def export_checkpoint(run: TrainedModel, output: Path, *, format: Literal["hf", "onnx"]) -> str:
    """Write a run's encoder for transformers or as ONNX; returns what was written. Experts and the gate stay here."""
    with claimed(output, new=True, parents=True) as work:
        if format == "hf":
            reported = export_hf(run.model, work.content, tokenizer=run.tokenizer)
            work.publish()
            return reported
        work.content.mkdir()
        export_onnx(run.model, work.content / output.name)
        for path in work.content.iterdir():  # a large model comes with a file of its weights, which it names
            sync(path)
            path.replace(output.with_name(path.name))
    return "an ONNX model of one sequence of any length"
