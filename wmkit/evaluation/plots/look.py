"""What figures look like: as here, whatever a user's matplotlibrc says."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib


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
