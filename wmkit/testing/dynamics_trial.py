"""What a law of the dynamics contract is tried on: a copy of the dynamics, sequences, incoming states."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
import math

import torch
from torch import Tensor

from wmkit import tree
from wmkit.backbones.base import Backbone, all_prepared
from wmkit.dynamics.base import Dynamics, Inputs
from wmkit.testing.tolerance import Tolerance
from wmkit.testing.trial import jittered, noise, placement, without_dropout
from wmkit.tree import State

SHORTEST = 8
"""Steps of the short sequences, at least; they hold two periods or more."""

LONG = 130
"""Steps of the long ones, at least: more than any chunk in use."""

TRAINED = 70
"""The same in train(), where gradients make each step dearer: more than the usual length of training."""

CHUNKS = (8, 16, 32, 64, 100, 128)
"""Steps before which long sequences are cut and episodes begin in them: where kernels begin a chunk, and one other."""


@dataclasses.dataclass(frozen=True)
class Sequence:
    """Inputs of `observe` and `imagine`, each (B, T, ...)."""

    embed: Tensor
    action: Tensor
    noise: Tensor

    def inputs(self, is_first: Tensor, inner_reset: bool = True) -> Inputs:
        """What `observe` reads."""
        return Inputs(
            embed=self.embed, action=self.action, is_first=is_first, noise=self.noise, inner_reset=inner_reset
        )

    def window(self, start: int, stop: int) -> Sequence:
        """Steps start..stop-1."""
        return Sequence(*(getattr(self, field.name)[:, start:stop] for field in dataclasses.fields(self)))

    def until(self, t: int, other: Sequence) -> Sequence:
        """These steps before t, those of `other` from there on."""
        names = [field.name for field in dataclasses.fields(self)]
        return Sequence(*(torch.cat([getattr(self, n)[:, :t], getattr(other, n)[:, t:]], dim=1) for n in names))

    def rows(self, rows: Tensor) -> Sequence:
        """Rows by number."""
        return Sequence(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings, actions, noise."""
        return self.embed, self.action, self.noise

    def to(self, dtype: torch.dtype) -> Sequence:
        """In this precision."""
        return Sequence(*(x.to(dtype) for x in self.parts()))

    def rounded(self) -> Sequence:
        """As under autocast: an encoder and an actor hand over sixteen bits, noise is drawn in full."""
        return Sequence(self.embed.bfloat16(), self.action.bfloat16(), self.noise)


Signals = dict[str, Tensor]
"""What `observe` gives by name, each (B, T, ...): h, z, posterior, prior, KL terms, entropies; of video models the
decoded `image` too."""

WIDE = ("h", "z", "posterior", "prior", "image")
"""Signals with axes of their own; all others are (B, T)."""


