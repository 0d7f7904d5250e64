"""Names of backbones: how they are given, refused and looked up."""

import dataclasses
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from wmkit import BackboneConfig, list_backbones, register_backbone, registry
from wmkit.backbones import GRU, GRUConfig
from wmkit.registry import entry_of, entry_of_parent, get_entry


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@dataclasses.dataclass(kw_only=True)
class MineConfig(BackboneConfig):
    depth: int = 2


def test_a_registered_class_is_found_by_name_class_config_and_instance() -> None:
    @register_backbone("mine", MineConfig)
    class Mine(nn.Module):
        pass

    entry = get_entry("mine")
    assert (entry.name, entry.cls, entry.config, entry.kind) == ("mine", Mine, MineConfig, "backbone")
    assert all(entry_of(part) is entry for part in (Mine, MineConfig, Mine(), MineConfig(depth=5)))
    assert entry.origin.endswith("<locals>.Mine")


def test_what_is_not_registered_has_no_entry() -> None:
    assert entry_of(nn.Linear(1, 1)) is None
    assert entry_of(MineConfig) is None


@pytest.mark.parametrize("default", [Path("/data"), torch.float32, print, [Path("/data")]])
def test_a_config_that_no_file_can_hold_is_refused_with_the_field(default: object) -> None:
    made = dataclasses.make_dataclass(
        "PathConfig",
        [("place", object, dataclasses.field(default_factory=lambda: default))],
        bases=(BackboneConfig,),
        kw_only=True,
    )
    with pytest.raises(ValueError, match=r"'mine', PathConfig\): the default of place is a .*a path is a str"):
        register_backbone("mine", made)


def test_a_class_without_a_name_has_the_entry_of_the_class_it_extends() -> None:
    class Child(GRU):
        pass

    assert entry_of_parent(type("Grandchild", (Child,), {})) is get_entry("gru")
    assert entry_of_parent(nn.Linear) is None


def test_kinds_are_listed_apart() -> None:
    register_backbone("ticks", MineConfig, kind="dynamics")(nn.Identity)
    assert "ticks" in list_backbones()
    assert "ticks" in list_backbones("dynamics")
    assert "ticks" not in list_backbones("backbone")
    assert list_backbones() == sorted(list_backbones())


def test_a_duplicate_name_is_refused_and_the_first_one_stays() -> None:
    with pytest.raises(ValueError, match=r"'gru' is already registered by wmkit.backbones.gru:GRU"):
        register_backbone("gru", MineConfig)(nn.Identity)
    assert get_entry("gru").cls is GRU


def test_a_config_class_names_one_backbone_only() -> None:
    with pytest.raises(ValueError, match="GRUConfig already configures 'gru'"):
        register_backbone("other", GRUConfig)(nn.Identity)


def test_an_unknown_name_is_answered_with_the_closest_and_the_list() -> None:
    with pytest.raises(ValueError, match=r"'transformer-xl'. Did you mean 'transformer_xl'\?.*gru, .*transformer_xl"):
        get_entry("transformer-xl")
    with pytest.raises(ValueError, match=r"Unknown backbone 'zzzz'\. Registered:"):
        get_entry("zzzz")


@pytest.mark.parametrize("config", [dict, 3, MineConfig()])
def test_a_config_must_be_a_dataclass(config: object) -> None:
    with pytest.raises(ValueError, match="expected a dataclass as config"):
        register_backbone("mine", config)


@pytest.mark.parametrize(("kind", "needs"), [("backbone", "for_size and input_dim"), ("dynamics", "has for_size;")])
def test_a_config_without_numbers_per_size_is_refused(kind: registry.Kind, needs: str) -> None:
    @dataclasses.dataclass
    class Plain:
        depth: int = 2

    with pytest.raises(ValueError, match=rf"{needs}.*subclass of wmkit.BackboneConfig"):
        register_backbone("plain", Plain, kind=kind)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is one of backbone, dynamics, video_model, got 'backbones'"):
        register_backbone("mine", MineConfig, kind="backbones")


def test_every_field_of_a_config_needs_a_default() -> None:
    @dataclasses.dataclass
    class Open:
        depth: int
        sizes: list[int] = dataclasses.field(default_factory=list)

    with pytest.raises(ValueError, match=r"every field needs a default, missing for \['depth'\]"):
        register_backbone("open", Open)


def test_entry_points_of_installed_packages_are_imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    groups = []

    def entry_points(group: str) -> list[SimpleNamespace]:
        groups.append(group)
        return [SimpleNamespace(load=lambda: loaded.append(register_backbone("theirs", MineConfig)(nn.Identity)))]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    registry.load_entry_points.cache_clear()
    assert get_entry("theirs").cls is nn.Identity
    assert "theirs" in list_backbones()
    assert groups == ["wmkit.backbones"]
    assert len(loaded) == 1


def test_an_entry_point_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(group: str) -> list[metadata.EntryPoint]:
        return [metadata.EntryPoint("theirs", "wmkit_no_such_module", group)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    registry.load_entry_points.cache_clear()
    with pytest.raises(
        ValueError, match=r"theirs = wmkit_no_such_module of group wmkit.backbones does not load: Module"
    ):
        list_backbones()
    monkeypatch.undo()
    assert "gru" in list_backbones()
