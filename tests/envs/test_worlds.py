"""Episodes: contents, lengths, seeds, names."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wmkit_envs
from wmkit_envs import RAY_MAZE_9X9, RAY_MAZE_11X11, RAY_MAZE_13X13, RAY_MAZE_15X15, RAY_TWO_ROOMS, WORLDS
from wmkit_envs.world import Draw

SMALL = {
    name: dataclasses.replace(world, image_shape=(3, 8, 8) if name.startswith("ray") else (3, 20, 20))
    for name, world in WORLDS.items()
}


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
        "target_pos": ((120, 2), "float32"),
        "target_vec": ((120, 2), "float32"),
        "target_color": ((120, 3), "float32"),
        "maze_layout": ((9, 9), "uint8"),
        "targets_pos": ((3, 2), "float32"),
    }


@pytest.mark.parametrize("name", WORLDS)
def test_actions_are_one_hot_after_an_empty_first_one(name: str) -> None:
    episode = SMALL[name].generate(seed=0, length=200)
    assert not episode["action"][0].any()
    np.testing.assert_array_equal(episode["action"][1:].sum(1), 1)
    np.testing.assert_array_equal(np.flatnonzero(episode["is_first"]), [0])
    assert not episode["is_terminal"].any()


@pytest.mark.parametrize(
    ("world", "length", "context"),
    [
        (RAY_MAZE_9X9, 1001, 501),
        (RAY_MAZE_11X11, 2001, 1001),
        (RAY_MAZE_13X13, 3001, 1501),
        (RAY_MAZE_15X15, 4001, 2001),
        (RAY_TWO_ROOMS, 501, 301),
    ],
)
def test_whole_episodes_have_the_documented_lengths(world: wmkit_envs.World, length: int, context: int) -> None:
    episode = SMALL[world.name].generate(seed=1)
    assert len(episode["image"]) == length == world.episode_length
    assert int(episode["context_length"]) == context == world.context_length


@pytest.mark.parametrize("name", WORLDS)
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
    for key in set(whole) - {"context_length"}:
        expected = whole[key][:150] if len(whole[key]) == len(whole["image"]) else whole[key]
        np.testing.assert_array_equal(short[key], expected)
    assert int(short["context_length"]) == 150


def test_no_two_indices_or_splits_draw_the_same_scene() -> None:
    seen = set()
    for split in ("train", "valid", "test"):
        for index in range(150):
            scene = RAY_MAZE_9X9.begin(Draw(0, split, index)).scene
            seen.add((scene.walls.tobytes(), scene.objects.tobytes(), scene.start))
    assert len(seen) == 450


def test_rewards_come_with_a_new_target_and_its_colour() -> None:
    episode = next(
        found for index in range(20) if (found := SMALL["ray_maze_9x9"].generate(seed=0, index=index))["reward"].any()
    )
    changed = (np.diff(episode["target_pos"], axis=0) != 0).any(1)
    np.testing.assert_array_equal(changed, episode["reward"][1:] == 1)


def test_full_ids_and_short_names_mean_the_same() -> None:
    assert wmkit_envs.find_world("wmkit/RayTwoRooms-v0") is wmkit_envs.find_world("ray_two_rooms") is RAY_TWO_ROOMS


def test_an_unknown_world_is_answered_with_the_closest_and_the_list() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'ray_maze_9x9'\?.*ray_two_rooms"):
        wmkit_envs.generate("ray_maze_9x", seed=0)
    with pytest.raises(ValueError, match=r"Unknown world 'zzz'\. Known"):
        wmkit_envs.generate("zzz", seed=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "dev"}, "split"),
        ({"seed": -1}, "seed"),
        ({"index": -1}, "index"),
        ({"length": 0}, "length"),
        ({"length": 502}, "length"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wmkit_envs.generate("ray_two_rooms", **({"seed": 0} | wrong))


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 64), (3, 2, 64)])
def test_image_shapes_that_cannot_be_drawn_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image_shape|picture size"):
        dataclasses.replace(RAY_MAZE_9X9, image_shape=shape)


def test_importing_the_worlds_loads_no_heavy_library() -> None:
    code = (
        "import sys, wmkit_envs; heavy = {'numba', 'labmaze', 'minigrid', 'dm_control', 'torch', 'matplotlib'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_has_every_world() -> None:
    page = (Path(__file__).parents[2] / "docs" / "worlds.md").read_text()
    for world in WORLDS.values():
        query = world.episode_length - world.context_length
        assert f"| `{world.name}` | `{world.id}` | {world.episode_length} | {world.context_length}, {query} |" in page
