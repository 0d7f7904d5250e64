"""The collectors' tour through Two, Four and Ten Rooms: when it is where, by which actions, and what makes it fail."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from wmkit_envs import Rooms
from wmkit_envs.maze3d import tour
from wmkit_envs.maze3d.kinematics import FORWARD, LEFT, RIGHT
from wmkit_envs.maze3d.scene import Pose
from wmkit_envs.maze3d.simulation import Simulation, step_truth
from wmkit_envs.maze3d.timetable import Timetable
from wmkit_envs.maze3d.tour import TourFailed, near_sides, turn_away, walk_tour
from wmkit_envs.world import EpisodeSeed

WALKS = {
    Rooms(): 60,
    Rooms(longer=True): 10,
    Rooms(teleport=True): 20,
    Rooms(rooms=4): 15,
    Rooms(rooms=4, longer=True): 5,
    Rooms(rooms=4, teleport=True): 10,
    Rooms(rooms=10): 10,
    Rooms(rooms=10, teleport=True): 10,
}
"""How many of each are walked; they are walked once for all tests."""
RING = {2: [0, 1], 4: [0, 1, 3, 2], 10: [0, 1, 2, 3, 4, 9, 8, 7, 6, 5]}
"""Counter-clockwise."""


@pytest.fixture(scope="module")
def walks() -> dict[Rooms, list[Simulation]]:
    return {
        world: [world.walk(EpisodeSeed(0, "train", index), world.episode_length) for index in range(count)]
        for world, count in WALKS.items()
    }


def rooms(walk: Simulation) -> np.ndarray:
    """(T,) the number of the room, -1 in doorways."""
    return np.asarray(step_truth(walk.scene, walk.trajectory())["room"])


def in_turn(visited: np.ndarray) -> list[int]:
    """The rooms one after the other."""
    return [room for room, _ in itertools.groupby(visited[visited >= 0].tolist())]


@pytest.mark.parametrize("world", WALKS, ids=lambda world: world.name)
def test_every_walk_ends_with_the_episode_or_at_the_teleport(
    world: Rooms, walks: dict[Rooms, list[Simulation]]
) -> None:
    assert {len(walk) for walk in walks[world]} == {world.context_length if world.teleport else world.episode_length}


@pytest.mark.parametrize("world", WALKS, ids=lambda world: world.name)
def test_rooms_follow_each_other_around_the_ring_in_both_directions(
    world: Rooms, walks: dict[Rooms, list[Simulation]]
) -> None:
    ring, directions = RING[world.rooms], set()
    for walk in walks[world]:
        places = [ring.index(room) for room in in_turn(rooms(walk))]
        assert len(places) == len(world.timetable.switches) + 1
        steps = {(there - here) % len(ring) for here, there in itertools.pairwise(places)}
        assert len(steps) == 1
        directions |= steps
    assert directions == {1, len(ring) - 1}


@pytest.mark.parametrize("world", [world for world in WALKS if not world.teleport], ids=lambda world: world.name)
def test_the_context_sees_every_room_and_ends_where_it_began(
    world: Rooms, walks: dict[Rooms, list[Simulation]]
) -> None:
    for walk in walks[world]:
        visited = rooms(walk)
        context = visited[: world.context_length]
        assert set(context.tolist()) == {-1, *range(world.rooms)}
        assert context[0] == context[-1]
        assert in_turn(visited[world.context_length :])[0] == context[0]
        assert len(in_turn(visited[world.context_length - 1 : world.context_length + 49])) == 2


@pytest.mark.parametrize("number", RING)
def test_a_teleports_context_sees_every_room_once(number: int, walks: dict[Rooms, list[Simulation]]) -> None:
    for walk in walks[Rooms(rooms=number, teleport=True)]:
        assert sorted(in_turn(rooms(walk))) == list(range(number))


def test_at_least_two_fifths_of_the_query_are_in_the_other_room(walks: dict[Rooms, list[Simulation]]) -> None:
    """The mean over episodes; measured 43 % over 200 of Two Rooms, more in the others."""
    for world in (Rooms(), Rooms(rooms=4), Rooms(rooms=10)):
        visited = np.stack([rooms(walk)[world.context_length - 1 :] for walk in walks[world]])
        assert ((visited[:, 1:] != visited[:, :1]) & (visited[:, 1:] >= 0)).mean() >= 0.4


@pytest.mark.parametrize("number", RING)
def test_only_forward_and_turns_occur_in_the_measured_shares(number: int, walks: dict[Rooms, list[Simulation]]) -> None:
    """14 episodes of the original collector of Two Rooms were measured at 43/26/30 %."""
    actions = np.concatenate([walk.trajectory().actions[1:] for walk in walks[Rooms(rooms=number)]])
    shares = np.bincount(actions, minlength=6) / len(actions)
    assert set(actions.tolist()) == {FORWARD, LEFT, RIGHT}
    np.testing.assert_allclose(shares[[FORWARD, LEFT, RIGHT]], [0.43, 0.285, 0.285], atol=0.03)


def test_changes_of_rooms_begin_at_the_timetables_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, switch = [], tour._Tour._switch

    def noted(script: tour._Tour, here: int, there: int) -> None:
        begun.append(len(script._simulation) - 1)
        switch(script, here, there)

    monkeypatch.setattr(tour._Tour, "_switch", noted)
    for world in WALKS:
        begun.clear()
        world.walk(EpisodeSeed(1), world.episode_length)
        assert all(low <= at <= high for at, (low, high) in zip(begun, world.timetable.switches, strict=True))


@pytest.mark.parametrize(
    ("number", "here", "there", "corner", "far"),
    [
        (2, 0, 1, (3, 0), (7, 0.5)),
        (2, 1, 0, (4, 0), (0, 0.5)),
        (4, 0, 2, (0, 3), (0.5, 7)),
        (4, 1, 3, (7, 3), (6.5, 7)),
        (4, 3, 2, (4, 7), (0, 6.5)),
        (10, 1, 2, (7, 3), (19, 2.5)),
        (10, 6, 5, (4, 7), (0, 6.5)),
        (10, 0, 5, (0, 3), (0.5, 7)),
        (10, 4, 9, (19, 0), (18.5, 7)),
        (10, 9, 4, (19, 7), (18.5, 0)),
    ],
)
def test_waypoints_are_the_collectors(
    number: int, here: int, there: int, corner: object, far: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last two are the collector's corners that lie away from the doorway."""
    waypoints = []
    monkeypatch.setattr(tour._Tour, "_walk_to", lambda script, waypoint, line, across: waypoints.append(waypoint))
    tour._Tour(Rooms(rooms=number).begin(EpisodeSeed(0)), np.random.default_rng(0))._switch(here, there)
    np.testing.assert_array_equal(waypoints, [corner, far])


