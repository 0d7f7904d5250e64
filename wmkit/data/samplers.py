"""Samplers cut episodes into batches: whole episodes, windows at random places, or consecutive windows.

Batch k is a pure function of (source, settings, seed, k), so that a run is resumed exactly. Episodes are loaded ahead
of need. A shard is a rank's rows of the global batch.
"""

from __future__ import annotations

import bisect
import dataclasses
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.checks import check_integer
from wmkit.data.episode import STEP_KEYS, Array, Episode
from wmkit.data.loader import Loader
from wmkit.data.sources import EpisodeSource


@dataclasses.dataclass(frozen=True)
class Segment:
    """Steps start..stop-1 of one episode: one row of a batch."""

    episode: int
    start: int
    stop: int
    fresh: bool
    """Read it as an episode of its own: `is_first` at its first step, and no action led there."""


class Sampler(ABC, Iterator[Batch]):
    """An iterator over batches that says where it stands (`state_dict`) and can be put there (`load_state_dict`).

    A subclass says which segments make up batch k (`plan`), how long its rows are (`batch_length`) and how many batches
    ahead episodes are loaded (`lookahead`).

    Arguments:
        source: where episodes come from.
        batch_size: rows of the global batch, all ranks together.
        seed: of the order.
        keys: ground truth wanted in `Batch.extras`.
        workers: processes (generated episodes) or threads (stored ones) that load ahead; the order does not depend on
            it. 0 loads in the caller.

    """

    lookahead: int

    def __init__(
        self, source: EpisodeSource, batch_size: int, *, seed: int, keys: Sequence[str] = (), workers: int = 0
    ) -> None:
        check_integer("batch_size", batch_size, 1)
        check_integer("seed", seed, 0)
        if isinstance(keys, str):
            raise ValueError(f"keys: expected a list of names, got {keys!r}; write [{keys!r}]")
        if source.num_episodes == 0:
            raise ValueError("The source holds no episodes.")
        self.source, self.batch_size, self.seed, self.keys = source, batch_size, seed, tuple(keys)
        self.wait_seconds = 0.0
        """Time the caller has spent in `next`, all batches together."""
        self._rows = slice(0, batch_size)
        self._cursor = 0
        self._planned: deque[list[Segment]] = deque()
        self._loader = Loader(source, workers)

    @abstractmethod
    def plan(self, number: int) -> list[Segment]:
        """The rows of global batch `number`; empty when there is none."""

    @abstractmethod
    def batch_length(self, segments: list[Segment]) -> int:
        """T of the global batch made of `segments`."""

    def settings(self) -> dict[str, Any]:
        """What the order depends on; a resumed run must agree in all of it."""
        return {"sampler": type(self).__name__, "seed": self.seed, "batch_size": self.batch_size}

    def shard(self, rank: int, world_size: int) -> Self:
        """From now on give rows `rank * b .. (rank + 1) * b - 1` only, b = batch_size / world_size; returns self."""
        if self.batch_size % world_size or not 0 <= rank < world_size:
            raise ValueError(f"Cannot give rank {rank} of {world_size} an equal share of {self.batch_size} rows")
        share = self.batch_size // world_size
        self._rows = slice(rank * share, (rank + 1) * share)
        self._forget_plans()
        return self

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on with the same next batch (JSON)."""
        return {**self.settings(), "cursor": self._cursor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken; raises `ValueError` when this sampler's order is another one."""
        for key, value in self.settings().items():
            if state.get(key) != value:
                raise ValueError(f"Cannot resume the data order: {key} was {state.get(key)!r}, is {value!r} now")
        self._cursor = int(state["cursor"])
        self._forget_plans()

    def __next__(self) -> Batch:
        began = time.perf_counter()
        try:
            while len(self._planned) <= self.lookahead:
                self._planned.append(self.plan(self._cursor + len(self._planned)))
                for segment in self._planned[-1][self._rows]:
                    self._loader.need(segment.episode)
            whole = self._planned[0]
            segments = whole[self._rows]
            if not segments:
                raise StopIteration
            episodes = [self._loader.get(segment.episode) for segment in segments]
            batch = collate(segments, episodes, self.batch_length(whole), self.keys)
            self._cursor += 1
            for segment in self._planned.popleft()[self._rows]:
                self._loader.release(segment.episode)
            return batch
        finally:
            self.wait_seconds += time.perf_counter() - began

    def _forget_plans(self) -> None:
        self._planned.clear()
        self._loader.clear()

    def close(self) -> None:
        """End the workers."""
        self._loader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WholeEpisodes(Sampler):
    """One episode per row, padded on the right to the longest of its batch.

    `epochs=None` never ends; `epochs=n` gives every episode of a finite source n times, the last batch with fewer rows
    if need be. Order: see `EpisodeOrder`.
    """

    lookahead = 1

    def __init__(
        self,
        source: EpisodeSource,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = None,
        keys: Sequence[str] = (),
        workers: int = 0,
    ) -> None:
        if epochs is not None and source.num_episodes is None:
            raise ValueError("epochs: the source is endless; give it num_episodes, or leave epochs out")
        super().__init__(source, batch_size, seed=seed, keys=keys, workers=workers)
        self.shuffle = shuffle
        self._end = None if epochs is None else epochs * (source.num_episodes or 0)
        self._order = EpisodeOrder(source.num_episodes, seed, shuffle)

    def settings(self) -> dict[str, Any]:
        """What the order depends on."""
        return {**super().settings(), "shuffle": self.shuffle}

    def plan(self, number: int) -> list[Segment]:
        """Episodes number * B .. (number + 1) * B - 1 of the order."""
        start = number * self.batch_size
        stop = start + self.batch_size if self._end is None else min(start + self.batch_size, self._end)
        indices = [self._order(position) for position in range(start, stop)]
        return [Segment(i, 0, self.source.episode_length(i), fresh=True) for i in indices]

    def batch_length(self, segments: list[Segment]) -> int:
        """Length of the longest episode."""
        return max(segment.stop for segment in segments)


