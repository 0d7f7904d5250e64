"""The diagonal recurrence in Triton: chunks of time side by side. Importing this module imports Triton.

Three launches: what every chunk makes of nothing (its last state, and the product of its a); what comes in at the start
of every chunk, chunk after chunk; all states from there. Sequences of one chunk take the last launch only. The backward
pass is the same against time. A real number is a pair without its second half.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wmkit_kernels.triton_common.ahead_of_time import OPTIONS, Build
from wmkit_kernels.triton_common.complex_pairs import times

STEPS = 64
"""Steps per chunk."""

STATES = 64
"""Recurrences per program of one warp."""


@triton.jit
def _load(pointer: tl.tensor, n: tl.tensor, inside: tl.tensor, COMPLEX: tl.constexpr) -> tl.tensor:
    """Numbers n as (real, imaginary); 0 where not inside."""
    if COMPLEX:
        return tl.load(pointer + 2 * n, mask=inside, other=0.0), tl.load(pointer + 2 * n + 1, mask=inside, other=0.0)
    real = tl.load(pointer + n, mask=inside, other=0.0)
    return real, tl.zeros_like(real)


@triton.jit
def _store(
    pointer: tl.tensor, n: tl.tensor, inside: tl.tensor, real: tl.tensor, imag: tl.tensor, COMPLEX: tl.constexpr
) -> None:
    if COMPLEX:
        tl.store(pointer + 2 * n, real, mask=inside)
        tl.store(pointer + 2 * n + 1, imag, mask=inside)
    else:
        tl.store(pointer + n, real, mask=inside)


@triton.jit
def scan_forward(
    a: tl.tensor, b: tl.tensor, start: tl.tensor, is_first: tl.tensor, states: tl.tensor, ends: tl.tensor,
    decays: tl.tensor, a_row: tl.tensor, a_time: tl.tensor, a_state: tl.tensor, length: tl.tensor, width: tl.tensor,
    chunks: tl.tensor, COMPLEX: tl.constexpr, RESETS: tl.constexpr, STORE: tl.constexpr, STEPS: tl.constexpr,
    N: tl.constexpr,
) -> None:  # fmt: skip
    """One row, chunk and N recurrences: all states from `start` where STORE, else the last from zero and the decay."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    n = tl.program_id(2) * N + tl.arange(0, N)
    inside = n < width
    whole = (row * chunks + chunk) * width + n
    sr, si = tl.zeros((N,), tl.float32), tl.zeros((N,), tl.float32)
    pr, pi = sr + 1.0, si
    if STORE:
        sr, si = _load(start, whole, inside, COMPLEX)
    for t in range(chunk * STEPS, min(chunk * STEPS + STEPS, length)):
        step = row * length + t
        ar, ai = _load(a, row * a_row + (row * 0 + t) * a_time + n * a_state, inside, COMPLEX)
        br, bi = _load(b, step * width + n, inside, COMPLEX)
        if RESETS:
            first = tl.load(is_first + step) != 0
            sr, si = tl.where(first, 0.0, sr), tl.where(first, 0.0, si)
            pr, pi = tl.where(first, 0.0, pr), tl.where(first, 0.0, pi)
        sr, si = times(ar, ai, sr, si)
        sr, si = sr + br, si + bi
        if STORE:
            _store(states, step * width + n, inside, sr, si, COMPLEX)
        else:
            pr, pi = times(ar, ai, pr, pi)
    if not STORE:
        _store(ends, whole, inside, sr, si, COMPLEX)
        _store(decays, whole, inside, pr, pi, COMPLEX)


@triton.jit
def scan_carry(
    ends: tl.tensor, decays: tl.tensor, broken: tl.tensor, start: tl.tensor, width: tl.tensor, chunks: tl.tensor,
    COMPLEX: tl.constexpr, RESETS: tl.constexpr, REVERSE: tl.constexpr, N: tl.constexpr,
) -> None:  # fmt: skip
    """What comes in at every chunk of one row; at the first one it is there already."""
    row, n = tl.program_id(0).to(tl.int64), tl.program_id(1) * N + tl.arange(0, N)
    inside = n < width
    first = chunks - 1 if REVERSE else 0
    sr, si = _load(start, (row * chunks + first) * width + n, inside, COMPLEX)
    for k in range(1, chunks):
        after = chunks - 1 - k if REVERSE else k
        before = after + 1 if REVERSE else after - 1
        here = (row * chunks + before) * width + n
        pr, pi = _load(decays, here, inside, COMPLEX)
        er, ei = _load(ends, here, inside, COMPLEX)
        if RESETS:
            cut = tl.load(broken + row * chunks + before) != 0
            sr, si = tl.where(cut, 0.0, sr), tl.where(cut, 0.0, si)
        sr, si = times(pr, pi, sr, si)
        sr, si = sr + er, si + ei
        _store(start, (row * chunks + after) * width + n, inside, sr, si, COMPLEX)


