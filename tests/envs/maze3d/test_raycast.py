"""What the images must show, stated without the renderer's own formulas where possible."""

import dataclasses
import math

import numpy as np
import pytest

from wmkit_envs.maze3d.raycast import (
    CAMERA_AHEAD,
    CAMERA_HEIGHT,
    CAMERA_PITCH,
    HALF_VIEW,
    OBJECT_RADIUS,
    _Fan,
    _lens,
    _spread,
    cast,
    render,
)
from wmkit_envs.maze3d.scene import OPEN, Pose, Scene
from wmkit_envs.maze3d.textures import LEVELS, TEXELS, WALL_HEIGHT

BRICKS, STRIPES = 0, 5


def hall(length: int = 6, height: int = 1, style: int = BRICKS, objects: tuple[tuple[float, float], ...] = ()) -> Scene:
    """An empty hall of `length` x `height` cells with walls of one style."""
    walls = np.full((height + 2, length + 2), style, np.int8)
    walls[1:-1, 1:-1] = OPEN
    centres = np.array(objects, np.float64).reshape(-1, 2)
    return Scene(walls, np.zeros_like(walls, np.uint8), centres, Pose(0.5, 0.5, 0.0))


def look(scene: Scene, x: float, y: float, degrees: float, side: int = 64) -> np.ndarray:
    """The image whose camera stands at (x, y)."""
    heading = math.radians(degrees)
    pose = [x - CAMERA_AHEAD * math.cos(heading), y - CAMERA_AHEAD * math.sin(heading), heading]
    return render(scene, np.array([pose]), (side, side))[0].astype(int)


def row_of(height: float, depth: float) -> float:
    """Where in 64 rows a point is seen that lies straight ahead, by the angle between the camera's axis and it."""
    angle = math.atan2(height - CAMERA_HEIGHT, depth) + CAMERA_PITCH
    return 32 - 32 * math.tan(angle) / HALF_VIEW


def is_brick(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] - pixels[..., 2] > 45


def is_sky(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 2] - pixels[..., 0] > 20


@pytest.mark.parametrize("depth", [1.0, 2.0, 4.0])
def test_a_wall_straight_ahead_fills_the_expected_rows(depth: float) -> None:
    column = look(hall(), 6 - depth, 0.5, 0.0)[:, 32]
    rows = np.flatnonzero(is_brick(column))
    np.testing.assert_array_equal(rows, np.arange(rows[0], rows[-1] + 1))
    assert abs(rows[0] - row_of(WALL_HEIGHT, depth)) <= 1
    assert abs(rows[-1] + 1 - row_of(0.0, depth)) <= 1


def test_sky_is_above_the_wall_and_floor_below() -> None:
    column = look(hall(), 3.0, 0.5, 0.0)[:, 32]
    wall = np.flatnonzero(is_brick(column))
    assert is_sky(column[: wall[0]]).all()
    floor = column[wall[-1] + 1 :]
    assert (np.ptp(floor, axis=-1) < 30).all()


def test_rooms_and_corridors_have_different_floors() -> None:
    corridor = hall()
    room = dataclasses.replace(corridor, floors=np.ones_like(corridor.floors))
    assert look(room, 3.0, 0.5, 0.0)[-8:].mean() > look(corridor, 3.0, 0.5, 0.0)[-8:].mean() + 40


def test_walls_of_different_styles_have_different_colours() -> None:
    means = [look(hall(style=style), 4.8, 0.5, 0.0)[28:36].mean((0, 1)) for style in range(8)]
    for one in range(8):
        for other in range(one):
            assert np.abs(means[one] - means[other]).max() > 25


def test_a_wall_facing_x_is_darker_than_the_same_wall_facing_y() -> None:
    square = hall(3, 3, STRIPES)
    assert look(square, 2.0, 1.5, 0.0)[:, 32][28:34].mean() < look(square, 1.5, 2.0, 90.0)[:, 32][28:34].mean()