class RandomWindows(Sampler):
    """Windows of `length` steps, each read as an episode of its own: its first step is `is_first`, with a zero action.

    Episodes are used in blocks of `block_episodes` (default: one batch of them, so that every row of a batch is another
    episode). A block gives `windows_per_episode` windows of each of its episodes (default: as many as fit, so that a
    frame is seen once per block on average) at uniform offsets, every pass over the block in a new order. While a
    block is used, the workers load the next one. An episode shorter than `length` is padded.

    Raises `ValueError` for a `length` that no episode reaches and for a block that is not a multiple of the batch.
    """

    def __init__(
        self,
        source: EpisodeSource,
        batch_size: int,
        length: int,
        *,
        seed: int = 0,
        windows_per_episode: int | None = None,
        block_episodes: int | None = None,
        keys: Sequence[str] = (),
        workers: int = 0,
    ) -> None:
        lengths = [source.episode_length(i) for i in range(source.num_episodes or 1)]
        check_integer("length", length, 1)
        check_integer("batch_size", batch_size, 1)  # it divides, before the others are looked at
        if length > max(lengths, default=length):
            raise ValueError(f"length: expected 1 to {max(lengths)}, the longest episode, got {length}")
        self.length = length
        self.block_episodes = block_episodes or batch_size
        self.windows_per_episode = windows_per_episode or max(1, round(float(np.mean(lengths)) / length))
        if self.block_episodes % batch_size:
            raise ValueError(
                f"block_episodes: expected a multiple of batch_size {batch_size}, got {self.block_episodes}"
            )
        self._batches_per_block = self.windows_per_episode * self.block_episodes // batch_size
        self.lookahead = self._batches_per_block
        self._order = EpisodeOrder(source.num_episodes, seed, shuffle=True)
        super().__init__(source, batch_size, seed=seed, keys=keys, workers=workers)

    def settings(self) -> dict[str, Any]:
        """What the order depends on."""
        own = {key: getattr(self, key) for key in ("length", "windows_per_episode", "block_episodes")}
        return {**super().settings(), **own}

    def plan(self, number: int) -> list[Segment]:
        """B windows of the block that batch `number` lies in."""
        block, place = divmod(number, self._batches_per_block)
        draw = generator(self.seed, 1, block)
        shape = (self.windows_per_episode, self.block_episodes)
        order = draw.permuted(np.broadcast_to(np.arange(self.block_episodes), shape), axis=1)  # (passes, episodes)
        offset = draw.random(shape)  # (passes, episodes) in [0, 1)
        rows = slice(place * self.batch_size, (place + 1) * self.batch_size)
        members = order.reshape(-1)[rows] + block * self.block_episodes
        segments = []
        for member, u in zip(members, offset.reshape(-1)[rows], strict=True):
            index = self._order(int(member))
            total = self.source.episode_length(index)
            start = int(float(u) * (max(total - self.length, 0) + 1))
            segments.append(Segment(index, start, min(start + self.length, total), fresh=True))
        return segments

    def batch_length(self, segments: list[Segment]) -> int:
        """The windows' length."""
        return self.length


