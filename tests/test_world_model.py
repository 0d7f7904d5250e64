"""The world model: loss terms, observe, imagine, decode, heads, and what it refuses."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from wmkit import Batch, build_world_model, tree
from wmkit.dynamics.latents import GaussianLatent
from wmkit.world_model import WorldModel

SHAPE = (3, 16, 16)


def make(**options: Any) -> WorldModel:
    return build_world_model(options.pop("backbone", "gru"), "tiny", SHAPE, 2, **options)


def make_batch(batch_size: int = 2, length: int = 6) -> Batch:
    is_first = torch.zeros(batch_size, length, dtype=torch.bool)
    is_first[:, :1] = True
    return Batch(
        image=torch.randint(0, 256, (batch_size, length, *SHAPE), dtype=torch.uint8),
        action=torch.randn(batch_size, length, 2),
        reward=torch.randn(batch_size, length),
        is_first=is_first,
        is_terminal=torch.zeros_like(is_first),
        mask=torch.ones_like(is_first),
        inner_reset=False,
    )


def with_inner_resets(batch: Batch) -> Batch:
    """The batch with an episode that begins at t = 3 in row 0 and others at t = 4, 5 in row 1."""
    batch.is_first[[0, 1, 1], [3, 4, 5]] = True
    return dataclasses.replace(batch, inner_reset=True)


def test_every_loss_term_is_batch_by_time_and_the_total_is_their_mean_over_steps_that_count() -> None:
    model = make(reward_head=True, continue_head=True, posterior="factorized")
    batch = make_batch()
    out = model(batch, None, model.draw_noise(2, 6))
    assert set(out.terms) == {"image", "kl", "reward", "continue"}
    assert all(term.shape == (2, 6) for term in out.terms.values())
    torch.testing.assert_close(out.total, sum(term.sum() for term in out.terms.values()) / (2 * 5))


@pytest.mark.parametrize(("first_step", "counted"), [("condition", False), ("model", True)])
def test_first_step_says_whether_an_episodes_first_observation_enters_the_loss(first_step: str, counted: bool) -> None:
    model, batch = make(first_step=first_step), with_inner_resets(make_batch())
    out = model(batch, None, model.draw_noise(2, 6))
    for term in (out.terms["image"], out.terms["kl"]):
        assert bool((term[batch.is_first] != 0).all()) is counted
        assert bool((term[batch.is_first] == 0).all()) is not counted
        assert bool((term[~batch.is_first] != 0).all())


def test_the_posterior_decides_whether_the_first_step_is_modelled() -> None:
    assert make(posterior="filtering").first_step == "model"
    assert make(posterior="factorized").first_step == "condition"


def test_padding_enters_neither_loss_nor_gradient() -> None:
    model = make(posterior="factorized")
    noise = model.draw_noise(2, 6)
    batch = make_batch()
    batch.mask[:, 4:] = False
    first = model(batch, None, noise)
    batch.image[:, 4:] = 255 - batch.image[:, 4:]
    second = model(batch, None, noise)
    torch.testing.assert_close(first.total, second.total)


def test_the_reward_loss_is_half_the_squared_error_times_its_scale() -> None:
    plain, heavy = make(reward_head=True), make(reward_head=True, reward_scale=10.0)
    heavy.load_state_dict(plain.state_dict())
    batch, noise = make_batch(), plain.draw_noise(2, 6)
    seen, _ = plain.observe(batch.image, batch.action, noise=noise)
    error = plain.predict_reward(seen.features) - batch.reward
    torch.testing.assert_close(plain(batch, None, noise).terms["reward"], 0.5 * error.square())
    torch.testing.assert_close(heavy(batch, None, noise).terms["reward"], 5.0 * error.square())
    torch.testing.assert_close(heavy(batch, None, noise).terms["kl"], plain(batch, None, noise).terms["kl"])


def test_first_steps_and_padding_have_no_reward_to_learn() -> None:
    model, batch = make(reward_head=True, continue_head=True, first_step="condition"), with_inner_resets(make_batch())
    batch.mask[1, 5:] = False
    out = model(batch, None, model.draw_noise(2, 6))
    counts = batch.mask & ~batch.is_first
    for name in ("reward", "continue"):
        assert torch.equal(out.terms[name] != 0, counts)


def test_the_continue_head_learns_that_a_terminal_step_is_the_last() -> None:
    model, batch = make(continue_head=True, first_step="model"), make_batch()
    batch.is_terminal[:, -1] = True
    noise = model.draw_noise(2, 6)
    seen, _ = model.observe(batch.image, batch.action, noise=noise)
    goes_on = model.predict_continue(seen.features)
    expected = torch.where(batch.is_terminal, -(1 - goes_on).log(), -goes_on.log())
    torch.testing.assert_close(model(batch, None, noise).terms["continue"], expected)


def test_a_model_without_a_reward_head_predicts_none() -> None:
    model = make()
    with pytest.raises(ValueError, match="reward_head"):
        model.predict_reward(torch.zeros(1, model.feature_dim))
    with pytest.raises(ValueError, match="predicts no ends"):
        model.predict_continue(torch.zeros(1, model.feature_dim))


def test_the_image_loss_is_half_the_squared_error_in_nll_and_all_of_it_in_sse() -> None:
    torch.manual_seed(1)
    half, whole = make(image_loss="nll"), make(image_loss="sse")
    whole.load_state_dict(half.state_dict())
    batch, noise = make_batch(), half.draw_noise(2, 6)
    left, right = half(batch, None, noise), whole(batch, None, noise)
    torch.testing.assert_close(2 * left.terms["image"], right.terms["image"])
    seen, _ = half.observe(batch.image, batch.action, batch.is_first, noise=noise)
    by_hand = (half.decode(seen.features) - batch.image / 255).square().sum((2, 3, 4))
    torch.testing.assert_close(right.terms["image"], by_hand * right.terms["image"].ne(0))


def test_decoding_some_frames_is_an_unbiased_estimate_of_decoding_all() -> None:
    model = make(posterior="factorized")
    batch, noise = make_batch(), model.draw_noise(2, 6)
    whole = model(batch, None, noise)
    parts = [model(batch, None, noise, frames=torch.tensor([t, t + 3])) for t in range(3)]
    torch.testing.assert_close(sum(part.total for part in parts) / 3, whole.total)
    torch.testing.assert_close(sum(part.terms["image"] for part in parts) / 3, whole.terms["image"])
    torch.testing.assert_close(parts[0].terms["kl"], whole.terms["kl"])


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("posterior", ["filtering", "factorized", "full"])
@pytest.mark.parametrize("backbone", ["gru", "s4", "s4d", "s5", "lru", "transformer_xl"])
def test_loss_in_windows_with_carried_state_equals_one_long_pass(backbone: str, posterior: str, resets: bool) -> None:
    model = make(backbone=backbone, posterior=posterior).double()
    batch = make_batch().map(lambda x: x.double() if x.is_floating_point() else x)
    batch = with_inner_resets(batch) if resets else batch
    noise = model.draw_noise(2, 6).double()
    whole = model(batch, None, noise)
    first = model(batch.window(0, 4), None, noise[:, :4])
    second = model(batch.window(4, 6), tree.detach(first.state), noise[:, 4:])
    for name, term in whole.terms.items():
        torch.testing.assert_close(torch.cat([first.terms[name], second.terms[name]], 1), term)


def test_gradients_reach_every_parameter() -> None:
    model = make(backbone="s4", reward_head=True, continue_head=True, posterior="full")
    model(make_batch(), None, model.draw_noise(2, 6)).total.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missing


def test_decoding_in_chunks_equals_decoding_at_once() -> None:
    model = make()
    features = torch.randn(2, 5, model.feature_dim)
    torch.testing.assert_close(model.decode(features, chunk=3), model.decode(features))


def test_observe_without_is_first_begins_an_episode_only_without_a_state() -> None:
    model = make().eval()
    batch, noise = make_batch(), model.draw_noise(2, 6)
    whole, _ = model.observe(batch.image, batch.action, noise=noise)
    named, _ = model.observe(batch.image, batch.action, batch.is_first, noise=noise)
    torch.testing.assert_close(whole.z, named.z)
    _, state = model.observe(batch.image[:, :3], batch.action[:, :3], noise=noise[:, :3])
    rest, _ = model.observe(batch.image[:, 3:], batch.action[:, 3:], state=state, noise=noise[:, 3:])
    torch.testing.assert_close(rest.h, whole.h[:, 3:])


@torch.no_grad()
def test_a_new_model_starts_from_grey_with_a_sharp_posterior_and_listens_to_z() -> None:
    model, batch = make(latent="gaussian", posterior="factorized"), make_batch()
    seen, _ = model.observe(batch.image, batch.action)
    assert isinstance(model.dynamics.latent, GaussianLatent)
    _, std = model.dynamics.latent.moments(seen.posterior)
    assert float(std.min()) > 0.18
    assert float(std.max()) < 0.3
    width = model.dynamics.backbone.feature_dim
    heard = model.decoder.project.weight.std(0)
    assert float(heard[:width].max()) < 0.2 * float(heard[width:].min())
    assert float((model.decode(seen.features) - 0.5).abs().max()) < 0.3


def test_imagination_uses_its_actions_and_continues_across_calls() -> None:
    model = make(backbone="s4").eval()
    batch = make_batch()
    _, state = model.observe(batch.image, batch.action, noise=model.draw_noise(2, 6))
    action, noise = torch.randn(2, 8, 2), model.draw_noise(2, 8)
    whole = model.imagine(action, state, noise=noise)
    first = model.imagine(action[:, :3], state, noise=noise[:, :3])
    second = model.imagine(action[:, 3:], first.state, noise=noise[:, 3:])
    torch.testing.assert_close(torch.cat([first.features, second.features], 1), whole.features)
    other = model.imagine(action.flip(0), state, noise=noise)
    assert (other.features - whole.features).abs().max() > 1e-4


def test_action_free_video_has_an_action_axis_of_width_zero() -> None:
    model = build_world_model("gru", "tiny", SHAPE, 0).eval()
    image = torch.rand(2, 4, *SHAPE)
    _, state = model.observe(image, torch.zeros(2, 4, 0))
    assert model.imagine(torch.zeros(2, 5, 0), state).features.shape == (2, 5, model.feature_dim)


def test_bf16_autocast_keeps_losses_in_float32() -> None:
    model = make(backbone="s4")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(make_batch(), None, model.draw_noise(2, 6))
    assert out.total.dtype == torch.float32
    out.total.backward()


@pytest.mark.parametrize(
    ("image", "action", "message"),
    [
        ((2, 4, 3, 20, 20), (2, 4, 2), r"image: expected .* \(3, 16, 16\)"),
        ((2, 4, 16, 16, 3), (2, 4, 2), "image: expected"),
        ((2, 4, *SHAPE), (2, 4, 3), "action_dim=2"),
        ((2, 4, *SHAPE), (2, 3, 2), "action: expected"),
    ],
)
def test_wrong_shapes_are_refused_with_both_sides_named(image: Any, action: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().observe(torch.zeros(image, dtype=torch.uint8), torch.zeros(action))


@pytest.mark.parametrize("shape", [(1, 4, 8), (2, 3, 8), (2, 4, 1)], ids=["rows", "steps", "width"])
def test_noise_that_would_be_shared_by_broadcasting_is_refused(shape: tuple[int, ...]) -> None:
    model, action = make(), torch.zeros(2, 4, 2)
    with pytest.raises(ValueError, match=r"noise: expected .* \(2, 4, 8\)"):
        model.observe(torch.zeros(2, 4, *SHAPE), action, noise=torch.rand(shape))
    with pytest.raises(ValueError, match=r"noise: expected .* \(2, 4, 8\)"):
        model.imagine(action, model.initial_state(2), noise=torch.rand(shape))


@pytest.mark.parametrize("is_first", [torch.zeros(2, 4), torch.zeros(2, 3, dtype=torch.bool)])
def test_marks_of_first_steps_are_bools_of_the_images_leading_axes(is_first: Tensor) -> None:
    with pytest.raises(ValueError, match=r"is_first: expected \(B, T\) = \(2, 4\) bool"):
        make().observe(torch.zeros(2, 4, *SHAPE), torch.zeros(2, 4, 2), is_first)


def test_a_flag_that_contradicts_the_marks_of_first_steps_is_refused() -> None:
    batch = dataclasses.replace(with_inner_resets(make_batch()), inner_reset=False)
    with pytest.raises(ValueError, match=r"inner_reset=False, but is_first is True at some t >= 1"):
        make()(batch)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("embed", torch.zeros(2, 6)),
        ("action", torch.zeros(2, 5, 2)),
        ("noise", torch.zeros(6, 2, 3)),
        ("mask", torch.ones(2, 6)),
        ("is_first", torch.zeros(2, 5, dtype=torch.bool)),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(field: str, value: Tensor) -> None:
    inputs = make().encode(make_batch())
    with pytest.raises(ValueError, match=rf"{field}: expected \(B, T"):
        dataclasses.replace(inputs, **{field: value})


@pytest.mark.parametrize(("backbone", "length"), [("gru", 6), ("s4", 6), ("clockwork", 5)])
@torch.no_grad()
def test_a_context_is_read_as_an_episode_from_its_start(backbone: str, length: int) -> None:
    """With `is_first` or without; five steps are as long as the clock's period and one more: it needs no other."""
    model, batch = make(backbone=backbone).eval(), make_batch().window(0, length)
    noise, action = model.draw_noise(2, length), batch.action * ~batch.is_first.unsqueeze(-1)
    plain, _ = model.observe(batch.image, action, noise=noise)
    for marks in (None, batch.is_first):
        state = model.initial_state(2, context=length)
        seen, _ = model.observe(batch.image, action, marks, state=state, noise=noise)
        torch.testing.assert_close(seen.features, plain.features)


