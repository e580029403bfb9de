"""Checkpoints that are written while training goes on: what they hold, who waits for them, what a full disk does."""

import errno
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from small_run import small_run, weights

from maskseq.errors import DataError
from maskseq.model.checkpoint import save_model
from maskseq.training import checkpoint_writer as writer
from maskseq.training.events import CheckpointSaved, Event, Step
from maskseq.training.stop_signals import Interrupted

LONG = 30.0
"""Seconds after which whoever waits for another thread has waited in vain."""


class Gate:
    """A disk that is slow: the write of the n-th checkpoint stands still until `opened` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, write: int) -> None:
        self.opened, self.reached, self.active, self.most, self._write = threading.Event(), threading.Event(), 0, 0, 0
        monkeypatch.setattr(writer, "save_model", self._save)
        self._slow = write

    def _save(self, *arguments: Any) -> None:
        self._write += 1
        self.active += 1
        self.most = max(self.most, self.active)
        if self._write == self._slow:
            self.reached.set()
            assert self.opened.wait(LONG)
        save_model(*arguments)
        self.active -= 1


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("plain")
    small_run(run, keep_last=9, judge=False)
    return run


def test_training_goes_on_meanwhile_and_the_checkpoint_is_of_its_moment(
    tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, write=1)
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, Step) and event.step == 9:
            assert gate.reached.wait(LONG)
            assert not (tmp_path / "checkpoints" / "step_5").exists()
            gate.opened.set()

    small_run(tmp_path, judge=False, keep_last=9, on_event=listen)
    for step in (5, 10, 15, 20):
        ours, theirs = (weights(run / "checkpoints" / f"step_{step}") for run in (tmp_path, plain))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    saved = [e for e in events if isinstance(e, CheckpointSaved)]
    assert [e.step for e in saved] == [5, 10, 15, 20]
    assert saved[0].seconds > saved[0].stall


def test_a_second_checkpoint_waits_for_the_first(tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, write=1)
    steps: list[int] = []

    def listen(event: Event) -> None:
        steps.append(event.step) if isinstance(event, Step) else None

    def open_late() -> None:
        assert gate.reached.wait(LONG)
        while steps[-1] < 10:
            threading.Event().wait(0.01)
        threading.Event().wait(0.3)
        assert steps[-1] == 10  # the next checkpoint is due, and training stands still
        gate.opened.set()

    helper = threading.Thread(target=open_late)
    helper.start()
    small_run(tmp_path, judge=False, on_event=listen)
    helper.join()
    assert gate.most == 1
    torch.testing.assert_close(weights(tmp_path), weights(plain), rtol=0, atol=0)


def test_a_signal_waits_for_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, write=1)

    def listen(event: Event) -> None:
        if isinstance(event, Step) and event.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Timer(0.3, gate.opened.set).start()

    with pytest.raises(Interrupted):
        small_run(tmp_path, judge=False, on_event=listen)
    assert (tmp_path / "latest").read_text().strip() == "step_7"
    assert not list(tmp_path.rglob(".*.maskseq"))


def test_an_exception_elsewhere_costs_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, write=1)

    def listen(event: Event) -> None:
        if isinstance(event, Step) and event.step == 6:
            threading.Timer(0.3, gate.opened.set).start()
            raise RuntimeError("a listener of one's own")

    with pytest.raises(RuntimeError, match="of one's own"):
        small_run(tmp_path, judge=False, on_event=listen)
    assert (tmp_path / "latest").read_text().strip() == "step_5"


def test_metrics_are_on_the_disk_before_a_checkpoint_claims_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut, a checkpoint of step 10 whose metrics end at step 7 would leave a hole in them."""
    flushed = 0
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        nonlocal flushed
        fsync(descriptor)
        metrics = tmp_path / "metrics.jsonl"
        if metrics.exists() and os.path.samestat(metrics.stat(), os.fstat(descriptor)):
            flushed = os.fstat(descriptor).st_size

    claimed: list[int] = []

    def saving(*arguments: Any) -> None:
        lines = (tmp_path / "metrics.jsonl").read_bytes()[:flushed].splitlines()
        claimed.append(max(json.loads(line)["step"] for line in lines if b'"step"' in line))
        save_model(*arguments)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(writer, "save_model", saving)
    small_run(tmp_path, judge=False, keep_last=9)
    assert [last >= step for last, step in zip(claimed, (5, 10, 15, 20), strict=True)] == [True] * 4


@pytest.mark.parametrize("failing", [2, 4], ids=["under way", "at the end"])
def test_a_full_disk_stops_the_run_in_one_line_and_leaves_the_checkpoint_before(
    tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    written: list[int] = []

    def fail(*arguments: Any) -> None:
        written.append(1)
        if len(written) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_model(*arguments)

    monkeypatch.setattr(writer, "save_model", fail)
    with pytest.raises(DataError, match=rf"step_{5 * failing}: cannot be written: .*No space left") as raised:
        small_run(tmp_path, judge=False)
    assert "the same command again" in str(raised.value)
    assert (tmp_path / "latest").read_text().strip() == f"step_{5 * failing - 5}"
    assert not list(tmp_path.rglob(".*.maskseq"))
    monkeypatch.undo()
    small_run(tmp_path, judge=False)
    torch.testing.assert_close(weights(tmp_path), weights(plain), rtol=0, atol=0)


def test_a_disk_that_is_full_for_the_metrics_is_one_line_with_their_path(tmp_path: Path, plain: Path) -> None:
    """A limit on the size of files stands in for the full disk: the kernel refuses the write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(DataError, match=r"metrics\.jsonl: cannot be written"):
            small_run(tmp_path, judge=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    small_run(tmp_path, judge=False)
    torch.testing.assert_close(weights(tmp_path), weights(plain), rtol=0, atol=0)


def test_the_first_rank_waits_for_the_files_of_the_others(tmp_path: Path) -> None:
    part = tmp_path / "rank_1.safetensors"
    ours = writer.CheckpointWriter(tmp_path, None, None, 1)  # type: ignore[arg-type]
    threading.Timer(0.2, part.touch).start()
    ours._wait_for({part})
    assert part.exists()
    threading.Timer(0.2, ours._alone.set).start()
    with pytest.raises(OSError, match="the other processes have ended"):
        ours._wait_for({tmp_path / "rank_2.safetensors"})
