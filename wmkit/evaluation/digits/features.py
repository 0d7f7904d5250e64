"""The probe that reads features, such as [h, z] of one level of a hierarchy: what does this part of the state know?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from wmkit.evaluation.digits.beliefs import PLACES, chart
from wmkit.evaluation.digits.probe import Example, Probe, Reader, fit
from wmkit.evaluation.digits.truth import CLASSES, Digits

STEPS, RATE, ROWS = 1500, 1e-2, 256


class FeatureReader(Reader):
    """Features (N, F), standardised -> beliefs about class and about place, linearly or through one hidden layer."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: Tensor, hidden: int | None) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("std", features.std(0).clamp(min=1e-6))
        width = features.shape[-1]
        deep = [nn.Linear(width, hidden), nn.SiLU()] if hidden else []
        self.layers = nn.Sequential(*deep, nn.Linear(hidden or width, CLASSES + PLACES))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities over classes (N, 10) and over places (N, 100)."""
        logits = self.layers((features - self.mean) / self.std)
        classes, places = logits.split((CLASSES, PLACES), dim=-1)
        return classes.log_softmax(-1), places.log_softmax(-1)

    def beliefs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Reader.beliefs`."""
        classes, places = self(x)
        return classes.exp(), places.exp()

    def loss(self, x: Tensor, truth: Digits, side: int) -> Tensor:
        """See `Reader.loss`."""
        pairs = zip(chart(truth, side), self(x), strict=True)
        return torch.stack([-(true.to(x.device) * log).sum(-1).mean() for true, log in pairs]).sum()


def fit_feature_probe(
    features: Tensor, truth: Digits, side: int, *, hidden: int | None = None, steps: int = STEPS, seed: int = 0
) -> Probe:
    """Fit a probe to features (B, T, F), of which B x T are the examples, on the device where they are.

    truth: `Digits.of` the batch that the features were made from; side: of its pictures; hidden: width of a hidden
    layer, None for a linear probe. A level's [h, z] between its ticks is that of its last tick, so positions at those
    steps are harder to tell: look at the steps where it ticks to ask what it knows at a tick. Fit on some episodes and
    `read` others; the probe itself keeps nothing held out.
    """
    flat = features.detach().flatten(0, 1).float()
    known = Digits(truth.identity.flatten(0, 1), truth.position.flatten(0, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = FeatureReader(flat.cpu(), hidden).to(flat.device)
    return fit(reader, _examples(flat, known, torch.Generator().manual_seed(seed)), side, steps=steps, rate=RATE)


def _examples(features: Tensor, truth: Digits, generator: torch.Generator) -> Iterator[Example]:
    while True:
        rows = torch.randint(len(features), (ROWS,), generator=generator)
        yield features[rows.to(features.device)], Digits(truth.identity[rows], truth.position[rows])