def test_a_context_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="context: expected at least 1 step, got 0"):
        make(backbone="clockwork").initial_state(2, context=0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_actions_come_in_any_number_type(dtype: torch.dtype) -> None:
    model, action = make().eval(), torch.eye(2).repeat(1, 2, 1)
    image = torch.rand(1, 4, *SHAPE)
    (plain, state), (typed, _) = model.observe(image, action), model.observe(image, action.to(dtype))
    assert torch.equal(typed.h, plain.h)
    assert torch.equal(model.imagine(action.to(dtype), state).features, model.imagine(action, state).features)


def test_integer_images_other_than_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        make().observe(torch.zeros(1, 1, *SHAPE, dtype=torch.int64), torch.zeros(1, 1, 2))


def observed_state(model: WorldModel, rows: int = 2) -> Any:
    return model.observe(torch.rand(rows, 3, *SHAPE), torch.zeros(rows, 3, 2))[1]


def changed(state: Any, how: Any) -> Any:
    return tree.map_tree(lambda leaf: how(leaf) if leaf.is_floating_point() else leaf, state)


@pytest.mark.parametrize("backbone", ["gru", "s4", "transformer_xl", "clockwork"])
@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda model: model.initial_state(3), "expected 2 rows, as there are in the inputs, got 3"),
        (lambda model: observed_state(make(backbone="lru")), "(not one of this|the state of another) model"),
        (
            lambda model: changed(observed_state(model), Tensor.double),
            "expected torch.float32 as in initial_state, got",
        ),
        (lambda model: changed(observed_state(model), lambda x: x.to("meta")), "it is on meta, the model on cpu"),
        (lambda model: changed(observed_state(model), lambda x: x[..., :1]), "the state of another model"),
        (lambda model: [], "not one of this model, it lacks state"),
        (lambda model: 3, "not one of this model, it lacks state"),
    ],
)
def test_a_state_that_is_not_the_models_is_refused_with_the_leaf(backbone: str, of: Any, message: str) -> None:
    model = make(backbone=backbone)
    state, action = of(model), torch.zeros(2, 2, 2)
    with pytest.raises(ValueError, match=f"state.*{message}"):
        model.imagine(action, state)
    with pytest.raises(ValueError, match=f"state.*{message}"):
        model.observe(torch.rand(2, 2, *SHAPE), action, state=state)
    with pytest.raises(ValueError, match=f"state.*{message}"):
        model.loss(make_batch(2, 2), state)


