"""What a backbone computes from its parameters alone, kept as long as they do not change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

Table = TypeVar("Table")


class WithTables(nn.Module):
    """A module that keeps tables while it is inside of `kept_tables`."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[Hashable, Any] | None = None
        """What was computed from the parameters since the block was entered; None outside of it."""

    def table(self, name: Hashable, make: Callable[[], Table]) -> Table:
        """`make()`, a function of the parameters alone; inside of the block the same one at every call.

        What carries a gradient to the parameters serves calls that want one, what does not serves the others. The
        latter is made outside inference mode, so that it can serve a call that differentiates in its inputs.
        """
        tables = self.tables
        if tables is None or torch.compiler.is_compiling():
            return make()
        key = name, self.wants_gradient()
        if key not in tables:
            with torch.inference_mode(False), torch.set_grad_enabled(key[1]):
                tables[key] = make()
        table: Table = tables[key]
        return table

    def wants_gradient(self) -> bool:
        """Is a gradient in the parameters wanted?"""
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())

    def __getstate__(self) -> dict[str, Any]:
        """Without the tables, so that a copy made inside of the block does not keep them for good."""
        return self.__dict__ | {"tables": None}


@contextlib.contextmanager
def kept_tables(module: nn.Module) -> Iterator[None]:
    """A block in which the module's parts keep their tables; in nested ones until the outermost ends."""
    entered = [part for part in module.modules() if isinstance(part, WithTables) and part.tables is None]
    for part in entered:
        part.tables = {}
    try:
        yield
    finally:
        for part in entered:
            part.tables = None
