"""Tiles read off decoded frames, and the doors among them."""

import dataclasses

import polars as pl
import pytest
import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.data import GeneratedEpisodes
from wmkit.data.samplers import Segment, collate
from wmkit.evaluation.measures.base import Prediction
from wmkit.evaluation.measures.doors import (
    BOTH,
    KEYS,
    STATE,
    TILES,
    Doors,
    TileTruth,
    first_alike,
    image_of,
    nearest_tiles,
    remembered_map,
)
from wmkit.evaluation.predictors import IMAGINED, INITIAL_MAP, MAJORITY
from wmkit.evaluation.record import Measurements, frame_of
from wmkit_envs import MultiDoorsKeys

CONTEXT = 48


@pytest.fixture(scope="module")
def source() -> GeneratedEpisodes:
    return GeneratedEpisodes(MultiDoorsKeys(keys=2, tile=4), seed=0, split="test")


@pytest.fixture(scope="module")
def episodes(source: GeneratedEpisodes) -> Batch:
    """Six whole episodes."""
    chosen = [source.episode(index) for index in range(6)]
    length = len(chosen[0]["image"])
    return collate([Segment(index, 0, length, fresh=True) for index in range(6)], chosen, length, KEYS)


@pytest.fixture(scope="module")
def query(episodes: Batch) -> Batch:
    return episodes.window(CONTEXT, episodes.shape[1])


@pytest.fixture(scope="module")
def atlas(source: GeneratedEpisodes) -> Tensor:
    return torch.from_numpy(source.episode(0)["atlas"])


def measured(query: Batch, tiles: Tensor) -> Measurements:
    """Doors where `imagined` shows these tiles."""
    doors, atlas = Doors(), query.extras["atlas"][0, 0]
    doors.prepare(None, query)
    shown = {IMAGINED: tiles, INITIAL_MAP: remembered_map(query)}
    scores = {name: doors.score(Prediction(None, frames=image_of(x, atlas)), query) for name, x in shown.items()}
    counts = doors.counts(query)
    parts = [
        frame_of(metric, name, values.double().numpy(), 1, counts[metric].numpy())
        for name, found in (scores | dict(doors.answers(query))).items()
        for metric, values in found.items()
    ]
    metrics = {metric.name: metric for metric in doors.metrics}
    return Measurements(pl.concat(parts), metrics, CONTEXT, query.shape[1]).judged()


def test_every_tile_is_found_again_in_its_picture(query: Batch, atlas: Tensor) -> None:
    expected = first_alike(atlas)[query.extras["tiles"].long()]
    assert torch.equal(nearest_tiles(query.image, atlas), expected)
    noisy = query.image.float() / 255 + 0.05 * torch.randn(query.image.shape)
    assert (nearest_tiles(noisy, atlas) == expected).float().mean() > 0.99


def test_tiles_that_look_alike_are_one(atlas: Tensor) -> None:
    alike = first_alike(torch.cat([atlas, atlas[:3]]))
    assert torch.equal(alike[: len(atlas)][alike[: len(atlas)]], alike[: len(atlas)])
    assert torch.equal(alike[len(atlas) :], alike[:3])


def test_pictures_of_tiles_are_the_episodes_pictures(query: Batch, atlas: Tensor) -> None:
    assert torch.equal(image_of(query.extras["tiles"].long(), atlas), query.image)


def test_the_first_map_is_the_truth_until_a_door_opens_or_a_key_is_taken(episodes: Batch) -> None:
    same = (remembered_map(episodes) == episodes.extras["tiles"]).all(-1).all(-1)
    assert same[:, :CONTEXT].all()
    assert not same[:, CONTEXT:].all(1).any()
    untouched = ~episodes.extras["door_open"].any(-1)
    assert not same[:, CONTEXT:][~untouched[:, CONTEXT:]].all()


