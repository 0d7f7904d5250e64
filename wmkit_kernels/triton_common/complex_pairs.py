"""Complex arithmetic inside Triton kernels, which know real numbers only: a number is a pair (real, imaginary).

Importing this module imports Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def times(ar, ai, br, bi):
    """A b."""
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def inverse(r, i):
    """1 / a."""
    scale = 1.0 / (r * r + i * i)
    return r * scale, -i * scale


@triton.jit
def pair_sum(ar, ai, br, bi):
    """2 Re sum_n a_n b_n over the last axis: the inner product over a state closed under conjugation."""
    return 2.0 * tl.sum(ar * br - ai * bi, axis=-1)


@triton.jit
def load_pairs(pointer, n, count, real_default: tl.constexpr):
    """Elements n of interleaved complex numbers; (`real_default`, 0) where n >= count."""
    inside = n < count
    real = tl.load(pointer + 2 * n, mask=inside, other=real_default)
    return real, tl.load(pointer + 2 * n + 1, mask=inside, other=0.0)


@triton.jit
def store_pairs(pointer, n, count, real, imaginary):
    """Write elements n < count of interleaved complex numbers."""
    inside = n < count
    tl.store(pointer + 2 * n, real, mask=inside)
    tl.store(pointer + 2 * n + 1, imaginary, mask=inside)
