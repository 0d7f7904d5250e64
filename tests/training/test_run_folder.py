import dataclasses
import errno
import fcntl
import json
import os
import platform
import re
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch

from wmkit.config import DataConfig, RunConfig, load_config
from wmkit.data import find_world
from wmkit.training import run_folder
from wmkit.training.run_folder import RunFolder, check_local_data, choose_folder
from wmkit_envs import MovingMnist, Rooms

CONFIG = RunConfig(backbone="gru", seed=3)
NAME = "maze-ray_maze_9x9-gru-3"


def choose(root: Path, **changes: object) -> RunFolder:
    return choose_folder(dataclasses.replace(CONFIG, **changes), "maze", root)[0]


def started(path: Path, finished: bool) -> None:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    if finished:
        (path / "finished.json").write_text("{}")


def test_the_name_says_recipe_world_backbone_and_seed(tmp_path: Path) -> None:
    assert choose(tmp_path).path == tmp_path / NAME


def test_an_archive_stands_for_the_world(tmp_path: Path) -> None:
    assert choose(tmp_path, data=DataConfig(source="/data/kitchen.zarr")).path.name == "maze-kitchen-gru-3"


def test_folders_of_worlds_with_other_settings_have_other_names(tmp_path: Path) -> None:
    assert choose(tmp_path, world="ray_maze").path == choose(tmp_path, world="ray_maze_9x9").path
    small = find_world("ray_maze", image_size=32)
    assert choose(tmp_path, world=small).path.name == "maze-ray_maze_9x9_image_size32-gru-3"


def test_a_second_run_gets_the_next_number(tmp_path: Path) -> None:
    started(tmp_path / NAME, finished=True)
    assert choose(tmp_path).path.name == f"{NAME}-2"
    started(tmp_path / f"{NAME}-2", finished=True)
    assert choose(tmp_path).path.name == f"{NAME}-3"
    started(tmp_path / f"{NAME}0", finished=True)
    started(tmp_path / f"{NAME}-notes", finished=True)
    assert choose(tmp_path).path.name == f"{NAME}-3"


def test_an_unfinished_run_is_left_alone_and_said_so(tmp_path: Path) -> None:
    started(tmp_path / NAME, finished=False)
    folder, sentence = choose_folder(CONFIG, "maze", tmp_path)
    assert folder.path.name == f"{NAME}-2"
    assert "resume=true continues it" in sentence


def test_resume_takes_the_newest_unfinished_run(tmp_path: Path) -> None:
    for number, finished in ((1, False), (2, False), (10, True)):
        started(tmp_path / (NAME if number == 1 else f"{NAME}-{number}"), finished)
    assert choose(tmp_path, resume=True).path.name == f"{NAME}-2"


def test_resume_without_an_unfinished_run_begins_a_new_one(tmp_path: Path) -> None:
    started(tmp_path / NAME, finished=True)
    assert choose(tmp_path, resume=True).path.name == f"{NAME}-2"


def test_a_named_folder_that_exists_is_refused_and_untouched(tmp_path: Path) -> None:
    started(tmp_path / "mine", finished=False)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"exists\. Nothing was changed"):
        choose(tmp_path, run_dir=str(tmp_path / "mine"))
    assert sorted(tmp_path.rglob("*")) == before
    assert choose(tmp_path, run_dir=str(tmp_path / "mine"), resume=True).path == tmp_path / "mine"
    assert choose(tmp_path, run_dir=str(tmp_path / "other")).path == tmp_path / "other"


def test_a_named_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="not a folder"):
        choose(tmp_path, run_dir=str(tmp_path / "file"), resume=True)


HOLD = """
import subprocess, sys
from pathlib import Path
from wmkit.training.run_folder import RunFolder

folder = RunFolder(Path(sys.argv[1]))
folder.open()
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(worker.pid, flush=True)
worker.wait()
"""


@pytest.mark.reported("machines", "", "`kill -9` of a run whose data workers live on", "no lock stays behind")
def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock_and_no_heir(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        worker = int(holder.stdout.readline())
        with pytest.raises(ValueError, match=f"in use by process {holder.pid}"):
            RunFolder(tmp_path).open()
        holder.kill()
    folder = RunFolder(tmp_path)
    folder.open()
    os.kill(worker, signal.SIGKILL)  # it was alive: what the killed process had started holds no lock
    assert (tmp_path / "process").read_text() == f"{os.getpid()} on {platform.node()}"
    (tmp_path / "config.json").touch()
    folder.close()
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "lock"}


