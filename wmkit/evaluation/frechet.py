"""The Frechet distance between two sets of vectors, as between Gaussians."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wmkit.evaluation.estimates import Floats


def frechet_distance(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """|m_x - m_y|^2 + tr(S_x) + tr(S_y) - 2 tr((S_x S_y)^(1/2)) of vectors x (N, F) and y (M, F)

    with means m and sample covariances S: the squared distance of Dowson and Landau (1982), as FID and FVD take it. The
    last trace is the sum of the singular values of A B^T with S_x = A^T A and S_y = B^T B, the rows of A and B being
    the centred vectors over sqrt(N - 1): no root of a matrix is taken, and covariances may be singular. Raises
    `ValueError` for other shapes, and for fewer than 2 vectors.
    """
    ours, theirs = (np.asarray(z, dtype=np.float64) for z in (x, y))
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1] or min(len(ours), len(theirs)) < 2:
        raise ValueError(f"Expected vectors (N, F) and (M, F) with N, M >= 2, got {ours.shape} and {theirs.shape}")
    a, b = _spread(ours), _spread(theirs)
    between = np.square(ours.mean(0) - theirs.mean(0)).sum()
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(between + np.square(a).sum() + np.square(b).sum() - 2 * shared))  # rounding goes below


def _spread(x: Floats) -> Floats:
    """A (K, F) with A^T A the covariance of x (N, F), K the smaller of N and F."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return np.linalg.qr(centred).R if len(x) > x.shape[1] else centred
