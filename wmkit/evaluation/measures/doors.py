"""What images made of tiles show: which tile each decoded one is, and whether the doors among them are right.

A squared error does not say what is wrong. In a world of tiles the nearest image of the atlas does: wall, key, door of
some colour, open or closed. The episodes' own ground truth says where the doors are and what their tiles mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import render_tiles
from wmkit.evaluation.claims import Beats
from wmkit.evaluation.measures.base import Measure, Prediction, Scores, Setting, register_measure
from wmkit.evaluation.measures.frames import FrameError, frame_error
from wmkit.evaluation.predictors import (
    IMAGINED,
    INITIAL_MAP,
    MAJORITY,
    OBSERVED,
    SHUFFLED_ACTIONS,
    Clips,
    Frames,
    register_baseline,
)
from wmkit.evaluation.record import Metric
from wmkit.networks import to_unit

KEYS = ("tiles", "atlas", "agent_pos", "map_tiles", "doors_pos", "door_open")
"""Ground truth that a world of tiles with doors gives."""
PARTS = 4
"""Equal parts of the query that tables show one by one."""
_CAPTION = (
    "Each tile of a decoded frame counts as the most similar one of the atlas; steps after the last change of the view "
    "are left out."
)
TILES = Metric("tiles_right", "share", "higher", "tiles in the view", PARTS, caption=_CAPTION)
STATE = Metric(
    "door_state",
    "share",
    "higher",
    "doors in the view, open or closed",
    PARTS,
    caption=f"{_CAPTION} Majority: the more frequent state at each step.",
    claims=(Beats(IMAGINED, INITIAL_MAP, surely=True), Beats(IMAGINED, MAJORITY, surely=True)),
)
BOTH = Metric(
    "door_state_and_colour",
    "share",
    "higher",
    "doors in the view, state and colour",
    PARTS,
    headline=True,
    caption=f"{_CAPTION} Colour counts where the image shows one: open doors of 4 pixels do not.",
)
MOVING = Metric(
    "frame_error_moving",
    FrameError.metrics[0].unit,
    "lower",
    "frame error until the view changes no more",
    caption="When the walk is over, the same image is easy to get right until the end.",
)


@register_measure("doors")
class Doors(Measure):
    """Shares of the tiles, and of the doors in view, that decoded frames show right."""

    order = 10
    metrics = (TILES, STATE, BOTH)
    predictors = (OBSERVED, IMAGINED, SHUFFLED_ACTIONS, INITIAL_MAP)
    keys = KEYS

    def prepare(self, setting: Setting, truth: Batch | None) -> None:
        assert truth is not None, "doors are measured on the query"
        self.meaning = TileTruth.of(truth).meaning()

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        tiles = nearest_tiles(prediction.frames, truth.extras["atlas"][0, 0]).cpu()
        return TileTruth.of(truth.to("cpu")).judge(tiles, self.meaning)

    def counts(self, truth: Batch) -> Scores:
        known = TileTruth.of(truth.to("cpu"))
        shown = known.shown.any(-1)
        return {TILES.name: known.moving, STATE.name: shown, BOTH.name: shown}

    def answers(self, truth: Batch) -> Mapping[str, Scores]:
        return {MAJORITY: TileTruth.of(truth).judge_majority()}


@register_measure("doors_moving")
class MovingFrameError(FrameError):
    """The frame error of worlds with doors until the walk is over."""

    order = 10
    metrics = (MOVING,)
    keys = KEYS
    on_context = False

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        return {MOVING.name: frame_error(prediction.frames, truth.image)}

    def counts(self, truth: Batch) -> Scores:
        return {MOVING.name: TileTruth.of(truth.to("cpu")).moving}


@register_baseline(INITIAL_MAP)
def initial_map(clips: Clips) -> Frames | None:
    """The view along the true trajectory on the map as it was at first."""
    if not clips.batch.extras.keys() >= set(KEYS):
        return None
    query = clips.batch.window(clips.context, clips.batch.shape[1])

    def frames(row: int) -> Tensor:
        one = query.map(lambda x: x[row : row + 1])
        return image_of(remembered_map(one), one.extras["atlas"][0, 0])[0]

    return frames


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
    def of(cls, batch: Batch) -> TileTruth:
        """From a batch that has `KEYS` as extras. The view is centred on the agent, north up, y down."""
        extras = batch.extras
        atlas = extras["atlas"][0, 0]
        tiles = first_alike(atlas)[extras["tiles"].long()]  # (N, T, h, w)
        rows, columns = tiles.shape[-2:]
        offset = extras["doors_pos"] - extras["agent_pos"][:, :, None]
        at_row = (offset[..., 1] + rows // 2)[..., None] == torch.arange(rows)
        at_column = (offset[..., 0] + columns // 2)[..., None] == torch.arange(columns)
        in_view = at_row[..., :, None] & at_column[..., None, :]
        in_view[..., rows // 2, columns // 2] = False  # what the agent stands on is not to be seen
        return cls(tiles, len(atlas), in_view, extras["door_open"].bool())

    def judge(self, tiles: Tensor, meaning: Tensor) -> dict[str, Tensor]:
        """Tiles (N, T, h, w), what tiles mean (K,) -> the shares (N, T) that are right, NaN where no door is shown."""
        shown, at_doors = self.shown, self._at_doors(tiles)  # (N, T, D)
        right = {
            STATE.name: meaning[at_doors] == self.is_open.long(),
            BOTH.name: at_doors == self._at_doors(self.tiles),
        }
        shares = {name: (value & shown).sum(-1) / shown.sum(-1) for name, value in right.items()}
        return {TILES.name: (tiles == self.tiles).float().mean((-2, -1))} | shares

    def judge_majority(self) -> dict[str, Tensor]:
        """The state of doors by the answer that is right for most doors in view at each step of these episodes."""
        share = (self.is_open & self.shown).sum((0, 2)) / self.shown.sum((0, 2))  # (T,)
        right = self.is_open == (share >= 0.5)[None, :, None]
        return {STATE.name: (right & self.shown).sum(-1) / self.shown.sum(-1)}

    def meaning(self) -> Tensor:
        """(K,): 1 for tiles that an open door had in these episodes, 0 for those of shut ones, -1 for all others."""
        means = torch.full((self.number,), -1)
        means[self._at_doors(self.tiles)[self.shown]] = self.is_open.long()[self.shown]
        return means

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


def first_alike(atlas: Tensor) -> Tensor:
    """(K,): for each tile the first one that looks the same."""
    return nearest_tiles(rearrange(atlas, "k row column c -> k c row column"), atlas).flatten()


def nearest_tiles(images: Tensor, atlas: Tensor) -> Tensor:
    """For every tile of images (..., C, H, W) the number of the atlas image at the smallest squared distance.

    atlas (K, ts, ts, C) uint8; images uint8 in 0..255 or float in [0, 1]. Returns (..., H / ts, W / ts) int64; of equal
    images the first one.
    """
    size = atlas.shape[1]
    known = rearrange(to_unit(atlas), "k row column c -> k (c row column)")
    tiles = rearrange(to_unit(images), "... c (h row) (w column) -> ... h w (c row column)", row=size, column=size)
    # |x - a|^2 = |x|^2 - 2 x.a + |a|^2, and |x|^2 is the same for every a
    return (known.square().sum(-1) - 2 * tiles @ known.T).argmin(-1)


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


def image_of(tiles: Tensor, atlas: Tensor) -> Tensor:
    """Images (..., C, H, W) uint8 of tile numbers (..., h, w)."""
    return rearrange(render_tiles(tiles, atlas), "... row column c -> ... c row column")
