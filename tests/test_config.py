import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit import registry
from wmkit.backbones import Backbone, BackboneConfig
from wmkit.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    Rule,
    RunConfig,
    TrainConfig,
    closest,
    differences,
    import_plugins,
    load_config,
    rule_of,
)
from wmkit.registry import get_entry, register_backbone


def test_a_backbone_name_becomes_its_config_for_the_size() -> None:
    config = RunConfig(backbone="gru", size="tiny")
    assert config.backbone == get_entry("gru").config.for_size("tiny")
    assert config.backbone_name == "gru"


def test_the_model_takes_the_numbers_of_the_size() -> None:
    assert RunConfig(backbone="gru", size="tiny").model == ModelConfig.for_size("tiny")


def test_a_given_model_config_is_kept() -> None:
    model = ModelConfig(depth=5)
    assert RunConfig(backbone="gru", model=model).model is model


@pytest.mark.reported(
    "machines", "", "`train.threads=99999`, `data.workers=99999`", "`ValueError`, 1024 and 256 at most"
)
@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (TrainConfig, "steps", 0),
        (TrainConfig, "lr", math.nan),
        (TrainConfig, "lr", 0.0),
        (TrainConfig, "clip", math.inf),
        (TrainConfig, "weight_decay", -1.0),
        (TrainConfig, "weight_decay", math.nan),
        (TrainConfig, "threads", 0),
        (TrainConfig, "threads", 99_999),
        (TrainConfig, "schedule", "linear"),
        (TrainConfig, "precision", "fp16"),
        (TrainConfig, "matmul_precision", "low"),
        (TrainConfig, "device", "gpu"),
        (DataConfig, "sampler", "window"),
        (DataConfig, "batch_size", 0),
        (DataConfig, "episode_length", 0),
        (DataConfig, "workers", -1),
        (DataConfig, "workers", 99_999),
        (EvalConfig, "horizon", 0),
        (EvalConfig, "context", 1),
        (EvalConfig, "episodes", 1),
        (EvalConfig, "reward_episodes", 0),
        (EvalConfig, "valid_reward_episodes", 0),
        (RunConfig, "size", "large"),
        (RunConfig, "seed", -1),
        (RunConfig, "backbone", "grü"),
    ],
)
def test_a_bad_value_is_refused_with_its_key(make: type, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        make(**{field: value})


def test_a_near_miss_is_named() -> None:
    with pytest.raises(ValueError, match="Did you mean 'windows'"):
        DataConfig(sampler="window")
    assert closest("xyz", ["windows"]) == ""


def test_a_config_of_no_registered_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match="registered name or its config"):
        RunConfig(backbone=BackboneConfig())


def test_a_saved_config_loads_equal(tmp_path: Path) -> None:
    config = RunConfig(backbone="gru", size="tiny", data=DataConfig(source="/a/b"), plugins=["json"])
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert load_config(tmp_path / "config.json") == config


@given(seed=st.integers(0, 2**31), lr=st.floats(1e-9, 10.0), threads=st.none() | st.integers(1, 8))
def test_any_config_survives_json(seed: int, lr: float, threads: int | None) -> None:
    config = RunConfig(backbone="gru", seed=seed, train=TrainConfig(lr=lr, threads=threads))
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trian": {}}, "no key 'trian'. Did you mean 'train'"),
        ({"train": {"stps": 3}}, "stps"),
        ({"train": {"steps": "many"}}, "Integer"),
        ({"backbone": {"name": "gur"}}, "Did you mean 'gru'"),
        ({"backbone": {"name": "gru", "hiden": 4}}, "Did you mean 'hidden'"),
    ],
)
def test_a_config_file_with_a_mistake_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RunConfig.from_dict(RunConfig(backbone="gru").to_dict() | change)


def test_a_config_that_names_a_published_world_alone_loads() -> None:
    config = RunConfig(backbone="gru", world="distracting_memory_100")
    assert RunConfig.from_dict(config.to_dict() | {"world": "distracting_memory_100"}) == config


def test_a_config_with_settings_in_the_name_of_its_world_says_what_to_write_where(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(RunConfig(backbone="gru").to_dict() | {"world": "distracting_memory_16_4px"}))
    words = r"""config.json: "world": .*Replace it by .*"name": "distracting_memory", "tile": 8.*name \(16_4px\)"""
    with pytest.raises(ValueError, match=words):
        load_config(path)


@pytest.mark.parametrize("text", [None, "", "{", "\x00", "[]", "{}", '{"backbone": "s4"}', '{"backbone": {}}'])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match="not the config of a run"):
        load_config(path)


