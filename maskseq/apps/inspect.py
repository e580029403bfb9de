"""Say what things are before, during and after the work: a dry run, a corpus, a run, this machine."""

import math
import platform
import re
import tempfile
from collections import defaultdict
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from maskseq import plugins
from maskseq.apps.prepare import prepare_corpus, recipe_tokenizer, warn_of_overlap, warn_of_shared
from maskseq.apps.pretrain import advice, trained_parameters
from maskseq.apps.rows import rows_of
from maskseq.apps.speed_probe import estimate, speed_of
from maskseq.contract.fence import fenced
from maskseq.corpus.overlap import overlap_of
from maskseq.corpus.reader import Corpus, holds_corpus
from maskseq.errors import DataError, UsageError, first_problem
from maskseq.loaded.recipe import recipe_file
from maskseq.model.attention.packed import explain
from maskseq.model.checkpoint import find_checkpoint, named_checkpoint, read_json, read_model
from maskseq.model.cpu import bf16_is_fast, bf16_speedup
from maskseq.model.encoder import Encoder
from maskseq.model.flops import row_flops
from maskseq.recipe import Recipe, check_memory, load_recipe
from maskseq.storage.places import Place, is_url
from maskseq.storage.run_folder import CheckpointFolder, RunFolder
from maskseq.tokenizer import Tokenizer
from maskseq.training.config import OptimizerConfig
from maskseq.training.device import choose_device, choose_precision
from maskseq.training.metrics import Watched
from maskseq.training.optimizer import parameter_groups
from maskseq.training.sizes import checkpoint_bytes, rank_memory
from maskseq.types import QuantizationError


def dry_run(recipe: Recipe, *, output: Path) -> dict[str, Any]:
    """Everything that can be known before training: the resolved recipe, sizes, steps, memory and a first batch.

    The corpus is read where it exists; otherwise it is built in a temporary folder that is removed again.
    """
    check_memory(recipe)
    with tempfile.TemporaryDirectory() as aside:
        there = recipe.data.corpus or RunFolder(output).corpus
        if holds_corpus(there):
            corpus = Corpus.open(there, trust_code=recipe.code)
        else:
            corpus = prepare_corpus(
                replace(recipe, data=replace(recipe.data, corpus=None)), default=Path(aside) / "corpus"
            )
        left, files = warn_of_overlap(corpus), warn_of_shared(corpus)
        recipe.look_up_parts()
        training_rows, validation_rows = rows_of(recipe, corpus)
        config = recipe.encoder_config(corpus.tokenizer.vocabulary)
        model = Encoder(config, seed=None)
        row = training_rows.row(0)
        precision = choose_precision(recipe.training.precision, choose_device(recipe.training.device))
        memory = rank_memory(
            model,
            config,
            recipe.training,
            recipe.optimizer,
            row_tokens=recipe.packing.row_tokens,
            world=1,
            activation_bytes=2 if precision == "bf16" else 4,
        )
        written = checkpoint_bytes(model, recipe.optimizer, ema=recipe.training.ema > 0)
        flops = row_flops(config, row)
        step_tokens = recipe.training.rows * recipe.packing.row_tokens
        took = estimate(recipe, speed_of(recipe, corpus))
        return {
            "recipe": recipe.to_json(),
            "data": {
                "training tokens": int(corpus.lengths[corpus.sequences("train")].sum()),
                "validation tokens": int(corpus.lengths[corpus.sequences("selection")].sum()),
                "test tokens": int(corpus.lengths[corpus.sequences("test")].sum()),
                **({"left out at a time boundary": left.reported} if left else {}),
                **({"held-out files": files} if files else {}),
                "rows an epoch": training_rows.n_rows(0),
                "validation rows": validation_rows.n_rows(0) if validation_rows else 0,
            },
            "model": {
                "parameters": model.n_parameters,
                "memory": f"{memory.total / 2**30:.2f} GiB (weights, gradients, optimizer, activations)",
                "checkpoint": f"{written / 1e6:,.0f} MB",
                "operations": f"{flops / row.n_tokens / 1e6:,.0f} MFLOP a token, forward and backward",
                "precision": precision,
            },
            "training": {
                "tokens": recipe.training.tokens,
                "steps": math.ceil(recipe.training.tokens / step_tokens),
                "tokens a step": step_tokens,
                "epochs": recipe.training.tokens / max(int(corpus.lengths[corpus.sequences("train")].sum()), 1),
                **took,
                **(
                    {"advice": "; ".join(reported)}
                    if (reported := advice(recipe, corpus, trained_parameters(model)))
                    else {}
                ),
            },
            "first batch": {
                "pieces": len(row.ratio),
                "tokens": row.n_tokens,
                "scored cells": int((row.weights > 0).sum()),
                "seen": _glimpse(corpus.tokenizer, row.inputs),
                "true": _glimpse(corpus.tokenizer, row.targets),
            },
        }


