"""The Clockwork VAE as its papers write it: for every frame, for every level from the top, dense layers and a cell.

The reference of `wmkit.dynamics.ClockworkDynamics` over the plain GRU with Gaussian latents, for tests and benchmarks.
Nothing is moved out of the loop and no two layers are made one:

    x = ReLU(W [z, h_above, z_above, a])       h = GRU(x, h)
    prior      y = ReLU(W h)                   mean = W y    std = softplus(W y) + min_std
    posterior  y = ReLU(W ReLU(W [h, e]))      mean = W y    std = softplus(W y) + min_std    z = mean + std * noise

Source: Saxena, Ba, Hafner, Clockwork Variational Autoencoders, 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit.dynamics import ClockworkConfig, ClockworkDynamics
from wmkit.dynamics.clockwork.level import STD_SHIFT, Level

LevelSteps = dict[str, Tensor]
"""Of a level at its n ticks: h (B, n, D), z, mean and std of prior and posterior, each (B, n, S), and kl (B, n)."""


class Normal(nn.Module):
    """A diagonal Gaussian by two dense layers; 0.54 goes to the deviation's where the variant says."""

    def __init__(self, units: int, size: int, config: ClockworkConfig) -> None:
        super().__init__()
        self.mean, self.raw = nn.Linear(units, size), nn.Linear(units, size)
        self.before = STD_SHIFT if config.std_shift == "input" else 0.0
        self.behind = STD_SHIFT if config.std_shift == "output" else 0.0
        self.min_std = config.min_std

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(B, units) -> mean and standard deviation, each (B, S)."""
        return self.mean(y), F.softplus(self.raw(y + self.before) + self.behind) + self.min_std


class Cell(nn.Module):
    """The layers of one level, with the weights of `level`."""

    def __init__(self, level: Level, config: ClockworkConfig) -> None:
        super().__init__()
        units, width, size = level.posterior_second.in_features, level.core.feature_dim, level.latent.sample_dim
        self.input = _linear_like(level.input)
        self.gru = nn.GRUCell(level.core.input_dim, width)
        self.prior_hidden, self.prior = _linear_like(level.prior_hidden), Normal(units, size, config)
        self.posterior_hidden = _linear_like(level.posterior_hidden)
        self.posterior_second, self.posterior = _linear_like(level.posterior_second), Normal(units, size, config)
        self.context_dim = level.input.in_features - size
        with torch.no_grad():
            for source, targets in self.pairs(level):
                for target, part in zip(targets, source.split([len(target) for target in targets]), strict=True):
                    target.copy_(part)

    def pairs(self, level: Level) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Each parameter of `level` with those of this cell that it is made of, along the first axis."""
        gru, core = self.gru, level.core
        yield from ((core.from_input.weight, [gru.weight_ih]), (core.from_input.bias, [gru.bias_ih]))
        yield from ((core.from_state.weight, [gru.weight_hh]), (core.from_state.bias, [gru.bias_hh]))
        for name in ("input", "prior_hidden", "posterior_hidden", "posterior_second"):
            source, target = getattr(level, name), getattr(self, name)
            yield from ((source.weight, [target.weight]), (source.bias, [target.bias]))
        for source, normal in ((level.prior_out, self.prior), (level.posterior_out, self.posterior)):
            yield source.weight, [normal.mean.weight, normal.raw.weight]
            yield source.bias, [normal.mean.bias, normal.raw.bias]


