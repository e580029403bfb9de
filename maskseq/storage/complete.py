"""A zarr store that fails where zarr would make something up."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from zarr.storage import WrapperStore


class Complete(WrapperStore[Any]):
    """Every chunk was written, so that a missing one is a loss: `FileNotFoundError`, where zarr would read zeros."""

    def __init__(self, store: Any, reading: Callable[[str], AbstractContextManager[object]] = nullcontext) -> None:
        """`reading(key)` surrounds each request, to explain what fails there."""
        super().__init__(store)
        self._reading = reading

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        with self._reading(key):
            found = await self._store.get(key, prototype, byte_range)
        if found is None and "/c/" in key:
            raise FileNotFoundError(key)
        return found
