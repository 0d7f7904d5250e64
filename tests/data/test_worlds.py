import dataclasses

import pytest
import torch

from wmkit.data import GeneratedEpisodes, WholeEpisodes, find_world, list_worlds
from wmkit.data.worlds import entry_point_of


def test_a_world_is_found_by_short_name_and_by_full_id(monkeypatch):
    assert find_world("toy").id == "toys/toy-v0"
    points = {name: point for name, point in _points().items() if name.startswith("toy")}
    monkeypatch.setattr("wmkit.data.worlds._entry_points", lambda: points)
    assert find_world("toys/toy_nan-v0").name == "toy_nan"


def test_installed_worlds_are_listed():
    assert {"toy", "toy_dies", "ray_maze_9x9", "ray_two_rooms"} <= set(list_worlds())
    assert list_worlds() == sorted(list_worlds())


def test_an_unknown_world_is_answered_with_the_closest_match_and_the_list():
    with pytest.raises(ValueError, match=r"'toy_dyes'.*Did you mean 'toy_dies'.*ray_two_rooms"):
        find_world("toy_dyes")


def test_an_entry_point_that_is_no_world_is_refused():
    with pytest.raises(ValueError, match=r"no_world = wmkit_toy_worlds:NO_WORLD is no World"):
        find_world("no_world")


def test_a_changed_world_is_not_mistaken_for_the_registered_one():
    assert entry_point_of(find_world("toy")) == "wmkit_toy_worlds:TOY"
    with pytest.raises(ValueError, match="workers=0"):
        entry_point_of(dataclasses.replace(find_world("toy"), episode_length=24))


def _points():
    from wmkit.data import worlds

    return worlds._entry_points()


@pytest.mark.parametrize("name", ["moving_mnist_32px", "wmkit/MovingMNISTFast-32px-v0", "moving_mnist_slow"])
def test_videos_of_any_speed_and_size_are_found(name):
    world = find_world(name)
    assert name in (world.name, world.id)
    assert (world.image_shape[0], world.action_dim) == (1, 0)
    assert find_world(entry_point_of(world) and world.name) == world


@pytest.mark.parametrize(
    ("name", "shape", "length"),
    [
        ("distracting_memory_16", (3, 40, 40), 40),
        ("distracting_memory_16_4px", (3, 20, 20), 40),
        ("wmkit/DistractingMemory-64-v0", (3, 40, 40), 160),
        ("multi_doors_keys_2_16px", (3, 80, 80), 144),
        ("multi_doors_keys_2_4px(mirrored=True,colors=('red','blue'))", (3, 20, 20), 144),
    ],
)
def test_worlds_of_any_size_are_found(name, shape, length):
    world = find_world(name)
    assert (world.image_shape, world.episode_length) == (shape, length)
    assert entry_point_of(world) == "wmkit_envs:find_world"
    assert world.name not in list_worlds()


def test_a_size_that_its_family_refuses_is_answered_by_the_family(monkeypatch):
    with pytest.raises(ValueError, match="even width"):
        find_world("distracting_memory_15")
    monkeypatch.setattr("wmkit.data.worlds._entry_points", dict)
    with pytest.raises(ValueError, match=r"Unknown world 'wmkit/Nothing-v0'.*In any size: distracting_memory_"):
        find_world("wmkit/Nothing-v0")


def test_a_worker_process_finds_a_world_of_any_size():
    source = GeneratedEpisodes("distracting_memory_16_4px", seed=3)
    with WholeEpisodes(source, batch_size=2, workers=1) as ours, WholeEpisodes(source, batch_size=2) as expected:
        assert torch.equal(next(ours).image, next(expected).image)
