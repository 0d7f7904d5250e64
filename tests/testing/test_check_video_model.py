"""`check_video_model` finds each way a video model can break the contract, by the law that forbids it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wmkit import tree
from wmkit.dynamics import Inputs
from wmkit.testing import ContractViolation, check_backbone, check_video_model, examine_video_model
from wmkit.video_models import SvgLp, SvgLpConfig


class Healthy(SvgLp):
    def __init__(self) -> None:
        torch.manual_seed(0)
        config = SvgLpConfig(depth=2, code=3, hidden=3, latent_size=2, past=3)
        super().__init__(config, image_shape=(1, 8, 8), action_dim=2)
        self.initialise()
        self.double()


class ForgetsTheFrameBefore(Healthy):
    """Skips that begin anew with every call."""

    def observe(self, inputs, state=None, **kwargs):
        state = None if state is None else {**state, "frame": torch.zeros_like(state["frame"])}
        return super().observe(inputs, state, **kwargs)


class DrawsWithTheNextFrame(Healthy):
    """Skips of the frame that is to be foretold."""

    def observe(self, inputs, state=None, **kwargs):
        seen, last = super().observe(inputs, state, **kwargs)
        frame = inputs.embed[..., 3:].roll(-1, 1)
        return dataclasses.replace(seen, h=torch.cat([seen.h[..., :3], frame], -1)), last


class KeepsTheFrameOfTheEpisodeBefore(Healthy):
    def observe(self, inputs, state=None, **kwargs):
        seen, last = super().observe(inputs, state, **kwargs)
        before = inputs.embed[..., 3:].roll(1, 1)
        frame = torch.cat([seen.h[:, :1, 3:], before[:, 1:]], 1)
        return dataclasses.replace(seen, h=torch.cat([seen.h[..., :3], frame], -1)), last


class NormalisesOverRows(Healthy):
    """As the released code, whose evaluation stays in train()."""

    def encode(self, image):
        for module in self.modules():
            module.training = isinstance(module, nn.BatchNorm2d)
        embed = super().encode(image)
        self.eval()
        return embed


class DrawsWithoutGradients(Healthy):
    def decode(self, features):
        return super().decode(features.detach())


class SavesHalfPrecision(Healthy):
    def state_dict(self, *args, **kwargs):
        return {name: x.half() for name, x in super().state_dict(*args, **kwargs).items()}


class WritesCallersState(Healthy):
    def imagine(self, action, *, noise, state):
        result = super().imagine(action, noise=noise, state=state)
        state["frame"].mul_(0.5)
        return result


class SkipsOfImaginedFrames(Healthy):
    """They replace those of the last frame that was seen, but only from call to call."""

    def imagine(self, action, *, noise, state):
        h, z, last = super().imagine(action, noise=noise, state=state)
        frame = self.decode(torch.cat([h, z], -1)[:, -1]).flatten(1)
        return h, z, {**last, "frame": frame}


class KlOfTheBatch(Healthy):
    def kl(self, seen, balance, free_bits):
        return {name: term.mean(0) for name, term in super().kl(seen, balance, free_bits).items()}


class StateInHalfPrecision(Healthy):
    def observe(self, *args, **kwargs):
        seen, last = super().observe(*args, **kwargs)
        if torch.is_autocast_enabled("cpu"):
            last = tree.map_tree(lambda x: 1.5 * x.bfloat16() if x.is_floating_point() else x, last)
        return seen, last


class KeepsTheSkipsOnTheModule(Healthy):
    """Features without them: `decode` takes those of whatever was observed last."""

    frame: Tensor | None = None

    def observe(self, inputs, state=None, **kwargs):
        seen, last = super().observe(inputs, state, **kwargs)
        self.frame = seen.h[:1, :1, 3:].detach()
        return seen, last

    def decode(self, features):
        frame = self.frame.expand(*features.shape[:-1], -1) if features.ndim == 3 else features[..., 3 : 3 + 64]
        return super().decode(torch.cat([features[..., :3], frame, features[..., 3 + 64 :]], -1))


class EncodesFloatsOnly(Healthy):
    def encode(self, image):
        return super().encode(image.to(torch.float64))


class DrawsASequenceOnly(Healthy):
    def decode(self, features):
        rows, length, _ = features.shape
        return super().decode(features).reshape(rows, length, *self.image_shape)


class TrainsWithTheLastFrame(Healthy):
    """Skips of the sequence's last frame, which most steps come before."""

    def reconstruct(self, seen, inputs, frames=None):
        h = torch.cat([seen.h[..., :3], inputs.embed[:, -1:, 3:].expand_as(seen.h[..., 3:])], -1)
        return super().reconstruct(dataclasses.replace(seen, h=h), inputs, frames)


