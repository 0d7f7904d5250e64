"""Shapes of public functions, as their docstrings give them, checked by jaxtyping and beartype in this file only.

The library itself carries no jaxtyping annotations: its import hook and `@triton.jit` do not mix, and users need none.
Each function below states the shapes and types of a public one and calls it.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import Bool, Complex, Float, TypeCheckError, UInt8, jaxtyped
from torch import Tensor

import wmkit_kernels
from wmkit import Backbone, WorldModel, build_world_model, list_backbones
from wmkit.dynamics import Latent, Observed
from wmkit.dynamics.latents import CategoricalLatent, GaussianLatent, balanced_kl
from wmkit.networks import ImageDecoder, ImageEncoder

shaped = jaxtyped(typechecker=beartype)
B, T, A, SHAPE = 2, 6, 3, (3, 16, 16)


@shaped
def scan(
    backbone: Backbone, x: Float[Tensor, "b t i"], is_first: Bool[Tensor, "b t"] | None
) -> tuple[Float[Tensor, "b t d"], Any]:
    return backbone.scan(x, None, is_first)


@shaped
def step(backbone: Backbone, x: Float[Tensor, "b i"], state: Any) -> tuple[Float[Tensor, "b d"], Any]:
    return backbone.step(x, state)


@shaped
def encode(encoder: ImageEncoder, image: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b t e"]:
    return encoder(image)


@shaped
def decode(decoder: ImageDecoder, features: Float[Tensor, "b t f"]) -> Float[Tensor, "b t c h w"]:
    return decoder(features)


@shaped
def sample(
    latent: Latent, params: Float[Tensor, "*lead p"], noise: Float[Tensor, "*lead n"]
) -> Float[Tensor, "*lead s"]:
    return latent.sample(params, noise)


@shaped
def kl(latent: Latent, left: Float[Tensor, "*lead p"], right: Float[Tensor, "*lead p"]) -> Float[Tensor, "*lead"]:
    return balanced_kl(latent, left, right, 0.8, 0.0)


@shaped
def observe(
    model: WorldModel,
    image: UInt8[Tensor, "b t c h w"],
    action: Float[Tensor, "b t a"],
    is_first: Bool[Tensor, "b t"],
    noise: Float[Tensor, "b t n"],
) -> tuple[Observed, Any]:
    return model.observe(image, action, is_first, noise=noise)


@shaped
def imagine(
    model: WorldModel, action: Float[Tensor, "b h a"], state: Any, noise: Float[Tensor, "b h n"]
) -> Float[Tensor, "b h f"]:
    return model.imagine(action, state, noise=noise).features


@shaped
def dplr_kernel(
    Lambda: Complex[Tensor, " n"],
    P: Complex[Tensor, " n"],
    B: Complex[Tensor, "*lead n"],
    C: Complex[Tensor, "h n"],
    dt: Float[Tensor, " h"],
    length: int,
) -> Float[Tensor, "*lead h length"]:
    return wmkit_kernels.dplr_kernel(Lambda, P, B, C, dt, length)


def first(batch_size: int = B, length: int = T) -> Tensor:
    is_first = torch.zeros(batch_size, length, dtype=torch.bool)
    is_first[:, 0] = True
    return is_first


@pytest.mark.parametrize("name", list_backbones("backbone"))
@pytest.mark.parametrize("resets", [False, True])
def test_backbones_map_sequences_to_sequences(name: str, resets: bool) -> None:
    backbone = build_world_model(name, "tiny", SHAPE, A).dynamics.backbone
    features, state = scan(backbone, torch.randn(B, T, backbone.input_dim), first() if resets else None)
    assert features.shape[-1] == backbone.feature_dim
    assert step(backbone, torch.randn(B, backbone.input_dim), state)[0].shape == (B, backbone.feature_dim)


def test_networks_map_images_to_features_and_back() -> None:
    image = torch.zeros(B, T, *SHAPE, dtype=torch.uint8)
    assert encode(ImageEncoder(SHAPE, 4), image).shape[:2] == (B, T)
    assert decode(ImageDecoder(7, SHAPE, 4), torch.randn(B, T, 7)).shape == (B, T, *SHAPE)


@pytest.mark.parametrize("latent", [CategoricalLatent(2, 3), GaussianLatent(4)], ids=["categorical", "gaussian"])
@pytest.mark.parametrize("lead", [(), (B,), (B, T)])
def test_latents_take_any_leading_axes(latent: Latent, lead: tuple[int, ...]) -> None:
    params = torch.randn(*lead, latent.param_dim)
    assert sample(latent, params, latent.draw_noise(lead)).shape == (*lead, latent.sample_dim)
    assert kl(latent, params, params.flip(-1)).shape == lead


@pytest.mark.parametrize("posterior", ["factorized", "filtering", "full"])
def test_world_models_observe_and_imagine(posterior: str) -> None:
    model = build_world_model("s4", "tiny", SHAPE, A, posterior=posterior)
    image = torch.zeros(B, T, *SHAPE, dtype=torch.uint8)
    seen, state = observe(model, image, torch.zeros(B, T, A), first(), model.draw_noise(B, T))
    assert seen.features.shape == (B, T, model.feature_dim)
    assert imagine(model, torch.zeros(B, 4, A), state, model.draw_noise(B, 4)).shape == (B, 4, model.feature_dim)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_dplr_kernels_keep_the_leading_axes_of_b(lead: tuple[int, ...]) -> None:
    n, h = 4, 3
    Lambda = torch.complex(-torch.ones(n), torch.randn(n))
    P, B_, C = (torch.randn(*axes, n, dtype=torch.complex64) for axes in ((), lead, (h,)))
    assert dplr_kernel(Lambda, P, B_, C, torch.full((h,), 0.1), 5).shape == (*lead, h, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: sample(GaussianLatent(4), torch.randn(B, 8), torch.randn(B + 1, 4)),
        lambda: kl(GaussianLatent(4), torch.randn(B, T, 8), torch.randn(B, 8)),
        lambda: encode(ImageEncoder(SHAPE, 4), torch.zeros(B, *SHAPE, dtype=torch.uint8)),
    ],
)
def test_the_checks_themselves_refuse_a_wrong_shape(wrong: Callable[[], Tensor]) -> None:
    with pytest.raises(TypeCheckError):
        wrong()
