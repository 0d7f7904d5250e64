import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import wmkit
from wmkit.files import to_json, write_json, write_text


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
    shown |= {"training/help.py", "training/overrides.py", "training/run_folder.py"}
    package = Path(wmkit.__file__).parent
    using = {str(path.relative_to(package)) for path in package.rglob("*.py") if "json.dump" in path.read_text()}
    assert using <= shown
