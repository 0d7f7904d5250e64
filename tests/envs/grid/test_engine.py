"""The compiled rules against MiniGrid, step for step; each rule by itself."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit_envs import DistractingMemory, HiddenMotion, MultiDoorsKeys
from wmkit_envs.grid import engine
from wmkit_envs.grid.atlas import render_tiles
from wmkit_envs.grid.env import GridEnv
from wmkit_envs.grid.scene import (
    DONE,
    DOWN,
    DROP,
    EMPTY,
    FORWARD,
    KEY,
    LOCKED,
    NUM_ACTIONS,
    OPEN,
    PICK_UP,
    RIGHT,
    SQUARE,
    TOGGLE,
    TURN_LEFT,
    TURN_RIGHT,
    WALL,
    GridScene,
    walled,
)
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.world import EpisodeSeed


def assert_agrees_with_minigrid(env: GridEnv, seed: EpisodeSeed, actions: np.ndarray) -> None:
    """Pictures, rewards, ends and ground truth of the same actions, until the episode ends."""
    world = env.world
    record = engine.play([world.begin(seed)], actions[None])
    pictures = render_tiles(record.tiles[0], world.atlas)
    truth = world.step_truth(record.pose[0], record.watched[0], record.keys[0])
    reward, terminated = 0.0, False
    picture, info = env.reset(seed=seed.seed, options={"split": seed.split, "index": seed.index})
    for time in range(len(actions) + 1):
        if time:
            picture, reward, terminated, _, info = env.step(actions[time - 1])
        where = f"{world.name}, {seed}, step {time}"
        np.testing.assert_array_equal(picture, pictures[time], err_msg=where)
        assert (reward, terminated) == (record.reward[0, time], record.terminal[0, time]), where
        np.testing.assert_array_equal(info["agent_pos"], record.pose[0, time, :2], err_msg=where)
        for key, value in truth.items():
            np.testing.assert_array_equal(info[key], value[time], err_msg=f"{where}, {key}")
        if terminated:
            assert record.terminal[0, time:].all()
            return


TWO_KEYS = MultiDoorsKeys(keys=2, tile=4)
WORLDS: tuple[GridWorld, ...] = (
    DistractingMemory(width=8, tile=4),
    DistractingMemory(width=16),
    TWO_KEYS,
    MultiDoorsKeys(keys=3),
    DistractingMemory(width=40),
    HiddenMotion(tile=4),
)
ENVS = {world.name: GridEnv(world) for world in WORLDS}


def noisy(world: GridWorld, seed: EpisodeSeed, noise: float, rng: np.random.Generator) -> np.ndarray:
    """The script, with each action replaced by a random one with probability `noise`."""
    actions = world.script(seed)
    return np.where(rng.random(len(actions)) < noise, rng.integers(NUM_ACTIONS, size=len(actions)), actions)


@pytest.mark.parametrize("name", ENVS)
def test_the_rules_agree_with_minigrid_on_twenty_episodes_on_the_script_and_off_it(name: str) -> None:
    env = ENVS[name]
    for index in range(20):
        noise = (0.0, 0.02, 0.2, 1.0)[index % 4]
        seed = EpisodeSeed(5, "test", index)
        assert_agrees_with_minigrid(env, seed, noisy(env.world, seed, noise, np.random.default_rng(index)))


@pytest.mark.parametrize("world", [DistractingMemory(width=400), MultiDoorsKeys(keys=7)], ids=lambda world: world.name)
def test_the_rules_agree_with_minigrid_at_the_largest_published_sizes(world: GridWorld) -> None:
    env, seed = GridEnv(world), EpisodeSeed(5, "test", 0)
    assert_agrees_with_minigrid(env, seed, noisy(env.world, seed, 0.0, np.random.default_rng(0)))


@given(st.lists(st.sampled_from([TURN_LEFT, TURN_RIGHT, *[FORWARD] * 4, PICK_UP, TOGGLE, DROP, DONE]), max_size=60))
def test_the_rules_agree_with_minigrid_on_any_actions(actions: list[int]) -> None:
    assert_agrees_with_minigrid(ENVS[TWO_KEYS.name], EpisodeSeed(6), np.array(actions, np.int64))


def yard(**things: int) -> GridScene:
    """A walled yard of 5x5, the agent in its middle heading right; `ahead` and `below` are the cells next to it."""
    cells = walled(7, 7)
    cells[1:-1, 1:-1] = EMPTY
    cells[3, 4], cells[4, 3] = things.get("ahead", EMPTY), things.get("below", EMPTY)
    return GridScene(cells, (3, 3, RIGHT), watched=((4, 3), (3, 4)))


def play(scene: GridScene, *actions: int) -> engine.Record:
    return engine.play([scene], np.array([actions], np.int64))


@pytest.mark.parametrize(
    ("thing", "lets_pass"),
    [(EMPTY, True), (SQUARE, True), (SQUARE + 5, True), (OPEN + 3, True), (WALL, False), (KEY, False), (LOCKED, False)],
)
def test_the_agent_walks_on_empty_cells_squares_and_open_doors(thing: int, lets_pass: bool) -> None:
    x = play(yard(ahead=thing), FORWARD).pose[0, 1, 0]
    assert x == (4 if lets_pass else 3)


def test_a_key_opens_one_door_of_its_colour_for_good() -> None:
    scene = yard(ahead=LOCKED + 2, below=KEY + 2)
    record = play(scene, TOGGLE, TURN_RIGHT, PICK_UP, PICK_UP, TURN_LEFT, TOGGLE, TOGGLE)
    assert record.watched[0, :, 0].tolist() == [LOCKED + 2] * 6 + [OPEN + 2] * 2
    assert record.watched[0, :, 1].tolist() == [KEY + 2] * 3 + [EMPTY] * 5
    assert record.keys[0, :, 2].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert record.pose[0, 2].tolist() == [3, 3, DOWN]


def test_a_key_of_another_colour_does_not_open() -> None:
    record = play(yard(ahead=LOCKED + 1, below=KEY + 2), TURN_RIGHT, PICK_UP, TURN_LEFT, TOGGLE)
    assert record.watched[0, -1, 0] == LOCKED + 1
    assert record.keys[0, -1].tolist() == [0, 0, 1, 0, 0, 0]


def test_nothing_happens_after_the_end() -> None:
    scene = GridScene(yard().cells, (3, 3, RIGHT), exits=((4, 3), (2, 3)))
    record = play(scene, FORWARD, FORWARD, TURN_LEFT)
    assert record.reward[0].tolist() == [0, 1, 0, 0]
    assert record.terminal[0].tolist() == [False, True, True, True]
    assert record.pose[0, 1:].tolist() == [[4, 3, RIGHT]] * 3


def test_what_moves_by_itself_takes_a_step_with_every_action_and_none_after_the_end() -> None:
    cells = walled(9, 7)
    cells[1:-1, 1:6] = cells[1, 7] = cells[2, 7] = EMPTY
    cells[1, 7] = SQUARE + 2
    path = np.array([[(7, 1), (7, 2), (7, 2)]], np.int64)
    scene = GridScene(cells, (3, 3, RIGHT), exits=((5, 3), (0, 0)), watched=((7, 1), (7, 2)), movers=path)
    record = play(scene, DONE, TURN_LEFT, TURN_RIGHT, FORWARD, FORWARD, DONE)
    above = [1, 0, 0, 1, 0, 0, 0]
    assert (record.watched[0, :, 0] == SQUARE + 2).tolist() == [value == 1 for value in above]
    assert (record.watched[0, :, 1] == SQUARE + 2).tolist() == [value == 0 for value in above]
    assert record.terminal[0].tolist() == [False] * 5 + [True] * 2


def test_episodes_do_not_see_their_neighbours() -> None:
    world = MultiDoorsKeys(keys=3)
    seeds = [EpisodeSeed(0, "train", index) for index in range(3)]
    together = engine.play([world.begin(seed) for seed in seeds], np.stack([world.script(seed) for seed in seeds]))
    for row, seed in enumerate(seeds):
        alone = engine.play([world.begin(seed)], world.script(seed)[None])
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[row])


EPISODE = """
import sys
import numpy as np
import wmkit_envs

episodes = wmkit_envs.MultiDoorsKeys(keys=2).generate_batch(seed=0, indices=range(3))
memory = wmkit_envs.DistractingMemory(width=8).generate_batch(seed=0, indices=range(3))
motion = wmkit_envs.HiddenMotion(stations=1).generate_batch(seed=0, indices=range(3))
np.savez(
    sys.argv[1],
    tiles=episodes["tiles"],
    doors=episodes["door_open"],
    reward=memory["reward"],
    movers=motion["mover_pos"],
)
"""


def test_compiled_and_interpreted_rules_agree(tmp_path: Path) -> None:
    assert not numba.config.DISABLE_JIT
    target = tmp_path / "compiled.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["episode", str(target)])
        exec(EPISODE, {})
    compiled, target = np.load(target), tmp_path / "interpreted.npz"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", EPISODE, str(target)], check=True, env=environment)
    interpreted = np.load(target)
    for key in ("tiles", "doors", "reward", "movers"):
        np.testing.assert_array_equal(compiled[key], interpreted[key])