@triton.jit
def scan_backward(
    a: tl.tensor, grad: tl.tensor, states: tl.tensor, initial: tl.tensor, start: tl.tensor, is_first: tl.tensor,
    of_a: tl.tensor, of_b: tl.tensor, ends: tl.tensor, decays: tl.tensor, a_row: tl.tensor, a_time: tl.tensor,
    a_state: tl.tensor, length: tl.tensor, width: tl.tensor, chunks: tl.tensor, COMPLEX: tl.constexpr,
    RESETS: tl.constexpr, STORE: tl.constexpr, INITIAL: tl.constexpr, VARIES: tl.constexpr, STEPS: tl.constexpr,
    N: tl.constexpr,
) -> None:  # fmt: skip
    """`scan_forward` against time, in m = conj(gradient of s): m_t = conj(g_t) + s_t, s_{t-1} = a_t m_t.

    of_a_t = conj(m_t s_{t-1}), for every step where VARIES, else summed over the chunk. `ends` gets what goes out at
    the chunk's start, which for chunk 0 and STORE is conj(the gradient of the initial state).
    """
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    n = tl.program_id(2) * N + tl.arange(0, N)
    inside = n < width
    whole = (row * chunks + chunk) * width + n
    sr, si = tl.zeros((N,), tl.float32), tl.zeros((N,), tl.float32)
    total_r, total_i = sr, si
    pr, pi = sr + 1.0, si
    if STORE:
        sr, si = _load(start, whole, inside, COMPLEX)
    stop = min(chunk * STEPS + STEPS, length)
    for back in range(stop - chunk * STEPS):
        t = stop - 1 - back
        step = row * length + t
        ar, ai = _load(a, row * a_row + (row * 0 + t) * a_time + n * a_state, inside, COMPLEX)
        gr, gi = _load(grad, step * width + n, inside, COMPLEX)
        sr, si = sr + gr, si - gi
        if STORE:
            _store(of_b, step * width + n, inside, sr, -si, COMPLEX)
            before = (step - 1) * width + n
            qr, qi = _load(states, before, inside & (before >= row * length * width), COMPLEX)
            if INITIAL:
                ir, ii = _load(initial, row * width + n, inside & (before < row * length * width), COMPLEX)
                qr, qi = qr + ir, qi + ii
            if RESETS:
                first = tl.load(is_first + step) != 0
                qr, qi = tl.where(first, 0.0, qr), tl.where(first, 0.0, qi)
            dr, di = times(sr, si, qr, qi)
            if VARIES:
                _store(of_a, step * width + n, inside, dr, -di, COMPLEX)
            else:
                total_r, total_i = total_r + dr, total_i - di
        else:
            pr, pi = times(ar, ai, pr, pi)
        sr, si = times(ar, ai, sr, si)
        if RESETS:
            cut = tl.load(is_first + step) != 0
            sr, si = tl.where(cut, 0.0, sr), tl.where(cut, 0.0, si)
            pr, pi = tl.where(cut, 0.0, pr), tl.where(cut, 0.0, pi)
    _store(ends, whole, inside, sr, si, COMPLEX)
    if not STORE:
        _store(decays, whole, inside, pr, pi, COMPLEX)
    elif not VARIES:
        _store(of_a, whole, inside, total_r, total_i, COMPLEX)


def forward(a: Tensor, b: Tensor, initial_state: Tensor | None, is_first: Tensor | None) -> Tensor:
    """All states: arguments of `two_level.forward`, in float32 or complex64."""
    run = _Launch(a, b.contiguous(), is_first)
    start = run.per_chunk(zeros=initial_state is None)
    if initial_state is not None:
        start[:, 0] = initial_state
    states = torch.empty_like(run.b)
    if run.chunks > 1:
        ends, decays = run.per_chunk(), run.per_chunk()
        run.forward(start, states, ends, decays, STORE=False)
        run.carry(start, ends, decays, REVERSE=False)
    run.forward(start, states, start, start, STORE=True)
    return states


