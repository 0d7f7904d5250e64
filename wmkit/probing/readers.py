"""Whose features are probed: a world model, or any other model that can be led through an episode.

A `Reader` is all that probing knows of a model. `WorldModelReader` reads wmkit's; `ForeignModel` makes one of three
functions of a model that wmkit did not build.
"""

from __future__ import annotations

import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.evaluation.rollout import evaluating
from wmkit.networks import to_unit
from wmkit.tree import State
from wmkit.world_model import WorldModel

Part = Literal["both", "h", "z"]
"""Of a world model's features: concat[h, z], what the backbone carries, or the latent of the step."""
Encode = Callable[[Tensor], Tensor]
Step = Callable[[Tensor | None, Tensor, Any], tuple[Tensor, Any]]


class Reader(ABC):
    """A model, led through episodes. Nothing that it does may change the model."""

    device: torch.device
    """Where its tensors are."""
    part: Part = "both"
    """What is probed of its features."""
    state_bytes: int = 0
    """Of one row's state before an episode; 0 where nobody knows."""
    make: Callable[[int], Any] | None = None
    """Builds the model at its initial weights, drawn from a seed, for `fresh`; None: nobody can."""

    @abstractmethod
    def observe(
        self, image: Tensor, action: Tensor, seeds: Sequence[int], state: State | None = None
    ) -> tuple[Tensor, State]:
        """Read on from a state, or an episode from its first step on: image (B, T, C, H, W), uint8 or float in [0, 1],
        and action (B, T, A), which led to it -> (features (B, T, F), state). What is random of row b depends on
        seeds[b] alone.
        """

    @abstractmethod
    def imagine(self, action: Tensor, state: State, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Follow action (B, H, A) without images -> features (B, H, F) as `observe` gives them, and all that `decode`
        reads, (B, H, ...), which may be more.
        """

    @abstractmethod
    def decode(self, features: Tensor) -> Tensor:
        """Frames (B, H, C, H, W) of what `imagine` gives second."""

    def initial(self, rows: int) -> State | None:
        """The state before an episode, an empty memory; None: nobody knows."""
        return None

    @property
    @abstractmethod
    def modules(self) -> Sequence[nn.Module]:
        """What must not change while it is probed: all that has weights."""

    @abstractmethod
    def fresh(self, seed: int) -> Reader:
        """The same model at its initial weights, drawn from `seed`; where `make` is not None."""

    @contextlib.contextmanager
    def reading(self, gradients: bool = False) -> Iterator[None]:
        """A block in which features are read, in eval(); without gradients unless they are asked for."""
        modes = [(module, module.training) for one in self.modules for module in one.modules()]
        for one in self.modules:
            one.eval()
        try:
            with torch.inference_mode(not gradients), torch.set_grad_enabled(gradients):
                yield
        finally:
            for module, mode in modes:
                module.training = mode


class WorldModelReader(Reader):
    """A `WorldModel` in eval(), its latents sampled.

    part: which of its features are probed. make: the model at its initial weights, for the rows `untrained` and
    `oracle`.
    """

    def __init__(self, model: WorldModel, part: Part = "both", make: Callable[[int], WorldModel] | None = None) -> None:
        self.model, self.part, self.make, self.device = model, part, make, model.device
        self.state_bytes = sum(leaf.nbytes for leaf in tree.leaves(model.initial_state(1)))

    def observe(
        self, image: Tensor, action: Tensor, seeds: Sequence[int], state: State | None = None
    ) -> tuple[Tensor, State]:
        rows, length = image.shape[:2]
        noise = self._noise(length, seeds, 0)
        before = self.model.initial_state(rows, length) if state is None else state  # imagination may begin at its end
        seen, state = self.model.observe(image, action, state=before, noise=noise)
        assert state is not None, "it was asked for"
        return self._part(seen.features), state

    def imagine(self, action: Tensor, state: State, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        features = self.model.imagine(action, state, noise=self._noise(action.shape[1], seeds, 1)).features
        return self._part(features), features

    def decode(self, features: Tensor) -> Tensor:
        return self.model.decode(features)

    def initial(self, rows: int) -> State:
        return self.model.initial_state(rows)

    @property
    def modules(self) -> Sequence[nn.Module]:
        return (self.model,)

    def fresh(self, seed: int) -> Reader:
        assert self.make is not None, "whoever asks has looked"
        with torch.random.fork_rng(devices=[]):
            model = self.make(seed)
        return WorldModelReader(model.to(self.device), self.part)

    @contextlib.contextmanager
    def reading(self, gradients: bool = False) -> Iterator[None]:
        with super().reading(gradients), contextlib.nullcontext() if gradients else evaluating(self.model):
            yield

    def _noise(self, length: int, seeds: Sequence[int], stream: int) -> Tensor:
        """(B, T, noise_dim), each row's own: how episodes are put together in a batch makes no difference."""
        rows = [self.model.draw_noise(1, length, torch.Generator().manual_seed(2 * seed + stream)) for seed in seeds]
        return torch.cat(rows)

    def _part(self, features: Tensor) -> Tensor:
        width = self.model.dynamics.memory_dim
        return {"both": features, "h": features[..., :width], "z": features[..., width:]}[self.part]


class ForeignModel(Reader):
    """A model that wmkit did not build, by three functions.

        encode(image (B, C, H, W) float32 in [0, 1]) -> embedding (B, E)
        step(embedding (B, E) | None, action (B, A), state | None) -> (features (B, F), state)
        decode(features (B, F)) -> image (B, C, H, W) float32 in [0, 1]

    `step` without an embedding imagines; a state is any tree of tensors, batch first, None before an episode. modules:
    those that the functions run, so that they are in eval() and their weights are watched. make: builds the same model
    anew at its initial weights, drawn from a seed, for the row `untrained`; and for `oracle`, which gives its modules
    the weights of these. initial: the state before an episode of so many rows, with the parts of those that `step`
    returns, so that parts can be reset.

    What `encode` and `step` draw from torch's global generators is a function of the seeds of a batch. Unlike those of
    a wmkit model, rows that are put together in another way draw other numbers.
    """

    def __init__(
        self,
        encode: Encode,
        step: Step,
        decode: Encode,
        modules: Sequence[nn.Module] = (),
        make: Callable[[int], ForeignModel] | None = None,
        device: torch.device | str = "cpu",
        initial: Callable[[int], State] | None = None,
    ) -> None:
        self._encode, self._step, self._decode, self._initial = encode, step, decode, initial
        self._modules, self.make, self.device = tuple(modules), make, torch.device(device)

    def observe(
        self, image: Tensor, action: Tensor, seeds: Sequence[int], state: State | None = None
    ) -> tuple[Tensor, State]:
        features: list[Tensor] = []
        with self._drawing(2 * seeds[0]):
            for t in range(image.shape[1]):
                feature, state = self._step(self._encode(to_unit(image[:, t])), action[:, t], state)
                features.append(feature)
        return torch.stack(features, 1), state

    def imagine(self, action: Tensor, state: State, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        features = []
        with self._drawing(2 * seeds[0] + 1):
            for t in range(action.shape[1]):
                feature, state = self._step(None, action[:, t], state)
                features.append(feature)
        stacked = torch.stack(features, 1)
        return stacked, stacked

    def decode(self, features: Tensor) -> Tensor:
        return torch.stack([self._decode(features[:, t]) for t in range(features.shape[1])], 1)

    def initial(self, rows: int) -> State | None:
        return None if self._initial is None else self._initial(rows)

    @property
    def modules(self) -> Sequence[nn.Module]:
        return self._modules

    def fresh(self, seed: int) -> Reader:
        assert self.make is not None, "whoever asks has looked"
        with self._drawing(seed):
            return self.make(seed)

    @contextlib.contextmanager
    def _drawing(self, seed: int) -> Iterator[None]:
        """A block that draws from torch's global generators as this seed has it, and leaves them as they were: what is
        imagined twice, from a state and from one with a part swapped, has the same noise.
        """
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield


def weights_digest(reader: Reader) -> str:
    """A checksum of weights and buffers."""
    digest = hashlib.sha256()
    for module in reader.modules:
        for name, value in module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint(reader: Reader) -> str:
    """A checksum of the model: weights and buffers, modes, what is trained, and gradients."""
    digest = hashlib.sha256(weights_digest(reader).encode())
    for module in reader.modules:
        for name, parameter in module.named_parameters():
            told = parameter.grad is not None and float(parameter.grad.double().sum())
            digest.update(f"{name} {parameter.requires_grad} {told}".encode())
        digest.update(str([one.training for one in module.modules()]).encode())
    return digest.hexdigest()
