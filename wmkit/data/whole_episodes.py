"""Whole episodes: what S4 and every parallel backbone train on, and what evaluation reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wmkit.data.collate import Piece
from wmkit.data.sampler import EpisodeOrder, Sampler
from wmkit.data.source import EpisodeSource


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

    def plan(self, number: int) -> list[Piece]:
        """Episodes number * B .. (number + 1) * B - 1 of the order."""
        start = number * self.batch_size
        stop = start + self.batch_size if self._end is None else min(start + self.batch_size, self._end)
        indices = [self._order(position) for position in range(start, stop)]
        return [Piece(i, 0, self.source.episode_length(i), fresh=True) for i in indices]

    def batch_length(self, pieces: list[Piece]) -> int:
        """Length of the longest episode."""
        return max(piece.stop for piece in pieces)
