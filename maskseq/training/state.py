"""Checkpoints: written aside, flushed, renamed, and read back exactly, on any number of ranks.

`checkpoints/step_N/training_state` holds one `rank_R.safetensors` for each rank that has something of its own, and
`layout.json`, which says where the parts of each tensor are and where the run stood. Model, tokenizer and digests
beside it are `maskseq.model.checkpoint`'s.
"""

import dataclasses
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from maskseq.errors import DataError
from maskseq.model.checkpoint import DIGESTS, check, newest_checkpoint, read_json, save_model, write_json
from maskseq.model.encoder import Encoder
from maskseq.tokenizer import Tokenizer
from maskseq.training.parallel import Ranks

STATE, LAYOUT = "training_state", "layout.json"


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands. With the seed this is everything that order, masks and dropout depend on."""

    step: int = 0
    row: int = 0
    """The global number of the next row: the whole state of the data."""
    tokens: int = 0
    """Tokens seen in this stage; filler is not counted."""
    stage: int = 0
    earlier_tokens: int = 0
    """Tokens seen in the stages before this one."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What `layout.json` says about a checkpoint."""

    position: Position
    precision: str
    """What `auto` was resolved to, so that a run that moves to another machine computes as before."""
    optimizer: str
    """Whose moments the tensors are."""
    keep: bool
    """Whether the checkpoint stays when newer ones push out others."""


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a new run begins from, with its weights and moments, and the position it begins at."""

    checkpoint: Path
    position: Position


def next_stage(source: Path, warn: Callable[[str], object] = warnings.warn) -> Origin:
    """Begin a new stage, such as a longer context, from a checkpoint or the newest one of a run.

    Rows, tokens and schedules count from 0 again.
    """
    checkpoint = _sound_checkpoint(source, warn)
    before = read_saved(checkpoint).position
    position = Position(stage=before.stage + 1, earlier_tokens=before.earlier_tokens + before.tokens)
    return Origin(checkpoint, position)


def branch(source: Path, warn: Callable[[str], object] = warnings.warn) -> Origin:
    """Go on from a checkpoint, or the newest one of a run, under another recipe: another length, tail or learning rate.

    Rows and tokens go on counting, so that a stable run and a branch that decays are together one run.
    """
    checkpoint = _sound_checkpoint(source, warn)
    return Origin(checkpoint, read_saved(checkpoint).position)


def identity(origin: Origin) -> dict[str, Any]:
    """What tells one origin from another wherever its folder is moved to."""
    return {"stage": origin.position.stage, "digests": read_json(origin.checkpoint / DIGESTS)}


def write_checkpoint(
    run: Path,
    model: Encoder,
    tokenizer: Tokenizer[Any],
    tensors: dict[str, Tensor],
    saved: Saved,
    ranks: Ranks,
    keep_last: int,
) -> Path:
    """Write `step_N`, make it the `latest` and remove those that nobody wants to keep. All ranks call it.

    A kill at any moment leaves the previous checkpoint or this one, whole; what ends in `.tmp` is never read.
    """
    final = run / "checkpoints" / f"step_{saved.position.step}"
    aside = final.with_name(final.name + ".tmp")
    if ranks.first:
        (aside / STATE).mkdir(parents=True)
    ranks.wait()
    own = _own_part(tensors, ranks.rank)
    if own:
        save_file(own, aside / STATE / _rank_file(ranks.rank))
    ranks.wait()
    if ranks.first:
        write_json(aside / STATE / LAYOUT, dataclasses.asdict(saved) | {"tensors": _layout(tensors, ranks.world)})
        save_model(aside, model, tokenizer)  # seals everything in the folder
        if final.exists():  # from a future that a damaged or unfinished checkpoint has undone
            _remove(final)
        aside.rename(final)
        _sync_folder(final.parent)
        _name_latest(run, final.name)
        _prune(final.parent, keep_last, newest=final)
    ranks.wait()
    return final


def sweep(run: Path) -> None:
    """Remove what a kill has left half written or half removed."""
    for left in (run / "checkpoints").glob("*.tmp"):
        shutil.rmtree(left)


def read_saved(checkpoint: Path) -> Saved:
    """Where the run stood; `DataError` when the file does not say."""
    path = checkpoint / STATE / LAYOUT
    layout = read_json(path)
    try:
        return Saved(
            position=Position(**layout["position"]),
            precision=str(layout["precision"]),
            optimizer=str(layout["optimizer"]),
            keep=bool(layout["keep"]),
        )
    except (KeyError, TypeError) as error:
        raise DataError(path, f"is not a training state of this version ({error})") from None


def read_tensors(checkpoint: Path, adapt: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
    """All state tensors, each put together from its parts and handed to `adapt(name, tensor)` before the next.

    So a rank of a sharded run holds one whole tensor at a time, and any number of ranks can read what any other
    number has written.
    """
    folder = checkpoint / STATE
    layout = read_json(folder / LAYOUT)["tensors"]
    tensors = {}
    try:
        files = {name: safe_open(folder / name, "pt") for names in layout.values() for name in names}
        for name, where in layout.items():
            parts = [files[file].get_tensor(name) for file in where]  # type: ignore[no-untyped-call]
            tensors[name] = adapt(name, torch.cat(parts) if len(parts) > 1 else parts[0])
    except (OSError, SafetensorError) as error:
        raise DataError(folder, f"is not a whole training state ({error})") from None
    return tensors


def _sound_checkpoint(source: Path, warn: Callable[[str], object]) -> Path:
    if (source / "checkpoints").is_dir():
        return newest_checkpoint(source, warn)
    check(source)
    return source


def _own_part(tensors: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """What this rank writes: its shard of sharded tensors; rank 0 all that every rank has."""
    own = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            local = tensor.to_local()
            if len(local):
                own[name] = local.detach().cpu().contiguous()
        elif rank == 0:
            own[name] = tensor.detach().cpu().contiguous()
    return own


def _layout(tensors: dict[str, Tensor], world: int) -> dict[str, list[str]]:
    """Of each tensor, the files that hold its parts, to be joined along dimension 0 in this order."""
    return {
        name: [_rank_file(rank) for rank in range(n_shards(len(tensor), world))]
        if isinstance(tensor, DTensor)
        else [_rank_file(0)]
        for name, tensor in tensors.items()
    }


def n_shards(length: int, world: int) -> int:
    """How many ranks hold rows of a tensor that FSDP2 cuts along dimension 0, as `torch.chunk` does."""
    return -(-length // -(-length // world))


def _rank_file(rank: int) -> str:
    return f"rank_{rank}.safetensors"


def _name_latest(run: Path, name: str) -> None:
    aside = run / "latest.tmp"
    with aside.open("w", encoding="utf-8") as file:
        file.write(name + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(run / "latest")
    _sync_folder(run)


def _prune(checkpoints: Path, keep_last: int, newest: Path) -> None:
    """Remove all but the last `keep_last` checkpoints and those marked to be kept."""
    folders = [p for p in checkpoints.glob("step_*") if p.name.removeprefix("step_").isdecimal()]
    folders.sort(key=lambda p: int(p.name.removeprefix("step_")))
    for folder in folders[:-keep_last]:
        if folder != newest and not _kept(folder):
            _remove(folder)


def _remove(folder: Path) -> None:
    """At no moment is a part of the folder left under its name."""
    aside = folder.with_name(f"{folder.name}.old.tmp")
    folder.rename(aside)
    shutil.rmtree(aside)


def _kept(folder: Path) -> bool:
    try:
        return read_saved(folder).keep
    except DataError:  # damaged: of no use, but not ours to throw away
        return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
