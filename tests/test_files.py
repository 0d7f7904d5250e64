import json
import os

import pytest

from wmkit.files import write_json, write_text


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
