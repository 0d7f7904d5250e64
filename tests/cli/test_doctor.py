"""`wmkit doctor`: versions and the machine; and what is tried, which fails with what to do."""

import errno
import fcntl
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numba.core import caching

from wmkit.cli import doctor
from wmkit.cli.__main__ import main
from wmkit.data import worlds
from wmkit_envs import MovingMnist, RayMaze, Rooms

Diagnose = Callable[..., tuple[int, str]]


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Diagnose:
    """The doctor's status and words, with one small world unless others are named."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setitem(worlds._registered, "small", Rooms(image_size=16))
    monkeypatch.setattr(doctor, "_work", lambda found: "not tried here")

    def run(*words: str, names: tuple[str, ...] = ("small",)) -> tuple[int, str]:
        monkeypatch.setattr(doctor, "list_worlds", lambda: list(names))
        status = main(["doctor", "--folder", str(tmp_path), *words])
        assert not list(tmp_path.iterdir())
        return status, capsys.readouterr().out

    return run


def line_of(printed: str, thing: str) -> str:
    return next(line for line in printed.splitlines() if line.startswith(f"│ {thing} "))


def test_doctor_names_versions_backbones_and_worlds(diagnose: Diagnose) -> None:
    status, printed = diagnose()
    assert status == 0
    for word in ("python", "torch", "triton", "GPUs", "threads", "transformer_xl"):
        assert word in printed
    for thing in ("writing", "locks", "links", "a step, cpu", "Numba", "TensorBoard", "world small", "a worker"):
        assert "works" in line_of(printed, thing)
    assert "ray_two_rooms_image_size16, image (3, 16, 16), 6 actions" in line_of(printed, "world small")


@pytest.mark.reported(
    "machines",
    "google-deepmind/dm_control#511, google-deepmind/labmaze#11",
    "`wmkit doctor` without labmaze",
    "draws an observation of each world: mazes fail with what to do, others work; status 1",
)
def test_doctor_draws_an_observation_of_each_world(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "labmaze", None)
    monkeypatch.setitem(worlds._registered, "maze", RayMaze(image_size=16))
    monkeypatch.setitem(worlds._registered, "same", RayMaze(image_size=16))
    status, printed = diagnose(names=("maze", "same", "small"))
    assert status == 1
    assert "FAILS" in line_of(printed, "world maze")
    assert "pip install labmaze" in line_of(printed, "world maze")
    assert "as world maze" in line_of(printed, "world same")
    assert "works" in line_of(printed, "world small")
    assert "2 of 12 fail; what to do stands beside them" in printed


def test_a_world_of_an_extra_that_is_not_installed_is_absent_and_no_failure(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dm_control" else known(name))
    status, printed = diagnose(names=("memory_maze", "small"))
    assert status == 0
    assert "absent" in line_of(printed, "world memory_maze")
    assert "pip install 'wmkit[mujoco]'" in line_of(printed, "world memory_maze")
    assert "drawn by the ray caster" in line_of(printed, "world small")


def test_doctor_reports_a_world_that_does_not_load(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"no wheel for {name}")

    monkeypatch.setattr(doctor, "find_world", fail)
    status, printed = diagnose(names=("moon",))
    assert status == 1
    assert "ImportError: no wheel for moon" in line_of(printed, "world moon")


@pytest.mark.reported(
    "machines", "", "`wmkit doctor` beside a package of worlds that does not load", "says which, status 1, no traceback"
)
def test_doctor_reports_a_package_that_does_not_load(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ValueError("The installed entry point moon = moon:WORLDS does not load")

    monkeypatch.setattr(worlds, "_known", broken)
    monkeypatch.setattr(doctor, "_names", lambda: ["*"])
    status, printed = diagnose()
    assert status == 1
    assert "moon = moon:WORLDS does not load" in printed


@pytest.mark.reported(
    "machines", "", "`wmkit doctor --folder` on a disk that is full or read-only", "says so and what to do, status 1"
)
def test_doctor_writes_for_real(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(doctor, "write_text", full)
    status, printed = diagnose()
    assert status == 1
    assert "does not take files (Read-only file system)" in line_of(printed, "writing")
    assert "run_dir=FOLDER" in line_of(printed, "writing")


@pytest.mark.reported(
    "machines",
    "huggingface/datasets#2618",
    "`wmkit doctor` on a mount without locks",
    "says that runs go on with a file, and what that means; status 1",
)
@pytest.mark.parametrize("kind", ["refused", "given to everybody"])
def test_doctor_locks_for_real(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def flock(descriptor: int, operation: int) -> None:
        if kind == "refused":
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    status, printed = diagnose()
    assert status == 1
    assert "a file in place of a lock" in line_of(printed, "locks")


@pytest.mark.reported(
    "machines",
    "open-mmlab/mmdetection#1371",
    "`wmkit doctor` on a mount without links",
    "says what stands in their place; status 1",
)
def test_doctor_links_for_real(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    status, printed = diagnose()
    assert status == 1
    assert "holds the name of the best checkpoint" in line_of(printed, "links")


@pytest.mark.reported(
    "machines",
    "numba/numba#4032",
    "`wmkit doctor` where Numba can keep no code, or does not load",
    "says what that costs and what helps; status 1",
)
def test_doctor_compiles_for_real(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    status, printed = diagnose()
    assert status == 1
    assert "NUMBA_CACHE_DIR" in line_of(printed, "Numba")
    monkeypatch.setitem(sys.modules, "numba", None)
    status, printed = diagnose()
    assert status == 1
    assert "ModuleNotFoundError" in line_of(printed, "Numba")


@pytest.mark.reported(
    "machines", "", "`wmkit doctor` without tensorboard", "says `pip install tensorboard`, status 1, no traceback"
)
def test_doctor_does_without_tensorboard(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    status, printed = diagnose()
    assert status == 1
    assert "pip install tensorboard" in line_of(printed, "TensorBoard")


@pytest.mark.reported(
    "machines", "", "`wmkit doctor` with a torch whose steps fail", "says so in the row of that device, status 1"
)
def test_doctor_takes_a_step_for_real(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: Any) -> None:
        raise RuntimeError("Illegal instruction")

    monkeypatch.setattr(doctor, "build_world_model", broken)
    status, printed = diagnose()
    assert status == 1
    assert "RuntimeError: Illegal instruction" in line_of(printed, "a step, cpu")


def test_doctor_tries_the_folder_that_a_run_would_be_made_in(diagnose: Diagnose, tmp_path: Path) -> None:
    assert f"files in {tmp_path} " in diagnose("--folder", str(tmp_path / "runs" / "later"))[1]


def test_a_worker_is_tried_with_a_world_that_works() -> None:
    assert doctor._work([Rooms(image_size=16)]) == "2 observations of ray_two_rooms_image_size16"
    with pytest.raises(ValueError, match="no world works"):
        doctor._work([])


def test_a_version_that_is_not_there_is_said_so() -> None:
    assert doctor.version("wmkit-no-such-package") == "not installed"


def test_doctor_says_what_an_extra_would_add(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    lacking = ("triton", "sklearn")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in lacking else found(name, *rest)
    )
    monkeypatch.setattr(doctor, "version", lambda package: "not installed")
    monkeypatch.setitem(worlds._registered, "digits", MovingMnist(side=32))
    status, printed = diagnose(names=("digits", "small"))
    assert status == 0
    assert "the kernels of a GPU need it: pip install 'wmkit[gpu]'" in " ".join(printed.split())
    assert "absent" in line_of(printed, "world digits")
    assert "wmkit[digits]" in line_of(printed, "world digits")


def test_doctor_verifies_the_weights_that_are_there(
    diagnose: Diagnose, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    for variable in ("WMKIT_WEIGHTS", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(folder))
    status, printed = diagnose()
    assert status == 0
    assert "absent" in line_of(printed, "weights")
    assert "missing: alexnet, vgg16, squeezenet1_1" in " ".join(printed.replace("│", " ").split())
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"cut off")
    status, printed = diagnose()
    assert status == 1
    assert "FAILS" in line_of(printed, "weights")
    assert "7 bytes, so it is another file or cut off" in " ".join(printed.replace("│", " ").split())