def test_differences_are_dotted_and_show_both_values() -> None:
    one = RunConfig(backbone="gru")
    other = dataclasses.replace(one, seed=1, train=TrainConfig(lr=1.0))
    assert differences(one.to_dict(), one.to_dict()) == {}
    assert differences(one.to_dict(), other.to_dict()) == {"seed": (0, 1), "train.lr": (3e-4, 1.0)}


def test_every_key_says_who_may_change_it() -> None:
    sections = (ModelConfig, DataConfig, TrainConfig, EvalConfig)
    for config in (RunConfig, *sections):
        silent = {
            field.name for field in dataclasses.fields(config) if not field.metadata.keys() >= {"resume", "compare"}
        }
        assert silent == ({"data", "train", "eval"} if config is RunConfig else set()), config


def test_a_resumed_run_may_change_only_what_enters_no_number_of_training() -> None:
    values = RunConfig(backbone="gru").to_dict()
    dotted = [f"{key}.{name}" for key, inner in values.items() if isinstance(inner, dict) for name in inner]
    keys = {*dotted, *(key for key, value in values.items() if not isinstance(value, dict))}
    assert {key for key in keys if rule_of(key).resume} == {
        "preset", "resume", "run_dir", "plugins", "data.workers", "train.threads", "train.keep_last",
        "train.checkpoint_every", "model.recompute",
        "eval.episodes", "eval.reward_episodes", "eval.horizon", "data.test_source",
    }  # fmt: skip
    assert {key for key in keys if rule_of(key).compare == "pace"} == {"data.workers", "train.threads"}


def test_beside_a_preset_the_loss_may_be_changed_and_the_network_not() -> None:
    free = {field.name for field in dataclasses.fields(ModelConfig) if rule_of(f"model.{field.name}").preset}
    assert free == {"image_output", "image_loss", "image_std", "kl_balance", "kl_scale", "free_bits", "unimix"}


@pytest.mark.parametrize("key", ["model.depth", "backbone.hidden", "backbone.name", "train.lr", "data.length"])
def test_keys_of_a_system_are_its_own_and_stay_when_it_is_resumed(key: str) -> None:
    assert rule_of(key) == Rule(resume=False, compare="own")


@pytest.mark.parametrize("key", ["seed", "world", "train.steps", "data.source", "eval.context", "train.device"])
def test_what_is_compared_has_the_same_data_budget_and_validation(key: str) -> None:
    assert rule_of(key) == Rule(resume=False, compare="same")


def test_a_key_that_is_not_there_has_no_rule() -> None:
    with pytest.raises(ValueError, match=r"'train.stpes' is no key of a run's config. Did you mean 'steps'\?"):
        rule_of("train.stpes")
    for section in ("train", "model"):
        with pytest.raises(ValueError, match=f"'{section}' is no key"):
            rule_of(section)


def test_a_plugin_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_imported_plugin.py").write_text("seen = True\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    import_plugins(["my_imported_plugin"])
    with pytest.raises(ValueError, match="plugins=my_missing_plugin"):
        import_plugins(["my_missing_plugin"])


@pytest.mark.reported(
    "numbers",
    "Minigrid#509, minerllabs/minerl#14, openai/gym#250, minihack#53",
    "`RunConfig(seed=2**64)`, 1.5, True or text",
    "`ValueError`: a whole number from 0 to 2**64 - 1",
)
@pytest.mark.parametrize("seed", [2**64, -1, 1.5, 2.0, True, "3", None])
def test_a_seed_is_a_whole_number_that_generators_take(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed: expected (a whole number|at least 0|between 0 and 1844674407)"):
        RunConfig(seed=seed)
    for good in (0, np.int64(3), 2**64 - 1):
        config = RunConfig(seed=good)
        torch.manual_seed(config.seed)
        assert json.loads(json.dumps(config.to_dict()))["seed"] == good


@pytest.mark.reported(
    "numbers", "", "NaN or infinity in a setting of one's own backbone or world", "`ValueError` by key, before training"
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_setting_that_json_cannot_hold_is_refused_by_its_key(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @dataclasses.dataclass(kw_only=True)
    class LimitConfig(BackboneConfig):
        limits: list[float] = dataclasses.field(default_factory=lambda: [1.0, 2.0])

    register_backbone("limited", LimitConfig)(Backbone)
    RunConfig(backbone=LimitConfig())
    with pytest.raises(ValueError, match=r"backbone.limits.1: expected a finite number, got -?(nan|inf)"):
        RunConfig(backbone=LimitConfig(limits=[1.0, value]))
