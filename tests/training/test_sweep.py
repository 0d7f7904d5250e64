import pytest

from wmkit.training.overrides import expand_sweep


def test_a_sweep_is_every_combination_in_order() -> None:
    assert expand_sweep(["backbone=s4,gru", "train.steps=5", "seed=range(2)"]) == [
        ["backbone=s4", "train.steps=5", "seed=0"],
        ["backbone=s4", "train.steps=5", "seed=1"],
        ["backbone=gru", "train.steps=5", "seed=0"],
        ["backbone=gru", "train.steps=5", "seed=1"],
    ]


@pytest.mark.parametrize("word", ["plugins=[a,b]", "plugins=a,b", "plugins=choice(a,b)"])
def test_a_list_is_one_value_and_plugins_are_one(word: str) -> None:
    assert expand_sweep([word, "seed=0,1"]) == [[word, "seed=0"], [word, "seed=1"]]


def test_quoted_values_stay_quoted() -> None:
    assert expand_sweep(["run_dir='a b',c"]) == [["run_dir='a b'"], ["run_dir=c"]]


def test_a_word_that_is_no_override_is_refused() -> None:
    with pytest.raises(ValueError, match="key=value"):
        expand_sweep(["backbone"])


@pytest.mark.parametrize("word", ["train.lr=interval(0,1)", "backbone=glob(*)"])
def test_values_that_cannot_be_listed_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="expected values with commas between"):
        expand_sweep([word])
