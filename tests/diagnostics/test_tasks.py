"""Every task asks what it says: answers are compared with slow ones, made row by row."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit.diagnostics import NOT_ASKED, Sequences, Task, all_tasks, find_tasks, register_task
from wmkit.diagnostics.base import MULTIPLES
from wmkit.diagnostics.scores import chance_of
from wmkit.diagnostics.tasks.group_words import GroupWords, group_of
from wmkit.diagnostics.training import held_out


def draw(name: str, rows: int = 5, multiple: int = 1, seed: int = 0) -> tuple[Task, Sequences]:
    (task,) = find_tasks([name])
    return task, task.draw(torch.Generator().manual_seed(seed), rows, multiple * task.length)


@pytest.mark.parametrize("name", all_tasks())
@pytest.mark.parametrize("multiple", MULTIPLES)
def test_sequences_have_the_form_that_the_task_names(name: str, multiple: int) -> None:
    task, drawn = draw(name, 6, multiple)
    inputs, answers = drawn.inputs, drawn.answers
    assert inputs.shape == (6, multiple * task.length, len(task.symbols) or task.numbers)
    assert answers.shape == drawn.levels.shape == (*inputs.shape[:2], task.answers)
    for place, symbols in enumerate(task.symbols):
        assert 0 <= inputs[..., place].min() <= inputs[..., place].max() < symbols
    if task.classes is None:
        assert inputs.dtype == answers.dtype == torch.float32
        assert not answers[:, -1].isnan().any()
    else:
        assert answers.dtype == torch.int64
        assert NOT_ASKED <= answers.min() <= answers.max() < task.classes
        assert (answers != NOT_ASKED).any()
    asked = ~answers.isnan() if task.classes is None else answers != NOT_ASKED
    judged = task.judged(multiple * task.length)
    assert set(judged) & set(drawn.levels[asked].tolist())
    assert set(judged) <= set(task.levels)


@pytest.mark.parametrize("name", all_tasks())
def test_the_same_generator_draws_the_same_sequences(name: str) -> None:
    (first, again, other) = (draw(name, seed=seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.answers.nan_to_num(), again.answers.nan_to_num())
    assert not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize("name", [name for name, task in all_tasks().items() if task.classes])
def test_no_answer_is_more_frequent_than_one_in_so_many_classes(name: str) -> None:
    """At the levels that are judged, of many sequences."""
    task, drawn = draw(name, 600, 2)
    judged = torch.isin(drawn.levels, torch.tensor(task.judged(2 * task.length))) & (drawn.answers != NOT_ASKED)
    answers = drawn.answers[judged]
    most = torch.bincount(answers).max() / len(answers)
    assert task.classes is not None
    assert most < 1 / task.classes + 4 * math.sqrt(1 / task.classes / 600)


def test_values_without_their_keys_are_worth_what_counting_says() -> None:
    """The commonest of 4 values of 4 kinds is right in 53.1 % (136 of 256); of 16 of 8 kinds it is drawn."""
    draws = torch.randint(8, (20000, 16), generator=torch.Generator().manual_seed(0))
    drawn = float(torch.nn.functional.one_hot(draws).sum(1).amax(1).float().mean()) / 16
    for name, expected in (("overwrite", 136 / 256), ("selective_copy", 136 / 256), ("associative_recall", drawn)):
        (task,) = find_tasks([name])
        chance, _ = chance_of(task, held_out(task, 1, 1000))
        assert chance == pytest.approx(expected, abs=0.03), name
    for name in ("parity", "delayed_recall", "path_integration"):
        (task,) = find_tasks([name])
        chance, levels = chance_of(task, held_out(task, 1, 2))
        assert {chance, *levels.values()} == {1 / task.classes if task.classes else 0.0}


def test_the_commonest_newest_value_is_that_of_the_books_so_far() -> None:
    task, drawn = draw("overwrite", 10)
    said = task.unbound(drawn)
    assert said is not None
    for shown, answers in zip(drawn.inputs.tolist(), said[..., 0].tolist(), strict=True):
        book: dict[int, int] = {}
        for (key, value), answer in zip(shown, answers, strict=True):
            if value < 4:
                book[key] = value
            counts = [list(book.values()).count(kind) for kind in range(4)]
            assert answer == counts.index(max(counts))


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("name", all_tasks())
def test_every_length_is_judged_on_as_many_sequences(name: str, multiple: int) -> None:
    (task,) = find_tasks([name])
    truth = held_out(task, multiple, 6)
    asked = ~truth.answers.isnan() if task.classes is None else truth.answers != NOT_ASKED
    judged = torch.isin(truth.levels, torch.tensor(task.judged(multiple * task.length))) & asked
    assert judged.flatten(1).any(1).sum() == 6


def test_the_first_symbol_is_judged_over_the_same_span_at_every_length() -> None:
    (task,) = find_tasks(["repeat_first"])
    spans = [
        [level - multiple * 64 for level in task.judged(multiple * 64) if level < multiple * 64]
        for multiple in MULTIPLES
    ]
    assert spans == [[-24, -16, -8, -1]] * 3


def test_delayed_recall_asks_for_what_was_shown_so_long_ago() -> None:
    task, drawn = draw("delayed_recall")
    shown = drawn.inputs[..., 0]
    for place, delay in enumerate(task.levels):
        assert torch.equal(drawn.answers[:, delay:, place], shown[:, : task.length - delay])
        assert (drawn.answers[:, :delay, place] == NOT_ASKED).all()
        assert (drawn.levels[..., place] == delay).all()


def test_memory_capacity_asks_for_every_delay_once_all_are_there() -> None:
    task, drawn = draw("memory_capacity")
    for delay in task.levels:
        assert torch.equal(drawn.answers[:, 64:, delay - 1], drawn.inputs[:, 64 - delay : task.length - delay, 0])
    assert drawn.answers[:, :64].isnan().all()


def test_the_first_symbol_is_asked_for_at_every_later_step() -> None:
    _, drawn = draw("repeat_first")
    assert (drawn.answers[:, 1:, 0] == drawn.inputs[:, :1, 0]).all()
    assert (drawn.answers[:, 0] == NOT_ASKED).all()
    assert drawn.levels[0, :, 0].tolist() == list(range(64))


def test_selective_copy_says_the_marked_symbols_in_their_order() -> None:
    _, drawn = draw("selective_copy", 20)
    for shown, answers in zip(drawn.inputs[..., 0].tolist(), drawn.answers[..., 0].tolist(), strict=True):
        assert shown[-4:] == [5] * 4
        assert answers[-4:] == [symbol for symbol in shown[:-4] if symbol < 4]
        assert set(answers[:-4]) == {NOT_ASKED}


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_associative_recall_asks_for_every_pair_it_has_shown(multiple: int) -> None:
    _, drawn = draw("associative_recall", 10, multiple)
    for shown, answers, levels in zip(
        drawn.inputs.tolist(), drawn.answers.tolist(), drawn.levels.tolist(), strict=True
    ):
        (pairs,) = {level for (level,) in levels}
        book = {key: value for key, value in shown[:pairs]}  # noqa: C416  a later pair would overwrite
        assert len(book) == pairs
        assert {key for key, _ in shown[pairs : 2 * pairs]} == set(book)
        assert all(sign == 8 for _, sign in shown[pairs:])
        assert [answer for (answer,) in answers] == [NOT_ASKED] * pairs + [book[key] for key, _ in shown[pairs:]]
    assert {16 * multiple} <= set(drawn.levels.flatten().tolist()) <= {4, 8, 16, 32, 64}


def test_overwrite_asks_for_the_newest_value() -> None:
    _, drawn = draw("overwrite", 20)
    overwritten = 0
    for shown, answers in zip(drawn.inputs.tolist(), drawn.answers.tolist(), strict=True):
        book: dict[int, int] = {}
        for (key, value), (answer,) in zip(shown, answers, strict=True):
            if value == 4:
                assert answer == book[key]
            else:
                assert answer == NOT_ASKED
                overwritten += book.get(key, value) != value
                book[key] = value
    assert overwritten > 50


def test_parity_is_that_of_the_bits_so_far() -> None:
    _, drawn = draw("parity")
    for bits, answers in zip(drawn.inputs[..., 0].tolist(), drawn.answers[..., 0].tolist(), strict=True):
        assert answers == [sum(bits[: t + 1]) % 2 for t in range(len(bits))]


@pytest.mark.parametrize(("name", "order", "points"), [("s3", 6, 3), ("a5", 60, 5), ("s5", 120, 5)])
def test_words_are_multiplied_in_their_group(name: str, order: int, points: int) -> None:
    task, drawn = draw(name)
    assert isinstance(task, GroupWords)
    elements, _ = group_of(task.generators)
    assert len(set(elements)) == len(elements) == order == task.classes
    for word, answers in zip(drawn.inputs[..., 0].tolist(), drawn.answers[..., 0].tolist(), strict=True):
        product = tuple(range(points))
        for letter, answer in zip(word, answers, strict=True):
            product = tuple(product[place] for place in task.generators[letter])
            assert elements[answer] == product


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_what_permutations_generate_is_a_group(a: list[int], b: list[int]) -> None:
    elements, table = group_of((tuple(a), tuple(b)))
    assert elements[0] == (0, 1, 2, 3)
    for x, y in itertools.product(elements, repeat=2):
        assert tuple(x[place] for place in y) in set(elements)
    assert [elements[row[0]] for row in table] == [tuple(x[place] for place in a) for x in elements]
    assert 24 % len(elements) == 0


def test_a_path_is_integrated_step_by_step() -> None:
    _, drawn = draw("path_integration")
    for moves, places in zip(drawn.inputs.tolist(), drawn.answers.tolist(), strict=True):
        x = y = heading = 0.0
        for (way, turn), place in zip(moves, places, strict=True):
            heading += turn
            x, y = x + way * math.cos(heading), y + way * math.sin(heading)
            assert place == pytest.approx((x / 4, y / 4), abs=1e-4)


@pytest.mark.usefixtures("echo")
def test_a_task_of_ones_own_has_a_name_of_its_own() -> None:
    assert [task.name for task in find_tasks(["echo"])] == ["echo"]
    with pytest.raises(ValueError, match="'echo' is already registered"):
        register_task("echo")(type("Other", (Task,), {}))
    with pytest.raises(ValueError, match=r"Unknown task 'ecko'\. Did you mean 'echo'\? There are memory_capacity"):
        find_tasks(["ecko"])
