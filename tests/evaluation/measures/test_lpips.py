"""LPIPS as a measure: what it reads, and what it does without weights."""

import numpy as np
import pytest
import torch

from wmkit.build import build_world_model
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation import evaluate
from wmkit.evaluation.evaluate import choose, first_of
from wmkit.evaluation.lpips import Lpips
from wmkit.evaluation.measures.base import Setting, all_measures
from wmkit.evaluation.measures.lpips import SqueezeDistance
from wmkit.evaluation.predictors import BEST_OF_N, BLACK, COPY_LAST, IMAGINED, MEAN_IMAGE, OBSERVED, OTHER_CLIP
from wmkit_envs import MovingMnist

CONTEXT, HORIZON = 4, 3
NAMES = ("lpips_alex", "lpips_vgg", "lpips_squeeze")


@pytest.fixture(scope="module")
def clips():
    return next(WholeEpisodes(GeneratedEpisodes(MovingMnist(side=32), seed=0, split="test", length=8), 3))


@pytest.fixture(scope="module")
def model():
    return build_world_model("gru", "tiny", image_shape=(1, 32, 32), action_dim=0)


@pytest.fixture
def published(publish, tmp_path):
    """Random weights of SqueezeNet as the published file has them, and where they are."""
    network = Lpips("squeeze")
    state = {f"features.{name}": value for name, value in network.features.state_dict().items()}
    torch.save(state, tmp_path / "file")
    return network, publish("squeezenet1_1", tmp_path / "file")


def test_lpips_is_measured_frame_by_frame(clips, model, published):
    network, _ = published
    found = evaluate(model, clips, context=CONTEXT, horizon=HORIZON, samples=2, measures=["lpips_squeeze"])
    assert found.measures == ["lpips_squeeze"]
    rows = {OBSERVED, IMAGINED, BEST_OF_N, BLACK, MEAN_IMAGE, COPY_LAST, OTHER_CLIP}
    assert set(found.predictors("lpips_squeeze")) == rows
    measure = SqueezeDistance()
    measure.prepare(Setting(model, CONTEXT, HORIZON, 0, first_of(clips)), None)
    network.heads = measure.distance.heads  # those that were published
    query = clips.image[:, CONTEXT : CONTEXT + HORIZON].flatten(0, 1)
    expected = network(torch.zeros_like(query), query).reshape(3, HORIZON)
    np.testing.assert_allclose(found.values("lpips_squeeze", BLACK), expected.numpy(), rtol=1e-5)
    assert (found.values("lpips_squeeze", BEST_OF_N).mean(1) <= found.values("lpips_squeeze", IMAGINED).mean(1)).all()


def test_another_file_is_refused_before_anything_of_it_is_loaded(clips, model, published, monkeypatch):
    _, place = published
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    with pytest.raises(ValueError, match="its SHA-256 is"):
        evaluate(model, clips, context=CONTEXT, horizon=HORIZON, measures=["lpips_squeeze"])


def test_code_in_a_file_of_weights_is_not_run(publish, tmp_path, model, clips):
    class Code:
        def __reduce__(self):
            return pytest.fail, ("code of the file was run",)

    torch.save({"features.0.weight": Code()}, tmp_path / "file")
    publish("squeezenet1_1", tmp_path / "file")
    with pytest.raises(Exception, match="Weights only load failed"):
        evaluate(model, clips, context=CONTEXT, horizon=HORIZON, measures=["lpips_squeeze"])


def test_without_the_file_a_named_measure_says_what_it_lacks_and_all_leaves_it_out(clips, model, published):
    _, place = published
    setting = Setting(model, CONTEXT, HORIZON, 0, first_of(clips))
    names = [one.name for one in choose(setting, ["all"], whole_episodes=False)]
    assert "lpips_squeeze" in names
    assert not {"lpips_alex", "lpips_vgg", "fvd"} & set(names)
    with pytest.raises(
        ValueError, match=r"'lpips_alex' cannot be taken\. Weights are missing.*alexnet-owt-7be5be79.pth"
    ):
        choose(setting, ["lpips_alex"], whole_episodes=False)
    assert choose(setting, [SqueezeDistance(weights=place)], whole_episodes=False)
    place.unlink()
    with pytest.raises(ValueError, match=r"squeezenet1_1\.pt"):
        choose(setting, ["lpips_squeeze"], whole_episodes=False)


def test_frames_that_are_too_small_for_a_network_have_no_lpips(batch):
    small = build_world_model("gru", "tiny", image_shape=(3, 8, 8), action_dim=3)
    setting = Setting(small, 5, 7, 0, first_of(batch))
    for name in NAMES:
        assert not all_measures()[name]().applies(setting)
        assert not all_measures()[name].by_default
