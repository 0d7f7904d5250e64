"""What pictures made of tiles show: which tile each decoded one is, and whether the doors among them are right.

A squared error does not say what is wrong. In a world of tiles the nearest picture of the atlas does: wall, key, door
of some colour, open or closed. The episodes' own ground truth says where the doors are and what their tiles mean.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import render_tiles
from wmkit.evaluation.errors import Errors, Estimate
from wmkit.evaluation.old_predictors import FIRST_MAP, GENERATION
from wmkit.evaluation.ranges import Range, label
from wmkit.evaluation.verdict import Verdict
from wmkit.networks.dreamer import to_unit

TILES, OPEN, DOOR = "all tiles", "door, open or shut", "door, both"
KINDS = (TILES, OPEN, DOOR)
"""What is judged in each view; `both` is state and colour, where the picture shows a colour (open doors of 4 pixels do
not)."""
DOOR_MAJORITY = "the more frequent at each step"
PARTS = 4
"""Parts of the query that are told one by one."""
KEYS = ("tiles", "agent_pos", "map_tiles", "doors_pos", "door_open")
"""Ground truth that a world with doors gives with each step."""


@dataclasses.dataclass(frozen=True)
class TileTruth:
    """The tiles of N episodes over some steps T, and the doors in view."""

    tiles: Tensor
    """(N, T, h, w) int64, the first of those that look alike."""
    number: int
    """K, how many tiles there are."""
    in_view: Tensor
    """(N, T, D, h, w) bool: where door d is in the view."""
    is_open: Tensor
    """(N, T, D) bool."""

    @classmethod
    def of(cls, batch: Batch, atlas: Tensor) -> TileTruth:
        """From a batch that has `KEYS` as extras. The view is centred on the agent, north up, y down."""
        extras = batch.extras
        tiles = first_alike(atlas)[extras["tiles"].long()]
        rows, columns = tiles.shape[-2:]
        offset = extras["doors_pos"] - extras["agent_pos"][:, :, None]
        at_row = (offset[..., 1] + rows // 2)[..., None] == torch.arange(rows)
        at_column = (offset[..., 0] + columns // 2)[..., None] == torch.arange(columns)
        in_view = at_row[..., :, None] & at_column[..., None, :]
        in_view[..., rows // 2, columns // 2] = False  # what the agent stands on is not to be seen
        return cls(tiles, len(atlas), in_view, extras["door_open"].bool())

    def judge(self, tiles: Tensor) -> dict[str, Tensor]:
        """Tiles (N, T, h, w) -> for each of `KINDS` the share (N, T) that is right; NaN where nothing counts."""
        shown, at_doors = self.shown, self._at_doors(tiles)
        right = {
            OPEN: self._meaning()[at_doors] == self.is_open.long(),
            DOOR: at_doors == self._at_doors(self.tiles),
        }
        shares = {name: (value & shown).sum(-1) / shown.sum(-1) for name, value in right.items()}
        return {TILES: (tiles == self.tiles).float().mean((-2, -1)).where(self.moving, math.nan)} | shares

    def judge_majority(self) -> dict[str, Tensor]:
        """`OPEN` by the answer that is right for most doors in view at each step of these episodes."""
        share = (self.is_open & self.shown).sum((0, 2)) / self.shown.sum((0, 2))
        right = self.is_open == (share >= 0.5)[None, :, None]
        return {OPEN: (right & self.shown).sum(-1) / self.shown.sum(-1)}

    @property
    def moving(self) -> Tensor:
        """(N, T) bool: up to the last step that changed the view; after it the walk is over."""
        changed = (self.tiles[:, 1:] != self.tiles[:, :-1]).any(-1).any(-1)
        later = changed.long().flip(1).cummax(1).values.flip(1).bool()  # at t: whether the view changes after t
        return torch.cat([later.new_ones(len(later), 1), later], dim=1)

    @property
    def shown(self) -> Tensor:
        """(N, T, D) bool: whether door d is in view, while something moves."""
        return self.in_view.any(-1).any(-1) & self.moving[..., None]

    def _at_doors(self, tiles: Tensor) -> Tensor:
        """(N, T, D) the numbers of tiles (N, T, h, w) where the doors are; 0 where a door is not in view."""
        return (tiles[:, :, None] * self.in_view).sum((-2, -1))

    def _meaning(self) -> Tensor:
        """(K,): 1 for tiles that an open door had in these episodes, 0 for those of shut ones, -1 for all others."""
        means = torch.full((self.number,), -1)
        means[self._at_doors(self.tiles)[self.shown]] = self.is_open.long()[self.shown]
        return means


@dataclasses.dataclass(frozen=True)
class TileAccuracy:
    """Shares of tiles that are right, by predictor and by `KINDS`: (N, H), NaN where no door is in view."""

    shares: Mapping[str, Mapping[str, Tensor]]
    moving: Tensor
    """(N, H) bool: the walk, see `TileTruth.moving`."""

    @property
    def horizon(self) -> int:
        """H."""
        return self.shares[GENERATION][TILES].shape[1]

    @property
    def shows_doors(self) -> bool:
        """Whether any step of any episode has a door in view: else there is nothing to judge."""
        return not bool(self.shares[GENERATION][OPEN].isnan().all())

    def verdicts(self) -> list[Verdict]:
        """Are the doors imagined better than by two answers that need no model?"""
        return [self._beats(name) for name in (FIRST_MAP, DOOR_MAJORITY)]

    def _beats(self, baseline: str) -> Verdict:
        whole = (1, self.horizon)
        ours, theirs = self.over(GENERATION, OPEN, whole), self.over(baseline, OPEN, whole)
        claim = f"doors are imagined open or closed better than by {baseline}"
        return Verdict(claim, ours.mean - ours.half_width > theirs.mean, f"{ours.mean:.1%} against {theirs.mean:.1%}")

    def to_json(self) -> dict[str, Any]:
        """Per predictor and kind the mean share over the query with its interval, that of each part, and the curve.

        None where no door is in view.
        """
        return {
            name: {
                kind: {
                    **_plain(self.over(name, kind, (1, self.horizon))),
                    "parts": {label(s): _plain(self.over(name, kind, s)) for s in self.parts()},
                    "curve": self.curve(name, kind),
                }
                for kind in kinds
            }
            for name, kinds in self.shares.items()
        }

    def parts(self) -> list[Range]:
        """Quarters of the query, and all of it: the columns of a table."""
        ends = [round(part * self.horizon / PARTS) for part in range(PARTS + 1)]
        quarters = [(before + 1, after) for before, after in itertools.pairwise(ends) if after > before]
        return [*quarters, (1, self.horizon)]

    def over(self, predictor: str, kind: str, steps: Range) -> Estimate:
        """Mean share over query steps first..last, counted from 1, inclusive; interval over episodes.

        Only steps that show a door count for doors, and only episodes that have such steps; NaN if none has.
        """
        first, last = steps
        means = self.shares[predictor][kind][:, first - 1 : last].double().nanmean(dim=1)
        means = means[~means.isnan()]
        return Errors(means[:, None]).whole() if len(means) else Estimate(math.nan, math.nan)

    def curve(self, predictor: str, kind: str) -> list[float | None]:
        """Mean share at each query step; None where no episode shows a door."""
        means = self.shares[predictor][kind].double().nanmean(dim=0).tolist()
        return [None if mean != mean else mean for mean in means]


def _plain(estimate: Estimate) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {key: None if math.isnan(value) else value for key, value in dataclasses.asdict(estimate).items()}


def tile_accuracy(query: Batch, atlas: Tensor, predicted: Mapping[str, Tensor]) -> TileAccuracy:
    """Judge tiles (N, H, h, w) by predictor, and beside them the map as it was at first and the majority.

    query: the imagined steps, with `KEYS` as extras.
    """
    truth = TileTruth.of(query, atlas)
    frozen = first_alike(atlas)[remembered_map(query)]
    shares = {name: truth.judge(tiles) for name, tiles in {**predicted, FIRST_MAP: frozen}.items()}
    return TileAccuracy(shares | {DOOR_MAJORITY: truth.judge_majority()}, truth.moving)


def first_alike(atlas: Tensor) -> Tensor:
    """(K,): for each tile the first one that looks the same."""
    return nearest_tiles(atlas.movedim(-1, -3), atlas).flatten()


def nearest_tiles(images: Tensor, atlas: Tensor) -> Tensor:
    """For every tile of images (..., C, H, W) the number of the atlas picture at the smallest squared distance.

    atlas (K, ts, ts, C) uint8; images uint8 in 0..255 or float in [0, 1]. Returns (..., H / ts, W / ts) int64; of equal
    pictures the first one.
    """
    number, size, _, channels = atlas.shape
    known = to_unit(atlas).permute(0, 3, 1, 2).reshape(number, -1)
    height, width = images.shape[-2] // size, images.shape[-1] // size
    lead = images.shape[:-3]
    cells = to_unit(images).reshape(-1, channels, height, size, width, size).permute(0, 2, 4, 1, 3, 5)
    flat = cells.reshape(*lead, height, width, channels * size * size)
    # |x - a|^2 = |x|^2 - 2 x.a + |a|^2, and |x|^2 is the same for every a
    return (known.square().sum(-1) - 2 * flat @ known.T).argmin(-1)


def remembered_map(batch: Batch) -> Tensor:
    """Tiles (B, T, h, w) of a walker that knows its way but not that anything changes: the map as it was at first.

    Outside the map is what its corner is. The agent's own cell is copied from the truth.
    """
    extras = batch.extras
    truth, whole = extras["tiles"].long(), extras["map_tiles"][:, 0].long()
    rows, columns = truth.shape[-2:]
    edge = max(rows, columns) // 2
    height, width = whole.shape[-2:]
    padded = whole[:, :1, :1].repeat(1, height + 2 * edge, width + 2 * edge)
    padded[:, edge : edge + height, edge : edge + width] = whole
    x, y = extras["agent_pos"].long().unbind(-1)
    row = y[..., None] + torch.arange(rows) + edge - rows // 2
    column = x[..., None] + torch.arange(columns) + edge - columns // 2
    episode = torch.arange(len(padded))[:, None, None, None]
    view = padded[episode, row[..., :, None], column[..., None, :]]
    view[..., rows // 2, columns // 2] = truth[..., rows // 2, columns // 2]
    return view


def picture_of(tiles: Tensor, atlas: Tensor) -> Tensor:
    """Images (..., C, H, W) uint8 of tile numbers (..., h, w)."""
    return render_tiles(tiles, atlas).movedim(-1, -3)
