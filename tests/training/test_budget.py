"""A budget of minutes: the clock, here one that gives every step six seconds, ends the run and moves the rate."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wmkit.config import RunConfig, TrainConfig
from wmkit.training.log import read_lines
from wmkit.training.loop import Summary, Trainer
from wmkit.training.optimiser import Budget, schedule_factor
from wmkit.training.runtime import StopSignal

MakeConfig = Callable[..., RunConfig]
TrainIn = Callable[[RunConfig, Path], Summary]
SECONDS = 6.0


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def spend(self: Trainer, seconds: float) -> None:
        self.budget.seconds += SECONDS

    monkeypatch.setattr(Trainer, "_spend", spend)


def test_steps_are_the_budget_unless_minutes_are_given() -> None:
    by_steps, by_clock = Budget(TrainConfig(steps=10), 0), Budget(TrainConfig(steps=10, minutes=0.5), 0)
    by_clock.seconds = 15.0
    assert (by_steps.share(5), by_clock.share(5)) == (0.5, 0.5)
    by_steps.seconds = by_clock.seconds = 40.0
    assert (by_steps.spent(9), by_steps.spent(10), by_clock.spent(1)) == (False, True, True)


def test_one_thread_of_a_cpu_is_charged_for_its_own_work_alone() -> None:
    alone, shared = TrainConfig(device="cpu", threads=1), (TrainConfig(device="cpu"), TrainConfig(threads=1))
    assert Budget(alone, workers=0).clock == time.process_time
    assert [Budget(config, workers=0).clock for config in shared] == [time.perf_counter] * 2
    assert Budget(alone, workers=1).clock == time.perf_counter  # work that others do, and waiting for it, count


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan, math.inf])
def test_minutes_are_a_positive_number(minutes: float) -> None:
    with pytest.raises(ValueError, match=r"train\.minutes: expected a positive number"):
        TrainConfig(minutes=minutes)


def test_the_cosine_follows_the_clock() -> None:
    config = TrainConfig(minutes=1.0, warmup=2)
    assert schedule_factor(1, config, share=0.1) == 1.0
    assert schedule_factor(2, config, share=0.5) == pytest.approx(0.5)
    assert schedule_factor(9999, config, share=1.0) == pytest.approx(0.0)


@pytest.mark.usefixtures("slow_clock")
def test_the_run_ends_with_its_minutes_and_is_validated_there(
    make_config: MakeConfig, train_in: TrainIn, tmp_path: Path
) -> None:
    summary = train_in(make_config(train={"minutes": 1.0, "steps": 3}), tmp_path / "run")
    assert (summary.step, summary.seconds, summary.stopped_by) == (10, 60.0, None)
    timing = [line for line in read_lines(tmp_path / "run" / "timing.jsonl") if line["split"] == "valid"]
    assert [(line["step"], line["values"]["training_seconds"]) for line in timing] == [(4, 24.0), (8, 48.0), (10, 60.0)]
    rates = [
        line["values"]["lr"] for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["split"] == "train"
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.2 * rates[0]


@pytest.mark.usefixtures("slow_clock")
def test_what_was_spent_before_a_stop_counts_after_it(
    make_config: MakeConfig, train_in: TrainIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(train={"minutes": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stopped", lambda self, stop: self.step == 4 and _stop(stop))
        assert train_in(config, tmp_path / "run").seconds == 24.0
    assert train_in(config, tmp_path / "run").step == 10


def _stop(stop: StopSignal) -> bool:
    stop.number = 15
    return True
