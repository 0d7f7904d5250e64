import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit.training.checkpoints import (
    MANIFEST,
    TRAINING,
    WEIGHTS,
    Checkpoint,
    CheckpointCorrupt,
    CheckpointFolder,
    load_checkpoint,
    load_weights,
)


def checkpoint(step: int) -> Checkpoint:
    weights = {"a": torch.full((3, 4), float(step)), "b": torch.arange(5.0)}
    return Checkpoint(step, {"seed": 0}, weights, {"carried": {"z": torch.ones(2)}, "sampler": {"cursor": step}})


def folder_with(path: Path, *steps: int, keep_last: int = 9) -> CheckpointFolder:
    folder = CheckpointFolder(path / "checkpoints", keep_last)
    for step in steps:
        folder.save(checkpoint(step))
    return folder


def test_what_was_saved_loads_equal(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 7)
    loaded, saved = load_checkpoint(folder.folder(7)), checkpoint(7)
    assert (loaded.step, loaded.config, loaded.training["sampler"]) == (7, saved.config, {"cursor": 7})
    assert torch.equal(loaded.training["carried"]["z"], torch.ones(2))
    for weights in (loaded.weights, load_weights(folder.folder(7))):
        assert all(torch.equal(weights[key], value) for key, value in saved.weights.items())


def test_the_last_k_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, keep_last=2)
    for step in (1, 2, 3, 4, 5):
        folder.save(checkpoint(step), is_best=step == 2)
    assert folder.steps() == [2, 4, 5]
    assert folder.best() == folder.folder(2).resolve()
    assert os.readlink(folder.path / "best") == "step-00000002"


def test_an_empty_folder_has_nothing_to_load(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    assert folder.load_newest(pytest.fail) is None
    assert folder.best() is None


def truncate(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        os.truncate(path, int(share * path.stat().st_size))

    return damage


def drop_last_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING, MANIFEST])
@pytest.mark.parametrize("damage", [truncate(0), truncate(0.5), drop_last_byte, flip_last_byte, Path.unlink])
def test_damage_is_found_named_and_passed_over(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = folder_with(tmp_path, 1, 2)
    file = folder.folder(2) / name
    before = file.read_bytes()
    damage(file)
    if name == MANIFEST and file.exists() and json_of(file.read_bytes()) == json_of(before):
        return  # a lost newline at the end says the same
    with pytest.raises(CheckpointCorrupt, match=name):
        load_checkpoint(folder.folder(2))
    said: list[str] = []
    newest = folder.load_newest(said.append)
    assert newest is not None
    assert newest.step == 1
    assert len(said) == 1
    assert "step-00000002" in said[0]


def json_of(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


@given(data=st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = folder_with(tmp_path_factory.mktemp("run"), 1)
    file = folder.folder(1) / data.draw(st.sampled_from([WEIGHTS, TRAINING]))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=file.name):
        load_checkpoint(folder.folder(1))


def test_when_none_is_whole_the_run_is_not_begun_anew(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1)
    truncate(0)(folder.folder(1) / WEIGHTS)
    with pytest.raises(CheckpointCorrupt, match=r"No whole checkpoint.*model\.safetensors has 0 bytes"):
        folder.load_newest(lambda sentence: None)


@pytest.mark.parametrize(
    ("change", "words"), [({"format": 2}, "format 1"), ({"step": None}, "lacks 'step'"), ({"files": {}}, WEIGHTS)]
)
def test_a_manifest_that_promises_something_else_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = folder_with(tmp_path, 1)
    file = folder.folder(1) / MANIFEST
    changed = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))
    with pytest.raises(CheckpointCorrupt, match=words):
        load_checkpoint(folder.folder(1))


def test_a_pickle_in_the_training_file_is_not_run(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    planted = Checkpoint(1, {}, {"a": torch.ones(1)}, {"bomb": Bomb()})
    folder.save(planted)
    with pytest.raises(CheckpointCorrupt, match=TRAINING):
        load_checkpoint(folder.folder(1))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was run",)


@pytest.mark.reported(
    "machines", "", "the disk is full at a checkpoint", "status 1, with what to do; the checkpoint before stays whole"
)
@pytest.mark.parametrize("at", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_checkpoint_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    folder = folder_with(tmp_path, 1)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, at, full)
        with pytest.raises(OSError, match=r"step 2: the disk is full.*intact"):
            folder.save(checkpoint(2))
    assert [entry.name for entry in folder.path.iterdir()] == ["step-00000001"]
    assert load_checkpoint(folder.folder(1)).step == 1


@pytest.mark.parametrize("big", ["weights", "training"])
def test_a_file_that_the_system_cuts_short_is_one_clear_error(tmp_path: Path, big: str) -> None:
    folder = folder_with(tmp_path, 1)
    large = {"x": torch.ones(100_000)}
    parts: dict[str, Any] = {"weights": {"a": torch.ones(1)}, "training": {}, big: large}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"step 2: File too large.*intact"):
            folder.save(Checkpoint(step=2, config={}, **parts))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [entry.name for entry in folder.path.iterdir()] == ["step-00000001"]


