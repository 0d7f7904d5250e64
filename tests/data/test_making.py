"""Archives of a world: the same bytes however they came about, and refused where they would be mixed."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wmkit.data import GeneratedEpisodes, make_archives
from wmkit.data.store import writers

Tree = Callable[[Path], dict[str, bytes]]


@pytest.fixture(autouse=True)
def _two_episodes_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the toy world's 23 steps."""
    monkeypatch.setattr(writers, "LONGEST_BLOCK", 46)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "LONGEST_BLOCK", 46)
        make_archives("toy", 5, out, split=(1,), workers=0)
    return out


def test_each_split_is_the_worlds_own(tmp_path: Path) -> None:
    stores = make_archives("toy", 4, tmp_path, split=(0.5, 0, 0.5), workers=0)
    assert {part: len(store) for part, store in stores.items()} == {"train": 2, "test": 2}
    for part, store in stores.items():
        source = GeneratedEpisodes("toy", seed=0, split=part)
        assert store.origin == source.origin
        assert (store.episode(1)["image"] == source.episode(1)["image"]).all()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_bytes_do_not_depend_on_the_workers(made: Path, workers: int, tmp_path: Path, tree: Tree) -> None:
    make_archives("toy", 5, tmp_path / "out", split=(1,), workers=workers)
    assert tree(tmp_path / "out") == tree(made)


def test_a_larger_number_goes_on_where_a_smaller_one_ended(made: Path, tmp_path: Path, tree: Tree) -> None:
    for episodes in (1, 3, 5):
        make_archives("toy", episodes, tmp_path / "out", split=(1,), workers=0)
    assert tree(tmp_path / "out") == tree(made)


@pytest.mark.reported(
    "data",
    "",
    "`wmkit data make` killed at any moment, SIGKILL, and started again",
    "goes on; the same files, byte by byte, as in one go",
)
def test_a_killed_making_started_again_gives_the_same_bytes(made: Path, tmp_path: Path, tree: Tree) -> None:
    """The moment is a random number of calls of the system into the making, wherever that is."""
    code = f"""
import sys; sys.path[:] = {sys.path!r}
import os, random, signal
from pathlib import Path
from wmkit.data import make_archives
from wmkit.data.store import writers
writers.LONGEST_BLOCK, writers.SECONDS = 46, 0
left = int(sys.argv[1])
def count(event, arguments):
    global left
    left -= event in ("open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree") and "out" in str(arguments[0])
    if left == 0:
        left = -1
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
make_archives("toy", 5, Path({str(tmp_path / "out")!r}), split=(1,), workers=0)
"""
    numbers = random.Random(0)
    for _ in range(3):
        command = [sys.executable, "-c", code, str(numbers.randrange(30, 250))]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    make_archives("toy", 5, tmp_path / "out", split=(1,), workers=0)
    assert tree(tmp_path / "out") == tree(made)


@pytest.mark.reported(
    "data",
    "",
    "`wmkit data make` into a folder of another world, seed or settings, or of more episodes",
    "`ValueError` that says what differs and what to do; nothing is written",
)
def test_a_folder_of_other_settings_is_refused_and_stays_as_it_is(made: Path, tmp_path: Path, tree: Tree) -> None:
    before = tree(made)
    for world, episodes, more, words in (
        ("toy", 5, {"seed": 1}, "train: an archive that was made otherwise .seed is 1, there it was 0"),
        ("toy_nan", 5, {}, "world is .*'fault': 'nan'.*name another folder, or delete"),
        (
            "toy",
            4,
            {},
            "train: holds 5 episodes already, expected 4 at most. .* ask for more episodes, or name another",
        ),
        ("toy", 0, {}, "episodes"),
        ("toy", 5, {"workers": -1}, "workers"),
        ("toys", 5, {}, "Unknown world 'toys'"),
    ):
        with pytest.raises(ValueError, match=words):
            make_archives(world, episodes, made, split=(1,), **more)
    assert tree(made) == before
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="expected an archive or nothing here"):
        make_archives("toy", 9, tmp_path, split=(0.6, 0, 0.4))
    assert not (tmp_path / "train").exists()
