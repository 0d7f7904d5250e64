"""A claim about a model, and whether it holds."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A claim about the model, whether it holds, and the figures behind it."""

    claim: str
    holds: bool
    figures: str

    def __str__(self) -> str:
        return f"{'yes' if self.holds else 'NO '}  {self.claim}: {self.figures}"
