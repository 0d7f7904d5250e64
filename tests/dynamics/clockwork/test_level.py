"""The loop that is written out equals the general one of a level, which a call with resets takes."""

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


def observe(level: Level, context: Tensor, embed: Tensor, state: Any, noise: Tensor | None, general: bool) -> Any:
    resets = [torch.zeros(B, dtype=torch.bool) if general else None] * N
    driven = level.drive(context, [0, 0, 1, 2, 2], None)
    drawn = [None] * N if noise is None else list(noise.unbind(1))
    return level.observe(driven, embed, drawn, resets, range(N), state)


@pytest.mark.parametrize("std_shift", ["input", "output", "none"])
@pytest.mark.parametrize("drawn", [True, False], ids=["samples", "means"])
def test_the_loop_written_out_equals_the_general_one_with_all_gradients(drawn: bool, std_shift: str) -> None:
    level, context, embed = make(std_shift), leaf(B, 3, C), leaf(B, N, E)
    state = {"core": {"h": leaf(B, 7)}, "z": leaf(B, 3)}
    noise = torch.randn(B, N, 3, dtype=torch.float64) if drawn else None
    sources = [context, embed, *tree.leaves(state), *level.parameters()]
    outcomes = []
    for general in (False, True):
        part, after = observe(level, context, embed, state, noise, general)
        outputs = [part.h, part.z, part.posterior, part.prior, *tree.leaves(after)]
        gradients = torch.autograd.grad(torch.stack([(x * x.cos()).sum() for x in outputs]).sum(), sources)
        outcomes.append([*outputs, *gradients])
    for mine, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_under_autocast_the_loop_written_out_keeps_single_precision() -> None:
    level = make().float()
    context, embed = torch.randn(B, 3, C), torch.randn(B, N, E)
    want = observe(level, context, embed, level.initial_state(B), torch.ones(B, N, 3), False)[0]
    with torch.autocast("cpu", torch.bfloat16):
        got, after = observe(level, context, embed, level.initial_state(B), torch.ones(B, N, 3), False)
    assert got.h.dtype == got.z.dtype == got.posterior.dtype == after["z"].dtype == torch.float32
    torch.testing.assert_close(got.h, want.h, atol=0.05, rtol=0.0)


def test_the_state_after_a_call_does_not_keep_the_call_alive() -> None:
    level = make()
    _, after = observe(level, leaf(B, 3, C), leaf(B, N, E), level.initial_state(B), None, False)
    for x in tree.leaves(after):
        assert x.untyped_storage().nbytes() == x.nbytes
