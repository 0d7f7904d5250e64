"""A command made short, to see that it works: with `WMKIT_SHORT=1` in the environment a run takes two steps.

The config of the run holds the numbers that it really had.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from wmkit.config import ModelConfig, RunConfig

SHORT = "WMKIT_SHORT"
SENTENCE = f"{SHORT} is set: two steps at size tiny on a few episodes, to see that the command works"
EPISODES, STEPS = 2, 6
"""Held-out episodes of a shortened evaluation, and of its horizon the steps."""
LONG = 400
"""Steps of a world's episodes from which on they are cut; shorter ones may ask something at their end."""
WIDE = 16
"""Numbers of a config from which on they are sizes, not counts of layers or levels."""


def is_short() -> bool:
    """Whether the environment asks for it."""
    return os.environ.get(SHORT, "").strip().lower() not in ("", "0", "false", "no", "off")


def shortened(config: RunConfig) -> RunConfig:
    """The run with two steps, the sizes of `tiny` and the fewest episodes; what else it is stays."""
    assert config.model is not None, "filled in when the config was made"
    data, evaluation = config.data, config.eval
    if config.world.episode_length >= LONG:  # the same for all systems of a comparison, whatever their samplers
        length = 4 * STEPS if data.episode_length is None else min(data.episode_length, 4 * STEPS)
        data = dataclasses.replace(data, episode_length=length)
        context, horizon = (min(given or STEPS, STEPS) for given in (evaluation.context, evaluation.horizon))
        evaluation = dataclasses.replace(evaluation, context=context, horizon=horizon)
    return dataclasses.replace(
        config,
        size="tiny",
        model=_smaller(config.model, ModelConfig.for_size("tiny")),
        backbone=_smaller(config.backbone, type(config.backbone).for_size("tiny")),
        data=dataclasses.replace(data, batch_size=min(data.batch_size, 2), length=min(data.length, 8), workers=0),
        train=dataclasses.replace(
            config.train, steps=2, minutes=None, warmup=1, log_every=1, eval_every=2, checkpoint_every=2
        ),
        eval=dataclasses.replace(
            evaluation, episodes=EPISODES, batches=1, reward_episodes=6, valid_reward_episodes=EPISODES
        ),
    )


def _smaller(config: Any, tiny: Any) -> Any:
    """The config with every size at most that of `tiny`, which may leave it open."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    wide = [name for name, value in values.items() if type(value) is int and value >= WIDE]
    return dataclasses.replace(config, **{name: min(values[name], getattr(tiny, name) or WIDE) for name in wide})
