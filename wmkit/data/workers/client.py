"""The owner's end of a worker process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from wmkit.data.episode import Episode
from wmkit.data.source import GeneratedEpisodes
from wmkit.data.workers import server as worker
from wmkit.data.worlds import World


class WorkerError(RuntimeError):
    """A worker process died, or its world raised; says which worker and which episode."""


class RemoteEpisodes:
    """Reads the episodes of `source` from worker process `number`; one request at a time."""

    def __init__(self, source: GeneratedEpisodes, number: int) -> None:
        self._source, self._number = source, number
        world = _told(source.world)
        self._socket, theirs = socket.socketpair()
        one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                # -P: the folder of worker.py must not hide top-level modules
                [sys.executable, "-P", str(Path(worker.__file__)), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **one_thread},
            )
        arguments = {"seed": source.seed, "split": source.split, "length": source.length}
        worker.send(self._socket, {"path": sys.path, "world": world, "arguments": arguments})

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def episode(self, index: int) -> Episode:
        """Episode `index`; raises `WorkerError` when the worker is gone or its world raised."""
        try:
            worker.send(self._socket, {"index": index})
            message, arrays = worker.receive(self._socket)
        except (EOFError, OSError) as error:
            raise WorkerError(f"{self._place(index)} ended unexpectedly ({self._how_it_ended()})") from error
        if "error" in message:
            raise WorkerError(f"{self._place(index)} raised:\n{message['error']}")
        return Episode(*({key: arrays[key] for key in message[group]} for group in ("steps", "constants")))

    def close(self) -> None:
        """End the worker at once."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # the worker's end is gone already
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that may be reading from it
        self._socket.close()

    def _place(self, index: int) -> str:
        source = self._source
        return (
            f"Worker {self._number} (pid {self.pid}), generating episode {index} of world {source.world.name!r} "
            f"(seed {source.seed}, split {source.split!r}),"
        )

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            return "connection lost"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _told(world: World) -> dict[str, Any]:
    """The arguments with which `build_world` makes the same world elsewhere; raises `ValueError` where none do."""
    kind, instance = type(world), cast(Any, world)
    told = {"module": kind.__module__, "family": kind.__qualname__, "settings": dataclasses.asdict(instance)}
    try:
        same = kind.__module__ != "__main__" and worker.build_world(**json.loads(json.dumps(told))) == world
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{_unknown(world)}: {error}") from error
    if not same:
        raise ValueError(_unknown(world))
    return told


def _unknown(world: World) -> str:
    return (
        f"World {world!r}: a worker process cannot make the same from its class and fields. Use workers=0, or define "
        "its dataclass at the top of a module that can be imported, with fields that JSON can hold"
    )
