"""Who predicts the frames of a query: the model in three ways, and answers that need none. Their names in tables."""

from __future__ import annotations

RECONSTRUCTION = "reconstruction"
GENERATION = "generation"
MISLED = "generation, wrong actions"
"""Row i imagines with the actions of row i - 1."""
MEAN_IMAGE = "mean image"
OTHER_FRAME = "other random frame"
COPY_LAST = "copy last context frame"
FIRST_MAP = "first map, true walk"
"""What a walker sees that knows its way and the map as it was at first, but not that anything changes."""
ROWS = (RECONSTRUCTION, GENERATION, MISLED, MEAN_IMAGE, OTHER_FRAME, COPY_LAST)
"""Those of every world, but `MISLED` where there are no actions; `FIRST_MAP` comes to them in worlds with doors."""
