"""When the collectors of the S4WM data change rooms, where the query begins, and what a teleport takes it back to.

Source: the collectors published with DrStrategy (ahn-ml/drstrategy, memory-maze/data: `two_rooms_reset_3x7_new`,
`four_rooms_reset_7x7_two_traversals_new`, `ten_rooms_reset_7x19_two_traversals_new`; for teleports `*_copy_new` and, of
two for Four Rooms the one with the published lengths, `*_copy_500_new`; `*_test_longer_generation`).
"""

from __future__ import annotations

import dataclasses

Span = tuple[int, int]
"""An integer is drawn uniformly from low..high, both included."""


@dataclasses.dataclass(frozen=True)
class Timetable:
    """All that differs between two walks through the same rooms."""

    context: int
    """Observations before the query: the first of the query is number `context`."""
    query: int
    """Observations of the query."""
    switches: tuple[Span, ...]
    """The step at which each change of rooms begins."""
    copies: Span | None = None
    """The step of the context that a teleport leads back to; None where the query walks on."""

    @property
    def last_step(self) -> int:
        """The step at which the walk ends: the context's last if the rest is a copy."""
        return self.context + (0 if self.copies else self.query) - 1


TWO = Timetable(301, 200, ((80, 100), (180, 200), (300, 300), (380, 400)))
FOUR = Timetable(
    501, 500, ((80, 100), (180, 200), (280, 300), (380, 400), (500, 500), (600, 625), (725, 750), (850, 875))
)
TEN = Timetable(1101, 900, tuple((1100, 1100) if i == 10 else (100 * i + 80, 100 * i + 100) for i in range(19)))
USUAL = {2: TWO, 4: FOUR, 10: TEN}
"""By the number of rooms. The context ends in the room it began in, and the query begins with the way to the next."""
LONGER = {
    2: dataclasses.replace(TWO, query=700, switches=(*TWO.switches, *((480 + i, 500 + i) for i in range(0, 500, 100)))),
    4: dataclasses.replace(
        FOUR, query=1500, switches=(*FOUR.switches, *((975 + i, 1000 + i) for i in range(0, 1000, 125)))
    ),
}
"""The same with a longer query, made for tests only; there is none for Ten Rooms."""
TELEPORT = {
    2: Timetable(150, 101, ((65, 75),), copies=(20, 49)),
    4: Timetable(300, 201, ((65, 75), (140, 150), (215, 225)), copies=(30, 99)),
    10: Timetable(600, 401, tuple((60 * i + 50, 60 * i + 60) for i in range(9)), copies=(50, 199)),
}
"""The context sees every room once; then a teleport."""