class PersistentWindows(Sampler):
    """Each row walks one episode in consecutive windows of `length` steps, then the next one.

    Row b reads episodes b, b + B, b + 2B, ... of the order; batch k + 1 goes on where batch k stopped, so a state
    carried from batch to batch is the state of the same episode. An episode's last window may be short: it is padded
    and masked, and the next episode begins with `is_first` at column 0 of the next batch. No reset falls inside a
    window.

    Rows are staggered: of its first episode row b reads the first (b + 1) / B only, so that a batch holds windows
    from everywhere in an episode. Were all rows at the same place, step after step would pull the model towards one
    part of the episode and away from the others.
    """

    def __init__(
        self,
        source: EpisodeSource,
        batch_size: int,
        length: int,
        *,
        seed: int = 0,
        keys: Sequence[str] = (),
        workers: int = 0,
    ) -> None:
        check_integer("length", length, 1)
        super().__init__(source, batch_size, seed=seed, keys=keys, workers=workers)
        self.length = length
        self._order = EpisodeOrder(source.num_episodes, seed, shuffle=True)
        # Of its first episode row b reads a share of (b + 1) / B, rounded up to whole windows.
        shares = [-(-self._windows_of(self._episode(row, 0)) * (row + 1) // batch_size) for row in range(batch_size)]
        self._begins = [[0, share] for share in shares]
        """For each row, the batch at which its n-th episode begins; grows as far as it is asked about."""
        self.lookahead = self._windows_of(self._order(0))

    def settings(self) -> dict[str, Any]:
        """What the order depends on."""
        return {**super().settings(), "length": self.length}

    def plan(self, number: int) -> list[Segment]:
        """The window that each row has reached at batch `number`."""
        # All rows learn their beginnings together, so that each epoch is shuffled once.
        while min(begins[-1] for begins in self._begins) <= number:
            for row, begins in enumerate(self._begins):
                begins.append(begins[-1] + self._windows_of(self._episode(row, len(begins) - 1)))
        segments = []
        for row, begins in enumerate(self._begins):
            nth = bisect.bisect_right(begins, number) - 1
            index = self._episode(row, nth)
            start = (number - begins[nth]) * self.length
            stop = min(start + self.length, self.source.episode_length(index))
            segments.append(Segment(index, start, stop, fresh=start == 0))
        return segments

    def batch_length(self, segments: list[Segment]) -> int:
        """The windows' length."""
        return self.length

    def _episode(self, row: int, nth: int) -> int:
        return self._order(nth * self.batch_size + row)

    def _windows_of(self, index: int) -> int:
        return -(-self.source.episode_length(index) // self.length)


class EpisodeOrder:
    """Position -> episode index. Endless sources are read in order, finite ones epoch by epoch, each reshuffled."""

    def __init__(self, num_episodes: int | None, seed: int, shuffle: bool) -> None:
        self._count, self._seed, self._shuffle = num_episodes, seed, shuffle
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def __call__(self, position: int) -> int:
        """The episode at `position` of the endless order."""
        if self._count is None:
            return position
        epoch, place = divmod(position, self._count)
        if not self._shuffle:
            return place
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, generator(self._seed, 0, epoch).permutation(self._count)
        return int(self._permutation[place])


def generator(seed: int, *key: int) -> np.random.Generator:
    """Independent random numbers for each (seed, key)."""
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))


def collate(segments: Sequence[Segment], episodes: Sequence[Episode], length: int, keys: Sequence[str]) -> Batch:
    """Rows `episodes[b][segments[b]]`, padded on the right with zeros to `length`; `keys` become `Batch.extras`."""
    steps = {key: _stack(key, segments, episodes, length) for key in STEP_KEYS}
    counts = np.array([segment.stop - segment.start for segment in segments])  # (B,)
    mask = np.arange(length)[None] < counts[:, None]  # (B, T)
    fresh = np.array([segment.fresh for segment in segments])  # (B,)
    steps["is_first"][fresh, 0] = True
    steps["action"][fresh, 0] = 0
    return Batch(
        # frames stay (H, W, C) in memory: what a channels_last convolution wants
        image=torch.from_numpy(steps.pop("image")).permute(0, 1, 4, 2, 3),
        mask=torch.from_numpy(mask),
        inner_reset=bool(steps["is_first"][:, 1:].any()),
        extras={key: _extra(key, segments, episodes, length) for key in keys},
        **{key: torch.from_numpy(value) for key, value in steps.items()},
    )


def _stack(key: str, segments: Sequence[Segment], episodes: Sequence[Episode], length: int) -> Array:
    """The arrays of `key` (B, length, ...), one row per segment."""
    first = episodes[0].steps[key]
    out = np.empty((len(segments), length, *first.shape[1:]), first.dtype)
    for row, segment, episode in zip(out, segments, episodes, strict=True):
        count = segment.stop - segment.start
        row[:count] = episode.steps[key][segment.start : segment.stop]
        row[count:] = 0
    return out


def _extra(key: str, segments: Sequence[Segment], episodes: Sequence[Episode], length: int) -> Tensor:
    """Ground truth (B, length, ...); what an episode holds once is repeated along time without a copy."""
    if key not in episodes[0]:
        raise ValueError(f"keys: no {key!r} in these episodes; they hold {sorted(episodes[0])}")
    if key in episodes[0].steps:
        return torch.from_numpy(_stack(key, segments, episodes, length))
    constant = torch.from_numpy(np.stack([episode.constants[key] for episode in episodes]))
    return constant[:, None].expand(-1, length, *constant.shape[1:])
