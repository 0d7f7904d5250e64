"""A trained hierarchy with the held-out clips that its world has for it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from wmkit.batch import Batch
from wmkit.config import RunConfig
from wmkit.data import open_source
from wmkit.data.episode import Episode
from wmkit.evaluation.digits.probe import Probe, fit_probe_of_run
from wmkit.evaluation.digits.truth import KEYS
from wmkit.evaluation.held_out import whole_episodes
from wmkit.evaluation.levels.reading import hierarchy_of
from wmkit.evaluation.run import TRAINING_EPISODES, device_for
from wmkit.loading import load, run_config
from wmkit.training.run_folder import check_local_data
from wmkit.world_model import WorldModel


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A run, ready to be looked at."""

    config: RunConfig
    model: WorldModel
    episodes_from: str | None
    """A world or an archive of split `test`; None: the run's world."""

    @classmethod
    def of(cls, run: Path, checkpoint: str, episodes_from: str | None) -> LoadedRun:
        """Loaded from its folder; raises `ValueError` for a run without levels."""
        config = run_config(run)
        check_local_data(run, config.world)
        model = load(run, checkpoint, device=device_for(config))
        hierarchy_of(model)
        return cls(config, model, episodes_from)

    @property
    def world(self) -> str:
        """The name of the run's world."""
        return self.config.world.name

    @property
    def title(self) -> str:
        """What it is, for a figure."""
        strides = ", ".join(map(str, hierarchy_of(self.model).clock.strides))
        return f"{self.world}, levels that tick every {strides} frames"

    @property
    def length(self) -> int:
        """Frames of a clip in training."""
        return clip_length(self.config)

    def clips(self, count: int, length: int, keys: Sequence[str] = ()) -> Batch:
        """Held-out clips, `keys` as extras."""
        return whole_episodes(self.config, self.model, "test", count, length, self.episodes_from, keys)

    @property
    def has_digits(self) -> bool:
        """Whether its clips tell the truth about digits."""
        return set(KEYS) <= self.first_clip.keys()

    @functools.cached_property
    def first_clip(self) -> Episode:
        """The first held-out one, as its source gives it."""
        return open_source(self.episodes_from or self.config.world, seed=self.config.data.seed, split="test").episode(0)

    def training_frames(self, length: int) -> Tensor | None:
        """Frames of the run's world, for a mean image; None where the clips are from elsewhere."""
        if self.episodes_from is not None:
            return None
        return whole_episodes(self.config, self.model, "train", TRAINING_EPISODES, length).image

    def digit_clips(self, count: int, length: int) -> Batch:
        """Held-out clips with the truth about their digits; raises `ValueError` for a world without."""
        if missing := sorted(set(KEYS) - self.first_clip.keys()):
            raise ValueError(
                f"{self.episodes_from or self.world} does not tell {', '.join(missing)}; which digits a level "
                "holds can only be measured in a world of moving digits"
            )
        return self.clips(count, length, KEYS)

    def probe(self, seed: int) -> Probe:
        """What reads digits from frames, fitted to true ones of the training split."""
        return fit_probe_of_run(self.config, seed)


def clip_length(config: RunConfig) -> int:
    """Frames of a clip in training."""
    data = config.data
    whole = data.sampler == "episodes"
    return (data.episode_length or config.world.episode_length) if whole else data.length
