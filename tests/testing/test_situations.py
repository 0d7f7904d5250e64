"""Situations in which `scan` is compared with `step`: every two settings meet, and resets lie where they are named."""

import dataclasses
import itertools

import pytest

from wmkit.testing.situations import CHUNKS, LENGTHS, ROWS, Situation, covering

STARTS = ("none", "initial", "carried", "mixed")
RESETS = ("together", "middle", "last", "adjacent", "every", "chunks")


@pytest.mark.parametrize("resets", [False, True])
def test_every_two_settings_meet(resets):
    chosen = [dataclasses.asdict(situation) for situation in covering(LENGTHS, resets=resets)]
    settings = {"length": LENGTHS, "rows": ROWS, "start": STARTS, "resets": RESETS if resets else ("none", "empty")}
    settings |= dict.fromkeys(("return_state", "gradient", "training", "strided", "jittered"), (False, True))
    assert chosen[0].keys() == settings.keys()
    for a, b in itertools.combinations(settings, 2):
        met = {(one[a], one[b]) for one in chosen}
        assert met == set(itertools.product(settings[a], settings[b])), (a, b)


def test_a_set_is_far_smaller_than_the_product_and_begins_with_the_path_that_trains():
    first, *others = covering(LENGTHS, resets=True)
    assert len(others) < 60
    assert (first.length, first.start, first.return_state, first.gradient, first.training) == (
        64, "none", False, True, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("resets", "length", "expected"),
    [
        ("empty", 5, []),
        ("together", 5, [0, 2]),
        ("middle", 5, [2]),
        ("last", 5, [4]),
        ("adjacent", 9, [3, 4]),
        ("every", 3, [0, 1, 2]),
        ("chunks", 100, sorted({t for chunk in CHUNKS for t in (chunk, 2 * chunk) if t < 100})),
        ("chunks", 1, []),
        ("far", 257, [128, 144, 192, 256]),
    ],
)
def test_resets_lie_where_they_are_named_and_the_middle_of_several_rows_has_few(resets, length, expected):
    marks = Situation(length, 3, resets=resets).is_first()
    assert marks[0].nonzero().flatten().tolist() == expected
    assert marks[2].any() == bool(expected)
    assert marks[1].nonzero().flatten().tolist() == {"together": expected, "far": [192]}.get(resets, [])
    assert Situation(length, 1, resets=resets).is_first()[0].nonzero().flatten().tolist() == expected


def test_a_situation_says_what_it_is():
    said = str(Situation(1, 17, "mixed", "last", return_state=False, gradient=True, training=True, strided=True))
    assert said == (
        "scan of 1 step, 17 rows, from a state with fresh rows beside carried ones, resets: last, return_state=False, "
        "with gradients, in train(), inside prepared(), strided inputs, state and is_first, jittered parameters"
    )
