"""The predictors that evaluations compare: the model in several ways, and baselines. One name, label and line each."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Literal

Dash = str | tuple[int, tuple[float, ...]]
"""A line style of matplotlib."""

OBSERVED = "observed"
"""The model's posterior: it sees every frame, those of the query too."""
IMAGINED = "imagined"
"""The model sees the context, then only the actions."""
SHUFFLED_ACTIONS = "shuffled_actions"
"""As `imagined`, but row i imagines with the actions of row i - 1."""
BEST_OF_N = "best_of_n"
"""Of several imagined futures the best one, chosen per episode and measure by the mean over the query."""
COPY_LAST = "copy_last"
MEAN_IMAGE = "mean_image"
RANDOM_FRAME = "random_frame"
BLACK = "black"
OTHER_CLIP = "other_clip"
TRUE_FRAMES = "true_frames"
"""What happened, judged like a prediction: the ceiling of a measure that reads frames."""
INITIAL_MAP = "initial_map"
"""The view of a walker on the true trajectory who knows the map as it was at first, but not that anything changes."""
MAJORITY = "majority"
"""The answer that is right most often in these very episodes."""
CONSTANT = "constant"


@dataclasses.dataclass(frozen=True)
class Predictor:
    """How a predictor appears in every table and picture."""

    name: str
    label: str
    colour: str
    """For matplotlib."""
    dash: Dash = "-"
    kind: Literal["model", "baseline", "ceiling"] = "baseline"
    """What it depends on: the model in question, nothing but the data, the truth itself."""


_GREY = "0.4"
PREDICTORS = {
    predictor.name: predictor
    for predictor in (
        Predictor(OBSERVED, "observed", "tab:blue", kind="model"),
        Predictor(IMAGINED, "imagined", "tab:orange", kind="model"),
        Predictor(SHUFFLED_ACTIONS, "shuffled actions", "tab:red", kind="model"),
        Predictor(BEST_OF_N, "best of N", "tab:purple", kind="model"),
        Predictor(MEAN_IMAGE, "mean image", _GREY, "--"),
        Predictor(RANDOM_FRAME, "random frame", _GREY, ":"),
        Predictor(COPY_LAST, "last context frame", _GREY, "-."),
        Predictor(BLACK, "black frame", "0.1", (0, (5, 1))),
        Predictor(OTHER_CLIP, "another clip", _GREY, (0, (1, 3))),
        Predictor(INITIAL_MAP, "initial map", "tab:green", "--"),
        Predictor(MAJORITY, "majority", "tab:brown", ":"),
        Predictor(CONSTANT, "constant", "tab:brown", "--"),
        Predictor(TRUE_FRAMES, "true frames", "tab:green", (0, (1, 1)), "ceiling"),
    )
}
"""In the order of tables and legends."""


def predictor(name: str) -> Predictor:
    """The predictor called `name`; one that the table does not know gets a line that depends on its name alone."""
    if name in PREDICTORS:
        return PREDICTORS[name]
    number = zlib.crc32(name.encode())
    colours = ("tab:cyan", "tab:olive", "tab:pink", "tab:gray")
    dashes: tuple[Dash, ...] = ((0, (4, 2)), (0, (3, 1, 1, 1)), (0, (6, 2, 1, 2)))
    return Predictor(name, name.replace("_", " "), colours[number % 4], dashes[number // 4 % 3])


def in_order(names: set[str]) -> list[str]:
    """Those of the table in its order, then the others by name."""
    return [name for name in PREDICTORS if name in names] + sorted(names - PREDICTORS.keys())
