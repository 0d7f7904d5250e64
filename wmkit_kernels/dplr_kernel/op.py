"""The convolution kernel of a DPLR state space model."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from wmkit_kernels.common.dispatch import run_outside_autograd, use_triton, vector_jacobian, why_not_here, why_not_pairs
from wmkit_kernels.common.operator import operator
from wmkit_kernels.common.series import divide, geometric_sums, multiply, shift
from wmkit_kernels.dplr.system import check, discretise, discretise_input


def dplr_kernel(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int, *, backend: str = "auto"
) -> Tensor:
    """k[..., h, l] = 2 Re(C_h Abar_h^l Bbar_h) for l < length, A = diag(Lambda) - P P^*, bilinear Abar and Bbar.

    `Lambda`, `P` (N,), `B` (..., N), `C` (H, N) complex, one of each conjugate pair; `dt` (H,) real and positive, with
    Re Lambda < 0. Returns (..., H, length) real, in the precision of `C`; differentiable in the five tensors.
    `B` is shared by the channels; its leading axes give a batch of kernels. States that differ by channel enter
    `dplr_scan` as `state`. Without any (H, N, length) tensor; in double precision whatever comes in, but in single
    precision in Triton. `backend`: "auto" (Triton on a GPU where it can run), "torch", or "triton".
    Raises `ValueError` for shapes or dtypes other than these, and where Triton is asked for and cannot run.
    """
    check(Lambda, P, dt, B, C)
    if length < 1:
        raise ValueError(f"expected length >= 1, got {length}")
    triton = use_triton(backend, why_not_triton(Lambda, P, B, C, dt))
    if not triton and not torch.compiler.is_compiling():
        return _kernel(Lambda, P, B, C, dt, length)
    pairs = [torch.view_as_real(x.resolve_conj()) for x in (Lambda, P, B.reshape(-1, B.shape[-1]), C)]
    return _kernel_op(*pairs, dt, length, triton)[0].view(*B.shape[:-1], C.shape[0], length)


def why_not_triton(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor) -> str | None:
    """Why Triton cannot make this kernel here, or None."""
    return why_not_here(Lambda, P, B, C, dt) or why_not_pairs(Lambda.shape[0])


def _kernel(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int) -> Tensor:
    """`dplr_kernel` of checked arguments in PyTorch.

    With Abar = diag(a) - g q and alpha_l = q Abar^l Bbar, unrolling the recurrence gives equations between power series
    in z,

        alpha = f - z m alpha,        k = e - z n alpha,

    where f, e, m, n are the geometric sums of q a^l Bbar, C a^l Bbar, q a^l g, C a^l g. Hence alpha = f / (1 + z m):
    one quotient and one product.
    """
    discrete, Bbar = discretise(Lambda, P, dt), discretise_input(Lambda, P, B, dt)
    starts = Bbar.reshape(-1, *C.shape).transpose(0, 1)  # (H, M, N)
    rows = torch.stack([discrete.q, C.to(torch.complex128)], dim=1)  # (H, 2, N)
    sums = geometric_sums(rows, torch.cat([starts, discrete.g.unsqueeze(1)], dim=1), discrete.a, length)
    m, n = sums[:, :1, -1:], sums[:, 1:, -1:]  # (H, 1, 1, L)
    unit = torch.nn.functional.pad(torch.ones_like(m[..., :1]), (0, length - 1))
    alpha = divide(sums[:, :1, :-1], unit + shift(m))  # (H, 1, M, L)
    kernels = (sums[:, 1:, :-1] - shift(multiply(n, alpha))).squeeze(1)  # (H, M, L)
    return kernels.transpose(0, 1).reshape(*Bbar.shape[:-1], length).to(C.real.dtype)


def _kernel_of_pairs(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int) -> Tensor:
    Lambda, P, B, C = (torch.view_as_complex(x.contiguous()) for x in (Lambda, P, B, C))
    return _kernel(Lambda, P, B, C, dt, length)


@operator("dplr_kernel")
def _kernel_op(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int, triton: bool
) -> tuple[Tensor, Tensor]:
    """k (M, H, length) and, in Triton, C (1 - Abar^L), which the backward pass needs; complex numbers as (..., 2)."""
    if triton:
        from wmkit_kernels.dplr_kernel import triton_impl

        return triton_impl.forward(Lambda, P, B, C, dt, length)
    return run_outside_autograd(dt.device, _kernel_of_pairs, Lambda, P, B, C, dt, length), C.new_empty(0)


@_kernel_op.register_fake
def _(Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int, triton: bool) -> tuple[Tensor, Tensor]:
    lead = (B.shape[0], C.shape[0])
    return C.new_empty(*lead, length), C.new_empty((*lead, *C.shape[1:]) if triton else (0,))


@operator("dplr_kernel_backward")
def _kernel_op_backward(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, corrected: Tensor, grad: Tensor, triton: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the five tensors from that of k."""
    if triton:
        from wmkit_kernels.dplr_kernel import triton_impl

        return triton_impl.backward(Lambda, P, B, dt, corrected, grad)
    length = grad.shape[-1]
    of_Lambda, of_P, of_B, of_C, of_dt = vector_jacobian(
        functools.partial(_kernel_of_pairs, length=length), (Lambda, P, B, C, dt), (grad,)
    )
    return of_Lambda, of_P, of_B, of_C, of_dt


@_kernel_op_backward.register_fake
def _(
    Lambda: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, corrected: Tensor, grad: Tensor, triton: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        Lambda.new_empty(Lambda.shape),
        P.new_empty(P.shape),
        B.new_empty(B.shape),
        C.new_empty(C.shape),
        dt.new_empty(dt.shape),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, _, ctx.triton = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return *_kernel_op_backward(*ctx.saved_tensors, grad.contiguous(), ctx.triton), None, None


_kernel_op.register_autograd(_differentiate, setup_context=_remember)
