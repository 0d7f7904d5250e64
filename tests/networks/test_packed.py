"""Linear layers whose weights are laid out once: the same products, and nothing left behind."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit import build_world_model
from wmkit.networks.packed import STEPS, _Product, packed

needs_mkl = pytest.mark.skipif(not hasattr(torch.ops.mkl, "_mkl_linear"), reason="this PyTorch is built without MKL")


@pytest.fixture(scope="module")
def layer() -> nn.Linear:
    return nn.Linear(512, 640)


def laid_out(layer: nn.Linear) -> int:
    """For how many rows the weight lies ready; 0: it does not."""
    forward = vars(layer).get("forward")
    return forward.kept[0] if isinstance(forward, _Product) else 0


@needs_mkl
@given(rows=st.integers(0, 140), lead=st.sampled_from([(), (1,), (1, 1)]), bias=st.booleans())
def test_the_product_is_that_of_the_layer(layer: nn.Linear, rows: int, lead: tuple[int, ...], bias: bool) -> None:
    used = layer if bias else nn.Linear(512, 640, bias=False)
    x = torch.randn(rows, *lead, 512)
    with torch.no_grad(), packed(used, STEPS):
        torch.testing.assert_close(used(x), F.linear(x, used.weight, used.bias))
        assert laid_out(used) == (rows if 8 <= rows <= 128 else 0)
    assert "forward" not in vars(used)


@needs_mkl
def test_few_steps_gradients_autocast_and_other_types_are_multiplied_as_ever(layer: nn.Linear) -> None:
    x = torch.randn(16, 512)
    with torch.no_grad(), packed(layer, STEPS - 1):
        assert "forward" not in vars(layer)
    with packed(layer, STEPS):  # gradients are wanted
        assert "forward" not in vars(layer)
    double, small = nn.Linear(512, 640).double(), nn.Linear(8, 8)
    with torch.no_grad(), packed(nn.ModuleList([double, small]), STEPS):
        assert "forward" not in vars(double) | vars(small)
    with torch.no_grad(), packed(layer, STEPS):
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        with torch.enable_grad():
            assert layer(x).requires_grad
        assert laid_out(layer) == 0


@needs_mkl
def test_blocks_may_be_nested_and_an_error_ends_them(layer: nn.Linear) -> None:
    with torch.inference_mode(), packed(layer, STEPS):
        outer = vars(layer)["forward"]
        with packed(layer, STEPS):
            assert vars(layer)["forward"] is outer
        assert vars(layer)["forward"] is outer
    with pytest.raises(KeyError), torch.no_grad(), packed(layer, STEPS):
        raise KeyError
    assert "forward" not in vars(layer)


@needs_mkl
def test_a_changed_parameter_is_read_by_the_next_block(layer: nn.Linear) -> None:
    x = torch.randn(16, 512)
    with torch.no_grad():
        for _ in range(2):
            with packed(layer, STEPS):
                torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
            layer.weight.mul_(1.5)


@needs_mkl
def test_threads_with_other_numbers_of_rows_do_not_mix(layer: nn.Linear) -> None:
    wrong: list[int] = []

    def multiply(rows: int) -> None:
        x = torch.randn(rows, 512)
        with torch.no_grad():
            right = F.linear(x, layer.weight, layer.bias)
            wrong.extend(rows for _ in range(50) if not torch.allclose(layer(x), right, atol=1e-4))

    with torch.no_grad(), packed(layer, STEPS):
        threads = [threading.Thread(target=multiply, args=(rows,)) for rows in (8, 17, 64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@needs_mkl
@pytest.mark.parametrize("backbone", ["gru", "transformer_xl"])
def test_a_model_reads_and_imagines_the_same(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmkit.networks.packed.SMALLEST", 1)
    model = build_world_model(backbone, "tiny", (3, 16, 16), 2).eval()
    image, action = torch.randint(0, 256, (8, STEPS, 3, 16, 16), dtype=torch.uint8), torch.randn(8, STEPS, 2)
    found: list[list[Tensor]] = []
    used: list[int] = []
    product = _Product.__call__
    monkeypatch.setattr(_Product, "__call__", lambda self, x: used.append(len(x)) or product(self, x))
    for grad in (True, False):
        with torch.set_grad_enabled(grad), torch.random.fork_rng():
            noise = model.draw_noise(8, STEPS)
            seen, state = model.observe(image, action, noise=noise)
            read = len(used)
            dream = model.imagine(action, state, noise=noise)
            imagined = len(used)
            actor = model.imagine(
                policy=lambda x: x[:, :2].tanh(), horizon=STEPS, state=state, features=seen.features[:, -1], noise=noise
            )
        found.append([seen.features.detach(), dream.features.detach(), actor.features.detach()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    assert read == 0 if backbone == "transformer_xl" else read >= STEPS  # read in parallel, or step by step
    assert imagined - read >= STEPS
    assert len(used) - imagined >= STEPS
    assert not any("forward" in vars(part) for part in model.modules())
