"""Features of episodes by every row, and the truth beside them: each episode is made, read and let go once.

A *row* says what the model may see of an episode before it is asked. A probe is fitted to each row anew.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from wmkit import tree
from wmkit.data import Episode, EpisodeSource, check_episode
from wmkit.data.samplers import Segment, collate
from wmkit.evaluation.predictors import ACTIONS, CONSTANT, CONTROL, NO_MEMORY, OBSERVED, ORACLE, UNTRAINED
from wmkit.evaluation.rollout import FRAMES_AT_ONCE
from wmkit.networks import to_unit
from wmkit.probing.base import INPUTS, Probe
from wmkit.probing.readers import Reader
from wmkit.tree import State

IMAGINED, CONTEXTS = "imagined", "contexts"
"""Further readings of held-out episodes, by which probes that were fitted to `observed` are asked."""
STATE_BYTES_AT_ONCE = 1 << 28
"""Of the states of rows that are read together."""
EPISODES_AT_ONCE = 16
"""Imagination goes step by step, and a step of sixteen rows costs a CPU little more than one of two."""
CODE_SIDE = 8
"""A frame's picture for the control task is averaged to so many pixels on a side."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """Whole episodes of one length on the model's device."""

    image: Tensor
    """(B, T, C, H, W) uint8."""
    action: Tensor
    """(B, T, A)."""
    seeds: Sequence[int]
    """Of each row's latents."""
    kept: Tensor
    """(S,) the steps of which features are kept, in order; the last one of the episode is the last."""


