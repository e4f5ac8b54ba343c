"""Are the test images like those of training, and does distance from them tell which decisions are wrong?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import DataError
from radlens.core.predictions import Predictions
from radlens.evaluate.chance_higher import Resampled, chance_higher, share_beyond
from radlens.evaluate.distance_to_train import NEIGHBOURS, fit_mahalanobis, nearest_distances
from radlens.evaluate.patient_sample import some_patients
from radlens.evaluate.thresholds import decide

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
IMAGES, TRAIN_IMAGES = 10_000, 20_000
"""At most so many images of validation and of test are measured; neighbours are sought among so many of training."""
FAR = 0.95
_FEWEST_VALIDATION = 20
SCHEMA: dict[str, Any] = {
    "setting": pl.String,
    "method": pl.String,
    **dict.fromkeys(("train_images", "val_images", "test_images", "test_patients"), pl.Int64),
    **dict.fromkeys(("val_median", "val_p95", "test_median", "test_p95"), pl.Float64),
    **dict.fromkeys(("farther", "farther_low", "farther_high"), pl.Float64),
    **dict.fromkeys(("beyond", "beyond_low", "beyond_high"), pl.Float64),
    "reason": pl.String,
    **dict.fromkeys(("wrong", "right"), pl.Int64),
    **dict.fromkeys(("error_auroc", "error_auroc_low", "error_auroc_high"), pl.Float64),
    "error_reason": pl.String,
}


@dataclass(frozen=True)
class TrainDistances:
    """One method's distances to the training images.

    val (V,), test (T,): of the validation images val_rows and of the test images test_rows. reason: why they are NaN.
    """

    method: str
    train_images: int
    val: Array
    test: Array
    val_rows: npt.NDArray[np.intp]
    test_rows: npt.NDArray[np.intp]
    reason: str | None = None


def train_distances(train: Floats, val: Predictions, test: Predictions, seed: int) -> tuple[TrainDistances, ...]:
    """Distances of one embedding space: `mahalanobis`, and `knn`, that to the 10th nearest at unit length.

    train (M, D). Validation and test are at most `IMAGES` each, of patients drawn at random; neighbours are sought
    among at most `TRAIN_IMAGES` training images drawn at random. Where a method cannot be fitted its distances are NaN.
    """
    at_val, at_test = (some_patients(one.groups, IMAGES, seed) for one in (val, test))
    asked = val.embeddings[at_val], test.embeddings[at_test]
    reference = train
    if len(train) > TRAIN_IMAGES:
        reference = train[np.sort(np.random.default_rng(seed).choice(len(train), TRAIN_IMAGES, replace=False))]
    found = []
    for method, base in (("mahalanobis", train), ("knn", reference)):
        try:
            if method == "mahalanobis":
                fitted = fit_mahalanobis(base)
                val_distances, test_distances = (fitted.distance(images) for images in asked)
            else:
                val_distances, test_distances = (nearest_distances(images, base, NEIGHBOURS) for images in asked)
            found.append(TrainDistances(method, len(base), val_distances, test_distances, at_val, at_test))
        except DataError as error:
            # a space that cannot be measured in is a finding about it, not the end of the study
            to_val, to_test = (np.full(len(images), np.nan) for images in asked)
            found.append(TrainDistances(method, len(base), to_val, to_test, at_val, at_test, f"undefined: {error}"))
    return tuple(found)


def distance_table(
    setting: str, found: Sequence[TrainDistances], val: Predictions, test: Predictions, thresholds: Array, seed: int
) -> pl.DataFrame:
    """A row a method, with the columns of `SCHEMA`.

    found: of the setting's embedding space. thresholds (L,) on probabilities. farther in [0, 1]: chance that a test
    image lies farther from training than a validation image, ties half; .5 where both come from one source. beyond in
    [0, 1]: share of test images that lie farther out than 95 % of the validation images (5 % expected); undefined below
    20 of these. Both with an interval over the patients of validation and test together. wrong, right: decisions on
    assessed labels. error_auroc: chance that the image of a wrong decision lies farther out than that of a right one,
    ties half, over all pairs of such decisions; .5 where distance says nothing of errors. Intervals: `chance_higher`.
    """
    assessed = ~np.isnan(test.targets)
    mistaken = assessed & (decide(test.probabilities, thresholds) != (test.targets == 1))
    rows = []
    for one in found:
        groups = [test.groups[row] for row in one.test_rows]
        wrong = mistaken[one.test_rows].sum(axis=1)
        right = assessed[one.test_rows].sum(axis=1) - wrong
        row: dict[str, Any] = {"setting": setting, "method": one.method, "train_images": one.train_images}
        row |= {"val_images": len(one.val), "test_images": len(one.test), "test_patients": len(set(groups))}
        row |= _shift(one, [val.groups[row] for row in one.val_rows], groups, seed)
        row |= {"wrong": int(wrong.sum()), "right": int(right.sum())}
        errors = Resampled(np.nan, np.nan, np.nan, one.reason)
        if not one.reason:
            errors = chance_higher(one.test, wrong, right, groups, ("wrong decisions", "right decisions"), seed=seed)
        rows.append(row | _with_ends("error_auroc", errors) | {"error_reason": errors.reason})
    return pl.DataFrame(rows, schema=SCHEMA)


def _shift(one: TrainDistances, val_groups: Sequence[str], groups: Sequence[str], seed: int) -> dict[str, Any]:
    """Where the test distances stand among those of validation."""
    ends = [
        float(np.quantile(values, share)) if len(values) else np.nan
        for values in (one.val, one.test)
        for share in (0.5, FAR)
    ]
    row: dict[str, Any] = dict(zip(("val_median", "val_p95", "test_median", "test_p95"), ends, strict=True))
    kinds = np.repeat([0.0, 1.0], [len(one.val), len(one.test)])
    every, names = [*val_groups, *groups], ("test images", "validation images")
    distances = np.concatenate([one.val, one.test])
    if one.reason:
        found = dict.fromkeys(("farther", "beyond"), Resampled(np.nan, np.nan, np.nan, one.reason))
    else:
        given = (distances, kinds, 1 - kinds, every, names)
        found = {"farther": chance_higher(*given, seed=seed), "beyond": share_beyond(*given, far=FAR, seed=seed)}
        if 0 < len(one.val) < _FEWEST_VALIDATION:
            why = f"undefined: {len(one.val)} validation images, {_FEWEST_VALIDATION} needed"
            found["beyond"] = Resampled(np.nan, np.nan, np.nan, why)
    for name, figure in found.items():
        row |= _with_ends(name, figure)
    reasons = dict.fromkeys(figure.reason for figure in found.values() if figure.reason)
    return row | {"reason": "; ".join(reasons) or None}


def _with_ends(name: str, figure: Resampled) -> dict[str, float]:
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
