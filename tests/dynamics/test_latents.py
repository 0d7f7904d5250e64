"""Latents: samples, KL and entropy against torch.distributions, noise as the only randomness."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as td

from wmkit.dynamics.latents import CategoricalLatent, GaussianLatent, Latent, balanced_kl

LATENTS = {"categorical": CategoricalLatent(4, 8), "gaussian": GaussianLatent(6)}


def as_distribution(latent: Latent, params: torch.Tensor) -> td.Distribution:
    if isinstance(latent, CategoricalLatent):
        return td.Independent(td.Categorical(probs=latent.probabilities(params)), 1)
    assert isinstance(latent, GaussianLatent)
    return td.Independent(td.Normal(*latent.moments(params)), 1)


@pytest.mark.parametrize("name", LATENTS)
def test_kl_and_entropy_equal_torch_distributions(name: str) -> None:
    latent = LATENTS[name]
    left, right = torch.randn(2, 3, 5, latent.param_dim, dtype=torch.float64)
    p, q = as_distribution(latent, left), as_distribution(latent, right)
    torch.testing.assert_close(latent.kl(left, right), td.kl_divergence(p, q))
    torch.testing.assert_close(latent.entropy(left), p.entropy())
    torch.testing.assert_close(latent.kl(left, left), torch.zeros(3, 5, dtype=torch.float64))


@given(seed=st.integers(0, 10**6), groups=st.integers(1, 5), classes=st.integers(2, 9))
def test_categorical_samples_follow_their_probabilities(seed: int, groups: int, classes: int) -> None:
    latent = CategoricalLatent(groups, classes)
    generator = torch.Generator().manual_seed(seed)
    params = torch.randn(latent.param_dim, generator=generator)
    number = 4000
    noise = latent.draw_noise((number,), generator)
    z = latent.sample(params.expand(number, -1), noise).unflatten(-1, (groups, classes))
    torch.testing.assert_close(z.sum(-1), torch.ones(number, groups))
    assert (z.mean(0) - latent.probabilities(params)).abs().max() < 0.05


def test_unimix_keeps_every_class_possible() -> None:
    latent = CategoricalLatent(2, 4, unimix=0.01)
    params = torch.tensor([100.0, 0, 0, 0, -100.0, 0, 0, 0])
    assert latent.probabilities(params).min() >= 0.01 / 4 - 1e-9


def test_straight_through_sample_has_the_gradient_of_its_probabilities() -> None:
    latent = CategoricalLatent(3, 4)
    params = torch.randn(12, requires_grad=True)
    weight = torch.randn(12)
    (latent.sample(params, torch.rand(3)) @ weight).backward()
    through_sample = params.grad
    other = params.detach().requires_grad_()
    (latent.probabilities(other).flatten() @ weight).backward()
    torch.testing.assert_close(through_sample, other.grad)


def test_noise_of_one_takes_the_last_class_and_none_takes_the_mode() -> None:
    latent = CategoricalLatent(1, 4, unimix=0.0)
    params = torch.tensor([0.0, 2.0, 0.0, 0.0])
    assert latent.sample(params, torch.tensor([1.0])).argmax() == 3
    assert latent.sample(params, None).argmax() == 1


def test_gaussian_without_noise_gives_the_mean() -> None:
    latent = GaussianLatent(3)
    params = torch.randn(2, 6)
    torch.testing.assert_close(latent.sample(params, None), params[:, :3])


@pytest.mark.parametrize("name", LATENTS)
def test_same_generator_state_gives_the_same_noise(name: str) -> None:
    latent = LATENTS[name]
    first, second = (latent.draw_noise((2, 3), torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.shape == (2, 3, latent.noise_dim)
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", LATENTS)
def test_kl_balance_splits_the_gradient_between_prior_and_posterior(name: str) -> None:
    latent = LATENTS[name]
    posterior, prior = torch.randn(2, latent.param_dim, requires_grad=True).unbind()
    whole = torch.autograd.grad(latent.kl(posterior, prior), (posterior, prior))
    parts = torch.autograd.grad(balanced_kl(latent, posterior, prior, 0.8, 0.0), (posterior, prior))
    torch.testing.assert_close(parts[0], 0.2 * whole[0])
    torch.testing.assert_close(parts[1], 0.8 * whole[1])
    torch.testing.assert_close(balanced_kl(latent, posterior, prior, 0.8, 0.0), latent.kl(posterior, prior))


def test_free_bits_stop_the_gradient_of_a_small_kl() -> None:
    latent = GaussianLatent(2)
    posterior = torch.zeros(4, requires_grad=True)
    loss = balanced_kl(latent, posterior, torch.zeros(4) + 0.01, 0.8, 1.0)
    assert loss.item() == pytest.approx(1.0)
    assert torch.equal(torch.autograd.grad(loss, posterior)[0], torch.zeros(4))


def test_classes_that_underflow_to_zero_without_unimix_cost_nothing() -> None:
    latent = CategoricalLatent(1, 3, unimix=0.0)
    sure = torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
    loss = latent.kl(sure, sure.detach()) + latent.entropy(sure)
    (gradient,) = torch.autograd.grad(loss.sum(), sure)
    torch.testing.assert_close(loss, torch.zeros(1))
    assert gradient.isfinite().all()


def test_gaussian_entropy_is_exact_in_double_precision() -> None:
    latent = GaussianLatent(2)
    mean, std = latent.moments(torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(
        latent.entropy(torch.zeros(4).double()), td.Normal(mean, std).entropy().sum(), rtol=1e-14, atol=0.0
    )