def parts_read(
    reader: Reader, image: Tensor, action: Tensor, seeds: Sequence[int]
) -> Iterator[tuple[Tensor, State | None]]:
    """What `reader.observe` gives of all rows, so many at a time as have `FRAMES_AT_ONCE` frames, or one."""
    rows, length = image.shape[:2]
    together = max(1, min(FRAMES_AT_ONCE // length, STATE_BYTES_AT_ONCE // max(1, reader.state_bytes)))
    for i in range(0, rows, together):
        yield reader.observe(image[i : i + together], action[i : i + together], seeds[i : i + together])


def read(reader: Reader, image: Tensor, action: Tensor, seeds: Sequence[int]) -> tuple[Tensor, State]:
    """The features (B, T, F) and the states after the last step."""
    features, states = zip(*parts_read(reader, image, action, seeds), strict=True)
    return torch.cat(features), tree.map_tree(lambda *parts: torch.cat(parts), *states)


def observed(reader: Reader, clip: Clip) -> Tensor:
    """Everything up to the step."""
    return torch.cat(
        [features[:, clip.kept] for features, _ in parts_read(reader, clip.image, clip.action, clip.seeds)]
    )


def no_memory(reader: Reader, clip: Clip) -> Tensor:
    """The frame of the step alone: an episode that begins there, where no action led."""
    frames = clip.image[:, clip.kept].flatten(0, 1)[:, None]  # (B S, 1, C, H, W)
    still = torch.zeros_like(clip.action[:, clip.kept]).flatten(0, 1)[:, None]
    seeds = [seed * clip.image.shape[1] + step for seed in clip.seeds for step in clip.kept.tolist()]
    alone = torch.cat([features for features, _ in parts_read(reader, frames, still, seeds)])
    return alone.view(len(clip.seeds), len(clip.kept), -1)


def actions(reader: Reader, clip: Clip) -> Tensor:
    """The first frame, then actions alone: the model imagines all the rest."""
    first, state = read(reader, clip.image[:, :1], clip.action[:, :1], clip.seeds)
    if clip.image.shape[1] == 1:
        return first
    rest, _ = reader.imagine(clip.action[:, 1:], state, clip.seeds)
    return torch.cat([first, rest], dim=1)[:, clip.kept]


READ: Mapping[str, Callable[[Reader, Clip], Tensor]] = {OBSERVED: observed, NO_MEMORY: no_memory, ACTIONS: actions}
TOLD = "inputs"
"""The row of what a probe is told beside the features, without any."""
ROWS = (OBSERVED, ORACLE, ACTIONS, NO_MEMORY, UNTRAINED, CONTROL, TOLD, CONSTANT)
"""All rows. `oracle` goes on from the features of `observed`, with a copy of the model that learns from the probe;
`untrained` observes with the model at its initial weights; `control` is asked another question of the features of
`observed`, a fixed random function of the frame in view; `inputs` has no features, but what the probe is told beside
them, if it is told something; `constant` has neither."""
_FEATURES_OF = {ORACLE: OBSERVED, CONTROL: OBSERVED, TOLD: None, CONSTANT: None}


def features_of(row: str) -> str | None:
    """The row whose features a row is fitted to; None where there are none."""
    return _FEATURES_OF.get(row, row)


@dataclasses.dataclass(frozen=True)
class Reading:
    """Features of E episodes, the truth that they are asked for, and where each stands on its axis."""

    features: Tensor
    """(E, S, F)."""
    at: npt.NDArray[np.int64]
    """(S,) places among `Gathered.kept`."""
    position: npt.NDArray[np.int64]
    """(S,) the step from 1 on, the steps imagined, or the frames seen."""


@dataclasses.dataclass(frozen=True)
class Gathered:
    """Some episodes as probes see them, at S of their T steps, all on the model's device."""

    kept: npt.NDArray[np.int64]
    """(S,) those steps, from 0 on."""
    readings: Mapping[str, Reading]
    """By row; of held-out episodes also `imagined` and `contexts`."""
    blank: Mapping[str, Reading]
    """The same without features, of `observed`, `imagined` and `contexts`, whatever was read."""
    inputs: Mapping[str, Tensor]
    """(E, S, I) by probe: what it is told."""
    targets: Mapping[str, Tensor]
    """(E, S, ...) by probe."""
    delays: Mapping[str, Tensor | None]
    """(E, S, *entries) by probe."""
    codes: Tensor
    """(E, S, P) small pictures of the frames."""


def kept_steps(length: int, every: int) -> npt.NDArray[np.int64]:
    """Every so many-th step of an episode up to the last."""
    return np.arange(length - 1, -1, -every)[::-1].copy()


def gather(
    reader: Reader,
    source: EpisodeSource,
    indices: Sequence[int],
    length: int,
    every: int,
    probes: Sequence[Probe],
    rows: Sequence[str],
    *,
    seed: int,
    context: int | None = None,
    delays: bool = True,
    progress: Callable[[int], None] = lambda episodes: None,
) -> Gathered:
    """The first `length` steps of episodes, read by each row of `rows` that has features of its own.

    context: imagination from there on, and shorter and shorter pasts of the last step, are read too, if `observed` is
    among the rows. delays: whether anybody can say what was in view.
    """
    wanted = [row for row in ROWS if row in {features_of(row) for row in rows}]
    fresh = reader.fresh(seed) if UNTRAINED in wanted else None
    kept = kept_steps(length, every)
    at_steps, first_imagined = np.arange(len(kept)), 0 if context is None else int(np.searchsorted(kept, context))
    contexts = np.unique(np.geomspace(1, length, 12).round().astype(np.int64))
    found: dict[str, list[Tensor]] = defaultdict(list)
    truth: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
    codes: list[Tensor] = []
    for start in range(0, len(indices), EPISODES_AT_ONCE):
        chosen = indices[start : start + EPISODES_AT_ONCE]
        whole = [source.episode(index) for index in chosen]
        episodes = [Episode({key: x[:length] for key, x in one.steps.items()}, dict(one.constants)) for one in whole]
        for index, episode in zip(chosen, episodes, strict=True):
            check_episode(episode, f"Episode {index}", source.image_shape, source.action_dim)
            for probe in probes:
                delay = probe.delay(episode) if delays else None
                parts = [INPUTS[name](episode) for name in probe.inputs]
                told = np.concatenate(parts, axis=1) if parts else np.zeros((length, 0), np.float32)
                for kind, array in (("target", probe.target(episode)), ("delay", delay), ("inputs", told)):
                    if array is not None:
                        truth[kind, probe.name].append(torch.from_numpy(np.array(array[kept])))
        batch = collate([Segment(index, 0, length, fresh=True) for index in chosen], episodes, length, [])
        batch = batch.to(reader.device)
        seeds = [seed * 1_000_003 + index for index in chosen]
        clip = Clip(batch.image, batch.action, seeds, torch.from_numpy(kept).to(reader.device))
        small = F.adaptive_avg_pool2d(to_unit(batch.image[:, clip.kept]).flatten(0, 1), CODE_SIDE)
        codes.append(small.flatten(1).view(len(chosen), len(kept), -1))
        for row in wanted:
            which = fresh if row == UNTRAINED and fresh is not None else reader
            with which.reading():
                found[row].append(READ.get(row, observed)(which, clip))
        if context is not None and OBSERVED in wanted:
            with reader.reading():
                _, state = read(reader, batch.image[:, :context], batch.action[:, :context], seeds)
                if context < length:
                    ahead, _ = reader.imagine(batch.action[:, context:], state, seeds)
                    found[IMAGINED].append(ahead[:, clip.kept[first_imagined:] - context])
                ends = []
                for past in contexts.tolist():
                    image, action = batch.image[:, length - past :], batch.action[:, length - past :].clone()
                    action[:, 0] = 0
                    ends.append(torch.cat([of[:, -1] for of, _ in parts_read(reader, image, action, seeds)]))
                found[CONTEXTS].append(torch.stack(ends, 1))
        progress(len(chosen))
    axes = {OBSERVED: (at_steps, kept + 1),
            IMAGINED: (at_steps[first_imagined:], kept[first_imagined:] + 1 - (context or 0)),
            CONTEXTS: (np.full(len(contexts), len(kept) - 1), contexts)}  # fmt: skip
    of_probes = {
        kind: {
            probe.name: torch.stack(arrays).to(reader.device) if (arrays := truth[kind, probe.name]) else None
            for probe in probes
        }
        for kind in ("inputs", "target", "delay")
    }
    small_pictures = torch.cat(codes)
    return Gathered(
        kept=kept,
        blank={name: Reading(small_pictures[:, at, :0], at, position) for name, (at, position) in axes.items()},
        readings={
            name: Reading(torch.cat(parts).float(), *axes.get(name, (at_steps, kept + 1)))
            for name, parts in found.items()
        },
        inputs={name: value for name, value in of_probes["inputs"].items() if value is not None},
        targets={name: value for name, value in of_probes["target"].items() if value is not None},
        delays=of_probes["delay"],
        codes=small_pictures,
    )
