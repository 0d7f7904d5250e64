"""KL by speed: means over runs, and whether they move as TALD's Figure 8 says."""

import pytest
import torch

from wmkit.evaluation.levels.kl import LevelKL
from wmkit.evaluation.levels.speeds import SpeedAdaptation, SpeedRun


def run(speed: float, *nats: float) -> SpeedRun:
    return SpeedRun(
        f"{speed:.2f}", speed, LevelKL(torch.tensor([nats, nats]), 32, tuple(4**i for i in range(len(nats))))
    )


def test_levels_that_move_as_published_are_said_to() -> None:
    found = SpeedAdaptation((run(3, 200, 0.1), run(1, 130, 2), run(1 / 3, 85, 12), run(1, 136, 4)))
    assert found.speeds == [1 / 3, 1, 3]
    assert found.means(1) == [85, 133, 200]
    assert found.at(1, 2) == [2, 4]
    assert [verdict.holds for verdict in found.verdicts()] == [True, True]
    assert "85, 133, 200 nats" in str(found.verdicts()[0])
    assert found.to_json()["mean_nats_per_clip"]["level 2"] == pytest.approx([12, 3, 0.1])


def test_runs_that_overlap_between_speeds_do_not_count_as_moving() -> None:
    found = SpeedAdaptation((run(1, 100, 5), run(1, 150, 3), run(3, 140, 4), run(3, 200, 1)))
    assert [verdict.holds for verdict in found.verdicts()] == [False, False]


def test_one_speed_or_unequal_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="at two speeds or more"):
        SpeedAdaptation((run(1, 5, 5), run(1, 6, 6)))
    with pytest.raises(ValueError, match="equally many levels"):
        SpeedAdaptation((run(1, 5), run(3, 6, 6)))
