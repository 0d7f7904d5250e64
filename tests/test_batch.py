"""`Batch` and `Batch.of`: what is filled in, and what would be broadcast, misread or learnt from in silence."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wmkit import Batch, build_world_model
from wmkit.data import check_batch

SHAPE = (3, 16, 16)


def image(rows: int = 2, length: int = 6) -> Tensor:
    return torch.randint(0, 256, (rows, length, *SHAPE), dtype=torch.uint8)


def make_batch(rows: int = 2, length: int = 6, **changes: Any) -> Batch:
    return dataclasses.replace(Batch.of(image(rows, length), torch.randn(rows, length, 2)), **changes)


@pytest.mark.reported(
    "shapes",
    "RLinf/RLinf#1568, pytorch/rl#1243",
    "a `Batch` whose reward, `mask` or another flag is (B, T, 1), as other libraries give them",
    "`ValueError` with both shapes: `squeeze(-1)`",
)
@pytest.mark.parametrize("name", ["reward", "is_first", "is_terminal", "mask"])
@pytest.mark.parametrize(("rows", "length"), [(1, 8), (8, 8), (2, 6)])
def test_what_is_one_number_per_step_has_no_third_axis(name: str, rows: int, length: int) -> None:
    batch = make_batch(rows, length)
    wanted = re.escape(f"Batch.{name}: expected (B, T) = ({rows}, {length}) as in image, got ({rows}, {length}, 1)")
    with pytest.raises(ValueError, match=wanted + r"; take the last axis off by squeeze\(-1\)"):
        dataclasses.replace(batch, **{name: getattr(batch, name).unsqueeze(-1)})


@pytest.mark.reported(
    "shapes",
    "RLinf/RLinf#1568, pytorch/rl#1243",
    "the reward's loss for a `Batch` made by hand, one row or as many as steps",
    "half of the squared error of each step, and no other pair of them",
)
@pytest.mark.parametrize("rows", [1, 8])
def test_the_reward_loss_pairs_each_step_with_its_own_reward(rows: int) -> None:
    model = build_world_model("gru", "tiny", SHAPE, 2, reward_head=True)
    batch = Batch.of(image(rows, 8), torch.randn(rows, 8, 2), torch.arange(8.0 * rows).reshape(rows, 8))
    noise = model.draw_noise(rows, 8)
    with torch.no_grad():
        out = model.loss(batch, None, noise)
        seen, _ = model.observe(batch.image, batch.action, batch.is_first, noise=noise)
        predicted = model.predict_reward(seen.features).tolist()
    errors = [[(predicted[row][t] - (8 * row + t)) ** 2 / 2 for t in range(8)] for row in range(rows)]
    torch.testing.assert_close(out.terms["reward"], torch.tensor(errors), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(out.total, sum(term.sum() for term in out.terms.values()) / (8 * rows))


@pytest.mark.reported("shapes", "", "a `Batch` whose action is (B, T), or (B, T, A, 1)", "`ValueError`, both shapes")
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 2, 1), (6, 2, 2), (2, 5, 2)])
def test_actions_of_a_batch_have_three_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Batch.action: expected \(B, T, A\) = \(2, 6, A\) as in image, got"):
        make_batch(action=torch.zeros(shape))


@pytest.mark.reported("shapes", "", "a `Batch` of another action width than the model's", "`ValueError`, both numbers")
def test_a_batch_of_another_action_width_is_refused_by_the_model() -> None:
    model = build_world_model("gru", "tiny", SHAPE, 3)
    with pytest.raises(ValueError, match=r"action: expected .* \(2, 6, 3\), got \(2, 6, 2\).*action_dim=3"):
        model.loss(make_batch())


@pytest.mark.reported(
    "shapes", "", "`Batch.extras` of other rows or steps than the images", "`ValueError`, both shapes"
)
@pytest.mark.parametrize("shape", [(3, 6), (2, 5, 2), (2,), ()])
def test_extras_are_as_long_as_the_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"Batch.extras\['reward'\]: expected \(B, T, ...\) = \(2, 6, ...\) as in image, got"
    ):
        make_batch(extras={"reward": torch.zeros(shape)})


@pytest.mark.reported(
    "shapes", "", "NumPy arrays or lists in a `Batch`", "`ValueError`: a tensor; `Batch.of` takes both"
)
@pytest.mark.parametrize("value", [np.zeros((2, 6), np.float32), [[0.0] * 6] * 2, None])
def test_a_batch_holds_tensors(value: Any) -> None:
    with pytest.raises(ValueError, match=r"Batch.reward: expected a tensor, got a (numpy.ndarray|list|NoneType)"):
        make_batch(reward=value)


@pytest.mark.reported("shapes", "", "flags of a `Batch` as 0 and 1", "`ValueError`: bool, `x != 0`")
@pytest.mark.parametrize("name", ["is_first", "is_terminal", "mask"])
def test_flags_are_bools(name: str) -> None:
    with pytest.raises(ValueError, match=rf"Batch.{name}: expected torch.bool, got torch.float32; write x != 0"):
        make_batch(**{name: torch.ones(2, 6)})


@pytest.mark.reported("shapes", "", "tensors of a `Batch` on different devices", "`ValueError`, both devices")
def test_a_batch_is_on_one_device() -> None:
    with pytest.raises(ValueError, match=r"Batch.reward: it is on meta, image on cpu"):
        make_batch(reward=torch.zeros(2, 6, device="meta"))


@pytest.mark.reported(
    "shapes",
    "pytorch/rl#4128, NM512/dreamerv3-torch#14",
    "`inner_reset=False` in a `Batch` where an episode begins at t >= 1",
    "`ValueError`, row and step, from `check_batch` as from `loss`",
)
def test_a_flag_that_contradicts_the_marks_is_refused_with_row_and_step() -> None:
    batch = make_batch()
    batch.is_first[1, 4] = True
    with pytest.raises(ValueError, match=r"inner_reset=False, but is_first is True in row 1 at t = 4"):
        check_batch(batch)
    check_batch(dataclasses.replace(batch, inner_reset=True))


@pytest.mark.reported(
    "shapes", "", "padding before steps of its episode (padded on the left)", "`ValueError`, row and step"
)
def test_padding_before_the_steps_of_an_episode_is_refused() -> None:
    batch = make_batch()
    batch.mask[1, :3] = False
    with pytest.raises(ValueError, match=r"mask is False in row 1 at t = 2 and True after it.*pad rows at their ends"):
        check_batch(batch)
    batch.is_first[1, 3] = True  # another episode in the same row: no padding enters it
    check_batch(dataclasses.replace(batch, inner_reset=True))


@pytest.mark.reported("shapes", "", "a `mask` that is False everywhere", "`ValueError`: nothing to learn")
def test_a_batch_of_padding_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="mask is False everywhere, there is nothing to learn"):
        check_batch(make_batch(mask=torch.zeros(2, 6, dtype=torch.bool)))


@pytest.mark.reported("shapes", "", "`Batch.of(image, action)`", "a `Batch` with everything else filled in")
def test_a_batch_is_made_of_images_and_actions() -> None:
    pixels, action = image(), torch.randn(2, 6, 2)
    batch = Batch.of(pixels, action)
    assert batch.image is pixels
    assert torch.equal(batch.action, action)
    assert not batch.reward.any()
    assert batch.is_first[:, 0].all()
    assert not batch.is_first[:, 1:].any()
    assert not batch.is_terminal.any()
    assert batch.mask.all()
    assert not batch.inner_reset
    assert batch.extras == {}
    model = build_world_model("gru", "tiny", SHAPE, 2, reward_head=True, continue_head=True)
    assert torch.isfinite(model.loss(batch).total)


@pytest.mark.reported(
    "shapes",
    "",
    "`Batch.of` with NumPy's float64, integers, lists, read-only or turned arrays",
    "the batch, in float32",
)
def test_a_batch_is_made_of_whatever_holds_numbers() -> None:
    pixels, action = image().numpy(), np.random.default_rng(0).normal(size=(2, 6, 2))
    reward = np.arange(12).reshape(2, 6)[:, ::-1]
    reward.flags.writeable = False
    batch = Batch.of(pixels[:, ::-1], action, reward, mask=np.ones((2, 6), bool), pos=action.astype(np.longdouble))
    assert (batch.image.numpy() == pixels[:, ::-1]).all()
    for value in (batch.action, batch.reward, batch.extras["pos"]):
        assert value.dtype == torch.float32
    assert batch.reward[0].tolist() == [5, 4, 3, 2, 1, 0]
    listed = Batch.of(pixels, action.tolist(), reward.tolist())
    assert torch.equal(listed.action, batch.action)
    assert torch.equal(Batch.of(pixels, torch.ones(2, 6, 2, dtype=torch.int64)).action, torch.ones(2, 6, 2))


def test_a_batch_made_of_marks_knows_whether_rows_reset_inside() -> None:
    marks = np.zeros((2, 6), bool)
    assert not Batch.of(image(), torch.zeros(2, 6, 2), is_first=marks).inner_reset
    marks[1, 3] = True
    assert Batch.of(image(), torch.zeros(2, 6, 2), is_first=marks).inner_reset


@pytest.mark.reported(
    "shapes",
    "",
    "`Batch.of` with channels last, float images, one row, numbers of actions",
    "`ValueError`: what to write",
)
@pytest.mark.reported(
    "shapes", "", "`Batch.of` with one action less than images, as environments give them", "`ValueError`: zeros first"
)
@pytest.mark.reported(
    "shapes", "", "`Batch.of` with NaN, rows of several lengths, complex numbers, text", "`ValueError`, by name"
)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": image().permute(0, 1, 3, 4, 2)}, r"yours looks like \(B, T, H, W, C\).*np.moveaxis"),
        ({"image": image() / 255}, r"Batch.image: expected torch.uint8 in 0..255, got torch.float32; pictures in"),
        ({"image": image().long()}, r"Batch.image: expected torch.uint8 in 0..255, got torch.int64; numbers in 0..255"),
        ({"image": image()[0]}, r"expected \(B, T, C, H, W\), got shape \(6, 3, 16, 16\); one row is image\[None\]"),
        ({"action": torch.zeros(2, 5, 2)}, r"\(2, 6, A\) as in image, got \(2, 5, 2\); .*put zeros before the first"),
        ({"image": 3}, r"expected \(B, T, C, H, W\), got shape \(\)"),
        ({"action": torch.zeros(2, 6, dtype=torch.int64)}, r"got numbers of actions \(2, 6\); .*one_hot\(action, A\)"),
        ({"action": [[0.0], [0.0, 1.0]]}, r"Batch.action: expected rows of one length; pad them and give mask"),
        ({"action": torch.full((2, 6, 2), torch.nan)}, r"action is nan in row 0 at t = 0"),
        ({"action": torch.zeros(2, 6, 2, dtype=torch.complex64)}, r"Batch.action: expected real numbers"),
        ({"reward": "high"}, r"Batch.reward: expected numbers, got a str of <U4"),
        ({"reward": np.zeros((2, 6, 1))}, r"Batch.reward: expected \(B, T\) = \(2, 6\) as in image, got \(2, 6, 1\)"),
        ({"is_first": torch.zeros(6, dtype=torch.bool)}, r"Batch.is_first: expected \(B, T\) = \(2, 6\)"),
        ({"is_terminal": np.zeros((2, 6))}, r"Batch.is_terminal: expected torch.bool, got torch.float32"),
        ({"mask": torch.zeros(2, 6, dtype=torch.bool)}, r"mask is False everywhere"),
        (
            {"pos": np.zeros((3, 6))},
            r"Batch.extras\['pos'\]: expected \(B, T, ...\) = \(2, 6, ...\) as in image, got \(3, 6\)",
        ),
        ({"extras": {"pos": 0}}, r"Batch.extras: expected numbers, got a dict of object"),
    ],
)
def test_what_makes_no_batch_is_refused_with_what_to_write(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Batch.of(**{"image": image(), "action": torch.zeros(2, 6, 2), **changes})
