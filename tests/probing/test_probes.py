"""Each shipped probe on the worlds that it is for: targets, delays, where it applies."""

import numpy as np
import pytest
import torch

from wmkit.data import Episode, find_world
from wmkit.probing import all_probes
from wmkit.probing.base import entries_of, width_of
from wmkit.probing.networks import best_constant
from wmkit_envs import DistractingMemory, LookAround, MovingMnist, MultiDoorsKeys, RayHiddenMotion, RayMaze, Rooms

APPLY = {
    RayMaze(image_size=16): {"walls", "seen", "objects", "object_recall", "pose"},
    Rooms(image_size=16): {"walls", "seen", "objects", "object_recall", "pose", "room"},
    LookAround(image_size=16): {"walls", "seen", "objects", "object_recall", "pose", "wall_colors"},
    RayHiddenMotion(image_size=16): {"walls", "seen", "objects", "object_recall", "pose", "wall_colors"},
    MultiDoorsKeys(keys=2, tile=4): {"doors", "inventory", "pose"},
    DistractingMemory(width=8, tile=4): {"sample_color", "pose"},
    MovingMnist(side=32): {"digit", "digit_position"},
}


def first_of(world, length=30) -> Episode:
    made = find_world(world).generate(seed=0, length=min(length, world.episode_length))
    return Episode(dict(made.steps), dict(made.constants))


@pytest.mark.parametrize("world", APPLY, ids=lambda world: world.name)
def test_the_probes_of_a_world_have_targets_delays_scores_and_losses_of_one_shape(world) -> None:
    episode = first_of(world)
    probes = {name: one for name, cls in all_probes().items() if (one := cls()).applies(episode)}
    assert APPLY[world] <= probes.keys()
    assert not {name for name in probes.keys() - APPLY[world] if type(probes[name]).__module__.startswith("wmkit.")}
    for name in APPLY[world]:
        probe = probes[name]
        target = torch.from_numpy(np.array(probe.target(episode)))
        assert len(target) == episode.length
        entries = (episode.length, *entries_of(target))
        delay = probe.delay(episode)
        if delay is not None:
            assert delay.shape == entries
            assert (delay >= -1).all()
        output = torch.zeros(*entries, width_of(probe, target))
        assert probe.loss(output, target).shape == entries
        assert probe.score(output, target).shape == entries
        assert best_constant(probe, target, None).isfinite().all()


def test_a_perfect_answer_has_a_perfect_score() -> None:
    doors, pose = all_probes()["doors"](), all_probes()["pose"]()
    target = torch.tensor([[0, 1], [1, 1]])
    assert doors.score(torch.nn.functional.one_hot(target, 2).float(), target).eq(1).all()
    numbers = torch.randn(3, 4)
    assert pose.score(numbers, numbers).eq(0).all()


def test_the_colours_of_walls_are_those_in_the_picture() -> None:
    """The leftmost column looks 39 degrees to the left of the walker's direction, at the wall ahead or at the next one:
    wherever a style is said to be, there is one hue. The doors in the middles of walls are left out.
    """
    hues: dict[int, list[np.ndarray]] = {}
    for index in range(6):
        episode = LookAround(image_size=32).generate(seed=0, index=index, length=120)
        styles = all_probes()["wall_colors"]().target(episode)
        angle = np.degrees(np.arctan2(*episode["agent_dir"].T[::-1]))
        column = angle - 90 * np.round(angle / 90) + 39
        for wall, middle in ((0, 0), (1, 90)):
            for step in np.flatnonzero((np.abs(column - middle) > 22) & (np.abs(column - middle) < 41)):
                pixel = episode["image"][step, 12, 0].astype(float)
                hues.setdefault(int(styles[step, wall]), []).append(pixel / pixel.sum())
    means = np.array([np.mean(found, axis=0) for found in hues.values()])
    assert len(means) == 7
    assert max(np.abs(np.array(found) - mean).max() for found, mean in zip(hues.values(), means, strict=True)) < 0.02
    apart = np.abs(means[:, None] - means).sum(-1) + np.eye(len(means))
    assert apart.min() > 0.1


def test_digits_are_named_and_found_in_any_order() -> None:
    episode = first_of(MovingMnist(side=32), 3)
    digit, position = all_probes()["digit"](), all_probes()["digit_position"]()
    target = torch.from_numpy(digit.target(episode))
    classes = torch.full((3, 10), -9.0)
    classes[:, episode["digit_identity"]] = 9.0
    assert digit.score(classes, target).eq(1).all()
    flat = torch.zeros(3, 100)
    assert position.loss(flat, target).tolist() == pytest.approx([np.log(100)] * 3, rel=1e-4)
    assert (position.score(flat, target) > 1).all()


def test_the_inventory_is_as_old_as_its_last_change() -> None:
    held = np.zeros((5, 6), np.uint8)
    held[2:, 1] = 1
    episode = Episode({"keys_held": held, "reward": np.zeros(5, np.float32)})
    assert all_probes()["inventory"]().delay(episode)[:, 1].tolist() == [-1, -1, 0, 1, 2]
