"""Fréchet distance of two sets of features as Gaussians (FID's formula, Heusel et al. 2017).

Shape letters: N and M numbers of features, D their size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...common.errors import ConfigError


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|mean a - mean b|^2 + Tr(A + B - 2 (A B)^(1/2)) of features (N,D) and (M,D), with their covariances A and B (divided by N - 1).

    No matrix root is taken: with centred features X and Y divided by sqrt(N-1) and sqrt(M-1), the eigenvalues of A B are the squared
    singular values of X Y^T, so Tr (A B)^(1/2) is the plain sum of those. That holds, and stays real, for covariances of low rank, which
    fewer than D pictures give; where there are more, the triangular factors of X and Y stand for them. Raises ConfigError for fewer than
    two features.
    """
    for features in (a, b):
        if features.dim() != 2 or len(features) < 2 or features.shape[1] != a.shape[1]:
            raise ConfigError(f"FID: features {tuple(a.shape)} and {tuple(b.shape)}; at least two pictures on each side are needed")
        if not bool(torch.isfinite(features).all()):
            raise ConfigError("FID: features that are not finite; check the Inception weights")
    x, y = _centred(a.double()), _centred(b.double())
    root = torch.linalg.svdvals(_factor(x) @ _factor(y).T).sum()
    shift = (a.double().mean(0) - b.double().mean(0)).square().sum()
    return max(0.0, float(shift + x.square().sum() + y.square().sum() - 2 * root))


def _centred(features: Tensor) -> Tensor:
    """Rows without their mean, such that X^T X is the covariance."""
    return (features - features.mean(0)) / (len(features) - 1) ** 0.5


def _factor(x: Tensor) -> Tensor:
    """R of at most D rows with R^T R = X^T X."""
    return torch.linalg.qr(x, mode="r").R if len(x) > x.shape[1] else x
