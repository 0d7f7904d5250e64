import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit_kernels import fft_conv, reference
from wmkit_kernels.fft_conv import op


@given(batch=st.integers(1, 3), length=st.integers(1, 70), channels=st.integers(1, 4), longer=st.integers(0, 5))
def test_equals_the_toeplitz_product_at_any_shape(batch, length, channels, longer):
    k, u = torch.randn(channels, length + longer), torch.randn(batch, length, channels)
    expected = reference.fft_conv(k[:, :length], u)
    assert (fft_conv(k, u) - expected).norm() <= 2e-6 * (1 + expected.norm())
    assert (fft_conv(k.double(), u.double()) - expected).norm() <= 1e-12 * (1 + expected.norm())


@pytest.mark.parametrize("length", [1, 7, 63, 64, 1000, 1024])
def test_output_and_each_gradient_round_no_more_than_the_toeplitz_product(close_to_definition, length):
    tensors = {"k": torch.randn(2, length).double(), "u": torch.randn(3, length, 2).double()}
    close_to_definition(fft_conv, lambda dtype, **xs: reference.fft_conv(**xs, dtype=dtype.to_real()), tensors,
                        1e-6, 1e-6)  # fmt: skip


def test_channels_worked_through_in_blocks_give_the_same(gradients, monkeypatch):
    tensors = {"k": torch.randn(7, 12).double(), "u": torch.randn(2, 12, 7).double()}
    whole, together = fft_conv(**tensors), gradients(fft_conv, tensors)
    monkeypatch.setattr(op, "WORKSPACE", 100)
    monkeypatch.setattr(op, "ROWS", 1)
    sizes = [len(range(7)[piece]) for piece in op._Rows(torch.empty(7, 2, 12)).blocks()]
    assert sizes == [2, 2, 2, 1]
    assert torch.equal(fft_conv(**tensors), whole)
    assert all(torch.equal(x, together[name]) for name, x in gradients(fft_conv, tensors).items())


def test_inputs_need_not_be_contiguous_and_no_memory_is_left_unwritten(gradients, poisoned):
    tensors = {"k": torch.randn(3, 12), "u": torch.randn(2, 12, 3)}
    strided = {"k": torch.randn(12, 3).t().copy_(tensors["k"]), "u": torch.randn(3, 12, 2).permute(2, 1, 0)}
    strided["u"].copy_(tensors["u"])
    assert torch.equal(fft_conv(**strided), fft_conv(**tensors))
    found = gradients(fft_conv, strided)
    assert all(torch.equal(x, found[name]) for name, x in gradients(fft_conv, tensors).items())


def test_gradcheck():
    k = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    u = torch.randn(3, 7, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fft_conv, (k, u))


def test_is_causal_and_stays_in_float32_under_autocast():
    k, u = torch.randn(4, 50), torch.randn(2, 50, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = fft_conv(k, u)
        changed = fft_conv(k, torch.cat([u[:, :30], 5 * u[:, 30:]], dim=1))
        low = fft_conv(k, u.bfloat16())
    assert y.dtype == low.dtype == torch.float32
    torch.testing.assert_close(changed[:, :30], y[:, :30], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(changed[:, 30:], y[:, 30:])


@pytest.mark.parametrize(("k", "u"), [((4, 7), (2, 8, 4)), ((3, 8), (2, 8, 4)), ((8,), (2, 8, 4)), ((4, 8), (8, 4))])
def test_shapes_that_do_not_fit_are_refused(k, u):
    with pytest.raises(ValueError, match=r"k \(H, L\) and u \(B, T, H\)"):
        fft_conv(torch.zeros(k), torch.zeros(u))
