"""Changes of a record that have an exact counterpart on ids: symmetries, which undo themselves, and augmentations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float, Integer, Shaped

from maskseq.types import Encoded, LegalCells, Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class Symmetry(Generic[R]):
    """An involution of records that has an exact counterpart on ids: `encode(g(record)) == G(encode(record))`.

    Training shows the model both views, and predictions average them. `check_tokenizer` checks the equation.

    Args:
        name: For messages.
        transform: g, on records.
        id_maps: Of each field of the result, the image of every id, `[MASK]` included (which maps to itself).
        reverse: The result is read backwards.
        field_order: Which field each column of the result is taken from (default: unchanged).

    Example:
        >>> complement = Symmetry(name="complement", transform=lambda record: record, id_maps=((3, 2, 1, 0, 4),))
        >>> complement.ids(np.array([[0], [1], [4]])).ravel().tolist()
        [3, 2, 4]
    """

    name: str
    transform: Callable[[R], R]
    """g, on records."""
    id_maps: tuple[tuple[int, ...], ...]
    """For each field *of the result*, the image of every id, `[MASK]` included (which maps to itself)."""
    reverse: bool = False
    field_order: tuple[int, ...] | None = None
    """Which field each column of the result is taken from (None: unchanged)."""

    def cells(self, values: Shaped[np.ndarray, "length fields"]) -> Shaped[np.ndarray, "length fields"]:
        """Move cells as G does, leaving the values themselves alone: for weights and masks."""
        moved = values[::-1] if self.reverse else values
        return moved if self.field_order is None else moved[:, list(self.field_order)]

    def ids(self, ids: Integer[np.ndarray, "length fields"]) -> Integer[np.ndarray, "length fields"]:
        """G on ids."""
        moved = self.cells(ids)
        columns = [np.asarray(m, dtype=ids.dtype)[moved[:, f]] for f, m in enumerate(self.id_maps)]
        return np.stack(columns, axis=1)

    def outputs(self, values: Shaped[np.ndarray, "length outputs"], field: int) -> Shaped[np.ndarray, "length outputs"]:
        """Turn per-id values (log-probabilities) of column `field` of the transformed sequence back to the original."""
        back = values[::-1] if self.reverse else values
        mapping = np.asarray(self.id_maps[field])
        n = min(values.shape[1], len(mapping))
        restored = back.copy()
        restored[:, :n] = back[:, mapping[:n]]
        return restored

    def encoded(self, encoded: Encoded) -> Encoded:
        """G on everything a tokenizer returns."""
        legal, length = encoded.legal, len(encoded.ids)
        if legal is not None:
            position = length - 1 - legal.cells[:, 0] if self.reverse else legal.cells[:, 0]
            order = self.field_order or tuple(range(encoded.ids.shape[1]))
            column = np.argsort(order)[legal.cells[:, 1]]
            allowed = np.zeros_like(legal.allowed)
            for row, f in enumerate(column):
                ids = np.flatnonzero(legal.allowed[row])
                allowed[row, np.asarray(self.id_maps[f])[ids]] = True
            sort = np.lexsort((column, position))
            legal = LegalCells(np.stack([position, column], axis=1)[sort], allowed[sort])
        weights = None if encoded.weights is None else self.cells(encoded.weights)
        units = encoded.units
        if units is not None:
            start, stop = (self.cells(units[..., end]) for end in (0, 1))
            if self.reverse:
                start, stop = units.max(initial=0) - stop, units.max(initial=0) - start
            units = np.stack([start, stop], axis=-1)
        return Encoded(self.ids(encoded.ids), legal, weights, self._numbers(encoded), units, circular=encoded.circular)

    def _numbers(self, encoded: Encoded) -> Float[np.ndarray, "length fields"] | None:
        """Moved as their cells are; none where their bins become others, of which numbers are not known."""
        if encoded.numbers is None or any(list(ids) != list(range(len(ids))) for ids in self.id_maps):
            return None
        return np.asarray(self.cells(encoded.numbers))


@dataclass(frozen=True, kw_only=True)
class Augmentation(Generic[R]):
    """A change after which a record is as likely as before, with an exact counterpart on ids; it need not undo itself.

    Training draws one of a tokenizer's for each segment, or none, by key. Predictions do not average them.

    Args:
        name: For messages.
        transform: On records; None where it cannot be done, as with a note that would leave the range.
        id_maps: Of each field, the image of every id, −1 where it has none; `[MASK]` maps to itself.
        order: From a length to the positions that those of the result are taken from, None for lengths that it does not
            know; whole records only. Default: positions stay where they are.

    Example:
        >>> up = Augmentation(name="a step up", transform=lambda record: record, id_maps=((1, 2, -1, 3),))
        >>> up.ids(np.array([[0], [1], [3]])).ravel().tolist()
        [1, 2, 3]
        >>> up.ids(np.array([[2]])) is None
        True
    """

    name: str
    transform: Callable[[R], R | None]
    id_maps: tuple[tuple[int, ...], ...]
    order: Callable[[int], Integer[np.ndarray, "length"] | None] | None = None

    def ids(self, ids: Integer[np.ndarray, "length fields"]) -> Integer[np.ndarray, "length fields"] | None:
        """The ids of the changed sequence; None where there are none."""
        positions = self._positions(len(ids))
        if positions is None:
            return None
        moved = ids[positions]
        images = np.stack([np.asarray(m)[moved[:, f]] for f, m in enumerate(self.id_maps)], axis=1)
        return None if (images < 0).any() else images.astype(ids.dtype)

    def encoded(self, encoded: Encoded, *, whole: bool = True) -> Encoded | None:
        """The same of everything that a tokenizer returns. `whole`: these are all positions of a record."""
        positions = self._positions(len(encoded))
        images = self.ids(encoded.ids) if self.order is None or whole else None
        if images is None or positions is None or (self.order is not None and encoded.units is not None):
            return None
        legal = encoded.legal
        if legal is not None:
            place = np.argsort(positions)[legal.cells[:, 0]]
            allowed = np.zeros_like(legal.allowed)
            for row, column in enumerate(legal.cells[:, 1].tolist()):
                possible = np.asarray(self.id_maps[column])[np.flatnonzero(legal.allowed[row])]
                allowed[row, possible[possible >= 0]] = True
            sort = np.lexsort((legal.cells[:, 1], place))
            legal = LegalCells(np.stack([place, legal.cells[:, 1]], axis=1)[sort], allowed[sort])
        weights = None if encoded.weights is None else encoded.weights[positions]
        fixed = all(list(ids) == list(range(len(ids))) for ids in self.id_maps)
        numbers = encoded.numbers[positions] if encoded.numbers is not None and fixed else None
        return Encoded(images, legal, weights, numbers, encoded.units, circular=encoded.circular)

    def _positions(self, length: int) -> Integer[np.ndarray, "length"] | None:
        return np.arange(length) if self.order is None else self.order(length)
