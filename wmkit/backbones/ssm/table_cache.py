"""Tables computed from parameters, kept until a parameter changes: what single steps live on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

Kept = TypeVar("Kept")


class KeepsTables(nn.Module):
    """A module that computes tables from its parameters, and again only when one of them has changed."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, _Cached] = {}

    def _wants_gradient(self) -> bool:
        """Is a gradient in the parameters wanted?"""
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())

    def _keep(self, name: str, make: Callable[[], Kept]) -> Kept:
        """`make()`, kept as long as no parameter changes and no gradient is wanted.

        Made outside inference mode, so that what is kept can serve a call that differentiates in its inputs.
        """
        if self._wants_gradient():
            return make()
        parameters = self._tensors()
        try:
            stamp = _Cached.stamp_of(parameters)
        except RuntimeError:  # inference tensors count no versions, those of vmap have no address
            return make()
        kept = self._kept.get(name)
        if kept is None or kept.stamp != stamp:
            with torch.inference_mode(False), torch.no_grad():
                kept = self._kept[name] = _Cached(parameters, stamp, make())
        return kept.value

    def _tensors(self) -> tuple[Tensor, ...]:
        """All parameters; asked at every step, so without a walk through modules where there are none inside."""
        if self._modules:
            return tuple(self.parameters())
        return tuple(p for p in self._parameters.values() if p is not None)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept: a copy makes its own."""
        return self.__dict__ | {"_kept": {}}


class _Cached:
    """A value computed from parameters, and how to tell that they are still what it was computed from.

    In-place changes (`load_state_dict`, most optimisers) raise a tensor's version; `.to()` and functional calls put
    another storage in its place; fused optimisers change values without a trace, so every optimiser step counts. A
    change through `parameter.data` is seen by none of these. Aliases are held, so that no freed address can come back
    as another parameter's; another dtype or device is another address. Asked at every single step, so it is short.
    """

    optimiser_steps: ClassVar[int] = 0

    def __init__(self, parameters: tuple[Tensor, ...], stamp: list[int], value: Any) -> None:
        self.aliases = tuple(p.detach() for p in parameters)
        self.stamp, self.value = stamp, value

    @classmethod
    def stamp_of(cls, parameters: tuple[Tensor, ...]) -> list[int]:
        """What a value computed from `parameters` now is to be known by; `RuntimeError` where they do not say."""
        return [cls.optimiser_steps, *map(Tensor.data_ptr, parameters), *(p._version for p in parameters)]

    @classmethod
    def count_optimiser_step(cls, *_: object) -> None:
        """To be called after every step of every optimiser."""
        cls.optimiser_steps += 1


register_optimizer_step_post_hook(_Cached.count_optimiser_step)
