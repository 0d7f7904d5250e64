"""OpenGL without a screen: EGL first, then OSMesa, tried by drawing; one context per process, current only in use.

MuJoCo's own contexts are chosen when `mujoco` is imported, so that nothing comes after a first choice that fails, and
complain when Python ends. The two here need the system's libraries alone. Environment variables: `MUJOCO_GL` (egl or
osmesa) decides instead of trying, and is set to what was found, for MuJoCo reads it; `MUJOCO_EGL_DEVICE_ID` picks one
of several GPUs, as everywhere with MuJoCo.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import os
import threading
from collections.abc import Iterator
from typing import Any

PACKAGES = "libegl1 libopengl0 libgl1-mesa-dri, or libosmesa6"
"""Of Debian and Ubuntu: EGL that draws in software, or OSMesa."""
_RENDERER = 0x1F01


class Egl:
    """EGL's context of the first device that has one, or of the device that `MUJOCO_EGL_DEVICE_ID` names.

    Raises `OSError` where there is none.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):  # NVIDIA's driver wants it to be there first
            ctypes.CDLL("libOpenGL.so.0", mode=ctypes.RTLD_GLOBAL)
        self._egl = ctypes.CDLL("libEGL.so.1", mode=ctypes.RTLD_GLOBAL)
        for name in ("eglGetProcAddress", "eglCreateContext", "eglGetCurrentContext"):
            getattr(self._egl, name).restype = ctypes.c_void_p
        self._display = self._open()
        wanted = (ctypes.c_int * 5)(0x3033, 0x0001, 0x3040, 0x0008, 0x3038)  # surface: pbuffer; renderable: OpenGL; end
        config, found = ctypes.c_void_p(), ctypes.c_int()
        self._egl.eglChooseConfig(self._display, wanted, ctypes.byref(config), 1, ctypes.byref(found))
        self._egl.eglBindAPI(0x30A2)  # OpenGL
        self._context = ctypes.c_void_p(self._egl.eglCreateContext(self._display, config, None, None))
        if not found.value or not self._context:
            raise OSError("EGL has no context for OpenGL")

    def _open(self) -> ctypes.c_void_p:
        """The display of a device."""
        query = self._function(b"eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        open_device = self._function(
            b"eglGetPlatformDisplayEXT", ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p
        )
        devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
        query(16, devices, ctypes.byref(count))
        asked = os.environ.get("MUJOCO_EGL_DEVICE_ID")
        if asked is not None and asked not in map(str, range(count.value)):
            raise ValueError(f"MUJOCO_EGL_DEVICE_ID: expected one of 0..{count.value - 1}, got {asked!r}")
        for index in range(count.value) if asked is None else [int(asked)]:
            display = ctypes.c_void_p(open_device(0x313F, devices[index], None))
            if display and self._egl.eglInitialize(display, None, None):
                return display
        raise OSError(f"none of {count.value} EGL devices opens")

    def _function(self, name: bytes, *signature: Any) -> Any:
        """What is found by name at run time only; result first."""
        address = self._egl.eglGetProcAddress(name)
        if not address:
            raise OSError(f"EGL lacks {name.decode()}")
        return ctypes.CFUNCTYPE(*signature)(address)

    def bind(self) -> None:
        """Make it current in this thread."""
        self._before = ctypes.c_void_p(self._egl.eglGetCurrentContext())
        if not self._egl.eglMakeCurrent(self._display, None, None, self._context):
            raise OSError(f"EGL's context does not become current (error {self._egl.eglGetError():#x})")

    def release(self) -> None:
        """Make current what was so before: dm_control does not look whether its own still is."""
        self._egl.eglMakeCurrent(self._display, None, None, self._before)

    def device(self) -> str:
        """What draws, in the driver's words."""
        return str(self._function(b"glGetString", ctypes.c_char_p, ctypes.c_uint)(_RENDERER).decode())