def test_a_failed_walk_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []
    walk = tour._Tour.run

    def fail_twice(script: tour._Tour, timetable: Timetable) -> None:
        attempts.append(script)
        if len(attempts) < 3:
            raise TourFailed
        walk(script, timetable)

    monkeypatch.setattr(tour._Tour, "run", fail_twice)
    assert len(Rooms().walk(EpisodeSeed(0), 501)) == 501
    assert len(attempts) == 3


@pytest.mark.parametrize(("change", "value"), [("MAX_TURNS", 0), ("MAX_MOVES", 1)])
def test_a_walk_that_cannot_succeed_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch, change: str, value: object
) -> None:
    monkeypatch.setattr(tour, change, value)
    monkeypatch.setattr(tour, "MAX_WALKS", 3)
    with pytest.raises(AssertionError, match="3 walks failed"):
        Rooms().walk(EpisodeSeed(0), 501)


@pytest.mark.parametrize(
    ("change", "switches"),
    [
        ({"start": Pose(3.5, 0.5, 0.0)}, ()),
        ({"rooms": np.arange(21).reshape(3, 7)}, ()),
        ({}, ((30, 30), (31, 31))),
    ],
    ids=["in the doorway", "every cell is a room to stay in", "no time to explore"],
)
def test_a_walk_fails_that_begins_outside_leaves_its_room_or_comes_late(
    change: dict[str, Any], switches: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = dataclasses.replace(Rooms().begin(EpisodeSeed(0)).scene, **change)
    monkeypatch.setattr(tour, "MAX_WALKS", 3)
    with pytest.raises(AssertionError, match="3 walks failed"):
        walk_tour(lambda: Simulation(scene, None), Timetable(100, 1, switches), np.random.default_rng(0))


def test_a_side_is_near_only_when_headed_for() -> None:
    middle = np.array([1.5, 1.5])
    assert near_sides(Pose(0.5, 0.5, np.radians(225)), middle) == ["left", "bottom"]
    assert near_sides(Pose(0.5, 0.5, np.radians(45)), middle) == []
    assert near_sides(Pose(2.5, 1.5, np.radians(10)), middle) == ["right"]
    assert near_sides(Pose(1.5, 2.5, np.radians(80)), middle) == ["top"]


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
