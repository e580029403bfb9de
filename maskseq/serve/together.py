"""Requests that are answered together: one thread asks the model, for all requests that wait.

Each request runs in a thread of its own, with the model's `Predict` replaced by one that hands its examples to the
model's thread. That thread puts what waits into one call, which packs sequences of different requests into the same
forward passes. Answers do not depend on what else is in a call.
"""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Integer

from maskseq.baselines.gating import PARTS
from maskseq.baselines.run_experts import RunExperts
from maskseq.corpus.budget import within
from maskseq.corpus.reader import Split
from maskseq.predict.blend import ENCODER
from maskseq.predict.experts.number_blend import NumberBlend
from maskseq.predict.protocol import Example, Factors, Predict, PredictNumbers, in_order
from maskseq.predict.stated import Stated
from maskseq.serve.limits import DEADLINE, too_long
from maskseq.storage.run_folder import CheckpointFolder
from maskseq.tasks.task_model import TaskModel
from maskseq.trained import TrainedModel

TOGETHER = 1 << 16
"""Positions of several requests that are asked about in one call."""

Lists = tuple[Sequence[Any], ...]
T = TypeVar("T")


class Call(NamedTuple):
    """One call that waits: a function of lists, which gives a list, an item for an item."""

    call: Callable[..., Sequence[Any]]
    given: Lists
    size: int
    result: "Future[Sequence[Any]]"

    @property
    def asks(self) -> tuple[int, str]:
        """Which method of which object: those of several jobs may be one call."""
        return id(getattr(self.call, "__self__", self.call)), getattr(self.call, "__name__", "")


