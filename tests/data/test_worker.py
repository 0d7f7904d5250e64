import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from wmkit.data import GeneratedEpisodes, RandomWindows, WholeEpisodes, WorkerError, loader, worker
from wmkit.data.loader import WorkerClient


def gone(pid):
    """Whether the process ends soon; a zombie has ended, and stays where no parent asks how, as in some containers."""
    for _ in range(400):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def pids(sampler):
    remotes = sampler._loader._finalizer.peek()[2][1]
    return [remote.pid for remote in remotes]


def test_a_worker_gives_the_same_episode_as_the_world_and_never_imports_torch():
    source = GeneratedEpisodes("toy", seed=3, split="valid", length=11)
    remote = WorkerClient(source, 0)
    try:
        got, expected = remote.episode(4), source.episode(4)
        maps = Path(f"/proc/{remote.pid}/maps")
        libraries = maps.read_text() if maps.exists() else ""
    finally:
        remote.close()
    assert (got.steps.keys(), got.constants.keys()) == (expected.steps.keys(), expected.constants.keys())
    for key, value in expected.items():
        assert got[key].dtype == value.dtype
        np.testing.assert_array_equal(got[key], value)
    assert "libtorch" not in libraries


@pytest.mark.parametrize("workers", [1, 2])
def test_the_order_does_not_depend_on_the_number_of_workers(workers):
    source = GeneratedEpisodes("toy", seed=1)
    with RandomWindows(source, 3, 10, seed=2) as alone, RandomWindows(source, 3, 10, seed=2, workers=workers) as helped:
        for _ in range(7):
            a, b = next(alone), next(helped)
            assert (a.image == b.image).all()
            assert (a.action == b.action).all()
            assert (a.reward == b.reward).all()
    assert helped.wait_seconds > 0


def test_a_worlds_exception_names_the_worker_the_episode_and_the_cause():
    with WholeEpisodes(GeneratedEpisodes("toy_raises", seed=0), 4, workers=2) as sampler:
        processes = pids(sampler)
        with pytest.raises(WorkerError, match=r"(?s)Worker \d.*episode 5 of world 'toy_12_raises'.*no such maze"):
            next(sampler), next(sampler)
    assert all(gone(pid) for pid in processes)


def test_a_worker_that_dies_is_reported_with_its_episode():
    with WholeEpisodes(GeneratedEpisodes("toy_dies", seed=0), 6, workers=2) as sampler:
        with pytest.raises(
            WorkerError, match=r"Worker \d .pid \d+., .*episode 5 of world 'toy_12_dies'.*killed by SIGKILL"
        ):
            next(sampler)


def test_a_worker_killed_from_outside_is_reported():
    with WholeEpisodes(GeneratedEpisodes("toy", seed=0), 2, workers=1) as sampler:
        next(sampler)
        os.kill(pids(sampler)[0], signal.SIGKILL)
        with pytest.raises(WorkerError, match="killed by SIGKILL"):
            [next(sampler) for _ in range(5)]


def test_a_dropped_sampler_takes_its_workers_with_it():
    sampler = WholeEpisodes(GeneratedEpisodes("toy", seed=0), 2, workers=2)
    next(sampler)
    processes = pids(sampler)
    del sampler
    gc.collect()
    assert all(gone(pid) for pid in processes)


def test_a_closed_sampler_says_so():
    sampler = WholeEpisodes(GeneratedEpisodes("toy", seed=0), 2, workers=1)
    sampler.close()
    with pytest.raises(ValueError, match="closed"):
        next(sampler)


