"""Whole models in another precision: what must be float32 stays so inside, what comes out is the model's own."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from wmkit import Backbone, Batch, build_world_model, list_backbones
from wmkit.registry import get_entry
from wmkit.world_model import WorldModel

CASES: list[tuple[Any, dict[str, Any]]] = [
    (name, {"posterior": p}) for name in list_backbones("backbone") for p in ("factorized", "filtering")
]
CASES += [("s4", {"posterior": "full"}), ("clockwork", {})]


def make_batch(rows: int = 2, length: int = 7) -> Batch:
    is_first = torch.zeros(rows, length, dtype=torch.bool)
    is_first[:, 0] = is_first[0, 4] = True
    return Batch(
        image=torch.randint(0, 256, (rows, length, 3, 16, 16), dtype=torch.uint8),
        action=torch.randn(rows, length, 2),
        reward=torch.randn(rows, length),
        is_first=is_first,
        is_terminal=torch.zeros_like(is_first),
        mask=torch.ones_like(is_first),
        inner_reset=True,
    )


def assert_near(found: Tensor, expected: Tensor, allowed: float) -> None:
    found, expected = found.detach().double(), expected.detach().double()
    assert float((found - expected).abs().max()) <= allowed * float(expected.abs().max())


@pytest.mark.reported(
    "machines",
    "state-spaces/s4#138",
    "`model.half()`, `.to(torch.bfloat16)` or `.double()`, with every backbone",
    "observes, imagines and learns, near the same weights in double",
)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 0.08), (torch.float16, 0.01), (torch.float64, 1e-5)])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_model_converted_as_a_whole_observes_imagines_and_learns(
    name: str, options: dict[str, Any], dtype: torch.dtype, allowed: float
) -> None:
    # Gaussian latents: a categorical's sample flips where rounding decides between two classes.
    model = build_world_model(name, "tiny", (3, 16, 16), 2, latent="gaussian", reward_head=True, **options).to(dtype)
    exact = copy.deepcopy(model).double()  # of the weights as they were rounded
    batch, noise = make_batch(), model.draw_noise(2, 7)
    results = []
    for each in (model, exact):
        seen, state = each.observe(batch.image, batch.action, batch.is_first, noise=noise)
        future = each.imagine(batch.action, state, noise=noise)
        again, _ = each.observe(batch.image, batch.action, state=state, noise=noise)
        results.append([seen.h, seen.features, again.features, future.features, each.decode(future.features)])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == dtype
        assert_near(found, expected, allowed)
    loss, wanted = model.loss(batch, None, noise).total, exact.loss(batch, None, noise).total
    loss.backward()
    assert loss.dtype in (torch.float32, torch.float64)
    assert_near(loss, wanted, allowed / 4)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


class Wide(Backbone):
    """Its features come in double precision, whatever the model is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = width
        self.mix = torch.nn.Linear(width, width)

    def initial_state(self, batch_size: int) -> Tensor:
        return self.mix.weight.new_zeros(batch_size, self.feature_dim)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = 0.9 * state + self.mix(x)
        return state.double(), state


@pytest.mark.parametrize("posterior", ["factorized", "filtering", "full"])
def test_features_in_another_precision_than_the_models_are_refused_with_the_remedy(posterior: str) -> None:
    model = build_world_model(Wide(8), "tiny", (3, 16, 16), 2, posterior=posterior)
    message = r"Wide: its features are torch.float64, the model is torch.float32; return them .*features.to\(x.dtype\)"
    with pytest.raises(ValueError, match=message):
        model.observe(torch.rand(1, 2, 3, 16, 16), torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match=message):
        model.imagine(torch.zeros(1, 2, 2), model.initial_state(1))


@pytest.mark.parametrize("name", list_backbones("backbone"))
def test_a_backbone_in_half_precision_answers_in_it(name: str) -> None:
    config = get_entry(name).config.for_size("tiny")
    backbone = get_entry(name).cls(config.input_dim, config).bfloat16()
    x = torch.randn(2, 5, config.input_dim, dtype=torch.bfloat16)
    whole, state = backbone.scan(x)
    alone, _ = backbone.scan(x, return_state=False)
    last, _ = backbone.step(x[:, 0], state)
    assert {whole.dtype, alone.dtype, last.dtype} == {torch.bfloat16}
    assert_near(alone, whole, 0.05)


def test_a_model_that_is_converted_refuses_the_states_of_before() -> None:
    model: WorldModel = build_world_model("gru", "tiny", (3, 16, 16), 2)
    state = model.initial_state(2)
    with pytest.raises(ValueError, match="convert the state with the model"):
        model.bfloat16().imagine(torch.zeros(2, 1, 2), state)
