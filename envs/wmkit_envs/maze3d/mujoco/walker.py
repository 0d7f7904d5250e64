"""MuJoCo's ball: Memory Maze's own motion, to the bit, without OpenGL."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from wmkit_envs.maze3d.kinematics import COMMANDS
from wmkit_envs.maze3d.mujoco.model import CELL, TIME_STEP, build
from wmkit_envs.maze3d.scene import Pose, Scene


class Ball:
    """A walker of `wmkit_envs.maze3d.simulation`: a rolling ball with a head, `frequency` steps per second.

    Copies and pickles hold the state and go on to the bit.
    """

    def __init__(self, scene: Scene, frequency: int = 4) -> None:
        self._scene, self._substeps = scene, round(1 / (TIME_STEP * frequency))
        self.contacts = np.zeros(len(scene.objects), np.bool_)
        """(k,) the objects that were touched at any substep of the last step."""
        self._build()
        self._data.qpos[:] = joints(scene, np.array([scene.start]))[0]
        mujoco.mj_forward(self._model, self._data)

    def _build(self) -> None:
        self._model = build(self._scene, seen=False)
        self._data = mujoco.MjData(self._model)
        self._objects = [self._model.geom(f"object {index}").id for index in range(len(self._scene.objects))]

    @property
    def pose(self) -> Pose:
        """The present pose."""
        x, y, lift, steering, roll = self._data.qpos.tolist()
        rows, columns = self._scene.layout.shape
        heading = math.remainder(-steering, 2 * math.pi)
        return Pose(x / CELL + columns / 2, y / CELL + rows / 2, heading, lift / CELL, roll)

    def step(self, action: int) -> NDArray[np.float64]:
        """Roll for one step under one of the six actions; x and y (n, 2) at the end of each of its n substeps.

        Contacts are looked for at every substep, in MuJoCo's list: beside the floor's there is rarely another.
        """
        model, data = self._model, self._data
        drive, steer = COMMANDS[action]
        data.ctrl[:] = -drive, -steer  # the actuators' gears are negative, or their axis points down
        places = np.empty((self._substeps, 2))
        felt: set[int] = set()
        for substep in range(self._substeps):
            mujoco.mj_step2(model, data)
            mujoco.mj_step1(model, data)  # so that contacts are those of the present place
            places[substep] = data.qpos[:2]
            if data.ncon > 1:
                felt.update(data.contact.geom.flat)
        self.contacts = np.isin(self._objects, list(felt))
        rows, columns = self._scene.layout.shape
        return places / CELL + (columns / 2, rows / 2)

    def __getstate__(self) -> dict[str, Any]:
        state = np.empty(mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(self._model, self._data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return {"scene": self._scene, "substeps": self._substeps, "contacts": self.contacts, "state": state}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self._scene, self._substeps, self.contacts = kept["scene"], kept["substeps"], kept["contacts"].copy()
        self._build()
        mujoco.mj_setState(self._model, self._data, kept["state"], mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_step1(self._model, self._data)


def joints(scene: Scene, poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """MuJoCo's joint positions (T, 5) of poses (T, 5)."""
    rows, columns = scene.layout.shape
    centred = poses - (columns / 2, rows / 2, 0, 0, 0)
    return centred[:, [0, 1, 3, 2, 4]] * (CELL, CELL, CELL, -1, 1)
