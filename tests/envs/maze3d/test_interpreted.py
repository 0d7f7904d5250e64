"""The compiled ray caster against its own source run by plain Python."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

EPISODE = """
import sys
import numpy as np
from wmkit_envs import RayMaze
from wmkit_envs.world import EpisodeSeed

world = RayMaze(image_size=8)
simulation = world.walk(EpisodeSeed(seed=1), 400)
trajectory = simulation.trajectory()
rows = slice(None, None, 10)
thinned = type(trajectory)(*(value[rows] for value in vars(trajectory).values()))
np.save(sys.argv[1], world.draw(simulation.scene, thinned))
"""


def test_compiled_and_interpreted_pictures_agree(tmp_path: Path) -> None:
    pictures = []
    for disabled in ("0", "1"):
        target = tmp_path / f"disabled_{disabled}.npy"
        environment = os.environ | {"NUMBA_DISABLE_JIT": disabled}
        subprocess.run([sys.executable, "-c", EPISODE, str(target)], check=True, env=environment)
        pictures.append(np.load(target).astype(int))
    compiled, interpreted = pictures
    assert compiled.shape == (40, 8, 8, 3)
    np.testing.assert_array_equal(compiled, interpreted)
