"""The dynamics contract: what a world model needs of the part that carries latents through time."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.backbones.base import ParameterGroup
from wmkit.checks import check_tensor
from wmkit.tree import State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What dynamics read in one call of `observe`; shapes and types are checked when it is made.

    `WorldModel.encode` makes one of a batch. Raises `ValueError` for shapes, types or devices other than these, and for
    `inner_reset=False` beside an `is_first` that says otherwise, where the host can read that for nothing: on the CPU.
    """

    embed: Tensor
    """(B, T, E) embeddings of the images."""
    action: Tensor
    """(B, T, A); `action[:, t]` led to frame t."""
    is_first: Tensor
    """(B, T) bool: True where an episode begins."""
    noise: Tensor | None = None
    """(B, T, noise_dim) as `draw_noise` gives it; None takes the mode of every latent."""
    mask: Tensor | None = None
    """(B, T) bool: False on padding at the ends of rows, which enters no step before it; None: there is none."""
    inner_reset: bool = True
    """Host-side: False promises that no row begins an episode at t >= 1, so that nobody has to read `is_first`."""

    def __post_init__(self) -> None:
        check_tensor("embed", self.embed)
        for name in ("action", "is_first", "noise", "mask"):
            if (x := getattr(self, name)) is not None:
                check_tensor(name, x, self.embed.device)
        if self.embed.ndim != 3:
            raise ValueError(f"embed: expected (B, T, E), got {tuple(self.embed.shape)}")
        lead = self.embed.shape[:2]  # (B, T)
        for name in ("action", "noise"):
            x = getattr(self, name)
            if x is not None and (x.ndim != 3 or x.shape[:2] != lead):
                raise ValueError(f"{name}: expected (B, T, ...) = {(*lead, ...)}, got {tuple(x.shape)}")
        for name in ("is_first", "mask"):
            x = getattr(self, name)
            if x is not None and (x.shape != lead or x.dtype != torch.bool):
                raise ValueError(f"{name}: expected (B, T) = {tuple(lead)} bool, got {tuple(x.shape)} of {x.dtype}")
        # Elsewhere than on the CPU the host would have to wait for the answer; a graph cannot branch on it.
        readable = self.is_first.device.type == "cpu" and not torch.compiler.is_compiling()
        if not self.inner_reset and readable and bool(self.is_first[:, 1:].any()):
            raise ValueError("inner_reset=False, but is_first is True at some t >= 1: one of the two is wrong")

    def window(self, start: int, stop: int) -> Inputs:
        """Steps start..stop-1 of every row."""
        names = "embed", "action", "is_first", "noise", "mask"
        parts = {name: None if (x := getattr(self, name)) is None else x[:, start:stop] for name in names}
        return Inputs(**parts, inner_reset=self.inner_reset)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Observed:
    """What observing gives for each step."""

    h: Tensor
    """(B, T, D) backbone features: all the model knows of the past."""
    z: Tensor
    """(B, T, S) posterior samples."""
    posterior: Tensor
    """(B, T, P) raw parameters of q(z_t | ...)."""
    prior: Tensor
    """(B, T, P) raw parameters of p(z_t | h_t)."""

    @property
    def features(self) -> Tensor:
        """(B, T, D + S): concat[h, z], what the heads read."""
        return torch.cat([self.h, self.z], dim=-1)

    @staticmethod
    def joined(parts: Sequence[Observed]) -> Observed:
        """Pieces of a sequence, one after another."""
        names = "h", "z", "posterior", "prior"
        return Observed(*(torch.cat([getattr(part, name) for part in parts], 1) for name in names))


