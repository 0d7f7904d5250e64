"""The predictors without a model."""

import pytest
import torch

from wmkit.evaluation.baselines import copy_last_frame, mean_image, other_random_frame


def numbered_frames(rows: int, length: int) -> torch.Tensor:
    """Frame (b, t) is constant, 20 b + t."""
    values = 20 * torch.arange(rows)[:, None] + torch.arange(length)
    return values.to(torch.uint8)[:, :, None, None, None].expand(-1, -1, 3, 4, 4)


def test_mean_image_is_the_mean_over_rows_and_times():
    image = numbered_frames(2, 3)  # 0 1 2 20 21 22
    torch.testing.assert_close(mean_image(image), torch.full((3, 4, 4), 11 / 255))


def test_copy_is_the_last_context_frame_at_every_step():
    copies = copy_last_frame(numbered_frames(2, 9), context=5, horizon=3)
    assert copies.shape == (2, 3, 3, 4, 4)
    assert copies[:, :, 0, 0, 0].tolist() == [[4] * 3, [24] * 3]


@pytest.mark.parametrize("rows", [2, 5])
def test_other_frame_is_never_of_the_same_episode(rows):
    generator = torch.Generator().manual_seed(1)
    frames = other_random_frame(numbered_frames(rows, 10), horizon=200, generator=generator)
    values = frames[:, :, 0, 0, 0].int()
    assert frames.shape == (rows, 200, 3, 4, 4)
    assert not (values // 20 == torch.arange(rows)[:, None]).any()
    assert set((values[0] // 20).tolist()) == set(range(1, rows))  # each other episode is used,
    assert set((values % 20).unique().tolist()) == set(range(10))  # at each time


def test_other_frame_is_fixed_by_the_generator():
    def draw(seed: int) -> torch.Tensor:
        return other_random_frame(numbered_frames(4, 10), 6, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_other_frame_needs_another_episode():
    with pytest.raises(ValueError, match="at least 2 episodes"):
        other_random_frame(numbered_frames(1, 5), 2, torch.Generator())
