"""A scene in MuJoCo: Memory Maze's own physics and pictures.

Importing this loads Triton's library (not the package), if there is one: Mesa, which MuJoCo may load, offers the
symbols of its LLVM to whatever is loaded later, and Triton's LLVM would take them for its own and crash.
"""

import ctypes as _ctypes
import importlib.util as _util
from pathlib import Path as _Path

_maps, _triton = _Path("/proc/self/maps"), _util.find_spec("triton")
if _triton is not None and _triton.origin is not None and _maps.exists() and "libLLVM" not in _maps.read_text():
    for _library in _Path(_triton.origin).parent.glob("_C/libtriton.so"):
        _ctypes.CDLL(str(_library))
