"""The `quantize-patches` tokenizer: one position a patch of several time steps, for long recordings of high rate."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from maskseq.errors import UsageError
from maskseq.tokenizer import ABOUT, Tokenizer
from maskseq.types import ABSENT, Encoded, Field, LegalCells, QuantizationError
from maskseq_signals import clock
from maskseq_signals.clock import TimeStep
from maskseq_signals.recording import Recording
from maskseq_signals.tokenizer import QuantizeTokenizer


@dataclass(frozen=True, kw_only=True)
class PatchTokenizer(Tokenizer[Recording]):
    """What `quantize` makes of `patch` time steps side by side in one position: fields `II +0`, `II +1`, …

    A sequence is `patch` times as short, and a sample still is a cell of its own, which is hidden, scored and filled
    alone. In the last position, steps behind the end of the recording are `[ABSENT]` and not scored.
    """

    patch: int
    steps: QuantizeTokenizer
    """How each time step is quantized."""
    step: TimeStep | None = field(default=None, metadata=ABOUT)
    """As in `quantize`."""

    def __post_init__(self) -> None:
        if self.patch < 2:
            raise UsageError(
                f"patch is {self.patch}; give 2 time steps or more, or use the tokenizer quantize", code="bad-option"
            )

    @cached_property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        return tuple(
            replace(each, name=f"{each.name} +{step}", controls=(ABSENT,))
            for step in range(self.patch)
            for each in self.steps.fields
        )

    @classmethod
    def fit(cls, records: Iterable[Recording], *, patch: int = 8, **options: Any) -> "PatchTokenizer":
        """`patch`, and the options of `quantize`: `maskseq_signals.fit.SignalFitOptions`."""
        steps = QuantizeTokenizer.fit(records, **options)
        return cls(patch=patch, steps=replace(steps, step=None), step=steps.step)

    def encode(self, record: Recording) -> Encoded:
        steps = self.steps.encode(record).ids
        length, n = len(steps), len(self._unknown)
        ids = np.empty((-(-length // self.patch) * self.patch, n), dtype=self.vocabulary.dtype)
        ids[:length] = np.where(steps == self._unknown, self._unknown + 1, steps)  # [ABSENT] stands before [MASK]
        ids[length:] = self._unknown
        ids = ids.reshape(-1, self.patch * n)
        if length % self.patch == 0:
            return Encoded(ids)
        weights = np.ones(ids.shape, dtype=np.float32)
        weights[-1, length % self.patch * n :] = 0
        return Encoded(ids, None, weights)

    def decode(self, ids: Integer[np.ndarray, "length fields"]) -> Recording:
        """As `quantize` decodes the steps, without absent ones at the end."""
        there = (ids.reshape(-1, len(self._unknown)) != self._unknown).any(axis=1)
        length = int(np.flatnonzero(there)[-1]) + 1 if there.any() else 0
        return self.steps.decode(self._by_step(ids)[:length])

    def units(self, ids: Integer[np.ndarray, "length fields"]) -> Int64[np.ndarray, "length fields 2"]:
        """The time step of each cell."""
        first = np.arange(len(ids))[:, None] * self.patch + np.repeat(np.arange(self.patch), len(self._unknown))
        return np.stack([first, first + 1], axis=-1)

    def allowed(self, ids: Integer[np.ndarray, "length fields"]) -> LegalCells | None:
        """Steps are absent at the end only."""
        masks = np.array([field.mask_id for field in self.fields])
        cells = np.argwhere((ids == masks)[:-1])
        if not len(cells):
            return None
        return LegalCells(cells, np.arange(max(masks)) < masks[cells[:, 1], None] - 1)

    def splice(
        self, record: Recording, ids: Integer[np.ndarray, "length fields"], holes: Bool[np.ndarray, "length fields"]
    ) -> Recording:
        """As `quantize` does, step by step."""
        length = len(record)
        by_step = holes.reshape(-1, len(self._unknown))
        return self.steps.splice(record, self._by_step(ids)[:length], by_step[:length])

    def put_numbers(
        self, record: Recording, cells: Integer[np.ndarray, "cells 2"], numbers: Float64[np.ndarray, "cells"]
    ) -> Recording:
        n = len(self._unknown)
        by_step = np.stack([cells[:, 0] * self.patch + cells[:, 1] // n, cells[:, 1] % n], axis=1)
        inside = by_step[:, 0] < len(record)
        return self.steps.put_numbers(record, by_step[inside], numbers[inside])

    def losses(self, record: Recording, ids: Integer[np.ndarray, "length fields"]) -> Mapping[str, QuantizationError]:
        return self.steps.losses(record, self._by_step(ids)[: len(record)])

    def numbers(self, record: Recording) -> Float64[np.ndarray, "length fields"]:
        return self._by_patch(self.steps.numbers(record))

    def beyond(self, record: Recording) -> Float64[np.ndarray, "length fields"]:
        return self._by_patch(self.steps.beyond(record))

    def unlike(self, record: Recording) -> str | None:
        return clock.unlike(self.step, record)

    def describe(self) -> Mapping[str, str]:
        return {name: f"{what}, {self.patch} steps a position" for name, what in self.steps.describe().items()}

    def _by_patch(self, steps: Float64[np.ndarray, "steps fields_of_step"]) -> Float64[np.ndarray, "length fields"]:
        """Numbers of steps as `encode` lays them out; NaN behind the end."""
        padded = np.full((-(-len(steps) // self.patch) * self.patch, steps.shape[1]), np.nan)
        padded[: len(steps)] = steps
        return padded.reshape(-1, self.patch * steps.shape[1])

    def _by_step(self, ids: Integer[np.ndarray, "length fields"]) -> Integer[np.ndarray, "steps fields_of_step"]:
        """Ids of `quantize`; absent steps are unknown to it."""
        return np.asarray(np.minimum(ids.reshape(-1, len(self._unknown)), self._unknown))

    @cached_property
    def _unknown(self) -> Int64[np.ndarray, "fields_of_step"]:
        """The ids of `[MASK]` of `quantize`, which are those of `[ABSENT]` here."""
        return np.array([field.mask_id for field in self.steps.fields])