def test_an_object_ahead_is_seen_in_its_colour() -> None:
    empty, scene = hall(style=STRIPES), hall(style=STRIPES, objects=((4.0, 0.5),))
    picture = look(scene, 2.0, 0.5, 0.0)
    painted = (picture != look(empty, 2.0, 0.5, 0.0)).any(-1)
    assert painted[:, 30:34].any()
    assert not painted[:, :8].any()
    assert (picture[painted][:, 0] > 2 * picture[painted][:, 2]).all()


def test_an_object_to_the_left_appears_on_the_left() -> None:
    empty, scene = hall(6, 3), hall(6, 3, objects=((3.0, 2.2),))
    painted = (look(scene, 1.5, 1.5, 0.0) != look(empty, 1.5, 1.5, 0.0)).any(-1)
    columns = np.flatnonzero(painted.any(0))
    assert len(columns) > 3
    assert columns.max() < 32


def test_a_wall_to_the_left_appears_on_the_left() -> None:
    scene = hall(style=STRIPES)
    walls = scene.walls.copy()
    walls[2] = BRICKS  # the wall along the larger y, which is left of a walker that looks along x
    bricks = is_brick(look(dataclasses.replace(scene, walls=walls), 3.0, 0.5, 0.0))
    assert bricks[20:32, 4:20].any()
    assert not bricks[:, 36:].any()


@pytest.mark.parametrize(("x", "y"), [(3.0, 1.5), (2.2, 1.8), (1.95, 1.1), (5.5, 2.4), (1.75, 1.95)])
def test_an_object_covers_the_pixels_whose_rays_pass_its_centre_closely(x: float, y: float) -> None:
    """A pixel shows the object when its ray passes within the radius of the centre (point to line)."""
    empty, scene = hall(7, 3, STRIPES), hall(7, 3, STRIPES, objects=((x, y),))
    painted = (look(scene, 1.5, 1.5, 0.0) != look(empty, 1.5, 1.5, 0.0)).any(-1)
    steps = HALF_VIEW * (1 - 2 * (np.arange(64) + 0.5) / 64)
    up, left = np.meshgrid(steps, steps, indexing="ij")
    cos, sin = math.cos(CAMERA_PITCH), math.sin(CAMERA_PITCH)
    rays = np.stack([cos + sin * up, left, cos * up - sin], axis=-1)
    to_centre = np.array([x - 1.5, y - 1.5, -CAMERA_HEIGHT])
    distance = np.linalg.norm(np.cross(rays, to_centre), axis=-1) / np.linalg.norm(rays, axis=-1)
    before = rays @ to_centre / np.linalg.norm(rays, axis=-1) - np.sqrt(np.maximum(OBJECT_RADIUS**2 - distance**2, 0))
    height = CAMERA_HEIGHT + before * rays[..., 2] / np.linalg.norm(rays, axis=-1)
    expected = (distance < OBJECT_RADIUS) & (height > 0)
    assert expected.any()
    np.testing.assert_array_equal(painted, expected)


def test_an_object_behind_a_wall_is_hidden() -> None:
    scene = hall(objects=((4.5, 0.5),))
    walls = scene.walls.copy()
    walls[1, 4] = BRICKS
    blocked = dataclasses.replace(scene, walls=walls)
    empty = dataclasses.replace(blocked, objects=np.empty((0, 2)))
    np.testing.assert_array_equal(look(blocked, 1.5, 0.5, 0.0), look(empty, 1.5, 0.5, 0.0))


def test_an_object_behind_the_camera_is_hidden() -> None:
    np.testing.assert_array_equal(look(hall(objects=((1.0, 0.5),)), 3.0, 0.5, 0.0), look(hall(), 3.0, 0.5, 0.0))


def test_the_nearer_of_two_objects_hides_the_other() -> None:
    near_first, far_first = hall(objects=((2.5, 0.5), (5.0, 0.5))), hall(objects=((5.0, 0.5), (2.5, 0.5)))
    red, green = look(near_first, 1.0, 0.5, 0.0)[34, 32], look(far_first, 1.0, 0.5, 0.0)[34, 32]
    assert red[0] > red[1]
    assert green[1] > green[0]


