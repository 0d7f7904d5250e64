"""`vta`: Variational Temporal Abstraction, two levels of recurrent state-space models with boundaries that are learned.

A boundary m_t is 1 where a new segment is read, 0 where the abstract level is copied. With e_t the code of frame t:

    q(m_t | x)     = Bernoulli(conv(e)_t)                          p(m_t | s_<t) = Bernoulli(W [d, s]_{t-1})
    b_t            = m_t ? GRU(z_{t-1}, b_{t-1}) : b_{t-1}         d_t = m_t ? f_t : GRU([s_{t-1}, f_t], d_{t-1})
    p(z_t | b_t),    q(z_t | forward_{t-1}, backward_t)            p(s_t | d_t),  q(s_t | outward_t, f_t)
    z_t            = m_t ? sample : z_{t-1}                        f_t = W [b_t, z_t, a_t]
    x_t ~ dec(W [d_t, s_t])

`forward` is a GRU over all frames so far, `backward` one from the end of the segment back to t, `outward` one from its
start up to t. The posteriors of boundaries and of z see frames after t: they are a smoother, not a filter. What they
see ends with the window of `window` steps that t lies in: a window begins with a boundary and b = forward_{t-1}, so
that each but an episode's first trains what imagination begins with. From `initial_state(B, context=C)` the last window
ends with the context and an early one takes the remainder, as in `clockwork`; so no frame after the context is seen.
Episodes begin where windows do, else `ValueError`. Actions, of which the paper has none, enter f.

In train() boundaries are samples, hard ones with the gradient of the relaxed ones (Gumbel-softmax, straight through),
at the temperature 0.1 + 0.9 * 0.999^(updates / 100). In eval() they are the likelier ones, and constants.

In train() the prior of a boundary follows a rule: after `longest` steps of a segment it expects one (p = 0.999); else
after `segments` boundaries in a window none. The paper's 5 boundaries are of 20 steps; `segments` is scaled to windows
of another length, window / 4 unless it is given. Outside of training the rule is off.

Loss terms, each (B, T), in nats: `kl_abstract` m_t KL(z), `kl_observation` KL(s), `kl_boundary` KL(q(m) || p(m)), zero
where a boundary is forced.

Otherwise than the released code: frames are neither quantised to five bits nor dequantised by noise, in training and
evaluation; the KL of a boundary is that of the two Bernoullis, not of a relaxed sample; its sequences have five frames
more at both ends, which nothing scores, where here a first window is scored as any; Adam is not AMSGrad.

Source: Kim, Ahn, Bengio, Variational Temporal Abstraction, 2019.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit import tree
from wmkit.backbones.plain_gru import PlainGRU, PlainGRUConfig
from wmkit.checks import check_between, check_choice, check_integer
from wmkit.config import SIZES
from wmkit.dynamics.base import Inputs, Observed
from wmkit.dynamics.latents import GaussianLatent, Latent, balanced_kl, single_or_better
from wmkit.networks import channels_last, halvings, to_unit
from wmkit.registry import register_backbone
from wmkit.video_models.base import VideoModel

FORCED = math.log(0.999 / 0.001)
"""Logit of the prior where the rule of segments decides."""

VtaState = dict[str, Any]
"""{`phase`: (B,) int64, steps since the window began, or, before a context, minus those of the remainder; `forward`:
(B, E); `dreaming`: (B,) bool, whether the last step was imagined, and then `b`, `z`, `d`, `s` of that step, which
are zero otherwise: imagination begins a segment from `forward`}. Imagination leaves `phase` and `forward` as they were:
who observes after a dream goes on as if no time had passed."""


@dataclasses.dataclass(kw_only=True)
class VtaConfig:
    """Numbers of a `Vta`; as published unless a size says otherwise."""

    width: int = 128
    """E: of the convolutions, of codes and features, and of every GRU."""
    latent_size: int = 8
    """Numbers of z, and of s."""
    window: int = 20
    """Steps that are inferred together: T of the paper."""
    longest: int = 8
    """Steps of a segment after which the prior expects a boundary, in training."""
    segments: int | None = None
    """Boundaries of a window after which the prior expects no more, in training; None: window / 4, as 5 of 20."""

    def __post_init__(self) -> None:
        for name in ("width", "latent_size", "longest"):
            check_integer(f"VtaConfig.{name}", getattr(self, name), 1)
        check_integer("VtaConfig.window", self.window, 2)
        if self.segments is not None:
            check_between("VtaConfig.segments", self.segments, 1)

    @classmethod
    def for_size(cls, size: str) -> Self:
        """`2d` and `3d` are as published."""
        check_choice("size", size, SIZES)
        sizes: dict[str, dict[str, Any]] = {
            "tiny": {"width": 16, "latent_size": 4, "window": 4},
            "small": {"width": 64},
        }
        return cls(**sizes.get(size, {}))


class SigmoidLatent(GaussianLatent):
    """Diagonal Gaussian: params = [mean, raw], std = sigmoid(raw), z = mean + std * noise."""

    def deviation(self, raw: Tensor) -> Tensor:
        """sigmoid(raw)."""
        return torch.sigmoid(raw)


class Boundary(Latent):
    """A Bernoulli variable with params = [logit]: in train() hard samples with the gradient of relaxed ones,

        y = sigmoid((logit + l) / temperature), l ~ Logistic        m = [y > 1/2] + y - sg(y)

    which is the Gumbel-softmax of two classes (Jang, Gu, Poole 2017; Maddison, Mnih, Teh 2017); in eval() [logit > 0].
    """

    updates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.param_dim = self.sample_dim = self.noise_dim = 1
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def temperature(self) -> Tensor:
        """() of the relaxed samples; it falls with every update of the weights."""
        return 0.1 + 0.9 * torch.pow(0.999, self.updates / 100)

    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Logistic numbers."""
        return torch.logit(torch.rand(*lead, 1, generator=generator, device="cpu"), eps=1e-7)

    def sample(self, params: Tensor, noise: Tensor | None) -> Tensor:
        """0 or 1, in float32 or better."""
        logit = single_or_better(params)
        if not self.training:
            return (logit > 0).to(logit.dtype)
        relaxed = torch.sigmoid((logit if noise is None else logit + noise) / self.temperature.to(logit.dtype))
        return (relaxed > 0.5).to(relaxed.dtype) + (relaxed - relaxed.detach())  # so bracketed, exactly 0 or 1

    def kl(self, left: Tensor, right: Tensor) -> Tensor:
        """KL = sum over both values of p ln (p / q)."""
        left, right = single_or_better(left), single_or_better(right)
        read, copy = F.logsigmoid(left) - F.logsigmoid(right), F.logsigmoid(-left) - F.logsigmoid(-right)
        return (torch.sigmoid(left) * read + torch.sigmoid(-left) * copy).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """H = - sum p ln p."""
        logit = single_or_better(params)
        return -(torch.sigmoid(logit) * F.logsigmoid(logit) + torch.sigmoid(-logit) * F.logsigmoid(-logit)).sum(-1)


