"""A memory card says what, how long and at what cost, and where it stands; those of wmkit are measured ones."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from wmkit import list_backbones
from wmkit.diagnostics.backbones import find_subject
from wmkit.diagnostics.card import Card, Level, Result, cards_from_json, cards_to_json, shipped_cards, side_by_side
from wmkit.diagnostics.scores import Interval
from wmkit.files import to_json

ROOT = Path(__file__).parents[2]
SHIPPED = shipped_cards()


def exactly(mean: float) -> Interval:
    return Interval(mean, mean - 0.01, mean + 0.01)


def result(task: str, *means: float, levels: tuple[float, ...] = (0.99, 0.95, 0.4, 0.93)) -> Result:
    return Result(
        task=task,
        title=f"the {task}",
        level_name="delay",
        unit="accuracy",
        chance={1: 0.5, 2: 0.5, 4: 0.5},
        best=1.0,
        length=8,
        scores={multiple: exactly(mean) for multiple, mean in zip((1, 2, 4), means, strict=True)},
        sequences={1: 128, 2: 128, 4: 128},
        levels=[Level(2**number, 1, exactly(mean), 0.5) for number, mean in enumerate(levels)],
        seeds=[0],
        steps=[10],
        solved=[False],
    )


def card(name: str, *results: Result) -> Card:
    times = {"1": 10.0, "64": 1234.5}
    costs = {"parameters": 12345, "state_bytes": 256, "microseconds_per_step": times, "frames_per_second": 9876.5}
    return Card(name, f"somewhere:{name}", {"hidden": 3}, 1.0, 64, "a machine", {**costs, "threads": 1}, list(results))


def test_the_longest_delay_is_the_last_before_the_first_that_is_not_sure() -> None:
    assert result("a", 1, 1, 1).longest == 2
    assert result("a", 1, 1, 1, levels=(0.9, 1.0)).longest is None
    assert result("a", 1, 1, 1, levels=(0.91, 1.0)).longest == 2


def test_skill_is_zero_at_chance_and_below_and_one_where_all_is_right() -> None:
    assert result("a", 0.5, 0.5, 0.4).skill == 0
    assert result("a", 1, 1, 1).skill == 1
    assert result("a", 1, 0.75, float("nan")).skill == pytest.approx(0.5)
    known = dataclasses.replace(result("a", 1, 0.7, 0.9), chance={1: 0.5, 2: 0.7, 4: 0.8})
    assert known.skill == pytest.approx((1 + 0 + 0.5) / 3)


def test_the_table_has_every_task_with_chance_and_intervals() -> None:
    capacity = dataclasses.replace(
        result("b", 7, 6, 5),
        unit="sum of R^2",
        chance=dict.fromkeys((1, 2, 4), 0.0),
        best=64.0,
        untrained={m: exactly(3) for m in (1, 2, 4)},
    )
    text = card("own", result("a", 0.991, 0.8, 0.5), capacity).table().markdown()
    assert "| the a | 99.1 ± 1.0 % | 80.0 ± 1.0 % | 50.0 ± 1.0 % | 50 % | delay 2 |" in text
    assert "| the b | 7.00 ± 0.01 | 6.00 ± 0.01 | 5.00 ± 0.01 | 0.0 | - |" in text
    assert "| the b, untrained | 3.00 ± 0.01 | 3.00 ± 0.01 | 3.00 ± 0.01 | 0.0 | - |" in text
    assert "12,345 parameters, 256 bytes of state a row; a step 10 µs of 1 row, 1,234 µs of 64; training 9,876" in text
    assert "1 thread of a machine. 95 % intervals over held-out sequences of one seed alone." in text


def test_a_card_stands_beside_others_by_the_tasks_that_all_have() -> None:
    own = card("own", result("a", 1, 1, 0.5), result("of its own", 1, 1, 1))
    others = {"good": card("good", result("a", 1, 1, 1)), "poor": card("poor", result("a", 0.5, 0.5, 0.5))}
    line = own.standing({**others, "own": own})  # itself does not count
    assert "a mean skill of 0.67 over 1 task and three" in line
    assert line.endswith("number 2 of 3 beside good 1.00, poor 0.00")
    quick = {name: dataclasses.replace(other, effort=0.4, width=32) for name, other in others.items()}
    assert own.standing(quick).endswith(
        "; those had width 32, 1 seed, 40% of the steps, this one width 64, 1 seed, 100% of the steps"
    )
    assert own.standing({}).startswith("There is nothing to stand beside")


def test_a_card_comes_back_from_json() -> None:
    cards = [card("own", result("a", 1, 1, 1)), card("b", dataclasses.replace(result("a", 1, 1, 1), untrained=None))]
    assert list(cards_from_json(json.loads(json.dumps(cards_to_json(cards)))).values()) == cards


def test_what_is_not_a_number_comes_back_from_json_and_is_not_sure() -> None:
    nothing = result("a", 1, 1, float("nan"), levels=(0.99, float("nan"), 0.99))
    (again,) = cards_from_json(json.loads(to_json(cards_to_json([card("own", nothing)])))).values()
    assert math.isnan(again.results[0].scores[4].mean)
    assert again.results[0].longest == 1


def test_cards_side_by_side_have_a_dash_for_what_one_has_not() -> None:
    text = side_by_side([card("x", result("a", 1, 0.5, 0.25)), card("y", result("b", 1, 1, 1))]).markdown()
    assert "| x | 100 50 25 % | - | 256 | 9,876 |" in text
    assert "| y | - | 100 100 100 % | 256 | 9,876 |" in text
    assert "| chance | 50 % | 50 % | - | - |" in text


def test_every_shipped_backbone_has_a_measured_card_of_today_s_numbers() -> None:
    assert sorted(SHIPPED) == list_backbones("backbone")
    for name, shipped in SHIPPED.items():
        subject = find_subject(name)
        assert (shipped.origin, shipped.numbers) == (subject.origin, json.loads(json.dumps(subject.numbers)))
        assert shipped.results


def test_the_page_has_the_table_of_the_shipped_cards() -> None:
    page = (ROOT / "docs" / "diagnostics.md").read_text()
    table = side_by_side(list(SHIPPED.values())).markdown().split("\n\n")[1]
    assert table in page