class TrainsOnAllFrames(Healthy):
    def reconstruct(self, seen, inputs, frames=None):
        return super().reconstruct(seen, inputs)


class TrainsNothingBeforeTheDecoder(Healthy):
    def reconstruct(self, seen, inputs, frames=None):
        seen = dataclasses.replace(seen, h=seen.h.detach(), z=seen.z.detach())
        return super().reconstruct(seen, inputs, frames)


class TrainsOnNothing(Healthy):
    """With a graph, along which nothing comes."""

    def reconstruct(self, seen, inputs, frames=None):
        return 0 * super().reconstruct(seen, inputs, frames)


class TrainsOnlyWhereAnEpisodeBegins(Healthy):
    def reconstruct(self, seen, inputs, frames=None):
        image = super().reconstruct(seen, inputs, frames)
        return torch.where(inputs.is_first[:, 0, None, None, None, None], image, 0.5)


class DrawsUpsideDownWhereNoEpisodeBegins(Healthy):
    """What the loss compares, in rows that go on."""

    def reconstruct(self, seen, inputs, frames=None):
        image = super().reconstruct(seen, inputs, frames)
        return torch.where(inputs.is_first[:, 0, None, None, None, None], image, image.flip(3))


class TrainsAcrossResets(Healthy):
    """Skips of the context of the sequence's first episode."""

    def reconstruct(self, seen, inputs, frames=None):
        promised = {name: getattr(inputs, name) for name in ("embed", "action", "noise")}
        return super().reconstruct(seen, Inputs(**promised, is_first=0 * inputs.is_first > 0), frames)


BROKEN: dict[Callable[[], Healthy], int] = {
    ForgetsTheFrameBefore: 1,
    DrawsWithTheNextFrame: 2,
    KeepsTheFrameOfTheEpisodeBefore: 3,
    NormalisesOverRows: 4,
    DrawsWithoutGradients: 5,
    SavesHalfPrecision: 6,
    WritesCallersState: 7,
    SkipsOfImaginedFrames: 8,
    KlOfTheBatch: 9,
    StateInHalfPrecision: 10,
    KeepsTheSkipsOnTheModule: 11,
    EncodesFloatsOnly: 11,
    DrawsASequenceOnly: 11,
    TrainsWithTheLastFrame: 12,
    TrainsOnAllFrames: 12,
    TrainsNothingBeforeTheDecoder: 12,
    TrainsOnNothing: 12,
    TrainsOnlyWhereAnEpisodeBegins: 12,
    DrawsUpsideDownWhereNoEpisodeBegins: 12,
    TrainsAcrossResets: 12,
}


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_breach_is_found_by_its_law(cls: Callable[[], Healthy]) -> None:
    with pytest.raises(ContractViolation, match="laws of the video model contract") as caught:
        check_video_model(cls(), laws=[BROKEN[cls]])
    assert caught.value.laws == [BROKEN[cls]]
    assert "crashed" not in str(caught.value) or cls is DrawsASequenceOnly


def test_every_law_has_a_model_that_breaks_it() -> None:
    assert sorted(set(BROKEN.values())) == list(range(1, 13))


def test_a_healthy_one_passes_and_is_not_changed() -> None:
    model = Healthy().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    results = examine_video_model(model)
    assert [result.number for result in results] == list(range(1, 13))
    assert [text for result in results for text in (*result.breaches, *result.notes)] == []
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_video_model(nn.Linear(2, 2)), "expected an instance of a subclass of wmkit.video_models.Video"),
        (lambda: check_video_model(Healthy(), laws=[13]), r"expected laws from 1 to 12, got \[13\]"),
        (lambda: check_video_model(Healthy(), batch_size=1), "batch_size >= 2"),
        (lambda: check_video_model(Healthy().bfloat16()), "float32 or float64"),
        (lambda: check_backbone(SvgLp), "'svg_lp' is a video_model, which .*: use wmkit.testing.check_video_model"),
    ],
)
def test_what_cannot_be_checked_is_refused(check: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check()
