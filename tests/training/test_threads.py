"""Threads of a run: as many as there are free cores."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from wmkit.training import threads as module
from wmkit.training.threads import CALM, OtherPrograms, Threads, fitting_threads

Core = namedtuple("Core", "user system idle iowait steal")
Mine = namedtuple("Mine", "user system children_user children_system iowait")


class Machine:
    """Two cores, and what has run on them so far, in seconds; it stands for psutil and the clock."""

    Error, NoSuchProcess = psutil.Error, psutil.NoSuchProcess

    def __init__(self) -> None:
        self.now, self.others, self.own, self.worker = 100.0, 0.0, 0.0, 0.0
        self.silent, self.ended = "", False

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def cpu_times(self, percpu: bool) -> list[Core]:
        if self.silent == "cores":
            raise PermissionError("/proc/stat")
        taken = self.others + self.own + self.worker
        return [Core(taken / 2, taken / 2, 7.0, 3.0, 5.0), Core(0, 0, 7.0, 3.0, 5.0), Core(900.0, 0, 0, 0, 0)]

    def Process(self) -> Any:
        def times_of_worker() -> Mine:
            if self.silent == "worker":
                raise psutil.AccessDenied(1)
            if self.ended:
                raise psutil.NoSuchProcess(1)
            return Mine(self.worker, 0, 0, 0, 0)

        return SimpleNamespace(
            cpu_affinity=lambda: [0, 1],
            cpu_times=lambda: Mine(self.own, 0, self.worker if self.ended else 0, 0, 44.0),
            children=lambda recursive: [SimpleNamespace(cpu_times=times_of_worker)],
        )

    def passes(self, seconds: float, others: float, own: float = 0.0, worker: float = 0.0) -> None:
        """Time passes in which so many cores are held."""
        self.now += seconds
        self.others, self.own = self.others + others * seconds, self.own + own * seconds
        self.worker += worker * seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine, before = Machine(), torch.get_num_threads()
    monkeypatch.setattr(module, "psutil", machine)
    monkeypatch.setattr(module, "time", machine)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    torch.set_num_threads(2)
    yield machine
    torch.set_num_threads(before)


def test_other_programs_hold_what_neither_this_process_nor_its_workers_ran(machine: Machine) -> None:
    others = OtherPrograms()
    machine.passes(2.0, others=0.75, own=1.0, worker=0.25)
    assert others.cores() == pytest.approx(0.75)
    machine.passes(4.0, others=0.0, own=2.0)
    assert others.cores() == pytest.approx(0.0)
    machine.ended = True  # then its time is its parent's
    machine.passes(1.0, others=0.5)
    assert others.cores() == pytest.approx(0.5)
    machine.worker, machine.others = 0.0, machine.others + machine.worker  # or nobody's, where systems do not count it
    machine.passes(1.0, others=0.5)
    assert others.cores() == 0


@pytest.mark.reported(
    "machines", "", "a system that hides what its cores do", "no other program is assumed: all threads, as before"
)
def test_where_the_system_does_not_tell_no_other_program_is_assumed(machine: Machine) -> None:
    others = OtherPrograms()
    for what in ("cores", "worker"):
        machine.silent = what
        machine.passes(2.0, others=2.0)
        assert others.cores() == 0
    machine.silent = ""
    machine.passes(2.0, others=2.0)
    assert others.cores() == 0  # since the last time that it told, nobody knows
    machine.passes(2.0, others=2.0)
    assert others.cores() == pytest.approx(2.0)


def test_the_real_machine_tells() -> None:
    others = OtherPrograms()
    while others.seconds() < 0.3:
        sum(range(1000))
    assert 0 <= others.cores() <= 1.2 * psutil.cpu_count()  # in ticks of 10 ms


@pytest.mark.reported(
    "friction",
    "",
    "other programs hold cores while a run trains that was not told how many threads to take",
    "it takes as many as there are free cores, says so once, and takes them back after ten quiet seconds",
)
@pytest.mark.parametrize(("held", "threads"), [(0.0, 2), (0.4, 2), (0.6, 1), (1.0, 1), (1.9, 1)])
def test_a_run_takes_as_many_threads_as_there_are_free_cores(machine: Machine, held: float, threads: int) -> None:
    run = Threads(None)
    machine.passes(2.0, others=held, own=2 - held)
    said = run.fit()
    assert torch.get_num_threads() == threads
    assert (said is None) == (threads == 2)
    if said is not None:
        assert said == (
            f"Other programs hold {held:.1f} of 2 cores: 1 thread instead of 2 while they do (train.threads=2 keeps 2)."
        )


def test_a_run_gets_its_threads_back_after_a_calm_while_and_speaks_once(machine: Machine) -> None:
    run, counts, said = Threads(None), [], []
    for held in (1.0, *[0.0] * (CALM - 1), 1.0, *[0.0] * CALM, 1.0):
        machine.passes(2.0, others=held)
        said.append(run.fit())
        counts.append(torch.get_num_threads())
    assert counts == [*[1] * (2 * CALM), 2, 1]
    assert [line is not None for line in said] == [True, *[False] * (2 * CALM + 1)]


def test_between_looks_nothing_is_asked_or_changed(machine: Machine) -> None:
    run = Threads(None)
    machine.passes(1.0, others=2.0)
    assert run.fit() is None
    assert torch.get_num_threads() == 2


def test_a_number_that_is_asked_for_stays(machine: Machine) -> None:
    run = Threads(2)
    machine.passes(9.0, others=2.0)
    assert run.fit() is None
    assert torch.get_num_threads() == 2


def test_what_looks_once_gives_the_threads_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "sleep", lambda seconds: machine.passes(seconds, others=1.5))
    with fitting_threads():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