def test_an_object_grows_continuously_when_approached() -> None:
    """No pixel of the sphere is lost to the column range, until it begins to leave the image below."""
    empty, scene = hall(), hall(objects=((5.0, 0.5),))
    poses = np.stack([np.linspace(0.5, 4.0, 60), np.full(60, 0.5), np.zeros(60)], axis=1)
    painted = (render(scene, poses) != render(empty, poses)).any(-1).sum((1, 2))
    assert (np.diff(painted) >= 0).all()
    assert painted[-1] > 5 * painted[0] > 0


def test_a_batch_equals_its_images_one_by_one() -> None:
    scene = hall(6, 3, objects=((4.5, 1.5), (2.5, 2.5)))
    poses = np.array([[1.5, 1.5, 0.0], [3.3, 0.4, 2.0], [5.2, 2.1, -1.0]])
    single = np.concatenate([render(scene, poses[i : i + 1]) for i in range(3)])
    np.testing.assert_array_equal(render(scene, poses), single)


def test_objects_can_be_elsewhere_in_each_image() -> None:
    scene, poses = hall(objects=((4.5, 0.5), (2.5, 0.5))), np.array([[0.5, 0.5, 0.0]] * 3)
    objects = np.array([[[2.0, 0.5], [3.0, 0.5]], [[4.5, 0.5], [2.5, 0.5]], [[3.0, 0.3], [5.0, 0.7]]])
    single = [render(dataclasses.replace(scene, objects=one), poses[:1])[0] for one in objects]
    np.testing.assert_array_equal(render(scene, poses, objects=objects), single)
    with pytest.raises(ValueError, match=r"objects: expected shape \(3, 2, 2\) or \(1, 2, 2\), got \(2, 2, 2\)"):
        render(scene, poses, objects=objects[:2])


def test_wide_images_show_more_to_the_sides() -> None:
    wide, square = (render(hall(), np.array([[1.5, 0.5, 0.3]]), size)[0] for size in ((32, 64), (32, 32)))
    assert (wide[:, 16:48] == square).all(-1).mean() > 0.99  # the fans of rays lie differently


@pytest.mark.parametrize("size", [(4, 64), (64, 2000), (0, 0)])
def test_unsupported_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="image size"):
        render(hall(), np.array([[1.5, 0.5, 0.0]]), size)


@pytest.mark.parametrize("position", [(-0.5, 0.5), (6.5, 0.5), (1.5, 1.5)])
def test_poses_outside_the_free_cells_are_refused(position: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="free cell"):
        render(hall(), np.array([[*position, 0.0]]))


def test_poses_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        render(hall(), np.zeros((3, 2)))


def test_no_wall_is_missed_between_rays_that_meet_the_same_face() -> None:
    """The fan is cast at a stride; here each of its rays is cast."""
    rng = np.random.default_rng(0)
    lens = _lens((16, 16))
    fan = _Fan(*(np.empty(len(lens.fan)) for _ in range(6)), np.empty(len(lens.fan), np.int64))
    for _ in range(30):
        walls = np.zeros((14, 14), np.int8)
        walls[1:-1, 1:-1] = np.where(rng.random((12, 12)) < 0.15, STRIPES, OPEN)  # pillars
        row, column = rng.permutation(np.argwhere(walls == OPEN))[0]
        x, y, heading = column + rng.uniform(0.05, 0.95), row + rng.uniform(0.05, 0.95), rng.uniform(-3, 3)
        forward_x, forward_y = math.cos(heading), math.sin(heading)
        _spread(x, y, forward_x, forward_y, walls, lens, fan)
        depths, styles = [], []
        for across in lens.fan:
            direction = forward_x + across * forward_y, forward_y - across * forward_x
            row, column, side = cast(x, y, *direction, walls)
            away = (column + 0.5 - x, row + 0.5 - y)[not side]
            depths.append((abs(away) - 0.5) / abs(direction[not side]))  # to the face that looks at the walker
            styles.append(walls[row, column])
        np.testing.assert_allclose(1 / (fan.near + fan.change * lens.fan), depths)
        np.testing.assert_array_equal(fan.art // (LEVELS * TEXELS * round(TEXELS * WALL_HEIGHT)), styles)
