"""The clockwork hierarchy against its definition, frame by frame, and what its clock allows."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.references.clockwork_loop import ClockworkLoop, level_frames, level_noise
from wmkit import ModelConfig, build_world_model, tree
from wmkit.backbones import PlainGRU
from wmkit.dynamics import ClockworkConfig, ClockworkDynamics, Inputs
from wmkit.presets import CORRECTED, CWVAE_2021
from wmkit.testing import check_dynamics, examine_dynamics

VARIANTS = {"2021": CWVAE_2021[1], "corrected": CORRECTED[1]}
B, E, A = 2, 7, 2
CONTEXTS = (*range(1, 12), 18, 19, 80)
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def make(levels: int = 3, factor: int = 2, action_dim: int = A, units: int = 6, **options: Any) -> ClockworkDynamics:
    """A small hierarchy in double precision with Gaussian latents of three numbers."""
    config = ClockworkConfig(
        **{"levels": levels, "factor": factor, "core_size": "tiny", "width": units, "level_units": 5} | options
    )
    model = ModelConfig(latent="gaussian", latent_size=3, units=units)
    dynamics = ClockworkDynamics(config, model, embed_dim=E, action_dim=action_dim)
    dynamics.initialise()
    return dynamics.double().eval()


def inputs(dynamics: ClockworkDynamics, length: int, rows: int = B) -> dict[str, Tensor]:
    is_first = torch.zeros(rows, length, dtype=torch.bool)
    is_first[:, 0] = True
    return {
        "embed": torch.randn(rows, length, E, dtype=torch.float64),
        "action": torch.randn(rows, length, dynamics.action_dim, dtype=torch.float64),
        "is_first": is_first,
        "noise": dynamics.draw_noise((rows, length)).double(),
    }


def window(part: dict[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    return {name: x[:, start:stop] for name, x in part.items()}


def plain_loop(dynamics: ClockworkDynamics, part: dict[str, Tensor], phase: int = 0) -> tuple[ClockworkLoop, Any]:
    """The definition, one frame after the other, with the weights of `dynamics`; and what each level gives."""
    loop, action = ClockworkLoop(dynamics), part["action"] * ~part["is_first"].unsqueeze(-1)
    frames, noise = level_frames(dynamics, part["embed"]), level_noise(dynamics, part["noise"])
    return loop, loop(frames, action, noise, phase)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("strides", [[1], [1, 1, 1], [1, 2, 4], [1, 3, 6], [1, 5]])
def test_observing_equals_the_definition_frame_by_frame(variant: str, strides: list[int]) -> None:
    dynamics = make(strides=strides, **VARIANTS[variant])
    part = inputs(dynamics, 13)
    part["embed"].requires_grad_()
    seen, _ = dynamics.observe(Inputs(**part))
    loop, want = plain_loop(dynamics, part)
    assert_equals_definition(dynamics, seen, want)
    assert_equal_gradients(dynamics, loop, part["embed"], functional(dynamics, seen), plain_functional(want))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("context", [1, 3, 4, 9])
def test_a_contexts_windows_end_with_it_and_the_first_takes_the_remainder(variant: str, context: int) -> None:
    dynamics = make(factor=2, **VARIANTS[variant])
    part = inputs(dynamics, context)
    seen, state = dynamics.observe(Inputs(**part), dynamics.initial_state(len(part["embed"]), context))
    phase = int(dynamics.causal)  # of the step after the context: causal windows end at a tick, smoothing ones before
    assert_equals_definition(dynamics, seen, plain_loop(dynamics, part, phase=(phase - context) % 4)[1])
    assert state["phase"].tolist() == [phase] * B


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("anchored", [True, False])
@torch.no_grad()
def test_what_is_imagined_after_a_context_of_any_length_equals_the_definition(variant: str, anchored: bool) -> None:
    """Contexts of every length up to a period of 9 and some more, anchored at the end or not; 12 imagined steps."""
    dynamics = make(factor=3, **VARIANTS[variant])
    part = inputs(dynamics, 92)
    loop, frames, noise = (
        ClockworkLoop(dynamics),
        level_frames(dynamics, part["embed"]),
        level_noise(dynamics, part["noise"]),
    )
    for context in CONTEXTS:
        before = dynamics.initial_state(B, context) if anchored else None
        seen, state = dynamics.observe(Inputs(**window(part, 0, context)), before)
        rest = window(part, context, context + 12)
        h, z, _ = dynamics.imagine(rest["action"], noise=rest["noise"], state=state)
        phase = (int(dynamics.causal) - context) % 9 if anchored else 0
        action = part["action"][:, : context + 12].clone()
        action[:, 0] = 0
        want = loop([x[:, :context] for x in frames], action, noise, phase)[0]
        for name, found in {"h": torch.cat([seen.h, h], 1), "z": torch.cat([seen.z, z], 1)}.items():
            torch.testing.assert_close(found, want[name])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_every_frame_of_a_context_of_any_length_reaches_every_level(variant: str, factor: int) -> None:
    dynamics = make(factor=factor, units=16, **VARIANTS[variant])
    for context in (1, 2, 5, 12, 36, 37):
        part = inputs(dynamics, context, rows=16)
        part["embed"].requires_grad_()
        seen, _ = dynamics.observe(Inputs(**part), dynamics.initial_state(len(part["embed"]), context))
        for level in seen.levels:
            [reached] = torch.autograd.grad(level.z[:, -1].sum(), [part["embed"]], retain_graph=True)
            assert bool(reached.abs().sum((0, 2)).gt(0).all())


def assert_equals_definition(dynamics: ClockworkDynamics, seen: Any, want: list[dict[str, Tensor]]) -> None:
    kl = dynamics.kl(seen, None, 0.0)
    for i, (part, steps) in enumerate(zip(seen.levels, want, strict=True)):
        moments = {name: dynamics.levels[i].latent.moments(getattr(part, name)) for name in ("prior", "posterior")}
        found = {
            f"{name}_{what}": x for name, pair in moments.items() for what, x in zip(("mean", "std"), pair, strict=True)
        }
        for name, x in {"h": part.h, "z": part.z, "kl": kl[f"kl_{i + 1}"][:, list(part.ticks)], **found}.items():
            torch.testing.assert_close(x, steps[name], msg=lambda text, name=name, i=i: f"{name} {i}: {text}")
        p, q = (torch.distributions.Normal(*moments[name]) for name in ("posterior", "prior"))
        torch.testing.assert_close(steps["kl"], torch.distributions.kl_divergence(p, q).sum(-1))


def functional(dynamics: ClockworkDynamics, seen: Any) -> Tensor:
    kl = sum(term.sum() for term in dynamics.kl(seen, None, 0.0).values())
    return kl + seen.features.square().sum()


def plain_functional(want: list[dict[str, Tensor]]) -> Tensor:
    kl = sum(level["kl"].sum() for level in want)
    return kl + want[0]["h"].square().sum() + want[0]["z"].square().sum()


def assert_equal_gradients(
    dynamics: ClockworkDynamics, loop: ClockworkLoop, embed: Tensor, total: Tensor, want: Tensor
) -> None:
    pairs = list(loop.pairs(dynamics))
    mine = torch.autograd.grad(total, [embed, *(source for source, _ in pairs)])
    theirs = torch.autograd.grad(want, [embed, *(target for _, targets in pairs for target in targets)])
    parts = iter(theirs)
    torch.testing.assert_close(mine[0], next(parts))
    for gradient, (_, targets) in zip(mine[1:], pairs, strict=True):
        torch.testing.assert_close(gradient, torch.cat([next(parts) for _ in targets]))


def test_the_shift_at_the_output_starts_the_deviation_at_one() -> None:
    dynamics = make(std_shift="output", sharp_start=False, min_std=1e-9)
    _, std = dynamics.levels[0].latent.moments(dynamics.levels[0].prior_out(torch.zeros(1, 6).double()))
    torch.testing.assert_close(std, torch.ones(1, 3).double(), rtol=0.01, atol=0.0)


@pytest.mark.parametrize(("factor", "number"), [(6, 120), (1, 300)])
def test_sequential_cell_steps_of_a_hundred_frames(factor: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dynamics, calls, step = make(factor=factor), [], PlainGRU.step
    monkeypatch.setattr(PlainGRU, "step", lambda self, x, state: calls.append(1) or step(self, x, state))
    part = inputs(dynamics, 100)
    _, state = dynamics.observe(Inputs(**part))
    assert len(calls) == number
    calls.clear()
    aligned = {**state, "phase": torch.zeros_like(state["phase"])}
    dynamics.imagine(part["action"], noise=part["noise"], state=aligned)
    assert len(calls) == number


LATER = [pytest.param(core, None, marks=pytest.mark.long) for core in ("gru", "s4d", "s5", "lru")]
"""Each keeps the laws of backbones, and is one of the kinds of the others."""
OF_STATES = None if LONG else (1, 3, 7, 8)
"""The laws on which another kind of state bears; the core itself is checked in tests/backbones/test_contract.py."""


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("core", "laws"), [("plain_gru", None), ("s4", OF_STATES), ("transformer_xl", OF_STATES), *LATER]
)
def test_levels_over_every_backbone_keep_the_laws(core: str, laws: tuple[int, ...] | None) -> None:
    small = core if laws is None else {"name": core, "layers": 1}
    check_dynamics(make(strides=[1, 2, 4], core=small), laws=laws)


@pytest.mark.no_cover
@pytest.mark.parametrize("core", ["plain_gru", pytest.param("s4", marks=pytest.mark.long)])
def test_levels_that_read_ahead_keep_the_laws(core: str) -> None:
    check_dynamics(make(strides=[1, 2, 4], core=core, windows="smoothing"))


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("strides", "variant"),
    [
        ([1], "2021"),
        ([1], "corrected"),
        ([1, 3, 3], "corrected"),
        pytest.param([1, 3, 3], "2021", marks=pytest.mark.long),
        pytest.param([1, 1], "2021", marks=pytest.mark.long),
        pytest.param([1, 1], "corrected", marks=pytest.mark.long),
    ],
)
def test_every_clock_and_variant_keeps_the_laws(strides: list[int], variant: str) -> None:
    check_dynamics(make(strides=strides, **VARIANTS[variant]))


@pytest.mark.no_cover
def test_actions_above_the_first_level_and_action_free_video_keep_the_laws() -> None:
    check_dynamics(make(actions_above=True))
    check_dynamics(make(action_dim=0, windows="smoothing"), laws=None if LONG else (1, 8))  # where an action goes in


@pytest.mark.no_cover
def test_categorical_levels_keep_the_laws() -> None:
    model = build_world_model("clockwork", "tiny", (1, 16, 16), 2)
    check_dynamics(model.dynamics.double())


@pytest.mark.no_cover
def test_single_precision_keeps_the_laws() -> None:
    check_dynamics(make().float())


STRIDES = [[1], [1, 1], [1, 2], [1, 3], [1, 2, 4], [1, 3, 3], [1, 3, 9], [1, 1, 4]]


@given(st.data(), st.sampled_from(STRIDES), st.sampled_from(["causal", "smoothing"]), st.integers(1, 4))
def test_episodes_begin_inside_where_all_levels_tick_and_are_read_as_if_alone(
    data: st.DataObject, strides: list[int], windows: str, periods: int
) -> None:
    dynamics = make(strides=strides, windows=windows)
    length = dynamics.period * periods + data.draw(st.integers(1, dynamics.period), label="rest")
    part, places = inputs(dynamics, length), range(0, length, dynamics.period)
    begins = [data.draw(st.sets(st.sampled_from(places)), label=f"row {row}") for row in range(B)]
    part["is_first"] = torch.tensor([[t in begins[row] for t in range(length)] for row in range(B)])
    _, carried = dynamics.observe(Inputs(**inputs(dynamics, 2 * dynamics.period)))
    seen, state = dynamics.observe(Inputs(**part), state=carried)
    kl = dynamics.kl(seen, None, 0.0)
    for row, starts in enumerate(begins):
        own, before = {name: x[row : row + 1] for name, x in part.items()}, tree.index(carried, slice(row, row + 1))
        edges = sorted({0, *starts, length})
        for start, stop in itertools.pairwise(edges):
            alone, before = dynamics.observe(
                Inputs(**window(own, start, stop)), state=None if start in starts else before
            )
            for name in ("h", "z", "prior", "posterior"):
                torch.testing.assert_close(getattr(seen, name)[row : row + 1, start:stop], getattr(alone, name))
            for name, term in dynamics.kl(alone, None, 0.0).items():
                torch.testing.assert_close(kl[name][row : row + 1, start:stop], term)
        assert_same_state(tree.index(state, slice(row, row + 1)), before)


@given(st.data(), st.sampled_from([s for s in STRIDES if s[-1] > 1]), st.sampled_from(["causal", "smoothing"]))
def test_an_episode_that_begins_where_not_all_levels_tick_is_refused(
    data: st.DataObject, strides: list[int], windows: str
) -> None:
    dynamics = make(strides=strides, windows=windows)
    part, period = inputs(dynamics, 3 * dynamics.period), dynamics.period
    t = data.draw(st.sampled_from([t for t in range(1, 3 * period) if t % period]), label="column")
    part["is_first"][data.draw(st.integers(0, B - 1), label="row"), t] = True
    with pytest.raises(ValueError, match=rf"column {t}, {t % period} steps after all levels ticked"):
        dynamics.observe(Inputs(**part))


def assert_same_state(left: Any, right: Any) -> None:
    for a, b in zip(tree.leaves(left), tree.leaves(right), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("windows", ["causal", "smoothing"])
def test_imagination_does_not_depend_on_where_the_observing_was_cut(windows: str) -> None:
    dynamics = make(windows=windows)
    part = inputs(dynamics, 11)
    _, whole = dynamics.observe(Inputs(**part))
    _, first = dynamics.observe(Inputs(**window(part, 0, 4)))
    _, second = dynamics.observe(Inputs(**window(part, 4, 11)), state=first)
    action, noise = part["action"], part["noise"]
    left, right = (dynamics.imagine(action, noise=noise, state=state) for state in (whole, second))
    torch.testing.assert_close(left[0], right[0])
    torch.testing.assert_close(left[1], right[1])


@torch.no_grad()
def test_imagination_follows_its_actions_and_the_state_of_the_levels_above() -> None:
    dynamics = make(factor=4)
    part = inputs(dynamics, 6)
    _, state = dynamics.observe(Inputs(**part))
    plain = dynamics.imagine(part["action"], noise=part["noise"], state=state)[0]
    other = dynamics.imagine(part["action"] + 1, noise=part["noise"], state=state)[0]
    above = {**state, "above": tree.map_tree(lambda x: x + 1, state["above"])}
    moved = dynamics.imagine(part["action"], noise=part["noise"], state=above)[0]
    assert float((other - plain).abs().amax((0, 2)).min()) > 1e-6
    assert float((moved - plain).abs().amax((0, 2))[0]) > 1e-6


def test_rows_at_different_phases_are_refused() -> None:
    dynamics = make()
    _, state = dynamics.observe(Inputs(**inputs(dynamics, 3)))
    state["phase"][0] = 1
    part = inputs(dynamics, 3)
    part["is_first"][:] = False
    calls: list[Callable[[], Any]] = [
        lambda: dynamics.observe(Inputs(**part), state=state),
        lambda: dynamics.imagine(part["action"], noise=None, state=state),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"different phases of the clock, \[1, 3\] steps"):
            call()


def test_free_bits_are_those_of_the_whole_stride_at_its_tick() -> None:
    dynamics = make(factor=3)
    seen, _ = dynamics.observe(Inputs(**inputs(dynamics, 9)))
    kl = dynamics.kl(seen, 0.8, 1e6)
    for i, stride in enumerate((1, 3, 9)):
        want = torch.zeros(B, 9, dtype=torch.float64)
        want[:, ::stride] = 1e6 * stride
        torch.testing.assert_close(kl[f"kl_{i + 1}"], want)


def test_balance_splits_the_gradient_of_every_level_and_its_absence_does_not() -> None:
    dynamics = make()
    seen, _ = dynamics.observe(Inputs(**inputs(dynamics, 8)))
    for i, part in enumerate(seen.levels):
        ends = (part.posterior, part.prior)
        parts = [
            torch.autograd.grad(dynamics.kl(seen, balance, 0.0)[f"kl_{i + 1}"].sum(), ends, retain_graph=True)
            for balance in (None, 0.8)
        ]
        torch.testing.assert_close(parts[1][0], 0.2 * parts[0][0])
        torch.testing.assert_close(parts[1][1], 0.8 * parts[0][1])


@torch.no_grad()
def test_the_published_variant_starts_from_kerass_weights_and_the_corrected_one_sharp() -> None:
    published, corrected = (make(units=64, **VARIANTS[name]) for name in VARIANTS)
    for level in published.levels:
        for layer in (level.input, level.prior_hidden, level.posterior_hidden, level.posterior_second):
            limit = (6 / sum(layer.weight.shape)) ** 0.5
            assert 0.8 * limit < float(layer.weight.abs().max()) <= limit
            assert not layer.bias.any()
        means, raws = level.posterior_out.weight.chunk(2)
        assert float(torch.stack([means.abs().max(), raws.abs().max()]).min()) > 0.8 * (6 / sum(means.shape)) ** 0.5
    for dynamics, sharp in ((published, False), (corrected, True)):
        seen, _ = dynamics.observe(Inputs(**inputs(dynamics, 8)))
        for level, part in zip(dynamics.levels, seen.levels, strict=True):
            _, std = level.latent.moments(part.posterior)
            assert (float(std.max()) < 0.4) is sharp


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": "both"}, "ClockworkConfig.windows: expected one of causal, smoothing"),
        ({"std_shift": "both"}, "ClockworkConfig.std_shift"),
        ({"min_std": 0.0}, "ClockworkConfig.min_std"),
        ({"level_units": 0}, "ClockworkConfig.level_units"),
        ({"strides": [1, 2, 3]}, "a multiple of the one below"),
        ({"levels": 0}, "levels >= 1"),
        ({"levels": 2, "strides": [1, 2, 12]}, "levels=2, but strides=.* are those of 3 levels; drop one"),
        ({"width": 0}, "ClockworkConfig.width: expected at least 1"),
        ({"core_size": "huge"}, "core_size: expected one of tiny, small"),
        ({"core": None}, "core: expected a backbone's name, or a mapping"),
        ({"core": {"layers": 2}}, "core: expected a backbone's name, or a mapping"),
        ({"core": {"name": 3}}, "core: expected a backbone's name, or a mapping"),
        ({"core": "s5x"}, "Unknown backbone 's5x'"),
        ({"core": "clockwork"}, "core: 'clockwork' is a dynamics"),
        ({"core": {"name": "s4", "leyers": 2}}, "core: S4Config does not take"),
    ],
)
def test_bad_options_are_refused_with_advice(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_core_takes_options_by_name() -> None:
    core = make(core={"name": "s4", "layers": 3}).levels[2].core
    assert core.config.layers == 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_prior_levels_alone_follow_their_priors(variant: str) -> None:
    """The others infer from the same frames, given what the prior levels drew; without any it is the ordinary pass."""
    dynamics = make(levels=3, **VARIANTS[variant])
    part = inputs(dynamics, 9)
    plain, _ = dynamics.observe(Inputs(**part))
    none, _ = dynamics.observe(Inputs(**part), prior_levels=[])
    assert torch.equal(none.features, plain.features)
    seen, _ = dynamics.observe(Inputs(**part), prior_levels=[2])
    kl = dynamics.kl(seen, None, 0.0)
    assert not kl["kl_2"].any()
    assert bool((kl["kl_1"] > 0).all())
    assert torch.equal(seen.levels[2].z, plain.levels[2].z)
    assert not torch.equal(seen.levels[0].posterior, plain.levels[0].posterior)
    other = part | {"embed": torch.randn_like(part["embed"])}
    top_down, _ = dynamics.observe(Inputs(**other), prior_levels=[2, 3])
    again, _ = dynamics.observe(Inputs(**part), prior_levels=[2, 3])
    for i in (1, 2):
        assert torch.equal(top_down.levels[i].z, again.levels[i].z)
    assert not torch.equal(top_down.levels[0].z, again.levels[0].z)


@pytest.mark.parametrize("variant", VARIANTS)
def test_with_every_level_on_its_prior_observing_is_imagining_from_the_start(variant: str) -> None:
    dynamics = make(levels=3, **VARIANTS[variant])
    part = inputs(dynamics, 11)
    seen, state = dynamics.observe(Inputs(**part), prior_levels=[1, 2, 3])
    action = part["action"] * ~part["is_first"].unsqueeze(-1)
    h, z, imagined = dynamics.imagine(action, noise=part["noise"], state=dynamics.initial_state(B))
    torch.testing.assert_close(seen.h, h)
    torch.testing.assert_close(seen.z, z)
    for name in ("phase", "levels", "above"):
        for a, b in zip(tree.leaves(state[name]), tree.leaves(imagined[name]), strict=True):
            torch.testing.assert_close(a, b)


class FollowsOnePrior(ClockworkDynamics):
    def observe(self, *args: Any, **kwargs: Any) -> Any:
        return super().observe(*args, **kwargs, prior_levels=[2])


@pytest.mark.parametrize("variant", [pytest.param("2021", marks=pytest.mark.long), "corrected"])
def test_a_prior_level_breaks_no_law_but_leaves_its_posterior_without_a_gradient(variant: str) -> None:
    """Cuts, resets, causality, rows, state and imagination are as for levels that infer."""
    dynamics = make(levels=3, **VARIANTS[variant] | {"top_context": False})
    dynamics.__class__ = FollowsOnePrior
    broken = {law.number: law for law in examine_dynamics(dynamics) if not law.kept}
    assert set(broken) == {5}
    assert "posterior" in str(broken[5].shown)


def test_a_prior_level_that_is_not_there_is_refused() -> None:
    dynamics = make(levels=2)
    with pytest.raises(ValueError, match=r"prior_levels: expected levels from 1, the bottom one, to 2, got \[0, 3\]"):
        dynamics.observe(Inputs(**inputs(dynamics, 4)), prior_levels=[0, 3])
