"""A flat view of the embedding space."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from radlens.core.errors import SpecError, unknown_name

Array = npt.NDArray[np.float64]
Method = Literal["pca", "t-sne", "umap"]
POINTS = 2000
"""Images that t-SNE and UMAP place, at most."""
PERPLEXITY = 30.0
STEPS = 500
"""Of t-SNE: from the principal components on, 1,000 steps end within 2 % of the same divergence."""
NEIGHBOURS = 15
_COMPONENTS = 50


def view_methods() -> tuple[Method, ...]:
    """Methods of `embedding_view` that can be used here: UMAP only where the package umap-learn is installed."""
    return ("pca", "t-sne", "umap") if importlib.util.find_spec("umap") is not None else ("pca", "t-sne")


def embedding_view(
    embeddings: npt.NDArray[np.float32],
    *,
    fit: npt.NDArray[np.float32] | None = None,
    method: Method = "pca",
    seed: int = 0,
) -> tuple[Array, Array]:
    """Positions (N, 2) of embeddings (N, D) in the plane, and each axis's share of the variance (2,).

    `pca`: first two principal components of raw, centred embeddings. fit (M, D): the embeddings that centre and axes
    are taken from (the training split, say), by default the same; the shares are of the variance of `fit`, NaN where
    there is none. The sign of an axis is such that its largest loading is positive: same embeddings, same picture.
    `t-sne` (van der Maaten and Hinton, JMLR 9, 2008, 2579) and `umap` (McInnes et al., arXiv 1802.03426) keep who is
    near, not how far apart groups are; they place at most `POINTS` images, evenly spaced over the rows (the others are
    NaN), start from the principal components, and are the same for the same embeddings and seed. Their axes have no
    share: NaN. Raises `SpecError` for another method, for UMAP without its package, and for `fit` with either.
    """
    if method == "pca":
        return _principal(embeddings, embeddings if fit is None else fit)
    if method not in ("t-sne", "umap"):
        raise SpecError(unknown_name("view", method, view_methods()))
    if method not in view_methods():
        raise SpecError("the view umap needs the package umap-learn: install it, or use t-sne.")
    if fit is not None:
        raise SpecError(f"the view {method} places the images that it is fitted on: leave `fit` out, or use pca.")
    positions = np.full((len(embeddings), 2), np.nan)
    shown = shown_rows(len(embeddings), POINTS)
    positions[shown] = _neighbours_kept(np.asarray(embeddings[shown], np.float64), method, seed)
    return positions, np.full(2, np.nan)


def shown_rows(images: int, most: int) -> npt.NDArray[np.intp]:
    """At most `most` of so many rows, evenly spaced, first and last among them."""
    return np.unique(np.linspace(0, images - 1, min(images, most)).round().astype(np.intp))


def _principal(embeddings: npt.NDArray[np.float32], fit: npt.NDArray[np.float32]) -> tuple[Array, Array]:
    base = np.asarray(fit, np.float64)
    centre = base.mean(axis=0) if len(base) else np.zeros(base.shape[1])
    base = base - centre
    variances, axes = _components(base, 2)
    positions, shares = np.zeros((len(embeddings), 2)), np.zeros(2)
    positions[:, : axes.shape[1]] = (np.asarray(embeddings, np.float64) - centre) @ axes
    total = (base**2).sum()
    shares[: len(variances)] = variances / total if total > 0 else np.nan
    return positions, shares


def _components(centred: Array, count: int) -> tuple[Array, Array]:
    """(C,) sums of squares along the first principal axes, largest first, and (D, C) these axes."""
    variances, axes = np.linalg.eigh(centred.T @ centred)
    variances, axes = np.clip(variances[::-1], 0.0, None)[:count], axes[:, ::-1][:, :count]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return variances, axes * np.where(largest < 0, -1.0, 1.0)


def _neighbours_kept(points: Array, method: Method, seed: int) -> Array:
    """(n, 2) by t-SNE or UMAP on the first `_COMPONENTS` principal components; the plane's origin is the mean."""
    flat = np.zeros((len(points), 2))
    if len(points) < 4 or not np.ptp(points, axis=0).any():
        return flat  # too few to have neighbourhoods, or all on one spot
    centred = points - points.mean(axis=0)
    _, axes = _components(centred, _COMPONENTS)
    scores = centred @ axes
    start = np.zeros((len(points), 2))
    start[:, : min(2, axes.shape[1])] = scores[:, :2]
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-30)
    if method == "t-sne":
        from sklearn.manifold import TSNE

        perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
        # scikit-learn 1.5 renamed the number of steps
        steps = "max_iter" if "max_iter" in inspect.signature(TSNE).parameters else "n_iter"
        options: dict[str, Any] = {"perplexity": perplexity, "init": start.astype(np.float32), steps: STEPS}
        placed = TSNE(**options, random_state=seed, n_jobs=1)
        flat = np.asarray(placed.fit_transform(scores.astype(np.float32)), np.float64)
    else:
        with warnings.catch_warnings():
            # umap-learn warns that it has no TensorFlow, which this view does not use,
            warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
            # and that a seed costs it its threads, which is what is wanted here
            warnings.filterwarnings("ignore", message="n_jobs value")
            umap: Any = importlib.import_module("umap")
            placed = umap.UMAP(n_neighbors=min(NEIGHBOURS, len(points) - 1), init=start * 1e5, random_state=seed)
            flat = np.asarray(placed.fit_transform(scores), np.float64)
    centred_flat: Array = flat - flat.mean(axis=0)
    return centred_flat
