"""What an evaluation found: the errors by name, tiles and rewards, and the verdicts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from wmkit.evaluation.errors import Errors, Estimate
from wmkit.evaluation.old_predictors import (
    COPY_LAST,
    FIRST_MAP,
    GENERATION,
    MEAN_IMAGE,
    MISLED,
    OTHER_FRAME,
    RECONSTRUCTION,
)
from wmkit.evaluation.ranges import FAR, MIDDLE, RANGES, Range, cut, label
from wmkit.evaluation.rewards import RewardAccuracy
from wmkit.evaluation.tiles import TileAccuracy
from wmkit.evaluation.verdict import Verdict

RECONSTRUCTION_SHARE = 0.40
ACTION_COST = 1.15


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Errors of a model and of the baselines on the same held-out frames, in the unit of `frame_error`."""

    context: int
    """Observed steps before the query."""
    pixels: int
    """C * H * W: divides an error into its per-pixel mean."""
    on_context: dict[str, Errors]
    """(N, C - 1) for reconstruction and mean image: context steps 2..C. Step 1 has no past and may be unmodelled."""
    on_query: dict[str, Errors]
    """(N, H) for each of `ROWS`; reconstruction sees the query frames, the others do not."""
    mean_image_of: str
    """Which frames the mean image is the mean of."""
    on_walk: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    """For each of `on_query` the error up to the last step that changes an episode's view, where the world has doors:
    then the walk is over, and the same picture is easy to get right until the end."""
    tiles: TileAccuracy | None = None
    """Of worlds made of tiles that have doors."""
    rewards: RewardAccuracy | None = None
    """Of models that predict the reward that ends an episode."""

    @property
    def episodes(self) -> int:
        """N, the number of held-out episodes."""
        return self.on_query[GENERATION].per_episode.shape[0]

    @property
    def horizon(self) -> int:
        """H, the number of imagined steps."""
        return len(self.on_query[GENERATION])

    def at(self, name: str, steps: Range) -> Estimate:
        """The error of one row over a range of query steps, cut to the horizon."""
        return self.on_query[name].over(*cut(steps, self.horizon))

    def columns(self, ranges: tuple[Range, ...] = RANGES) -> dict[str, Range]:
        """Headings of the ranges after cutting them to the horizon; equal ones appear once."""
        return {label(steps): steps for steps in (cut(r, self.horizon) for r in ranges)}

    def action_ratio(self, steps: Range = MIDDLE) -> float:
        """Error with another row's actions / error with the true ones: 1 means that the model ignores its actions."""
        return self.at(MISLED, steps).mean / self.at(GENERATION, steps).mean

    def verdicts(self) -> list[Verdict]:
        """What a model that remembers its context and heeds its actions should answer with yes."""
        verdicts = [
            self._reconstructs(),
            self._beats(COPY_LAST, MIDDLE),
            self._beats(OTHER_FRAME, FAR),
            self._beats(MEAN_IMAGE, MIDDLE),
        ]
        if MISLED in self.on_query:
            verdicts.append(self._uses_actions())
        if FIRST_MAP in self.on_query:
            verdicts.append(self._beats(FIRST_MAP, (1, self.horizon)))
        for part in (self.tiles, self.rewards):
            verdicts += part.verdicts() if part is not None else []
        return verdicts

    def _reconstructs(self) -> Verdict:
        """The worst column counts."""
        shares = {"context": self.on_context[RECONSTRUCTION].whole().mean / self.on_context[MEAN_IMAGE].whole().mean}
        for heading, steps in self.columns().items():
            shares[heading] = self.at(RECONSTRUCTION, steps).mean / self.at(MEAN_IMAGE, steps).mean
        claim = f"reconstruction is at most {RECONSTRUCTION_SHARE:.0%} of the mean image's error"
        figures = ", ".join(f"{share:.1%} ({heading})" for heading, share in shares.items())
        return Verdict(claim, max(shares.values()) <= RECONSTRUCTION_SHARE, figures)

    def _beats(self, baseline: str, steps: Range) -> Verdict:
        ours, theirs = self.at(GENERATION, steps).mean, self.at(baseline, steps).mean
        claim = f"generation is below {baseline} at {label(cut(steps, self.horizon))}"
        return Verdict(claim, ours < theirs, f"{ours:.1f} against {theirs:.1f}")

    def _uses_actions(self) -> Verdict:
        ratio = self.action_ratio()
        claim = f"another row's actions cost at least {ACTION_COST - 1:.0%} at {label(cut(MIDDLE, self.horizon))}"
        return Verdict(claim, ratio >= ACTION_COST, f"{ratio - 1:+.1%}")

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; the curves hold one number per step."""
        return {
            "unit": "squared error summed over H, W, C, pixels in [0, 1]; mean over episodes and steps",
            "interval": "half_width: 1.96 standard errors over episodes (normal approximation)",
            "episodes": self.episodes,
            "context": self.context,
            "horizon": self.horizon,
            "pixels": self.pixels,
            "mean_image_of": self.mean_image_of,
            "context_table": {name: self._entry(errors.whole()) for name, errors in self.on_context.items()},
            "query_table": {
                name: {heading: self._entry(self.at(name, steps)) for heading, steps in self.columns().items()}
                for name in self.on_query
            },
            **(
                {"walk_table": {name: self._entry(error) for name, error in self.on_walk.items()}}
                if self.on_walk
                else {}
            ),
            "context_curves": {name: _curve(errors) for name, errors in self.on_context.items()},
            "query_curves": {name: _curve(errors) for name, errors in self.on_query.items()},
            **({"action_ratio": self.action_ratio()} if MISLED in self.on_query else {}),
            **({} if self.tiles is None else {"tile_accuracy": self.tiles.to_json()}),
            **({} if self.rewards is None else {"reward_accuracy": self.rewards.to_json()}),
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts()],
        }

    def save(self, path: Path, **of: str) -> None:
        """Write `to_json` to `path`, after what it is an evaluation `of`."""
        path.write_text(json.dumps(of | self.to_json(), indent=2) + "\n")

    def _entry(self, estimate: Estimate) -> dict[str, float]:
        return {**dataclasses.asdict(estimate), "per_pixel_mean": estimate.mean / self.pixels}


def _curve(errors: Errors) -> dict[str, list[float]]:
    return {"mean": errors.mean().tolist(), "half_width": errors.half_width().tolist()}
