"""LPIPS against two implementations of others with the same random weights."""

import warnings

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import lpips as others

from wmkit.evaluation.lpips import NETWORKS, Lpips
from wmkit.weights import find_weights


def published(distance: Lpips) -> dict[str, torch.Tensor]:
    """The network's weights under the names of the published file, with an entry of its classifier."""
    found = {f"features.{name}": value for name, value in distance.features.state_dict().items()}
    return found | {"classifier.1.weight": torch.zeros(3)}


def frames(side: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(3, channels, side, side)


@pytest.mark.parametrize("network", NETWORKS)
def test_lpips_equals_that_of_torchmetrics_with_the_same_weights(network, monkeypatch):
    """Whose own tests compare it with the package `lpips`, so that the test below, which needs that package, may be
    skipped; heads of both are those that Zhang et al. published.
    """
    ours = Lpips(network)
    monkeypatch.setattr(others, "_get_tv_model_features", lambda *_: nn.Sequential(*ours.features))
    theirs = others._LPIPS(net=network, pnet_rand=True)
    ours.load_heads(torch.load(find_weights(f"lpips_{network}"), map_location="cpu", weights_only=True))
    x, y = frames(64), frames(64)
    expected = theirs(x, y, normalize=True).flatten()
    torch.testing.assert_close(ours(x, y), expected, rtol=1e-5, atol=1e-7)
    assert (expected > 0.01).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_lpips_equals_the_package_lpips_and_takes_torchvisions_files(network):
    package = pytest.importorskip("lpips")
    models = pytest.importorskip("torchvision").models
    full = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[network](weights=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it asks torchvision in an old way
        theirs = package.LPIPS(net=network, pnet_rand=True, verbose=False)
    for part in theirs.net.children():
        for number, layer in part.named_children():
            layer.load_state_dict(full.features[int(number)].state_dict())
    ours = Lpips(network)
    ours.load_network(full.state_dict())
    ours.load_heads(theirs.state_dict())
    x, y = frames(64), frames(64)
    torch.testing.assert_close(ours(x, y), theirs(x, y, normalize=True).flatten(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("network", NETWORKS)
def test_published_names_lead_to_the_same_distance(network):
    ours, again = Lpips(network), Lpips(network)
    x, y = frames(32), frames(32)
    assert not torch.allclose(ours(x, y), again(x, y))
    again.load_network(published(ours))
    again.load_heads({f"lin{i}.model.1.weight": head[None, :, None, None] for i, head in enumerate(ours.heads)})
    torch.testing.assert_close(again(x, y), ours(x, y))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_smallest_frames_are_the_smallest_that_a_network_takes(network):
    ours, side = Lpips(network), NETWORKS[network].smallest
    assert torch.isfinite(ours(frames(side), frames(side))).all()
    with pytest.raises(ValueError, match=f"at least {side} pixels"):
        ours(frames(side - 1), frames(side - 1))
    with pytest.raises(RuntimeError):  # by itself the network would refuse them too
        nn.Sequential(*ours.features)(frames(side - 1))


def test_grey_frames_count_as_rgb_bytes_as_255ths_and_what_leaves_the_range_is_clamped():
    ours = Lpips("squeeze")
    x, y = (torch.randint(256, (2, 1, 32, 32), dtype=torch.uint8) for _ in range(2))
    expected = ours(x / 255, y / 255)
    torch.testing.assert_close(ours(x, y), expected)
    torch.testing.assert_close(ours(x / 255, y), expected)
    torch.testing.assert_close(ours((x / 255).expand(-1, 3, -1, -1), (y / 255).expand(-1, 3, -1, -1)), expected)
    white = torch.ones(2, 1, 32, 32)
    torch.testing.assert_close(ours(1.5 * white, y), ours(white, y))
    torch.testing.assert_close(ours(x, x), torch.zeros(2))


def test_frames_and_networks_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="expected one of alex, vgg, squeeze, got 'resnet'"):
        Lpips("resnet")
    with pytest.raises(ValueError, match="1 or 3 channels"):
        Lpips("squeeze")(frames(32, 4), frames(32, 4))
