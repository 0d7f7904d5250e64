"""One latent level over a backbone: parallel equals sequential, windows equal the whole, resets, imagination."""

from typing import Any

import pytest
import torch
from torch import Tensor

from wmkit import list_backbones, tree
from wmkit.backbones.gru import GRU
from wmkit.build import build_world_model
from wmkit.dynamics import Inputs, LatentDynamics, Observed

POSTERIORS = ("factorized", "filtering", "full")
B, T, A = 3, 9, 2


def make(posterior: str, backbone: str = "gru", **options: Any) -> LatentDynamics:
    model = build_world_model(backbone, "tiny", (3, 16, 16), A, posterior=posterior, **options)
    return model.dynamics.double().eval()


def inputs(dynamics: LatentDynamics, length: int = T) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    embed = torch.randn(B, length, dynamics.embed_dim, dtype=torch.float64)
    action = torch.randn(B, length, A, dtype=torch.float64)
    is_first = torch.zeros(B, length, dtype=torch.bool)
    is_first[:, 0] = True
    noise = dynamics.latent.draw_noise((B, length)).double()
    return embed, action, is_first, noise


def observe(dynamics: LatentDynamics, part: tuple[Tensor, ...], state: Any = None, inner: bool = True) -> Any:
    embed, action, is_first, noise = part
    inputs = Inputs(embed=embed, action=action, is_first=is_first, noise=noise, inner_reset=inner)
    return dynamics.observe(inputs, state)


def assert_same(left: Observed, right: Observed) -> None:
    for name in ("h", "z", "posterior", "prior"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), msg=lambda text, n=name: f"{n}: {text}")


def join(parts: list[Observed]) -> Observed:
    return Observed(*(torch.cat([getattr(p, n) for p in parts], 1) for n in ("h", "z", "posterior", "prior")))


