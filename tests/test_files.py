from wmkit.files import replace_json


def test_a_replaced_file_is_another_file_so_no_reader_sees_half_of_one(tmp_path):
    path = tmp_path / "index.json"
    replace_json(path, {"episodes": 1})
    with path.open() as reader:
        replace_json(path, {"episodes": 2})
        assert reader.read() == '{"episodes": 1}'
    assert path.read_text() == '{"episodes": 2}'
    assert list(tmp_path.iterdir()) == [path]
