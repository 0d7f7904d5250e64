"""Shared by the worlds' tests: OpenGL, for those in which MuJoCo draws."""

import pytest


@pytest.fixture(scope="session")
def opengl() -> str:
    """What draws for MuJoCo here; tests that ask for it are skipped where nothing does."""
    from wmkit_envs.maze3d.mujoco import gl  # before MuJoCo, see there

    pytest.importorskip("mujoco")
    pytest.importorskip("dm_control")
    try:
        return gl.describe()
    except ValueError as error:
        pytest.skip(str(error))
