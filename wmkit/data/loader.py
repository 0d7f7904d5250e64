"""Loads episodes ahead of need, in worker processes (generated ones) or threads (stored ones)."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias

from wmkit.data.episode import Episode, check_episode
from wmkit.data.source import EpisodeSource, GeneratedEpisodes
from wmkit.data.workers.client import RemoteEpisodes

Task: TypeAlias = "tuple[int, Future[Episode]]"


class Reader(Protocol):
    """What one thread loads from: a source, or the worker process that stands in for it."""

    def episode(self, index: int) -> Episode:
        """Episode `index`."""


class Loader:
    """Episodes of `source` that somebody announced (`need`) and will use (`get`) and let go (`release`).

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
        remote = [RemoteEpisodes(source, n) for n in range(workers)] if isinstance(source, GeneratedEpisodes) else []
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


def _stop(tasks: SimpleQueue[Task | None], remote: list[RemoteEpisodes], threads: list[threading.Thread]) -> None:
    try:
        while task := tasks.get_nowait():
            task[1].cancel()
    except Empty:
        pass
    for _ in threads:
        tasks.put(None)
    for reader in remote:
        reader.close()
