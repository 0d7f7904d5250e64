"""What an open-loop evaluation found: a curve per metric and predictor, with floors; tables and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmkit.evaluation.digits.truth import IDENTITY, POSITION
from wmkit.evaluation.errors import Errors, Estimate
from wmkit.evaluation.ranges import Range, label
from wmkit.evaluation.table import Sheet

GENERATION = "one sample"
TRUE_FRAMES = "true frames"
BLACK, MEAN_IMAGE, COPY_LAST, OTHER_CLIP = "black frame", "mean image", "last context frame", "another clip"
FLOORS = (BLACK, MEAN_IMAGE, COPY_LAST, OTHER_CLIP)
LESS_IS_BETTER = {POSITION}
RANGES: tuple[Range, ...] = ((1, 5), (6, 20), (21, 100), (101, 300), (301, 964))

TITLES = {
    "ssim_skimage_l2": "SSIM, skimage mode: uniform 7x7, L = 2 (as CW-VAE printed)",
    "ssim_gaussian11": "SSIM, Gaussian 11x11, L = 1",
    "psnr": "PSNR in dB, mean over frames",
    IDENTITY: "digits that are named right, read by a probe",
    POSITION: "distance to the digits in pixels, read by a probe",
}


@dataclasses.dataclass(frozen=True)
class VideoEvaluation:
    """Scores of a model's open-loop frames and of the floors, on the same held-out clips."""

    context: int
    """Observed frames."""
    samples: int
    """N of the row `best of N`."""
    curves: Mapping[str, Mapping[str, Errors]]
    """Metric -> predictor -> (clips, H), frame by frame after the context."""
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What else a reader of the figures must know: which digits, which frames the mean image is of."""

    @property
    def clips(self) -> int:
        """How many."""
        return self._any().per_episode.shape[0]

    @property
    def horizon(self) -> int:
        """H."""
        return len(self._any())

    def columns(self) -> list[Range]:
        """`RANGES` up to the horizon."""
        return [(first, min(last, self.horizon)) for first, last in RANGES if first <= self.horizon]

    def at(self, metric: str, predictor: str, steps: Range) -> Estimate:
        """Steps first..last after the context, counted from 1, inclusive; interval over clips."""
        return self.curves[metric][predictor].over(*steps)

    def sheets(self) -> list[Sheet]:
        """One table per metric."""
        return [self._sheet(metric) for metric in self.curves]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; curves hold one number per frame."""
        return {
            "interval": "half_width: 1.96 standard errors over clips (normal approximation)",
            "clips": self.clips,
            "context": self.context,
            "horizon": self.horizon,
            "samples": self.samples,
            "notes": dict(self.notes),
            "table": {m: {p: self._entries(m, p) for p in rows} for m, rows in self.curves.items()},
            "curves": {m: {p: _curve(errors) for p, errors in rows.items()} for m, rows in self.curves.items()},
        }

    def save(self, path: Path) -> None:
        """Write `to_json` to `path`."""
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    def _any(self) -> Errors:
        return next(iter(next(iter(self.curves.values())).values()))

    def _entries(self, metric: str, predictor: str) -> dict[str, dict[str, float]]:
        return {label(steps): dataclasses.asdict(self.at(metric, predictor, steps)) for steps in self.columns()}

    def _sheet(self, metric: str) -> Sheet:
        better = "less" if metric in LESS_IS_BETTER else "more"
        notes = "".join(f" {name}: {text}." for name, text in self.notes.items())
        return Sheet(
            f"{metric}: {TITLES[metric]}; {better} is better",
            f"{self.clips} held-out clips, {self.context} frames seen, {self.horizon} imagined; means over frames and "
            f"clips, ± 1.96 standard errors over clips.{notes}",
            [f"frame {label(steps)}" for steps in self.columns()],
            {
                predictor: [_cell(self.at(metric, predictor, steps)) for steps in self.columns()]
                for predictor in self.curves[metric]
            },
        )


def best_of(samples: int) -> str:
    """The row of the best of N samples, chosen per clip and metric by the mean over its frames."""
    return f"best of {samples} samples"


def _cell(estimate: Estimate) -> tuple[str]:
    return (f"{estimate.mean:.3f} ± {estimate.half_width:.3f}",)


def _curve(errors: Errors) -> dict[str, list[float]]:
    return {"mean": errors.mean().tolist(), "half_width": errors.half_width().tolist()}
