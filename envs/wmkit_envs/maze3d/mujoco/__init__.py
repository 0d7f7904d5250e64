"""A scene in MuJoCo: Memory Maze's own physics and pictures.

Importing this loads Triton's library (not the package), if there is one: Mesa, which MuJoCo may load, offers the
symbols of its LLVM to whatever is loaded later, and Triton's LLVM would take them for its own and crash. Then it
imports MuJoCo, which would load what `MUJOCO_GL` names: that is for `gl` to try, where something is to be drawn.
Raises `ValueError` where MuJoCo, dm_control or labmaze is not installed.
"""

import ctypes as _ctypes
import importlib as _importlib
import importlib.util as _util
import os as _os
from pathlib import Path as _Path

_maps, _triton = _Path("/proc/self/maps"), _util.find_spec("triton")
if _triton is not None and _triton.origin is not None and _maps.exists() and "libLLVM" not in _maps.read_text():
    for _library in _Path(_triton.origin).parent.glob("_C/libtriton.so"):
        _ctypes.CDLL(str(_library))

_asked = _os.environ.pop("MUJOCO_GL", None)
try:
    for _name in ("mujoco", "dm_control", "labmaze"):
        _importlib.import_module(_name)
except ImportError as _error:
    raise ValueError(
        f"MuJoCo's physics and pictures need dm_control and mujoco: {_error}. Install them under Python 3.12 or older "
        "(pip install 'wmkit[mujoco]'), or take the ray caster's worlds: ray_maze in place of memory_maze, "
        "renderer=raycast physics=ball of the others"
    ) from _error
finally:
    if _asked is not None:
        _os.environ["MUJOCO_GL"] = _asked