@dataclasses.dataclass(frozen=True)
class VtaObserved(Observed):
    """What observing gives; `posterior` and `prior` are those of s."""

    read: Tensor
    """(B, T) the boundaries: 1 where a segment begins."""
    forced: Tensor
    """(B, T) bool: where one had to be, at the start of a window."""
    of_boundary: tuple[Tensor, Tensor]
    """Logits of q(m_t) and p(m_t), each (B, T, 1)."""
    of_abstract: tuple[Tensor, Tensor]
    """Parameters of q(z_t) and p(z_t), each (B, T, P)."""

    @staticmethod
    def joined(parts: Sequence[Observed]) -> VtaObserved:
        """Pieces of a sequence, one after another."""
        pieces = [part for part in parts if isinstance(part, VtaObserved)]

        def whole(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in pieces], 1)

        def pair(name: str) -> tuple[Tensor, Tensor]:
            left, right = zip(*(getattr(part, name) for part in pieces), strict=True)
            return torch.cat(left, 1), torch.cat(right, 1)

        return VtaObserved(
            h=whole("h"),
            z=whole("z"),
            posterior=whole("posterior"),
            prior=whole("prior"),
            read=whole("read"),
            forced=whole("forced"),
            of_boundary=pair("of_boundary"),
            of_abstract=pair("of_abstract"),
        )


