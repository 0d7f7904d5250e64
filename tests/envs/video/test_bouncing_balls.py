"""Bouncing Balls: what is drawn is what the truth says, the truth obeys the physics, and boundaries are bounces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit_envs import BouncingBalls, find_world
from wmkit_envs.video.bouncing_balls import COLORS


def test_an_episode_holds_every_key_in_shape_and_type():
    episode = BouncingBalls().generate(seed=0)
    assert {key: (value.shape, value.dtype.name) for key, value in episode.items()} == {
        "image": ((100, 64, 64, 3), "uint8"),
        "action": ((100, 0), "float32"),
        "reward": ((100,), "float32"),
        "is_first": ((100,), "bool"),
        "is_terminal": ((100,), "bool"),
        "context_length": ((), "int64"),
        "boundary": ((100,), "bool"),
        "ball_pos": ((100, 2, 2), "float32"),
        "ball_velocity": ((100, 2, 2), "float32"),
        "ball_color": ((100, 2, 3), "float32"),
    }
    assert int(episode["context_length"]) == 20
    assert episode["is_first"].tolist() == [True] + [False] * 99
    assert find_world("bouncing_balls") == BouncingBalls()


@pytest.mark.parametrize(("side", "balls"), [(64, 2), (32, 1), (16, 3)])
def test_the_picture_is_full_colour_inside_balls_and_black_outside_the_last_one_in_front(side, balls):
    world = BouncingBalls(side=side, balls=balls)
    episode = world.generate(seed=1, split="test")
    radius = world.radius * side / 64
    y, x = np.mgrid[:side, :side] + 0.5
    place = episode["ball_pos"].astype(np.float64)[:, :, None, None]  # (T, K, 1, 1, 2)
    away = np.hypot(x - place[..., 0], y - place[..., 1])  # (T, K, H, W)
    outside, inside = (away > radius + 0.51).all(1), away < radius - 0.51
    assert not episode["image"][outside].any()
    assert outside.any((1, 2)).all()
    for k in range(balls):
        clear = inside[:, k] & (away[:, k + 1 :] > radius + 0.51).all(1)  # (T, H, W), nothing in front
        time, row, column = np.nonzero(clear)
        assert len(time) > 50
        np.testing.assert_array_equal(episode["image"][time, row, column], 255 * episode["ball_color"][time, k])
    assert (inside.sum((2, 3)) > 0).all()
    edge = ~outside & ~inside.any(1)
    assert len(np.unique(episode["image"][edge])) > 20  # a place is seen more finely than to a pixel


@given(
    seed=st.integers(0, 1000),
    balls=st.integers(1, 3),
    radius=st.floats(1, 25),
    speed=st.floats(0, 70),
    turn=st.floats(0, 1),
)
@settings(max_examples=30, deadline=None)
def test_balls_stay_inside_bounce_without_losing_a_step_and_change_colour_there_alone(seed, balls, radius, speed, turn):
    world = BouncingBalls(side=8, balls=balls, radius=radius, speeds=(speed,), turn=turn)
    episode = world.generate(seed=seed)
    place, velocity = (episode[key].astype(np.float64) * 8 for key in ("ball_pos", "ball_velocity"))
    low, room = radius, 64 - 2 * radius
    assert place.min() >= low - 1e-4
    assert place.max() <= low + room + 1e-4
    np.testing.assert_allclose(np.linalg.norm(velocity, axis=-1), speed, atol=1e-4)
    ahead = (place[:-1] + velocity[:-1] - low) / room  # in widths of the room, as if there were no walls
    folded = 1 - np.abs(1 - np.mod(ahead, 2))
    np.testing.assert_allclose(place[1:], low + room * folded, atol=1e-3)
    beside = (np.abs(ahead - np.rint(ahead)) * room < 1e-3).any(-1)  # too near to a wall to tell in float32
    bounced = ((ahead < 0) | (ahead > 1)).any(-1)
    changed = (np.diff(episode["ball_color"], axis=0) != 0).any(-1)
    np.testing.assert_array_equal(changed[~beside], bounced[~beside])
    np.testing.assert_array_equal(episode["boundary"], np.concatenate([[False], changed.any(1)]))


def test_without_noise_a_ball_keeps_its_velocity_between_walls_and_with_it_turns_a_little():
    still = BouncingBalls(turn=0).generate(seed=2)["ball_velocity"]
    np.testing.assert_allclose(np.abs(still), np.broadcast_to(np.abs(still[:1]), still.shape), atol=1e-6)
    turns = []
    for index in range(40):
        episode = BouncingBalls(side=8).generate(seed=0, index=index)
        velocity = episode["ball_velocity"].astype(np.float64)
        angle = np.arctan2(velocity[..., 1], velocity[..., 0])
        turned = (np.diff(angle, axis=0) + np.pi) % (2 * np.pi) - np.pi
        bounced = (np.diff(episode["ball_color"], axis=0) != 0).any(-1)
        turns.append(turned[~bounced])
    every = np.concatenate(turns)
    assert abs(every.mean()) < 0.003
    assert every.std() == pytest.approx(0.05, rel=0.05)


def test_speeds_and_colours_are_drawn_from_those_that_are_named():
    world = BouncingBalls(side=8, speeds=(2, 6), colors=("red", "white", "cyan"))
    episodes = [world.generate(seed=0, index=index) for index in range(50)]
    speed = np.concatenate([np.linalg.norm(one["ball_velocity"][0], axis=-1) for one in episodes])
    np.testing.assert_allclose(np.unique(speed.round(4)), [2 / 8, 6 / 8])
    colors = np.concatenate([one["ball_color"].reshape(-1, 3) for one in episodes])
    named, counts = np.unique(colors, axis=0, return_counts=True)
    assert {tuple(int(part) for part in 255 * one) for one in named} == {COLORS[name] for name in world.colors}
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.04)


def test_there_are_three_or_four_boundaries_in_twenty_steps():
    world = BouncingBalls(side=8)
    counts = [world.generate(seed=0, index=index, length=21)["boundary"].sum() for index in range(300)]
    assert 3 < np.mean(counts) < 4


def test_every_size_shows_the_same_balls_on_the_same_path():
    large, small = (BouncingBalls(side=side).generate(seed=4) for side in (64, 16))
    np.testing.assert_allclose(small["ball_pos"] * 4, large["ball_pos"], atol=1e-4)
    for key in ("ball_color", "boundary"):
        np.testing.assert_array_equal(small[key], large[key])


def test_the_same_seed_gives_the_same_episode_and_another_does_not():
    draw = {"seed": 5, "split": "valid", "index": 2, "length": 20}
    one, same = (BouncingBalls().generate(**draw) for _ in range(2))
    for key, value in one.items():
        np.testing.assert_array_equal(value, same[key])
    for change in ({"seed": 6}, {"index": 3}, {"split": "train"}):
        assert not np.array_equal(BouncingBalls().generate(**draw | change)["image"], one["image"])


@pytest.mark.parametrize("length", [1, 2, 15, 99])
def test_a_shorter_episode_is_the_beginning_of_the_whole_one(length):
    world = BouncingBalls(balls=3)
    whole, short = world.generate(seed=3), world.generate(seed=3, length=length)
    for key, value in short.steps.items():
        np.testing.assert_array_equal(value, whole[key][:length])
    assert int(short["context_length"]) == min(20, length)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("side", 7),
        ("side", 1025),
        ("balls", 0),
        ("radius", 0),
        ("radius", 32),
        ("radius", "large"),
        ("speeds", ()),
        ("speeds", (-1,)),
        ("speeds", 3),
        ("turn", -0.1),
        ("turn", np.inf),
        ("colors", ("red",)),
        ("colors", ("red", "red")),
        ("colors", ("red", "mauve")),
        ("colors", "red"),
    ],
)
def test_settings_that_make_no_world_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"{setting}: expected"):
        BouncingBalls(**{setting: value})