def backward(
    grad: Tensor, a: Tensor, states: Tensor, initial_state: Tensor | None, is_first: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in a, b and the initial state; every chunk writes its own share of a's, summed after."""
    run = _Launch(a, grad.contiguous(), is_first)
    varies = a.shape[1] > 1
    initial = run.b if initial_state is None else initial_state.contiguous()
    of_b, of_a = torch.empty_like(states), torch.empty_like(states) if varies else run.per_chunk()
    start, ends = run.per_chunk(zeros=True), run.per_chunk()
    tensors = (states, initial, start, of_a, of_b, ends)
    if run.chunks > 1:
        decays = run.per_chunk()
        run.backward(*tensors, decays, STORE=False, INITIAL=False, VARIES=False)
        run.carry(start, ends, decays, REVERSE=True)
    run.backward(*tensors, ends, STORE=True, INITIAL=initial_state is not None, VARIES=varies)
    return of_a.sum_to_size(a.shape), of_b, ends[:, 0].conj_physical()


class _Launch:
    """The kernels with what all launches of one call share: a (1 | B, 1 | T, 1 | N), b or its gradient (B, T, N)."""

    def __init__(self, a: Tensor, b: Tensor, is_first: Tensor | None) -> None:
        self.a, self.b, self.is_first = a.contiguous(), b, is_first
        self.batch, self.length, self.width = b.shape
        self.chunks = triton.cdiv(self.length, STEPS)
        self.strides = [0 if size == 1 else stride for size, stride in zip(a.shape, self.a.stride(), strict=True)]
        self.flags: dict[str, Any] = {"COMPLEX": b.is_complex(), "RESETS": is_first is not None, "N": STATES}
        self.options = {"num_warps": 1, **OPTIONS}

    def per_chunk(self, zeros: bool = False) -> Tensor:
        """A new (B, C, N)."""
        shape = (self.batch, self.chunks, self.width)
        return self.b.new_zeros(shape) if zeros else self.b.new_empty(shape)

    def forward(self, start: Tensor, states: Tensor, ends: Tensor, decays: Tensor, STORE: bool) -> None:
        """Launch `scan_forward`."""
        tensors = (_real(x) for x in (states, ends, decays))
        scan_forward[self._grid()](
            _real(self.a), _real(self.b), _real(start), self._mask(), *tensors, *self._numbers(),
            STORE=STORE, STEPS=STEPS, **self.flags, **self.options,
        )  # fmt: skip

    def carry(self, start: Tensor, ends: Tensor, decays: Tensor, REVERSE: bool) -> None:
        """Launch `scan_carry`."""
        scan_carry[self._grid()[::2]](
            _real(ends), _real(decays), self._broken(), _real(start), self.width, self.chunks,
            REVERSE=REVERSE, **self.flags, **self.options,
        )  # fmt: skip

    def backward(
        self, states: Tensor, initial: Tensor, start: Tensor, of_a: Tensor, of_b: Tensor, ends: Tensor, decays: Tensor,
        **flags: bool,
    ) -> None:  # fmt: skip
        """Launch `scan_backward`."""
        inputs, outputs = (states, initial, start), (of_a, of_b, ends, decays)
        scan_backward[self._grid()](
            _real(self.a), _real(self.b), *map(_real, inputs), self._mask(), *map(_real, outputs), *self._numbers(),
            STEPS=STEPS, **flags, **self.flags, **self.options,
        )  # fmt: skip

    def _grid(self) -> tuple[int, int, int]:
        return self.batch, self.chunks, triton.cdiv(self.width, STATES)

    def _numbers(self) -> tuple[int, ...]:
        return *self.strides, self.length, self.width, self.chunks

    def _mask(self) -> Tensor:
        """As bytes; without resets any tensor, which is not read."""
        return _real(self.b) if self.is_first is None else self.is_first.contiguous().view(torch.uint8)

    def _broken(self) -> Tensor:
        """(B, C) bytes: does the chunk have a reset? Without resets any tensor."""
        if self.is_first is None:
            return _real(self.b)
        padded = torch.nn.functional.pad(self.is_first, (0, self.chunks * STEPS - self.length))
        return padded.view(self.batch, self.chunks, STEPS).any(2).view(torch.uint8)


def _real(x: Tensor) -> Tensor:
    """The numbers as Triton sees them."""
    return torch.view_as_real(x) if x.is_complex() else x


def _build(kernel: Any, **flags: bool) -> Build:
    numbers = dict.fromkeys(("a_row", "a_time", "a_state", "length", "width", "chunks"), "i32")
    constants = {"N": STATES, "STEPS": STEPS, **flags}
    pointers = [name for name in kernel.arg_names if name not in (*numbers, *constants)]
    types = {**dict.fromkeys(pointers, "*fp32"), **numbers, "is_first": "*u8", "broken": "*u8"}
    known = {name: value for name, value in constants.items() if name in kernel.arg_names}
    label = "-".join(name for name, value in flags.items() if value) or "plain"
    return Build(kernel, {k: v for k, v in types.items() if k in kernel.arg_names}, known, 1, label)


BUILDS = [
    build
    for flag in (False, True)
    for build in (
        _build(scan_forward, COMPLEX=True, RESETS=flag, STORE=True),
        _build(scan_forward, COMPLEX=flag, RESETS=True, STORE=False),
        _build(scan_carry, COMPLEX=True, RESETS=flag, REVERSE=flag),
        _build(scan_carry, COMPLEX=False, RESETS=flag, REVERSE=flag),
        _build(scan_backward, COMPLEX=True, RESETS=flag, STORE=True, INITIAL=True, VARIES=flag),
        _build(scan_backward, COMPLEX=flag, RESETS=True, STORE=False, INITIAL=False, VARIES=False),
        _build(scan_backward, COMPLEX=False, RESETS=flag, STORE=True, INITIAL=flag, VARIES=True),
    )
    if hasattr(scan_forward, "arg_names")
]
