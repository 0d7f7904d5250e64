"""CPU threads: as many as there are free cores.

The threads of PyTorch share each operation and wait at its end for the last of them. On a core that another program
holds too, the last one is late by a time slice of the scheduler, at every operation: two threads on two cores of which
one is taken are slower than one.
"""

from __future__ import annotations

import contextlib
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
        self._process = psutil.Process()
        self._looked, self._before = time.monotonic(), self._taken()

    def seconds(self) -> float:
        """Since the last look."""
        return time.monotonic() - self._looked

    def cores(self) -> float:
        """Mean number since the last call; 0 where the system does not tell."""
        wall, before = self.seconds(), self._before
        self._looked, self._before = time.monotonic(), self._taken()
        return 0.0 if before is None or self._before is None else max(0.0, self._before - before) / wall

    def _taken(self) -> float | None:
        """Seconds that other programs ran on these cores since the machine began; workers of this one are its own."""
        try:
            cores = psutil.cpu_times(percpu=True)
            if hasattr(self._process, "cpu_affinity"):  # macOS lets no process choose
                cores = [cores[number] for number in self._process.cpu_affinity() if number < len(cores)]
            family = (self._process, *self._process.children(recursive=True))
        except (psutil.Error, OSError):
            return None
        ours = 0.0
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):  # a worker that has just ended: its time is its parent's
                ours += sum(process.cpu_times()[:4])  # its own and of its children that ended, user and system
        return sum(s for core in cores for kind, s in core._asdict().items() if kind not in NOT_TAKEN) - ours


class Threads:
    """The threads of a run: as many as asked for, else as many as there are free cores, at most those it began with.

    In a checkpoint it is a number that is not restored but compared: another one changes the last bits of sums.
    """

    def __init__(self, asked: int | None) -> None:
        self.before: int | None = None
        """Threads that the checkpoint was made with; None: there is none."""
        self.most = torch.get_num_threads()
        self.fixed = asked is not None or self.most == 1
        self._others, self._calm, self._said = OtherPrograms(), 0, False

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
        if self.fixed or self._others.seconds() < after:
            return None
        taken, now = self._others.cores(), torch.get_num_threads()
        wanted = min(self.most, max(1, round(self.cores - taken)))
        self._calm = self._calm + 1 if wanted > now else 0
        if wanted < now or self._calm >= CALM:
            self._calm = 0
            torch.set_num_threads(wanted)
        if wanted >= now or self._said:
            return None
        self._said = True
        return (
            f"Other programs hold {taken:.1f} of {self.cores} cores: {wanted} thread{'s' * (wanted > 1)} instead of "
            f"{now} while they do (train.threads={self.most} keeps {self.most})."
        )

    @property
    def cores(self) -> int:
        """That this process may use."""
        process = psutil.Process()
        return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


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
