"""Groups within a budget, against their definition."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from maskseq.corpus.budget import reaching, within

SIZES = st.lists(st.integers(0, 9))


@given(SIZES, st.integers(1, 12), st.integers(1, 12))
def test_a_group_is_within_every_limit_and_could_not_have_taken_the_next_item(
    sizes: list[int], budget: int, count: int
) -> None:
    limits = (lambda size: size, budget), (lambda size: 1, count)
    groups = list(within(sizes, *limits))
    assert [size for group in groups for size in group] == sizes
    assert all(len(group) == 1 or (sum(group) <= budget and len(group) <= count) for group in groups)
    assert all(sum(group) + after[0] > budget or len(group) + 1 > count for group, after in pairwise(groups))


@given(SIZES, st.integers(1, 12))
def test_a_group_ends_with_the_item_that_reaches_the_budget(sizes: list[int], budget: int) -> None:
    groups = list(reaching(sizes, lambda size: size, budget))
    assert [size for group in groups for size in group] == sizes
    assert all(group for group in groups)
    assert all(sum(group[:-1]) < budget for group in groups)
    assert all(sum(group) >= budget for group in groups[:-1])


def test_nothing_is_read_ahead_of_its_group() -> None:
    read = []

    def items():
        for size in (3, 3, 3, 3):
            read.append(size)
            yield size

    groups = reaching(items(), lambda size: size, 6)
    assert next(groups) == [3, 3]
    assert len(read) == 2
