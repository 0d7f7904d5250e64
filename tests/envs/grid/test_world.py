"""What the tile worlds share: each split has maps of its own."""

import numpy as np
import pytest

from wmkit_envs import DistractingMemory, HiddenMotion, MultiDoorsKeys
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.world import SHARES, EpisodeSeed, split_of


def maps(world: GridWorld, split: str, count: int, seed: int = 0) -> set[bytes]:
    scenes = [world.begin(EpisodeSeed(seed, split, index)) for index in range(count)]
    return {scene.cells.tobytes() + scene.movers.tobytes() for scene in scenes}


@pytest.mark.parametrize(
    ("world", "count"),
    [
        (MultiDoorsKeys(keys=2), 28),
        (MultiDoorsKeys(keys=3), 256),
        (MultiDoorsKeys(keys=3, colors=("red", "blue")), 20),
        (DistractingMemory(width=8, distractor_rate=0.0), 144),
        (DistractingMemory(width=8, distractor_rate=1.0, sample_cells=((3, 5),)), 4 * 3 * 2 * 4),
        (HiddenMotion(stations=1, colors=("red",), paces=(1,)), 8 * 8),
    ],
    ids=lambda value: value.name if isinstance(value, GridWorld) else value,
)
def test_there_are_as_many_maps_as_are_drawn(world: GridWorld, count: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [world.draw(rng) for _ in range(20 * count)]
    assert len({scene.cells.tobytes() + scene.movers.tobytes() for scene in drawn}) == count == world.num_maps


@pytest.mark.parametrize(
    ("world", "count"),
    [
        (MultiDoorsKeys(keys=5), 31_504),
        (MultiDoorsKeys(keys=7), 4_951_552),
        (DistractingMemory(width=8), 720),
        (DistractingMemory(width=100), 144 * 5**93),
        (HiddenMotion(), (4 * 48) ** 4),
    ],
    ids=lambda value: value.name if isinstance(value, GridWorld) else value,
)
def test_published_worlds_have_the_documented_number_of_maps(world: GridWorld, count: int) -> None:
    assert world.num_maps == count


@pytest.mark.parametrize("world", [MultiDoorsKeys(keys=3), DistractingMemory(width=8)], ids=lambda world: world.name)
def test_no_map_of_one_split_is_in_another_under_any_seed(world: GridWorld) -> None:
    train, valid, test = (maps(world, split, 150) | maps(world, split, 50, seed=1) for split in SHARES)
    assert not train & (valid | test)
    assert not valid & test
    assert min(len(valid), len(test)) > 10


def test_each_split_has_the_share_of_the_maps_that_it_should() -> None:
    rng = np.random.default_rng(0)
    splits = [split_of(DistractingMemory(width=40).draw(rng).cells.tobytes()) for _ in range(1600)]
    assert abs(splits.count("train") - 1400) < 60
    assert abs(splits.count("valid") - 100) < 40
    assert abs(splits.count("test") - 100) < 40


def test_the_splits_of_a_world_of_few_maps_share_them() -> None:
    world = MultiDoorsKeys(keys=2)
    assert maps(world, "test", 200) == maps(world, "train", 200)


def test_a_split_without_a_map_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmkit_envs.grid.world.split_of", lambda content: "train")
    monkeypatch.setattr("wmkit_envs.grid.world.MAX_DRAWS", 5)
    with pytest.raises(ValueError, match="none of 5 maps of multi_doors_keys_3, which has 256, belongs to test"):
        MultiDoorsKeys(keys=3).begin(EpisodeSeed(0, "test"))


def test_worlds_of_other_sizes_draw_other_episodes() -> None:
    """Else three widths of one table would be one sample three times."""
    one, other = (DistractingMemory(width=width).generate_batch(seed=0, indices=range(60)) for width in (16, 32))
    for key in ("target_colors", "answer", "sample_pos"):
        same = (one[key] == other[key]).reshape(60, -1).all(-1).mean()
        assert same < 0.75, key
