"""What figures look like: as here, whatever a user's matplotlibrc says; and how the systems in them are told apart."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib

from wmkit.evaluation.predictors import Dash

COLOURS = {
    "page": ("#fbfaf7", "#15181c"),
    "card": ("#ffffff", "#1c2026"),
    "ink": ("#1f2328", "#e7e9ec"),
    "soft": ("#5b6470", "#a0a9b4"),
    "line": ("#e2e0da", "#343a42"),
    "mark": ("#fff6da", "#3a3420"),
    "bad": ("#b3261e", "#ff8a80"),
    "s0": ("#0b6bcb", "#6db3ff"),
    "s1": ("#d1495b", "#ff8b98"),
    "s2": ("#2a8c5f", "#66d19e"),
    "s3": ("#8a4fc9", "#c59bff"),
    "s4": ("#b7791f", "#eab54d"),
    "s5": ("#0f8b99", "#5ed3e0"),
    "s6": ("#c2418f", "#ff8bcb"),
    "s7": ("#6b7280", "#aab2bd"),
}
"""Of a page on a light and on a dark ground; s0, s1, ... are those of systems."""
DASHES: tuple[Dash, ...] = (
    "-",
    (0, (7, 2)),
    (0, (3, 1.5)),
    (0, (7, 2, 1.5, 2)),
    (0, (1.5, 1.5)),
    (0, (10, 3)),
    (0, (5, 1.5, 1.5, 1.5, 1.5, 1.5)),
    (0, (4, 4)),
)
"""Of systems, one for each of their colours; with more systems than that they begin again."""


@contextlib.contextmanager
def own_look(settings: dict[str, Any] | None = None) -> Iterator[None]:
    """Draw and save figures within it, or in a function that it decorates: with matplotlib's defaults and `settings`.

    A user's settings would otherwise count when a figure is made, and again when it is saved: text set by a LaTeX that
    is not there, other sizes, a cut of the margins. Names of runs and archives are text: `$` in them is no mathematics,
    and letters that the font lacks are boxes, nothing to warn of.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        with matplotlib.rc_context({"text.parse_math": False} | (settings or {})):
            yield


@dataclasses.dataclass(frozen=True)
class Look:
    """How one system, or one baseline, is drawn in every figure."""

    colour: str
    """A name of `COLOURS`."""
    dash: Dash = "-"

    @classmethod
    def of_system(cls, number: int) -> Look:
        """The look of the system with this place among those that are compared."""
        place = number % len(DASHES)
        return cls(f"s{place}", DASHES[place])

    @property
    def light(self) -> str:
        """The colour on a light ground; in the finished SVG the page's variable stands in its place."""
        return COLOURS[self.colour][0]