class ModelThread:
    """The thread that asks the model."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Call | None] = SimpleQueue()
        self._held: Call | None = None
        self._thread = Thread(target=self._work, name="maskseq-model", daemon=True)
        self._thread.start()
        self.n_calls = self.n_asked = 0

    def ask(self, call: Callable[..., Sequence[Any]], *given: Sequence[Any], sizes: Sequence[int]) -> Sequence[Any]:
        """What `call(*given)` answers. Given lists of one length, of which several callers' may be put together.

        `sizes` are positions, of each item: many items take several turns, so that no caller keeps the others waiting.
        """
        turns = within(range(len(sizes)), (sizes.__getitem__, TOGETHER))
        return [
            each
            for some in turns
            for each in self._ask(
                call, tuple([column[i] for i in some] for column in given), sum(sizes[i] for i in some)
            )
        ]

    def alone(self, call: Callable[[], T]) -> T:
        """What a call answers that is not put together with others, in the thread that no other call is in."""
        (answer,) = self._ask(lambda: [call()], (), 0)
        return answer  # type: ignore[no-any-return]

    def _ask(self, call: Callable[..., Sequence[Any]], given: Lists, size: int) -> Sequence[Any]:
        """The answer; `RefusedError` once the request's deadline is over, so that others need not wait for this one."""
        if current_thread() is self._thread:  # such as the encoder that a blend asks
            return call(*given)
        left = DEADLINE.get() - time.monotonic()
        if left <= 0:
            raise too_long()
        job = Call(call, given, size, Future())
        self._jobs.put(job)
        if not wait([job.result], None if math.isinf(left) else left).done:
            job.result.cancel()
            raise too_long()
        return job.result.result()

    def stop(self) -> None:
        """Answer what waits, and end."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._held or self._jobs.get()) is not None:
            self._held = None
            together = [each for each in self._waiting(job) if each.result.set_running_or_notify_cancel()]
            if together:
                self.n_calls += 1
                self.n_asked += len(together)
                self._answer(together)

    def _waiting(self, first: Call) -> list[Call]:
        """The job, and those behind it that ask the same method, up to a number of positions."""
        found, room = [first], TOGETHER - first.size
        while first.given:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return found
            if job is None or job.asks != first.asks or job.size > room:
                self._put_back(job)
                return found
            found.append(job)
            room -= job.size
        return found

    def _put_back(self, job: Call | None) -> None:
        if job is None:
            self._jobs.put(None)
        self._held = job

    def _answer(self, jobs: list[Call]) -> None:
        lists = tuple(
            [each for one in column for each in one] for column in zip(*(job.given for job in jobs), strict=True)
        )
        try:
            answers = jobs[0].call(*lists)
            if lists and len(answers := list(answers)) != len(lists[0]):
                raise TypeError(f"{len(answers)} answers to {len(lists[0])} questions")
        except BaseException as error:
            if len(jobs) == 1:
                jobs[0].result.set_exception(error)
                return
            for job in jobs:  # one request's fault is no other's
                self._answer([job])
            return
        if not jobs[0].given:
            jobs[0].result.set_result(answers)
            return
        ends = accumulate((len(job.given[0]) for job in jobs), initial=0)
        for job, (start, stop) in zip(jobs, pairwise(ends), strict=True):
            job.result.set_result(answers[start:stop])


@dataclass(frozen=True)
class Shared:
    """A `Predict` that several requests ask at the same time."""

    predict: Predict
    thread: ModelThread

    def __call__(
        self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Sequence[Float[np.ndarray, "_ _"]]:
        """What the method answers."""
        return self.thread.ask(self.predict, examples, cells, sizes=_sizes(examples))

    @property
    def in_order(self) -> bool:
        """As the method is: see `maskseq.predict.protocol.in_order`."""
        return in_order(self.predict)


@dataclass(frozen=True)
class SharedNumbers(Shared):
    """The same of a predictor that states numbers."""

    predict: PredictNumbers

    def stated(self, examples: Sequence[Example], cells: Sequence[Integer[np.ndarray, "_ 2"]]) -> Sequence[Stated]:
        return self.thread.ask(self.predict.stated, examples, cells, sizes=_sizes(examples))

    def of_bins(
        self, stated: Sequence[Stated], cells: Sequence[Integer[np.ndarray, "_ 2"]]
    ) -> Sequence[Float[np.ndarray, "_ _"]]:
        return self.thread.ask(self.predict.of_bins, stated, cells, sizes=[len(each) for each in cells])


@dataclass(frozen=True)
class SharedJointly(SharedNumbers):
    """The same of a predictor that knows how numbers depend on one another, and which are no measurements."""

    predict: NumberBlend

    def jointly(self, example: Example, cells: Integer[np.ndarray, "cells 2"]) -> Factors:
        return self.thread.alone(lambda: self.predict.jointly(example, cells))

    def rejected(self, example: Example) -> Bool[np.ndarray, "length fields"]:
        return self.predict.rejected(example)


def _sizes(examples: Sequence[Example]) -> list[int]:
    return [len(each.ids) for each in examples]


def shared(predict: Predict, thread: ModelThread) -> Shared:
    """The predictor for several requests at a time."""
    if isinstance(predict, NumberBlend):
        return SharedJointly(predict, thread)
    return SharedNumbers(predict, thread) if isinstance(predict, PredictNumbers) else Shared(predict, thread)


class SharedExperts(RunExperts):
    """A run's experts, weighed and combined once with each encoder, and asked in the model's thread."""

    def __init__(self, own: RunExperts, thread: ModelThread) -> None:
        super().__init__(own.stored, own.open_corpus, own.vocabulary, own.context)
        self.thread = thread
        self.kept: dict[tuple[Any, ...], Predict] = {}

    def predict(self, encoder: Predict, names: Sequence[str] = (), parts: tuple[Split, ...] = PARTS) -> Predict:
        if self.used(names) == (ENCODER,):
            return encoder
        key = encoder, tuple(names), parts

        def combined() -> Predict:
            if key not in self.kept:
                self.kept[key] = shared(super(SharedExperts, self).predict(encoder, names, parts), self.thread)
            return self.kept[key]

        return self.kept.get(key) or self.thread.alone(combined)


@dataclass(frozen=True)
class ServedModel(TrainedModel):
    """A run that several requests ask at the same time. All of them average over the tokenizer's symmetries."""

    thread: ModelThread = field(default_factory=ModelThread)
    encoders: dict[tuple[bool, str], Shared] = field(default_factory=dict)
    """One for each way to ask the model, so that what requests ask of it at the same time is one call."""

    @classmethod
    def of(cls, run: TrainedModel) -> "ServedModel":
        """A run, with its experts counted and what fine-tuning added read: no request waits for that."""
        served = cls(run.path, run.model, run.tokenizer, run.checkpoint, run.trust_code, run.counted_on)
        served.predictor()
        return served

    def predict(self, *, symmetries: bool = True, precision: Literal["bf16", "fp32"] = "fp32") -> Predict:
        """The encoder, asked in the model's thread."""
        encoder = super().predict(symmetries=symmetries, precision=precision)
        return self.encoders.setdefault((symmetries, precision), shared(encoder, self.thread))

    @cached_property
    def experts(self) -> RunExperts:
        """Those of the run, asked together."""
        return SharedExperts(super().experts, self.thread)

    @cached_property
    def labels(self) -> TaskModel | None:
        """What the run was fine-tuned for, if it was."""
        return super().task if CheckpointFolder(self.checkpoint).task.exists() else None
