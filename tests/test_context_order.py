"""Places sorted by counting, against a comparison of whole rows."""

import numpy as np
import pytest

from maskseq.predict.experts.context_index import ContextIndex, Line, by_digits


@pytest.mark.parametrize("n_ids", [2, 4, 50, 300, 70_000])
@pytest.mark.parametrize("path", [(), (1,), (-1, 1), (-2, 2, -1, 1, 3), tuple(range(1, 13)) + tuple(range(-12, 0))])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_order_is_that_of_rows(n_ids: int, path: tuple[int, ...], grouped: bool) -> None:
    rng = np.random.default_rng(n_ids + len(path))
    line = Line([rng.integers(n_ids, size=n) for n in (300, 1, 80)], n_ids, 12)
    groups = rng.integers(3, size=len(line.places)) if grouped else None
    found = by_digits(line.digits, line.places, path, line.base, groups, 3)
    rows = [tuple(line.digits[place + np.array(path, int)].tolist()) for place in line.places.tolist()]
    keys = [(0 if groups is None else int(groups[i]), row, i) for i, row in enumerate(rows)]
    assert found.tolist() == [i for _, _, i in sorted(keys)]
    index = ContextIndex(line, line.places, path, groups, 3)
    np.testing.assert_array_equal(index.places[index.ranks], line.places)


def test_stretches_are_those_of_rows() -> None:
    rng = np.random.default_rng(0)
    line = Line([rng.integers(4, size=2000)], 4, 12)
    path = tuple(each for step in range(1, 13) for each in (-step, step))
    index = ContextIndex(line, line.places, path)
    wanted = line.digits[rng.choice(line.places, 200)[:, None] + np.array(path)]
    low, high = index.stretches(np.zeros(200, np.int64), np.full(200, len(line.places)), wanted)
    rows = line.digits[index.places[:, None] + np.array(path)]
    for depth in (0, 1, 2, 5, 24):
        for cell in range(0, 200, 20):
            same = np.flatnonzero((rows[:, :depth] == wanted[cell, :depth]).all(axis=1))
            assert (low[depth, cell], high[depth, cell]) == (same[0], same[-1] + 1)
