"""`svg_lp`: Stochastic Video Generation with a learned prior, three LSTMs over the codes of frames.

    e_t, maps_t = enc(x_t)
    p(z_t | x_<t)  = head(lstm_prior(e_{t-1}))         q(z_t | x_<=t) = head(lstm_posterior(e_t))
    g_t = tanh(W lstm_predictor([e_{t-1}, z_t]))       x_t ~ dec(g_t, maps of the last frame that was seen)

Imagination goes through pixels: what is decoded is encoded for the next step. The maps of the decoder's skip
connections are never those of an imagined frame. The state carries the frame itself, from which they are computed: a
thirtieth of their size (C = 1, DCGAN). Actions, of which the paper has none, enter the predictor and the prior.

An episode's first frame is read and not predicted: before the second nothing runs. Its features have the code of the
frame in the place of g, nothing in that of z, and its own maps.

Training decodes with the maps of the last frame of the context (`past`) once the context is over, as imagination does:
else the decoder would learn to copy the frame before. The loss of the paper is, per step,

    mean over pixels of (x - decoded)^2  +  beta KL(q || p)

which is `model.image_loss=mse` with `model.kl_scale=beta`, and C H W / 2 times as much in nats: `image_loss=nll` with
kl_scale = beta C H W / 2 (0.2 for the published 1e-4 at 1 x 64 x 64). The paper sums over steps where this takes the
mean, and steps an Adam without weight decay for each network.

Otherwise than the released code: that trains with the maps of the context's last frame but one, where these are of the
last one, as in the paper's words. Outside of training BatchNorm takes its running statistics, so that no clip sees its
neighbours in a batch; in training it takes those of all steps of a batch together, not of each by itself. The maps are
computed again from the frames of the context and normalised by the statistics of those, which the running statistics
then hear of twice.

Source: Denton, Fergus, Stochastic Video Generation with a Learned Prior, 2018.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit import tree
from wmkit.checks import check_choice, check_integer
from wmkit.config import SIZES
from wmkit.dynamics.base import Inputs, Observed
from wmkit.dynamics.latents import GaussianLatent, balanced_kl
from wmkit.networks import channels_last, to_unit
from wmkit.registry import register_backbone
from wmkit.video_models.base import VideoModel
from wmkit.video_models.svg_networks import NETWORKS

SvgState = dict[str, Any]
"""{`predictor`, `posterior`, `prior`: of each LSTM {`h`, `c`: (B, layers, hidden)}; `code`: (B, G) of the frame before;
`frame`: (B, C H W) the last one that was seen; `begun`: (B,) bool, whether there is one}."""


@dataclasses.dataclass(kw_only=True)
class SvgLpConfig:
    """Numbers of an `SvgLp`; as published for Stochastic Moving MNIST unless a size says otherwise."""

    networks: str = "dcgan"
    """`dcgan` or `vgg`."""
    depth: int = 64
    """Channels of the first stage, doubled at each of the next three."""
    code: int = 128
    """G: numbers of a frame's code, and of a prediction of it."""
    hidden: int = 256
    """Width of the LSTMs: two layers predict, one each infers and foresees z."""
    latent_size: int = 10
    """Numbers of z (Moving MNIST 10, KTH 24, BAIR 64)."""
    past: int = 5
    """Frames of a sequence in training that count as its context: the maps of the last one serve all later steps."""

    def __post_init__(self) -> None:
        check_choice("SvgLpConfig.networks", self.networks, tuple(NETWORKS))
        for name in ("depth", "code", "hidden", "latent_size", "past"):
            check_integer(f"SvgLpConfig.{name}", getattr(self, name), 1)

    @classmethod
    def for_size(cls, size: str) -> Self:
        """`2d` and `3d` are as published."""
        check_choice("size", size, SIZES)
        sizes: dict[str, dict[str, Any]] = {
            "tiny": {"depth": 4, "code": 16, "hidden": 16, "latent_size": 4},
            "small": {"depth": 16, "code": 64, "hidden": 128},
        }
        return cls(**sizes.get(size, {}))


