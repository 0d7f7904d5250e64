"""Ranges of query steps and their names."""

import pytest

from wmkit.evaluation.ranges import cut, label


def test_ranges_are_cut_to_the_horizon():
    assert [cut(steps, 50) for steps in ((1, 5), (6, 20), (50, 50))] == [(1, 5), (6, 20), (50, 50)]
    assert [cut(steps, 12) for steps in ((1, 5), (6, 20), (50, 50))] == [(1, 5), (6, 12), (12, 12)]
    assert [label((6, 20)), label((50, 50))] == ["6-20", "50"]


@pytest.mark.parametrize("steps", [(0, 3), (4, 3)])
def test_a_range_that_is_none_is_refused(steps):
    with pytest.raises(ValueError, match="range of query steps"):
        cut(steps, 10)
