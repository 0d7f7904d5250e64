"""`diagonal_scan` in plain PyTorch, by two levels: C chunks of R steps, all chunks at once.

Within its chunk every state is s_j = a_j s_{j-1} + b_j from zero; then the last states are carried from chunk to chunk,
s_R <- s_R + (a_1 .. a_R) s_0, and what comes in at a chunk's start is added to its states as it decays. That takes
2 R + C tensor operations instead of T. Sequences wide enough to keep the processor busy with one step take one chunk,
which costs one pass less over the memory.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

WIDE = 1 << 11
"""Numbers per step (batch times states) from which on one chunk is faster than many."""

WORKSPACE = 1 << 17
"""Numbers in one temporary of the backward pass (1 MiB in complex single precision)."""


def forward(a: Tensor, b: Tensor, initial_state: Tensor | None, is_first: Tensor | None) -> Tensor:
    """All states: a (1 | B, 1 | T, 1 | N), b (B, T, N), initial_state (B, N), is_first (B, T) -> (B, T, N)."""
    states = torch.empty_like(b, memory_format=torch.contiguous_format)
    start = torch.zeros_like(b[:, 0]) if initial_state is None else initial_state
    _sweep(_in_time(a, b), b, states, start, is_first, reverse=False)
    return states


def backward(
    grad: Tensor, a: Tensor, states: Tensor, initial_state: Tensor | None, is_first: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in a, b and the initial state.

    That in b is the same recurrence against time, l_t = g_t + conj(a_{t+1}) l_{t+1}, without the second term where
    t + 1 is a first step; that in a_t is l_t conj(s_{t-1}), summed to a's shape. Worked out in m = conj(l), which takes
    two conjugations instead of one per product: PyTorch copies for each.
    """
    grad, later = torch.conj_physical(grad), _in_time(a, grad)
    adjoint = torch.empty_like(states)
    adjoint[:, -1] = grad[:, -1]
    resets = None if is_first is None else is_first[:, 1:]
    _sweep(later[:, 1:], grad[:, :-1], adjoint[:, :-1], grad[:, -1], resets, reverse=True)
    of_initial = later[:, 0] * adjoint[:, 0]
    if is_first is not None:
        of_initial = of_initial.masked_fill(is_first[:, :1], 0)
    of_a = _grad_a(a.shape, adjoint, states, initial_state, is_first)
    return of_a.conj_physical_(), adjoint.conj_physical_(), of_initial.conj_physical_()


def _in_time(a: Tensor, b: Tensor) -> Tensor:
    """`a` with the time axis of `b`, as a view."""
    return a.expand(-1, b.shape[1], -1)


def _sweep(a: Tensor, b: Tensor, out: Tensor, start: Tensor, is_first: Tensor | None, reverse: bool) -> None:
    """Write out_t = a_t out_{t-1} + b_t, or with t + 1 for t - 1 where `reverse`; `start` comes in first."""
    length, width = b.shape[1], b.shape[0] * b.shape[2]
    steps = length if width >= WIDE else math.isqrt(length)
    rest = length % steps if steps else 0
    parts = (
        [slice(rest, length), slice(0, rest)] if reverse else [slice(0, length - rest), slice(length - rest, length)]
    )
    for part in parts:
        size = min(steps, part.stop - part.start)
        if size:
            decay, entering, left = (_in_chunks(x[:, part], size) for x in (a, b, out))
            resets = None if is_first is None else _in_chunks(is_first[:, part].unsqueeze(-1), size)
            start = _sweep_chunks(decay, entering, left, start, resets, reverse)


def _in_chunks(x: Tensor, steps: int) -> Tensor:
    """(B, C R, N) -> (B, C, R, N), a view."""
    return x.view(x.shape[0], -1, steps, x.shape[2])


def _sweep_chunks(a: Tensor, b: Tensor, out: Tensor, start: Tensor, resets: Tensor | None, reverse: bool) -> Tensor:
    """`_sweep` of chunks (B, C, R, N); returns the last state."""
    chunks, steps = (range(n - 1, -1, -1) if reverse else range(n) for n in b.shape[1:3])
    state = torch.zeros_like(b[:, :, 0])
    state[:, chunks[0]] = start
    decay = a[:, :, steps[0]]
    for j in steps:
        state = _reset(state, resets, j)
        state = torch.addcmul(b[:, :, j], a[:, :, j], state, out=out[:, :, j])
        decay = decay if j == steps[0] else decay * a[:, :, j]
    if len(chunks) > 1:
        ends = None if resets is None else resets.any(2)
        incoming, decay = torch.zeros_like(state), decay.expand_as(state)
        for before, after in itertools.pairwise(chunks):
            kept = decay[:, before] * incoming[:, before]
            incoming[:, after] = state[:, before] + (kept if ends is None else kept.masked_fill(ends[:, before], 0))
        for j in steps:
            incoming = _reset(incoming, resets, j) * a[:, :, j]
            out[:, :, j] += incoming
    return out[:, chunks[-1], steps[-1]]


def _reset(state: Tensor, resets: Tensor | None, j: int) -> Tensor:
    """Zero where step j of a chunk is a first step, whatever was there."""
    return state if resets is None else state.masked_fill(resets[:, :, j], 0)


def _grad_a(
    shape: torch.Size, adjoint: Tensor, states: Tensor, initial_state: Tensor | None, is_first: Tensor | None
) -> Tensor:
    """Sum m_t s_{t-1} over the axes that `a` lacks, in pieces of time."""
    grad = adjoint.new_zeros(shape)
    size = max(1, WORKSPACE // states[:, 0].numel())
    for start in range(0, states.shape[1], size):
        steps = slice(start, min(start + size, states.shape[1]))
        target = grad[:, steps] if shape[1] > 1 else grad
        target += _sum_to(adjoint[:, steps] * _before(states, initial_state, is_first, steps), target.shape)
    return grad


def _sum_to(x: Tensor, shape: torch.Size) -> Tensor:
    """`x.sum_to_size(shape)`; as pairs of real numbers, which PyTorch adds up ten times as fast."""
    if not x.is_complex():
        return x.sum_to_size(shape)
    return torch.view_as_complex(torch.view_as_real(x).sum_to_size(*shape, 2))


def _before(states: Tensor, initial_state: Tensor | None, is_first: Tensor | None, steps: slice) -> Tensor:
    """s_{t-1} as step t saw it: zero where t is a first step."""
    before = states[:, max(steps.start - 1, 0) : steps.stop - 1]
    if steps.start == 0:
        first = torch.zeros_like(states[:, :1]) if initial_state is None else initial_state.unsqueeze(1)
        before = torch.cat([first, before], dim=1)
    return before if is_first is None else before.masked_fill(is_first[:, steps].unsqueeze(-1), 0)
