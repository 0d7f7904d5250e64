"""The compiled ray caster and the compiled ball against their own source run by plain Python."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

EPISODE = """
import sys
import numpy as np
from wmkit_envs import RayMaze
from wmkit_envs.maze3d.raycast import render
from wmkit_envs.world import EpisodeSeed

world = RayMaze(image_size=8)
simulation = world.begin(EpisodeSeed(seed=1))
scene, walker = simulation.scene, simulation._walker
walker._position[:2] = 2 * (int(scene.start.x) + 1) + 0.3  # a corner, so that a step or two press against walls
for action in (1, 4):
    simulation.step(action)
headings = np.linspace(-3, 3, 40)
poses = np.stack([np.full(40, scene.start.x), np.full(40, scene.start.y), headings], axis=1)
np.savez(sys.argv[1], images=render(scene, poses, (8, 8)).astype(int), pose=simulation.pose)
"""


def test_compiled_and_interpreted_pictures_and_motion_agree(tmp_path: Path) -> None:
    seen = []
    for disabled in ("0", "1"):
        target = tmp_path / f"disabled_{disabled}.npz"
        environment = os.environ | {"NUMBA_DISABLE_JIT": disabled}
        subprocess.run([sys.executable, "-c", EPISODE, str(target)], check=True, env=environment)
        seen.append(np.load(target))
    compiled, interpreted = seen
    assert compiled["images"].shape == (40, 8, 8, 3)
    np.testing.assert_array_equal(compiled["images"], interpreted["images"])
    np.testing.assert_allclose(compiled["pose"], interpreted["pose"], atol=1e-9)