class OsMesa:
    """OSMesa's context, which draws into memory; raises `OSError` where there is none."""

    def __init__(self) -> None:
        path = ctypes.util.find_library("OSMesa")
        if path is None:
            raise OSError("libOSMesa: not installed")
        self._mesa = ctypes.CDLL(path)
        self._mesa.OSMesaCreateContextExt.restype = ctypes.c_void_p
        self._mesa.glGetString.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._mesa.OSMesaCreateContextExt(0x1908, 24, 8, 0, None))  # RGBA, depth 24
        if not self._context:
            raise OSError("OSMesa has no context for OpenGL")
        self._pixels = (ctypes.c_float * (4 * 8 * 8))()  # never drawn into: MuJoCo has a buffer of its own

    def bind(self) -> None:
        """Make it current in this thread."""
        if not self._mesa.OSMesaMakeCurrent(self._context, self._pixels, 0x1406, 8, 8):
            raise OSError("OSMesa's context does not become current")

    def release(self) -> None:
        """Make it current nowhere."""
        self._mesa.OSMesaMakeCurrent(None, None, 0x1406, 0, 0)

    def device(self) -> str:
        """What draws, in the driver's words."""
        return str(self._mesa.glGetString(_RENDERER).decode())


BACKENDS: dict[str, type[Egl] | type[OsMesa]] = {"egl": Egl, "osmesa": OsMesa}
"""In the order in which they are tried."""
_lock = threading.RLock()
_depth = 0
"""Of uses inside of each other: what a scene holds may be freed at any moment, even amid another's picture."""
_chosen: dict[int, tuple[str, Egl | OsMesa]] = {}
"""By process: a fork's child cannot use its parent's."""


@contextlib.contextmanager
def current() -> Iterator[None]:
    """OpenGL is at hand in this thread and in no other. Raises `ValueError` where it cannot be had at all."""
    global _depth
    with _lock:
        _, context = _choose()
        if not _depth:
            context.bind()
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
            if not _depth:
                context.release()


def describe() -> str:
    """What draws in this process, such as "egl, llvmpipe (LLVM 15.0.6, 256 bits)"; raises as `current` does."""
    with current():
        name, context = _choose()
        return f"{name}, {context.device()}"


def _choose() -> tuple[str, Egl | OsMesa]:
    """The backend of this process: the first that draws."""
    if os.getpid() in _chosen:
        return _chosen[os.getpid()]
    import mujoco

    asked = os.environ.get("MUJOCO_GL", "").lower()
    if asked and asked not in BACKENDS:
        raise ValueError(f"MUJOCO_GL: expected {' or '.join(BACKENDS)}, which need no screen, or unset, got {asked!r}")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # software that draws: threads gain nothing at 64x64, and die in forks
    failures = []
    for name in [asked] if asked else BACKENDS:
        os.environ["MUJOCO_GL"] = name
        try:
            context = BACKENDS[name]()
            context.bind()
            try:
                _check_that_it_draws()
            finally:
                context.release()
        except (OSError, mujoco.FatalError) as error:
            failures.append(f"{name}: {error}")
        else:
            _chosen[os.getpid()] = name, context
            return name, context
    if not asked:
        del os.environ["MUJOCO_GL"]
    raise ValueError(
        f"MuJoCo draws with OpenGL without a screen, which is not to be had here ({'; '.join(failures)}). Install it "
        f"(Debian, Ubuntu: apt-get install {PACKAGES}), or take the ray caster: "
        "ray_maze in place of memory_maze, renderer=raycast of the others"
    )


def _check_that_it_draws() -> None:
    """Raise `OSError` where a picture of a sphere that fills it comes out black, as with some drivers."""
    import mujoco
    import numpy as np

    model = mujoco.MjModel.from_xml_string(
        '<mujoco><visual><global offwidth="8" offheight="8"/><quality shadowsize="1"/></visual>'
        '<worldbody><geom type="sphere" size="1"/><camera pos="0 0 1.1"/></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
    scene = mujoco.MjvScene(model, maxgeom=4)
    everything = mujoco.mjtCatBit.mjCAT_ALL
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), mujoco.MjvPerturb(), camera, everything, scene)
    drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawing)
    pixels = np.zeros((8, 8, 3), np.uint8)
    area = mujoco.MjrRect(0, 0, 8, 8)
    mujoco.mjr_render(area, scene, drawing)
    mujoco.mjr_readPixels(pixels, None, area, drawing)
    drawing.free()
    if not pixels.any():
        raise OSError("draws black pictures; set MUJOCO_GL to the other one of egl and osmesa")
