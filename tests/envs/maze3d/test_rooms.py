"""Two, Four and Ten Rooms: geometry, what is drawn in it, and teleports."""

import numpy as np
import pytest

from wmkit_envs import Rooms
from wmkit_envs.maze3d.env import RayEnv
from wmkit_envs.maze3d.kinematics import NOOP
from wmkit_envs.maze3d.rooms import MAPS, draw_rooms
from wmkit_envs.maze3d.scene import Scene
from wmkit_envs.world import Episode

NUMBERS = (2, 4, 10)
SMALL = 8
"""Pixels on a side."""


@pytest.fixture(scope="module")
def scenes() -> dict[int, list[Scene]]:
    rng = np.random.default_rng(0)
    return {number: [draw_rooms(number, rng) for _ in range(40 * number)] for number in NUMBERS}


@pytest.fixture(scope="module", params=NUMBERS)
def teleported(request: pytest.FixtureRequest) -> Episode:
    return Rooms(rooms=request.param, teleport=True, image_size=SMALL).generate(seed=0)


def test_the_layout_of_two_is_two_rooms_of_nine_cells_and_a_doorway(scenes: dict[int, list[Scene]]) -> None:
    np.testing.assert_array_equal(scenes[2][0].layout, [[1] * 7, [1, 1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1]])


@pytest.mark.parametrize(
    ("number", "doorways"),
    [
        (2, {(3, 0)}),
        (4, {(3, 0), (6, 3), (3, 6), (0, 3)}),
        (10, {(3, 0), (7, 2), (11, 0), (15, 2), (18, 3), (15, 4), (11, 6), (7, 4), (3, 6), (0, 3)}),
    ],
)
def test_rooms_are_numbered_along_the_rows_and_joined_by_the_published_doorways(
    number: int, doorways: set[tuple[int, int]], scenes: dict[int, list[Scene]]
) -> None:
    scene = scenes[number][0]
    assert scene.rooms is not None
    columns = max(2, number // 2)
    corners = {room: (4 * (room % columns), 4 * (room // columns)) for room in range(number)}
    for room, (left, bottom) in corners.items():
        assert (scene.rooms[bottom : bottom + 3, left : left + 3] == room).all()
        assert (scene.rooms == room).sum() == 9
        assert scene.layout[bottom : bottom + 3, left : left + 3].all()
    assert {(int(x), int(y)) for y, x in np.argwhere((scene.rooms == -1) & (scene.layout == 1))} == doorways


@pytest.mark.parametrize(("number", "objects", "places", "starts"), [(2, 3, 6, 10), (4, 6, 12, 16), (10, 15, 24, 46)])
def test_every_published_cell_gets_objects_and_starts_and_no_other_does(
    number: int, objects: int, places: int, starts: int, scenes: dict[int, list[Scene]]
) -> None:
    cells = np.array([list(row) for row in MAPS[number].split()])[::-1]
    found = np.concatenate([np.floor(scene.objects).astype(int) for scene in scenes[number]])
    assert all(len(np.unique(scene.objects, axis=0)) == objects for scene in scenes[number])
    assert set(cells[found[:, 1] + 1, found[:, 0] + 1]) == {"o"}
    assert len(np.unique(found, axis=0)) == (cells == "o").sum() == places
    began = {(int(scene.start.x), int(scene.start.y)) for scene in scenes[number]}
    assert {str(cells[y + 1, x + 1]) for x, y in began} == {"s"}
    assert len(began) == (cells == "s").sum() == starts


def test_objects_are_not_placed_in_an_order_that_tells_their_colours(scenes: dict[int, list[Scene]]) -> None:
    first = {tuple(scene.objects[0]) for scene in scenes[2]}
    assert len(first) == 6


@pytest.mark.parametrize("number", NUMBERS)
def test_the_floor_is_the_same_in_rooms_and_doorways(number: int, scenes: dict[int, list[Scene]]) -> None:
    assert not scenes[number][0].floors.any()


def test_touching_an_object_gives_no_reward() -> None:
    assert not Rooms(image_size=SMALL).generate(seed=1)["reward"].any()


def test_the_truth_says_which_room_the_walker_is_in() -> None:
    episode = Rooms(rooms=10, image_size=SMALL).generate(seed=0, length=300)
    x, y = np.floor(episode["agent_pos"]).astype(int).T
    inside = (x % 4 < 3) & (y % 4 < 3)
    np.testing.assert_array_equal(episode["room"], np.where(inside, x // 4 + 5 * (y // 4), -1))
    assert -1 in episode["room"]
    assert episode["room"].dtype == np.int64


def test_the_query_after_a_teleport_repeats_the_context_to_the_bit(teleported: Episode) -> None:
    context, copy = int(teleported["context_length"]), int(teleported["copy_index"])
    query = len(teleported["image"]) - context
    for key, value in teleported.steps.items():
        if key not in ("action", "source_index"):
            np.testing.assert_array_equal(value[context:], value[copy : copy + query], err_msg=key)
    np.testing.assert_array_equal(teleported["action"][context + 1 :], teleported["action"][copy + 1 : copy + query])


def test_one_noop_marks_the_teleport(teleported: Episode) -> None:
    context = int(teleported["context_length"])
    np.testing.assert_array_equal(np.flatnonzero(teleported["action"][:, NOOP]), [context])


def test_the_truth_says_which_observation_a_copy_shows(teleported: Episode) -> None:
    source, context = teleported["source_index"], int(teleported["context_length"])
    np.testing.assert_array_equal(teleported["image"], teleported["image"][source])
    np.testing.assert_array_equal(source[:context], np.arange(context))
    assert source[context] == teleported["copy_index"]


@pytest.mark.parametrize(("number", "low", "high"), [(2, 20, 49), (4, 30, 99), (10, 50, 199)])
def test_teleports_lead_to_the_published_steps(number: int, low: int, high: int) -> None:
    world = Rooms(rooms=number, teleport=True, image_size=SMALL)
    copies = {int(world.generate(seed=0, index=index, length=1)["copy_index"]) for index in range(20)}
    assert low <= min(copies) < max(copies) <= high


@pytest.mark.parametrize("length", [1, 150, 151, 180])
def test_a_shorter_episode_with_a_teleport_is_the_beginning_of_the_whole_one(length: int) -> None:
    world = Rooms(teleport=True, image_size=SMALL)
    whole, short = world.generate(seed=3), world.generate(seed=3, length=length)
    for key, value in short.steps.items():
        np.testing.assert_array_equal(value, whole.steps[key][:length], err_msg=key)
    assert short["copy_index"] == whole["copy_index"]
    assert short["context_length"] == min(length, 150)


def test_a_teleport_is_generated_only() -> None:
    with pytest.raises(ValueError, match=r"ray_two_rooms_teleport has no environment.*generate"):
        RayEnv(Rooms(), teleport=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rooms": 3}, "rooms: expected one of 2, 4, 10, got 3"),
        ({"teleport": 1}, "teleport: expected True or False, got 1"),
        ({"longer": "yes"}, "longer: expected True or False, got 'yes'"),
        ({"rooms": 10, "longer": True}, "longer: expected False with rooms=10"),
        ({"teleport": True, "longer": True}, "longer: expected False with rooms=2, teleport=True"),
    ],
)
def test_settings_that_make_no_rooms_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rooms(**wrong)
