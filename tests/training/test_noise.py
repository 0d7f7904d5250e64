import pytest
import torch

from wmkit.training.runtime import TRAIN, VALID, draw_frames, step_generator


def test_noise_is_a_function_of_seed_step_and_stream() -> None:
    def draw(*key: int) -> torch.Tensor:
        return torch.randn(8, generator=step_generator(*key))

    first = draw(3, 7, TRAIN)
    torch.randn(5)
    assert torch.equal(first, draw(3, 7, TRAIN))
    for other in ((3, 8, TRAIN), (4, 7, TRAIN), (3, 7, VALID)):
        assert not torch.equal(first, draw(*other))


@pytest.mark.parametrize(("share", "count"), [(0.25, 16), (0.001, 1), (0.999, 64)])
def test_a_share_of_the_frames_is_sorted_and_without_repeats(share: float, count: int) -> None:
    frames = draw_frames(64, share, torch.Generator())
    assert frames is not None
    assert frames.tolist() == sorted(set(frames.tolist()))
    assert len(frames) == count
    assert set(frames.tolist()) <= set(range(64))


def test_the_whole_share_is_every_frame() -> None:
    assert draw_frames(64, 1.0, torch.Generator()) is None
