"""`--help` of a recipe: its page, what can be chosen, and a sentence for each key."""

import dataclasses
import re
from typing import Any

import pytest

from wmkit.config import RunConfig
from wmkit.data import find_world, list_worlds
from wmkit.presets import PRESETS
from wmkit.registry import all_entries, list_backbones
from wmkit.training.help import describe_keys, field_sentences, recipe_help

SECTIONS = {"model", "data", "train", "eval"}
PARTS = [type(getattr(RunConfig(), name)) for name in sorted(SECTIONS)]
WORLDS = sorted({type(find_world(name)) for name in list_worlds()}, key=lambda cls: cls.__name__)
CONFIGS = [RunConfig, *PARTS, *(entry.config for entry in all_entries().values()), *WORLDS]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_key_says_what_it_means(config: type[Any]) -> None:
    silent = {field.name for field in dataclasses.fields(config)} - field_sentences(config).keys()
    assert not silent - SECTIONS, "a field without a string below it"


def test_the_page_comes_first_then_the_usage_the_choices_and_every_key_once() -> None:
    page = recipe_help("The maze.\n\n    python maze.py\n", "usage: python maze.py", RunConfig(backbone="gru"))
    assert page.startswith("The maze.\n\n    python maze.py\n\nusage: python maze.py\n")
    listed = " ".join(page.split())
    for names in (list_backbones(), PRESETS, ["ray_two_rooms"]):
        assert all(re.search(rf"(is one of|,) {re.escape(name)}\b", listed) for name in names)
    keys = re.findall(r"^  ([\w.]+)=", page, flags=re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert {"seed", "backbone.hidden", "model.depth", "data.length", "train.lr", "eval.context"} <= set(keys)


def test_a_key_stands_with_its_default_above_its_sentence() -> None:
    text = describe_keys(RunConfig(backbone="gru"))
    assert "\n  train.lr=0.0003\n      Peak learning rate; parameters with a hint" in text
    assert "\nbackbone=gru: Numbers of a `GRU`." in text
    assert "\n  train.minutes=null\n" in text


def test_keys_that_are_set_elsewhere_are_left_out() -> None:
    text = describe_keys(RunConfig(backbone="gru"), without=("seed", "train.lr"))
    assert "  seed=" not in text
    assert "train.lr" not in text
    assert "train.steps" in text


def test_a_class_without_source_has_no_sentences() -> None:
    assert field_sentences(dataclasses.make_dataclass("Typed", [("depth", int, 3)])) == {}


@pytest.mark.reported(
    "friction", "", "`--help` of a recipe", "every key with its default, its meaning, unit and choices"
)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_a_key_of_a_few_values_names_all_of_them(part: type[Any]) -> None:
    sentences = field_sentences(part)
    refused = {}
    for field in dataclasses.fields(part):
        try:
            part(**{field.name: "nonsense"})
        except (ValueError, TypeError) as error:
            refused[field.name] = re.search(r"expected one of (.*), got 'nonsense'", str(error))
    choices = {name: found[1].split(", ") for name, found in refused.items() if found}
    assert choices or part.__name__ in ("EvalConfig",)
    for name, values in choices.items():
        assert not [value for value in values if value not in sentences[name]], name
