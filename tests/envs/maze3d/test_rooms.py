"""Two Rooms: geometry, and the scripted walk's exact lengths."""

import itertools

import numpy as np
import pytest

from wmkit_envs import RayTwoRooms
from wmkit_envs.maze3d import rooms as two_rooms
from wmkit_envs.maze3d.kinematics import FORWARD, LEFT, RIGHT
from wmkit_envs.maze3d.rooms import OBJECT_CELLS, START_CELLS, ScriptFailed, near_sides, turn_away
from wmkit_envs.maze3d.scene import Pose
from wmkit_envs.maze3d.simulation import Trajectory
from wmkit_envs.world import EpisodeSeed


@pytest.fixture(scope="module")
def walks() -> list[Trajectory]:
    return [RayTwoRooms().walk(EpisodeSeed(0, "train", index), 501).trajectory() for index in range(150)]


def rooms(walk: Trajectory) -> np.ndarray:
    """0 left, 1 right, -1 in the doorway."""
    x = walk.poses[:, 0]
    return np.where(x < 3, 0, np.where(x > 4, 1, -1))


def test_the_layout_is_two_rooms_of_nine_cells_and_a_doorway() -> None:
    layout = RayTwoRooms().begin(EpisodeSeed(0)).scene.layout
    np.testing.assert_array_equal(layout, [[1] * 7, [1, 1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1]])


def test_objects_and_starts_lie_on_the_published_cells() -> None:
    scenes = [RayTwoRooms().begin(EpisodeSeed(0, "train", index)).scene for index in range(200)]
    cells = [{(int(x), int(y)) for x, y in scene.objects} for scene in scenes]
    assert all(len(found) == 3 for found in cells)
    assert set().union(*cells) == set(OBJECT_CELLS)
    assert {(int(scene.start.x), int(scene.start.y)) for scene in scenes} == set(START_CELLS)


def test_every_walk_has_301_context_and_200_query_observations(walks: list[Trajectory]) -> None:
    assert {len(walk.poses) for walk in walks} == {501}
    episode = RayTwoRooms().generate(seed=0)
    assert int(episode["context_length"]) == 301
    assert len(episode["image"]) - int(episode["context_length"]) == 200


def test_the_context_ends_in_the_room_it_started_in(walks: list[Trajectory]) -> None:
    for walk in walks:
        visited = rooms(walk)
        assert visited[0] == visited[300]
        assert [room for room, _ in itertools.groupby(visited[:301]) if room >= 0] == [
            visited[0],
            1 - visited[0],
            visited[0],
        ]


def test_the_query_begins_with_the_way_to_the_other_room(walks: list[Trajectory]) -> None:
    for walk in walks:
        visited = rooms(walk)
        assert 1 - visited[300] in visited[300:350]
        assert [room for room, _ in itertools.groupby(visited[300:]) if room >= 0] == [
            visited[0],
            1 - visited[0],
            visited[0],
        ]


def test_only_forward_and_turns_occur_in_the_measured_shares(walks: list[Trajectory]) -> None:
    """The original collector was measured at 43/30/27 %."""
    actions = np.concatenate([walk.actions[1:] for walk in walks])
    shares = np.bincount(actions, minlength=6) / len(actions)
    assert set(actions.tolist()) == {FORWARD, LEFT, RIGHT}
    np.testing.assert_allclose(shares[[FORWARD, LEFT, RIGHT]], [0.43, 0.285, 0.285], atol=0.03)


def test_touching_an_object_gives_no_reward() -> None:
    assert not RayTwoRooms().generate(seed=1)["reward"].any()


def test_a_failed_walk_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []
    walk = two_rooms._Script.run

    def fail_twice(script: two_rooms._Script) -> None:
        attempts.append(script)
        if len(attempts) < 3:
            raise ScriptFailed
        walk(script)

    monkeypatch.setattr(two_rooms._Script, "run", fail_twice)
    assert len(RayTwoRooms().walk(EpisodeSeed(0), 501)) == 501
    assert len(attempts) == 3


@pytest.mark.parametrize(
    ("change", "value"), [("MAX_TURNS", 0), ("MAX_MOVES", 1), ("QUERY_START", 190), ("ROOMS", ((0.0, 0.1), (6.9, 7.0)))]
)
def test_a_walk_that_cannot_succeed_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch, change: str, value: object
) -> None:
    monkeypatch.setattr(two_rooms, change, value)
    monkeypatch.setattr(two_rooms, "MAX_WALKS", 3)
    with pytest.raises(AssertionError, match="3 walks failed"):
        RayTwoRooms().walk(EpisodeSeed(0), 501)


def test_a_side_is_near_only_when_headed_for() -> None:
    room = (0.0, 3.0)
    assert near_sides(Pose(0.5, 0.5, np.radians(225)), room) == ["left", "bottom"]
    assert near_sides(Pose(0.5, 0.5, np.radians(45)), room) == []
    assert near_sides(Pose(2.5, 1.5, np.radians(10)), room) == ["right"]
    assert near_sides(Pose(1.5, 2.5, np.radians(80)), room) == ["top"]


@pytest.mark.parametrize(
    ("side", "degrees", "action"),
    [
        ("left", 170, RIGHT),
        ("left", 190, LEFT),
        ("right", 10, LEFT),
        ("right", -10, RIGHT),
        ("bottom", -80, LEFT),
        ("bottom", -100, RIGHT),
        ("top", 80, RIGHT),
        ("top", 100, LEFT),
    ],
)
def test_turning_away_leads_along_the_wall(side: str, degrees: float, action: int) -> None:
    assert turn_away(side, np.radians(degrees)) == action