class DynamicsTrial:
    """A jittered copy with random inputs of unit scale, over whole periods and one step more.

    A copy in train() drops nothing out (`nn.Dropout` at 0), so that two calls can be compared.
    """

    def __init__(
        self, dynamics: Dynamics, batch_size: int, tolerance: float | None, *, seed: int = 0, training: bool = False
    ) -> None:
        self.dynamics: Dynamics = without_dropout(jittered(dynamics)).train(training)
        self._original = dynamics
        self._carried: dict[int, State] = {}
        self.seed, self.training = seed, training
        self.batch_size, self.period = batch_size, dynamics.period
        self.dtype, self.device = placement(dynamics)
        self.whole = max(2 * self.period, self.in_periods(SHORTEST))
        """Steps of whole periods."""
        self.length = self.whole + 1
        self.long = self.in_periods(TRAINED if training else LONG)
        self.sequence, self.other, self.earlier = (self.random(seed, batch_size, self.length) for seed in range(3))
        floor = Tolerance.floor(self.dtype)
        self.tolerance = floor if tolerance is None else Tolerance(tolerance, tolerance, tolerance)
        self.notes: list[str] = []
        """What a law found that breaks nothing and is worth knowing."""
        self.not_differentiable = {
            path for part in dynamics.modules() if isinstance(part, Backbone) for path in part.not_differentiable
        }

    @property
    def boundaries(self) -> list[int]:
        """Steps t >= 1 at which a sequence may be cut without loss."""
        stride = 1 if self.dynamics.causal else self.period
        return list(range(stride, self.length, stride))

    def random(self, seed: int, batch_size: int, length: int) -> Sequence:
        """Embeddings and actions ~ N(0, 1) and the latents' own noise, the same for a seed in any precision."""
        lead = (batch_size, length)
        seed += 1000 * self.seed
        drawn = self.dynamics.draw_noise(lead, torch.Generator().manual_seed(seed))
        embed = self.frames(10 + seed, lead)
        action = noise(20 + seed, (*lead, self.dynamics.action_dim))
        return Sequence(*(x.to(self.device, self.dtype) for x in (embed, action, drawn)))

    def frames(self, seed: int, lead: tuple[int, int]) -> Tensor:
        """What there is to read of frames, (B, T, E)."""
        return noise(seed, (*lead, self.dynamics.embed_dim))

    def many_resets(self, begins: bool) -> Tensor:
        """is_first (B, long) at the `CHUNKS`, row after row, but at 64 of all rows; `begins`: in column 0 too."""
        is_first = self.first_column(self.long, begins)
        for number, t in enumerate(self.ticks(CHUNKS, self.long)):
            is_first[number % self.batch_size, t] = True
        is_first[:, self.ticks((64,), self.long)] = True
        return is_first

    def carried(self, length: int) -> State:
        """What the first `length` steps of an earlier sequence leave behind; a new copy each time."""
        if length not in self._carried:
            with torch.no_grad():
                self._carried[length] = self.observe(self.earlier.window(0, length), None)[1]
        return tree.map_tree(Tensor.clone, self._carried[length])

    def fresh(self) -> Dynamics:
        """A copy that no call has seen, unless the original has."""
        return without_dropout(jittered(self._original)).train(self.training)

    def in_periods(self, steps: int) -> int:
        """The length of as many whole periods as hold these steps."""
        return self.period * math.ceil(steps / self.period)

    def ticks(self, steps: tuple[int, ...], length: int) -> list[int]:
        """The last steps t >= 1 up to each of these at which every part of the dynamics ticks."""
        return sorted({t - t % self.period for t in steps} & set(range(1, length)))

    @property
    def aligned(self) -> State:
        """An incoming state with a past, from which an episode may begin."""
        return self.carried(self.whole)

    @property
    def running(self) -> State:
        """An incoming state in the middle of a period, where there is one."""
        return self.carried(self.length)

    def first_column(self, length: int, begins: bool = True, batch_size: int | None = None) -> Tensor:
        """is_first (B, T), True in column 0 only, or nowhere."""
        rows = self.batch_size if batch_size is None else batch_size
        is_first = torch.zeros(rows, length, dtype=torch.bool, device=self.device)
        is_first[:, 0] = begins
        return is_first

    @functools.cached_property
    def random_in_train(self) -> bool:
        """Do two equal calls in train() differ, dropout modules aside?"""
        results = []
        try:
            for seed in (0, 1):
                with torch.random.fork_rng(), torch.no_grad():
                    torch.manual_seed(seed)
                    results.append(self.observe(self.sequence, None, dynamics=copy.deepcopy(self.dynamics).train())[0])
        except Exception:  # a user's code may raise anything; the laws say what and where
            return False
        return not all(torch.equal(x, results[1][name]) for name, x in results[0].items())

    @functools.cached_property
    def one_hot(self) -> bool:
        """Are all samples whole numbers, as those of categorical latents?"""
        with torch.no_grad():
            z = self.observe(self.sequence, None)[0]["z"]
        return bool(((z - z.round()).abs() < 1e-4).all())

    def is_differentiable(self, path: str) -> bool:
        """Is a gradient wanted through the state leaf at this path? What backbones declare of theirs counts."""
        return not any(path.endswith(declared) for declared in self.not_differentiable)

    def observe(
        self,
        sequence: Sequence,
        state: State | None,
        is_first: Tensor | None = None,
        dynamics: Dynamics | None = None,
        return_state: bool = True,
    ) -> tuple[Signals, State | None]:
        """Signals and last state; without `is_first` an episode begins at column 0 where `state` is None.

        In `prepared` blocks but where the model is trained without them, as in `WorldModel`.
        """
        dynamics = self.dynamics if dynamics is None else dynamics
        rows, length = sequence.embed.shape[:2]
        marks = self.first_column(length, state is None, rows) if is_first is None else is_first
        inputs = self.inputs(sequence, marks, is_first is not None, dynamics)
        trained = dynamics.training and torch.is_grad_enabled() and not return_state
        with contextlib.nullcontext() if trained else all_prepared(dynamics):
            seen, last = dynamics.observe(inputs, state, return_state=return_state)
        parts = {name: getattr(seen, name) for name in ("h", "z", "posterior", "prior")}
        parts |= self.decoded(seen.h, seen.z, dynamics)
        return {**parts, **dynamics.kl(seen, None, 0.0), **dynamics.entropies(seen)}, last

    def inputs(self, sequence: Sequence, is_first: Tensor, inner_reset: bool, dynamics: Dynamics) -> Inputs:
        """What `observe` reads of a sequence."""
        return sequence.inputs(is_first, inner_reset)

    def decoded(self, h: Tensor, z: Tensor, dynamics: Dynamics) -> Signals:
        """What is drawn of features [h, z]: nothing by dynamics."""
        return {}

    def imagine(self, sequence: Sequence, state: State, dynamics: Dynamics | None = None) -> tuple[Signals, State]:
        """Imagined h and z, and the last state."""
        dynamics = self.dynamics if dynamics is None else dynamics
        with all_prepared(dynamics):
            h, z, last = dynamics.imagine(sequence.action, noise=sequence.noise, state=state)
        return {"h": h, "z": z, **self.decoded(h, z, dynamics)}, last

    def imagine_in_pieces(self, sequence: Sequence, state: State, cuts: list[int]) -> tuple[Signals, State]:
        """`imagine` over actions cut before the steps `cuts`."""
        parts = []
        for start, stop in itertools.pairwise([0, *cuts, sequence.action.shape[1]]):
            signals, state = self.imagine(sequence.window(start, stop), state)
            parts.append(signals)
        return join(parts), state

    def in_pieces(
        self, sequence: Sequence, state: State | None, cuts: list[int], begins: bool = False
    ) -> tuple[Signals, State]:
        """`observe` over a sequence cut before the steps `cuts`, the state carried from piece to piece.

        `begins`: an episode begins at column 0, whatever the state.
        """
        length = sequence.embed.shape[1]
        parts = []
        for start, stop in itertools.pairwise([0, *cuts, length]):
            marks = None if start or not begins else self.first_column(stop)
            signals, state = self.observe(sequence.window(start, stop), state, marks)
            parts.append(signals)
        return join(parts), state

    def restarted(self, sequence: Sequence, state: State | None, is_first: Tensor) -> tuple[Signals, State]:
        """What resets mean: cut before each, the initial state put in by hand in the rows that begin there."""
        rows, length = is_first.shape
        columns = [t for t in range(1, length) if bool(is_first[:, t].any())]
        fresh = self.dynamics.initial_state(rows)
        parts = []
        for start, stop in itertools.pairwise([0, *columns, length]):
            state = fresh if state is None else tree.where(is_first[:, start], fresh, state)
            marks = self.first_column(stop - start, batch_size=rows) & is_first[:, start : start + 1]
            signals, state = self.observe(sequence.window(start, stop), state, marks)
            parts.append(signals)
        return join(parts), state


def join(parts: list[Signals]) -> Signals:
    """Signals of consecutive pieces, along time."""
    return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}


def where_rows(rows: Tensor, yes: Sequence, no: Sequence) -> Sequence:
    """Row-wise choice between two sequences: `rows` (B,) bool picks `yes`."""
    return Sequence(
        *(tree.where(rows, getattr(yes, field.name), getattr(no, field.name)) for field in dataclasses.fields(yes))
    )
