"""Hidden Motion in three dimensions: what rolls where, what the script sees of it, and what can be told from that."""

import dataclasses
import itertools
import math

import gymnasium
import numpy as np
import pytest

from wmkit.probing.view import objects_in_view
from wmkit_envs import RayHiddenMotion
from wmkit_envs.maze3d.hidden_motion import RADIUS
from wmkit_envs.maze3d.kinematics import FORWARD, LEFT, NOOP, RIGHT
from wmkit_envs.maze3d.look_around import DOOR
from wmkit_envs.maze3d.raycast import render
from wmkit_envs.world import SPLITS, Episode, EpisodeSeed

WORLD = RayHiddenMotion(image_size=16)
CONTEXT = WORLD.context_length


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return [WORLD.generate(seed=0, index=index) for index in range(30)]


def angles(episode: Episode) -> np.ndarray:
    """(T, k): where on the circle each ball is, in radians."""
    x, y = np.moveaxis(episode["targets_pos"].astype(np.float64) - 1.5, -1, 0)
    return np.arctan2(y, x)


def test_balls_roll_round_the_middle_at_their_pace_whatever_the_walker_does(episodes: list[Episode]) -> None:
    env = gymnasium.make("wmkit/RayHiddenMotion-v0", image_size=16)
    for index, episode in enumerate(episodes[:5]):
        _, info = env.reset(seed=0, options={"index": index})
        np.testing.assert_allclose(np.hypot(*(episode["targets_pos"] - 1.5).T), RADIUS, atol=1e-5)
        moved = np.diff(np.unwrap(angles(episode), axis=0), axis=0)
        np.testing.assert_allclose(moved, np.broadcast_to(info["targets_circling"], moved.shape), atol=1e-4)
        for step in range(1, 40):
            info = env.step(FORWARD)[4]
            np.testing.assert_array_equal(info["targets_pos"], episode["targets_pos"][step])


def test_periods_and_directions_are_uniform_and_balls_know_nothing_of_each_other() -> None:
    drawn = [WORLD.begin(EpisodeSeed(1, "train", index)).scene.circling for index in range(1500)]
    periods = np.round(2 * math.pi / np.array(drawn)).astype(int)
    ways, counts = np.unique(periods, axis=0, return_counts=True)
    assert len(ways) == 6 * 6
    assert set(np.abs(ways).ravel()) == set(WORLD.periods)
    assert (np.abs(counts - 1500 / 36) < 4.5 * math.sqrt(1500 / 36)).all()


def test_the_walker_turns_and_stands_by_turns_and_stays_in_the_middle(episodes: list[Episode]) -> None:
    for episode in episodes:
        actions = episode["action"][1:].argmax(1)
        assert set(actions) <= {NOOP, LEFT, RIGHT}
        np.testing.assert_allclose(episode["agent_pos"], 1.5, atol=0.05)
        begins = np.flatnonzero(np.diff(actions)) + 1
        runs = np.diff([0, *begins])
        assert (runs >= 4).all()
        assert (runs <= 24).all()
        assert (actions[begins[:-1]] == NOOP).sum() == pytest.approx(len(begins) / 2, abs=1)
    shares = np.concatenate([episode["action"][1:, [NOOP, LEFT, RIGHT]] for episode in episodes]).mean(0)
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.05)


def test_what_the_context_shows_of_a_ball_fits_one_future_only(episodes: list[Episode]) -> None:
    """Of all motions, within three degrees, which are about a pixel."""
    unseen = 0
    for episode in episodes:
        shown, angle, time = objects_in_view(episode), angles(episode), np.arange(WORLD.episode_length)
        for ball in range(WORLD.balls):
            seen = np.flatnonzero(shown[:CONTEXT, ball])
            unseen += len(seen) == 0
            fitting = []
            for period, way in itertools.product(WORLD.periods, (-1, 1)):
                turned = np.exp(1j * (angle[:, ball] - way * 2 * math.pi * time / period))  # constant if it fits
                phase = turned[seen].mean()
                if (np.abs(np.angle(turned[seen] / phase)) < math.radians(3)).all():
                    fitting.append(np.abs(np.angle(turned / phase)).max())
            assert len(fitting) == 1
            assert fitting[0] < 1e-3
    assert unseen == 0


