"""`clockwork`: a hierarchy of latent levels that tick ever more slowly, each over any backbone.

Level l ticks every s_l steps (s_l = k^(l-1)), top-down: its prior sees its own past and the last state of the level
above. Levels above the first read the frames of a window through an MLP per frame and a sum:

    e^1_t = CNN(x_t)        m^l_t = MLP_l(m^{l-1}_t)        e^l_t = sum of m^l over the window of tick t

Windows are either
    smoothing   t .. t + s_l - 1       the posterior sees its whole window, as published
    causal      t - s_l + 1 .. t       an agent can filter frame by frame
With smoothing windows a call must hold whole windows to equal a longer one: they start where the episode does and the
last one may be cut off (training). From `initial_state(B, context=C)` the last window of every level ends with step C,
and an earlier one takes the remainder: each level has then read every frame of the context.

Sources: Saxena, Ba, Hafner, Clockwork Variational Autoencoders, 2021 (CW-VAE), which is the same model as Variational
Temporal Hierarchies (TALD), 2020; its released code where the texts leave choices open.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.backbones.base import ParameterGroup
from wmkit.config import ModelConfig
from wmkit.dynamics.base import Dynamics, Inputs, Observed
from wmkit.dynamics.clockwork.clock import Timing, sums_ahead, sums_behind
from wmkit.dynamics.clockwork.config import ClockworkConfig, build_levels
from wmkit.dynamics.clockwork.level import Level, LevelPass
from wmkit.dynamics.latents import balanced_kl
from wmkit.networks.base import glorot
from wmkit.registry import register_backbone

ClockworkState = dict[str, Any]
"""{`phase`: (B,) int64, steps since all levels ticked together, or, before a context, minus the steps until they do at
its end; `levels`: the state of each, bottom first; and by the number of a level ("2", "3", ...) `above`, where it ticks
more slowly than the one below, its last [h, z] (B, D + S). Where it does not tick at every step, also what it has yet
to read: `frames`, if windows are causal, the sum (B, E) of embeddings since its last tick, and `actions`, if they enter
above the first level, their sum (B, A).}"""


@dataclasses.dataclass(frozen=True)
class HierarchyObserved(Observed):
    """What observing gives: that of the first level for each step, and every level's own at its ticks."""

    levels: tuple[LevelPass, ...]
    """Bottom first."""

    @staticmethod
    def joined(parts: Sequence[Observed]) -> HierarchyObserved:
        """Pieces of a sequence, one after another; ticks are counted from the first one's first step."""
        pieces = [part for part in parts if isinstance(part, HierarchyObserved)]
        starts = [0, *itertools.accumulate(part.h.shape[1] for part in pieces)]
        levels = []
        for passes in zip(*(part.levels for part in pieces), strict=True):
            names = "h", "z", "posterior", "prior"
            h, z, posterior, prior = (torch.cat([getattr(one, name) for one in passes], 1) for name in names)
            ticks = tuple(start + tick for start, one in zip(starts, passes, strict=False) for tick in one.ticks)
            levels.append(LevelPass(h, z, posterior, prior, ticks))
        bottom = levels[0]
        return HierarchyObserved(bottom.h, bottom.z, bottom.posterior, bottom.prior, tuple(levels))


