"""The world model: loss terms, observe, imagine, decode, heads, and what it refuses."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wmkit import Batch, build_world_model, list_backbones, tree
from wmkit.dynamics.clockwork.config import ClockworkConfig
from wmkit.dynamics.latents import GaussianLatent
from wmkit.video_models import VtaConfig
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


@pytest.mark.reported("shapes", "", "images or actions of another shape than the model's", "`ValueError`, both shapes")
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


@pytest.mark.reported(
    "shapes", "pytorch/rl#903", "noise of other rows, steps or width than the inputs", "`ValueError`, both shapes"
)
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


@pytest.mark.reported(
    "shapes",
    "pytorch/rl#4128, NM512/dreamerv3-torch#14",
    "`loss` of a batch that says `inner_reset=False` and resets at t >= 1",
    "`ValueError`, where the batch is on the CPU",
)
def test_a_flag_that_contradicts_the_marks_of_first_steps_is_refused() -> None:
    batch = dataclasses.replace(with_inner_resets(make_batch()), inner_reset=False)
    with pytest.raises(ValueError, match=r"inner_reset=False, but is_first is True at some t >= 1"):
        make()(batch)


@pytest.mark.reported("shapes", "", "`Inputs` that do not fit together", "`ValueError`, both shapes")
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
    with pytest.raises(ValueError, match="context: expected at least 1, got 0"):
        make(backbone="clockwork").initial_state(2, context=0)


@pytest.mark.reported(
    "shapes", "Farama-Foundation/Minari#127", "actions as integers or float64", "the same features as from float32"
)
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


@pytest.mark.reported(
    "shapes",
    "state-spaces/mamba#743, pytorch/rl#903",
    "a state of another backbone, size, precision or device, or none at all",
    "`ValueError`, naming the leaf and both sides",
)
@pytest.mark.parametrize("backbone", ["gru", "s4", "transformer_xl", "clockwork"])
@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda model: model.initial_state(3), "of 3 rows, the inputs have 2 rows; tree.index"),
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


@pytest.mark.reported(
    "shapes",
    "state-spaces/mamba#743, pytorch/rl#903",
    "four plans from a state of one row, or one plan from four, with every backbone and the clockwork",
    "`ValueError`: `tree.repeat(state, 4)`, or `tree.index`; nothing is broadcast",
)
@pytest.mark.parametrize("backbone", [*list_backbones("backbone"), *list_backbones("dynamics")])
def test_a_state_of_other_rows_is_refused_with_the_call_that_makes_it_fit(backbone: str) -> None:
    model = make(backbone=backbone)
    one, image, action = observed_state(model, rows=1), torch.rand(4, 2, *SHAPE), torch.zeros(4, 2, 2)
    for refused in (
        lambda: model.imagine(action, one),
        lambda: model.observe(image, action, state=one),
        lambda: model.loss(make_batch(4, 2), one),
    ):
        with pytest.raises(ValueError, match=r"^state\['.*: of 1 row, the inputs have 4 rows; tree.repeat\(state, 4\)"):
            refused()
    four = tree.repeat(one, 4)
    with pytest.raises(ValueError, match=r"of 4 rows, the inputs have 1 row; tree.index\(state, rows\) .* chooses it"):
        model.imagine(action[:1], four)
    with pytest.raises(ValueError, match=r"of 4 rows, the inputs have 3 rows; tree.index\(state, rows\) .* them"):
        model.observe(image[:3], action[:3], state=four)
    model.imagine(action, four)
    model.imagine(action[:3], tree.index(four, slice(3)))


@pytest.mark.reported("shapes", "", "a state of other rows in a compiled `imagine`", "the same `ValueError`")
def test_a_compiled_call_refuses_a_state_of_other_rows() -> None:
    model = make().eval()
    imagine = torch.compile(model.imagine, backend="eager")
    with torch.no_grad(), pytest.raises(ValueError, match="of 1 row, the inputs have 4 rows"):
        imagine(torch.zeros(4, 1, 2), observed_state(model, rows=1))


def test_imagining_from_no_state_says_what_to_give() -> None:
    with pytest.raises(ValueError, match="give what observe returned, or initial_state"):
        make().imagine(torch.zeros(2, 2, 2), None)


@pytest.mark.reported(
    "shapes", "", "no rows or no steps (B = 0, T = 0, H = 0)", "`ValueError`: a row and a step at least"
)
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


@pytest.mark.reported(
    "shapes",
    "jsikyoon/dreamer-torch#11",
    "float images in 0..255 or [-1, 1], or with NaN",
    "`ValueError` with the range that came, on the CPU; a GPU is not waited for",
)
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


@pytest.mark.reported(
    "shapes", "", "NumPy arrays in `observe`, `imagine`, `decode` and the heads", "`ValueError`: `torch.as_tensor`"
)
def test_arrays_are_refused_by_name_wherever_tensors_are_read() -> None:
    model = make(reward_head=True, continue_head=True)
    image, action, state = torch.rand(2, 3, *SHAPE), torch.zeros(2, 3, 2), model.initial_state(2)
    marks, noise, features = np.zeros((2, 3), bool), model.draw_noise(2, 3).numpy(), np.zeros((2, model.feature_dim))
    for name, call in (
        ("image", lambda: model.observe(image.numpy(), action)),
        ("action", lambda: model.observe(image, action.numpy())),
        ("is_first", lambda: model.observe(image, action, marks)),
        ("noise", lambda: model.observe(image, action, noise=noise)),
        ("action", lambda: model.imagine(action.numpy(), state)),
        ("noise", lambda: model.imagine(action, state, noise=noise)),
        ("features", lambda: model.decode(features)),
        ("features", lambda: model.predict_reward(features)),
        ("features", lambda: model.predict_continue(features)),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: expected a tensor, got a numpy.ndarray; torch.as_tensor"):
            call()
    with pytest.raises(ValueError, match=r"^state.*: expected a tensor, got a ndarray"):
        model.imagine(action, tree.map_tree(lambda leaf: leaf.detach().numpy(), state))


@pytest.mark.reported("shapes", "", "inputs on another device than the model", "`ValueError`, both devices")
def test_inputs_on_another_device_are_refused_by_name() -> None:
    model = make()
    image, action, marks = torch.rand(2, 3, *SHAPE), torch.zeros(2, 3, 2), torch.zeros(2, 3, dtype=torch.bool)
    for name, call in (
        ("image", lambda: model.observe(image.to("meta"), action)),
        ("action", lambda: model.observe(image, action.to("meta"))),
        ("is_first", lambda: model.observe(image, action, marks.to("meta"))),
        ("noise", lambda: model.observe(image, action, noise=model.draw_noise(2, 3).to("meta"))),
        ("action", lambda: model.imagine(action.to("meta"), model.initial_state(2))),
        ("image", lambda: model.loss(make_batch().to("meta"))),
        ("features", lambda: model.decode(torch.zeros(2, model.feature_dim, device="meta"))),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: it is on meta, the model on cpu; move one of the two by .to"):
            call()


@pytest.mark.reported(
    "shapes", "", "`decode` and heads on features of another width or type", "`ValueError`, both sides"
)
@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 160), (), (80, 2)])
def test_features_of_another_model_are_refused(shape: tuple[int, ...]) -> None:
    model = make(reward_head=True, continue_head=True)
    for read in (model.decode, model.predict_reward, model.predict_continue):
        with pytest.raises(ValueError, match=r"features: expected \(..., F\) with F = 80, .* as observe and imagine"):
            read(torch.zeros(shape))
        with pytest.raises(ValueError, match=r"features: expected torch.float32 as the model's weights, got"):
            read(torch.zeros(2, 80, dtype=torch.float64))


@pytest.mark.reported("shapes", "", "`decode` of no features", "no frames, (0, C, H, W)")
def test_no_features_decode_to_no_frames() -> None:
    assert make().decode(torch.zeros(3, 0, 80)).shape == (3, 0, *SHAPE)
    with pytest.raises(ValueError, match="chunk: expected at least 1, got 0"):
        make().decode(torch.zeros(2, 80), chunk=0)


@pytest.mark.reported("shapes", "", "`frames=[]`, frames out of range or given twice", "`ValueError`: different steps")
@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.tensor([], dtype=torch.int64), r"frames: expected \(K,\) int64 with K >= 1, got \(0,\)"),
        (torch.tensor([1.0]), r"frames: expected \(K,\) int64 .* of torch.float32"),
        (torch.tensor([[1]]), r"frames: expected \(K,\) int64 .* got \(1, 1\)"),
        ([1], "frames: expected a tensor, got a list"),
        (torch.tensor([6]), r"frames: expected different steps from 0 to 5, got \[6\]"),
        (torch.tensor([-1]), r"frames: expected different steps from 0 to 5, got \[-1\]"),
        (torch.tensor([2, 2]), r"frames: expected different steps from 0 to 5, got \[2, 2\]"),
    ],
)
def test_frames_to_decode_are_different_steps(frames: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().loss(make_batch(), frames=frames)


@pytest.mark.reported(
    "shapes",
    "Farama-Foundation/Minari#127",
    "numbers of actions (B, T) where one-hot is read",
    "`ValueError`: `one_hot`",
)
@pytest.mark.reported("shapes", "", "complex actions", "`ValueError`; their imaginary part was dropped")
def test_numbers_of_actions_and_complex_actions_are_refused() -> None:
    model, image = make(), torch.rand(2, 3, *SHAPE)
    for call in (lambda a: model.observe(image, a), lambda a: model.imagine(a, model.initial_state(2))):
        with pytest.raises(ValueError, match=r"got \(2, 3\); one-hot .* torch.nn.functional.one_hot\(action, 2\)"):
            call(torch.zeros(2, 3, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"action: expected real numbers, got torch.complex64"):
            call(torch.zeros(2, 3, 2, dtype=torch.complex64))


@pytest.mark.reported(
    "messages",
    "",
    "a dict as a batch, `decode(seen)`, `imagine(state, action)`, `observe(image, action, state)`, a seed as generator",
    "`ValueError`: what to give",
)
@pytest.mark.reported("shapes", "", "whole numbers as noise", "`ValueError`: floats, as `draw_noise` gives them")
def test_things_in_the_place_of_others_are_refused_with_what_to_give() -> None:
    model, batch = make(reward_head=True), make_batch()
    seen, state = model.observe(batch.image, batch.action)
    future = model.imagine(batch.action, state)
    for call, message in (
        (lambda: model.loss(vars(batch)), r"batch: expected a wmkit.Batch, got a dict; Batch.of makes one"),
        (lambda: model.decode(seen), r"features: expected a tensor, got an Observed; give its .features"),
        (lambda: model.predict_reward(future), r"features: expected a tensor, got an Imagined; give its .features"),
        (lambda: model.imagine(state, batch.action), r"action: expected a tensor, got a dict$"),
        (lambda: model.imagine(batch.action, (seen, state)), r"state: not one of this model, it lacks state\['backb"),
        (lambda: model.imagine(batch.action, future), r"state: not one of this model, it lacks state\['backbone'\]"),
        (
            lambda: model.observe(batch.image, batch.action, state),
            r"is_first: expected \(B, T\) bool, got a dict; a state is given by name",
        ),
        (lambda: model.draw_noise(2, 6, 0), r"generator: expected a torch.Generator, got 0; .*manual_seed"),
        (
            lambda: model.imagine(batch.action, state, noise=torch.ones(2, 6, 8, dtype=torch.int64)),
            r"noise: expected .* = \(2, 6, 8\) floats, as draw_noise gives it, got \(2, 6, 8\) of torch.int64",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.reported("shapes", "", "`initial_state` or `draw_noise` of -1 or 2.5 rows", "`ValueError`: a whole number")
def test_numbers_of_rows_are_whole() -> None:
    model = make()
    for rows, message in ((0, "at least 1, got 0"), (-1, "at least 1, got -1"), (2.5, "a whole number of at least 1")):
        with pytest.raises(ValueError, match=f"batch_size: expected {message}"):
            model.initial_state(rows)
    with pytest.raises(ValueError, match=r"context: expected a whole number of at least 1, got 2.5"):
        model.initial_state(2, context=2.5)
    for size in ((2.5, 3), (2, -1)):
        with pytest.raises(ValueError, match=r"(batch_size|length): expected .*at least 0"):
            model.draw_noise(*size)


@pytest.mark.reported(
    "shapes", "", "inputs that are strided, or that want gradients", "the same features; gradients reach the inputs"
)
@pytest.mark.parametrize("backbone", ["gru", "s4", "transformer_xl", "clockwork"])
def test_strided_inputs_and_inputs_with_gradients_are_read_as_any_other(backbone: str) -> None:
    model = make(backbone=backbone).eval()
    image, action, noise = torch.rand(2, 4, *SHAPE), torch.randn(2, 4, 2), model.draw_noise(2, 4)
    plain, state = model.observe(image, action, noise=noise)

    def last_to_first(x: Tensor) -> Tensor:
        return x.transpose(0, -1).contiguous().transpose(0, -1)

    wanting = [last_to_first(x).requires_grad_() for x in (image, action)]
    assert not any(x.is_contiguous() for x in wanting)
    seen, _ = model.observe(*wanting, noise=last_to_first(noise))
    torch.testing.assert_close(seen.features, plain.features)
    future = model.imagine(last_to_first(action), tree.map_tree(last_to_first, state), noise=noise)
    torch.testing.assert_close(future.features, model.imagine(action, state, noise=noise).features)
    seen.h.square().sum().backward()
    assert all(x.grad is not None and float(x.grad.abs().sum()) > 0 for x in wanting)


class Method(torch.nn.Module):
    """A method of a model as a module, which is what can be exported; gives features alone."""

    def __init__(self, model: WorldModel, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, first: Tensor, second: Any, **keywords: Any) -> Tensor:
        found = getattr(self.model, self.name)(first, second, **keywords)
        return (found[0] if isinstance(found, tuple) else found).features


@pytest.mark.reported(
    "machines",
    "Eclectic-Sheep/sheeprl#261, pytorch/rl#4268, pytorch/pytorch#59246, #173169",
    "`torch.export` of `observe`, with a state and without, and of an imagined step",
    "the same features from the exported program",
)
@torch.no_grad()
def test_observing_and_an_imagined_step_can_be_exported() -> None:
    model = make().eval()
    image, action = make_batch(2, 3).image, torch.randn(2, 3, 2)
    _, state = model.observe(image, action)
    for name, inputs, keywords in (
        ("observe", (image, action), {}),
        ("observe", (image, action), {"state": state}),
        ("imagine", (action[:, :1], state), {}),
    ):
        method = Method(model, name)
        program = torch.export.export(method, inputs, keywords, strict=False)
        torch.testing.assert_close(program.module()(*inputs, **keywords), method(*inputs, **keywords))


@pytest.mark.reported(
    "machines",
    "Eclectic-Sheep/sheeprl#261, pytorch/rl#4268, pytorch/pytorch#59246, #173169",
    "`torch.export` of an imagined step of the clockwork, whose phase decides which levels tick",
    "`ValueError`: export `observe` without a state, or use `torch.compile`",
)
@torch.no_grad()
def test_an_imagined_step_of_the_clockwork_is_not_exported() -> None:
    model = make(backbone="clockwork").eval()
    image, action, state = make_batch(2, 3).image, torch.zeros(2, 1, 2), model.initial_state(2)
    for name, inputs, keywords in (
        ("imagine", (action, state), {}),
        ("observe", (image, torch.zeros(2, 3, 2)), {"state": state}),
    ):
        with pytest.raises(ValueError, match=r"clockwork: which levels tick is read from state.*use torch.compile"):
            torch.export.export(Method(model, name), inputs, keywords, strict=False)


@pytest.mark.reported(
    "shapes",
    "",
    "gradients of a plan through a frozen model, after `inference_mode` was used for observing",
    "the derivatives, by finite differences, with every backbone",
)
@pytest.mark.parametrize("backbone", [*list_backbones("backbone"), *list_backbones("dynamics")])
def test_a_plan_has_its_gradients_through_a_frozen_model(backbone: str) -> None:
    model = make(backbone=backbone, latent="gaussian").double().eval().requires_grad_(False)
    with torch.inference_mode():
        model.imagine(torch.zeros(1, 2, 2), model.initial_state(1))
    state, noise = model.initial_state(1), model.draw_noise(1, 2).double()
    plan = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.imagine(x, state, noise=noise).features.sum(-1), (plan,))


@pytest.mark.parametrize("backbone", [name for name in list_backbones() if name != "vta"])
def test_states_of_every_step_are_those_after_it(backbone: str) -> None:
    model = make(backbone=backbone).eval()
    batch = with_inner_resets(make_batch()) if backbone != "clockwork" else make_batch()
    noise = model.draw_noise(2, 6)
    read = batch.image, batch.action, batch.is_first
    whole, _ = model.observe(*read, noise=noise)
    for wanted in (True, [1, 4]):
        seen, states = model.observe(*read, noise=noise, return_states=wanted)
        torch.testing.assert_close(seen.features, whole.features)
        for k, step in enumerate(range(6) if wanted is True else wanted):
            _, state = model.observe(*(x[:, : step + 1] for x in read), noise=noise[:, : step + 1])
            one = tree.map_tree(lambda leaf, k=k: leaf[:, k], states)
            torch.testing.assert_close(
                model.dynamics.comparable_state(one), model.dynamics.comparable_state(state), check_dtype=False
            )
    rows = tree.flatten(model.observe(*read, noise=noise, return_states=[0, 5])[1])
    assert all(leaf.shape[0] == 4 for leaf in tree.leaves(rows))


@pytest.mark.parametrize(
    "ahead",
    [ClockworkConfig(windows="smoothing", levels=2, factor=3), VtaConfig(width=4, latent_size=2, window=3)],
    ids=["clockwork", "vta"],
)
def test_dynamics_that_read_ahead_have_states_where_they_can_be_cut(ahead: Any) -> None:
    model, batch = make(backbone=ahead).eval(), make_batch(length=9)
    period = model.dynamics.period
    assert period == 3
    seen, states = model.observe(batch.image, batch.action, return_states=True)
    torch.testing.assert_close(seen.features, model.observe(batch.image, batch.action)[0].features)
    for k, step in enumerate((3, 6, 9)):
        _, state = model.observe(batch.image[:, :step], batch.action[:, :step])
        one = tree.map_tree(lambda leaf, k=k: leaf[:, k], states)
        torch.testing.assert_close(one, state)
    with pytest.raises(ValueError, match=f"each before a multiple of {period}"):
        model.observe(batch.image, batch.action, return_states=[0])


@pytest.mark.parametrize("wanted", [[], [3, 1], [1, 1], [6], [-1]])
def test_steps_whose_states_are_wanted_exist_and_rise(wanted: Any) -> None:
    batch = make_batch()
    with pytest.raises(ValueError, match="return_states"):
        make().observe(batch.image, batch.action, return_states=wanted)


@pytest.mark.parametrize("backbone", ["gru", "s4", "transformer_xl", "clockwork", "svg_lp", "vta"])
def test_a_policy_is_followed_as_its_actions_are_and_has_gradients_through_the_dream(backbone: str) -> None:
    model, batch = make(backbone=backbone).eval(), make_batch()
    seen, state = model.observe(batch.image, batch.action)
    weights = (torch.randn(model.feature_dim, 2) / model.feature_dim**0.5).requires_grad_()
    noise = model.draw_noise(2, 4)
    dream = model.imagine(
        policy=lambda x: torch.tanh(x @ weights), horizon=4, state=state, features=seen.features[:, -1], noise=noise
    )
    assert dream.action.shape == (2, 4, 2)
    torch.testing.assert_close(dream.action[:, 0], torch.tanh(seen.features[:, -1] @ weights))
    torch.testing.assert_close(dream.action[:, 2], torch.tanh(dream.features[:, 1] @ weights))
    again = model.imagine(dream.action, state, noise=noise)
    torch.testing.assert_close(dream.features, again.features)
    torch.autograd.backward(dream.features[:, -1].square().sum())
    assert weights.grad is not None
    assert weights.grad.abs().sum() > 0


def test_imagining_takes_actions_or_a_policy_with_all_that_it_needs() -> None:
    model, batch = make(), make_batch()
    seen, state = model.observe(batch.image, batch.action)
    features = seen.features[:, -1]

    def policy(x: Tensor) -> Tensor:
        return x[:, :2]

    for options, message in (
        ({"action": torch.zeros(2, 3, 2), "policy": policy}, "got both"),
        ({}, r"expected action \(B, H, A\); or policy="),
        ({"action": torch.zeros(2, 3, 2), "horizon": 3}, r"expected action \(B, H, A\); or policy="),
        ({"policy": policy, "horizon": 3}, "with a policy give horizon=, and state="),
        ({"policy": policy, "horizon": 3, "features": seen.features}, r"features: expected \(B, F\) of one step"),
        ({"policy": policy, "horizon": 0, "features": features}, "horizon"),
        ({"policy": lambda x: x[:, :1], "horizon": 2, "features": features}, "action: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            model.imagine(state=state, **options)  # type: ignore[arg-type]


def test_recomputed_networks_give_the_same_loss_and_gradients_and_keep_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmkit.world_model.PIECE", 6)
    plain, again = (make(recompute=recompute).double() for recompute in (False, True))
    again.load_state_dict(plain.state_dict())
    batch, noise = make_batch(2, 7), plain.draw_noise(2, 7).double()
    kept: dict[bool, int] = {}
    for model in (plain, again):
        sizes: list[int] = []

        def keep(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(0 if x.is_leaf and x.requires_grad else x.nbytes)  # weights are kept anyway
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = model.loss(batch, noise=noise).total
        loss.backward()
        kept[model is again] = sum(sizes)
    torch.testing.assert_close(plain.loss(batch, noise=noise).total, again.loss(batch, noise=noise).total)
    for (name, one), two in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, msg=lambda text, name=name: f"{name}: {text}")
    assert kept[True] < 0.6 * kept[False]  # the rest is the backbone's
    with torch.no_grad():
        assert torch.equal(plain.loss(batch, noise=noise).total, again.loss(batch, noise=noise).total)
