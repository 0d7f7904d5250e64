"""Where is what moved on while nobody looked? Which cell of its track a decoded frame shows each mover in.

A world with movers gives the track of each one and where on it the mover is at every step. Of the cells of a track, the
one that looks least like an empty one is where a frame shows the mover, whatever its colour: a forced choice, so that
a frame without any mover scores no better than chance. Judged wherever a whole track is in view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.claims import Beats
from wmkit.evaluation.measures.base import Measure, Prediction, Scores, register_measure
from wmkit.evaluation.measures.doors import image_of
from wmkit.evaluation.predictors import (
    FROZEN,
    IMAGINED,
    MAJORITY,
    OBSERVED,
    SHUFFLED_ACTIONS,
    TRUE_FRAMES,
    Clips,
    Frames,
    register_baseline,
)
from wmkit.evaluation.record import Metric
from wmkit.networks import to_unit

KEYS = ("tiles", "atlas", "agent_pos", "map_tiles", "mover_tracks", "mover_pos", "mover_in_view")
"""Ground truth that a world of tiles with movers gives."""
PLACE = Metric(
    "mover_place",
    "share",
    "higher",
    "movers in the right cell of their track",
    4,
    headline=True,
    caption=(
        "Of the cells of a track the one that looks least like an empty one, wherever the whole track is in view. "
        "Majority: the cell in which movers are most often, which is all that actions tell."
    ),
    claims=(Beats(IMAGINED, FROZEN, surely=True), Beats(IMAGINED, MAJORITY, surely=True)),
)


@register_measure("movers")
class Movers(Measure):
    """Share of the movers that decoded frames show in the right place."""

    order = 10
    metrics = (PLACE,)
    predictors = (OBSERVED, IMAGINED, SHUFFLED_ACTIONS, FROZEN, TRUE_FRAMES)
    keys = KEYS

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        known = Tracks.of(truth.to("cpu"))
        return {PLACE.name: known.share(known.read(prediction.frames.cpu()))}

    def counts(self, truth: Batch) -> Scores:
        return {PLACE.name: Tracks.of(truth.to("cpu")).shown.any(-1)}

    def answers(self, truth: Batch) -> Mapping[str, Scores]:
        known = Tracks.of(truth)
        usual = known.place[known.shown].bincount(minlength=1).argmax()
        return {MAJORITY: {PLACE.name: known.share(usual.expand_as(known.place))}}


@register_baseline(FROZEN)
def frozen(clips: Clips) -> Frames | None:
    """The true view, but with every mover where the context saw it last; one that it never saw is left out."""
    if not clips.batch.extras.keys() >= set(KEYS):
        return None
    extras, length = clips.batch.extras, clips.batch.shape[1]
    seen = extras["mover_in_view"][:, : clips.context]  # (N, C, M)
    steps = torch.arange(clips.context)[:, None]
    last = torch.where(seen, steps, 0).amax(1)  # (N, M)
    left_at = extras["mover_pos"].gather(1, last[:, None, :, None].expand(-1, 1, -1, 2))  # (N, 1, M, 2)
    known = Tracks.of(clips.batch.window(clips.context, length))
    tiles = known.put(known.extras["tiles"].long(), known.extras["mover_pos"], known.empty)
    tiles = known.put(tiles, torch.where(seen.any(1)[:, None, :, None], left_at, -1e3), known.look)
    return lambda row: image_of(tiles[row], extras["atlas"][row, 0])


@dataclasses.dataclass(frozen=True)
class Tracks:
    """M movers and their tracks of K cells in N episodes, over some steps T of them."""

    extras: Mapping[str, Tensor]
    """Those of `KEYS`."""
    look: Tensor
    """(N, M) int64, the tile of each mover."""
    empty: Tensor
    """(N, M) int64, the tile of its track's other cells."""
    place: Tensor
    """(N, T, M) int64: in which cell of its track each one is."""

    @classmethod
    def of(cls, batch: Batch) -> Tracks:
        """From a batch that has `KEYS` as extras. The view is centred on the agent, north up, y down."""
        extras = batch.extras
        place = (extras["mover_tracks"] == extras["mover_pos"][..., None, :]).all(-1).int().argmax(-1)
        cells, whole = extras["mover_tracks"][:, 0].long(), extras["map_tiles"][:, 0].long()  # (N, M, K, 2), (N, h, w)
        row = torch.arange(len(whole))[:, None, None]
        at_first = whole[row, cells[..., 1], cells[..., 0]]  # (N, M, K)
        # at the beginning one cell of each track differs from the others, which are alike
        empty = at_first.median(-1).values
        look = torch.where(at_first == empty[..., None], 0, at_first).amax(-1)
        return cls(extras, look, empty, place)

    @property
    def shown(self) -> Tensor:
        """(N, T, M) bool: whether the whole track is in view."""
        return self._in_view(self.extras["mover_tracks"]).all(-1)

    def share(self, answer: Tensor) -> Tensor:
        """Cells (N, T, M) -> the shares (N, T) of the movers shown that are right, NaN where none is shown."""
        return ((answer == self.place) & self.shown).sum(-1) / self.shown.sum(-1)

    def read(self, frames: Tensor) -> Tensor:
        """Frames (N, T, C, H, W) -> (N, T, M), the cell of each track that looks least like an empty one."""
        atlas = self.extras["atlas"][0, 0]
        rows, columns = self.extras["tiles"].shape[-2:]
        pictures = rearrange(to_unit(frames), "n t c (h row) (w column) -> n t h w (row column c)", h=rows, w=columns)
        known = rearrange(to_unit(atlas), "k row column c -> k (row column c)")[self.empty]  # (N, M, pixels)
        row, column = self._in_the_view(self.extras["mover_tracks"])
        n, t = (torch.arange(size)[:, None, None] for size in frames.shape[:2])
        at = pictures[n[..., None], t, row.clamp(0, rows - 1), column.clamp(0, columns - 1)]  # (N, T, M, K, pixels)
        return (at - known[:, None, :, None]).square().sum(-1).argmax(-1)

    def put(self, tiles: Tensor, where: Tensor, what: Tensor) -> Tensor:
        """Views (N, T, h, w) with the tiles `what` (N, M) at cells `where` (N, T or 1, M, 2), those in view."""
        where = where.expand(*tiles.shape[:2], *where.shape[2:])
        n, t, mover = self._in_view(where).nonzero(as_tuple=True)
        row, column = self._in_the_view(where)
        tiles = tiles.clone()
        tiles[n, t, row[n, t, mover], column[n, t, mover]] = what[n, mover]
        return tiles

    def _in_the_view(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column in the view of cells (N, T, ..., 2)."""
        rows, columns = self.extras["tiles"].shape[-2:]
        agent = self.extras["agent_pos"]
        column, row = (cells - agent.reshape(*agent.shape[:2], *[1] * (cells.ndim - 3), 2)).long().unbind(-1)
        return row + rows // 2, column + columns // 2

    def _in_view(self, cells: Tensor) -> Tensor:
        """Whether cells (N, T, ..., 2) are in view."""
        rows, columns = self.extras["tiles"].shape[-2:]
        row, column = self._in_the_view(cells)
        return (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
