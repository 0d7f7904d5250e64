"""Windows of fixed length at random places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wmkit.data.collate import Piece
from wmkit.data.sampler import EpisodeOrder, Sampler, generator
from wmkit.data.source import EpisodeSource


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
        if length < 1 or length > max(lengths, default=length):
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

    def plan(self, number: int) -> list[Piece]:
        """B windows of the block that batch `number` lies in."""
        block, place = divmod(number, self._batches_per_block)
        draw = generator(self.seed, 1, block)
        shape = (self.windows_per_episode, self.block_episodes)
        order = draw.permuted(np.broadcast_to(np.arange(self.block_episodes), shape), axis=1)
        offset = draw.random(shape)
        rows = slice(place * self.batch_size, (place + 1) * self.batch_size)
        members = order.reshape(-1)[rows] + block * self.block_episodes
        return [self._piece(int(member), float(u)) for member, u in zip(members, offset.reshape(-1)[rows], strict=True)]

    def _piece(self, position: int, u: float) -> Piece:
        index = self._order(position)
        total = self.source.episode_length(index)
        start = int(u * (max(total - self.length, 0) + 1))
        return Piece(index, start, min(start + self.length, total), fresh=True)

    def batch_length(self, pieces: list[Piece]) -> int:
        """The windows' length."""
        return self.length
