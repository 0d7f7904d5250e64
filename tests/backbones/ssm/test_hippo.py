import pytest
import torch

from wmkit.backbones.ssm.hippo import legs_dplr, legs_matrix


@pytest.mark.parametrize("size", [2, 8, 64])
def test_the_dplr_form_is_the_legs_matrix_in_another_basis(size):
    """Same transfer function B^T (s - A)^{-1} B: equal at more points than a rational function of that degree has."""
    A, B = legs_matrix(size)
    Lambda, P, rotated = legs_dplr(size)
    full = [torch.cat([x, x.conj()]) for x in (Lambda, P, rotated)]
    points = torch.complex(torch.full((2 * size + 1,), 0.5), torch.linspace(0, 50, 2 * size + 1)).to(torch.complex128)
    eye = torch.eye(size, dtype=torch.complex128)
    dense, diagonal = A.to(torch.complex128), torch.diag(full[0]) - full[1][:, None] * full[1].conj()
    for s in points:
        expected = B.to(torch.complex128) @ torch.linalg.solve(s * eye - dense, B.to(torch.complex128))
        found = full[2].conj() @ torch.linalg.solve(s * eye - diagonal, full[2])
        torch.testing.assert_close(found, expected)


def test_the_numbers_known_of_size_64():
    Lambda, P, B = legs_dplr(64)
    torch.testing.assert_close(Lambda.real, torch.full((32,), -0.5, dtype=torch.float64))
    assert Lambda.imag.max() == pytest.approx(-0.26, abs=0.01)
    assert Lambda.imag.min() == pytest.approx(-1303, abs=1)
    assert P.abs().max() == pytest.approx(28.8, abs=0.1)
    assert B.abs().max() == pytest.approx(40.8, abs=0.1)


@pytest.mark.parametrize("size", [0, 7])
def test_sizes_without_pairs_are_refused(size):
    with pytest.raises(ValueError, match="even"):
        legs_dplr(size)
