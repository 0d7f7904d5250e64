import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit_kernels.common.series import divide, fft_size, multiply, shift, toeplitz


@given(length=st.integers(1, 40))
def test_division_undoes_multiplication(length):
    x, divisor = torch.randn(3, length, dtype=torch.float64), 0.3 * torch.randn(length, dtype=torch.float64)
    divisor[0] = 1
    torch.testing.assert_close(divide(multiply(x, divisor), divisor), x)


def test_gradcheck_with_broadcasting():
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(multiply, (x, y))
    assert torch.autograd.gradcheck(lambda x, y: divide(x, torch.eye(6, dtype=x.dtype)[0] + shift(y)), (x, y))


def test_toeplitz_matrix_multiplies_by_its_series():
    x, y = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    torch.testing.assert_close((toeplitz(x) @ y.unsqueeze(-1)).squeeze(-1), multiply(x, y))


@given(length=st.integers(1, 20000))
def test_fft_size_holds_the_product_and_has_small_factors(length):
    size = fft_size(length)
    assert 2 * length - 1 <= size <= 4 * length
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    assert size == 1
