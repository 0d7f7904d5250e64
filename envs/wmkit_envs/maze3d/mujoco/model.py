"""A scene as a MuJoCo model: walls, floor and objects as Memory Maze builds them, and dm_control's rolling ball.

MuJoCo's unit is half a cell, its origin the middle of the maze. Walls are boxes that stop the ball and planes that are
seen, both over rectangles of odd sides, for MuJoCo centres a texture on its plane. A model compiled from a scene with
Memory Maze's walls, and stepped from the same start, gives Memory Maze's positions and pictures to the bit.

Source of the numbers: memory-maze 1.0.3, dm_control 1.0.50 (`MazeWithTargets`, `TargetSphere`).
"""

from __future__ import annotations

import math
from importlib.resources import files

import mujoco
import numpy as np
from labmaze import assets
from numpy.typing import NDArray

from wmkit_envs.maze3d.scene import OPEN, Scene, wall_blocks

CELL = 2.0
"""Side of a cell."""
WALL_HEIGHT, RAISED_WALL_HEIGHT = 1.5, 0.4
OBJECT_RADIUS, RAISED_OBJECT_HEIGHT = 0.6, 1.1
"""Centres of objects lie on the floor, or at this height."""
WALL_ART = ("red", "red_bright", "yellow", "green", "green_bright", "blue", "purple", "cerise")
"""labmaze's texture for each of the wall styles, in the ray caster's order of hues."""
FLOOR_ART = ("blue", "blue_bright")
"""For corridors and for rooms."""
EYES, TOP = "walker/egocentric", "top"
"""Cameras: the walker's, and one far above the maze."""
TIME_STEP = 0.005
"""Seconds."""
_HIDDEN_GROUP = 3
_FACINGS = {
    0: ((-1, (0, -1, 0, 0, 0, 1)), (1, (0, 1, 0, 0, 0, 1))),
    1: ((-1, (1, 0, 0, 0, 0, 1)), (1, (-1, 0, 0, 0, 0, 1))),
    2: ((1, (1, 0, 0, 0, 1, 0)),),
}
"""By the axis across a wall's side: towards which ends of the axis sides are seen, and the plane's x and y axes."""

Rectangle = tuple[int, int, int, int]
"""First row, first column, rows, columns."""


def build(scene: Scene, *, seen: bool, ears: bool = False) -> mujoco.MjModel:
    """The compiled model; without what is only seen if not `seen`; with ears, which tell left from right from above.

    Joints are the ball's: x, y, z, steering, rolling.
    """
    walker = mujoco.MjSpec.from_file(
        str(files("dm_control") / "locomotion/walkers/assets/jumping_ball/jumping_ball_with_head.xml")
    )
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.compiler.boundmass, spec.compiler.boundinertia = 1e-5, 1e-11
    spec.option.timestep, spec.option.cone = TIME_STEP, mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.noslip_iterations, spec.option.noslip_tolerance = 5, 0
    light = spec.visual.headlight
    light.ambient, light.diffuse, light.specular = [0.3] * 3, [0.6] * 3, [0.0] * 3
    spec.visual.map.znear = 0.0005
    spec.visual.quality.shadowsize = 1  # nothing casts one, and 4096 pixels a side take a second to make
    texture = mujoco.mjtTexture
    spec.add_texture(
        name="sky", type=texture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.4, 0.6, 0.8], rgb2=[0, 0, 0], width=100, height=100,
    )  # fmt: skip
    if seen:
        walls, floors = assets.get_wall_texture_paths("style_01"), assets.get_floor_texture_paths("style_01")
        for style in np.unique(scene.walls[scene.walls != OPEN]):
            name = WALL_ART[style]
            spec.add_texture(name=f"wall {name}", type=texture.mjTEXTURE_2D, file=walls[name])
        for name in FLOOR_ART:
            spec.add_texture(name=f"floor {name}", type=texture.mjTEXTURE_2D, file=floors[name])
    rows, columns = scene.walls.shape
    plane = mujoco.mjtGeom.mjGEOM_PLANE
    spec.worldbody.add_geom(name="ground", type=plane, size=[columns, rows, 1], rgba=[0, 0, 0, 0])
    high = math.degrees(2 * math.atan(1.1 * max(rows, columns) * CELL / 2 / 100))
    spec.worldbody.add_camera(name=TOP, pos=[0, 0, 100], fovy=high)
    _add_walls(spec, scene, seen)
    if seen:
        _add_floor(spec, scene)
    _add_walker(spec, walker, ears)
    _add_objects(spec, scene)
    return spec.compile()