def _glimpse(tokenizer: Tokenizer[Any], ids: Any) -> str:
    with fenced(tokenizer, "decode"):
        text = str(tokenizer.decode(ids[:60]))
    return text if len(text) <= 200 else text[:200] + "…"


def inspect(place: Place, *, layers: bool = False, trust_code: bool = False) -> dict[str, Any]:
    """What a recipe, a corpus, a run folder or a checkpoint is; `UsageError` for anything else."""
    path = Path(place)
    if path.suffix == ".toml":
        recipe = load_recipe(path)
        return {"recipe": recipe.to_json()} | ({"layers": _planned_layers(recipe)} if layers else {})
    if is_url(place) or holds_corpus(place):
        return _corpus(Corpus.open(place, trust_code=trust_code))
    if not RunFolder(path).latest.exists() and not CheckpointFolder(path).config.exists():
        raise UsageError(f"{path} is not a recipe (.toml), corpus, run folder or checkpoint", code="foreign-folder")
    checkpoint = find_checkpoint(path)
    model, tokenizer = read_model(checkpoint, trust_code=trust_code)
    made_by = recipe_file(path, checkpoint)
    config = model.config
    summary: dict[str, Any] = {
        "checkpoint": _which(path, checkpoint),
        "model": {
            "parameters": model.n_parameters,
            "layers": config.n_layers,
            "hidden size": config.hidden_size,
            "heads": config.n_heads,
            "intermediate size": config.intermediate_size,
        },
        "tokenizer": _tokenizer(tokenizer),
        "fields": dict(tokenizer.describe()),
    }
    if RunFolder(path).metrics.exists():
        watched = Watched(path).update()
        validation = next(reversed(watched.validations), None)
        for kind, line in (
            ("last step", watched.last),
            ("last validation", validation),
            ("best validation", watched.best),
            ("test", watched.test),
        ):
            if line:
                summary[kind] = {key: line.get(key) for key in ("step", "tokens", "bits", "accuracy")}
    if layers:
        summary["layers"] = _layers(model, _optimizer(made_by or CheckpointFolder(path).run.recipe))
    return summary


def _which(path: Path, checkpoint: Path) -> str:
    """Which checkpoint of a run is opened, and why."""
    if path == checkpoint:
        return checkpoint.name
    chosen = named_checkpoint(RunFolder(path).best) == checkpoint
    return f"{checkpoint.name}, the {'best by selection data' if chosen else 'newest'}"


def _planned_layers(recipe: Recipe) -> list[dict[str, Any]]:
    """The layer table of a run that has not begun."""
    with torch.device("meta"):  # shapes only
        model = Encoder(recipe.encoder_config(recipe_tokenizer(recipe).vocabulary), seed=None)
    return _layers(model, recipe.optimizer)


def _layers(model: Encoder, optimizer: OptimizerConfig | None) -> list[dict[str, Any]]:
    """A line for each parameter: its shape, and what the optimizer does with it, where that is known."""
    if optimizer is None:
        return [
            {"name": name, "shape": tuple(p.shape), "parameters": p.numel()} for name, p in model.named_parameters()
        ]
    return [
        {
            "name": group.name,
            "shape": group.shape,
            "parameters": math.prod(group.shape),
            "role": group.role,
            "optimizer": group.optimizer,
            "lr": optimizer.lr,
            "weight decay": group.weight_decay,
        }
        for group in parameter_groups(model, optimizer)
    ]


