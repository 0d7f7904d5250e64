"""Moving MNIST: what is drawn is what the ground truth says, and the truth obeys the physics."""

import subprocess
import sys

import numpy as np
import pytest

from wmkit_envs import MovingMnist
from wmkit_envs.video.digits import load_digits
from wmkit_envs.video.moving_mnist import FAST, SLOW

ALL = [MovingMnist(speed=speed, side=side) for side in (64, 32) for speed in (1.0, SLOW, FAST)]


def test_an_episode_holds_every_key_in_shape_and_type():
    episode = MovingMnist().generate(seed=0, length=50)
    assert {key: (value.shape, value.dtype.name) for key, value in episode.items()} == {
        "image": ((50, 64, 64, 1), "uint8"),
        "action": ((50, 0), "float32"),
        "reward": ((50,), "float32"),
        "is_first": ((50,), "bool"),
        "is_terminal": ((50,), "bool"),
        "context_length": ((), "int64"),
        "digit_pos": ((50, 2, 2), "float32"),
        "digit_velocity": ((50, 2, 2), "float32"),
        "digit_identity": ((2,), "int64"),
        "digit_source": ((), "int64"),
    }
    assert int(episode["context_length"]) == 36
    assert episode["is_first"].tolist() == [True] + [False] * 49


@pytest.mark.parametrize("world", ALL, ids=lambda world: world.name)
def test_the_picture_is_the_digits_at_their_places_added_and_clipped(world):
    side = world.digit_side
    known = load_digits(None, "test", side)
    for index in range(3):
        episode = world.generate(seed=1, split="test", index=index, length=60)
        corner = np.rint(episode["digit_pos"].astype(np.float64) - side / 2).astype(int)
        remaining = episode["image"][..., 0].astype(int)
        drawn = [_digit_seen_at(known, episode["digit_identity"][k], corner[:, k], remaining) for k in (0, 1)]
        expected = np.zeros_like(remaining)
        for k, image in enumerate(drawn):
            for time, (x, y) in enumerate(corner[:, k]):
                expected[time, y : y + side, x : x + side] += image
        np.testing.assert_array_equal(np.minimum(expected, 255), episode["image"][..., 0])


def _digit_seen_at(known, label, corner, video):
    """The picture of that label which no frame contradicts: nowhere brighter than what is seen there."""
    side = known.image.shape[-1]
    seen = np.min([frame[y : y + side, x : x + side] for frame, (x, y) in zip(video, corner, strict=True)], axis=0)
    fits = (known.image[known.label == label] <= seen).all((1, 2))
    (image,) = known.image[known.label == label][fits]
    return image.astype(int)


@pytest.mark.parametrize("world", ALL, ids=lambda world: world.name)
def test_digits_stay_inside_and_bounce_without_losing_a_step(world):
    half, side = world.digit_side / 2, world.image_shape[1]
    episode = world.generate(seed=2)
    place, velocity = episode["digit_pos"].astype(np.float64), episode["digit_velocity"].astype(np.float64)
    assert len(place) == 1000
    assert place.min() >= half
    assert place.max() <= side - half
    np.testing.assert_allclose(np.abs(velocity), np.broadcast_to(np.abs(velocity[:1]), velocity.shape), atol=1e-6)
    ahead = place[:-1] + velocity[:-1]
    low, high = half, side - half
    reflected = np.where(ahead < low, 2 * low - ahead, np.where(ahead > high, 2 * high - ahead, ahead))
    np.testing.assert_allclose(place[1:], reflected, atol=1e-4)
    turned = np.where(ahead == reflected, velocity[:-1], -velocity[:-1])
    np.testing.assert_allclose(velocity[1:], turned, atol=1e-6)


def test_speeds_are_the_published_ones_times_the_factor():
    speeds = []
    for world in (*ALL[:3], MovingMnist(side=32)):
        velocity = [world.generate(seed=0, index=i, length=1)["digit_velocity"] for i in range(200)]
        speeds.append(np.linalg.norm(velocity, axis=-1).ravel())
    np.testing.assert_allclose(np.unique(speeds[0].round(4)), [2, 3, 4, 5, 6])
    for other, factor in zip(speeds[1:], (1 / 3, 3, 1 / 2), strict=True):
        np.testing.assert_allclose(other, speeds[0] * factor, rtol=1e-5)


def test_every_size_and_speed_shows_the_same_digits_on_the_same_path():
    one, slow, small = (world.generate(seed=4) for world in (ALL[0], ALL[1], MovingMnist(side=32)))
    np.testing.assert_array_equal(one["digit_identity"], slow["digit_identity"])
    np.testing.assert_allclose(slow["digit_pos"][::3], one["digit_pos"][:334], atol=1e-3)
    np.testing.assert_allclose(small["digit_pos"] * 2, one["digit_pos"], atol=1e-4)


def test_the_same_seed_gives_the_same_episode_and_another_does_not():
    draw = {"seed": 5, "split": "valid", "index": 2, "length": 20}
    one, same = (MovingMnist().generate(**draw) for _ in range(2))
    for key, value in one.items():
        np.testing.assert_array_equal(value, same[key])
    for change in ({"seed": 6}, {"index": 3}, {"split": "train"}):
        assert not np.array_equal(MovingMnist().generate(**draw | change)["image"], one["image"])


def test_a_shorter_episode_is_the_beginning_of_the_whole_one():
    whole, short = MovingMnist().generate(seed=3), MovingMnist().generate(seed=3, length=30)
    for key in ("image", "digit_pos", "digit_velocity"):
        np.testing.assert_array_equal(short[key], whole[key][:30])
    assert int(short["context_length"]) == 30


def test_one_digit_or_three_can_be_shown():
    for count in (1, 3):
        episode = MovingMnist(digits=count).generate(seed=0, length=5)
        assert episode["digit_pos"].shape == (5, count, 2)
        assert episode["digit_identity"].shape == (count,)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("side", 48),
        ("digits", 0),
        ("speed", -1),
        ("speed", np.inf),
        ("speed", "slow"),
        ("speeds", ()),
        ("speeds", (-1,)),
    ],
)
def test_settings_that_make_no_world_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"{setting}: expected"):
        MovingMnist(**{setting: value})


def test_making_the_world_does_not_load_the_library_of_digits():
    code = "import sys, wmkit_envs; wmkit_envs.MovingMnist(side=32); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
