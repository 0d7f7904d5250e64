"""Look Around: a room of four colours, seen by turning."""

import itertools

import numpy as np
import pytest

from wmkit_envs import LookAround, Rooms
from wmkit_envs.maze3d.kinematics import LEFT, RIGHT
from wmkit_envs.maze3d.look_around import DOOR
from wmkit_envs.maze3d.scene import Scene
from wmkit_envs.world import SPLITS, Episode, EpisodeSeed

WORLD = LookAround()


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return [WORLD.generate(seed=0, index=index) for index in range(20)]


def test_the_walker_turns_to_both_sides_and_stays_in_the_middle(episodes: list[Episode]) -> None:
    for episode in episodes:
        assert set(episode["action"][1:].argmax(1)) <= {LEFT, RIGHT}
        np.testing.assert_allclose(episode["agent_pos"], 1.5, atol=0.05)
    shares = np.concatenate([episode["action"][1:, [LEFT, RIGHT]] for episode in episodes]).mean(0)
    assert shares.min() > 0.3


def test_a_turn_to_one_side_takes_four_steps_or_more(episodes: list[Episode]) -> None:
    for episode in episodes:
        actions = episode["action"][1:].argmax(1)
        begins = np.flatnonzero(np.diff(actions)) + 1
        assert (np.diff([0, *begins]) >= 4).all()


def test_four_walls_have_four_colours_that_episodes_draw_anew(episodes: list[Episode]) -> None:
    drawn = []
    for index in range(len(episodes)):
        scene = WORLD.begin(EpisodeSeed(0, "train", index)).scene
        sides = (scene.walls[0, 1:-1], scene.walls[-1, 1:-1], scene.walls[1:-1, 0], scene.walls[1:-1, -1])
        assert all(side[0] == side[2] and side[1] == DOOR for side in sides)
        drawn.append(tuple(int(side[0]) for side in sides))
        assert len(set(drawn[-1])) == 4
    assert len(set(drawn)) > 15
    assert set(np.ravel(drawn)) == set(range(DOOR))


def test_the_context_shows_all_that_the_query_shows(episodes: list[Episode]) -> None:
    for episode in episodes:
        seen = episode["first_seen"][WORLD.context_length :] < WORLD.context_length
        assert seen.mean() > 0.99


def test_no_room_of_one_split_is_in_another_turned_around_or_not() -> None:
    rooms = {
        split: [WORLD.begin(EpisodeSeed(seed, split, index)).scene for seed in range(2) for index in range(150)]
        for split in SPLITS
    }
    drawn = {split: {_content(scene, 0) for scene in scenes} for split, scenes in rooms.items()}
    turned = {
        split: {_content(scene, turns) for scene in scenes for turns in range(4)} for split, scenes in rooms.items()
    }
    for one, other in itertools.permutations(SPLITS, 2):
        assert not drawn[one] & turned[other]
    assert all(len(drawn[split]) > 100 for split in SPLITS)


def _content(scene: Scene, turns: int) -> bytes:
    """Walls and balls of a room that is turned by so many quarters."""
    x, y = scene.objects.T
    for _ in range(turns):
        x, y = 3 - y, x
    return np.rot90(scene.walls, -turns).tobytes() + np.stack([x, y]).tobytes()


def test_mujocos_ball_turns_too_and_its_pictures_are_refused() -> None:
    pytest.importorskip("mujoco")
    episode = LookAround(physics="mujoco", image_size=8).generate(seed=0, length=20)
    np.testing.assert_allclose(episode["agent_dir"], WORLD.generate(seed=0, length=20)["agent_dir"], atol=0.01)
    with pytest.raises(ValueError, match=r"renderer: expected raycast \(MuJoCo's pictures have no doors"):
        LookAround(renderer="mujoco")


def test_two_balls_lie_in_two_of_the_corners(episodes: list[Episode]) -> None:
    places = [frozenset(map(tuple, episode["targets_pos"].tolist())) for episode in episodes]
    assert all(len(place) == 2 for place in places)
    assert set().union(*places) == {(0.5, 0.5), (0.5, 2.5), (2.5, 0.5), (2.5, 2.5)}


def test_plain_walls_show_their_colours_and_patterned_ones_more() -> None:
    """In the row at the camera's height each wall has one colour, darker with the distance: few values in all."""
    plain, patterned = (LookAround(plain=plain, image_size=64).generate(seed=0)["image"] for plain in (True, False))
    at_eye_height = [len(np.unique(image[::10, 26].reshape(-1, 3), axis=0)) for image in (plain, patterned)]
    assert at_eye_height[0] < at_eye_height[1] / 2


def test_plain_walls_are_for_every_ray_cast_world_and_refused_in_mujoco() -> None:
    plain, patterned = (Rooms(plain=plain, image_size=16).generate(seed=0, length=3) for plain in (True, False))
    assert not np.array_equal(plain["image"], patterned["image"])
    np.testing.assert_array_equal(plain["agent_pos"], patterned["agent_pos"])
    with pytest.raises(ValueError, match="plain: expected False with renderer=mujoco"):
        Rooms(plain=True, renderer="mujoco")
