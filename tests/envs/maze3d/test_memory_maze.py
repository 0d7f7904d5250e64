"""Memory Maze in MuJoCo: the ray caster's mazes, its environments and their variants, and MuJoCo's motion alone."""

import copy
import itertools
import pickle
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import wmkit_envs
from wmkit_envs import MemoryMaze, RayMaze, Rooms
from wmkit_envs.maze3d.env import RayEnv
from wmkit_envs.maze3d.kinematics import FORWARD
from wmkit_envs.world import EpisodeSeed


@pytest.mark.usefixtures("opengl")
def test_gymnasiums_own_checker_passes() -> None:
    check_env(gymnasium.make("wmkit/MemoryMaze-9x9-ExtraObs-v0").unwrapped, skip_render_check=True)


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize(
    ("variant", "side", "steps"), [("HiFreq-Vis", 64, 10_000), ("Oracle-Top", 256, 1000), ("6CL-ExtraObs", 64, 1000)]
)
def test_variants_have_memory_mazes_names_sizes_and_lengths(variant: str, side: int, steps: int) -> None:
    env = gymnasium.make(f"wmkit/MemoryMaze-9x9-{variant}-v0")
    assert isinstance(env.unwrapped, RayEnv)
    assert env.unwrapped.world.episode_length == steps + 1
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    image = observation["image"] if "ExtraObs" in variant else observation
    assert image.shape == (side, side, 3)
    if "ExtraObs" in variant:
        assert {"image", *info} - {"is_first"} == set(observation)
        np.testing.assert_array_equal(observation["maze_layout"], info["maze_layout"])
    if variant == "Oracle-Top":  # the walker's cell in the small map
        np.testing.assert_array_equal(image[9, 256 - 9] >= 127, [True, False, False])


@pytest.mark.usefixtures("opengl")
def test_an_environment_shows_what_is_generated_and_its_copies_go_on_as_it_does() -> None:
    episode = wmkit_envs.generate("memory_maze_9x9", seed=4, split="test", index=3, length=12)
    env = RayEnv(MemoryMaze())
    image, _ = env.reset(seed=4, options={"split": "test", "index": 3})
    envs = [env]
    for step in range(12):
        if step == 6:
            envs += [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
        for each in envs:
            if step:
                image, reward, *_ = each.step(episode["action"][step].argmax())
                assert reward == episode["reward"][step]
            np.testing.assert_array_equal(image, episode["image"][step])
    env.close()
    with pytest.raises(ValueError, match="reset"):
        env.step(0)


@pytest.mark.usefixtures("opengl")
def test_environments_side_by_side_do_not_disturb_each_other() -> None:
    seeds = (0, 1)
    alone = []
    for seed in seeds:
        env = RayEnv(MemoryMaze(image_size=16))
        images = [env.reset(seed=seed)[0]] + [env.step(FORWARD)[0] for _ in range(3)]
        alone.append(images)
    envs = [RayEnv(MemoryMaze(image_size=16)) for _ in seeds]
    together = [[env.reset(seed=seed)[0]] for env, seed in zip(envs, seeds, strict=True)]
    for _ in range(3):
        for env, images in zip(envs, together, strict=True):
            images.append(env.step(FORWARD)[0])
    np.testing.assert_array_equal(together, alone)


SPAWNED = """
import gymnasium, numpy as np, wmkit_envs

if __name__ == "__main__":
    made = [lambda: gymnasium.make("wmkit/MemoryMaze-9x9-v0", image_size=8)] * 2
    vector = gymnasium.vector.AsyncVectorEnv(made, context="spawn")
    images = [vector.reset(seed=5)[0], vector.step(np.array([1, 1]))[0]]
    single = gymnasium.make("wmkit/MemoryMaze-9x9-v0", image_size=8)
    np.testing.assert_array_equal(images[0][1], single.reset(seed=6)[0])
    np.testing.assert_array_equal(images[1][1], single.step(1)[0])
    vector.close()
"""


def test_spawned_workers_draw_and_end_in_silence(opengl: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("spawn") / "script.py"
    script.write_text(SPAWNED)
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_mazes_are_the_ray_casters(split: str) -> None:
    pytest.importorskip("mujoco")
    seed = EpisodeSeed(7, split, 2)
    cast, real = (world.begin(seed) for world in (RayMaze(), MemoryMaze()))
    assert cast.goal == real.goal
    assert cast.scene.start == real.scene.start == real.pose
    for key in ("walls", "floors", "objects", "palette"):
        np.testing.assert_array_equal(getattr(cast.scene, key), getattr(real.scene, key))
    colored = RayMaze(six_colors=True).begin(seed).scene
    np.testing.assert_array_equal(colored.walls, cast.scene.walls)
    assert not np.array_equal(colored.palette, cast.scene.palette)
    assert {tuple(color) for color in colored.palette} == {tuple(color) for color in cast.scene.palette}


def test_mujocos_motion_needs_no_opengl_and_goes_as_far_as_the_stocks() -> None:
    pytest.importorskip("mujoco")
    scene = Rooms().begin(EpisodeSeed(0)).scene
    simulation = Rooms(physics="mujoco").simulate(scene, None)
    start = simulation.pose
    places = [start]
    for _ in range(3):
        simulation.step(FORWARD)
        places.append(simulation.pose)
    moved = [np.hypot(b.x - a.x, b.y - a.y) for a, b in itertools.pairwise(places)]
    np.testing.assert_allclose(moved, [0.111, 0.219, 0.243], atol=2e-3)
    code = (
        "import sys; from wmkit_envs import RayMaze; RayMaze(physics='mujoco').generate(seed=0, length=3); "
        "assert 'wmkit_envs.maze3d.mujoco.gl' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("world", "setting", "value"),
    [
        (RayMaze, "renderer", "mujoco"),
        (RayMaze, "physics", "own"),
        (MemoryMaze, "renderer", "raycast"),
        (MemoryMaze, "physics", "ball"),
        (MemoryMaze, "frequency", 20),
    ],
)
def test_settings_that_do_not_go_together_are_refused(world: type[RayMaze], setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{setting}: expected .* got {value!r}"):
        world(**{setting: value})


def test_an_oracles_map_must_fit_the_picture() -> None:
    with pytest.raises(ValueError, match="oracle: expected image_size of at least 18, got 16"):
        RayMaze(oracle=True, image_size=16)
