import errno
import fcntl
import json
import math
import os
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch

import wmkit
from wmkit.files import file_name, hold_lock, sync, to_json, user_path, write_json, write_text


def test_a_replaced_file_is_another_file_so_no_reader_sees_half_of_one(tmp_path):
    path = tmp_path / "index.txt"
    write_text(path, "one ünï", durable=True)
    with path.open(encoding="utf-8") as reader:
        write_text(path, "two")
        assert reader.read() == "one ünï"
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_stays_as_it_was_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    write_json(path, {"steps": 1})

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_json(path, {"steps": 2})
    assert json.loads(path.read_text()) == {"steps": 1}


@pytest.mark.reported(
    "numbers",
    "clearml/clearml#118, tensorflow/tensorflow#3212, lanpa/tensorboardX#377",
    "NaN and infinity in any file of a run, comparison, archive or cache",
    "JSON `null`, which jq, browsers and pandas read",
)
def test_what_json_has_no_number_for_is_null(tmp_path):
    values = {"a": math.nan, "b": [1.5, -math.inf, {"c": (np.float64("inf"), 2, True, "NaN", None)}]}
    write_json(tmp_path / "values.json", values)
    read = json.loads((tmp_path / "values.json").read_text(), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [1.5, None, {"c": [None, 2, True, "NaN", None]}]}
    assert to_json({"loss": 0.1}) == '{"loss": 0.1}'
    assert math.isnan(values["a"])


@pytest.mark.reported(
    "numbers", "", "figures of one's own as numbers of NumPy or PyTorch, in any file", "written as any other number"
)
def test_numbers_of_other_libraries_are_written_as_pythons():
    values = {"a": np.float32(0.5), "b": torch.tensor(2.0), "c": np.int64(3), "d": np.float32("nan"), "e": np.bool_(1)}
    assert json.loads(to_json(values)) == {"a": 0.5, "b": 2.0, "c": 3, "d": None, "e": True}


def test_no_file_is_written_around_the_one_writer():
    """Whoever writes JSON into a file calls `to_json`; `json.dumps` is for text that is read back at once, or shown."""
    shown = {"comparison/report.py", "config.py", "data/loader.py", "data/sources.py", "data/worker.py", "files.py"}
    shown |= {
        "cli/report.py",
        "diagnostics/runner.py",
        "training/help.py",
        "training/overrides.py",
        "training/run_folder.py",
    }
    package = Path(wmkit.__file__).parent
    using = {str(path.relative_to(package)) for path in package.rglob("*.py") if "json.dump" in path.read_text()}
    assert using <= shown


@pytest.mark.parametrize("label", ["maze", "ray_maze 9x9 [v1]", "ünï,=#%@~ $x$ {y}", ".hidden", "日本"])
def test_a_label_that_can_be_a_files_name_stays_as_it_is(label):
    assert file_name(label) == label


@pytest.mark.parametrize("label", ["a/b", "..", "", "a\\b", "a\nb", "a:b", "dots...", "x" * 300, "ü" * 100, "\udcff/"])
def test_other_labels_become_names_that_differ_as_they_do(label, tmp_path):
    name = file_name(label)
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(os.fsencode(name)) <= 160
    assert name != file_name(label + "/")


@pytest.mark.reported("names", "hydra-ecosystem/hydra#1647", "`~` within quotes or after `=`", "the home folder")
def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/müller")
    assert user_path("~/runs") == "/home/müller/runs"
    assert user_path("~") == "/home/müller"
    for text in (None, "", "runs/~", "./~", "a~b"):
        assert user_path(text) == text


@pytest.mark.reported(
    "names", "", "`run_dir=~nobody/run`, and there is no such user", "refused; no folder `~nobody` is made"
)
def test_a_tilde_of_nobody_is_refused():
    with pytest.raises(
        ValueError, match=r"~nobody-here/run: there is no home folder ~nobody-here\. Write .*\./ before"
    ):
        user_path("~nobody-here/run")


def refuse_locks(monkeypatch, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.reported(
    "machines",
    "huggingface/datasets#2618, spack/spack#12501, SModelS/smodels#37",
    "a file system without locks (errno 37, 38, 95)",
    "a file stands for the lock; a warning says so once, and how to get rid of it",
)
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_file_keeps_others_out(number, tmp_path, monkeypatch):
    refuse_locks(monkeypatch, number)
    for _ in range(2):
        with pytest.warns(UserWarning, match="this file system has no locks.*as long as it exists; delete it if"):
            lock = hold_lock(tmp_path / "lock")
        with pytest.raises(filelock.Timeout):
            hold_lock(tmp_path / "lock")
        lock.release()


@pytest.mark.reported(
    "machines", "", "a disk error while locking (errno 5)", "is raised as it is, not taken for missing locks"
)
def test_another_error_of_locking_is_none_of_missing_locks(tmp_path, monkeypatch):
    refuse_locks(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        hold_lock(tmp_path / "lock")


@pytest.mark.reported(
    "machines", "", "a mount that cannot sync a folder (CIFS, FUSE: errno 22)", "files are synced, folders let be"
)
def test_a_folder_that_cannot_be_synced_is_no_error_and_a_file_is(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", fsync)
    sync([tmp_path])
    with pytest.raises(OSError, match="Invalid argument"):
        sync([tmp_path / "file"])
