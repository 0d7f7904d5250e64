"""Training times from what runs have logged."""

import json

import pytest

from wmkit.config import DataConfig, RunConfig
from wmkit.evaluation.levels.times import training_times


@pytest.fixture
def make_run(tmp_path):
    def make(name, speeds):
        folder = tmp_path / name
        folder.mkdir()
        config = RunConfig(backbone="gru", size="tiny", data=DataConfig(length=10, batch_size=5))
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        lines = [{"step": i, "split": "train", "values": {"frames_per_second": v}} for i, v in enumerate(speeds)]
        lines.append({"step": 9, "split": "valid", "values": {"training_seconds": 3.0}})
        (folder / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return make


def test_times_are_medians_of_the_log_and_relative_to_one_run(make_run) -> None:
    rssm, slow = training_times({"rssm": make_run("a", [100, 200, 200, 200, 1]), "slow": make_run("b", [50])})
    assert rssm.frames_per_second == 200
    assert (rssm.low, rssm.high) == (100, 200)
    assert rssm.milliseconds == 250
    assert slow.relative_to(rssm) == 4.0
    assert slow.to_json(rssm)["relative"] == 4.0
    assert (slow.low, slow.high) == (50, 50)


def test_a_run_without_a_log_line_is_refused(make_run) -> None:
    with pytest.raises(ValueError, match="has no timing yet"):
        training_times({"new": make_run("c", [])})
