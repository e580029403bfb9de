"""SIGINT, SIGTERM and SIGHUP end a run after the step at hand, with a checkpoint; a SIGINT after that, at once."""

import os
import select
import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, has written its checkpoint and can go on from there."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class StopSignals:
    """While entered, remembers the first of the signals in `caught` instead of dying of it.

    Only the main thread of a process may do that; elsewhere the signals keep their meaning. Under nohup a
    SIGHUP stays ignored.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C is meant: what is on disk stays whole, as after a kill. A second SIGTERM is not: torchrun
        # hands on the one that the scheduler has sent to all processes already.
        if self.caught and number == signal.SIGINT:
            raise Interrupted("stopped at once, without a checkpoint of the last steps", number)
        self.caught = self.caught or number
        if number == signal.SIGHUP:
            _stop_talking_to_nobody()


def _stop_talking_to_nobody() -> None:
    """A terminal that is gone refuses what is shown on it, and that error would end the run before its checkpoint."""
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    for stream, state in poll.poll(0):
        if state & (select.POLLHUP | select.POLLERR):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
