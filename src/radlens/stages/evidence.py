"""What a classifier's card says for itself: on which cohort and split it was measured, by what, and on what machine."""

from __future__ import annotations

import math
import os
import platform
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.cohort import Cohort
from radlens.core.parts import MetricInput
from radlens.core.store import fingerprint
from radlens.evaluate.scoring import score
from radlens.evaluate.thresholds import decide
from radlens.stages.cohort import cohort_fingerprint


def evidence(
    cohort: Cohort, probabilities: npt.NDArray[np.float64], thresholds: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Fingerprints of cohort and split, every metric on the test split with its n, and the machine.

    probabilities: (N, L) of all images. A metric that is not defined is null.
    """
    test = cohort.where("test")
    targets, scores = cohort.targets()[test], probabilities[test]
    inputs = MetricInput(scores, targets, decide(scores, thresholds))
    by_label = score(inputs, "label")
    labels = {
        label: {
            "positives": int((targets[:, column] == 1).sum()),
            "negatives": int((targets[:, column] == 0).sum()),
            **{name: _number(values[column]) for name, values in by_label.items()},
        }
        for column, label in enumerate(cohort.vocabulary.names)
    }
    return {
        "cohort": {
            "name": cohort.name,
            "fingerprint": cohort_fingerprint(cohort),
            "split_fingerprint": fingerprint(cohort.table["image_id"].to_list(), cohort.table["split"].to_list()),
        },
        "metrics": {
            "split": "test",
            "images": int(test.sum()),
            "patients": len(set(cohort.groups()[test])),
            "overall": {name: _number(value) for name, value in score(inputs, "overall").items()},
            "labels": labels,
        },
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), **_accelerator()},
    }


def _accelerator() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        return {"accelerator": torch.cuda.get_device_name(), "accelerators": torch.cuda.device_count()}
    return {"accelerator": "mps" if torch.backends.mps.is_available() else None}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
