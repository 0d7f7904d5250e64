"""One level of a hierarchy: latents over a backbone, driven by the level above, stepped at the level's own ticks.

    x_j = ReLU(W [z_{j-1}, c_j, a_j])           h_j, s_j = core(x_j, s_{j-1})
    p(z_j | h_j)      = head(ReLU(h_j))         one hidden layer
    q(z_j | h_j, e_j) = head(ReLU([h_j, e_j]))  two hidden layers

with c the output [z, h] of the level above at its last tick, a the actions and e the embedding of the level's window.
Only the h of both are shared between prior and posterior. What the state does not enter is computed for all ticks at
once: the shares of c, a and e in their layers, and after the loop every prior of `observe`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit import tree
from wmkit.backbones.base import Backbone, check_features
from wmkit.dynamics.clockwork.clock import repeat_to_ticks
from wmkit.dynamics.latents import Latent

LevelState = dict[str, Any]
"""{`core`: the backbone's state, `z`: (B, S) the last sample}."""

STD_SHIFT = 0.54
"""softplus(0.54) = 1: the shift that would start a standard deviation at 1 if it were added to the layer's output."""


@dataclasses.dataclass(frozen=True)
class LevelPass:
    """What a level gives at its n ticks of one call."""

    h: Tensor
    """(B, n, D) features of the backbone."""
    z: Tensor
    """(B, n, S) samples."""
    posterior: Tensor
    """(B, n, P) raw parameters of q."""
    prior: Tensor
    """(B, n, P) raw parameters of p."""
    ticks: tuple[int, ...]
    """The columns at which the level ticked."""


class ParameterHead(nn.Linear):
    """The raw parameters of a latent; of a Gaussian, [mean, raw] with a shift before or behind the layer of raw.

    `shift` is `input`: raw = V (y + 0.54) + b, as the released CW-VAE has it, at first a random number per latent;
    `output`: raw = V y + b + 0.54; `none`.
    """

    def __init__(self, units: int, latent: Latent, shift: str) -> None:
        super().__init__(units, latent.param_dim)
        self.shift, self.kinds = shift, latent.param_dim // latent.sample_dim

    def initialise(self) -> None:
        """Glorot-uniform, for a Gaussian's mean and raw apart as two layers would have it; no biases."""
        for rows in self.weight.chunk(self.kinds):
            nn.init.xavier_uniform_(rows)
        nn.init.zeros_(self.bias)

    def shifted_bias(self) -> Tensor:
        """The bias with the shift in it."""
        if self.shift == "none":
            return self.bias
        _, raw = self.weight.chunk(2)  # (S, units)
        shift = STD_SHIFT * raw.sum(1) if self.shift == "input" else torch.full_like(raw[:, 0], STD_SHIFT)
        return self.bias + torch.cat([torch.zeros_like(shift), shift])

    def forward(self, y: Tensor) -> Tensor:
        """(..., units) -> (..., P)."""
        return F.linear(y, self.weight, self.shifted_bias())


class Level(nn.Module):
    """Latents over one backbone; see the module's docstring for the equations."""

    def __init__(
        self,
        core: Backbone,
        latent: Latent,
        *,
        context_dim: int,
        action_dim: int,
        embed_dim: int,
        units: int,
        std_shift: str,
    ) -> None:
        super().__init__()
        self.core, self.latent = core, latent
        self.output_dim = latent.sample_dim + core.feature_dim
        self.input = nn.Linear(latent.sample_dim + context_dim + action_dim, core.input_dim)
        self.prior_hidden = nn.Linear(core.feature_dim, units)
        self.prior_out = ParameterHead(units, latent, std_shift)
        self.posterior_hidden = nn.Linear(core.feature_dim + embed_dim, units)
        self.posterior_second = nn.Linear(units, units)
        self.posterior_out = ParameterHead(units, latent, std_shift)
        self._widths = [latent.sample_dim, context_dim, action_dim]

    def initialise(self) -> None:
        """Glorot-uniform weights, no biases; the core brings its own."""
        for layer in (self.input, self.prior_hidden, self.posterior_hidden, self.posterior_second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.prior_out.initialise()
        self.posterior_out.initialise()

    def initial_state(self, batch_size: int) -> LevelState:
        """The core at its initial state, z = 0."""
        return {
            "core": self.core.initial_state(batch_size),
            "z": self.input.weight.new_zeros(batch_size, self.latent.sample_dim),
        }

    def input_bias(self, context: Tensor | None, parents: Sequence[int], action: Tensor | None) -> Tensor:
        """The share of all but z in the input layer, bias included: (B, n, I), or (1, n, I) without any.

        context (B, m, C): outputs of the level above, of which tick j takes number `parents[j]`; None is zeros.
        action (B, n, A) or None for a level that sees none.
        """
        _, of_context, of_action = torch.split(self.input.weight, self._widths, dim=1)
        bias = self.input.bias.expand(1, len(parents), -1)  # (1, n, I)
        if context is not None:
            bias = bias + repeat_to_ticks(F.linear(context, of_context), parents)  # (B, n, I)
        if action is not None:
            bias = bias + F.linear(action.to(of_action.dtype), of_action)  # sums are float32 at least
        return bias

    def prior(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., P)."""
        return self.prior_out(F.relu(self.prior_hidden(h)))

    def observe(
        self,
        input_bias: Tensor,
        embed: Tensor,
        noise: Sequence[Tensor | None],
        resets: Sequence[Tensor | None],
        ticks: Sequence[int],
        state: LevelState,
    ) -> tuple[LevelPass, LevelState]:
        """Posterior samples, tick by tick: input_bias (B, n, I), embed (B, n, E); per tick noise (B, noise_dim) | None.

        resets: per tick the rows (B,) bool that begin anew, or None.
        """
        of_h, of_embed = torch.split(self.posterior_hidden.weight, [self.core.feature_dim, embed.shape[-1]], dim=1)
        embed = embed.to(of_embed.dtype)  # sums are float32 at least
        from_embed = F.linear(embed, of_embed, self.posterior_hidden.bias)  # (B, n, U)
        head, bias = self.posterior_out.weight, self.posterior_out.shifted_bias()
        hs, zs, posteriors = [], [], []
        # x (B, I) and e (B, U) at one tick
        for x, e, epsilon, reset in zip(input_bias.unbind(1), from_embed.unbind(1), noise, resets, strict=True):
            h, core = self._advance(x, state, reset)  # (B, D)
            y = F.relu(self.posterior_second(F.relu(F.linear(h, of_h) + e)))  # (B, U)
            posterior = F.linear(y, head, bias)  # (B, P)
            z = self.latent.sample(posterior, epsilon).to(state["z"].dtype)  # (B, S)
            state = {"core": core, "z": z}
            hs.append(h)
            zs.append(z)
            posteriors.append(posterior)
        h, z, posterior = self._stack(hs, zs, posteriors, embed.shape[0])  # (B, n, ...)
        return LevelPass(h, z, posterior, self.prior(h), tuple(ticks)), state

    def observe_from_prior(
        self,
        input_bias: Tensor,
        noise: Sequence[Tensor | None],
        resets: Sequence[Tensor | None],
        ticks: Sequence[int],
        state: LevelState,
    ) -> tuple[LevelPass, LevelState]:
        """Prior samples in the place of `observe`: the prior stands for the posterior."""
        h, z, state = self.imagine(input_bias, noise, state, resets)
        prior = self.prior(h)
        return LevelPass(h, z, prior, prior, tuple(ticks)), state

    def imagine(
        self,
        input_bias: Tensor,
        noise: Sequence[Tensor | None],
        state: LevelState,
        resets: Sequence[Tensor | None] | None = None,
    ) -> tuple[Tensor, Tensor, LevelState]:
        """Prior samples: input_bias (B, n, I), per tick noise, rows to reset -> (h (B, n, D), z (B, n, S), state)."""
        hs, zs = [], []
        batch_size = state["z"].shape[0]
        resets = [None] * len(noise) if resets is None else resets
        for x, epsilon, reset in zip(input_bias.unbind(1), noise, resets, strict=True):  # x (B, I)
            h, core = self._advance(x, state, reset)  # (B, D)
            z = self.latent.sample(self.prior(h), epsilon).to(state["z"].dtype)  # (B, S)
            state = {"core": core, "z": z}
            hs.append(h)
            zs.append(z)
        h, z, _ = self._stack(hs, zs, [], batch_size)  # (B, n, ...)
        return h, z, state

    def _advance(self, input_bias: Tensor, state: LevelState, reset: Tensor | None) -> tuple[Tensor, Any]:
        """One tick of the core: from z, and input_bias (B, I); rows to reset begin anew."""
        if reset is not None:
            state = tree.where(reset, self.initial_state(reset.shape[0]), state)
        of_z = self.input.weight[:, : self.latent.sample_dim]
        h, core = self.core.step(F.relu(F.linear(state["z"], of_z) + input_bias), state["core"])
        return check_features(self.core, h, of_z), core

    def _stack(
        self, hs: list[Tensor], zs: list[Tensor], params: list[Tensor], batch_size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The lists along time; empty ones, of a level that does not tick in a call, too."""
        widths = (self.core.feature_dim, self.latent.sample_dim, self.latent.param_dim)
        empty = self.input.weight.new_zeros
        pairs = zip((hs, zs, params), widths, strict=True)
        h, z, p = (torch.stack(xs, 1) if xs else empty(batch_size, 0, width) for xs, width in pairs)
        return h, z, p