def _add_walls(spec: mujoco.MjSpec, scene: Scene, seen: bool) -> None:
    body = spec.worldbody.add_body(name="walls")
    styles, blocks = scene.walls[::-1], wall_blocks(*scene.walls.shape)[::-1]  # from the top, as rectangles are cut
    height = RAISED_WALL_HEIGHT if scene.raised else WALL_HEIGHT
    for block in np.unique(blocks):
        for style in range(len(WALL_ART)):
            for part in odd_rectangles((blocks == block) & (styles == style)):
                centre, half = _place(part, styles.shape, height)
                body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, size=half, group=_HIDDEN_GROUP)
                for across, facings in _FACINGS.items() if seen else ():
                    side = np.delete(half, across)
                    material = _add_material(spec, f"wall {WALL_ART[style]}", side)
                    for end, axes in facings:
                        middle = centre + end * half * (np.arange(3) == across)
                        _add_plane(spec, material, middle, side, axes)


def _add_floor(spec: mujoco.MjSpec, scene: Scene) -> None:
    for kind, name in enumerate(FLOOR_ART):
        for part in odd_rectangles(scene.floors[::-1] == kind):
            centre, half = _place(part, scene.floors.shape, 0.0)
            material = _add_material(spec, f"floor {name}", half[:2])
            _add_plane(spec, material, centre, half[:2], (1, 0, 0, 0, 1, 0))


def _add_walker(spec: mujoco.MjSpec, walker: mujoco.MjSpec, ears: bool) -> None:
    """The ball, its head and its camera on three sliding joints."""
    for name in ("kick", "camera_height", "camera_tilt"):
        walker.delete(walker.actuator(name))
        walker.delete(walker.joint(name))
    walker.joint("roll").damping, walker.joint("steer").damping = [5.0, 0, 0], [20.0, 0, 0]
    walker.body("egocentric_camera").pos = [0, 0.15, 0.3]
    for side, color in ((0.22, [0.7, 0, 0, 1]), (-0.22, [0, 0, 0.7, 1])) if ears else ():
        walker.body("head_body").add_site(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.26, 0.26, 0.26], pos=[side, 0, 0], rgba=color
        )
    body = spec.worldbody.add_body(name="walker")
    for axis in np.eye(3):
        body.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
    spec.attach(walker, prefix="walker/", frame=body.add_frame())


def _add_objects(spec: mujoco.MjSpec, scene: Scene) -> None:
    """Spheres that are felt and stop nothing; geom `object i` is the scene's object i."""
    rows, columns = scene.layout.shape
    for index, (place, color) in enumerate(zip(scene.objects, scene.colors, strict=True)):
        spec.add_texture(
            name=f"object {index}", type=mujoco.mjtTexture.mjTEXTURE_CUBE,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER, rgb1=color, rgb2=color, width=100, height=100,
        )  # fmt: skip
        material = _add_material(spec, f"object {index}", np.ones(2) * CELL / 2)
        body = spec.worldbody.add_body(pos=[*CELL * (place - (columns / 2, rows / 2)), 0])
        body.add_geom(
            name=f"object {index}", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[OBJECT_RADIUS, 0, 0], rgba=[1, 1, 1, 1],
            material=material, pos=[0, 0, RAISED_OBJECT_HEIGHT if scene.raised else 0],
            margin=-2 * OBJECT_RADIUS, gap=2 * OBJECT_RADIUS,
        )  # fmt: skip


def _add_material(spec: mujoco.MjSpec, texture: str, half: NDArray[np.float64]) -> str:
    """The texture once per cell of a plane of half sides `half`; returns the material's name."""
    material = spec.add_material(name=f"{texture} {len(spec.materials)}", texrepeat=2 * half / CELL)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture
    return str(material.name)


def _add_plane(
    spec: mujoco.MjSpec, material: str, centre: NDArray[np.float64], half: NDArray[np.float64], axes: tuple[int, ...]
) -> None:
    """One that is only seen."""
    geom = spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE, pos=centre, size=[*half, CELL], material=material, rgba=[1, 1, 1, 1],
        contype=0, conaffinity=0,
    )  # fmt: skip
    geom.alt.type, geom.alt.xyaxes = mujoco.mjtOrientation.mjORIENTATION_XYAXES, axes


def _place(part: Rectangle, shape: tuple[int, ...], height: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre (3,) and half sides (3,) of a block of `height` on cells of a grid whose row 0 is at the top."""
    row, column, down, along = part
    across, up = column + along / 2 - shape[1] / 2, shape[0] / 2 - row - down / 2
    return np.array([CELL * across, CELL * up, height / 2]), np.array([CELL * along, CELL * down, height]) / 2


def odd_rectangles(cells: NDArray[np.bool_]) -> list[Rectangle]:
    """Rectangles of odd sides that cover a mask, each cell once.

    Row by row, each free cell begins the rectangle of most cells that its rows downwards allow, the flatter one of two.
    """
    left, found = cells.copy(), []
    for row, column in np.argwhere(cells).tolist():
        if not left[row, column]:
            continue
        width, best = cells.shape[1], (0, 0)
        for down, line in enumerate(left[row:, column:], start=1):
            width = min(width, int(np.argmin(np.append(line, False))))
            width -= width > 0 and width % 2 == 0
            if width == 0:
                break
            if down % 2 and down * width > math.prod(best):
                best = down, width
        left[row : row + best[0], column : column + best[1]] = False
        found.append((row, column, *best))
    return found
