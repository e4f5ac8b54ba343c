"""A flat view of the embedding space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def embedding_view(
    embeddings: npt.NDArray[np.float32], *, fit: npt.NDArray[np.float32] | None = None
) -> tuple[Array, Array]:
    """First two principal components of raw, centred embeddings.

    embeddings (N, D); fit (M, D): the embeddings that centre and axes are taken from (the training split, say), by
    default the same. Returns positions (N, 2) and each axis's share of the variance of `fit` (2,), NaN where there is
    no variance. The sign of an axis is such that its largest loading is positive: same embeddings, same picture.
    """
    base = np.asarray(embeddings if fit is None else fit, np.float64)
    dimension = base.shape[1]
    centre = base.mean(axis=0) if len(base) else np.zeros(dimension)
    base = base - centre
    variances, axes = np.linalg.eigh(base.T @ base)
    variances, axes = np.clip(variances[::-1], 0.0, None)[:2], axes[:, ::-1][:, :2]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    positions, shares = np.zeros((len(embeddings), 2)), np.zeros(2)
    positions[:, : axes.shape[1]] = (np.asarray(embeddings, np.float64) - centre) @ axes
    total = (base**2).sum()
    shares[: len(variances)] = variances / total if total > 0 else np.nan
    return positions, shares
