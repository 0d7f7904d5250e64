import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit_kernels.common.series import geometric_sums


@given(
    channels=st.integers(1, 3),
    x=st.integers(1, 3),
    y=st.integers(1, 20),
    n=st.integers(1, 4),
    length=st.integers(1, 90),
)
def test_equals_the_sum_of_powers_at_any_shape(channels, x, y, n, length):
    left, right = (
        torch.randn(channels, x, n, dtype=torch.complex128),
        torch.randn(channels, y, n, dtype=torch.complex128),
    )
    ratio = 0.999 * torch.exp(1j * torch.randn(channels, n, dtype=torch.float64))
    powers = ratio.unsqueeze(-1) ** torch.arange(length)
    expected = 2 * torch.einsum("hxn,hyn,hnl->hxyl", left, right, powers).real
    torch.testing.assert_close(geometric_sums(left, right, ratio, length), expected)


def test_gradcheck_at_a_ratio_of_zero_too():
    left = torch.randn(2, 2, 3, dtype=torch.complex128, requires_grad=True)
    right = torch.randn(2, 4, 3, dtype=torch.complex128, requires_grad=True)
    ratio = 0.9 * torch.exp(1j * torch.randn(2, 3, dtype=torch.float64))
    ratio[0, 0] = 0
    assert torch.autograd.gradcheck(lambda *xs: geometric_sums(*xs, 11), (left, right, ratio.requires_grad_()))
