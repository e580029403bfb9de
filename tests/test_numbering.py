"""The numbers of rows, against a list of all of them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseq.packing.numbering import RowNumbers, RowPlace

EPOCHS = 4


@given(st.data(), st.integers(1, 4))
def test_a_number_is_the_same_row_whatever_was_asked_before(data: st.DataObject, n_blocks: int) -> None:
    counts = [
        data.draw(st.lists(st.integers(0, 3), min_size=n_blocks, max_size=n_blocks).filter(any)) for _ in range(EPOCHS)
    ]
    rows = [
        RowPlace(epoch, block, index)
        for epoch in range(EPOCHS)
        for block in range(n_blocks)
        for index in range(counts[epoch][block])
    ]
    with tempfile.TemporaryDirectory() as folder:
        requested: list[tuple[int, int]] = []

        def count(epoch: int, block: int) -> int:
            requested.append((epoch, block))
            return counts[epoch][block]

        def file(epoch: int) -> Path:
            return Path(folder) / f"{epoch}.bin"

        for _ in range(2):  # the second time, completed epochs come from the cache
            numbers = RowNumbers(n_blocks, count, file)
            for number in data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)):
                assert numbers.place(number) == rows[number]
            assert numbers.n_rows(1) == sum(counts[1])
        assert [requested.count((0, block)) for block in range(n_blocks)] == [1] * n_blocks


def test_rows_are_numbered_from_0() -> None:
    with pytest.raises(ValueError, match="-1"):
        RowNumbers(1, lambda epoch, block: 1).place(-1)


def test_the_last_block_of_an_epoch_is_followed_by_the_first_of_the_next() -> None:
    numbers = RowNumbers(3, lambda epoch, block: 1)
    assert [numbers.after(0, block) for block in range(3)] == [(0, 1), (0, 2), (1, 0)]