def test_imagining_from_no_state_says_what_to_give() -> None:
    with pytest.raises(ValueError, match="give what observe returned, or initial_state"):
        make().imagine(torch.zeros(2, 2, 2), None)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_nothing_to_read_or_to_imagine_is_refused(shape: tuple[int, int]) -> None:
    model = make()
    image, action = torch.rand(*shape, *SHAPE), torch.zeros(*shape, 2)
    with pytest.raises(ValueError, match="image: expected a row and a step at least, got"):
        model.observe(image, action)
    with pytest.raises(ValueError, match="image: expected a row and a step at least, got"):
        model.loss(make_batch(*shape))
    with pytest.raises(ValueError, match=r"action: expected .* with a row and a step at least"):
        model.imagine(action, model.initial_state(4))


@pytest.mark.parametrize("values", [(0.0, 255.0), (-1.0, 1.0), (0.5, float("nan")), (0.0, float("inf"))])
@pytest.mark.parametrize("training", [True, False])
def test_float_images_outside_zero_to_one_are_refused(values: tuple[float, float], training: bool) -> None:
    model = make().train(training)
    image = torch.full((2, 3, *SHAPE), values[0])
    image[1, 2, 0, 3, 4] = values[1]
    with pytest.raises(ValueError, match=r"expected floats in \[0, 1\], got values from .*; give uint8"):
        model.observe(image, torch.zeros(2, 3, 2))
    with pytest.raises(ValueError, match="expected floats in"):
        model.loss(dataclasses.replace(make_batch(2, 3), image=image))


def test_a_picture_that_overshoots_by_rounding_is_taken() -> None:
    make().observe(torch.full((1, 2, *SHAPE), 1.004), torch.zeros(1, 2, 2))
