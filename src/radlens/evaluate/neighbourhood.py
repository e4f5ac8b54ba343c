"""Whose neighbours an image has: silhouette and the share of its label among the nearest images of other patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.interval_ends import percentile_ends
from radlens.core.patient_means import REPLICATES, PatientMeans, patient_means
from radlens.core.undefined import mean_of_defined, quotient
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.distances import Points, block_distances
from radlens.evaluate.patient_sample import patient_sample

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
IMAGES = 20_000
"""Images looked at, at most."""
NEIGHBOURS = 10
SCHEMA: dict[str, Any] = {
    "name": pl.String,
    "normalised": pl.Boolean,
    "silhouette": pl.Float64,
    "silhouette_low": pl.Float64,
    "silhouette_high": pl.Float64,
    "silhouette_positives": pl.Float64,
    "silhouette_positives_low": pl.Float64,
    "silhouette_positives_high": pl.Float64,
    "knn_purity": pl.Float64,
    "knn_purity_low": pl.Float64,
    "knn_purity_high": pl.Float64,
    "knn_purity_baseline": pl.Float64,
    "neighbours": pl.Int64,
    "positives": pl.Int64,
    "negatives": pl.Int64,
    "images": pl.Int64,
    "reason": pl.String,
}
_RESAMPLED = ("silhouette", "silhouette_positives", "knn_purity")


def neighbourhood(
    embeddings: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    groups: Sequence[str],
    vocabulary: Vocabulary,
    seed: int,
    neighbours: int = NEIGHBOURS,
    replicates: int = REPLICATES,
) -> pl.DataFrame:
    """Silhouette and nearest-neighbour purity per label, then their means over labels (`overall`), raw and normalised.

    embeddings float32 (N, D) un-normalised; targets (N, L) 1, 0 or NaN; groups: N patient ids. Labels overlap, so each
    is a clustering of its own, positives against negatives; images that it is not assessed on are left out.
    silhouette in [-1, 1]: mean over the images of (b - a) / max(a, b), a the mean distance to the other images of its
    kind, b that to the other kind (Rousseeuw, J Comput Appl Math 20, 1987, 53); silhouette_positives: the mean over
    positives alone, for rare labels drown in the first. 0 says that the kinds lie alike; a kind that is merely tighter
    gives more than 0 to its own images and less to the others. NaN without two images of either kind.
    knn_purity in [0, 1]: mean over positives of the share of positives among its `neighbours` nearest images of other
    patients, of those assessed; knn_purity_baseline: the share among all assessed images of other patients, what
    neighbours drawn at random would give. images: at most `IMAGES`, of patients drawn at random.
    `_low` and `_high`: 95 % interval over patients (BCa; for the mean over labels percentiles) of the mean of what each
    image has among these very neighbours; reason: why knn_purity, or else a silhouette, has none.
    """
    sample = patient_sample(groups, IMAGES, seed)
    kept, patient = sample.rows, sample.patient
    known = targets[kept]
    positive, negative = known == 1, known == 0
    baseline = _baseline(positive, negative, patient)
    rows: list[dict[str, Any]] = []
    for normalised in (False, True):
        points = Points(embeddings[kept], normalised=normalised)
        silhouettes, purity = _around(points, positive, negative, patient, neighbours)
        both = (positive.sum(axis=0) > 1) & (negative.sum(axis=0) > 1)
        each = (
            np.where(both & (positive | negative), silhouettes, np.nan),
            np.where(both & positive, silhouettes, np.nan),
            np.where(positive, purity, np.nan),
        )
        values, names = np.concatenate(each, axis=1), sample.names
        if not names:
            # resampling nobody: one image without any value says the same
            values, names = np.full((1, values.shape[1]), np.nan), ("nobody",)
        found = patient_means(values, names, seed=seed, replicates=replicates)
        fixed = {"normalised": normalised, "neighbours": neighbours, "images": len(kept)}
        for k, name in enumerate(vocabulary.names):
            counts = {"positives": int(positive[:, k].sum()), "negatives": int(negative[:, k].sum())}
            beside = {"knn_purity_baseline": float(baseline[k]), **counts}
            rows.append({"name": name, **fixed, **_of_label(found, k, len(vocabulary)), **beside})
        means = _over_labels(found, len(vocabulary))
        rows.append({"name": "overall", **fixed, **means, "knn_purity_baseline": mean_of_defined(baseline)})
    return pl.DataFrame(sorted(rows, key=lambda row: row["name"] == "overall"), schema=SCHEMA)


def _of_label(found: PatientMeans, label: int, labels: int) -> dict[str, float | str | None]:
    values: dict[str, float | str | None] = {}
    reasons = []
    for place, name in enumerate(_RESAMPLED):
        at = place * labels + label
        values |= {name: float(found.value[at])}
        values |= {f"{name}_low": float(found.low[at]), f"{name}_high": float(found.high[at])}
        reasons.append(found.reason[at])
    return values | {"reason": next((reason for reason in reversed(reasons) if reason), None)}


def _over_labels(found: PatientMeans, labels: int) -> dict[str, float | str | None]:
    """Means over the labels that are defined, under the same resamples; an interval where any label has one."""
    values: dict[str, float | str | None] = {"reason": None}
    for place, name in enumerate(_RESAMPLED):
        own = slice(place * labels, (place + 1) * labels)
        low, high = percentile_ends(np.asarray(mean_of_defined(found.replicates[:, own], axis=1))[:, None])
        some = not np.isnan(found.low[own]).all()
        values |= {name: mean_of_defined(found.value[own])}
        values |= {f"{name}_low": float(low[0]) if some else np.nan, f"{name}_high": float(high[0]) if some else np.nan}
        if not some:
            values["reason"] = "not estimable: no label has enough patients"
    return values


def _around(
    points: Points,
    positive: npt.NDArray[np.bool_],
    negative: npt.NDArray[np.bool_],
    patient: npt.NDArray[np.intp],
    neighbours: int,
) -> tuple[Array, Array]:
    """(N, L) silhouette of every image for every label, and share of positives among its nearest assessed images."""
    labels = positive.shape[1]
    both = np.concatenate([positive, negative], axis=1).astype(np.float64)
    counts = both.sum(axis=0)
    silhouettes, purity = np.full(positive.shape, np.nan), np.full(positive.shape, np.nan)
    blocks = points.blocks()
    for here in blocks:
        block = points.prepared(here)
        towards = np.zeros((len(block.exact), 2 * labels))
        near = np.zeros((len(block.exact), 0), np.float32)
        who = np.zeros(near.shape, np.intp)
        for there in blocks:
            between = block_distances(block, points.prepared(there))
            towards += between.astype(np.float64) @ both[there]
            between[patient[here][:, None] == patient[there]] = np.inf
            near = np.concatenate([near, between], axis=1)
            who = np.concatenate([who, np.broadcast_to(np.arange(there.start, there.stop), between.shape)], axis=1)
            if near.shape[1] > neighbours:
                first = np.argpartition(near, neighbours - 1, axis=1)[:, :neighbours]
                near, who = np.take_along_axis(near, first, axis=1), np.take_along_axis(who, first, axis=1)
        to_positive = quotient(towards[:, :labels], counts[:labels] - positive[here])
        to_negative = quotient(towards[:, labels:], counts[labels:] - negative[here])
        own = np.where(positive[here], to_positive, to_negative)
        other = np.where(positive[here], to_negative, to_positive)
        larger = np.maximum(own, other)
        # points that all lie on one spot are as near to the one kind as to the other
        silhouettes[here] = np.where(larger == 0, 0.0, quotient(other - own, larger))
        found = np.isfinite(near)[:, :, None]
        hits, assessed = positive[who] & found, (positive | negative)[who] & found
        purity[here] = quotient(hits.sum(axis=1), assessed.sum(axis=1))
    return silhouettes, purity


def _baseline(positive: npt.NDArray[np.bool_], negative: npt.NDArray[np.bool_], patient: npt.NDArray[np.intp]) -> Array:
    """(L,) mean over positives of the share of positives among all assessed images of other patients."""
    own = np.zeros((2, patient.max() + 1 if len(patient) else 0, positive.shape[1]))
    for total, images in zip(own, (positive, positive | negative), strict=True):
        np.add.at(total, patient, images)
    others = own.sum(axis=1, keepdims=True) - own
    return _mean(quotient(others[0], others[1])[patient], positive)


def _mean(values: Array, where: npt.NDArray[np.bool_]) -> Array:
    return np.asarray(mean_of_defined(np.where(where, values, np.nan), axis=0))