class LogVarianceLatent(GaussianLatent):
    """Diagonal Gaussian: params = [mean, ln variance], z = mean + std * noise."""

    def deviation(self, raw: Tensor) -> Tensor:
        """exp(ln variance / 2)."""
        return (0.5 * raw).exp()


class Lstm(nn.Module):
    """LSTM cells on top of each other between two linear layers; the state is {`h`, `c`: (B, layers, hidden)}.

        i, f, g, o = W x + U h + b        c' = sigmoid(f) c + sigmoid(i) tanh(g)        h' = sigmoid(o) tanh(c')

    Written out because torch's own hands back half a precision under autocast, while c adds up over all steps.
    """

    def __init__(self, in_dim: int, hidden: int, layers: int, out_dim: int) -> None:
        super().__init__()
        self.read = nn.Linear(in_dim, hidden)
        self.cells = nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(layers))
        self.out = nn.Linear(hidden, out_dim)

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        """Zeros."""
        shape = (batch_size, len(self.cells), self.read.out_features)
        return {name: self.read.weight.new_zeros(shape) for name in ("h", "c")}

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """What `read` made of the input, x (B, hidden) -> (the last layer's h (B, hidden), state)."""
        hs, cs = [], []
        for cell, h, c in zip(self.cells, state["h"].unbind(1), state["c"].unbind(1), strict=True):
            assert isinstance(cell, nn.LSTMCell), "made above"
            gates = F.linear(x, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh, cell.bias_hh)
            i, f, g, o = gates.to(c.dtype).chunk(4, -1)  # (B, hidden)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            x = torch.sigmoid(o) * torch.tanh(c)
            hs.append(x)
            cs.append(c)
        return x, {"h": torch.stack(hs, 1), "c": torch.stack(cs, 1)}


