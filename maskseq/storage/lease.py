"""A builder's claim on a corpus in an object store, which has no locks: an object that it renews while it works.

A lease that nobody renews for `PATIENCE` seconds is that of a builder which was killed. No clock of another machine has
a say in that: one watches whether the object changes. Taking over is a conditional write, so that one of several wins;
where a store has no such thing, the loser learns it before it replaces or removes anything (`confirm`).
"""

import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from uuid import uuid4

from maskseq.errors import MaskseqError, UsageError
from maskseq.storage.objects import Objects, Version

RENEWAL = 5.0
"""Seconds from one renewal to the next."""
PATIENCE = 20.0
"""Seconds without a renewal after which a builder counts as dead."""
PREFIX = ".lease-"
WHOLE = f"{PREFIX}whole"


class Lease:
    """A claim that is held; renewed by a thread as long as `held` lasts."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects, self._name = objects, name
        self._owner = f"{uuid4().hex} {socket.gethostname()} {os.getpid()} ".encode()
        self._beats = count()

    @classmethod
    @contextmanager
    def held(cls, objects: Objects, shared_as: str | None) -> Iterator["Lease"]:
        """Hold the whole corpus, or one share of it beside others; `UsageError` where another builder is at work."""
        lease = cls(objects, f"{PREFIX}{shared_as}" if shared_as else WHOLE)
        lease._acquire()
        done = threading.Event()
        renewal = threading.Thread(target=lease._renew, args=(done,), name="maskseq-lease", daemon=True)
        renewal.start()
        try:
            lease._outlive_rivals()
            yield lease
        finally:
            done.set()
            renewal.join()
            lease._release()

    def confirm(self) -> None:
        """`MaskseqError` if the lease went to another builder, because this one was stopped or cut off for long."""
        if self._version() is None:
            raise MaskseqError(
                f"{self._objects.url}: another process has taken over this build, which did not answer for long\n\n"
                f"hint: wait for the other one to end, then run the same command again"
            )

    def _acquire(self) -> None:
        while not self._objects.put_if(self._name, self._content(), version=None):
            version = _last_of_the_dead(self._objects, self._name)
            if version is not None and self._objects.put_if(self._name, self._content(), version):
                return

    def _outlive_rivals(self) -> None:
        """Nobody builds the whole beside shares. Looked for after claiming: of two that begin, one sees the other."""
        for other in self._objects.names():
            rival = other.startswith(PREFIX) and other != self._name and WHOLE in (other, self._name)
            if rival and _last_of_the_dead(self._objects, other) is not None:
                self._objects.delete([other])

    def _renew(self, done: threading.Event) -> None:
        while not done.wait(RENEWAL):
            try:
                if (version := self._version()) is None:
                    return  # `confirm` says it
                self._objects.put_if(self._name, self._content(), version)
            except MaskseqError:
                continue  # the store may answer again in time

    def _release(self) -> None:
        try:
            if self._version() is not None:
                self._objects.delete([self._name])
        except MaskseqError:
            return  # it runs out by itself; what went wrong before is what the user should read

    def _version(self) -> Version | None:
        """The version of the lease object, if it is (still) this builder's."""
        try:
            content, version = self._objects.get_version(self._name)
        except FileNotFoundError:
            return None
        return version if content.startswith(self._owner) else None

    def _content(self) -> bytes:
        return self._owner + str(next(self._beats)).encode()


def _last_of_the_dead(objects: Objects, name: str) -> Version | None:
    """Watch a lease: its version once its builder counts as dead, None when it is gone; `UsageError` if it is alive."""
    try:
        first, version = objects.get_version(name)
        warnings.warn(
            f"{objects.url}: looking for up to {PATIENCE:.0f} s whether another builder is at work", stacklevel=2
        )
        given_up = time.monotonic() + PATIENCE
        while time.monotonic() < given_up:
            time.sleep(min(RENEWAL, PATIENCE) / 10)
            content, version = objects.get_version(name)
            if content != first:
                owner = " ".join(content.decode(errors="replace").split()[1:3])
                raise UsageError(
                    f"{objects.url}: another process is building this corpus ({owner})\n\n"
                    f"hint: wait for it to end, or give another output folder",
                    code="busy",
                )
    except FileNotFoundError:
        return None
    return version
