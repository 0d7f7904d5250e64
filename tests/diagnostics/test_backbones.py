"""What is diagnosed: a name, a config, a class of one's own, at one small width."""

import dataclasses

import pytest
import torch
from torch import nn

from wmkit import Backbone, BackboneConfig, list_backbones, register_backbone, registry, tree
from wmkit.backbones import GRUConfig
from wmkit.diagnostics import find_tasks
from wmkit.diagnostics.backbones import find_subject
from wmkit.diagnostics.costs import measure_costs
from wmkit.diagnostics.network import Network

SHIPPED = list_backbones("backbone")


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("width", [32, 64])
def test_every_shipped_backbone_has_the_width_that_is_asked_for(name: str, width: int) -> None:
    backbone = find_subject(name, width=width).make()
    assert (backbone.input_dim, backbone.feature_dim) == (width, width)


def test_at_width_64_all_are_of_one_order_of_parameters() -> None:
    numbers = {name: sum(p.numel() for p in find_subject(name).make().parameters()) for name in SHIPPED}
    assert max(numbers.values()) < 4 * min(numbers.values()), numbers


def test_a_config_is_taken_as_it_is_and_options_are_put_in() -> None:
    assert find_subject(GRUConfig(input_dim=8, hidden=24)).make().feature_dim == 24
    subject = find_subject("transformer_xl", ["memory=5", "layers=1"])
    assert subject.name == "transformer_xl memory=5 layers=1"
    assert subject.numbers is not None
    assert (subject.numbers["memory"], subject.numbers["layers"], subject.numbers["heads"]) == (5, 1, 4)


def test_a_class_that_is_not_registered_is_built_with_its_width(last_inputs: type[Backbone]) -> None:
    subject = find_subject(last_inputs, width=4)
    assert (subject.name, subject.numbers, subject.make().feature_dim) == ("LastInputs", None, 32)
    with pytest.raises(ValueError, match="LastInputs is not registered, so that it has no options: drop layers=2"):
        find_subject(last_inputs, ["layers=2"])


def test_a_registered_one_of_a_user_has_its_own_numbers(
    monkeypatch: pytest.MonkeyPatch, last_inputs: type[Backbone]
) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry.all_entries()))

    @dataclasses.dataclass(kw_only=True)
    class MineConfig(BackboneConfig):
        slots: int = 3

    @register_backbone("mine", MineConfig)
    class Mine(last_inputs):  # type: ignore[misc, valid-type]
        def __init__(self, input_dim: int, config: MineConfig) -> None:
            self.slots = config.slots
            super().__init__(input_dim)

    assert find_subject("mine", width=4).make().feature_dim == 12
    assert find_subject(Mine, ["slots=5"], width=4).make().feature_dim == 20
    register_backbone("video", type("VideoConfig", (MineConfig,), {}), kind="video_model")(nn.Identity)
    with pytest.raises(ValueError, match="video is a video_model: only backbones are diagnosed"):
        find_subject("video")


@pytest.mark.parametrize(
    ("part", "options", "width", "words"),
    [
        ("gruu", [], 64, "Unknown backbone 'gruu'"),
        (3, [], 64, "expected a registered name, a config or a class"),
        (nn.Linear, [], 64, "or a subclass of wmkit.Backbone"),
        ("gru", ["hiden=3"], 64, "GRUConfig: Key 'hiden' not in 'GRUConfig'"),
        ("transformer_xl", [], 7, "even input_dim"),
        ("gru", ["hidden=-1"], 64, "cannot be built at width 64"),
        ("gru", ["input_dim=8"], 64, "input_dim is the width: expected --width"),
        ("gru", [], 0, "width: expected at least 1"),
    ],
)
def test_what_cannot_be_built_is_said(part: object, options: list[str], width: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find_subject(part, options, width)


def test_every_symbol_of_an_input_has_a_share_of_the_width(last_inputs: type[Backbone]) -> None:
    (task,) = find_tasks(["parity"])
    task.symbols = (2, 3, 4, 5)  # type: ignore[misc]
    network = Network(task, last_inputs(6))
    inputs = torch.tensor([[[0, 1, 2, 4]]])
    assert network.features(inputs).shape == (1, 1, 48)
    for place in range(4):
        changed = inputs.clone()
        changed[..., place] = 0 if place else 1
        assert not torch.equal(network.features(inputs), network.features(changed))


def test_costs_are_those_of_the_backbone_alone(last_inputs: type[Backbone]) -> None:
    backbone = last_inputs(4)
    costs = measure_costs(backbone, tries=1)
    assert (costs.parameters, costs.state_bytes) == (1, 4 * 8 * 4)
    assert costs.state_bytes == sum(leaf.nbytes for leaf in tree.leaves(backbone.initial_state(1)))
    assert set(costs.microseconds_per_step) == {"1", "64"}
    assert min(*costs.microseconds_per_step.values(), costs.frames_per_second) > 0
    assert costs.threads == torch.get_num_threads()
