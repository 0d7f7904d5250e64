"""Consecutive windows for truncated back-propagation through time (TBTT)."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from wmkit.data.collate import Piece
from wmkit.data.sampler import EpisodeOrder, Sampler
from wmkit.data.source import EpisodeSource


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
        if length < 1:
            raise ValueError(f"length: expected 1 or more, got {length}")
        super().__init__(source, batch_size, seed=seed, keys=keys, workers=workers)
        self.length = length
        self._order = EpisodeOrder(source.num_episodes, seed, shuffle=True)
        self._begins: list[list[int]] = [[0, self._share(row)] for row in range(batch_size)]
        """For each row, the batch at which its n-th episode begins; grows as far as it is asked about."""
        self.lookahead = self._windows_of(self._order(0))

    def settings(self) -> dict[str, Any]:
        """What the order depends on."""
        return {**super().settings(), "length": self.length}

    def plan(self, number: int) -> list[Piece]:
        """The window that each row has reached at batch `number`."""
        self._extend(number)
        return [self._piece(row, number) for row in range(self.batch_size)]

    def batch_length(self, pieces: list[Piece]) -> int:
        """The windows' length."""
        return self.length

    def _extend(self, number: int) -> None:
        """Know the beginnings beyond batch `number`: all rows together, so that each epoch is shuffled once."""
        while min(begins[-1] for begins in self._begins) <= number:
            for row, begins in enumerate(self._begins):
                begins.append(begins[-1] + self._windows_of(self._episode(row, len(begins) - 1)))

    def _piece(self, row: int, number: int) -> Piece:
        nth = bisect.bisect_right(self._begins[row], number) - 1
        index = self._episode(row, nth)
        start = (number - self._begins[row][nth]) * self.length
        return Piece(index, start, min(start + self.length, self.source.episode_length(index)), fresh=start == 0)

    def _episode(self, row: int, nth: int) -> int:
        return self._order(nth * self.batch_size + row)

    def _share(self, row: int) -> int:
        """How many windows the row reads of its first episode: a share of (row + 1) / B, rounded up."""
        return -(-self._windows_of(self._episode(row, 0)) * (row + 1) // self.batch_size)

    def _windows_of(self, index: int) -> int:
        return -(-self.source.episode_length(index) // self.length)