class BoundaryNetwork(nn.Module):
    """Logits (B, T, 1) of boundaries by three k3 convolutions over the codes, and a fourth; none crosses a window."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(3))
        self.last = nn.Conv1d(width, 2, 3, padding=1)

    def forward(self, code: Tensor, start: Tensor) -> Tensor:
        """code (B, T, E), start (B, T) bool where windows begin."""
        x = code
        for layer, norm in zip(self.layers, self.norms, strict=True):
            assert isinstance(layer, nn.Conv1d), "made above"
            x = F.elu(norm(_within(layer, x, start).transpose(1, 2))).transpose(1, 2)
        read, copy = _within(self.last, x, start).chunk(2, -1)
        return read - copy


def _within(layer: nn.Conv1d, x: Tensor, start: Tensor) -> Tensor:
    """A k3 convolution along time, x (B, T, E), with zeros in the place of frames beyond the window."""
    begins = start.unsqueeze(-1)  # (B, T, 1)
    nothing = torch.zeros_like(x[:, :1])
    before = torch.cat([nothing, x[:, :-1]], 1).masked_fill(begins, 0)
    after = torch.cat([x[:, 1:].masked_fill(begins[:, 1:], 0), nothing], 1)
    return F.linear(torch.cat([before, x, after], -1), layer.weight.transpose(1, 2).flatten(1), layer.bias)


@register_backbone("vta", VtaConfig, kind="video_model")
class Vta(VideoModel):
    """VTA; see the module's docstring for the equations. h is [b, d], z is [z, s].

    The networks are convolutions with BatchNorm and ELU, k4 s2, except the encoder's last and the decoder's first,
    which are k4 s1 without padding; pixels enter and leave as numbers from -1 to 1.
    """

    causal = False

    def __init__(self, config: VtaConfig, *, image_shape: tuple[int, int, int], action_dim: int) -> None:
        super().__init__()
        self.config, self.image_shape, self.action_dim = config, image_shape, action_dim
        self.period = config.window
        channels, stages = image_shape[0], halvings(image_shape)
        if not stages:
            raise ValueError(
                f"Image of shape {tuple(image_shape)} (C, H, W): vta expects a square whose side is a power of two, "
                "8 or more; resize the images"
            )
        width = config.width
        widths = [channels, *[width] * stages]
        down = [nn.Conv2d(before, after, 4, 2, 1, bias=False) for before, after in itertools.pairwise(widths)]
        down.append(nn.Conv2d(width, width, 4, bias=False))
        self.encoder = nn.Sequential(*(nn.Sequential(layer, nn.BatchNorm2d(width), nn.ELU()) for layer in down))
        up = [nn.ConvTranspose2d(width, width, 4, bias=False)]
        up += [nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False) for _ in range(stages - 1)]
        self.decoder = nn.Sequential(*(nn.Sequential(layer, nn.BatchNorm2d(width), nn.ELU()) for layer in up))
        self.decoder.append(nn.Sequential(nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh()))

        channels_last(self.encoder)
        channels_last(self.decoder)
        self.boundary, self.latent = Boundary(), SigmoidLatent(config.latent_size)
        size, params = self.latent.sample_dim, self.latent.param_dim
        self.boundary_posterior, self.boundary_prior = BoundaryNetwork(width), nn.Linear(width, 2)
        numbers = PlainGRUConfig(hidden=width)
        self.forward_gru, self.backward_gru, self.outward_gru = (PlainGRU(width, numbers) for _ in range(3))
        self.abstract_gru, self.observation_gru = PlainGRU(size, numbers), PlainGRU(size + width, numbers)
        self.abstract_prior, self.abstract_posterior = nn.Linear(width, params), nn.Linear(2 * width, params)
        self.observation_prior, self.observation_posterior = nn.Linear(width, params), nn.Linear(2 * width, params)
        self.abstract_feature = nn.Linear(width + size + action_dim, width)
        self.observation_feature = nn.Linear(width + size, width)
        self.embed_dim, self.memory_dim = width, 2 * width
        self.feature_dim = self.memory_dim + 2 * size
        self.noise_dim = 2 * size + 1

    def initialise(self) -> None:
        """No bias for or against boundaries; all else is as drawn when the parts were made, GRUs by `PlainGRU`, linear
        layers and convolutions by torch.
        """
        for layer in (self.boundary_posterior.last, self.boundary_prior):
            assert layer.bias is not None, "made with one"
            nn.init.zeros_(layer.bias)

    def after_update(self) -> None:
        """The temperature falls."""
        self.boundary.updates += 1

    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Noise of z, of s and of the boundary."""
        return torch.cat([part.draw_noise(lead, generator) for part in (self.latent, self.latent, self.boundary)], -1)

    def kl(self, seen: Observed, balance: float | None, free_bits: float) -> dict[str, Tensor]:
        """`kl_abstract`, `kl_observation` and `kl_boundary`."""
        assert isinstance(seen, VtaObserved), "as observe gives it"
        boundary = balanced_kl(self.boundary, *seen.of_boundary, balance, free_bits)
        return {
            "kl_abstract": seen.read * balanced_kl(self.latent, *seen.of_abstract, balance, free_bits),
            "kl_observation": balanced_kl(self.latent, seen.posterior, seen.prior, balance, free_bits),
            "kl_boundary": boundary.masked_fill(seen.forced, 0),
        }

    def entropies(self, seen: Observed) -> dict[str, Tensor]:
        """Of s and of the boundary, before and after a frame is seen; and `read`, the share of boundaries."""
        assert isinstance(seen, VtaObserved), "as observe gives it"
        return {
            "posterior_entropy": self.latent.entropy(seen.posterior),
            "prior_entropy": self.latent.entropy(seen.prior),
            "boundary_entropy": self.boundary.entropy(seen.of_boundary[0]),
            "read": seen.read,
        }

    def initial_state(self, batch_size: int, context: int | None = None) -> VtaState:
        """Nothing seen; windows begin with the episode, or so that the last one of a context ends with it."""
        zeros = self.boundary_prior.weight.new_zeros
        width, size = self.config.width, self.latent.sample_dim
        widths = {"forward": width, "b": width, "z": size, "d": width, "s": size}
        phase = 0 if context is None else -(context % self.period)
        return {
            "phase": zeros(batch_size, dtype=torch.int64) + phase,
            "dreaming": zeros(batch_size, dtype=torch.bool),
            **{name: zeros(batch_size, wide) for name, wide in widths.items()},
        }

    def encode(self, image: Tensor) -> Tensor:
        """The code (..., E) of every image; raises `ValueError` for a single one in train()."""
        flat = to_unit(image, self.boundary_prior.weight.dtype).reshape(-1, *self.image_shape)  # (N, C, H, W)
        self.check_statistics(len(flat))
        return self.encoder(2 * flat - 1).reshape(*image.shape[:-3], self.embed_dim)

    def decode(self, features: Tensor) -> Tensor:
        """The mean image of every feature vector, of its d and s alone."""
        width, size = self.config.width, self.latent.sample_dim
        read = torch.cat([features[..., width : 2 * width], features[..., -size:]], -1)
        x = self.observation_feature(read).reshape(-1, self.config.width, 1, 1)  # (N, E, 1, 1)
        return 0.5 * (self.decoder(x).reshape(*features.shape[:-1], *self.image_shape) + 1)

    def observe(
        self, inputs: Inputs, state: VtaState | None = None, *, return_state: bool = True
    ) -> tuple[VtaObserved, VtaState | None]:
        """Read T steps, window by window; see `Dynamics.observe`.

        Raises `ValueError` where an episode begins elsewhere than a window, but not in a compiled graph.
        """
        self.check_call(inputs.action, inputs.noise, state, inputs.embed)
        code = inputs.embed  # (B, T, E)
        rows, length, _ = code.shape
        fresh = self.initial_state(rows)
        begun = state is not None
        state = fresh if state is None else state
        start, phase = self._windows(inputs, state["phase"], begun)  # (B, T) bool, (B,)
        first = inputs.is_first.unsqueeze(-1)  # (B, T, 1)
        noise_z, noise_s, noise_m = self._parts(inputs.noise, rows, length)

        logits = self.boundary_posterior(code, start)  # (B, T, 1)
        read = self.boundary.sample(logits, noise_m).masked_fill(start.unsqueeze(-1), 1).to(state["forward"].dtype)
        incoming = torch.where(first[:, 0], 0, state["forward"])  # (B, E)
        resets = inputs.is_first if inputs.inner_reset else None
        forward, _ = self.forward_gru.scan(code, {"h": incoming}, resets)  # (B, T, E)
        before = torch.cat([incoming.unsqueeze(1), forward[:, :-1]], 1).masked_fill(first, 0)  # of step t - 1
        outward = self._of_segment(self.outward_gru, code, read, start)
        # Backwards a segment ends before the next one's boundary, which then comes before the segment's last step.
        ends, after = (torch.cat([x[:, 1:], torch.ones_like(x[:, :1])], 1).flip(1) for x in (start, read))
        backward = self._of_segment(self.backward_gru, code.flip(1), after, ends).flip(1)  # (B, T, E)
        posterior_z = self.abstract_posterior(torch.cat([before, backward], -1))  # (B, T, P)
        candidates = self.latent.sample(posterior_z, noise_z).to(before.dtype)  # (B, T, S)

        b, z, d, s = (fresh[name] for name in ("b", "z", "d", "s"))
        steps: list[tuple[Tensor, ...]] = []
        for t in range(length):
            m, begins = read[:, t], start[:, t, None]  # (B, 1)
            b = self._believed(m, begins, b, z, before[:, t])
            z, f, d = self._advance(m, begins, (b, z, d, s), candidates[:, t], inputs.action[:, t])
            q = self.observation_posterior(torch.cat([outward[:, t], f], -1))  # (B, P)
            s = self.latent.sample(q, noise_s[t]).to(d.dtype)  # (B, S)
            steps.append((b, z, d, s, q))
        b, z, d, s, posterior = (torch.stack(each, 1) for each in zip(*steps, strict=True))  # (B, T, ...)
        foreseen = self._expected(d, s)  # (B, T, 1), of the next step
        prior = torch.cat([torch.zeros_like(foreseen[:, :1]), foreseen[:, :-1]], 1)
        if self.training:
            prior = self._ruled(prior.squeeze(-1), read.squeeze(-1).detach() > 0.5, start).unsqueeze(-1)
        seen = VtaObserved(
            h=torch.cat([b, d], -1),
            z=torch.cat([z, s], -1),
            posterior=posterior,
            prior=self.observation_prior(d),
            read=read.squeeze(-1),
            forced=start,
            of_boundary=(logits, prior),
            of_abstract=(posterior_z, self.abstract_prior(b)),
        )
        after_steps = {**fresh, "phase": phase, "forward": forward[:, -1]}
        return seen, tree.compact(after_steps) if return_state else None

    def imagine(self, action: Tensor, *, noise: Tensor | None, state: VtaState) -> tuple[Tensor, Tensor, VtaState]:
        """Prior samples; after an observed step a segment begins, from `forward`."""
        self.check_call(action, noise, state)
        rows, length, _ = action.shape
        noise_z, noise_s, noise_m = self._parts(noise, rows, length)
        b, z, d, s = (state[name] for name in ("b", "z", "d", "s"))
        begins = ~state["dreaming"].unsqueeze(-1)  # (B, 1)
        hs, zs = [], []
        for t in range(length):
            m = self.boundary.sample(self._expected(d, s), None if noise_m is None else noise_m[:, t])  # (B, 1)
            m = m.masked_fill(begins, 1).to(b.dtype)
            b = self._believed(m, begins, b, z, state["forward"])
            params = self.abstract_prior(b)
            candidate = self.latent.sample(params, None if noise_z is None else noise_z[:, t]).to(b.dtype)
            z, _, d = self._advance(m, begins, (b, z, d, s), candidate, action[:, t])
            s = self.latent.sample(self.observation_prior(d), noise_s[t]).to(d.dtype)
            begins = torch.zeros_like(begins)
            hs.append(torch.cat([b, d], -1))
            zs.append(torch.cat([z, s], -1))
        last = {"b": b, "z": z, "d": d, "s": s, "dreaming": torch.ones_like(state["dreaming"])}
        return torch.stack(hs, 1), torch.stack(zs, 1), tree.compact({**state, **last})

    def _believed(self, m: Tensor, begins: Tensor, b: Tensor, z: Tensor, start: Tensor) -> Tensor:
        """One step of the abstract level's belief b (B, E): it reads or copies by m (B, 1), from the last step's b, z.

        begins (B, 1) bool: windows begin, with b = start (B, E).
        """
        new, _ = self.abstract_gru.step(z, {"h": b})
        return torch.where(begins, start, m * new + (1 - m) * b)

    def _advance(
        self,
        m: Tensor,
        begins: Tensor,
        levels: tuple[Tensor, Tensor, Tensor, Tensor],
        candidate: Tensor,
        action: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The rest of a step up to the belief d, from this step's b and the last one's z, d, s -> (z, f, d).

        m (B, 1); begins (B, 1) bool: windows begin. candidate (B, S): z where it is read.
        """
        b, z, d, s = levels
        z = torch.where(begins, candidate, m * candidate + (1 - m) * z)
        f = self.abstract_feature(torch.cat([b, z, action], -1)).to(b.dtype)  # (B, E)
        new, _ = self.observation_gru.step(torch.cat([s, f], -1), {"h": d})
        return z, f, torch.where(begins, f, m * f + (1 - m) * new)

    def _expected(self, d: Tensor, s: Tensor) -> Tensor:
        """The logit (..., 1) of a boundary at the next step."""
        read, copy = self.boundary_prior(self.observation_feature(torch.cat([d, s], -1))).chunk(2, -1)
        return read - copy

    def _of_segment(self, gru: PlainGRU, x: Tensor, read: Tensor, start: Tensor) -> Tensor:
        """States (B, T, E) of a GRU over x (B, T, E) that forgets at boundaries, read (B, T, 1), and windows."""
        h, states = gru.initial_state(len(x))["h"], []
        for t in range(x.shape[1]):
            h = torch.where(start[:, t, None], 0, h * (1 - read[:, t].to(h.dtype)))
            h, _ = gru.step(x[:, t], {"h": h})
            states.append(h)
        return torch.stack(states, 1)

    def _parts(
        self, noise: Tensor | None, rows: int, length: int
    ) -> tuple[Tensor | None, Sequence[Tensor | None], Tensor | None]:
        """Noise of z (B, T, S), of s step by step, and of boundaries (B, T, 1)."""
        if noise is None:
            return None, [None] * length, None
        size = self.latent.noise_dim
        of_z, of_s, of_m = torch.split(noise, [size, size, 1], -1)
        return of_z, of_s.unbind(1), of_m

    def _windows(self, inputs: Inputs, phase: Tensor, begun: bool) -> tuple[Tensor, Tensor]:
        """Where windows begin (B, T), and the phase after the last step (B,); the first step of a call begins one.

        Padding begins one too, so that nothing of it is seen before.
        """
        is_first = inputs.is_first
        together = is_first[:, 0].all()  # all rows may begin anew wherever they were
        phase = torch.where(is_first[:, 0] & together, phase.clamp(max=0), phase)
        steps = phase.unsqueeze(1) + torch.arange(is_first.shape[1], device=phase.device)  # (B, T)
        start = steps % self.period == 0
        late = is_first[:, 0] & (phase > 0)
        wrong = torch.cat([late.unsqueeze(1), (is_first & ~start)[:, 1:]], 1)
        # Without a state and a reset after it no column can be wrong, and a GPU need not be waited for. A graph cannot
        # branch on it: there a window begins.
        if (begun or inputs.inner_reset) and not torch.compiler.is_compiling() and bool(wrong.any()):
            row, t = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"is_first: in row {row} an episode begins at step {t}, {int(steps[row, t]) % self.period} steps into "
                f"a window of vta; episodes begin where its windows of {self.period} steps do (backbone.window)"
            )
        start = torch.cat([torch.ones_like(start[:, :1]), (start | is_first)[:, 1:]], 1)
        if inputs.mask is not None:
            start = torch.cat([start[:, :1], start[:, 1:] | (inputs.mask[:, :-1] & ~inputs.mask[:, 1:])], 1)
        end = steps[:, -1] + 1
        return start, torch.where(end < 0, end, end % self.period)

    def _ruled(self, prior: Tensor, read: Tensor, start: Tensor) -> Tensor:
        """The prior's logits (B, T) by the rule of segments, given boundaries and windows (B, T) bool."""
        steps = torch.arange(read.shape[1], device=read.device)
        before = torch.where(read, steps, 0).cummax(1).values.roll(1, 1)  # the last boundary up to step t - 1
        counted = read.long().cumsum(1) - read.long()  # boundaries before step t
        counted = counted - counted.gather(1, torch.where(start, steps, 0).cummax(1).values)
        most = self.config.window // 4 if self.config.segments is None else self.config.segments
        prior = torch.where(counted >= max(1, most), -FORCED, prior)
        return torch.where(steps - before >= self.config.longest, FORCED, prior)
