"""Worlds: names, settings, seeds, and what every episode holds."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import wmkit_envs
from wmkit_envs import (
    ENVIRONMENTS,
    FAMILIES,
    PUBLISHED,
    WORLDS,
    BouncingBalls,
    DistractingMemory,
    MemoryMaze,
    MovingMnist,
    MultiDoorsKeys,
    RayMaze,
    Rooms,
    World,
    find_world,
)
from wmkit_envs.world import Episode, EpisodeSeed

SMALL = {
    world.name: world.with_settings(**{"image_size": 8} if hasattr(world, "image_size") else {"tile": 4})
    for world in ENVIRONMENTS.values()
    if not isinstance(world, MemoryMaze)
}
"""Published worlds by name, with small images; those in MuJoCo are slow, and have tests of their own."""


def test_an_episode_holds_every_key_in_shape_and_type() -> None:
    episode = wmkit_envs.generate("ray_maze_9x9", seed=0, length=120)
    shapes = {key: (value.shape, value.dtype.name) for key, value in episode.items()}
    assert shapes == {
        "image": ((120, 64, 64, 3), "uint8"),
        "action": ((120, 6), "float32"),
        "reward": ((120,), "float32"),
        "is_first": ((120,), "bool"),
        "is_terminal": ((120,), "bool"),
        "context_length": ((), "int64"),
        "agent_pos": ((120, 2), "float32"),
        "agent_dir": ((120, 2), "float32"),
        "targets_vec": ((120, 3, 2), "float32"),
        "first_seen": ((120, 16), "int32"),
        "target_pos": ((120, 2), "float32"),
        "target_vec": ((120, 2), "float32"),
        "target_color": ((120, 3), "float32"),
        "maze_layout": ((9, 9), "uint8"),
        "targets_pos": ((3, 2), "float32"),
    }


@pytest.mark.parametrize("name", SMALL)
def test_actions_are_one_hot_after_an_empty_first_one(name: str) -> None:
    episode = SMALL[name].generate(seed=0, length=140)
    assert not episode["action"][0].any()
    np.testing.assert_array_equal(episode["action"][1:].sum(1), 1)
    np.testing.assert_array_equal(np.flatnonzero(episode["is_first"]), [0])
    assert not episode["is_terminal"].any()


@pytest.mark.parametrize(
    ("world", "length", "context"),
    [
        (RayMaze(size=9), 1001, 501),
        (RayMaze(size=11), 2001, 1001),
        (RayMaze(size=13), 3001, 1501),
        (RayMaze(size=15), 4001, 2001),
        (Rooms(), 501, 301),
        (Rooms(rooms=4), 1001, 501),
        (Rooms(rooms=10), 2001, 1101),
        (Rooms(longer=True), 1001, 301),
        (Rooms(rooms=4, longer=True), 2001, 501),
        (Rooms(teleport=True), 251, 150),
        (Rooms(rooms=4, teleport=True), 501, 300),
        (Rooms(rooms=10, teleport=True), 1001, 600),
    ],
)
def test_whole_episodes_have_the_documented_lengths(world: World, length: int, context: int) -> None:
    episode = world.with_settings(image_size=8).generate(seed=1)
    assert len(episode["image"]) == length == world.episode_length
    assert int(episode["context_length"]) == context == world.context_length


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_episode_and_another_does_not(name: str) -> None:
    world = SMALL[name]
    one, same = (world.generate(seed=5, split="valid", index=2, length=140) for _ in range(2))
    for key, value in one.items():
        np.testing.assert_array_equal(value, same[key])
    for other in ({"seed": 6, "index": 2}, {"seed": 5, "index": 3}):
        assert not np.array_equal(world.generate(**other, split="valid", length=140)["image"], one["image"])


@pytest.mark.parametrize("name", ["ray_maze_9x9", "ray_two_rooms"])
def test_a_shorter_episode_is_the_beginning_of_the_whole_one(name: str) -> None:
    whole, short = SMALL[name].generate(seed=3), SMALL[name].generate(seed=3, length=150)
    assert (short.steps.keys(), short.constants.keys()) == (whole.steps.keys(), whole.constants.keys())
    for key, value in short.steps.items():
        np.testing.assert_array_equal(value, whole.steps[key][:150])
    for key in set(whole.constants) - {"context_length"}:
        np.testing.assert_array_equal(short[key], whole[key])
    assert int(short["context_length"]) == 150


@pytest.mark.parametrize("world", FAMILIES.values())
def test_steps_have_the_length_that_was_asked_for_and_constants_do_not_depend_on_it(
    world: type[World], request: pytest.FixtureRequest
) -> None:
    if world is MemoryMaze:
        request.getfixturevalue("opengl")
    short, long = (world().generate(seed=0, length=length) for length in (3, 4))
    assert {len(value) for value in short.steps.values()} == {3}
    assert {len(value) for value in long.steps.values()} == {4}
    for key, value in short.constants.items():
        assert value.shape == long.constants[key].shape, key


def test_a_key_in_both_groups_of_an_episode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['answer'\] are in steps and in constants"):
        Episode({"answer": np.zeros(3)}, {"answer": np.zeros(())})


def test_no_two_indices_or_splits_draw_the_same_scene() -> None:
    seen = set()
    for split in ("train", "valid", "test"):
        for index in range(150):
            scene = RayMaze().begin(EpisodeSeed(0, split, index)).scene
            seen.add((scene.walls.tobytes(), scene.objects.tobytes(), scene.start))
    assert len(seen) == 450


def test_rewards_come_with_a_new_target_and_its_colour() -> None:
    episode = next(
        found for index in range(20) if (found := SMALL["ray_maze_9x9"].generate(seed=0, index=index))["reward"].any()
    )
    changed = (np.diff(episode["target_pos"], axis=0) != 0).any(1)
    np.testing.assert_array_equal(changed, episode["reward"][1:] == 1)


def test_a_name_leads_to_a_familys_defaults_or_to_a_published_world() -> None:
    assert find_world("ray_maze") == find_world("ray_maze_9x9") == RayMaze()
    assert find_world("distracting_memory", width=64, tile=4) == DistractingMemory(width=64, tile=4)
    assert find_world("moving_mnist_slow", side=32) == MovingMnist(speed=1 / 3, side=32)
    assert set(WORLDS) == {*FAMILIES, *PUBLISHED}


def test_an_unknown_world_or_setting_is_answered_with_the_closest_and_the_list() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'ray_maze_9x9'\?.*ray_two_rooms"):
        wmkit_envs.generate("ray_maze_9x", seed=0)
    with pytest.raises(ValueError, match=r"Unknown world 'zzz'\. Known"):
        wmkit_envs.generate("zzz", seed=0)
    with pytest.raises(TypeError, match=r"'episode_length', which is no setting of it: .*image_size, .*keys, colors"):
        find_world("multi_doors_keys", episode_length=7)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_an_image_size(family: str) -> None:
    side = {"moving_mnist": 32}.get(family, 20)
    assert find_world(family, image_size=side).image_shape[1:] == (side, side)
    with pytest.raises(ValueError, match=r"(image_size|side): expected .* got 7"):
        find_world(family, image_size=7)


def test_an_image_size_that_no_tile_makes_is_refused_and_so_are_two_sizes() -> None:
    with pytest.raises(ValueError, match="image_size: expected 5 x tile, such as 40, got 64"):
        find_world("hidden_motion", image_size=64)
    with pytest.raises(TypeError, match="both image_size and tile"):
        find_world("hidden_motion", image_size=20, tile=4)


def test_a_numpy_seed_is_a_seed() -> None:
    world = SMALL["multi_doors_keys_3"]
    one = world.generate(seed=np.int64(7), index=np.uint16(3), length=5)
    np.testing.assert_array_equal(one["image"], world.generate(seed=7, index=3, length=5)["image"])


@pytest.mark.parametrize(
    ("world", "name"),
    [
        (RayMaze(size=11), "ray_maze_11x11"),
        (RayMaze(physics="mujoco"), "ray_maze_9x9_physicsmujoco"),
        (MemoryMaze(size=15, visible=True), "memory_maze_15x15_visibleTrue"),
        (Rooms(image_size=128), "ray_two_rooms_image_size128"),
        (Rooms(rooms=10, teleport=True), "ray_ten_rooms_teleport"),
        (Rooms(rooms=4, longer=True, image_size=32), "ray_four_rooms_longer_image_size32"),
        (DistractingMemory(width=16, tile=4), "distracting_memory_16_tile4"),
        (DistractingMemory(distractor_rate=0.2), "distracting_memory_100_distractor_rate0.2"),
        (
            MultiDoorsKeys(keys=4, mirrored=True, colors=("red", "blue")),
            "multi_doors_keys_4_colorsred-blue_mirroredTrue",
        ),
        (DistractingMemory(sample_cells=((3, 5), (1, 3))), "distracting_memory_100_sample_cells3x5-1x3"),
        (MovingMnist(speed=0.5, side=32), "moving_mnist_speed0.5_side32"),
        (BouncingBalls(balls=1, colors=("red", "blue")), "bouncing_balls_balls1_colorsred-blue"),
    ],
)
def test_a_name_tells_what_is_not_usual_and_nothing_else(world: World, name: str) -> None:
    assert world.name == name


def test_names_are_safe_in_file_names_whatever_the_settings() -> None:
    one, other = MovingMnist(mnist="/data/mnist one"), MovingMnist(mnist="/data/mnist two")
    long = DistractingMemory(distractor_colors=("grey", "red", "blue", "green"), target_colors=("grey", "red", "blue"))
    long = long.with_settings(sample_cells=tuple((x, y) for y in (3, 4, 5) for x in (1, 2, 3)))
    assert one.name != other.name
    for world in (one, other, long):
        assert world.name.replace("_", "").replace(".", "").isalnum()
        assert len(world.name) <= 120


def test_settings_from_a_config_file_make_the_same_world() -> None:
    written = find_world("distracting_memory", distractor_rate=1, target_colors=["red", "blue"], sample_cells=[[3, 5]])
    world = DistractingMemory(distractor_rate=1.0, target_colors=("red", "blue"), sample_cells=((3, 5),))
    assert (written, written.name, hash(written)) == (world, world.name, hash(world))
    assert MovingMnist(speeds=[2, 3]).name == MovingMnist(speeds=(2.0, 3.0)).name
    assert RayMaze(size=np.int64(11)).name == "ray_maze_11x11"


@pytest.mark.parametrize("family", FAMILIES.values())
def test_a_family_is_a_frozen_dataclass_with_a_default_and_a_sentence_on_every_setting(family: type[World]) -> None:
    world: Any = family()
    assert hash(world) == hash(dataclasses.replace(world))
    sources = "".join(Path(sys.modules[kind.__module__].__file__ or "").read_text() for kind in family.__mro__[:-2])
    for field in dataclasses.fields(world):
        after = sources.split(f"    {field.name}: ")[1].split("\n", 1)[1].lstrip()
        assert after.startswith('"""'), field.name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "dev"}, "split"),
        ({"seed": -1}, "seed: expected an integer of at least 0"),
        ({"seed": 1.5}, "seed: expected an integer of at least 0, got 1.5"),
        ({"seed": "12"}, "seed: expected an integer of at least 0, got '12'"),
        ({"index": -1}, "index: expected an integer of at least 0"),
        ({"length": 0}, "length"),
        ({"length": 502}, "length"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wmkit_envs.generate("ray_two_rooms", **({"seed": 0} | wrong))


@pytest.mark.parametrize(("setting", "value"), [("size", 10), ("image_size", 2), ("image_size", 64.0)])
def test_settings_that_make_no_maze_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{setting}: expected .* got"):
        RayMaze(**{setting: value})


def test_importing_the_worlds_loads_no_heavy_library() -> None:
    code = (
        "import sys, wmkit_envs; [family().name for family in wmkit_envs.FAMILIES.values()]; "
        "heavy = {'numba', 'labmaze', 'minigrid', 'mujoco', 'dm_control', 'torch', 'matplotlib'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_has_every_world() -> None:
    page = (Path(__file__).parents[2] / "docs" / "worlds.md").read_text()
    for name, world in PUBLISHED.items():
        env_ids = [f"`{env_id}`" for env_id, other in ENVIRONMENTS.items() if other == world] or ["none"]
        lengths = f"{world.episode_length} | {world.context_length}, {world.episode_length - world.context_length} |"
        assert any(f"| `{name}` | {env_id} | {lengths}" in page for env_id in env_ids), name
    assert all(env_id in gymnasium.registry for env_id in ENVIRONMENTS)
