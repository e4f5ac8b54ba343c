"""What one image adds to the overall metrics, each a mean over images of such values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput

IMAGE_VALUES = ("assessed", "exact_match", "lrap", "coverage_error", "ranking_loss")


def image_values(inputs: MetricInput) -> npt.NDArray[np.float64]:
    """(N, 5) in the order of `IMAGE_VALUES`; all 0 for an image without an assessed label, which counts nowhere.

    assessed: 1 for an image with an assessed label. The others: the image's own value of the registered metric.
    """
    scores = np.ascontiguousarray(inputs.scores.T)
    positive, negative = np.ascontiguousarray((inputs.targets == 1).T), np.ascontiguousarray((inputs.targets == 0).T)
    called = np.ascontiguousarray((inputs.decisions == 1).T)
    positives, negatives = positive.sum(axis=0), negative.sum(axis=0)
    assessed = positives + negatives > 0
    right = assessed & ~((positive & ~called) | (negative & called)).any(axis=0)
    precision, misordered = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    for own, is_positive in zip(scores, positive, strict=True):
        # ties count against the ranking, as in scikit-learn
        at_least = scores >= own
        beside, above = (at_least & positive).sum(axis=0), (at_least & negative).sum(axis=0)
        precision += np.where(is_positive, beside / np.maximum(beside + above, 1), 0.0)
        misordered += np.where(is_positive, above, 0)
    trivial = (positives == 0) | (negatives == 0)
    lowest = np.where(positive, scores, np.inf).min(axis=0, initial=np.inf)
    columns = (
        assessed,
        right,
        np.where(trivial, 1.0, precision / np.maximum(positives, 1)),
        ((scores >= lowest) & (positive | negative)).sum(axis=0),
        misordered / np.maximum(positives * negatives, 1),
    )
    return np.where(assessed[:, None], np.stack(columns, axis=1).astype(np.float64), 0.0)
