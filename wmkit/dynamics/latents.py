"""Stochastic latents: their parameters, how noise becomes a sample, and the KL between two of them.

Noise is an argument, one row of `noise_dim` numbers per latent, so that the same noise gives the same sample however
the sequence was cut, whether it was observed in parallel or step by step, and on however many processes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit.config import ModelConfig


class Latent(nn.Module, ABC):
    """A family of distributions over z; `params` (..., param_dim) are raw network outputs."""

    param_dim: int
    sample_dim: int
    noise_dim: int

    @abstractmethod
    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Noise (*lead, noise_dim) for `sample`, on the CPU."""

    @abstractmethod
    def sample(self, params: Tensor, noise: Tensor | None) -> Tensor:
        """Samples z (..., sample_dim), differentiable in `params`; without noise the mode or mean."""

    @abstractmethod
    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """KL(left || right) in nats, summed over the latent: (...,)."""

    @abstractmethod
    def entropy(self, params: Tensor) -> Tensor:
        """Entropy in nats, summed over the latent: (...,)."""

    def start_sharp(self, out: nn.Linear) -> None:
        """Initialise the posterior's last layer for little noise, where the family's default has too much of it."""


class CategoricalLatent(Latent):
    """`groups` one-hot vectors of `classes` each, straight-through gradients (Hafner et al. 2021, DreamerV2).

        p = (1 - unimix) softmax(params) + unimix / classes        z = onehot(k) + p - sg(p),  k ~ p

    k is drawn by inverting the cumulative distribution at one uniform number per group.
    """

    def __init__(self, groups: int, classes: int, unimix: float = 0.01) -> None:
        super().__init__()
        self.groups, self.classes, self.unimix = groups, classes, unimix
        self.param_dim = self.sample_dim = groups * classes
        self.noise_dim = groups

    def probabilities(self, params: Tensor) -> Tensor:
        """(..., groups, classes), in float32 or better: (..., param_dim) -> mixed probabilities."""
        logits = params.reshape(*params.shape[:-1], self.groups, self.classes)
        softmax = single_or_better(logits).softmax(-1)
        return (1 - self.unimix) * softmax + self.unimix / self.classes

    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Uniform numbers in [0, 1)."""
        return torch.rand(*lead, self.noise_dim, generator=generator, device="cpu")

    def sample(self, params: Tensor, noise: Tensor | None) -> Tensor:
        """One-hot samples, flattened."""
        p = self.probabilities(params)
        with torch.no_grad():
            if noise is None:
                k = p.argmax(-1)
            else:  # the number of classes whose cumulative probability lies at or below the noise
                k = (p.cumsum(-1) <= noise.unsqueeze(-1)).sum(-1).clamp(max=self.classes - 1)
            onehot = F.one_hot(k, self.classes).to(p.dtype)
        return (onehot + p - p.detach()).flatten(-2)

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """KL = sum p (ln p - ln q)."""
        p, q = self.probabilities(left), self.probabilities(right)
        return (p * (_log(p) - _log(q))).sum((-2, -1))

    def entropy(self, params: Tensor) -> Tensor:
        """H = - sum p ln p."""
        p = self.probabilities(params)
        return -(p * _log(p)).sum((-2, -1))


class GaussianLatent(Latent):
    """Diagonal Gaussian: params = [mean, raw], std = softplus(raw) + min_std, z = mean + std * noise."""

    def __init__(self, size: int, min_std: float = 0.1) -> None:
        super().__init__()
        self.min_std = min_std
        self.param_dim, self.sample_dim, self.noise_dim = 2 * size, size, size

    def moments(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, std), each (..., size), in float32 or better."""
        mean, raw = single_or_better(params).chunk(2, dim=-1)
        return mean, self.deviation(raw)

    def deviation(self, raw: Tensor) -> Tensor:
        """The standard deviation (..., size) of raw numbers (..., size)."""
        return F.softplus(raw) + self.min_std

    @torch.no_grad()
    def start_sharp(self, out: nn.Linear) -> None:
        """Start `out`, the posterior's last layer, at std = softplus(-2) + min_std = 0.23 for every input.

        At std = 0.8 the decoder at first sees only noise, and learning stalls at walls without colour:
        docs/decisions.md#a-sharp-posterior-and-a-quiet-decoder.
        """
        _, raw = out.weight.chunk(2)
        raw.mul_(0.1)
        out.bias.chunk(2)[1].fill_(-2.0)

    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*lead, self.noise_dim, generator=generator, device="cpu")

    def sample(self, params: Tensor, noise: Tensor | None) -> Tensor:
        """Reparametrised samples."""
        mean, std = self.moments(params)
        return mean if noise is None else mean + std * noise

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """KL = sum (r^2 + d^2 - 1) / 2 - ln r, r = s_p / s_q, d = (m_p - m_q) / s_q."""
        (m_p, s_p), (m_q, s_q) = self.moments(left), self.moments(right)
        ratio, distance = s_p / s_q, (m_p - m_q) / s_q
        return (0.5 * (ratio.square() + distance.square() - 1) - ratio.log()).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """H = sum ln s + (1 + ln 2 pi) / 2."""
        _, std = self.moments(params)
        return (std.log() + 0.5 * (1 + math.log(2 * math.pi))).sum(-1)


def single_or_better(x: Tensor) -> Tensor:
    """x in float32, or in its own type where that is wider: whatever autocast made of it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _log(p: Tensor) -> Tensor:
    """The logarithm of p, finite at 0: without unimix a softmax can underflow, and 0 ln 0 is 0, not NaN."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()


def build_latent(config: ModelConfig, min_std: float = 0.1) -> Latent:
    """The latent that a model's config asks for; `min_std` is the smallest standard deviation of a Gaussian."""
    if config.latent == "gaussian":
        return GaussianLatent(config.latent_size, min_std)
    assert config.latent == "categorical", f"no latent is called {config.latent!r}"
    return CategoricalLatent(config.groups, config.classes, config.unimix)


def balanced_kl(latent: Latent, posterior: Tensor, prior: Tensor, balance: float | None, free_bits: float) -> Tensor:
    """KL_balanced = balance KL(sg q || p) + (1 - balance) KL(q || sg p), each at least `free_bits` nats: (...,).

    The gradient moves the prior towards the posterior `balance / (1 - balance)` times as fast as the other way round
    (DreamerV2, section 2; S4WM appendix, balance 0.8). `balance=None` is the plain KL(q || p) of the evidence lower
    bound, whose gradient is that of both at full strength.
    """
    if balance is None:
        return latent.kl(posterior, prior).clamp(min=free_bits)
    towards_posterior = latent.kl(posterior.detach(), prior).clamp(min=free_bits)
    towards_prior = latent.kl(posterior, prior.detach()).clamp(min=free_bits)
    return balance * towards_posterior + (1 - balance) * towards_prior
