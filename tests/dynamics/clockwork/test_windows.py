"""Sums over windows and repeated states, against their definitions step by step."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wmkit.dynamics.clockwork.clock import repeat_to_ticks, sums_ahead, sums_behind

B, E = 2, 3
TICKS = st.integers(1, 20).flatmap(
    lambda length: st.tuples(st.just(length), st.sets(st.integers(0, length - 1)).map(sorted))
)


def steps(length: int) -> Tensor:
    return torch.randn(B, length, E, dtype=torch.float64)


@given(case=TICKS)
def test_a_window_ahead_holds_the_steps_until_the_next_tick(case: tuple[int, list[int]]) -> None:
    length, ticks = case
    x = steps(length)
    got = sums_ahead(x, ticks)
    assert got.shape == (B, len(ticks), E)
    for j, (start, stop) in enumerate(itertools.pairwise([*ticks, length])):
        torch.testing.assert_close(got[:, j], x[:, start:stop].sum(1))


@given(case=TICKS, carries=st.booleans(), resets=st.booleans())
def test_a_window_behind_holds_the_steps_since_the_last_tick_and_what_was_carried(
    case: tuple[int, list[int]], carries: bool, resets: bool
) -> None:
    length, ticks = case
    x, carried = steps(length), steps(1)[:, 0] if carries else None
    is_first = torch.rand(B, length) < 0.3
    read, after = sums_behind(x, ticks, carried, is_first if resets else None)
    waiting = torch.zeros(B, E, dtype=torch.float64) if carried is None else carried
    want = []
    for t in range(length):
        if t in ticks:
            begins = is_first[:, t, None] & resets
            want.append(torch.where(begins, x[:, t], waiting + x[:, t]))
            waiting = torch.zeros_like(waiting)
        else:
            waiting = waiting + x[:, t]
    assert read.shape == (B, len(ticks), E)
    for j, row in enumerate(want):
        torch.testing.assert_close(read[:, j], row)
    torch.testing.assert_close(after, waiting)


@given(numbers=st.lists(st.integers(0, 5), max_size=20).map(sorted))
def test_repeated_states_are_copies_whose_gradients_add_up(numbers: list[int]) -> None:
    x = steps(6).requires_grad_()
    got = repeat_to_ticks(x, numbers)
    assert torch.equal(got, x[:, numbers])
    weights = torch.randn_like(got)
    mine, theirs = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (got, x[:, numbers]))
    torch.testing.assert_close(mine, theirs)


def test_sums_of_half_precision_are_made_in_float32() -> None:
    x = torch.full((1, 4096, 1), 1.0, dtype=torch.bfloat16)
    assert sums_ahead(x, [0]).item() == 4096
    assert sums_behind(x, [4095], None, None)[0].item() == 4096
