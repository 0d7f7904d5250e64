"""One latent level over one backbone: posterior x backbone -> a model that observes and imagines.

    g_t = SiLU(LN(W [z_{t-1}, a_t]))    h_t, s_t = backbone(g_t, s_{t-1})    p(z_t | h_t) = head(h_t)

and the posterior is one of
    factorized   q(z_t | x_t)             = head(e_t)                    one scan, no step  (S4WM, TSSM)
    filtering    q(z_t | h_t, x_t)        = head([h_t, e_t])             step by step       (RSSM)
    full         q(z_t | x_<=t, a_<=t)    = head(backbone'([e, a])_t)    two scans          (S4WM-Full-Posterior)

with e_t the image embedding. At `is_first` the backbone is reset, z_{t-1} = 0 and a_t = 0; then comes the normal step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wmkit import tree
from wmkit.backbones.base import Backbone, ParameterGroup, PosteriorName, check_features
from wmkit.dynamics.base import Dynamics, Inputs, Observed
from wmkit.dynamics.latents import Latent, balanced_kl
from wmkit.networks.base import Head, NormLinear, initialise
from wmkit.networks.packed import packed

DynamicsState = dict[str, Any]
"""{`backbone`: state, `z`: (B, S), and for the full posterior `posterior`: its backbone's state}."""


class LatentDynamics(Dynamics):
    """Latents over a backbone; see the module's docstring for the equations."""

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        *,
        posterior: PosteriorName,
        embed_dim: int,
        action_dim: int,
        units: int,
        posterior_backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        assert (posterior == "full") == (posterior_backbone is not None), "the full posterior has its own backbone"
        self.backbone, self.latent, self.posterior_name = backbone, latent, posterior
        self.action_dim, self.embed_dim = action_dim, embed_dim
        self.input = NormLinear(latent.sample_dim + action_dim, backbone.input_dim)
        self.prior = Head(backbone.feature_dim, units, latent.param_dim)
        self.posterior_backbone, self.posterior_input = posterior_backbone, None
        posterior_dim = embed_dim
        if posterior == "filtering":
            posterior_dim += backbone.feature_dim
        if posterior_backbone is not None:
            self.posterior_input = NormLinear(embed_dim + action_dim, posterior_backbone.input_dim)
            posterior_dim = posterior_backbone.feature_dim
        self.posterior = Head(posterior_dim, units, latent.param_dim)
        self.memory_dim, self.noise_dim = backbone.feature_dim, latent.noise_dim
        self.feature_dim = backbone.feature_dim + latent.sample_dim
        self.first_step = "condition" if self.parallel else "model"

    @property
    def parallel(self) -> bool:
        """Whether observing takes scans only: a property of the posterior, not of the backbone."""
        return self.posterior_name != "filtering"

    def initialise(self) -> None:
        """DreamerV3's initial weights for everything but the backbones; then a sharp posterior.

        Why: docs/decisions.md#a-sharp-posterior-and-a-quiet-decoder.
        """
        for part in (self.input, self.prior, self.posterior, self.posterior_input):
            if part is not None:
                part.apply(initialise)
        self.latent.start_sharp(self.posterior.out)

    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """The latent's noise."""
        return self.latent.draw_noise(lead, generator)

    def kl(self, seen: Observed, balance: float | None, free_bits: float) -> dict[str, Tensor]:
        """One term, `kl`."""
        return {"kl": balanced_kl(self.latent, seen.posterior, seen.prior, balance, free_bits)}

    def entropies(self, seen: Observed) -> dict[str, Tensor]:
        """`posterior_entropy` and `prior_entropy`."""
        return {
            "posterior_entropy": self.latent.entropy(seen.posterior),
            "prior_entropy": self.latent.entropy(seen.prior),
        }

    def parameter_groups(self) -> list[ParameterGroup]:
        """The backbones' optimiser hints."""
        groups = self.backbone.parameter_groups()
        return groups + (self.posterior_backbone.parameter_groups() if self.posterior_backbone is not None else [])

    def initial_state(self, batch_size: int, context: int | None = None) -> DynamicsState:
        """Backbones at their initial state, z = 0; there is no clock, so that `context` makes no difference."""
        weight = self.prior.out.weight
        state = {
            "backbone": self.backbone.initial_state(batch_size),
            "z": weight.new_zeros(batch_size, self.latent.sample_dim),
        }
        if self.posterior_backbone is not None:
            state["posterior"] = self.posterior_backbone.initial_state(batch_size)
        return state

    def comparable_state(self, state: DynamicsState) -> DynamicsState:
        """Of both backbones as they say."""
        seen = {**state, "backbone": self.backbone.comparable_state(state["backbone"])}
        if self.posterior_backbone is not None:
            seen["posterior"] = self.posterior_backbone.comparable_state(state["posterior"])
        return seen

    def observe(
        self, inputs: Inputs, state: DynamicsState | None = None, *, return_state: bool = True
    ) -> tuple[Observed, DynamicsState | None]:
        """Read T steps; see `Dynamics.observe`. No step knows of a later one, so that `mask` makes no difference."""
        self.check_call(inputs.action, inputs.noise, state, inputs.embed)
        is_first = inputs.is_first
        if state is not None:  # column 0 goes into the state: nobody reads tensor values to choose a path
            state = tree.where(is_first[:, 0], self.initial_state(is_first.shape[0]), state)
        resets = is_first if inputs.inner_reset else None
        begins = is_first.unsqueeze(-1)  # (B, T, 1)
        action = inputs.action.masked_fill(begins, 0)  # (B, T, A)
        if not self.parallel:
            seen, after_steps = self._observe_step_by_step(inputs, action, resets, state)
            return seen, tree.compact(after_steps) if return_state else None
        incoming = {} if state is None else state
        read, own = inputs.embed, {}  # (B, T, E)
        if self.posterior_backbone is not None and self.posterior_input is not None:
            x = self.posterior_input(torch.cat([read, action], -1))
            read, own["posterior"] = self.posterior_backbone.scan(x, incoming.get("posterior"), resets, return_state)
            check_features(self.posterior_backbone, read, self.prior.out.weight)
        posterior = self.posterior(read)  # (B, T, P)
        z = self._sample(posterior, inputs.noise)  # (B, T, S)
        before = torch.zeros_like(z[:, :1]) if state is None else state["z"].unsqueeze(1).to(z.dtype)
        previous = torch.cat([before, z[:, :-1]], dim=1).masked_fill(begins, 0)  # (B, T, S): z_{t-1}
        g = self.input(torch.cat([previous, action], -1))
        h, last = self.backbone.scan(g, incoming.get("backbone"), resets, return_state)  # (B, T, D)
        check_features(self.backbone, h, self.prior.out.weight)
        after = tree.compact({"backbone": last, "z": z[:, -1], **own}) if return_state else None
        return Observed(h, z, posterior, self.prior(h)), after

    def _sample(self, params: Tensor, noise: Tensor | None) -> Tensor:
        """A sample in the model's own precision, which is lower than a latent's where the model is in half."""
        return self.latent.sample(params, noise).to(self.prior.out.weight.dtype)

    def _observe_step_by_step(
        self, inputs: Inputs, action: Tensor, resets: Tensor | None, state: DynamicsState | None
    ) -> tuple[Observed, DynamicsState]:
        """Filtering posterior: z_t needs h_t needs z_{t-1}; what the state does not enter is computed for all steps."""
        batch_size, length, _ = inputs.embed.shape
        fresh = self.initial_state(batch_size)
        state = fresh if state is None else state
        of_h, of_embed = self.posterior.split(self.backbone.feature_dim, self.embed_dim)
        from_embed = F.linear(inputs.embed, of_embed)  # (B, T, units)
        hs, zs, posteriors = [], [], []
        with packed(self, length):
            for t in range(length):
                if resets is not None:
                    state = tree.where(resets[:, t], fresh, state)
                g = self.input(torch.cat([state["z"], action[:, t]], -1))
                h, backbone_state = self.backbone.step(g, state["backbone"])  # (B, D)
                check_features(self.backbone, h, self.prior.out.weight)
                posterior = self.posterior.of_sum(F.linear(h, of_h) + from_embed[:, t])  # (B, P)
                noise = None if inputs.noise is None else inputs.noise[:, t]
                z = self._sample(posterior, noise)  # (B, S)
                state = {"backbone": backbone_state, "z": z}
                hs.append(h)
                zs.append(z)
                posteriors.append(posterior)
        h = torch.stack(hs, 1)  # (B, T, D)
        return Observed(h, torch.stack(zs, 1), torch.stack(posteriors, 1), self.prior(h)), state

    def imagine(
        self, action: Tensor, *, noise: Tensor | None, state: DynamicsState
    ) -> tuple[Tensor, Tensor, DynamicsState]:
        """Single steps on prior samples: action (B, H, A) -> (h (B, H, D), z (B, H, S), state after them)."""
        self.check_call(action, noise, state)
        backbone_state, z = state["backbone"], state["z"]
        hs, zs = [], []
        with packed(self, action.shape[1]):
            for t in range(action.shape[1]):
                g = self.input(torch.cat([z, action[:, t]], -1))
                h, backbone_state = self.backbone.step(g, backbone_state)  # (B, D)
                check_features(self.backbone, h, self.prior.out.weight)
                z = self._sample(self.prior(h), None if noise is None else noise[:, t])  # (B, S)
                hs.append(h)
                zs.append(z)
        after = tree.compact({**state, "backbone": backbone_state, "z": z})
        return torch.stack(hs, 1), torch.stack(zs, 1), after
