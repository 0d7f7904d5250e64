"""Which level ticks when, against the definition in 1-based time."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit.dynamics.clockwork.clock import Clock

FACTORS, LEVELS, LENGTHS = range(1, 9), range(1, 5), range(1, 101)


def test_active_steps_and_copied_states_are_those_of_the_definition() -> None:
    """Every k in 1..8, L in 1..4, T in 1..100."""
    for factor in FACTORS:
        for levels in LEVELS:
            clock = Clock.regular(levels, factor)
            for length in LENGTHS:
                check_definition(clock, factor, levels, length)


def check_definition(clock: Clock, factor: int, levels: int, length: int) -> None:
    timing = clock.timing(length)
    assert len(timing.ticks) == levels
    for level in range(levels):
        stride = factor**level
        active = [t for t in range(1, length + 1) if (t - 1) % stride == 0]
        assert timing.ticks[level] == [t - 1 for t in active]
        # The level below sees s_tau at t, tau = max {tau active, tau <= t}.
        if level > 0:
            below = [t for t in range(1, length + 1) if (t - 1) % factor ** (level - 1) == 0]
            copied = [max(n for n, tau in enumerate(active, start=1) if tau <= t) for t in below]
            assert timing.parents(level - 1) == copied == [(t - 1) // stride + 1 for t in below]
    assert timing.parents(levels - 1) == [0] * len(timing.ticks[-1])


@given(
    strides=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    cut=st.integers(0, 50),
    length=st.integers(1, 50),
)
def test_a_call_in_the_middle_ticks_as_the_whole_does(strides: list[int], cut: int, length: int) -> None:
    steps = [1]
    for factor in strides:
        steps.append(steps[-1] * factor)
    clock = Clock(tuple(steps))
    whole, part = clock.timing(cut + length), clock.timing(length, cut % clock.period, begins=cut == 0)
    for level in range(len(steps)):
        assert [t + cut for t in part.ticks[level]] == [t for t in whole.ticks[level] if t >= cut]
        if level + 1 < len(steps):
            before = len([t for t in whole.ticks[level + 1] if t < cut])
            later = whole.parents(level)[len(whole.ticks[level]) - len(part.ticks[level]) :]
            assert [n + before for n in part.parents(level)] == later


@given(context=st.integers(1, 80), factor=st.integers(1, 6), levels=st.integers(1, 3))
def test_causal_windows_anchored_at_the_end_let_every_level_tick_last(context: int, factor: int, levels: int) -> None:
    clock = Clock.regular(levels, factor)
    timing = clock.timing(context, clock.phase_before(context, at_tick=True), begins=True)
    for ticks, stride in zip(timing.ticks, clock.strides, strict=True):
        assert (ticks[0], ticks[-1]) == (0, context - 1)
        assert all(later - tick == stride for tick, later in itertools.pairwise(ticks[1:]))


@given(context=st.integers(1, 80), factor=st.integers(1, 6), levels=st.integers(1, 3))
def test_windows_anchored_at_the_end_leave_every_level_to_tick_next(context: int, factor: int, levels: int) -> None:
    clock = Clock.regular(levels, factor)
    timing = clock.timing(context, clock.phase_before(context, at_tick=False), begins=True)
    for level, stride in enumerate(clock.strides):
        ends = [*timing.ticks[level][1:], context]
        widths = [end - start for start, end in zip(timing.ticks[level], ends, strict=True)]
        assert timing.ticks[level][0] == 0
        assert all(width == stride for width in widths[1:])
        assert widths[0] == (context % stride or stride if context >= stride else context)
    assert clock.timing(1, (timing.phase + context) % clock.period, begins=False).ticks == tuple(
        [0] for _ in clock.strides
    )


@pytest.mark.parametrize(("factor", "number"), [(6, 120), (1, 300)])
def test_a_hundred_steps_of_three_levels_tick_120_times_and_300_without_abstraction(factor: int, number: int) -> None:
    assert sum(len(ticks) for ticks in Clock.regular(3, factor).timing(100).ticks) == number


@pytest.mark.parametrize("strides", [(), (2,), (1, 0), (1, 4, 6), (1, 4, 2)])
def test_strides_that_do_not_nest_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a multiple of the one below"):
        Clock(strides)


@pytest.mark.parametrize(("levels", "factor"), [(0, 2), (2, 0)])
def test_no_levels_or_no_factor_are_refused(levels: int, factor: int) -> None:
    with pytest.raises(ValueError, match="levels >= 1 and factor >= 1"):
        Clock.regular(levels, factor)
