"""CPU threads: as many as there are free cores.

The threads of PyTorch share each operation and wait at its end for the last of them. On a core that another program
holds too, the last one is late by a time slice of the scheduler, at every operation: two threads on two cores of which
one is taken are slower than one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import psutil
import torch

LOOK, FIRST_LOOK = 2.0, 0.2
"""Seconds between looks at the machine; least seconds before the first."""
CALM = 5
"""Looks in a row that find more free cores before a thread is added."""
NOT_TAKEN = ("idle", "iowait", "steal", "guest", "guest_nice")
"""Times of a core in which no program of this machine ran on it, or that are in another one already."""


class OtherPrograms:
    """How many of the cores that this process may use other programs hold."""

    def __init__(self) -> None:
        self._looked, self._before = time.monotonic(), self._times()

    def seconds(self) -> float:
        """Since the last look."""
        return time.monotonic() - self._looked

    def cores(self) -> float:
        """Mean number since the last call; 0 where the system does not tell."""
        wall, before = self.seconds(), self._before
        self._looked, self._before = time.monotonic(), self._times()
        if before is None or self._before is None:
            return 0.0
        taken, ours = (now - then for now, then in zip(self._before, before, strict=True))
        return max(0.0, taken - ours) / wall if ours >= 0 else 0.0  # less: workers ended whose time nobody inherits

    def _times(self) -> tuple[float, float] | None:
        """Seconds since they began that any program ran on these cores, and that this one and its workers did."""
        ours = 0.0
        try:
            cores, process = psutil.cpu_times(percpu=True), psutil.Process()
            if hasattr(process, "cpu_affinity") and max(chosen := process.cpu_affinity()) < len(cores):
                cores = [cores[number] for number in chosen]  # else they are numbered in another way: all of them
            for member in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                    ours += sum(member.cpu_times()[:4])  # and its children that ended, where the system counts those
        except (psutil.Error, OSError):
            return None
        return sum(s for core in cores for kind, s in core._asdict().items() if kind not in NOT_TAKEN), ours


class Threads:
    """The threads of a run: as many as asked for, else as many as there are free cores, at most those it began with.

    In a checkpoint it is a number that is not restored but compared: another one changes the last bits of sums.
    """

    def __init__(self, asked: int | None) -> None:
        self.before: int | None = None
        """Threads that the checkpoint was made with; None: there is none."""
        self.most = torch.get_num_threads()
        self.fixed = asked is not None or self.most == 1
        self._others = None if self.fixed else OtherPrograms()
        self._calm, self._said = 0, False

    def state_dict(self) -> int:
        return torch.get_num_threads()

    def load_state_dict(self, state: int) -> None:
        self.before = state

    def notes(self) -> list[str]:
        """A sentence where the number has changed."""
        now = torch.get_num_threads()
        return [] if self.before in (None, now) else [f"{now} threads instead of {self.before}: last bits will differ."]

    def fit(self, after: float = LOOK) -> str | None:
        """Look at the machine, unless the last look is less than `after` seconds old, and set PyTorch's threads.

        Fewer at once, more after a calm while. Returns a sentence the first time that it takes some away.
        """
        if self._others is None or self._others.seconds() < after:
            return None
        taken, now, cores = self._others.cores(), torch.get_num_threads(), usable_cores()
        wanted = min(self.most, max(1, round(cores - taken)))
        self._calm = self._calm + 1 if wanted > now else 0
        if wanted < now or self._calm >= CALM:
            self._calm = 0
            torch.set_num_threads(wanted)
        if wanted >= now or self._said:
            return None
        self._said = True
        return (
            f"Other programs hold {taken:.1f} of {cores} cores: {wanted} thread{'s' * (wanted > 1)} instead of "
            f"{now} while they do (train.threads={self.most} keeps {self.most})."
        )


def usable_cores() -> int:
    """Of the machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def fitting_threads() -> Iterator[None]:
    """As many threads inside as there are free cores when it begins; what was set before is restored."""
    before, threads = torch.get_num_threads(), Threads(None)
    if not threads.fixed:
        time.sleep(FIRST_LOOK)
        threads.fit(FIRST_LOOK)
    try:
        yield
    finally:
        torch.set_num_threads(before)
