"""What all samplers share: batch k is a pure function of (seed, k); loading ahead; shards; exact resume."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from wmkit.batch import Batch
from wmkit.data.collate import Piece, collate
from wmkit.data.episode import Array
from wmkit.data.loader import Loader
from wmkit.data.source import EpisodeSource


class Sampler(ABC, Iterator[Batch]):
    """An iterator over batches that says where it stands (`state_dict`) and can be put there (`load_state_dict`).

    A subclass says which pieces of which episodes make up batch k (`plan`), how long its rows are (`batch_length`) and
    how many batches ahead episodes are loaded (`lookahead`).

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
        if batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
        if source.num_episodes == 0:
            raise ValueError("The source holds no episodes.")
        self.source, self.batch_size, self.seed, self.keys = source, batch_size, seed, tuple(keys)
        self.wait_seconds = 0.0
        """Time the caller has spent in `next`, all batches together."""
        self._rows = slice(0, batch_size)
        self._cursor = 0
        self._planned: deque[list[Piece]] = deque()
        self._loader = Loader(source, workers)

    @abstractmethod
    def plan(self, number: int) -> list[Piece]:
        """The rows of global batch `number`; empty when there is none."""

    @abstractmethod
    def batch_length(self, pieces: list[Piece]) -> int:
        """T of the global batch made of `pieces`."""

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
            return self._next_batch()
        finally:
            self.wait_seconds += time.perf_counter() - began

    def _next_batch(self) -> Batch:
        while len(self._planned) <= self.lookahead:
            self._planned.append(self.plan(self._cursor + len(self._planned)))
            for piece in self._planned[-1][self._rows]:
                self._loader.need(piece.episode)
        whole = self._planned[0]
        pieces = whole[self._rows]
        if not pieces:
            raise StopIteration
        batch = collate(pieces, [self._loader.get(p.episode) for p in pieces], self.batch_length(whole), self.keys)
        self._cursor += 1
        for piece in self._planned.popleft()[self._rows]:
            self._loader.release(piece.episode)
        return batch

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
        return int(self._permutation_of(epoch)[place]) if self._shuffle else place

    def _permutation_of(self, epoch: int) -> Array:
        assert self._count is not None, "an endless source has no epochs"
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, generator(self._seed, 0, epoch).permutation(self._count)
        return self._permutation


def generator(seed: int, *key: int) -> np.random.Generator:
    """Independent random numbers for each (seed, key)."""
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))
