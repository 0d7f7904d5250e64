"""A scene in dm_control as Memory Maze uses it: its arena, walker and targets, its camera, its scan of contacts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import labmaze
import numpy as np
from dm_control import mjcf
from dm_control.locomotion.arenas import labmaze_textures, mazes
from dm_control.locomotion.props import target_sphere
from dm_control.locomotion.walkers import jumping_ball
from labmaze.assets import get_floor_texture_paths, get_wall_texture_paths
from numpy.typing import NDArray

from wmkit_envs.maze3d.mujoco.model import WALL_ART
from wmkit_envs.maze3d.scene import OPEN, Scene, wall_blocks

TORQUES = ((0, 0), (-1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1))


class _Textures(labmaze_textures.WallTextures):
    """Some of labmaze's textures."""

    def _build(self, paths: Callable[[str], dict[str, str]], *names: str) -> None:
        self._mjcf_root = mjcf.RootElement(model="art")
        self._textures = [
            self._mjcf_root.asset.add("texture", type="2d", name=name, file=paths("style_01")[name]) for name in names
        ]


class DmMaze:
    """The physics of a dressed scene, from its start: wall texture k is that of block k."""

    def __init__(self, scene: Scene) -> None:
        blocks, styles = wall_blocks(*scene.walls.shape)[::-1], scene.walls[::-1]
        walls = styles != OPEN
        textures = {
            str(block): _Textures(get_wall_texture_paths, WALL_ART[styles[walls & (blocks == block)][0]])
            for block in np.unique(blocks[walls])
        }
        arena = mazes.MazeWithTargets(
            maze=labmaze.FixedMazeWithRandomGoals(
                entity_layer=_text(np.where(walls, blocks.astype("U1"), " ")),
                variations_layer=_text(np.where(scene.floors[::-1] == 1, "A", ".")),
                num_spawns=0,
                num_objects=0,
            ),
            xy_scale=2.0,
            z_height=0.4 if scene.raised else 1.5,
            wall_textures=textures,
            floor_textures=_Textures(get_floor_texture_paths, "blue", "blue_bright"),
        )
        arena.regenerate()
        while arena.mjcf_model.find("material", "floor_0").texture.name != "blue":  # one of the two is for corridors
            arena.regenerate()
        walker = jumping_ball.RollingBallWithHead(camera_height=0.3)
        walker.mjcf_model.find("joint", "roll").damping = 5.0
        walker.mjcf_model.find("joint", "steer").damping = 20.0
        walker.create_root_joints(arena.attach(walker))
        rows, columns = scene.layout.shape
        self._targets = []
        for (x, y), color in zip(scene.objects, scene.colors, strict=True):
            height = 1.1 if scene.raised else 0.0
            target = target_sphere.TargetSphere(0.6, height, rgb1=tuple(color), rgb2=tuple(color))
            arena.attach(target).pos = (2 * x - columns, 2 * y - rows, 0)
            self._targets.append(target)
        arena.mjcf_model.option.timestep = 0.005
        arena.mjcf_model.visual.quality.shadowsize = 1  # there are no shadows, and 4096 pixels a side take a second
        self.physics: Any = mjcf.Physics.from_mjcf_model(arena.mjcf_model)
        with self.physics.reset_context():
            self.physics.data.qpos[:] = (
                2 * scene.start.x - columns,
                2 * scene.start.y - rows,
                2 * scene.start.lift,
                -scene.start.heading,
                0,
            )
        for target in self._targets:
            target.initialize_episode(self.physics, None)
            target.reset(self.physics)

    def step(self, action: int) -> NDArray[np.bool_]:
        """50 substeps of 5 ms; which targets (k,) were activated."""
        self.physics.set_control(TORQUES[action])
        for _ in range(50):
            self.physics.step()
            for target in self._targets:
                target.after_substep(self.physics, None)
        activated = np.array([target.activated for target in self._targets])
        for target in self._targets:
            target.reset(self.physics)
        return activated

    def render(self) -> NDArray[np.uint8]:
        """What the walker sees, (64, 64, 3)."""
        return self.physics.render(64, 64, camera_id="walker/egocentric")


def _text(grid: NDArray[np.str_]) -> str:
    return "".join("".join(row) + "\n" for row in grid)
