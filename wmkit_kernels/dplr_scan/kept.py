"""The states that a forward pass in Triton keeps for the backward pass."""

from __future__ import annotations

KEPT_EVERY = 32
"""Steps between two of them."""


def kept_count(length: int) -> int:
    """How many states a forward pass in Triton keeps."""
    return (length + KEPT_EVERY - 1) // KEPT_EVERY
