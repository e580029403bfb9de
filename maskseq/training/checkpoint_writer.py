"""Checkpoints written while the training goes on: copies are made on its thread, files are written on another.

`step_N` is made in its work folder (`maskseq.storage.outputs`), sealed with digests, put in its place, and only then
named by `latest`, and by `best` where it is. A kill at any moment leaves the checkpoint before or this one, whole.
"""

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from maskseq.errors import DataError
from maskseq.model.checkpoint import checkpoints, named_checkpoint, save_model, write_json, write_tensors
from maskseq.model.encoder import Encoder
from maskseq.storage.outputs import Work, claimed, discard, explained, sync, work_folder, write
from maskseq.storage.run_folder import CheckpointFolder, RunFolder
from maskseq.tokenizer import Tokenizer
from maskseq.training.events import CheckpointSaved
from maskseq.training.parallel import RankGroup
from maskseq.training.state import Saved, n_shards, rank_file, read_saved

POLL_SECONDS = 0.05


@dataclass
class CheckpointWriter:
    """Writes one checkpoint at a time in a thread. What goes wrong there is raised by the next call.

    Ranks talk to each other on the training thread only; the thread of the first one sees by their files that the
    others are done. Leaving the context waits for the write at hand, so that no exception costs a finished snapshot.
    """

    run: RunFolder
    tokenizer: Tokenizer[Any]
    ranks: RankGroup
    keep_last: int
    _thread: threading.Thread | None = None
    _written: CheckpointSaved | None = None
    _error: BaseException | None = None
    _alone: threading.Event = field(default_factory=threading.Event)
    """Set when the other ranks will not write any more."""

    def begin(
        self,
        model: Encoder,
        tensors: dict[str, Tensor],
        saved: Saved,
        *,
        best: int | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> list[CheckpointSaved]:
        """Begin to write `step_N`. All ranks call it; returns what the one before came to, which is waited for.

        `model` is kept, so it must be nobody else's; `tensors` are copied. `best` is the step of the best checkpoint
        up to this one, which stays; `before` is called first, in the thread.
        """
        began = time.monotonic()
        events = self.finish()
        folder, claim = self.run.checkpoint(saved.position.step), ExitStack()
        work = Work(folder, work_folder(folder))
        if self.ranks.first:
            folder.parent.mkdir(exist_ok=True)
            work = claim.enter_context(claimed(folder))
            CheckpointFolder(work.content).state.mkdir(parents=True)
        own, layout = _own_part(tensors, self.ranks.rank), _layout(tensors, self.ranks.world)
        self.ranks.wait()
        stall = time.monotonic() - began

        def task() -> None:
            try:
                with claim, explained(folder, work.folder):
                    before()
                    self._write(work, model, own, layout, saved, best)
                seconds = time.monotonic() - began
                self._written = CheckpointSaved(step=saved.position.step, path=folder, seconds=seconds, stall=stall)
            except BaseException as error:  # all of them: a lost one would let the run go on without checkpoints
                self._error = error

        self._thread = threading.Thread(target=task, name="maskseq-checkpoint")
        self._thread.start()
        return events

    def poll(self) -> list[CheckpointSaved]:
        """What has been written since the last call; raises what has gone wrong."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._thread is not None or self._written is None:
            return []
        written, self._written = self._written, None
        return [written]

    def finish(self) -> list[CheckpointSaved]:
        """Wait until nothing is being written on any rank. All ranks call it."""
        if self._thread is not None:
            self._thread.join()
        events = self.poll()
        self.ranks.wait()  # on every rank: one may have seen its own end before
        return events

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._alone.set()
        if self._thread is not None:
            self._thread.join()

    def _write(
        self,
        work: Work,
        model: Encoder,
        own: dict[str, Tensor],
        layout: dict[str, list[str]],
        saved: Saved,
        best: int | None,
    ) -> None:
        content, part = CheckpointFolder(work.content), work.folder / rank_file(self.ranks.rank)
        if own:
            write_tensors(part, own)
            sync(part)  # only this machine can flush what it has written to a network file system
            part.replace(content.state / part.name)
        if not self.ranks.first:
            return
        self._wait_for({content.state / name for names in layout.values() for name in names})
        write_json(content.layout, dataclasses.asdict(saved) | {"tensors": layout})
        shutil.copyfile(self.run.recipe, content.recipe)  # so that the seal covers it
        save_model(work.content, model, self.tokenizer)  # flushes and seals everything in the folder
        if work.target.exists():  # from a future that a damaged or unfinished checkpoint has undone
            work.target.replace(work.folder / "undone")
        work.publish()
        write(self.run.latest, work.target.name + "\n")
        name_best(self.run, best)
        for folder in checkpoints(self.run.path)[: -self.keep_last]:
            if folder != work.target and folder.name != f"step_{best}" and not _kept(folder):
                discard(folder)

    def _wait_for(self, parts: set[Path]) -> None:
        """Until all ranks have written theirs."""
        while not all(part.exists() for part in parts):
            if self._alone.wait(POLL_SECONDS):
                raise OSError("the other processes have ended before their parts were written")


def name_best(run: RunFolder, best: int | None) -> None:
    """Write which checkpoint is the best, if it is on disk and not named yet."""
    if best is not None and run.checkpoint(best).is_dir() and named_checkpoint(run.best) != run.checkpoint(best):
        write(run.best, run.checkpoint(best).name + "\n")


def _own_part(tensors: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Copies, in CPU memory, of what this rank writes: its shard of sharded tensors; rank 0 all that every rank has."""
    own = {}
    for name, tensor in tensors.items():
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if len(local) if isinstance(tensor, DTensor) else rank == 0:
            own[name] = local.detach().to("cpu", copy=True).contiguous()
    return own


def _layout(tensors: dict[str, Tensor], world: int) -> dict[str, list[str]]:
    """For each tensor, the files that hold its parts, to be joined along dimension 0 in this order."""
    return {
        name: [rank_file(rank) for rank in range(n_shards(len(tensor), world))]
        if isinstance(tensor, DTensor)
        else [rank_file(0)]
        for name, tensor in tensors.items()
    }


def _kept(folder: Path) -> bool:
    try:
        return read_saved(folder).keep
    except DataError:  # damaged: of no use, but not ours to throw away
        return True