def test_one_process_does_not_open_a_folder_twice(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.open()
    with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_training_is_imported_where_fcntl_is_missing() -> None:
    code = "import sys; sys.modules['fcntl'] = None; import wmkit.training.command, wmkit.training.loop"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_that_nothing_was_written_to_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open()
    folder.close()
    folder.close()
    assert not folder.path.exists()


def test_a_run_says_what_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.describe(CONFIG, (3, 64, 64), 6)
    folder.describe(CONFIG, (3, 64, 64), 6)
    assert load_config(tmp_path / "config.json") == CONFIG
    shapes = {"image_shape": [3, 64, 64], "action_dim": 6, "local_data": {}}
    assert json.loads((tmp_path / "shapes.json").read_text()) == shapes
    starts = json.loads((tmp_path / "versions.json").read_text())["starts"]
    assert len(starts) == 2
    assert starts[0]["command"] == sys.argv
    assert {"python", "torch", "numpy", "wmkit", "commit"} <= starts[0].keys()


@pytest.mark.reported("machines", "", "no git", "a run without a commit in `versions.json`")
def test_versions_do_without_git_and_without_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(run_folder, "PACKAGES", ("no-such-package",))
    found = run_folder.versions()
    assert found["commit"] is None
    assert found["no-such-package"] is None


def test_a_named_folder_that_holds_no_run_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("...")
    with pytest.raises(ValueError, match="holds no run"):
        choose(tmp_path, run_dir=str(tmp_path / "thesis"), resume=True)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "lock").write_text("1")
    assert choose(tmp_path, run_dir=str(tmp_path / "killed"), resume=True).path == tmp_path / "killed"


