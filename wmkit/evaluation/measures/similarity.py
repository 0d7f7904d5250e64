"""How alike are two frames? SSIM in two named modes, and PSNR; per frame, never pooled over frames.

Two figures called SSIM can differ by 0.25 on the same frames: the window, the data range L and what is done at the
border are conventions. So each mode has a name, and there is none called plain SSIM.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wmkit.batch import Batch
from wmkit.evaluation.estimates import VIDEO_RANGES
from wmkit.evaluation.measures.base import Measure, Prediction, Scores, Setting, register_measure
from wmkit.evaluation.predictors import BEST_OF_N, BLACK, COPY_LAST, IMAGINED, MEAN_IMAGE, OTHER_CLIP
from wmkit.evaluation.record import Metric
from wmkit.networks import to_unit

FRAMES_AT_ONCE = 256
"""Bounds memory."""
SMALLEST_ERROR = 1e-10
"""Mean squared error below which a frame counts as exact: 100 dB, where the formula gives infinity."""


def ssim_skimage_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM as CW-VAE's released code has it: uniform 7x7 window, sample covariance, data range L = 2 -> (B, T) float64.

    What scikit-image 0.18 does when it is given floats and no range; only windows inside the picture count. Pixels in
    [0, 1] have range 1: with L = 2 noise on a black ground costs little, and no figure of this mode may stand beside
    one with L = 1. Predictions are not clipped. Arguments and errors as in `psnr`; frames of at least 7x7.
    """
    weight = torch.full((7,), 1 / 7, dtype=torch.float64)
    return _framewise(lambda x, y: _ssim(x, y, weight, span=2.0, sample=49 / 48), prediction, target)


def ssim_gaussian11(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM as Wang et al. (2004): Gaussian 11x11 window with sigma 1.5, L = 1 -> (B, T) float64.

    Only windows inside the picture count; predictions are clipped to [0, 1], as SRVP's evaluation does. Arguments and
    errors as in `psnr`; frames of at least 11x11.
    """
    distance = torch.arange(-5, 6, dtype=torch.float64)
    weight = torch.exp(-0.5 * (distance / 1.5).square())
    return _framewise(
        lambda x, y: _ssim(x.clamp(0, 1), y, weight / weight.sum(), span=1.0, sample=1.0), prediction, target
    )


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """10 log10(1 / mean squared error) of each frame and channel, then the mean over channels -> (B, T) float64, in dB.

    target (B, T, C, H, W), prediction the same or what broadcasts to it; uint8 in 0..255 or floats in [0, 1]. The mean
    over frames of this is not the PSNR of the mean error, which can be 10 dB lower. Predictions are not clipped. An
    error below 1e-10 counts as 1e-10 (100 dB). Raises `ValueError` for other shapes.
    """

    def of(x: Tensor, y: Tensor) -> Tensor:
        error = (x - y).square().mean((-2, -1)).clamp(min=SMALLEST_ERROR)
        return (-10 * error.log10()).mean(-1)

    return _framewise(of, prediction, target)


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ssim_skimage_l2": ssim_skimage_l2,
    "ssim_gaussian11": ssim_gaussian11,
    "psnr": psnr,
}
_LABELS = {
    "ssim_skimage_l2": "SSIM, skimage mode: uniform 7x7, L = 2 (as CW-VAE printed)",
    "ssim_gaussian11": "SSIM, Gaussian 11x11, L = 1",
    "psnr": "PSNR",
}


@register_measure("similarity")
class Similarity(Measure):
    """SSIM and PSNR of imagined frames, beside baselines that know nothing of motion."""

    order = 30
    metrics = tuple(
        Metric(name, "dB" if name == "psnr" else "1 for equal frames", "higher", label, VIDEO_RANGES)
        for name, label in _LABELS.items()
    )
    predictors = (IMAGINED, BEST_OF_N, BLACK, MEAN_IMAGE, COPY_LAST, OTHER_CLIP)
    by_default = False

    def applies(self, setting: Setting) -> bool:
        """Frames of at least 11x11: the larger window must lie inside."""
        return min(setting.model.image_shape[1:]) >= 11

    def score(self, prediction: Prediction, truth: Batch) -> Scores:
        return {name: function(prediction.frames, truth.image) for name, function in SIMILARITIES.items()}


def _ssim(x: Tensor, y: Tensor, weight: Tensor, span: float, sample: float) -> Tensor:
    """(N,) of frames (N, C, H, W): the mean over places and channels of

    (2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2)),  C1 = (0.01 L)^2, C2 = (0.03 L)^2
    """
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mx, my, xx, yy, xy = (_smoothed(image, weight) for image in (x, y, x * x, y * y, x * y))
    sx, sy, sxy = (sample * (second - first) for second, first in ((xx, mx * mx), (yy, my * my), (xy, mx * my)))
    ratio = (2 * mx * my + c1) * (2 * sxy + c2) / ((mx * mx + my * my + c1) * (sx + sy + c2))
    return ratio.mean((-3, -2, -1))


def _smoothed(image: Tensor, weight: Tensor) -> Tensor:
    """Weighted means over all square windows inside the image: (..., H, W) -> (..., H - n + 1, W - n + 1)."""
    weight, size = weight.to(image.device), len(weight)
    bands = []
    for side in image.shape[-2:]:
        count = side - size + 1
        if count < 1:
            raise ValueError(f"SSIM: expected frames of at least {size}x{size}, got a side of {side}")
        places = torch.arange(count, device=weight.device)[:, None] + torch.arange(size, device=weight.device)
        # (side - n + 1, side): row i holds the weights from place i on.
        bands.append(weight.new_zeros(count, side).scatter_(1, places, weight.expand(count, -1)))
    rows, columns = bands
    return rows @ image @ columns.T


def _framewise(function: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    """`function` of frames (N, C, H, W) in float64, a number each, over all frames -> (B, T)."""
    if target.ndim != 5:
        raise ValueError(f"target: expected (B, T, C, H, W), got {tuple(target.shape)}")
    try:
        prediction = prediction.expand_as(target)
    except RuntimeError as error:
        raise ValueError(f"prediction: expected {tuple(target.shape)}, got {tuple(prediction.shape)}") from error
    pairs = zip(*(torch.split(x.flatten(0, 1), FRAMES_AT_ONCE) for x in (prediction, target)), strict=True)
    parts = [function(to_unit(x, torch.float64), to_unit(y, torch.float64)) for x, y in pairs]
    return torch.cat(parts).reshape(target.shape[:2])