def test_what_cannot_be_serialised_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1)
    with pytest.raises(Exception, match="pickle"):
        folder.save(Checkpoint(2, {}, {}, {"unpicklable": lambda: None}))
    assert folder.steps() == [1]


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1)
    (folder.path / ".step-00000002").mkdir()
    (folder.path / ".step-00000002" / WEIGHTS).write_bytes(b"half")
    assert folder.steps() == [1]
    folder.save(checkpoint(3))
    assert sorted(entry.name for entry in folder.path.iterdir()) == ["step-00000001", "step-00000003"]


def test_a_step_that_is_trained_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 2)
    flip_last_byte(folder.folder(2) / WEIGHTS)
    folder.save(checkpoint(2))
    assert load_checkpoint(folder.folder(2)).step == 2


def test_a_save_below_a_corrupt_newer_step_is_kept(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, 3, keep_last=1)
    flip_last_byte(folder.folder(3) / WEIGHTS)
    folder.save(checkpoint(2))
    newest = folder.load_newest(lambda sentence: None)
    assert newest is not None
    assert newest.step == 2


def test_tied_weights_are_saved_under_both_names(tmp_path: Path) -> None:
    tied = torch.arange(3.0)
    folder = folder_with(tmp_path)
    folder.save(Checkpoint(1, {}, {"a": tied, "b": tied, "c": tied[1:]}, {}))
    loaded = load_weights(folder.folder(1))
    assert torch.equal(loaded["a"], tied)
    assert torch.equal(loaded["b"], tied)
    assert torch.equal(loaded["c"], tied[1:])


@pytest.mark.reported(
    "machines",
    "open-mmlab/mmdetection#1371, open-mmlab/mmsegmentation#1587, sconlyshootery/FeatDepth#21",
    "a mount without symbolic links (errno 95 on blobfuse, CIFS, exFAT)",
    "`checkpoints/best` is a file with the name of the best checkpoint; all commands read it",
)
@pytest.mark.parametrize(
    "error", [OSError(errno.EOPNOTSUPP, "Operation not supported"), NotImplementedError("no links")]
)
def test_without_links_a_file_names_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = folder_with(tmp_path, keep_last=1)
    for step, is_best in ((1, True), (2, False), (3, True), (4, False)):
        folder.save(checkpoint(step), is_best)
        assert folder.best() == folder.folder(1 if step < 3 else 3).resolve()
    assert folder.steps() == [3, 4]
    assert (folder.path / "best").read_text() == "step-00000003\n"


@pytest.mark.reported(
    "machines",
    "",
    "a run copied with links followed (`cp -rL`, a zip), then resumed",
    "the copy `best` is read, and replaced by the next best",
)
def test_a_copy_with_links_followed_goes_on(tmp_path: Path) -> None:
    folder_with(tmp_path / "first").save(checkpoint(1), is_best=True)
    shutil.copytree(tmp_path / "first", tmp_path / "copy", symlinks=False)
    folder = CheckpointFolder(tmp_path / "copy" / "checkpoints")
    assert folder.best() == folder.path / "best"
    folder.save(checkpoint(2), is_best=True)
    assert folder.best() == folder.folder(2)


@pytest.mark.reported(
    "names", "", "`step-00000001 (copy)`, `step-old`, `step-1.tar` among the checkpoints", "are let be"
)
def test_what_is_no_checkpoint_by_its_name_is_let_be(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 1, keep_last=1)
    for name in ("step-00000001 (copy)", "step-old"):
        shutil.copytree(folder.folder(1), folder.path / name)
    (folder.path / "step-00000009.tar").touch()
    folder.save(checkpoint(2))
    assert folder.steps() == [2]
    assert {"step-00000001 (copy)", "step-old", "step-00000009.tar"} <= {path.name for path in folder.path.iterdir()}
