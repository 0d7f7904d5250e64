"""OpenGL without a screen: what is tried, in which order, and what is said where nothing draws."""

import importlib.util
import os
import subprocess
import sys
import threading

import pytest

from wmkit_envs.maze3d.mujoco import gl


@pytest.fixture
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not drawn."""
    pytest.importorskip("mujoco")
    monkeypatch.setattr(gl, "_chosen", {})
    monkeypatch.delenv("MUJOCO_GL", raising=False)


class Missing:
    """A backend that is not there."""

    def __init__(self) -> None:
        raise OSError("no such library")


def test_what_draws_is_named_and_told_to_mujoco(opengl: str) -> None:
    name, _, driver = opengl.partition(", ")
    assert name == os.environ["MUJOCO_GL"]
    assert name in gl.BACKENDS
    assert driver


def test_osmesa_comes_after_egl(nothing_chosen: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def bind(self) -> None: ...
        def release(self) -> None: ...
        def device(self) -> str:
            return "a driver"

    monkeypatch.setattr(gl, "_check_that_it_draws", lambda: None)
    monkeypatch.setattr(gl, "BACKENDS", {"egl": Missing, "osmesa": Other})
    assert gl.describe() == "osmesa, a driver"
    assert os.environ["MUJOCO_GL"] == "osmesa"


@pytest.mark.reported(
    "machines",
    "google-deepmind/dm_control#123, #136, Farama-Foundation/Gymnasium#411",
    "MuJoCo's pictures on a machine without EGL and OSMesa",
    "an error that names what was tried, Debian's packages and the ray caster",
)
def test_without_opengl_the_error_names_the_packages(nothing_chosen: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "BACKENDS", {"egl": Missing, "osmesa": Missing})
    with pytest.raises(ValueError, match=r"egl: no such library; osmesa: .*libegl1 .* or libosmesa6.*renderer=raycast"):
        gl.describe()
    assert "MUJOCO_GL" not in os.environ


def test_the_users_choice_is_the_only_one_tried(nothing_chosen: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(gl, "BACKENDS", {"egl": Missing, "osmesa": Missing})
    with pytest.raises(ValueError, match=r"\(egl: no such library\)"):
        gl.describe()
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ValueError, match=r"MUJOCO_GL: expected egl or osmesa, .* got 'glfw'"):
        gl.describe()


@pytest.mark.reported(
    "machines",
    "seohongpark/ogbench#19",
    "OpenGL that draws black pictures",
    "is not taken: the first picture is looked at",
)
def test_a_driver_that_draws_black_is_not_taken(
    opengl: str, nothing_chosen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mujoco

    monkeypatch.setenv("MUJOCO_GL", opengl.partition(", ")[0])
    monkeypatch.setattr(mujoco, "mjr_render", lambda *_: None)
    with pytest.raises(ValueError, match="draws black pictures"):
        gl.describe()


@pytest.mark.reported(
    "machines",
    "",
    "Triton, whose LLVM is not Mesa's, imported after MuJoCo has drawn",
    "both go on: Triton's library is loaded first",
)
@pytest.mark.usefixtures("opengl")
def test_triton_can_be_imported_after_the_first_picture() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton")
    code = "from wmkit_envs.maze3d.mujoco import gl; gl.describe(); import triton.runtime"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_other_threads_and_forks_draw_too(opengl: str) -> None:
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(gl.describe()))
    thread.start()
    thread.join()
    assert said == [opengl]
    code = (
        "import os, sys; from wmkit_envs.maze3d.mujoco import gl; said = gl.describe(); child = os.fork()\n"
        "if not child: os._exit(gl.describe() != said)\n"
        "sys.exit(os.waitpid(child, 0)[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