def _optimizer(recipe: Path) -> OptimizerConfig | None:
    """What the recipe of a run, or of the run that a checkpoint lies in, says; None for a checkpoint of its own."""
    saved = read_json(recipe).get("recipe") if recipe.exists() else None
    if not isinstance(saved, dict) or "optimizer" not in saved:
        return None
    try:
        return TypeAdapter(OptimizerConfig).validate_python(saved["optimizer"])
    except ValidationError as error:
        where, problem = first_problem(error, "recipe", "optimizer")
        raise DataError(recipe, problem, place=where, code="damaged-file") from None


def _corpus(corpus: Corpus) -> dict[str, Any]:
    manifest = corpus.manifest
    split = manifest["split"]
    left = overlap_of(corpus)
    losses = {source: str(QuantizationError(**loss)) for source, loss in manifest.get("losses", {}).items()}
    return {
        "corpus": {
            "path": corpus.path,
            "fingerprint": corpus.fingerprint[:16],
            "records": manifest["records"],
            "their variants": manifest.get("variant_records", 0),
            "raw units": manifest["units"],
            "positions": manifest["positions"],
            "parts": len(manifest["parts"]),
            "records skipped": manifest["skipped"]["records"],
        },
        "split": {
            "by": split["by"],
            "training positions": split["train"]["positions"],
            "validation positions": split["validation"]["positions"],
            "test positions": (split.get("test") or {"positions": 0})["positions"],
            "figures are of": f"{corpus.judged} data",
            "left out": split["left_out"],
            **({"at a time boundary": left.reported} if left else {}),
            **({"held-out files": split["files"]} if "files" in split else {}),
            "duplicate records": split["duplicate_records"],
            **({"near-copies": split["near_copies"]} if split.get("near_copies") else {}),
            "repeated keys": split["repeated_keys"],
        },
        "tokenizer": _tokenizer(corpus.tokenizer),
        "fields": dict(corpus.tokenizer.describe()),
        **({"rounding": losses} if losses else {}),
        "sources": {_source(source): f"{source['bytes']:,} bytes" for source in manifest["sources"]},
    }


def _source(source: dict[str, Any]) -> str:
    """The name of a file, and which part of the split it is as a whole."""
    part = {"validation": " (selection data)", "test": " (test data)"}.get(source.get("part", ""), "")
    return f"{source['name']}{part}"


def _tokenizer(tokenizer: Tokenizer[Any]) -> dict[str, Any]:
    return {
        "name": plugins.name_of("tokenizers", type(tokenizer)),
        "fingerprint": tokenizer.fingerprint[:16],
        "symmetries": [symmetry.name for symmetry in tokenizer.symmetries()],
    }


def _packages() -> tuple[dict[str, str], dict[str, str]]:
    """Versions of what maskseq needs, and of what its extras need, by extra."""
    needed, extras = {}, defaultdict[str, list[str]](list)
    for line in requires("maskseq") or ():
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        extra = re.search(r"extra == ['\"]([\w-]+)", line)
        if extra is None:
            needed[name] = found
        else:
            extras[extra[1]].append(f"{name} {found}")
    return needed, {name: ", ".join(each) for name, each in extras.items()}


def doctor() -> dict[str, Any]:
    """What this machine offers, what is installed and why something is not used: to begin a report of a fault with."""
    needed, extras = _packages()
    device = choose_device("auto")
    dtype = torch.bfloat16 if choose_precision("auto", device) == "bf16" else torch.float32
    return {
        "versions": {"maskseq": version("maskseq"), "python": platform.python_version(), **needed},
        "extras": extras,
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "device": str(device),
            "threads": torch.get_num_threads(),
            "bf16 is fast": bf16_is_fast(),
            "bf16 beside fp32": f"{bf16_speedup():.1f} x" if device.type == "cpu" else "not timed on this device",
            "trains in": str(dtype).removeprefix("torch."),
        },
        "attention": explain(device.type, dtype),
        "plug-ins": plugins.inventory(),
    }
