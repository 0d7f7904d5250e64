"""A worker process: generates episodes of one world and writes them to a socket. `wmkit.data.loader` has the other end.

It is started as a plain script, outside the package, so that it never imports torch: a worker costs what its world
costs. It ends when the other end of the socket closes, however that came about, so no worker outlives its owner.

A message is 8 bytes of length and that many bytes of JSON. The arrays that the JSON lists follow in an anonymous file
in memory, passed as a descriptor and mapped by the receiver: an episode is some 12 MB, and pushed through the socket's
small buffer it would take a hundred task switches, each of them slow when training keeps all cores busy.
"""

import importlib
import json
import math
import mmap
import os
import signal
import socket
import sys
import tempfile
import traceback
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ALIGNMENT = 64


def send(connection: socket.socket, message: dict[str, Any], arrays: dict[str, Array] | None = None) -> None:
    """Write one message; its arrays have passed `check_dtypes`."""
    arrays = arrays or {}
    table: list[tuple[str, str, tuple[int, ...], int]] = []
    end = 0
    for key, array in arrays.items():
        table.append((key, array.dtype.str, array.shape, end))
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    header = json.dumps({**message, "arrays": table}).encode()
    connection.sendall(len(header).to_bytes(8, "little") + header)
    if arrays:
        with _anonymous_file() as file:
            for (_, _, _, place), array in zip(table, arrays.values(), strict=True):
                file.seek(place)
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            file.truncate(end + ALIGNMENT)  # an empty file cannot be mapped
            socket.send_fds(connection, [b"-"], [file.fileno()])


def check_dtypes(arrays: dict[str, Array]) -> None:
    """Refuse, with a `ValueError`, arrays whose bytes mean nothing in another process."""
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{key}: expected a bool, integer or float array, got {array.dtype}")


def receive(connection: socket.socket) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read one message, its arrays read-only; raises `EOFError` when the other end has closed."""
    message = json.loads(_read(connection, int.from_bytes(_read(connection, 8), "little")))
    table = message.pop("arrays")
    if not table:
        return message, {}
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if not descriptors:
        raise EOFError("the other end closed the connection")
    with os.fdopen(descriptors[0], "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return message, {
        key: np.frombuffer(memory, dtype, math.prod(shape), place).reshape(shape) for key, dtype, shape, place in table
    }


def _anonymous_file() -> IO[bytes]:
    """A file without a name; in memory where the system knows such files and lets them be made."""
    try:
        return os.fdopen(os.memfd_create("episode"), "w+b", buffering=0)
    except (AttributeError, OSError):  # macOS; a sandbox that refuses
        return tempfile.TemporaryFile(buffering=0)


def _read(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError("the other end closed the connection")
        parts += part
    return bytes(parts)


def serve(connection: socket.socket) -> None:
    """Answer requests for episodes until the other end closes; what a world raises goes back as text."""
    setup, _ = receive(connection)
    sys.path[:] = setup["path"]
    while True:
        request, _ = receive(connection)
        try:
            steps, constants = generate(build_world(**setup["world"]), **setup["arguments"], index=request["index"])
            arrays = {**steps, **constants}
            check_dtypes(arrays)
        except Exception:
            send(connection, {"error": traceback.format_exc()})
        else:
            send(connection, {"steps": [*steps], "constants": [*constants]}, arrays)


def generate(world: Any, **arguments: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    """Steps and constants of the episode that `world` generates; raises `ValueError` when it makes something else."""
    episode = world.generate(**arguments)
    if not (hasattr(episode, "steps") and hasattr(episode, "constants")):
        raise ValueError(
            f"World {world.name!r}: generate returned a {type(episode).__name__}, expected an object with the dicts of "
            "arrays steps (leading axis T) and constants (no time axis), such as wmkit.data.Episode"
        )
    return dict(episode.steps), dict(episode.constants)


def build_world(module: str, family: str, settings: dict[str, Any]) -> Any:
    """The world of the class `family` in `module` with these settings, of which lists become tuples."""
    return getattr(importlib.import_module(module), family)(**{key: as_tuples(settings[key]) for key in settings})


def as_tuples(value: Any) -> Any:
    """Lists, as configs and JSON hold them, as tuples, within each other too; everything else as it is."""
    if isinstance(value, list):
        return tuple(map(as_tuples, value))
    return value


def main() -> None:
    """Serve the socket whose file descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner; its end of the socket then closes
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            serve(connection)
        except (EOFError, ConnectionError):
            return


if __name__ == "__main__":
    main()
