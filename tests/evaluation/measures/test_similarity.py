"""SSIM and PSNR against scikit-image, and the conventions that it does not know."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wmkit.evaluation.measures.similarity import SIMILARITIES, psnr, ssim_gaussian11, ssim_skimage_l2


def videos(channels=1, noise=0.2):
    """Two rows of three frames, 20 x 26: bright squares on black; noise on the prediction, which leaves [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(2, 3, channels, 20, 26, dtype=torch.float64)
    target[..., 4:12, 5:16] = torch.rand(2, 3, channels, 8, 11, generator=generator, dtype=torch.float64)
    prediction = 0.9 * target + noise * torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return prediction, target


def per_frame(function, prediction, target):
    pairs = zip(prediction.flatten(0, 1).numpy(), target.flatten(0, 1).numpy(), strict=True)
    return np.array([np.mean([function(y, x) for x, y in zip(a, b, strict=True)]) for a, b in pairs]).reshape(2, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise", [0.01, 0.2])
def test_the_published_mode_is_scikit_images_with_a_range_of_two(channels, noise):
    prediction, target = videos(channels, noise)
    expected = per_frame(lambda y, x: structural_similarity(y, x, data_range=2.0), prediction, target)
    np.testing.assert_allclose(ssim_skimage_l2(prediction, target).numpy(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise", [0.01, 0.2])
def test_the_gaussian_mode_is_that_of_wang_et_al(channels, noise):
    prediction, target = videos(channels, noise)
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = per_frame(lambda y, x: structural_similarity(y, x.clip(0, 1), **options), prediction, target)
    np.testing.assert_allclose(ssim_gaussian11(prediction, target).numpy(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_is_scikit_images_frame_by_frame(channels):
    prediction, target = videos(channels)
    expected = per_frame(lambda y, x: peak_signal_noise_ratio(y, x, data_range=1.0), prediction, target)
    np.testing.assert_allclose(psnr(prediction, target).numpy(), expected, atol=1e-6, rtol=0)


def test_the_mean_of_psnr_over_frames_is_not_that_of_pooled_frames():
    target = torch.zeros(1, 2, 1, 8, 8)
    prediction = target.clone()
    prediction[0, 0], prediction[0, 1] = 0.001, 0.5
    pooled = -10 * (prediction - target).square().mean().log10()
    assert float(psnr(prediction, target).mean()) > float(pooled) + 20


def test_a_range_of_two_forgives_noise_on_black():
    target = torch.zeros(1, 1, 1, 64, 64)
    target[..., 24:40, 24:40] = 1
    noisy = target + 0.03 * torch.randn(target.shape)
    published, gaussian = (float(mode(noisy, target)) for mode in (ssim_skimage_l2, ssim_gaussian11))
    assert published > gaussian + 0.1


@pytest.mark.parametrize("name", SIMILARITIES)
def test_bytes_count_as_255ths_and_pictures_of_one_row_serve_all(name):
    metric = SIMILARITIES[name]
    target = torch.randint(256, (3, 4, 1, 12, 12), dtype=torch.uint8)
    picture = torch.rand(1, 12, 12)
    expected = metric(picture.expand(3, 4, -1, -1, -1), target.double() / 255)
    torch.testing.assert_close(metric(picture, target), expected)
    assert expected.shape == (3, 4)


@pytest.mark.parametrize(("name", "best"), [("ssim_skimage_l2", 1.0), ("ssim_gaussian11", 1.0), ("psnr", 100.0)])
def test_an_exact_frame_has_the_best_score(name, best):
    target = torch.randint(256, (2, 2, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(SIMILARITIES[name](target, target), torch.full((2, 2), best, dtype=torch.float64))


@pytest.mark.parametrize("name", SIMILARITIES)
def test_how_many_frames_are_worked_on_at_a_time_does_not_matter(name, monkeypatch):
    prediction, target = videos()
    whole = SIMILARITIES[name](prediction, target)
    monkeypatch.setattr("wmkit.evaluation.measures.similarity.FRAMES_AT_ONCE", 4)
    torch.testing.assert_close(SIMILARITIES[name](prediction, target), whole)


def test_frames_that_cannot_be_compared_are_refused():
    target = torch.zeros(1, 2, 1, 8, 8)
    with pytest.raises(ValueError, match="at least 11x11, got a side of 8"):
        ssim_gaussian11(target, target)
    with pytest.raises(ValueError, match=r"prediction: expected \(1, 2, 1, 8, 8\), got \(1, 2, 1, 8, 7\)"):
        psnr(target[..., :7], target)
    with pytest.raises(ValueError, match=r"target: expected \(B, T, C, H, W\)"):
        psnr(target[0], target[0])
