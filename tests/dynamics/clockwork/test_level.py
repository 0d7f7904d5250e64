"""One level of a hierarchy, tick by tick."""

from typing import Any

import pytest
import torch
from torch import Tensor

from wmkit import tree
from wmkit.backbones import PlainGRU, PlainGRUConfig
from wmkit.dynamics.clockwork.level import Level
from wmkit.dynamics.latents import GaussianLatent

B, N, E, C = 3, 5, 4, 2


def make(std_shift: str = "input") -> Level:
    core = PlainGRU(6, PlainGRUConfig(input_dim=6, hidden=7))
    level = Level(core, GaussianLatent(3), context_dim=C, action_dim=0, embed_dim=E, units=5, std_shift=std_shift)
    level.initialise()
    with torch.no_grad():
        for parameter in level.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return level.double()


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def observe(level: Level, context: Tensor, embed: Tensor, state: Any, resets: list[Tensor | None]) -> Any:
    bias = level.input_bias(context, [0, 0, 1, 2, 2], None)
    return level.observe(bias, embed, list(torch.ones(N, B, 3).double()), resets, range(N), state)


@pytest.mark.parametrize("std_shift", ["input", "output", "none"])
def test_a_tick_at_which_no_row_begins_anew_is_a_tick_without_resets_with_all_gradients(std_shift: str) -> None:
    level, context, embed = make(std_shift), leaf(B, 3, C), leaf(B, N, E)
    state = {"core": {"h": leaf(B, 7)}, "z": leaf(B, 3)}
    sources = [context, embed, *tree.leaves(state), *level.parameters()]
    outcomes = []
    for reset in (None, torch.zeros(B, dtype=torch.bool)):
        part, after = observe(level, context, embed, state, [reset] * N)
        outputs = [part.h, part.z, part.posterior, part.prior, *tree.leaves(after)]
        gradients = torch.autograd.grad(torch.stack([(x * x.cos()).sum() for x in outputs]).sum(), sources)
        outcomes.append([*outputs, *gradients])
    for mine, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_state_after_a_call_does_not_keep_the_call_alive() -> None:
    level = make()
    _, after = observe(level, leaf(B, 3, C), leaf(B, N, E), level.initial_state(B), [None] * N)
    for x in tree.leaves(after):
        assert x.untyped_storage().nbytes() == x.nbytes