@register_backbone("clockwork", ClockworkConfig, kind="dynamics")
class ClockworkDynamics(Dynamics):
    """L levels over backbones; see the module's docstring for the equations.

    All rows of a batch share one phase of the clock. An episode may begin inside a sequence only where all levels tick,
    at multiples of `period` = s_L: anywhere else raises `ValueError`. Features are [h, z] of the first level.
    """

    def __init__(self, config: ClockworkConfig, model: ModelConfig, *, embed_dim: int, action_dim: int) -> None:
        super().__init__()
        if model.posterior not in (None, "filtering"):
            raise ValueError(f"clockwork has a posterior of its own; drop model.posterior={model.posterior!r}")
        self.config, self.clock = config, config.clock
        self.embed_dim, self.action_dim = embed_dim, action_dim
        self.period, self.causal = self.clock.period, config.windows == "causal" or self.clock.period == 1
        self.cells = nn.ModuleList(build_levels(config, model, embed_dim, action_dim))
        units = config.level_units
        self.embedders = nn.ModuleList(
            nn.Sequential(
                nn.Linear(embed_dim, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, embed_dim)
            )
            for _ in self.uppers
        )
        strides = self.clock.strides
        pairs = enumerate(itertools.pairwise(strides), start=1)
        # by the number of a level: what the state carries of it between its ticks
        self._repeated = {str(i + 1): i for i, (below, own) in pairs if own > below}
        self._summing = {str(i + 1): i for i, stride in enumerate(strides) if stride > 1}
        bottom = self.levels[0]
        self.memory_dim, self.feature_dim = bottom.core.feature_dim, bottom.output_dim
        self.noise_dim = sum(level.latent.noise_dim for level in self.levels)

    @property
    def levels(self) -> list[Level]:
        """Bottom first."""
        return cast(list[Level], list(self.cells))

    @property
    def uppers(self) -> list[Level]:
        """All levels but the first."""
        return self.levels[1:]

    def initialise(self) -> None:
        """Keras's initial weights, as the released code has them; then a sharp posterior where it is wanted."""
        self.embedders.apply(glorot)
        for level in self.levels:
            level.initialise()
            if self.config.sharp_start:
                level.latent.start_sharp(level.posterior_out)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The cores' optimiser hints."""
        return [group for level in self.levels for group in level.core.parameter_groups()]

    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Noise of all levels, bottom first; a level reads its own at the steps where it ticks."""
        return torch.cat([level.latent.draw_noise(lead, generator) for level in self.levels], dim=-1)

    def comparable_state(self, state: ClockworkState) -> ClockworkState:
        """Of every level's backbone as it says."""
        pairs = zip(self.levels, state["levels"], strict=True)
        levels = [{**own, "core": level.core.comparable_state(own["core"])} for level, own in pairs]
        return {**state, "levels": levels}

    def initial_state(self, batch_size: int, context: int | None = None) -> ClockworkState:
        """Every level at its initial state, nothing waiting.

        Without a context all levels tick at step 1, else at step C (causal windows) or at the one after it (smoothing).
        """
        phase = 0 if context is None else self.clock.phase_before(context, at_tick=self.causal)
        weight = self.levels[0].input.weight
        state: ClockworkState = {
            "phase": torch.full((batch_size,), phase, dtype=torch.int64, device=weight.device),
            "levels": [level.initial_state(batch_size) for level in self.levels],
            "above": {
                name: weight.new_zeros(batch_size, self.levels[i].output_dim) for name, i in self._repeated.items()
            },
        }
        sums = weight.new_zeros(batch_size, 0, dtype=torch.promote_types(weight.dtype, torch.float32))
        if self.config.windows == "causal":
            state["frames"] = {name: sums.new_zeros(batch_size, self.embed_dim) for name in self._summing}
        if self.config.actions_above:
            state["actions"] = {name: sums.new_zeros(batch_size, self.action_dim) for name in self._summing}
        return state

    def observe(
        self,
        inputs: Inputs,
        state: ClockworkState | None = None,
        *,
        return_state: bool = True,
        prior_levels: Collection[int] = (),
    ) -> tuple[HierarchyObserved, ClockworkState | None]:
        """Read T steps, level after level from the top; see `Dynamics.observe`.

        `prior_levels`: levels, 1 the bottom one, that see no frames and sample from their priors, which then stand for
        their posteriors (TALD, section 4.6: level reset). Raises `ValueError` where a row begins an episode out of step
        with the clock, rows of the state are at different phases, or a prior level does not exist.
        """
        unknown = sorted(set(prior_levels) - set(range(1, len(self.cells) + 1)))
        if unknown:
            raise ValueError(
                f"prior_levels: expected levels from 1, the bottom one, to {len(self.cells)}, got {unknown}"
            )
        self.check_call(inputs.action, inputs.noise, state, inputs.embed)
        is_first = inputs.is_first
        action = inputs.action.masked_fill(is_first.unsqueeze(-1), 0)  # (B, T, A)
        state, timing = self._begin(state, is_first)
        columns = self._inner_resets(is_first, timing) if inputs.inner_reset else set()
        marks = is_first if columns else None  # (B, T)
        embeds, frames = self._embed_windows(inputs.embed, state, timing, marks, inputs.mask)
        actions, waiting = self._sum_actions(action, state, timing, marks)
        noises = self._split_noise(inputs.noise, timing)
        passes: list[LevelPass] = []
        levels: list[Any] = []
        above: dict[str, Tensor] = {}
        context = None
        for i, level in reversed(list(enumerate(self.levels))):
            ticks, before = timing.ticks[i], state["levels"][i]
            resets = [is_first[:, t] if t in columns else None for t in ticks]
            bias = level.input_bias(context, timing.parents(i), actions[i])  # (B, ticks, I)
            if i + 1 in prior_levels:
                part, after = level.observe_from_prior(bias, noises[i], resets, ticks, before)
            else:
                part, after = level.observe(bias, embeds[i], noises[i], resets, ticks, before)
            passes, levels = [part, *passes], [after, *levels]
            if i > 0:
                context = above[str(i + 1)] = _outputs(part.h, part.z, state["above"].get(str(i + 1)))
        bottom = passes[0]
        seen = HierarchyObserved(bottom.h, bottom.z, bottom.posterior, bottom.prior, tuple(passes))
        return seen, self._after(state, timing, levels, above, frames | waiting) if return_state else None

    def imagine(
        self, action: Tensor, *, noise: Tensor | None, state: ClockworkState
    ) -> tuple[Tensor, Tensor, ClockworkState]:
        """Prior samples, level after level from the top; see `Dynamics.imagine`. The clock runs on."""
        self.check_call(action, noise, state)
        phase = _common(_read(state["phase"]))
        timing = self.clock.timing(action.shape[1], phase, begins=phase < 0)
        actions, waiting = self._sum_actions(action, state, timing, None)
        noises = self._split_noise(noise, timing)
        levels: list[Any] = []
        above: dict[str, Tensor] = {}
        context = None
        for i, level in reversed(list(enumerate(self.levels))):
            bias = level.input_bias(context, timing.parents(i), actions[i])  # (B, ticks, I)
            h, z, after = level.imagine(bias, noises[i], state["levels"][i])
            levels = [after, *levels]
            if i > 0:
                context = above[str(i + 1)] = _outputs(h, z, state["above"].get(str(i + 1)))
        frames = {}
        if "frames" in state:  # imagined frames are not read, and what an imagined tick would have read is gone
            ticks = {name: timing.ticks[i] for name, i in self._summing.items()}
            frames["frames"] = {n: torch.zeros_like(x) if ticks[n] else x for n, x in state["frames"].items()}
        return h, z, self._after(state, timing, levels, above, frames | waiting)

    def kl(self, seen: Observed, balance: float | None, free_bits: float) -> dict[str, Tensor]:
        """`kl_1`, `kl_2`, ...: zero where a level does not tick; a tick has the free bits of its whole stride."""
        terms = {}
        for i, part in enumerate(_passes(seen)):
            latent, free = self.levels[i].latent, free_bits * self.clock.strides[i]
            kl = balanced_kl(latent, part.posterior, part.prior, balance, free)  # (B, n)
            terms[f"kl_{i + 1}"] = _over_time(kl, part.ticks, seen.h.shape[1])
        return terms

    def entropies(self, seen: Observed) -> dict[str, Tensor]:
        """Entropy of each level's posterior and prior, zero where it does not tick."""
        terms = {}
        for i, part in enumerate(_passes(seen)):
            for name, params in (("posterior", part.posterior), ("prior", part.prior)):
                entropy = self.levels[i].latent.entropy(params)  # (B, n)
                terms[f"{name}_entropy_{i + 1}"] = _over_time(entropy, part.ticks, seen.h.shape[1])
        return terms

    def _begin(self, state: ClockworkState | None, is_first: Tensor) -> tuple[ClockworkState, Timing]:
        """The state with column 0 folded in, and the call's timing. Of tensors it reads the rows' phases only."""
        batch_size, length = is_first.shape
        fresh = self.initial_state(batch_size)
        if state is None:
            return fresh, self.clock.timing(length)
        phases, first = _read(torch.stack([state["phase"], is_first[:, 0].long()]))  # (2, B): one wait for a GPU
        # A negative phase is that of a state from before a context: it begins here, and keeps its clock.
        phase = _common([0 if f and p >= 0 else p for p, f in zip(phases, first, strict=True)])
        begins = phase < 0 or all(first)
        return tree.where(is_first[:, 0], fresh, state), self.clock.timing(length, phase, begins)

    def _inner_resets(self, is_first: Tensor, timing: Timing) -> set[int]:
        """Columns from 1 on where some row begins an episode; all levels must tick there."""
        columns = {t for t in is_first.any(0).nonzero().flatten().tolist() if t > 0}
        wrong = sorted(t for t in columns if (timing.phase + t) % self.period)
        if wrong:
            raise ValueError(
                f"is_first: an episode begins at column {wrong[0]}, {(timing.phase + wrong[0]) % self.period} steps "
                f"after all levels ticked; with strides {list(self.clock.strides)} it can only begin every "
                f"{self.period} steps. Cut episodes there, or give each its own batch row."
            )
        return columns

    def _embed_windows(
        self, embed: Tensor, state: ClockworkState, timing: Timing, resets: Tensor | None, mask: Tensor | None
    ) -> tuple[list[Tensor], dict[str, dict[str, Tensor]]]:
        """Each level's embedding at its ticks, bottom first, and the sums that wait for a later tick."""
        embeds, waiting, frames = [embed], {}, embed
        for i, embedder in enumerate(self.embedders, start=1):
            frames = embedder(frames if self.config.cascade else embed)  # (B, T, E)
            ticks, name = timing.ticks[i], str(i + 1)
            if self.config.windows == "smoothing":
                # The last window of a short row ends with its frames, not with its padding.
                embeds.append(sums_ahead(frames if mask is None else frames * mask.unsqueeze(-1), ticks))
                continue
            sums, waiting[name] = sums_behind(frames, ticks, state["frames"].get(name), resets)  # (B, n, E), (B, E)
            embeds.append(sums)
        return embeds, {"frames": waiting} if "frames" in state else {}

    def _sum_actions(
        self, action: Tensor, state: ClockworkState, timing: Timing, resets: Tensor | None
    ) -> tuple[list[Tensor | None], dict[str, dict[str, Tensor]]]:
        """What each level sees of the actions at its ticks, bottom first, and the sums that wait for a later tick."""
        seen: list[Tensor | None] = [action if self.action_dim else None]
        if not self.config.actions_above:
            return [*seen, *(None for _ in self.uppers)], {}
        waiting = {}
        for i, ticks in enumerate(timing.ticks[1:], start=1):
            name = str(i + 1)
            sums, waiting[name] = sums_behind(action, ticks, state["actions"].get(name), resets)  # (B, n, A), (B, A)
            seen.append(sums)
        return seen, {"actions": waiting}

    def _after(
        self,
        state: ClockworkState,
        timing: Timing,
        levels: list[Any],
        outputs: dict[str, Tensor],
        waiting: dict[str, dict[str, Tensor]],
    ) -> ClockworkState:
        """The state after a call: of outputs the last ones, of sums those that some later tick will read."""
        after = {
            "phase": torch.full_like(state["phase"], (timing.phase + timing.length) % self.period),
            "levels": levels,
            "above": {name: outputs[name][:, -1] for name in self._repeated},
            **{key: {name: sums[name] for name in self._summing} for key, sums in waiting.items()},
        }
        return tree.compact(after)

    def _split_noise(self, noise: Tensor | None, timing: Timing) -> list[list[Tensor | None]]:
        """Noise (B, T, noise_dim) -> for each level one (B, its noise_dim) per tick."""
        if noise is None:
            return [[None] * len(ticks) for ticks in timing.ticks]
        parts = torch.split(noise, [level.latent.noise_dim for level in self.levels], dim=-1)
        return [[part[:, t] for t in ticks] for part, ticks in zip(parts, timing.ticks, strict=True)]


