"""How alike two embedding spaces are on the same images, and how far each label's centroid moved between them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import t as student

from radlens.core.errors import DataError
from radlens.core.predictions import Predictions
from radlens.core.undefined import mean_of_defined, quotient
from radlens.evaluate.distances import Points, centroid_distances

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
CONFIDENCE = 0.95
FOLDS = 50
FEWEST_PATIENTS = 10
_ROWS = 4096
SCHEMA: dict[str, Any] = {
    "a": pl.String,
    "b": pl.String,
    "name": pl.String,
    "images": pl.Int64,
    "linear_cka": pl.Float64,
    "linear_cka_debiased": pl.Float64,
    "linear_cka_debiased_low": pl.Float64,
    "linear_cka_debiased_high": pl.Float64,
    "centroid_drift": pl.Float64,
    "centroid_drift_aligned": pl.Float64,
    "reason": pl.String,
}


def compare_spaces(results: Sequence[Predictions], seed: int = 0) -> pl.DataFrame:
    """Every two settings' embeddings of the same images: a table with the columns of `SCHEMA`.

    results: predictions on one split, of one order of images. For each pair a row `overall` and a row a label.
    linear_cka in [0, 1]: |A'B|^2 / (|A'A| |B'B|) of centred embeddings, Frobenius norms (Kornblith et al., ICML 2019);
    it ignores rotation and scale, and is well above 0 for unrelated spaces unless the images far outnumber the
    dimensions. linear_cka_debiased: with the unbiased HSIC (Song et al., JMLR 13, 2012, 1393), about 0 for unrelated
    spaces. Its 95 % interval leaves sets of patients out in turn (grouped jackknife, t on sets - 1): a bootstrap would
    draw images twice, which look alike in any two spaces. centroid_drift: distance between a label's centroids in a
    and in b over the mean distance of its images to their centroid in a (overall: mean over labels);
    centroid_drift_aligned: after the shift and rotation of b that bring all its images nearest to a's, for two spaces
    may differ by a rotation that means nothing. NaN with its reason where undefined. Raises `DataError` where two
    settings' images differ, there are none, or an embedding is not finite.
    """
    rows: list[dict[str, Any]] = []
    for one, other in itertools.combinations(results, 2):
        _check(one, other)
        a, b = one.embeddings, other.embeddings
        base = {"a": one.setting, "b": other.setting}
        centres = a.mean(axis=0, dtype=np.float64), b.mean(axis=0, dtype=np.float64)
        found = _spaces(a, b, centres, np.arange(len(one)))
        low, high, why = _interval(found, a, b, centres, one.groups, seed)
        drifts, aligned, reasons = _drifts(a, b, centres, found, one.targets)
        moved = {"centroid_drift": mean_of_defined(drifts), "centroid_drift_aligned": mean_of_defined(aligned)}
        cka = {"linear_cka": found.cka(), "linear_cka_debiased": found.debiased()}
        cka |= {"linear_cka_debiased_low": low, "linear_cka_debiased_high": high}
        rows.append({**base, "name": "overall", "images": len(one), **cka, **moved, "reason": why})
        for k, label in enumerate(one.labels):
            moved = {"centroid_drift": float(drifts[k]), "centroid_drift_aligned": float(aligned[k])}
            counted = {"name": label, "images": int((one.targets[:, k] == 1).sum())}
            rows.append(base | counted | dict.fromkeys(cka, float("nan")) | moved | {"reason": reasons[k]})
    return pl.DataFrame(rows, schema=SCHEMA)


def _check(one: Predictions, other: Predictions) -> None:
    if one.image_ids != other.image_ids:
        apart = sorted(set(one.image_ids) ^ set(other.image_ids))
        how = f"{len(apart)} images are in one only, {apart[0]} for one" if apart else "their order differs"
        raise DataError(
            f"settings {one.setting} and {other.setting} must have predictions on the same images to be compared, but "
            f"{how}; predict both on one split."
        )
    if not len(one):
        raise DataError(f"settings {one.setting} and {other.setting} have no images to compare; expected at least one.")
    for result in (one, other):
        finite = np.isfinite(result.embeddings).all(axis=1)
        if not finite.all():
            raise DataError(
                f"setting {result.setting}: the embedding of image {result.image_ids[int(np.argmin(finite))]} holds "
                "NaN or infinity where finite numbers were expected; embed the images again."
            )


@dataclass(frozen=True)
class _Moments:
    """Sums over n images with vectors x, y in two spaces; additive, so that leaving images out is a subtraction.

    x, y: of the vectors. cross: of x y'. x_by_y: of |y|^2 x; y_by_x: of |x|^2 y. x_squares, y_squares, both_squares: of
    |x|^2, |y|^2 and |x|^2 |y|^2.
    """

    n: float
    x: Array
    y: Array
    cross: Array
    x_by_y: Array
    y_by_x: Array
    x_squares: float
    y_squares: float
    both_squares: float

    def plus(self, other: _Moments, sign: int = 1) -> _Moments:
        return _Moments(*(mine + sign * vars(other)[name] for name, mine in vars(self).items()))

    def covariance(self) -> Array:
        """Sum of the outer products of x and y, each less its mean."""
        covariance: Array = self.cross - np.outer(self.x, self.y) / self.n
        return covariance

    def dependence(self) -> float:
        """n (n - 3) times the unbiased HSIC of linear kernels: equation 5 of Song et al., its traces written out."""
        n = self.n
        if n < 4:
            return float("nan")
        trace = (self.cross**2).sum() - self.both_squares
        sums = (self.x @ self.x - self.x_squares) * (self.y @ self.y - self.y_squares)
        product = self.x @ self.cross @ self.y - self.x @ self.x_by_y - self.y @ self.y_by_x + self.both_squares
        return float(trace + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * product)


@dataclass(frozen=True)
class _Spaces:
    """Moments of a with b, a with a, b with b."""

    ab: _Moments
    aa: _Moments
    bb: _Moments

    def plus(self, other: _Spaces, sign: int = 1) -> _Spaces:
        return _Spaces(*(getattr(self, name).plus(getattr(other, name), sign) for name in ("ab", "aa", "bb")))

    def cka(self) -> float:
        ab, aa, bb = ((moments.covariance() ** 2).sum() for moments in (self.ab, self.aa, self.bb))
        return float(quotient(ab, np.sqrt(aa * bb)))

    def debiased(self) -> float:
        ab, aa, bb = (moments.dependence() for moments in (self.ab, self.aa, self.bb))
        return float(quotient(ab, np.sqrt(aa * bb))) if aa > 0 and bb > 0 else float("nan")


def _spaces(a: Floats, b: Floats, centres: tuple[Array, Array], rows: npt.NDArray[np.intp]) -> _Spaces:
    """Sums over some rows, blocked. centres: what the vectors are shifted by, so that few digits cancel."""
    total: _Spaces | None = None
    for start in range(0, max(len(rows), 1), _ROWS):
        some = rows[start : start + _ROWS]
        x, y = a[some].astype(np.float64) - centres[0], b[some].astype(np.float64) - centres[1]
        part = _Spaces(_moments(x, y), _moments(x, x), _moments(y, y))
        total = part if total is None else total.plus(part)
    assert total is not None
    return total


def _moments(x: Array, y: Array) -> _Moments:
    p, q = np.einsum("nd,nd->n", x, x), np.einsum("nd,nd->n", y, y)
    sums = float(p.sum()), float(q.sum()), float(p @ q)
    return _Moments(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ y, q @ x, p @ y, *sums)


def _interval(
    whole: _Spaces, a: Floats, b: Floats, centres: tuple[Array, Array], groups: Sequence[str], seed: int
) -> tuple[float, float, str | None]:
    """Ends of the debiased CKA's interval from leaving out sets of patients in turn, or why there is none."""
    _, patient = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    patients = int(patient.max()) + 1 if len(patient) else 0
    value = whole.debiased()
    if np.isnan(value):
        return np.nan, np.nan, "fewer than four images, or a space without spread"
    if patients < FEWEST_PATIENTS:
        return np.nan, np.nan, f"no interval: {patients} patients, at least {FEWEST_PATIENTS} needed"
    folds = min(FOLDS, patients)
    fold = (np.random.default_rng(seed).permutation(patients) % folds)[patient]
    parts = (_spaces(a, b, centres, np.flatnonzero(fold == f)) for f in range(folds))
    left_out = np.array([whole.plus(part, -1).debiased() for part in parts])
    error = np.sqrt((folds - 1) / folds * ((left_out - left_out.mean()) ** 2).sum())
    half = float(student.ppf((1 + CONFIDENCE) / 2, folds - 1) * error)
    if np.isnan(half):
        return np.nan, np.nan, "no interval: undefined without some of the patients"
    return value - half, min(value + half, 1.0), None


