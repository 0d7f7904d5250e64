"""Scores are accuracies and R^2 by level; their intervals are over seeds and sequences."""

import json

import numpy as np
import pytest
import torch

from wmkit.diagnostics import NOT_ASKED, Sequences, find_tasks
from wmkit.diagnostics.scores import Scores, summarise
from wmkit.files import to_json


def test_wrong_answers_are_counted_by_level_and_what_is_not_asked_is_not() -> None:
    (task,) = find_tasks(["repeat_first"])
    answers = torch.tensor([[NOT_ASKED, 2, 2, 2], [NOT_ASKED, 0, 0, 0]])[..., None]
    levels = torch.tensor([0, 1, 2, 3])[None, :, None].expand(2, 4, 1)  # 0 and 3 are no levels of the task
    said = torch.nn.functional.one_hot(torch.tensor([[1, 2, 3, 3], [1, 0, 0, 1]]), 4)[:, :, None].float()
    scores = Scores.of(task, said, Sequences(answers, answers, levels))
    assert scores.levels == [1, 2]
    assert scores.lost.tolist() == [[0, 1], [0, 0]]
    assert scores.asked.tolist() == [[1, 1], [1, 1]]


def test_the_mean_has_an_r2_of_zero_and_the_truth_of_one() -> None:
    (task,) = find_tasks(["path_integration"])
    truth = task.draw(torch.Generator().manual_seed(0), 64, 32)
    mean = truth.answers.unflatten(1, (4, 8)).mean((0, 2)).repeat_interleave(8, 0).expand_as(truth.answers)  # by level
    for said, r2 in ((truth.answers, 1.0), (mean, 0.0)):
        score, levels = summarise(task, [Scores.of(task, said, truth)], 32)
        assert score.mean == pytest.approx(r2, abs=1e-6)
        assert [level.mean for level in levels.values()] == pytest.approx([r2] * 4, abs=1e-6)


def test_a_capacity_is_the_sum_of_r2_over_delays_each_at_least_zero() -> None:
    (task,) = find_tasks(["memory_capacity"])
    lost = np.tile([0.0] * 10 + [0.5] * 10 + [2.0] * 44, (8, 1))
    score, _ = summarise(task, [Scores(range(1, 65), lost, np.ones_like(lost))], 96)
    assert score.mean == pytest.approx(15)


def test_the_score_of_several_levels_is_the_mean_of_theirs_however_often_each_was_asked() -> None:
    (task,) = find_tasks(["delayed_recall"])
    asked = np.tile([63.0, 62, 60, 56, 48, 40, 32, 16], (8, 1))
    score, _ = summarise(task, [Scores(task.levels, asked * [0, 0, 0, 0, 1, 1, 1, 1], asked)], 64)
    assert score.mean == 0.5


def test_sequences_of_n_lengths_are_judged_at_their_last_steps() -> None:
    (task,) = find_tasks(["parity"])
    assert [task.judged(length) for length in (32, 64, 128)] == [[24, 32], [56, 64], [120, 128]]
    asked = np.ones((4, 8))
    lost = asked * [0, 0, 0, 0, 0, 0, 1, 1]
    score, levels = summarise(task, [Scores(range(8, 65, 8), lost, asked)], 64)
    assert (score.mean, levels[8].mean) == (0, 1)


def test_the_interval_of_several_seeds_holds_what_they_differ_by() -> None:
    (task,) = find_tasks(["repeat_first"])
    right, wrong = (Scores([56, 63], np.full((50, 2), value), np.ones((50, 2))) for value in (0.0, 1.0))
    both, _ = summarise(task, [right, wrong, right], 64)
    assert (round(both.mean, 3), both.high) == (0.667, 1.0)
    assert both.low < 0.4
    alone, _ = summarise(task, [right], 64)
    assert (alone.low, alone.mean, alone.high) == (1, 1, 1)


def test_the_interval_of_one_seed_is_that_of_its_sequences() -> None:
    (task,) = find_tasks(["repeat_first"])
    lost = np.repeat([0.0, 1.0], 50)[:, np.newaxis]
    score, _ = summarise(task, [Scores([63], lost, np.ones_like(lost))], 64)
    assert score.mean == 0.5
    assert score.high - score.low == pytest.approx(2 * 1.96 * 0.05, rel=0.1)  # of a share of one half of 100


def test_scores_that_are_no_numbers_come_back_from_a_file_and_stay_none() -> None:
    (task,) = find_tasks(["path_integration"])
    scores = Scores([24, 32], np.array([[np.nan, 1]]), np.array([[1.0, 4]]))
    again = Scores.from_json(json.loads(to_json(scores.to_json())))
    assert np.array_equal(again.lost, scores.lost, equal_nan=True)
    score, levels = summarise(task, [again], 32)
    assert np.isnan([score.mean, score.low, levels[24].high]).all()
    assert levels[32].mean == 0.75


def test_scores_come_back_from_json() -> None:
    scores = Scores([1, 2], np.array([[0.25, 1], [0, 3]]), np.array([[1.0, 4], [2, 5]]))
    again = Scores.from_json(json.loads(json.dumps(scores.to_json())))
    assert list(again.levels) == [1, 2]
    assert np.array_equal(again.lost, scores.lost)
    assert np.array_equal(again.asked, scores.asked)
