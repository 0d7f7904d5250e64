"""What a probe is, and the registry of probes.

A probe asks what a state holds: a small network reads a fact of the episode's ground truth off frozen features. It is
one class in one file: which fact, as numbers or as classes, and when that fact was last in view. Everything else (the
rows beside it, seeds, intervals, curves, files) is the same for all.

A fact has *entries*, such as the cells of a maze or its objects, each of which is right or wrong by itself; the axes of
the entries may be none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from wmkit.checks import closest
from wmkit.data import Episode
from wmkit.registry import Classes

NEVER = -1
"""The delay of what was not in view yet."""
Array = npt.NDArray[np.generic]


class Probe(ABC):
    """A fact that is read off features. The class says all; an object holds nothing.

    @register_probe("dark")
    class Dark(Probe):
        keys = ("lamp",)

        def target(self, episode):
            return (episode["lamp"] == 0).astype(int)  # (T,): two classes, no axes of entries
    """

    name: ClassVar[str]
    """By which it is asked for; given by `register_probe`."""
    keys: ClassVar[Sequence[str]] = ()
    """Ground truth that it reads: it applies to episodes that have all of it."""
    inputs: ClassVar[Sequence[str]] = ()
    """What it is told beside the features, of `INPUTS`: `pose`."""
    hidden: ClassVar[Sequence[int]] = (400, 400, 400, 400)
    """Hidden layers of its network; beside it a linear one is fitted."""
    width: ClassVar[int | None] = None
    """Outputs for each entry; None: one for each class, or one for each number of the target's last axis."""
    unit: ClassVar[str] = "share"
    """Of its score."""
    shown: ClassVar[bool] = True
    """Whether a delay of 0 means that one frame shows the answer: a probe that cannot tell it then is not admitted."""
    of_view: ClassVar[bool] = False
    """Whether it asks what has been in view, which says nothing where walls hide nothing."""
    better: ClassVar[Literal["lower", "higher"]] = "higher"
    """Of its score; of numbers usually `lower`."""
    label: ClassVar[str] = ""
    """For titles; empty: the name with spaces."""

    def applies(self, episode: Episode) -> bool:
        """Whether an episode has what it asks for."""
        return episode.keys() >= set(self.keys)

    @abstractmethod
    def target(self, episode: Episode) -> Array:
        """The fact at each step: classes (T, *entries) of an integer type, or numbers (T, *entries, d) float."""

    def delay(self, episode: Episode) -> Array | None:
        """Steps since each entry was last in view, (T, *entries) int: 0 now, `NEVER` not yet; None: nobody can say."""
        return None

    def counts(self, delay: Tensor | None, target: Tensor) -> Tensor | None:
        """Which entries are asked for, (N, *entries) bool, of their delays and targets; None: all."""
        return None

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Of outputs (N, *entries, width) and targets the loss (N, *entries): the cross-entropy of classes in nats, or
        half the squared error of numbers, summed over the last axis. The sum over entries is trained on.
        """
        if target.is_floating_point():
            return 0.5 * (output - target).square().sum(-1)
        return F.cross_entropy(output.flatten(0, -2), target.flatten(), reduction="none").view(target.shape)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """How good an answer is, (N, *entries): whether the likeliest class is right, or the squared error of numbers,
        summed over the last axis.
        """
        if target.is_floating_point():
            return (output - target).square().sum(-1)
        return (output.argmax(-1) == target).float()


ProbeClass = TypeVar("ProbeClass", bound=type[Probe])
_probes: Classes[Probe] = Classes("probe", "wmkit.probing.probes", "wmkit.probes")


def register_probe(name: str) -> Callable[[ProbeClass], ProbeClass]:
    """Class decorator: make a `Probe` known as `name`.

    Import its module, name it in `plugins=`, or offer it as an entry point of the group `wmkit.probes`. Raises
    `ValueError` for a name that is taken and for inputs that do not exist.
    """

    def register(cls: ProbeClass) -> ProbeClass:
        for one in cls.inputs:
            if one not in INPUTS:
                raise ValueError(f"{cls.__qualname__}.inputs: no {one!r}.{closest(one, INPUTS)} There is {[*INPUTS]}.")
        _probes.add(name, cls)
        return cls

    return register


def all_probes() -> dict[str, type[Probe]]:
    """Every probe by name."""
    return _probes.all()


def find_probes(names: Sequence[str]) -> list[Probe]:
    """The probes called so; raises `ValueError` with the closest match and the list of names."""
    return [cls() for cls in _probes.find(names)]


def pose(episode: Episode) -> Array:
    """(T, 4) float32: `agent_pos` scaled to [-1, 1] by the sides of the map, then `agent_dir`, a unit vector.

    The map is `maze_layout` (h, w), or `map_tiles` (h, w) of tile worlds; without either, positions are as they are.
    """
    position = np.asarray(episode["agent_pos"], np.float32)  # (T, 2)
    of_map = next((episode[key] for key in ("maze_layout", "map_tiles") if key in episode), None)
    if of_map is not None:
        position = (2 * position / np.array(of_map.shape[::-1]) - 1).astype(np.float32)
    return np.concatenate([position, np.asarray(episode["agent_dir"], np.float32)], axis=1)


INPUTS: dict[str, Callable[[Episode], Array]] = {"pose": pose}
"""What a probe may be told beside the features, (T, d) float32 of an episode."""


def since_last(happens: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(T, ...) bool -> steps since it was last so, (T, ...): 0 where it is, `NEVER` before the first time."""
    times = np.arange(len(happens)).reshape(-1, *[1] * (happens.ndim - 1))
    last = np.maximum.accumulate(np.where(happens, times, -1), axis=0)
    return np.where(last < 0, NEVER, times - last)


def entries_of(target: Tensor) -> tuple[int, ...]:
    """The axes of the entries of a target (N, *entries) of classes or (N, *entries, d) of numbers."""
    return tuple(target.shape[1:-1] if target.is_floating_point() else target.shape[1:])


def width_of(probe: Probe, target: Tensor) -> int:
    """Outputs for each entry: see `Probe.width`. target: all that there is to fit to."""
    if probe.width is not None:
        return probe.width
    return target.shape[-1] if target.is_floating_point() else int(torch.clamp(target.max(), min=1)) + 1