def test_workers_end_when_their_owner_is_killed():
    code = (
        "import sys; sys.path[:] = " + repr(sys.path) + "\n"
        "import time\n"
        "from wmkit.data import GeneratedEpisodes\n"
        "from wmkit.data.loader import WorkerClient\n"
        "remote = WorkerClient(GeneratedEpisodes('toy', seed=0), 0)\n"
        "remote.episode(0)\n"
        "print(remote.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        worker = int(owner.stdout.readline())
        owner.kill()
    assert gone(worker)


def test_a_bad_episode_is_stopped_at_the_gate_with_its_place():
    with WholeEpisodes(GeneratedEpisodes("toy_nan", seed=0), 6) as sampler:
        with pytest.raises(ValueError, match=r"Episode 5: action at t = 7 is nan"):
            next(sampler)


def test_a_worker_answers_requests_until_the_other_end_closes():
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=_serve_until_closed, args=(theirs,))
    thread.start()
    arguments = {"seed": 0, "split": "train", "length": 3}
    world = {"module": "wmkit_toy_worlds", "family": "Toy", "settings": {"fault": "raises"}}
    with ours:
        worker.send(ours, {"path": sys.path, "world": world, "arguments": arguments})
        worker.send(ours, {"index": 5})
        message, arrays = worker.receive(ours)
        assert "KeyError: 'no such maze'" in message["error"]
        assert arrays == {}
        worker.send(ours, {"index": 0})
        message, arrays = worker.receive(ours)
        assert message["constants"] == ["context_length", "maze_layout", "as_long"]
        assert sorted([*message["steps"], *message["constants"]]) == sorted(arrays)
        assert arrays["image"].shape == (3, 8, 12, 3)
        assert not arrays["image"].flags.writeable
    thread.join()


def _serve_until_closed(connection):
    with connection, pytest.raises(EOFError):
        worker.serve(connection)


def test_a_connection_lost_within_an_episode_is_an_end_of_file():
    ours, theirs = socket.socketpair()
    with ours:
        header = json.dumps({"arrays": [["image", "|u1", [3], 0]]}).encode()
        theirs.sendall(len(header).to_bytes(8, "little") + header)
        theirs.close()
        with pytest.raises(EOFError):
            worker.receive(ours)


def test_arrays_of_objects_do_not_leave_a_worker():
    with pytest.raises(ValueError, match="names: expected a bool, integer or float array, got object"):
        worker.check_dtypes({"names": np.array([None])})


def test_negative_workers_are_refused():
    with pytest.raises(ValueError, match="workers"):
        WholeEpisodes(GeneratedEpisodes("toy", seed=0), 2, workers=-1)


@pytest.mark.reported(
    "machines", "", "macOS: no `memfd_create`, no /proc", "workers pass episodes in a file without a name"
)
@pytest.mark.reported(
    "machines", "", "a sandbox that refuses `memfd_create`", "workers pass episodes in a file without a name"
)
@pytest.mark.parametrize("how", ["away", "refused"])
def test_a_worker_does_without_files_in_memory(how, monkeypatch):
    def refuse(name):
        raise PermissionError(1, "Operation not permitted")

    if how == "away":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", refuse)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker.send(ours, {"n": 1}, {"x": np.arange(5), "empty": np.zeros((0, 3), np.uint8)})
        message, arrays = worker.receive(theirs)
    assert message == {"n": 1}
    assert arrays["x"].tolist() == [0, 1, 2, 3, 4]
    assert arrays["empty"].shape == (0, 3)


@pytest.mark.reported(
    "machines",
    "Eclectic-Sheep/sheeprl#277",
    "Windows: no descriptors through sockets",
    "threads make the episodes, the same ones",
)
def test_without_descriptors_through_sockets_threads_make_the_episodes(monkeypatch):
    source = GeneratedEpisodes("toy", seed=0)
    with WholeEpisodes(source, 3, workers=2) as processes:
        expected = next(processes)
    monkeypatch.delattr(socket, "send_fds")
    monkeypatch.setattr(loader, "WorkerClient", None)
    with WholeEpisodes(source, 3, workers=2) as threads:
        found = next(threads)
    assert (found.image == expected.image).all()
    assert (found.action == expected.action).all()


@pytest.mark.reported("machines", "", "`TMPDIR` names a folder that is not there", "workers and commands go on")
def test_a_worker_does_without_tmpdir(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with WholeEpisodes(GeneratedEpisodes("toy", seed=0), 2, workers=1) as sampler:
        assert next(sampler).shape[0] == 2
