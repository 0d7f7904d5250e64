"""States as trees: what a call hands out owns its memory and no more."""

import pytest
import torch
from torch import Tensor

from wmkit import build_world_model, list_backbones, tree
from wmkit.registry import get_entry


def assert_own_memory(state: tree.State) -> None:
    for leaf in tree.leaves(state):
        assert leaf.untyped_storage().nbytes() <= 1.2 * leaf.nbytes + 64, f"{tuple(leaf.shape)} is a view"


def test_a_compact_tree_copies_views_and_keeps_what_fills_its_memory() -> None:
    whole, long = torch.ones(3, 2), torch.randn(3, 50, 2, requires_grad=True)
    kept, copied = tree.compact((whole, long[:, -1]))
    assert kept is whole
    assert copied.untyped_storage().nbytes() == copied.nbytes
    copied.sum().backward()
    assert float(long.grad.sum()) == 6


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("name", list_backbones("backbone"))
def test_the_state_after_a_long_scan_does_not_hold_the_sequence_in_memory(name: str, resets: bool) -> None:
    entry = get_entry(name)
    config = entry.config.for_size("tiny")
    backbone = entry.cls(config.input_dim, config)
    x, is_first = torch.randn(2, 100, config.input_dim), torch.zeros(2, 100, dtype=torch.bool)
    is_first[:, ::40] = True
    _, state = backbone.scan(x, None, is_first if resets else None)
    assert_own_memory(state)
    _, state = backbone.scan(x, state, is_first if resets else None)
    assert_own_memory(state)
    for t in range(3):
        _, state = backbone.step(x[:, t], state)
    assert_own_memory(state)


CASES = [(name, posterior) for name in list_backbones("backbone") for posterior in ("factorized", "filtering", "full")]
CASES += [(name, None) for name in list_backbones("dynamics")]


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
@pytest.mark.parametrize(("name", "posterior"), CASES)
def test_a_models_state_does_not_hold_the_sequence_in_memory(name: str, posterior: str | None, latent: str) -> None:
    model = build_world_model(name, "tiny", (3, 16, 16), 2, posterior=posterior, latent=latent)
    image, action = torch.rand(2, 40, 3, 16, 16), torch.randn(2, 40, 2)

    def noise(given: bool) -> Tensor | None:
        return model.draw_noise(2, 40) if given else None

    for given in (False, True):
        _, state = model.observe(image, action, noise=noise(given))
        assert_own_memory(state)
        assert_own_memory(model.imagine(action, state, noise=noise(given)).state)


@pytest.mark.reported(
    "shapes", "", "`tree.index(state, 0)`, which takes the batch axis away", "`ValueError`: `slice(0, 1)`"
)
@pytest.mark.reported("shapes", "", "`tree.repeat(state, 0)` or 2.5 times", "`ValueError`: a whole number from 1 on")
def test_rows_are_chosen_so_that_the_batch_axis_stays() -> None:
    state = {"h": torch.arange(6.0).reshape(3, 2)}
    for row in (0, -1, torch.tensor(2)):
        with pytest.raises(
            ValueError, match=r"rows: expected a slice, a tensor or a list, got (0|-1|2); one row is slice"
        ):
            tree.index(state, row)
    for rows in (slice(2, 3), [2], torch.tensor([2]), torch.tensor([False, False, True])):
        assert tree.index(state, rows)["h"].tolist() == [[4.0, 5.0]]
    for times in (0, -1, 2.5):
        with pytest.raises(ValueError, match=r"times: expected (at least 1|a whole number of at least 1)"):
            tree.repeat(state, times)


@pytest.mark.reported("shapes", "", "`tree.where` with a mask of other rows than the state", "`ValueError`, both sizes")
@pytest.mark.parametrize("mask", [torch.tensor([True]), torch.tensor(True), torch.ones(3, 1, dtype=torch.bool)])
def test_a_mask_of_other_rows_is_not_broadcast(mask: Tensor) -> None:
    state = {"h": torch.zeros(3, 2)}
    with pytest.raises(ValueError, match=r"mask: expected \(B,\) = \(3,\) as in the state, got"):
        tree.where(mask, state, state)