@pytest.mark.reported("machines", "", "the disk is full when a run is described", "the old config stays whole")
def test_a_disk_that_fills_up_leaves_the_old_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.describe(CONFIG, (3, 8, 8), 2)

    def full(*args: object, **options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        folder.describe(dataclasses.replace(CONFIG, resume=True), (3, 8, 8), 2)
    assert load_config(tmp_path / "config.json") == CONFIG


@pytest.mark.reported(
    "names",
    "ray-project/ray#15367, tensorflow/tensorflow#34290",
    "an archive in a folder with `[ ]`, `*` or other signs of patterns, the recipe started twice",
    "a folder of its own each time",
)
@pytest.mark.parametrize(
    "name", ["maze[9x9]", "maze*", "m?ze", "a^b$", "(a|b)", "maze.v1", "ma ze,=#%@~", "ünï日本", "a\nb"]
)
def test_a_second_run_of_an_archive_of_any_name_gets_the_next_number(tmp_path: Path, name: str) -> None:
    data = DataConfig(source=str(tmp_path / "data" / name))
    first = choose(tmp_path, data=data)
    started(first.path, finished=True)
    assert choose(tmp_path, data=data).path.name == f"{first.path.name}-2"
    other = DataConfig(source=str(tmp_path / "data" / f"{name}.v2"))
    assert choose(tmp_path, data=other).path.name not in (first.path.name, f"{first.path.name}-2")


@pytest.mark.reported(
    "names", "", "an archive whose name has 250 letters", "a shorter name with a digest; archives stay apart"
)
def test_a_very_long_name_is_shortened_and_stays_apart(tmp_path: Path) -> None:
    names = [choose(tmp_path, data=DataConfig(source=letter * 250)).path.name for letter in "ab"]
    assert names[0] != names[1]
    assert max(map(len, names)) <= 160


@pytest.mark.reported("names", "", "`data.source=.` or `..`", "the run is named after that folder")
def test_an_archive_that_is_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kitchen" / "inner").mkdir(parents=True)
    for source, here in ((".", "kitchen"), ("..", "kitchen/inner")):
        monkeypatch.chdir(tmp_path / here)
        assert choose(tmp_path, data=DataConfig(source=source)).path.name == "maze-kitchen-gru-3"


@dataclasses.dataclass(frozen=True)
class Named(Rooms):
    label: str = "plain"

    @property
    def name(self) -> str:
        return self.label


@pytest.mark.reported(
    "names", "", "a world of one's own whose name has `/`", "one folder, which the second run finds taken"
)
def test_the_name_of_a_world_makes_one_folder(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, world=Named(label="../kitchen/v1"))
    first = choose_folder(config, "maze", tmp_path)[0]
    assert first.path.parent == tmp_path
    started(first.path, finished=True)
    assert choose_folder(config, "maze", tmp_path)[0].path.name == f"{first.path.name}-2"


@pytest.mark.reported(
    "machines",
    "huggingface/datasets#2618, spack/spack#12501",
    "two runs in one folder on a mount without locks",
    "the second is refused by the first one's process and machine, with the file to delete if that is gone",
)
def test_without_locks_a_folder_in_use_is_refused_truthfully(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    first = RunFolder(tmp_path / "run")
    with pytest.warns(UserWarning, match="has no locks"):
        first.open()
    here = re.escape(f"process {os.getpid()} on {platform.node()}")
    with pytest.raises(ValueError, match=rf"in use by {here}\..*no such process any more, delete .*lock\.held\."):
        RunFolder(tmp_path / "run").open()
    first.close()
    assert not (tmp_path / "run").exists()


@pytest.mark.reported(
    "machines", "", "the run folder is held and nobody said by whom", "`another process`, not `process unknown`"
)
def test_a_holder_that_has_not_said_who_it_is_is_another_process(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    first.open()
    (tmp_path / "process").unlink()
    with pytest.raises(ValueError, match="in use by another process"):
        RunFolder(tmp_path).open()
    first.close()


@pytest.mark.reported(
    "settings",
    "",
    "started from a git hook (`GIT_DIR`, `GIT_WORK_TREE`)",
    "`versions.json` has the commit of wmkit, not of that repository",
)
def test_the_commit_is_not_that_of_a_hooks_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_folder.versions()["commit"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert run_folder.versions()["commit"] == expected


@pytest.mark.reported(
    "settings",
    "",
    "wmkit installed into the virtual environment of a project under git",
    "no commit, not that project's",
)
def test_the_commit_is_not_that_of_the_project_it_is_installed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "run_folder.py").touch()
    monkeypatch.setattr(run_folder, "__file__", str(tmp_path / "run_folder.py"))
    assert run_folder.versions()["commit"] is None


@pytest.mark.reported(
    "settings",
    "",
    "`MKL_`, `OMP_`, `TORCH_` variables, which change the last bits",
    "`versions.json` has them, and the threads",
)
def test_versions_say_what_libraries_were_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    found = run_folder.versions()
    assert found["environment"]["MKL_CBWR"] == "AVX2"
    assert "SECRET_TOKEN" not in found["environment"]
    assert found["threads"] == torch.get_num_threads()


@pytest.mark.reported(
    "names",
    "",
    "archives `Maze` and `maze` on a disk where capitals are one (macOS, Windows)",
    "folders that differ in their numbers; only one's own run is resumed",
)
def test_names_that_differ_in_capitals_alone_get_folders_that_differ_in_more(tmp_path: Path) -> None:
    upper, lower = (DataConfig(source=f"data/{name}") for name in ("Maze", "maze"))
    started(choose(tmp_path, data=upper).path, finished=False)
    assert choose(tmp_path, data=lower).path.name == "maze-maze-gru-3-2"
    assert choose(tmp_path, data=lower, resume=True).path.name == "maze-maze-gru-3-2"
    assert choose(tmp_path, data=upper, resume=True).path.name == "maze-Maze-gru-3"


@pytest.mark.reported(
    "names",
    "",
    "accents that the disk gives back apart from their letters (macOS)",
    "the run of that name is found, numbered and resumed",
)
def test_accents_apart_from_their_letters_are_the_same_name(tmp_path: Path) -> None:
    data = DataConfig(source="data/mäze")
    started(tmp_path / unicodedata.normalize("NFD", choose(tmp_path, data=data).path.name), finished=False)
    assert choose(tmp_path, data=data).path.name.endswith("gru-3-2")
    assert choose(tmp_path, data=data, resume=True).path.name.endswith("gru-3")


@pytest.mark.reported(
    "data",
    "",
    "a run on recordings whose recipe names a world of local data, such as MNIST's digits, on a machine with others",
    "goes on and is measured: the world has nothing to do with it",
)
def test_a_run_on_archives_does_not_depend_on_the_worlds_local_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(world=MovingMnist(side=32), backbone="gru", data=DataConfig(source="a", valid_source="b"))
    folder = RunFolder(tmp_path)
    folder.describe(config, (3, 8, 8), 2)
    monkeypatch.setattr(MovingMnist, "local_data", {"digits": "others"})
    check_local_data(tmp_path, config.world)
    folder.describe(config, (3, 8, 8), 2)
    check_local_data(tmp_path, config.world)
