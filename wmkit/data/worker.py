"""A worker process: generates episodes of one world and writes them to a socket.

It is started as a plain script, outside the package, so that it never imports torch: a worker costs what its world
costs. It ends when the other end of the socket closes, however that came about, so no worker outlives its owner.

A message is 8 bytes of length, that many bytes of JSON, and the raw bytes of the arrays that the JSON lists.
"""

import importlib
import json
import signal
import socket
import sys
import traceback
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def send(connection: socket.socket, message: dict[str, Any], arrays: dict[str, Array] | None = None) -> None:
    """Write one message; arrays must hold bools, integers or floats."""
    arrays = arrays or {}
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{key}: expected a bool, integer or float array, got {array.dtype}")
    table = [[key, array.dtype.str, array.shape] for key, array in arrays.items()]
    header = json.dumps({**message, "arrays": table}).encode()
    connection.sendall(len(header).to_bytes(8, "little") + header)
    for array in arrays.values():
        connection.sendall(_bytes_of(np.ascontiguousarray(array)))


def receive(connection: socket.socket) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read one message; raises `EOFError` when the other end has closed."""
    size = int.from_bytes(_read(connection, np.empty(8, np.uint8)).tobytes(), "little")
    message = json.loads(_read(connection, np.empty(size, np.uint8)).tobytes())
    table = message.pop("arrays")
    return message, {key: _read(connection, np.empty(shape, dtype)) for key, dtype, shape in table}


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _read(connection: socket.socket, into: Array) -> Array:
    rest = _bytes_of(into)
    while len(rest):
        count = connection.recv_into(rest)
        if count == 0:
            raise EOFError("the other end closed the connection")
        rest = rest[count:]
    return into


def serve(connection: socket.socket) -> None:
    """Answer requests for episodes until the other end closes; what a world raises goes back as text."""
    setup, _ = receive(connection)
    sys.path[:] = setup["path"]
    module, _, attribute = setup["world"].partition(":")
    while True:
        request, _ = receive(connection)
        try:
            world = getattr(importlib.import_module(module), attribute)
            send(connection, {}, world.generate(**setup["arguments"], index=request["index"]))
        except OSError:
            raise
        except Exception:
            send(connection, {"error": traceback.format_exc()})


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
