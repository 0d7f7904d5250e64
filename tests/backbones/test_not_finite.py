"""NaN and infinity from before a reset leave no trace after it, on every path of every backbone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from wmkit import Backbone, list_backbones, tree
from wmkit.registry import get_entry

NAMES = list_backbones("backbone")
BAD = [float("nan"), float("inf")]


def make(name: str) -> Backbone:
    config = get_entry(name).config.for_size("tiny")
    return get_entry(name).cls(config.input_dim, config).eval()


def poisoned(state: tree.State, value: float) -> tree.State:
    return tree.map_tree(lambda leaf: torch.full_like(leaf, value) if leaf.is_floating_point() else leaf, state)


def scan(backbone: Backbone, path: str, *arguments: Any) -> Any:
    if path == "trained":
        return backbone.scan(*arguments)
    with torch.no_grad(), backbone.prepared():
        return backbone.scan(*arguments)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("path", ["trained", "prepared"])
@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_is_not_finite_leaves_no_trace_after_a_reset(name: str, path: str, value: float) -> None:
    backbone, length = make(name), 40
    x, is_first = torch.randn(4, length, backbone.input_dim), torch.zeros(4, length, dtype=torch.bool)
    at = [0, 3, 8, 21]
    for row, t in enumerate(at):
        is_first[row, t] = True
    _, state = backbone.scan(torch.randn(4, 9, backbone.input_dim))
    clean, last = scan(backbone, path, x, state, is_first)
    found, after = scan(backbone, path, x, poisoned(state, value), is_first)
    stepped, _ = Backbone.scan(backbone, x, poisoned(state, value), is_first)
    for row, t in enumerate(at):
        torch.testing.assert_close(found[row, t:], clean[row, t:])
        torch.testing.assert_close(found[row, t:], stepped[row, t:], rtol=1e-4, atol=1e-5)
    assert not found[3, :21].isfinite().all(), "what may see it must feel it"
    for a, b in zip(tree.leaves(after), tree.leaves(last), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("path", ["trained", "prepared"])
@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_not_finite_leave_no_trace_after_a_reset(name: str, path: str, value: float) -> None:
    backbone, length = make(name), 40
    x, is_first = torch.randn(3, length, backbone.input_dim), torch.zeros(3, length, dtype=torch.bool)
    is_first[0, [5, 6]] = is_first[1, 17] = True
    bad = x.clone()
    bad[0, 4], bad[0, 5], bad[1, 2] = value, -value, value
    clean, last = scan(backbone, path, x, None, is_first)
    found, after = scan(backbone, path, bad, None, is_first)
    stepped, _ = Backbone.scan(backbone, bad, None, is_first)
    assert not found[0, 4].isfinite().all()
    assert not found[1, 16].isfinite().all(), "what may see it must feel it"
    for row, t in ((0, 6), (1, 17), (2, 0)):
        torch.testing.assert_close(found[row, t:], clean[row, t:])
        torch.testing.assert_close(found[row, t:], stepped[row, t:], rtol=1e-4, atol=1e-5)
    for a, b in zip(tree.leaves(after), tree.leaves(last), strict=True):
        torch.testing.assert_close(a, b)


def test_a_value_that_is_not_finite_is_felt_by_whoever_sees_it_though_its_key_is() -> None:
    backbone = make("transformer_xl")
    x, is_first = torch.randn(2, 4, 16), torch.zeros(2, 4, dtype=torch.bool)
    is_first[0, 2] = True
    _, state = backbone.scan(torch.randn(2, 9, 16))
    state = {**state, "values": poisoned(state["values"], float("nan"))}
    found, after = backbone.scan(x, state, is_first)
    assert found[0, :2].isnan().all()
    assert found[0, 2:].isfinite().all()
    assert found[1].isnan().all()
    leaves: list[Tensor] = [*after["keys"], *after["values"]]
    assert all(leaf[0].isfinite().all() for leaf in leaves)
    assert all(leaf[1].isnan().any() for leaf in after["values"])
