"""What a model may see before it imagines."""

import dataclasses

import torch

from wmkit.evaluation.rollout import imagine, observe


def look_and_imagine(model, batch):
    """(posterior features of 14 steps, imagined features of the last 6), from one fixed noise."""
    observed = observe(model.eval(), batch, context=8, generator=torch.Generator().manual_seed(0))
    return observed.features, imagine(model, observed, batch.action[:, 8:])


def test_reconstruction_reads_the_query_frames_and_generation_does_not(model, batch):
    changed = batch.image.clone()
    changed[:, 8:] = 255 - changed[:, 8:]
    seen, imagined = look_and_imagine(model, batch)
    seen_changed, imagined_changed = look_and_imagine(model, dataclasses.replace(batch, image=changed))
    assert torch.equal(imagined, imagined_changed)
    assert torch.equal(seen[:, :8], seen_changed[:, :8])
    assert not torch.equal(seen[:, 8:], seen_changed[:, 8:])


def test_generation_does_not_depend_on_actions_to_come(model, batch):
    action = batch.action.clone()
    action[:, 10] = action[:, 10].roll(1, dims=-1)
    _, imagined = look_and_imagine(model, batch)
    _, changed = look_and_imagine(model, dataclasses.replace(batch, action=action))
    assert torch.equal(imagined[:, :2], changed[:, :2])
    assert not torch.equal(imagined[:, 2:], changed[:, 2:])