class ClockworkLoop(nn.Module):
    """All levels of `dynamics`, frame by frame, with its weights."""

    def __init__(self, dynamics: ClockworkDynamics) -> None:
        super().__init__()
        self.strides, self.config = dynamics.clock.strides, dynamics.config
        self.cells = nn.ModuleList(Cell(level, dynamics.config) for level in dynamics.levels)
        self.to(dynamics.levels[0].input.weight.dtype)

    def pairs(self, dynamics: ClockworkDynamics) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Each parameter of the levels of `dynamics` with those here that it is made of."""
        for cell, level in zip(self.cells, dynamics.levels, strict=True):
            yield from cell.pairs(level)

    def forward(
        self, frames: Sequence[Tensor], action: Tensor, noise: Sequence[Tensor], phase: int = 0
    ) -> list[LevelSteps]:
        """Read an episode from its start: frames and noise of each level, bottom first, action (B, T, A).

        `phase`: that of the first step, at which every level ticks all the same. Where frames end before the actions
        do, the rest is imagined: z follows the prior.
        """
        batch_size, length, _ = action.shape
        images = [x.unbind(1) for x in frames]
        ticks = [[t for t in range(length) if t == 0 or (phase + t) % stride == 0] for stride in self.strides]
        last = [self._start(cell, frames[0], batch_size) for cell in self.cells]
        steps: list[list[LevelSteps]] = [[] for _ in self.cells]
        for t in range(length):
            for i in reversed(range(len(self.cells))):
                if t in ticks[i]:
                    e = self._window(images[i], ticks[i], t) if t < len(images[i]) else None
                    context = self._context(i, last, action[:, t])
                    last[i] = self._tick(self.cells[i], last[i], context, e, noise[i][:, t])
                    steps[i].append(last[i])
        # what imagined steps have too comes from all of them, the rest from those that were read
        return [
            {name: torch.stack([step[name] for step in level if name in step], 1) for name in level[0]}
            for level in steps
        ]

    def _start(self, cell: Cell, like: Tensor, batch_size: int) -> LevelSteps:
        """z = 0 and h = 0."""
        return {
            "z": like.new_zeros(batch_size, cell.prior.mean.out_features),
            "h": like.new_zeros(batch_size, cell.gru.hidden_size),
        }

    def _window(self, frames: Sequence[Tensor], ticks: Sequence[int], t: int) -> Tensor:
        """Sum of the frames that a tick at t reads."""
        if self.config.windows == "smoothing":
            start, stop = t, next((s for s in ticks if s > t), len(frames))
        else:
            start, stop = next((s + 1 for s in reversed(ticks) if s < t), 0), t + 1
        return sum(frames[start + 1 : stop], frames[start])

    def _context(self, i: int, last: list[LevelSteps], action: Tensor) -> list[Tensor]:
        """What level i sees beside its own past: the level above, or as many zeros as it has weights for; actions."""
        actions = [action] if i == 0 else []
        if i + 1 < len(last):
            return [last[i + 1]["h"], last[i + 1]["z"], *actions]
        width = self.cells[i].context_dim - sum(a.shape[1] for a in actions)
        return [action.new_zeros(action.shape[0], width), *actions]

    def _tick(self, cell: Cell, last: LevelSteps, context: list[Tensor], e: Tensor | None, noise: Tensor) -> LevelSteps:
        """One step of one level; without e it is imagined."""
        x = F.relu(cell.input(torch.cat([last["z"], *context], -1)))
        h = cell.gru(x, last["h"])
        p_mean, p_std = cell.prior(F.relu(cell.prior_hidden(h)))
        if e is None:
            return {"h": h, "z": p_mean + p_std * noise, "prior_mean": p_mean, "prior_std": p_std}
        y = F.relu(cell.posterior_second(F.relu(cell.posterior_hidden(torch.cat([h, e], -1)))))
        q_mean, q_std = cell.posterior(y)
        kl = ((p_std / q_std).log() + (q_std**2 + (q_mean - p_mean) ** 2) / (2 * p_std**2) - 0.5).sum(-1)
        moments = {"prior_mean": p_mean, "prior_std": p_std, "posterior_mean": q_mean, "posterior_std": q_std}
        return {"h": h, "z": q_mean + q_std * noise, "kl": kl, **moments}


def level_frames(dynamics: ClockworkDynamics, embed: Tensor) -> list[Tensor]:
    """The embeddings (B, T, E) that each level sums over its windows, bottom first."""
    frames = [embed]
    for embedder in dynamics.embedders:
        frames.append(embedder(frames[-1] if dynamics.config.cascade else embed))
    return frames


def level_noise(dynamics: ClockworkDynamics, noise: Tensor) -> list[Tensor]:
    """Noise (B, T, noise_dim) of all levels -> that of each, bottom first."""
    return list(noise.split([level.latent.noise_dim for level in dynamics.levels], -1))


def _linear_like(layer: nn.Linear) -> nn.Linear:
    return nn.Linear(layer.in_features, layer.out_features)