class Dynamics(nn.Module, ABC):
    """Latents through time: reads embeddings and actions, imagines from actions alone, tells what its latents cost.

    Laws, checked by `wmkit.testing.check_dynamics` in eval() and train(), with gradients and without, with
    `return_state` and without, over a few steps and over more than 64:

     1. Observing in pieces equals observing whole, wherever the dynamics may be cut; a context may be, too. Gradients
        are the same as well.
     2. Nothing of a later frame enters an earlier step.
     3. `is_first` at t makes everything from t on equal a fresh start, whatever the row had before, NaN included, and
        whichever rows begin beside it; where the clock forbids it, `ValueError`.
     4. Rows do not see their neighbours, however many there are, in observing and imagining.
     5. Gradients reach every parameter and flow through embeddings, actions and the incoming state, in observing and
        imagining, whether parameters are frozen or not; they are the derivatives.
     6. Saving and loading gives the same output.
     7. State: batch first, stable shapes and dtypes, indexable, repeatable, detachable, never changed in place.
     8. Imagining in pieces equals imagining whole, and changes with nothing but actions, noise and state. Gradients are
        the same as well.
     9. Every KL term and entropy is (B, T); works at any length, and a call changes nothing for a later one, not even
        one under `torch.inference_mode` for training.
    10. Under bf16 autocast embeddings and actions may be bf16 too; outputs stay near those in float32, gradients reach
        what they reach there, resets hold, and recurrent accumulators stay fp32.

    Dynamics that are not `causal` read ahead inside windows of `period` steps; laws 1 and 2 then hold at multiples of
    `period`, as law 3 does for all.
    """

    embed_dim: int
    action_dim: int
    memory_dim: int
    """D, the width of h."""
    feature_dim: int
    """Width of concat[h, z]."""
    noise_dim: int
    """Numbers of noise per row and step."""
    period: int = 1
    """Steps after which every part of the dynamics ticks again: episodes may begin at its multiples."""
    causal: bool = True
    """Does each step know of frames up to its own only?"""
    first_step: str = "model"
    """Whether an episode's first step enters the loss, unless told otherwise: `model` or `condition`."""

    @abstractmethod
    def initialise(self) -> None:
        """Initial weights of everything but the backbones, which bring their own."""

    @abstractmethod
    def initial_state(self, batch_size: int, context: int | None = None) -> State:
        """The state before an episode's first step: a pytree of real tensors, batch first.

        `context=C`: imagination goes on after C steps from here. Dynamics that read frames in windows then set their
        clock so that the last window ends with step C; an `is_first` in column 0 leaves that as it is. None, and
        dynamics without a clock: the clock starts with the episode. Raises `ValueError` for a context below 1.
        """

    @abstractmethod
    def draw_noise(self, lead: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Noise (*lead, noise_dim), on the CPU."""

    @abstractmethod
    def observe(
        self, inputs: Inputs, state: State | None = None, *, return_state: bool = True
    ) -> tuple[Observed, State | None]:
        """Read T steps from `state` -> (what was inferred at each step, state after the last one | None).

        `state=None` means `initial_state`. `return_state=False` where nobody needs the last state: it can cost extra.
        """

    @abstractmethod
    def imagine(self, action: Tensor, *, noise: Tensor | None, state: State) -> tuple[Tensor, Tensor, State]:
        """Prior samples: action (B, H, A), noise (B, H, noise_dim) -> (h (B, H, D), z (B, H, S), state after them)."""

    @abstractmethod
    def kl(self, seen: Observed, balance: float | None, free_bits: float) -> dict[str, Tensor]:
        """KL terms in nats by name, each (B, T); see `balanced_kl`. `free_bits` are per step of time."""

    @abstractmethod
    def entropies(self, seen: Observed) -> dict[str, Tensor]:
        """Entropies of priors and posteriors in nats by name, and what else the log should show, each (B, T)."""

    def check_call(
        self, action: Tensor, noise: Tensor | None, state: State | None, embed: Tensor | None = None
    ) -> None:
        """Raise `ValueError` for what would be broadcast: other widths than these dynamics', or a state of other rows.

        The first thing that `observe` and `imagine` do. `WorldModel` has looked at the rest.
        """
        rows, length = action.shape[:2]
        for name, x, width in (
            ("embed", embed, self.embed_dim),
            ("action", action, self.action_dim),
            ("noise", noise, self.noise_dim),
        ):
            if x is not None and tuple(x.shape) != (rows, length, width):
                raise ValueError(f"{name}: expected (B, T, ...) = {(rows, length, width)}, got {tuple(x.shape)}")
        for leaf in [] if state is None else tree.leaves(state):
            if leaf.shape[:1] != (rows,):
                raise ValueError(f"state: {tree.other_rows(leaf.shape[0] if leaf.ndim else 0, rows)}")

    def comparable_state(self, state: State) -> State:
        """The state as the laws compare it: what backbones say of theirs (`Backbone.comparable_state`)."""
        return state

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters that want their own optimiser settings; all others follow the run's."""
        return []
