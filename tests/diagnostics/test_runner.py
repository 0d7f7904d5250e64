"""A diagnosis goes on where it stopped, and refuses what it cannot go on from."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import wmkit
from wmkit.backbones import GRU, GRUConfig
from wmkit.diagnostics import Card, Task, costs, runner
from wmkit.files import hold_lock

SMALL = GRUConfig(input_dim=8, hidden=8)


class Killed(Exception):
    """What ends a diagnosis in the middle."""


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every training that is begun: task and seed. One of seed 2 is killed, once."""
    begun: list[tuple[str, int]] = []
    train = runner.train

    def watched(task: Task, make: Any, seed: int, *rest: Any) -> Any:
        begun.append((task.name, seed))
        if begun.count(("echo", 2)) == 1 and seed == 2:
            raise Killed
        return train(task, make, seed, *rest)

    monkeypatch.setattr(runner, "train", watched)
    monkeypatch.setattr(runner, "ROWS", 8)
    monkeypatch.setattr(runner, "TRIES", 1)
    return begun


def test_a_diagnosis_that_was_killed_goes_on(
    echo: type[Task], trainings: list[tuple[str, int]], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        wmkit.diagnose(SMALL, tasks=["echo"], seeds=3, folder=tmp_path / "own")
    assert trainings == [("echo", 0), ("echo", 1), ("echo", 2)]
    card = wmkit.diagnose(SMALL, tasks=["echo"], seeds=3, folder=str(tmp_path / "own"))
    assert trainings[3:] == [("echo", 2)]
    wmkit.diagnose(SMALL, tasks=["echo"], seeds=3, folder=tmp_path / "own")
    assert len(trainings) == 4  # nothing is trained twice
    whole = wmkit.diagnose(SMALL, tasks=["echo"], seeds=3)
    assert whole.results == card.results
    assert Card.from_json(json.loads((tmp_path / "own" / "card.json").read_text())) == card
    (result,) = card.results
    assert (result.seeds, result.steps, set(result.chance.values())) == ([0, 1, 2], [12, 12, 12], {0.25})
    assert result.sequences == {1: 8, 2: 8, 4: 8}


def test_more_seeds_and_tasks_are_added_to_what_is_there(
    echo: type[Task], trainings: list[tuple[str, int]], tmp_path: Path
) -> None:
    wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path)
    wmkit.diagnose(SMALL, tasks=["echo"], seeds=2, folder=tmp_path)
    assert trainings == [("echo", 0), ("echo", 1)]


def test_quick_takes_two_fifths_of_the_steps_and_one_seed(echo: type[Task], trainings: list[tuple[str, int]]) -> None:
    card = wmkit.diagnose(SMALL, tasks=["echo"], quick=True)
    assert (card.effort, card.results[0].steps) == (0.4, [5])


def test_records_of_other_settings_are_not_mixed(
    echo: type[Task], trainings: list[tuple[str, int]], tmp_path: Path
) -> None:
    wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path)
    for other, words in (
        ({"quick": True}, r"another effort: 1\.0 there, 0\.4 now"),
        ({"backbone": GRUConfig(input_dim=8, hidden=9)}, "another numbers"),
        ({"backbone": "plain_gru", "width": 8}, "another origin"),
    ):
        with pytest.raises(ValueError, match=f"{tmp_path} holds records of {words}.*name another folder"):
            wmkit.diagnose(**{"backbone": SMALL, "tasks": ["echo"], "seeds": 1, "folder": tmp_path} | other)
    (tmp_path / "echo-0.json").write_text("half of a rec")
    with pytest.raises(ValueError, match=r"echo-0\.json: expected the record of a training"):
        wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path)


def test_records_of_other_code_are_not_mixed(
    echo: type[Task], trainings: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path)
    source = inspect.getsource
    for changed, words in ((echo, "the code of task echo has changed since"), (GRU, "holds records of another source")):
        monkeypatch.setattr(
            runner.inspect, "getsource", lambda cls, changed=changed: source(cls) + "#" * (cls is changed)
        )
        with pytest.raises(ValueError, match=words):
            wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path)


def test_costs_of_another_machine_are_measured_again(
    echo: type[Task], trainings: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path)
    assert wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path).costs == first.costs
    for module in (runner, costs):
        monkeypatch.setattr(module, "processor", lambda: "another one")
    assert wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path).machine == "another one"


def test_the_random_numbers_of_the_caller_go_on(echo: type[Task], trainings: list[tuple[str, int]]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    wmkit.diagnose(SMALL, tasks=["echo"], seeds=1)
    assert torch.equal(torch.rand(3), expected)


def test_two_processes_do_not_write_to_one_folder(echo: type[Task], tmp_path: Path) -> None:
    lock = hold_lock(tmp_path / ".lock")
    with pytest.raises(ValueError, match="another process is writing to it"):
        wmkit.diagnose(SMALL, tasks=["echo"], seeds=1, folder=tmp_path)
    lock.release()


def test_no_seeds_and_unknown_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="seeds: expected at least 1, got 0"):
        wmkit.diagnose(SMALL, seeds=0)
    with pytest.raises(ValueError, match="Unknown task 'parities'"):
        wmkit.diagnose(SMALL, tasks=["parities"])
