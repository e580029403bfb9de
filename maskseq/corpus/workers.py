"""Who encodes the parts of a build: this process, a pool of processes, or a Dask cluster. All give the same bytes."""

import importlib
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any

from maskseq.errors import UsageError
from maskseq.storage.folder import Folder
from maskseq.tokenizer import Tokenizer


def engine_for(workers: int, scheduler: str | None, tokenizer: Tokenizer[Any], folder: Folder) -> tuple[Executor, int]:
    """An executor of `write_part` calls, and how many parts it should have in hand."""
    if workers > 1 or scheduler is not None:
        pickle.dumps(folder)  # where it cannot be sent it says so here; a pool that finds out later may hang
    if scheduler is not None:
        dask = Dask(scheduler)
        return dask, dask.n_threads + 1
    if workers == 1:
        return InThisProcess(), 1
    try:
        pickle.dumps(tokenizer)
    except Exception as error:
        raise UsageError(
            f"{type(tokenizer).__name__} cannot be sent to worker processes: {error}\n\n"
            f"hint: define its class at the top of an importable module, or build with one worker",
            code="not-supported",
        ) from error
    # spawn: forking a process that has threads (NumPy's, zarr's) may deadlock
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    return pool, workers + 1


class InThisProcess(Executor):
    """One worker, without another process: every task is done when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Dask(Executor):
    """The workers of a running `distributed` scheduler. They must see the output folder under the same path."""

    def __init__(self, address: str) -> None:
        try:
            distributed: Any = importlib.import_module("distributed")
        except ImportError:
            raise UsageError(
                "a Dask cluster needs the package distributed\n\nhint: pip install 'maskseq[cluster]'",
                code="missing-extra",
            ) from None
        try:
            self.client = distributed.Client(address, timeout="10s")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address!r}: {error}\n\n"
                f"hint: start one with `dask scheduler`, and workers with `dask worker ADDRESS`",
                code="unreachable",
            ) from error
        self.n_threads = sum(self.client.nthreads().values())
        self._futures = self.client.get_executor(pure=False)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        large = self.client.scatter(list(args), hash=False)  # past the scheduler, straight to a worker
        future: Future[Any] = self._futures.submit(fn, *large, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._futures.shutdown(wait=wait)
        self.client.close()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever, and could still write."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
