"""What is in view, from the ground truth alone."""

import numpy as np
import pytest

from wmkit.data import Episode
from wmkit.probing import NEVER, since_last, view
from wmkit.probing.view import cells_in_view, objects_in_view, places_in_view, sides_in_view
from wmkit_envs import RayMaze
from wmkit_envs.maze3d import raycast

LAYOUT = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], np.uint8)
"""Two corridors, one above the other; row 0 is at the bottom."""


def episode(position, direction, objects=((0, 0),)) -> Episode:
    steps = {
        "agent_pos": np.array([position], np.float32),
        "agent_dir": np.array([direction], np.float32),
        "targets_vec": np.array([objects], np.float32),
        "reward": np.zeros(1, np.float32),
    }
    return Episode(steps, {"maze_layout": LAYOUT})


def test_a_corridor_is_seen_to_its_end_with_its_wall_and_nothing_behind_it() -> None:
    seen = cells_in_view(episode((0.5, 0.5), (1, 0)))[0]
    assert seen[0].all()
    assert seen[1, 1:].all()
    assert not seen[2].any()


def test_outer_walls_are_seen_where_no_other_wall_hides_them() -> None:
    assert sides_in_view(episode((2.5, 0.5), (-1, 0))).tolist() == [[True, False, False, True]]
    assert sides_in_view(episode((2.5, 2.5), (1, 0))).tolist() == [[False, True, True, False]]


def test_behind_the_walker_nothing_is_seen() -> None:
    seen = cells_in_view(episode((2.5, 0.5), (-1, 0)))[0]
    assert seen[0, :3].all()
    assert not seen[0, 3:].any()


@pytest.mark.parametrize(
    ("vector", "in_view"),
    [((0, 2), True), ((0, -1), False), ((1.0, 0.5), False), ((-1.9, 2.0), False), ((0.2, 0.4), True)],
)
def test_objects_are_in_view_ahead_within_eighty_degrees_and_not_behind_walls(vector, in_view) -> None:
    """The second but last would be within the view, but lies in the other corridor."""
    assert objects_in_view(episode((1.5, 0.5), (1, 0), [vector])).tolist() == [[in_view]]


def test_a_tile_world_shows_two_cells_on_each_side() -> None:
    shown = places_in_view(episode((4, 4), (1, 0)), np.array([[6, 2], [7, 4], [4, 4]]))
    assert shown.tolist() == [[True, False, True]]


def test_walls_that_come_into_view_bring_faces_that_the_world_says_are_new(monkeypatch) -> None:
    """`first_seen` gives every face of a wall the step at which one of 16 rays met it first: a wall that comes into
    view of as many rays has one. A camera that looks back finds walls at other steps.
    """
    monkeypatch.setattr(view, "RAYS", 16)
    length = 150
    made = RayMaze(image_size=16).generate(seed=0, length=length)
    new_faces = (made.steps["first_seen"] == np.arange(length)[:, None]).any(1)
    shares = []
    for sign in (1, -1):
        steps = dict(made.steps) | {"agent_dir": sign * made.steps["agent_dir"]}
        seen = cells_in_view(Episode(steps, dict(made.constants)))
        new = (np.cumsum(seen, 0) == 1) & seen & (made.constants["maze_layout"] == 0)
        new_walls = new.any((1, 2))[1:]
        assert new_walls.sum() > 5
        shares.append(new_faces[1:][new_walls].mean())
    assert shares[0] > 0.9 > shares[1] + 0.4
    seen = cells_in_view(Episode(dict(made.steps), dict(made.constants)))
    x, y = np.floor(made.steps["agent_pos"]).astype(int).T
    assert seen[np.arange(length), y, x].mean() > 0.95  # the own cell, but for a camera that looks out of it


def test_the_camera_is_that_of_the_ray_caster() -> None:
    assert (view.CAMERA_AHEAD, view.HALF_VIEW) == (raycast.CAMERA_AHEAD, raycast.HALF_VIEW)


def test_delays_count_from_the_last_time() -> None:
    happens = np.array([[0, 0], [1, 0], [0, 0], [0, 1], [1, 0]], bool)
    assert since_last(happens).tolist() == [[NEVER, NEVER], [0, NEVER], [1, NEVER], [2, 0], [0, 1]]
