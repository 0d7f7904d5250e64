"""Custom operators of PyTorch, known to its autograd and its compiler.

As `torch.library.custom_op` makes them, but for its wrapper around each implementation, which imports the compiler when
it is first called: two seconds of every process, and microseconds of every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

# PyTorch notes the file of whoever makes a library, and cannot where its name is no UTF-8: this code has none.
LIBRARY: Any = eval(compile('torch.library.Library("wmkit", "FRAGMENT")', "wmkit_kernels", "eval"))
Function = TypeVar("Function", bound=Callable[..., Any])


class Operator:
    """A function of tensors and numbers that changes none of them, on every device."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        schema = torch.library.infer_schema(function, mutates_args=())
        LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        self.name = f"wmkit::{name}"
        self.overload = getattr(torch.ops.wmkit, name).default

    def __call__(self, *inputs: Any) -> Any:
        return self.overload(*inputs)

    def register_fake(self, function: Function) -> Function:
        """Decorator: what gives outputs of the right shapes and types, for the compiler."""
        torch.library.register_fake(self.name, function, lib=LIBRARY)
        return function

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., Any]) -> None:
        """How it is differentiated, as `torch.library.register_autograd` has it."""
        torch.library.register_autograd(self.name, backward, setup_context=setup_context, lib=LIBRARY)


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Decorator: make a function the operator `wmkit::name`; its annotations are the schema."""
    return lambda function: Operator(name, function)
