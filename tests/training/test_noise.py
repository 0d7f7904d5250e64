import torch

from wmkit.training.noise import TRAIN, VALID, step_generator


def test_noise_is_a_function_of_seed_step_and_stream() -> None:
    def draw(*key: int) -> torch.Tensor:
        return torch.randn(8, generator=step_generator(*key))

    first = draw(3, 7, TRAIN)
    torch.randn(5)
    assert torch.equal(first, draw(3, 7, TRAIN))
    for other in ((3, 8, TRAIN), (4, 7, TRAIN), (3, 7, VALID)):
        assert not torch.equal(first, draw(*other))