@pytest.mark.parametrize("backbone", ["gru", "s4", "s4d", "s5", "lru", "transformer_xl"])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_observing_whole_equals_observing_step_by_step(backbone: str, posterior: str) -> None:
    dynamics = make(posterior, backbone)
    whole_input = inputs(dynamics)
    whole, end = observe(dynamics, whole_input, inner=False)
    parts, state = [], None
    for t in range(T):
        part, state = observe(dynamics, tuple(x[:, t : t + 1] for x in whole_input), state, inner=False)
        parts.append(part)
    assert_same(join(parts), whole)
    for left, right in zip(tree.leaves(state), tree.leaves(end), strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("cut", [1, 4, 8])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_windows_with_carried_state_equal_one_long_pass(posterior: str, cut: int) -> None:
    dynamics = make(posterior, "s4")
    whole_input = inputs(dynamics)
    whole, _ = observe(dynamics, whole_input)
    first, state = observe(dynamics, tuple(x[:, :cut] for x in whole_input))
    second, _ = observe(dynamics, tuple(x[:, cut:] for x in whole_input), tree.detach(state))
    assert_same(join([first, second]), whole)


@pytest.mark.parametrize("start", [1, 5, 8])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_reset_makes_the_rest_equal_a_fresh_start(posterior: str, start: int) -> None:
    dynamics = make(posterior, "s4")
    embed, action, is_first, noise = inputs(dynamics)
    is_first[1, start] = True
    seen, _ = observe(dynamics, (embed, action, is_first, noise))
    fresh, _ = observe(dynamics, tuple(x[1:2, start:] for x in (embed, action, is_first, noise)), inner=False)
    for name in ("h", "z", "prior"):
        torch.testing.assert_close(getattr(seen, name)[1:2, start:], getattr(fresh, name))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_row_that_begins_at_column_zero_forgets_the_carried_state(posterior: str) -> None:
    dynamics = make(posterior)
    _, carried = observe(dynamics, inputs(dynamics))
    part = inputs(dynamics)
    part[2][0, 0] = False
    seen, _ = observe(dynamics, part, carried, inner=False)
    fresh, _ = observe(dynamics, part, None, inner=False)
    torch.testing.assert_close(seen.h[1:], fresh.h[1:])
    assert (seen.h[0] - fresh.h[0]).abs().max() > 1e-6


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_action_and_latent_before_an_episode_do_not_enter_it(posterior: str) -> None:
    dynamics = make(posterior)
    embed, action, is_first, noise = inputs(dynamics)
    first, _ = observe(dynamics, (embed, action, is_first, noise))
    other = action.clone()
    other[:, 0] = 7.0
    second, _ = observe(dynamics, (embed, other, is_first, noise))
    assert_same(first, second)


@pytest.mark.parametrize("posterior", ["factorized", "full"])
def test_a_parallel_posterior_observes_by_one_scan_and_no_step(posterior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dynamics = make(posterior)
    calls = {"scan": 0, "step": 0}
    scan, step = GRU.scan, GRU.step

    def counted_scan(self: GRU, *args: Any, **kwargs: Any) -> Any:
        calls["scan"] += self is dynamics.backbone
        return scan(self, *args, **kwargs)

    def counted_step(self: GRU, *args: Any, **kwargs: Any) -> Any:
        calls["step"] += 1
        return step(self, *args, **kwargs)

    monkeypatch.setattr(GRU, "scan", counted_scan)
    monkeypatch.setattr(GRU, "step", counted_step)
    observe(dynamics, inputs(dynamics), inner=False)
    assert calls == {"scan": 1, "step": 0}


@pytest.mark.parametrize("backbone", ["gru", "s4", "s4d", "s5", "lru", "transformer_xl"])
def test_imagination_from_a_scan_equals_imagination_after_steps(backbone: str) -> None:
    dynamics = make("factorized", backbone)
    context = inputs(dynamics)
    _, by_scan = observe(dynamics, context, inner=False)
    by_step = None
    for t in range(T):
        _, by_step = observe(dynamics, tuple(x[:, t : t + 1] for x in context), by_step, inner=False)
    action, noise = torch.randn(B, 6, A, dtype=torch.float64), dynamics.latent.draw_noise((B, 6)).double()
    left = dynamics.imagine(action, noise=noise, state=by_scan)
    right = dynamics.imagine(action, noise=noise, state=by_step)
    torch.testing.assert_close(left[0], right[0])
    torch.testing.assert_close(left[1], right[1])


def test_imagination_equals_the_teacher_forced_prior_on_its_own_samples() -> None:
    dynamics = make("factorized", "s4", latent="gaussian")
    context = inputs(dynamics)
    _, state = observe(dynamics, context, inner=False)
    action, noise = torch.randn(B, 6, A, dtype=torch.float64), dynamics.latent.draw_noise((B, 6)).double()
    h, z, _ = dynamics.imagine(action, noise=noise, state=state)
    torch.testing.assert_close(dynamics.latent.sample(dynamics.prior(h), noise), z)
    previous = torch.cat([state["z"].unsqueeze(1), z[:, :-1]], 1)
    scanned, _ = dynamics.backbone.scan(dynamics.input(torch.cat([previous, action], -1)), state["backbone"])
    torch.testing.assert_close(scanned, h)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_imagining_does_not_change_the_callers_state(posterior: str) -> None:
    dynamics = make(posterior, "s4")
    _, state = observe(dynamics, inputs(dynamics), inner=False)
    before = tree.map_tree(Tensor.clone, state)
    dynamics.imagine(torch.randn(B, 3, A, dtype=torch.float64), noise=None, state=state)
    for left, right in zip(tree.leaves(before), tree.leaves(state), strict=True):
        assert torch.equal(left, right)


def test_gradients_of_the_filtering_posterior_equal_the_plain_formula() -> None:
    dynamics = make("filtering")
    embed, action, is_first, noise = inputs(dynamics)
    seen, _ = observe(dynamics, (embed, action, is_first, noise))
    plain = dynamics.posterior(torch.cat([seen.h, embed], -1))
    torch.testing.assert_close(plain, seen.posterior)


@pytest.mark.reported(
    "shapes",
    "state-spaces/mamba#743, pytorch/rl#903",
    "`dynamics.observe` or `imagine` itself on inputs of other widths, or a state of other rows",
    "`ValueError` with both sides; noise of one number is not shared by all latents",
)
@pytest.mark.parametrize("name", [*list_backbones("backbone"), *list_backbones("dynamics")])
def test_dynamics_of_their_own_refuse_what_would_be_broadcast(name: str) -> None:
    dynamics = build_world_model(name, "tiny", (3, 16, 16), 2).dynamics
    is_first = torch.zeros(4, 3, dtype=torch.bool)
    good = {
        "embed": torch.randn(4, 3, dynamics.embed_dim),
        "action": torch.zeros(4, 3, 2),
        "noise": dynamics.draw_noise((4, 3)),
    }
    for key in good:
        with pytest.raises(ValueError, match=rf"{key}: expected \(B, T, ...\) = \(4, 3, \d+\), got \(4, 3, 1\)"):
            dynamics.observe(Inputs(**{**good, key: good[key][..., :1]}, is_first=is_first))
    one, action, noise = dynamics.initial_state(1), good["action"], good["noise"]
    with pytest.raises(ValueError, match=r"noise: expected \(B, T, ...\) = \(4, 3, \d+\), got \(1, 3, \d+\)"):
        dynamics.imagine(action, noise=noise[:1], state=dynamics.initial_state(4))
    for call in (
        lambda: dynamics.observe(Inputs(**good, is_first=is_first), one),
        lambda: dynamics.imagine(action, noise=noise, state=one),
    ):
        with pytest.raises(ValueError, match=r"state: of 1 row, the inputs have 4 rows; tree.repeat\(state, 4\)"):
            call()