def _drifts(
    a: Floats, b: Floats, centres: tuple[Array, Array], spaces: _Spaces, targets: Floats
) -> tuple[Array, Array, list[str | None]]:
    """Each label's drift (L,), raw and aligned, in units of its spread in a; and why it is NaN."""
    members = targets == 1
    counts = members.sum(axis=0)
    spread, _ = centroid_distances(Points(a, normalised=False), members)
    spread = np.where(counts > 1, spread, np.nan)
    at_a, at_b = (_centroids(vectors, members) for vectors in (a, b))
    # the smaller space is a plane of the larger
    left, _, right = np.linalg.svd(spaces.ab.covariance().T, full_matrices=False)
    aligned = (at_b - centres[1]) @ (left @ right) + centres[0]
    same = a.shape[1] == b.shape[1]
    raw = np.linalg.norm(at_a - at_b, axis=1) if same else np.full(len(counts), np.nan)
    reasons: list[str | None] = [None] * len(counts)
    for k, count in enumerate(counts):
        if count < 2:
            reasons[k] = f"{count} images with the label"
        elif not same:
            reasons[k] = f"no raw drift between {a.shape[1]} and {b.shape[1]} dimensions"
    return quotient(raw, spread), quotient(np.linalg.norm(at_a - aligned, axis=1), spread), reasons


def _centroids(vectors: Floats, members: npt.NDArray[np.bool_]) -> Array:
    """(L, D); zero where a label has no members."""
    total = np.zeros((members.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _ROWS):
        total += members[start : start + _ROWS].T.astype(np.float64) @ vectors[start : start + _ROWS].astype(np.float64)
    centroids: Array = total / np.maximum(members.sum(axis=0), 1)[:, None]
    return centroids