def test_balls_are_out_of_view_most_of_the_time_and_come_back_elsewhere(episodes: list[Episode]) -> None:
    shown = np.stack([objects_in_view(episode) for episode in episodes])
    assert 0.15 < shown[:, CONTEXT:].mean() < 0.3
    for episode, seen in zip(episodes, shown, strict=True):
        for ball in range(WORLD.balls):
            query = episode["targets_pos"][CONTEXT:, ball][seen[CONTEXT:, ball]]
            last = episode["targets_pos"][np.flatnonzero(seen[:CONTEXT, ball])[-1], ball]
            assert len(query) == 0 or np.linalg.norm(query - last, axis=1).max() > 0.5


def test_a_picture_shows_balls_that_lie_where_the_truth_says(episodes: list[Episode]) -> None:
    for index, episode in enumerate(episodes[:3]):
        simulation = WORLD.walk(EpisodeSeed(0, "train", index), WORLD.episode_length)
        scene, poses, shown = simulation.scene, simulation.trajectory().poses, objects_in_view(episode)
        empty = render(dataclasses.replace(scene, objects=np.empty((0, 2))), poses, (16, 16))
        assert (episode["image"] != empty).any((1, 2, 3))[shown.any(1)].all()
        for step in range(0, len(poses), 10):
            lying = dataclasses.replace(scene, objects=episode["targets_pos"][step].astype(np.float64))
            still = render(lying, poses[step : step + 1], (16, 16))[0]
            # the truth has 32 bits
            assert (still == episode["image"][step]).all(-1).mean() > 0.98


def test_the_generated_actions_lead_to_the_generated_episode() -> None:
    episode = WORLD.generate(seed=4, split="test", index=3, length=60)
    env = gymnasium.make("wmkit/RayHiddenMotion-v0", image_size=16)
    image, info = env.reset(seed=4, options={"split": "test", "index": 3})
    for step in range(60):
        if step:
            image, reward, *_, info = env.step(episode["action"][step].argmax())
            assert reward == episode["reward"][step] == 0
        np.testing.assert_array_equal(image, episode["image"][step])
        for key, value in info.items():
            np.testing.assert_array_equal(value, episode[key] if key in episode.constants else episode[key][step])


def test_the_walls_are_those_of_a_room_to_look_around(episodes: list[Episode]) -> None:
    for index, episode in enumerate(episodes[:10]):
        walls = WORLD.begin(EpisodeSeed(0, "train", index)).scene.walls
        sides = (walls[0, 1:-1], walls[-1, 1:-1], walls[1:-1, 0], walls[1:-1, -1])
        assert all(side[0] == side[2] and side[1] == DOOR for side in sides)
        assert len({int(side[0]) for side in sides}) == 4
        assert (episode["first_seen"][CONTEXT:] < CONTEXT).mean() > 0.9


def test_no_room_of_one_split_is_with_the_same_motions_in_another_turned_around_or_not() -> None:
    drawn = {split: {_content(seed, split, index) for seed in range(2) for index in range(150)} for split in SPLITS}
    for one, other in itertools.permutations(SPLITS, 2):
        assert not drawn[one] & drawn[other]
    assert all(len(drawn[split]) > 100 for split in SPLITS)


def _content(seed: int, split: str, index: int) -> bytes:
    """Walls and motions, the same of a room that is turned by quarters."""
    scene = WORLD.begin(EpisodeSeed(seed, split, index)).scene
    assert scene.circling is not None
    return min(np.rot90(scene.walls, turns).tobytes() for turns in range(4)) + scene.circling.tobytes()


def test_settings_change_the_world() -> None:
    world = RayHiddenMotion(balls=3, periods=(12,), image_size=16)
    episode = world.generate(seed=0, length=25)
    assert world.name == "ray_hidden_motion_image_size16_balls3_periods12"
    assert episode["targets_vec"].shape == (25, 3, 2)
    np.testing.assert_allclose(episode["targets_pos"][12:], episode["targets_pos"][:13], atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("balls", 0),
        ("balls", 7),
        ("balls", 1.5),
        ("periods", ()),
        ("periods", 24),
        ("periods", (24, 24)),
        ("periods", (2,)),
        ("renderer", "mujoco"),
    ],
)
def test_settings_that_make_no_world_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{setting}: expected .* got"):
        RayHiddenMotion(**{setting: value})
