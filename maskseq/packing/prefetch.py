"""Work ahead of the consumer in one thread."""

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Failure:
    error: BaseException


_END = object()


def ahead_of(items: Iterator[T], ahead: int) -> Generator[T]:
    """The same items in the same order, computed in a thread up to `ahead` of the consumer.

    An exception is raised at the place in the stream where it happened, never lost; closing the generator, or leaving
    it to the garbage collector, ends the thread.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=max(ahead, 1))
    closed = threading.Event()

    def put(item: object) -> bool:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # all of them: a lost one would leave the consumer waiting for ever
            put(_Failure(error))

    thread = threading.Thread(target=work, name="maskseq-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        closed.set()
        thread.join()
