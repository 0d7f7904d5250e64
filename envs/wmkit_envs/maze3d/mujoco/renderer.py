"""Pictures of a scene by MuJoCo, the same as dm_control's to the bit.

What a scene needs on the graphics side, its model and textures, takes tenths of a second and, drawn in software, 140
MB. It is made at the scene's first picture and goes when the scene goes.
"""

from __future__ import annotations

import contextlib
import os
import weakref

import mujoco
import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.mujoco import gl
from wmkit_envs.maze3d.mujoco.model import EYES, TOP, build
from wmkit_envs.maze3d.mujoco.walker import joints
from wmkit_envs.maze3d.scene import Scene, check_image_size

Images = NDArray[np.uint8]


def render(
    scene: Scene, poses: NDArray[np.float64], size: tuple[int, int] = (64, 64), *, from_above: bool = False
) -> Images:
    """Images (T, H, W, 3) uint8 of `scene` from `poses` (T, 5), see `Pose`, or (T, 3): lift and roll are 0.

    `size` is (H, W). With `from_above` the whole maze and the walker in it. Raises `ValueError` for sizes outside
    8..1024, poses of the wrong shape, and where MuJoCo or OpenGL cannot be had.
    """
    check_image_size(size)
    poses = np.asarray(poses, np.float64)
    if poses.ndim != 2 or poses.shape[1] not in (3, 5):
        raise ValueError(f"poses: expected shape (T, 5) or (T, 3), got {poses.shape}")
    if id(scene) not in _stages:
        _stages[id(scene)] = {}
        weakref.finalize(scene, _close, id(scene))
    stages, which = _stages[id(scene)], (os.getpid(), *size, from_above)
    if which not in stages:
        stages[which] = _Stage(scene, size, from_above)
    return stages[which].draw(joints(scene, np.pad(poses, ((0, 0), (0, 5 - poses.shape[1])))))


class _Stage:
    """A scene on the graphics side, for pictures of one size by one camera."""

    def __init__(self, scene: Scene, size: tuple[int, int], from_above: bool) -> None:
        self._model = build(scene, seen=True, ears=from_above)
        self._model.vis.global_.offheight, self._model.vis.global_.offwidth = size
        self._size = size
        self._data = mujoco.MjData(self._model)
        self._visible = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + 100)
        self._option, self._perturb, self._camera = mujoco.MjvOption(), mujoco.MjvPerturb(), mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = self._model.camera(TOP if from_above else EYES).id
        with gl.current():
            self._drawing = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)

    def draw(self, positions: NDArray[np.float64]) -> Images:
        """Pictures (T, H, W, 3) of the joint positions (T, 5)."""
        model, data, height, width = self._model, self._data, *self._size
        out = np.empty((len(positions), height, width, 3), np.uint8)
        pixels, area = np.empty((height, width, 3), np.uint8), mujoco.MjrRect(0, 0, width, height)
        with gl.current():
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)  # another stage's until now
            for index, position in enumerate(positions):
                data.qpos[:] = position
                mujoco.mj_kinematics(model, data)
                mujoco.mj_comPos(model, data)
                mujoco.mj_camlight(model, data)
                mujoco.mjv_updateScene(
                    model, data, self._option, self._perturb, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._visible
                )
                mujoco.mjr_render(area, self._visible, self._drawing)
                mujoco.mjr_readPixels(pixels, None, area, self._drawing)
                out[index] = pixels[::-1]
        return out

    def free(self) -> None:
        """Give the graphics side back, if it is still there: dm_control closes it when Python ends."""
        with contextlib.suppress(OSError), gl.current():
            self._drawing.free()


_stages: dict[int, dict[tuple[int, int, int, bool], _Stage]] = {}
"""By the scene's id; then by process (see `gl`), height, width, camera."""
_lost: list[_Stage] = []
"""Of the process that this one was forked from, whose graphics nobody here can free."""


def _close(scene: int) -> None:
    for (process, *_), stage in _stages.pop(scene).items():
        if process == os.getpid():
            stage.free()
        else:
            _lost.append(stage)
