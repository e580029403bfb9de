"""The records of a build's files, which are gone through several times: split, fitted on, tokenized."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskseq.contract.fence import streamed
from maskseq.corpus.parts import OnError
from maskseq.errors import DataError
from maskseq.formats import Format
from maskseq.plugins import format_for
from maskseq.types import Record

KEPT_UNITS = 1 << 20
"""Raw units that are kept in memory between two readings: some 300 MB of events, less of anything else."""


class Source:
    """Files as a stream of records that can be read again: from memory where they are few, as parsing takes longest.

    With `on_error="skip"`, what stands for a record that cannot be read is the `DataError` that says why.
    """

    def __init__(self, files: Sequence[Path], format: Format[Any] | None, on_error: OnError = "stop") -> None:
        self.files, self.format, self.on_error = files, format, on_error
        self._kept: list[Record | DataError] | None = None

    def __iter__(self) -> Iterator[Record | DataError]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Record | DataError] = []
        n_units = 0
        for item in self._read():
            yield item
            n_units += 0 if isinstance(item, DataError) else len(item)
            if n_units <= KEPT_UNITS:
                kept.append(item)
            else:
                kept.clear()
        if n_units <= KEPT_UNITS:
            self._kept = kept

    def records(self) -> Iterator[Record]:
        """Those that can be read."""
        return (item for item in self if not isinstance(item, DataError))

    def _read(self) -> Iterator[Record | DataError]:
        for path in self.files:
            reader = self.format or format_for(path)
            method = "read" if self.on_error == "stop" else "attempts"
            for item in streamed(reader, path, method, getattr(reader, method)):
                yield item if isinstance(item, DataError) else item.bare()
