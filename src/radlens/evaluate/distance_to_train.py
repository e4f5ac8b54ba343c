"""How far an image lies from the training images in embedding space: a score for being out of distribution.

Everything goes in blocks; memory does not grow with the number of images but for their one score each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.errors import DataError

Array = npt.NDArray[np.float64]
Embeddings = npt.NDArray[np.float32]
_BLOCK, _TRAIN_BLOCK = 1024, 8192
NEIGHBOURS = 10


@dataclass(frozen=True)
class Mahalanobis:
    """Centre (D,) and inverse Cholesky factor (D, D) of the training embeddings; shrinkage 0 to 1 that it took."""

    centre: Array
    whitening: Array
    shrinkage: float

    def distance(self, embeddings: Embeddings) -> Array:
        """(N, D) -> (N,) Mahalanobis distances, about sqrt(D) for images like those of training."""
        out = np.empty(len(embeddings))
        for start in range(0, len(embeddings), _BLOCK):
            part = embeddings[start : start + _BLOCK].astype(np.float64) - self.centre
            out[start : start + _BLOCK] = np.linalg.norm(part @ self.whitening.T, axis=1)
        return out


def fit_mahalanobis(train: Embeddings) -> Mahalanobis:
    """One Gaussian for all training embeddings (N, D), covariance shrunk towards a multiple of the identity.

    One class for all, since labels overlap and most have few images. Shrinkage by Ledoit and Wolf (Journal of
    Multivariate Analysis 2004), which also makes fewer images than dimensions usable. Lee et al., NeurIPS 2018.
    Raises `DataError` below two images, or where all are equal.
    """
    count, dimension = train.shape
    if count < 2:
        raise DataError(f"expected at least two training embeddings to measure a distance from, but found {count}.")
    centre = np.zeros(dimension)
    for start in range(0, count, _BLOCK):
        centre += train[start : start + _BLOCK].astype(np.float64).sum(axis=0)
    centre /= count
    covariance, fourth = np.zeros((dimension, dimension)), 0.0
    for start in range(0, count, _BLOCK):
        part = train[start : start + _BLOCK].astype(np.float64) - centre
        covariance += part.T @ part
        fourth += float((np.einsum("nd,nd->n", part, part) ** 2).sum())
    covariance /= count
    size = float(np.trace(covariance)) / dimension
    if size <= 0:
        raise DataError("expected training embeddings that differ, but all are equal; look at the encoder.")
    squared = float((covariance**2).sum())
    away = squared - dimension * size**2
    noise = (fourth / count - squared) / count
    shrinkage = min(max(noise / away, 0.0), 1.0) if away > 0 else 1.0
    shrunk = (1 - shrinkage) * covariance + shrinkage * size * np.eye(dimension)
    # directions that nothing varies in, where the shrinkage is small
    shrunk += 1e-9 * size * np.eye(dimension)
    whitening = np.linalg.inv(np.linalg.cholesky(shrunk))
    return Mahalanobis(centre, whitening, shrinkage)


def nearest_distances(
    embeddings: Embeddings, train: Embeddings, neighbours: int = NEIGHBOURS, *, normalised: bool = True
) -> Array:
    """(N, D), (M, D) -> (N,) Euclidean distance to the k-th nearest training image (the farthest, if fewer).

    normalised: embeddings scaled to unit length first. Sun et al., ICML 2022. Candidates come from float32 products,
    their distances are computed again from float64 differences. Raises `DataError` without training images.
    """
    if not len(train):
        raise DataError("expected training embeddings to measure a distance from, but found none.")
    k = min(neighbours, len(train))
    # a few more than asked for, so that rounding in float32 does not lose one of them
    spare = min(k + 6, len(train))
    out = np.empty(len(embeddings))
    for start in range(0, len(embeddings), _BLOCK):
        here = _scaled(embeddings[start : start + _BLOCK], normalised)
        at = _candidates(here, train, spare, normalised)
        for row in range(0, len(here), 64):
            block = here[row : row + 64]
            there = _scaled(train[at[row : row + 64]].reshape(-1, train.shape[1]), normalised)
            there = there.reshape(len(block), spare, -1)
            exact = np.linalg.norm(there - block[:, None], axis=2)
            out[start + row : start + row + len(block)] = np.partition(exact, k - 1, axis=1)[:, k - 1]
    return out


def share_nearer(scores: Array, reference: Array) -> Array:
    """(N,) share of reference scores (M,) below each score, ties half: near 1 = farther out than nearly all of them.

    reference: the scores of the validation images, patients apart from training as those of test are. NaN without any.
    """
    if not len(reference):
        return np.full(len(scores), np.nan)
    ordered = np.sort(reference)
    below, up_to = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    share: Array = (below + up_to) / (2 * len(ordered))
    return share


def _candidates(here: Array, train: Embeddings, count: int, normalised: bool) -> npt.NDArray[np.intp]:
    """(b, D) -> (b, count) rows of training images that are nearest by float32 products."""
    # shifted by a common centre, fewer digits cancel
    centre = _scaled(train[:_TRAIN_BLOCK], normalised).mean(axis=0)
    light, middle = (here - centre).astype(np.float32), centre.astype(np.float32)
    best = np.full((len(here), count), np.inf, np.float32)
    rows = np.zeros((len(here), count), np.intp)
    for start in range(0, len(train), _TRAIN_BLOCK):
        there = np.array(train[start : start + _TRAIN_BLOCK], np.float32)
        if normalised:
            length = np.sqrt(np.einsum("md,md->m", there, there))
            length[length == 0] = 1
            there /= length[:, None]
        there -= middle
        squared = light @ there.T
        squared *= -2
        squared += np.einsum("md,md->m", there, there)
        if start:
            best, rows = _merged(best, rows, squared, start)
        else:
            first = min(count, len(there))
            near = np.argpartition(squared, first - 1, axis=1)[:, :first]
            best[:, :first], rows[:, :first] = np.take_along_axis(squared, near, axis=1), near
    return rows


def _merged(
    best: npt.NDArray[np.float32], rows: npt.NDArray[np.intp], squared: npt.NDArray[np.float32], start: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """The nearest of what was found (b, count) and a further block (b, m), whose first row is `start`.

    Few of a further block are nearer than what was found before: only those are sorted in.
    """
    count = best.shape[1]
    row, column = np.divmod(np.flatnonzero(squared < best.max(axis=1)[:, None]), squared.shape[1])
    hits = np.bincount(row, minlength=len(best))
    slot = np.arange(len(row)) - np.repeat(np.cumsum(hits) - hits, hits)
    nearer = np.full((len(best), int(hits.max(initial=0))), np.inf, np.float32)
    at = np.zeros(nearer.shape, np.intp)
    nearer[row, slot], at[row, slot] = squared[row, column], column + start
    best, rows = np.hstack([best, nearer]), np.hstack([rows, at])
    keep = np.argpartition(best, count - 1, axis=1)[:, :count]
    return np.take_along_axis(best, keep, axis=1), np.take_along_axis(rows, keep, axis=1)


def _scaled(part: Embeddings, normalised: bool) -> Array:
    wide = part.astype(np.float64)
    if normalised:
        length = np.linalg.norm(wide, axis=1, keepdims=True)
        wide /= np.where(length > 0, length, 1.0)
    return wide
