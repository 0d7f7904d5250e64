"""The Frechet distance against closed forms, and its laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from wmkit.evaluation.estimates import jackknife, normal
from wmkit.evaluation.frechet import frechet_distance


def with_moments(rng: np.random.Generator, mean: np.ndarray, root: np.ndarray, number: int) -> np.ndarray:
    """Vectors (number, F) whose mean is `mean` and whose sample covariance is root^T root, to rounding."""
    raw = rng.standard_normal((number, len(root)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T).reshape(len(root), -1)).T)
    return mean + white @ root


def closed_form(mean_x, cov_x, mean_y, cov_y) -> float:
    """The definition, with a root of a matrix."""
    return float(np.square(mean_x - mean_y).sum() + np.trace(cov_x + cov_y - 2 * sqrtm(cov_x @ cov_y).real))


@st.composite
def gaussians(draw):
    """Moments of two Gaussians in 1 to 6 dimensions whose covariances are well conditioned, and numbers of vectors."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(1, 6))
    roots = [np.eye(width) + 0.3 * rng.standard_normal((width, width)) / width for _ in range(2)]
    scales = draw(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)))
    means = rng.standard_normal((2, width)) * draw(st.floats(0, 10))
    numbers = draw(st.tuples(st.integers(width + 1, 40), st.integers(width + 1, 40)))
    return rng, means, [scale * root for scale, root in zip(scales, roots, strict=True)], numbers


@given(gaussians())
def test_the_distance_is_the_closed_form_of_two_gaussians(case):
    rng, means, roots, numbers = case
    x, y = (with_moments(rng, *moments) for moments in zip(means, roots, numbers, strict=True))
    covariances = [root.T @ root for root in roots]
    expected = closed_form(means[0], covariances[0], means[1], covariances[1])
    scale = sum(np.trace(c) for c in covariances) + np.square(means).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, abs=1e-7 * scale)


@given(st.floats(-5, 5), st.floats(0.1, 5), st.floats(-5, 5), st.floats(0.1, 5))
def test_on_a_line_it_is_the_difference_of_means_and_of_deviations(m, s, n, t):
    base = np.array([-1.0, 0.0, 1.0])[:, None]  # of sample deviation 1
    assert frechet_distance(m + s * base, n + t * base) == pytest.approx((m - n) ** 2 + (s - t) ** 2, abs=1e-9)


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.integers(1, 12))
def test_singular_covariances_make_no_difference_to_the_definition(seed, n, m, width):
    """Fewer vectors than features too, as with FVD of 100 clips."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, width)), 2 * rng.standard_normal((m, width)) + 1
    a, b = (np.cov(z.T).reshape(width, width) for z in (x, y))
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a) + np.trace(b) - 2 * shared
    assert frechet_distance(x, y) == pytest.approx(expected, abs=1e-6 * (1 + np.trace(a) + np.trace(b)))


@given(st.integers(0, 10**6), st.integers(3, 20), st.integers(1, 8))
def test_it_is_symmetric_zero_on_equal_sets_and_blind_to_order_and_rotation(seed, number, width):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, number, width))
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
    distance = frechet_distance(x, y)
    assert frechet_distance(y, x) == pytest.approx(distance, abs=1e-9)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(distance, abs=1e-9)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance, rel=1e-9, abs=1e-8)


@pytest.mark.parametrize(("x", "y"), [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5, 1)), ((5, 3), (0, 3))])
def test_sets_that_have_no_distance_are_refused(x, y):
    with pytest.raises(ValueError, match=r"Expected vectors \(N, F\) and \(M, F\)"):
        frechet_distance(np.zeros(x), np.zeros(y))


@pytest.mark.parametrize(("width", "least", "most"), [(4, 0.75, 1.35), (60, 1.0, 2.2)])
def test_the_jackknifes_interval_is_as_wide_as_distances_of_fresh_sets_spread(width, least, most):
    """Wider where there are fewer vectors than features, 40 and 60: never too narrow."""
    rng = np.random.default_rng(0)
    distances, errors = [], []
    for _ in range(60):
        x, y = rng.standard_normal((40, width)), 1.3 * rng.standard_normal((40, width)) + 0.3
        distances.append(frechet_distance(x, y))
        errors.append(
            normal(jackknife(lambda rows, x=x, y=y: frechet_distance(x[rows], y[rows]), 40)).half_width / 1.96
        )
    assert least < np.mean(errors) / np.std(distances, ddof=1) < most