def _outputs(h: Tensor, z: Tensor, before: Tensor | None) -> Tensor:
    """[h, z] of a level at its ticks, after the one from before the call: (B, 1 + n, D + S).

    Zeros stand for that one where nobody reads it, because the level below never ticks alone.
    """
    outputs = torch.cat([h, z], dim=-1)  # (B, n, D + S)
    before = outputs.new_zeros(outputs.shape[0], outputs.shape[2]) if before is None else before
    return torch.cat([before.unsqueeze(1), outputs.to(before.dtype)], dim=1)


def _over_time(x: Tensor, ticks: Sequence[int], length: int) -> Tensor:
    """Put x (B, n) at its ticks, zeros elsewhere: (B, T)."""
    if len(ticks) == length:
        return x
    columns = torch.tensor(ticks, dtype=torch.int64, device=x.device)  # (n,)
    return x.new_zeros(x.shape[0], length).index_copy(1, columns, x)


def _passes(seen: Observed) -> tuple[LevelPass, ...]:
    """Every level's own, bottom first."""
    assert isinstance(seen, HierarchyObserved), "what this class's observe returned"
    return seen.levels


def _read(phases: Tensor) -> list[Any]:
    """Phases on the host, where they decide which levels tick; raises `ValueError` where a graph is exported."""
    if torch.compiler.is_exporting():
        raise ValueError(
            "clockwork: which levels tick is read from state['phase'], which an exported graph cannot do; export "
            "observe without a state, or use torch.compile"
        )
    return phases.tolist()


def _common(phases: list[int]) -> int:
    """The one phase of all rows."""
    if len(set(phases)) > 1:
        raise ValueError(
            f"state: rows are at different phases of the clock, {sorted(set(phases))} steps after all levels ticked; "
            "batch rows together that began their episodes a whole number of periods apart"
        )
    return phases[0]