def test_the_truth_is_right_and_an_unchanging_map_is_wrong_about_open_doors(query: Batch, atlas: Tensor) -> None:
    truth = TileTruth.of(query)
    perfect = measured(query, truth.tiles)
    for metric in (TILES, STATE, BOTH):
        assert perfect.estimate(metric.name, IMAGINED).mean == 1
    shut = (~truth.is_open & truth.shown).sum(-1) / truth.shown.sum(-1)
    assert perfect.estimate(STATE.name, INITIAL_MAP).mean == pytest.approx(float(shut.nanmean(1).mean()))
    assert perfect.predictors(STATE.name) == [IMAGINED, INITIAL_MAP, MAJORITY]
    assert [verdict.holds for verdict in perfect.verdicts] == [True, True]
    assert list(perfect.columns(STATE.name)) == ["1-24", "25-48", "49-72", "73-96", "1-96"]


def test_doors_in_view_are_where_the_tiles_show_them(query: Batch, atlas: Tensor) -> None:
    truth = TileTruth.of(query)
    tiles = query.extras["tiles"].long()
    # in MiniGrid's alphabet shut doors are 18 to 23 and open ones 24 to 29
    assert torch.equal(truth.in_view.any(2), tiles >= 18)
    at_doors = (tiles[:, :, None] * truth.in_view).amax((-2, -1))
    assert torch.equal(at_doors[truth.shown] >= 24, truth.is_open[truth.shown])


def test_a_door_of_another_colour_is_the_wrong_tile_in_the_right_state(query: Batch, atlas: Tensor) -> None:
    truth = TileTruth.of(query)
    shut = truth.tiles >= 18  # open ones look like floor in tiles of 4 pixels
    colours = truth.tiles[shut].unique().tolist()
    swapped = truth.tiles.clone()
    for number, other in zip(colours, colours[1:] + colours[:1], strict=True):
        swapped[truth.tiles == number] = other
    shares = truth.judge(swapped, truth.meaning())
    counts = truth.shown.any(-1)
    assert (shares[STATE.name][counts] == 1).all()
    open_ones = (truth.is_open & truth.shown).sum(-1) / truth.shown.sum(-1)
    assert torch.equal(shares[BOTH.name][counts], open_ones[counts])
    assert shares[STATE.name][~counts].isnan().all()


def test_what_was_never_a_door_is_wrong(query: Batch, atlas: Tensor) -> None:
    truth = TileTruth.of(query)
    shares = truth.judge(torch.ones_like(truth.tiles), truth.meaning())  # walls
    assert shares[STATE.name].nansum() == shares[BOTH.name].nansum() == 0


def test_steps_after_the_walk_count_for_nothing(query: Batch, atlas: Tensor) -> None:
    truth = TileTruth.of(query)
    for row in range(len(truth.tiles)):
        end = int(truth.moving[row].sum())
        assert truth.moving[row, :end].all()
        assert (truth.tiles[row, end - 1 :] == truth.tiles[row, -1]).all()
        assert not (truth.tiles[row, end - 2] == truth.tiles[row, -1]).all()
    counts = Doors().counts(query)
    assert torch.equal(counts[TILES.name], truth.moving)
    assert not (counts[STATE.name] & ~truth.moving).any()


def test_majority_of_a_step_is_right_for_at_least_half_of_its_doors(query: Batch, atlas: Tensor) -> None:
    truth = TileTruth.of(query)
    right = truth.judge_majority()[STATE.name].nan_to_num() * truth.shown.sum(-1)
    assert (right.sum(0) * 2 >= truth.shown.sum((0, 2))).all()


def test_a_query_of_one_step_is_a_walk_of_one_step(query: Batch, atlas: Tensor) -> None:
    truth = TileTruth.of(query.window(0, 1))
    assert truth.moving.tolist() == [[True]] * len(truth.tiles)


def test_where_no_door_is_in_view_doors_are_not_measured(query: Batch, atlas: Tensor) -> None:
    none = torch.zeros_like(query.extras["doors_pos"]) - 99
    away = dataclasses.replace(query, extras={**query.extras, "doors_pos": none})
    judged = measured(away, TileTruth.of(query).tiles)
    assert judged.measures == [TILES.name]
    assert judged.verdicts == ()
