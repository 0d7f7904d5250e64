"""The networks of the published probes, and how they are fitted."""

import numpy as np
import pytest
import torch
from torch import nn

from wmkit.data import Episode
from wmkit.probing import Fit, all_probes, mlp
from wmkit.probing.base import entries_of, width_of
from wmkit.probing.networks import Head, answers, best_constant, fit_head, mean_loss

FEATURES = 2048 + 1024
"""Of the RSSM in Memory Maze's baselines: h, and 32 x 32 classes."""


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_network_of_walls_is_the_published_one() -> None:
    walls = all_probes()["walls"]()
    layout = np.ones((9, 9), np.uint8)
    steps = {"agent_pos": np.full((2, 2), 4.5), "agent_dir": np.array([[1.0, 0.0]] * 2), "reward": np.zeros(2)}
    target = torch.from_numpy(np.array(walls.target(Episode(steps, {"maze_layout": layout}))))
    assert (entries_of(target), width_of(walls, target), walls.inputs) == ((9, 9), 2, ("pose",))
    network = mlp(FEATURES + 4, walls.hidden, 81 * 2)
    assert parameters(network) == 6_473_890
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == ["Linear", "LayerNorm", "ELU"] * 4 + ["Linear"]
    assert {layer.eps for layer in network if isinstance(layer, nn.LayerNorm)} == {1e-3}
    loss = walls.loss(torch.zeros(2, 9, 9, 2), target)
    torch.testing.assert_close(loss.flatten(1).sum(1), torch.full((2,), 81 * float(np.log(2))))  # summed over cells


def test_the_network_of_objects_is_the_published_one() -> None:
    objects = all_probes()["objects"]()
    target = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]]])
    assert (entries_of(target), width_of(objects, target), objects.inputs) == ((3,), 2, ())
    network = mlp(FEATURES, objects.hidden, 3 * 2)
    assert parameters(network) == 1_716_006
    torch.testing.assert_close(objects.loss(torch.zeros(1, 3, 2), target).sum(), torch.tensor(13.0))  # half of 26
    torch.testing.assert_close(objects.score(torch.zeros(1, 3, 2), target), torch.tensor([[25.0, 1.0, 0.0]]))


def test_the_constant_answer_is_the_majority_of_classes_and_the_mean_of_numbers() -> None:
    walls, objects = all_probes()["walls"](), all_probes()["objects"]()
    classes = torch.tensor([[0, 1], [0, 1], [1, 1]])
    assert best_constant(walls, classes, None).argmax(-1).tolist() == [0, 1]
    numbers = torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]]])
    torch.testing.assert_close(best_constant(objects, numbers, None), torch.tensor([[2.0, 4.0]]))


def test_a_fit_is_a_function_of_its_seed_and_leaves_the_global_one_alone() -> None:
    walls = all_probes()["walls"]()
    features, target = torch.randn(40, 3), torch.randint(2, (40, 2))
    constant = best_constant(walls, target, None)
    before = torch.get_rng_state()
    heads = [
        fit_head(walls, (8,), features, features[:, :1], target, None, constant, seed, Fit(steps=4, rows=8))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    weights = [nn.utils.parameters_to_vector(head.parameters()) for head in heads]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_fit_keeps_the_weights_that_are_best_on_what_it_is_not_trained_on() -> None:
    walls = all_probes()["walls"]()
    generator = torch.Generator().manual_seed(0)
    features, target = torch.randn(60, 30, generator=generator), torch.randint(2, (60, 4), generator=generator)
    constant = best_constant(walls, target, None)
    fit = Fit(steps=100, rows=32, rate=1e-2)
    no_inputs = features[:, :0]
    careful = fit_head(walls, (16,), features, no_inputs, target, None, constant, 0, fit, apart=20)
    careless = fit_head(walls, (16,), features[:40], no_inputs[:40], target[:40], None, constant, 0, fit)
    losses = [
        float(mean_loss(walls, answers(head, features, no_inputs)[40:], target[40:], None))
        for head in (careful, careless)
    ]
    at_first = float(mean_loss(walls, constant.expand(20, -1, -1), target[40:], None))
    assert losses[0] <= at_first < losses[1]  # noise: nothing is better than the constant answer


def test_features_that_are_constant_in_training_do_not_blow_up() -> None:
    walls = all_probes()["walls"]()
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    features[:, 1], features[:, 2] = 0.3, 1e-9 * features[:, 2]
    target = torch.randint(2, (50, 1))
    head = Head(walls, (), features, features[:, :0], target, best_constant(walls, target, None))
    assert head.std[1] == 1
    assert head.std[2] > 1e-4


@pytest.mark.long
@pytest.mark.parametrize(("size", "published"), [(9, 80.8), (15, 78.3)])
def test_the_constant_answer_about_3000_mazes_is_the_published_one(size: int, published: float) -> None:
    """The most frequent kind of each cell, in these very mazes (Memory Maze's Table)."""
    from wmkit_envs import RayMaze
    from wmkit_envs.world import EpisodeSeed

    world = RayMaze(size=size)
    layouts = np.stack([world.begin(EpisodeSeed(0, "train", index)).scene.layout for index in range(3000)])
    target = torch.from_numpy(layouts.astype(np.int64))
    walls = all_probes()["walls"]()
    answer = best_constant(walls, target, None)
    accuracy = 100 * float(walls.score(answer.expand(3000, -1, -1, -1), target).mean())
    assert accuracy == pytest.approx(published, abs=0.3)