@register_backbone("svg_lp", SvgLpConfig, kind="video_model")
class SvgLp(VideoModel):
    """SVG-LP; see the module's docstring for the equations.

    h is [the prior's LSTM, the last frame seen before this step], z is [z_t, g_t].
    """

    first_step, foretells_first = "condition", False

    def __init__(self, config: SvgLpConfig, *, image_shape: tuple[int, int, int], action_dim: int) -> None:
        super().__init__()
        self.config, self.image_shape, self.action_dim = config, image_shape, action_dim
        encoder, decoder = NETWORKS[config.networks]
        self.encoder = encoder(image_shape, config.depth, config.code)
        self.decoder = decoder(image_shape, config.depth, config.code)
        channels_last(self.encoder)
        channels_last(self.decoder)
        self.latent = LogVarianceLatent(config.latent_size)
        z, params = self.latent.sample_dim, self.latent.param_dim
        self.predictor = Lstm(config.code + z + action_dim, config.hidden, 2, config.code)
        self.posterior = Lstm(config.code, config.hidden, 1, params)
        self.prior = Lstm(config.code + action_dim, config.hidden, 1, params)
        self.pixels = math.prod(image_shape)
        self.embed_dim, self.noise_dim = config.code + self.pixels, self.latent.noise_dim
        self.memory_dim = config.hidden + self.pixels
        self.feature_dim = self.memory_dim + z + config.code

    def initialise(self) -> None:
        """As released: N(0, 0.02), gains of BatchNorm N(1, 0.02), no biases; LSTM cells as torch has them."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)
                assert module.bias is not None, "every layer has one"
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
                nn.init.zeros_(module.bias)

    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Standard normal numbers."""
        return self.latent.draw_noise(lead, generator)

    def kl(self, seen: Observed, balance: float | None, free_bits: float) -> dict[str, Tensor]:
        """One term, `kl`, zero at first steps unless there are free bits."""
        return {"kl": balanced_kl(self.latent, seen.posterior, seen.prior, balance, free_bits)}

    def entropies(self, seen: Observed) -> dict[str, Tensor]:
        """`posterior_entropy` and `prior_entropy`, of a standard normal at first steps."""
        return {
            "posterior_entropy": self.latent.entropy(seen.posterior),
            "prior_entropy": self.latent.entropy(seen.prior),
        }

    def initial_state(self, batch_size: int, context: int | None = None) -> SvgState:
        """Nothing seen; there is no clock, so that `context` makes no difference."""
        zeros = self.prior.read.weight.new_zeros
        return {
            **self._fresh(batch_size),
            "code": zeros(batch_size, self.config.code),
            "frame": zeros(batch_size, self.pixels),
            "begun": zeros(batch_size, dtype=torch.bool),
        }

    def encode(self, image: Tensor) -> Tensor:
        """[code, pixels] (..., G + C H W) of every image; raises `ValueError` for a single one in train()."""
        flat = to_unit(image, self.prior.read.weight.dtype).reshape(-1, *self.image_shape)  # (N, C, H, W)
        self.check_statistics(len(flat))
        embed = torch.cat([self.encoder(flat).to(flat.dtype), flat.flatten(1)], -1)
        return embed.reshape(*image.shape[:-3], self.embed_dim)

    def decode(self, features: Tensor) -> Tensor:
        """The image of every feature vector: of its g, with the maps of its frame."""
        flat = features.reshape(-1, self.feature_dim)
        frame = flat[:, self.config.hidden : self.memory_dim].reshape(-1, *self.image_shape)  # (N, C, H, W)
        image = self.decoder(flat[:, -self.config.code :], self.encoder.maps(frame))
        return image.reshape(*features.shape[:-1], *self.image_shape)

    def reconstruct(self, seen: Observed, inputs: Inputs, frames: Tensor | None = None) -> Tensor:
        """As `decode`, but with the maps of the frame before step t only for the first `past` steps, then with those
        of the last frame of the context, counted from the sequence's first step or the last `is_first`.
        """
        rows, length = inputs.is_first.shape
        steps = torch.arange(length, device=inputs.is_first.device)
        before = seen.h[..., self.config.hidden :]  # (B, T, C H W)
        # Each of the N frames of contexts is encoded once, so that a promise of no resets changes no statistics.
        if inputs.inner_reset:
            start = torch.where(inputs.is_first, steps, 0).cummax(1).values  # (B, T)
            last = start + self.config.past
            before = before[steps <= last]  # (N, C H W)
            number = (steps <= last).flatten().cumsum(0).reshape(rows, length) - 1
            source = number.gather(1, torch.minimum(steps, last))  # (B, T), of N
        else:
            before = before[:, : self.config.past + 1]
            number = torch.arange(rows * before.shape[1], device=steps.device).reshape(rows, -1)
            source = number[:, steps.clamp(max=self.config.past)]
            before = before.flatten(0, 1)
        g = seen.z[..., self.latent.sample_dim :]  # (B, T, G)
        if frames is not None:
            source, g = source[:, frames], g[:, frames]  # (B, K), (B, K, G)
        maps = [skip[source.flatten()] for skip in self.encoder.maps(before.reshape(-1, *self.image_shape))]
        return self.decoder(g.flatten(0, 1), maps).reshape(*g.shape[:2], *self.image_shape)

    def observe(
        self, inputs: Inputs, state: SvgState | None = None, *, return_state: bool = True
    ) -> tuple[Observed, SvgState | None]:
        """Read T steps; see `Dynamics.observe`. No step knows of a later one, so that `mask` makes no difference."""
        self.check_call(inputs.action, inputs.noise, state, inputs.embed)
        rows, length = inputs.is_first.shape
        fresh = self._fresh(rows)
        state = self.initial_state(rows) if state is None else state
        unseen = inputs.is_first[:, :1] | ~state["begun"].unsqueeze(1)
        first = torch.cat([unseen, inputs.is_first[:, 1:]], 1)  # (B, T)
        begins = first.unsqueeze(-1)
        code, frame = torch.split(inputs.embed, [self.config.code, self.pixels], -1)  # (B, T, G), (B, T, C H W)
        code_before, frame_before = (
            torch.where(begins, own, torch.cat([state[name].unsqueeze(1).to(own.dtype), own[:, :-1]], 1))
            for name, own in (("code", code), ("frame", frame))
        )
        action = inputs.action.masked_fill(begins, 0)  # (B, T, A)
        for_posterior = self.posterior.read(code)  # (B, T, hidden)
        for_prior = self.prior.read(torch.cat([code_before, action], -1))
        nets = {name: state[name] for name in fresh}
        rs, zs, ps, posteriors = [], [], [], []
        for t in range(length):
            reset = first[:, t] if t == 0 or inputs.inner_reset else None
            nets = nets if reset is None else tree.where(reset, fresh, nets)
            q, posterior = self.posterior.step(for_posterior[:, t], nets["posterior"])
            r, prior = self.prior.step(for_prior[:, t], nets["prior"])
            params = self.posterior.out(q)  # (B, 2 S)
            z = self.latent.sample(params, None if inputs.noise is None else inputs.noise[:, t]).to(r.dtype)  # (B, S)
            x = self.predictor.read(torch.cat([code_before[:, t], z, action[:, t]], -1))
            p, predictor = self.predictor.step(x, nets["predictor"])
            nets = {"predictor": predictor, "posterior": posterior, "prior": prior}
            nets = nets if reset is None else tree.where(reset, fresh, nets)  # before a second frame nothing runs
            rs.append(r)
            zs.append(z)
            ps.append(p)
            posteriors.append(params)
        r = torch.stack(rs, 1)  # (B, T, hidden)
        prior_params, posterior_params = self.prior.out(r), torch.stack(posteriors, 1)  # (B, T, 2 S)
        g = torch.where(begins, code, torch.tanh(self.predictor.out(torch.stack(ps, 1))).to(code.dtype))
        r, z, prior_params, posterior_params = (
            x.masked_fill(begins, 0) for x in (r, torch.stack(zs, 1), prior_params, posterior_params)
        )
        h, z = torch.cat([r, frame_before], -1), torch.cat([z, g], -1)
        after = {**nets, "code": code[:, -1], "frame": frame[:, -1], "begun": torch.ones_like(state["begun"])}
        return Observed(h, z, posterior_params, prior_params), tree.compact(after) if return_state else None

    def imagine(self, action: Tensor, *, noise: Tensor | None, state: SvgState) -> tuple[Tensor, Tensor, SvgState]:
        """Single steps on prior samples, each decoded and encoded again for the next.

        Raises `ValueError` for a single row in train(), of which BatchNorm can make no statistics.
        """
        self.check_call(action, noise, state)
        self.check_statistics(len(action))
        code, frame = state["code"], state["frame"]
        prior, predictor = state["prior"], state["predictor"]
        maps = self.encoder.maps(frame.reshape(-1, *self.image_shape))
        rs, zs = [], []
        for t in range(action.shape[1]):
            r, prior = self.prior.step(self.prior.read(torch.cat([code, action[:, t]], -1)), prior)
            z = self.latent.sample(self.prior.out(r), None if noise is None else noise[:, t]).to(r.dtype)  # (B, S)
            p, predictor = self.predictor.step(self.predictor.read(torch.cat([code, z, action[:, t]], -1)), predictor)
            g = torch.tanh(self.predictor.out(p)).to(r.dtype)  # (B, G)
            code = self.encoder(self.decoder(g, maps)).to(r.dtype)
            rs.append(r)
            zs.append(torch.cat([z, g], -1))
        r, z = torch.stack(rs, 1), torch.stack(zs, 1)
        h = torch.cat([r, frame.unsqueeze(1).expand(-1, r.shape[1], -1)], -1)
        return h, z, tree.compact({**state, "prior": prior, "predictor": predictor, "code": code})

    def _fresh(self, rows: int) -> dict[str, dict[str, Tensor]]:
        """Every LSTM before it has run."""
        nets = {"predictor": self.predictor, "posterior": self.posterior, "prior": self.prior}
        return {name: net.initial_state(rows) for name, net in nets.items()}
