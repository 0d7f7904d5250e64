"""Loads episodes ahead of need, in worker processes (generated ones) or threads (stored ones)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeAlias, cast

from wmkit.data import worker
from wmkit.data.episode import Episode, check_episode
from wmkit.data.sources import EpisodeSource, GeneratedEpisodes
from wmkit.data.worlds import World

Task: TypeAlias = "tuple[int, Future[Episode]]"


class Reader(Protocol):
    """What one thread loads from: a source, or the worker process that stands in for it."""

    def episode(self, index: int) -> Episode:
        """Episode `index`."""


class Loader:
    """Episodes of `source`: announced (`need`), loaded meanwhile, used (`get`) and let go (`release`).

    What comes back depends on the index alone, never on `workers`. With `workers=0` an episode is loaded in `get`.
    Every episode passes `check_episode`. Any failure is raised by the next `get`.
    """

    def __init__(self, source: EpisodeSource, workers: int) -> None:
        if workers < 0:
            raise ValueError(f"workers: expected 0 or more, got {workers}")
        self._source = source
        self._uses: Counter[int] = Counter()
        self._futures: dict[int, Future[Episode]] = {}
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        remote: list[WorkerClient] = []
        if isinstance(source, GeneratedEpisodes) and hasattr(socket, "send_fds"):  # Windows lacks it: threads there
            remote = [WorkerClient(source, n) for n in range(workers)]
        readers: list[Reader] = [*remote] or [source] * workers
        self._threads = [
            # daemon: a thread waiting for its worker must not keep the interpreter alive
            threading.Thread(target=_run, args=(self._tasks, reader, source), daemon=True)
            for reader in readers
        ]
        self._finalizer = weakref.finalize(self, _stop, self._tasks, remote, self._threads)
        for thread in self._threads:
            thread.start()

    def need(self, index: int) -> None:
        """Announce one use of episode `index`."""
        self._uses[index] += 1
        if index not in self._futures:
            self._futures[index] = Future()
            if self._threads:
                self._tasks.put((index, self._futures[index]))

    def get(self, index: int) -> Episode:
        """Episode `index`, announced before; waits for it."""
        if not self._finalizer.alive:
            raise ValueError("This loader is closed; make a new one to read on.")
        for future in self._futures.values():
            if future.done() and (error := future.exception()):
                raise error
        if not self._threads and not self._futures[index].done():
            _load(self._source, self._source, index, self._futures[index])
        return self._futures[index].result()

    def release(self, index: int) -> None:
        """Take back one `need`; after the last one the episode is dropped."""
        self._uses[index] -= 1
        if not self._uses[index]:
            del self._uses[index], self._futures[index]

    def clear(self) -> None:
        """Take back every `need`."""
        for future in self._futures.values():
            future.cancel()
        self._uses.clear()
        self._futures.clear()

    def close(self) -> None:
        """End the workers; also happens when the loader is garbage collected and at exit."""
        self._finalizer()


def read_in_order(source: EpisodeSource, indices: range, workers: int) -> Iterator[Episode]:
    """The episodes of `indices` one by one, a few loaded ahead by the workers."""
    ahead = 2 * workers + 1
    loader = Loader(source, workers)
    try:
        for index in indices[:ahead]:
            loader.need(index)
        for place, index in enumerate(indices):
            yield loader.get(index)
            loader.release(index)
            for later in indices[place + ahead : place + ahead + 1]:
                loader.need(later)
    finally:
        loader.close()


def _run(tasks: SimpleQueue[Task | None], reader: Reader, source: EpisodeSource) -> None:
    while (task := tasks.get()) is not None:
        _load(reader, source, *task)
        del task  # or a dropped episode would live until the next one arrives


def _load(reader: Reader, source: EpisodeSource, index: int, future: Future[Episode]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        episode = reader.episode(index)
        check_episode(episode, f"Episode {index}", source.image_shape, source.action_dim)
        future.set_result(episode)
    except Exception as error:
        future.set_exception(error)


def _stop(tasks: SimpleQueue[Task | None], remote: list[WorkerClient], threads: list[threading.Thread]) -> None:
    try:
        while task := tasks.get_nowait():
            task[1].cancel()
    except Empty:
        pass
    for _ in threads:
        tasks.put(None)
    for reader in remote:
        reader.close()


class WorkerError(RuntimeError):
    """A worker process died, or its world raised; says which worker and which episode."""


class WorkerClient:
    """Reads the episodes of `source` from worker process `number`; one request at a time."""

    def __init__(self, source: GeneratedEpisodes, number: int) -> None:
        self._source, self._number = source, number
        world = _class_and_fields(source.world)
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


def _class_and_fields(world: World) -> dict[str, Any]:
    """What `worker.build_world` makes the same world from elsewhere; raises `ValueError` where it does not."""
    kind, instance = type(world), cast(Any, world)
    told = {"module": kind.__module__, "family": kind.__qualname__, "settings": dataclasses.asdict(instance)}
    refusal = (
        f"World {world!r}: a worker process cannot make the same from its class and fields. Use workers=0, or define "
        "its dataclass at the top of a module that can be imported, with fields that JSON can hold"
    )
    try:
        same = kind.__module__ != "__main__" and worker.build_world(**json.loads(json.dumps(told))) == world
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{refusal}: {error}") from error
    if not same:
        raise ValueError(refusal)
    return told
