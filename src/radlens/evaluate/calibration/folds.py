"""Folds of patients for cross-fitting: what is said of a patient never comes from a fit that has seen the patient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.evaluate.patient_numbers import Patients, patient_numbers


def patient_folds(groups: Patients, targets: npt.NDArray[np.float32], count: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,) fold of each image, 0 to count - 1; all images of a patient share one.

    groups: N patients; targets (N, L). Patients are dealt out in turn, those with the same rarest positive label one
    after the other, so that the few positives of a rare label are spread over the folds. Fewer patients than folds
    fill fewer folds.
    """
    patient = patient_numbers(groups)
    patients = int(patient.max()) + 1 if len(patient) else 0
    positive = np.zeros((patients, targets.shape[1]), np.bool_)
    np.logical_or.at(positive, patient, targets == 1)
    rarity = np.argsort(positive.sum(axis=0), kind="stable")
    ordered = positive[:, rarity]
    rarest = np.where(ordered.any(axis=1), ordered.argmax(axis=1), targets.shape[1])
    order = np.lexsort((np.random.default_rng(seed).random(patients), rarest))
    fold = np.empty(patients, np.int64)
    fold[order] = np.arange(patients) % count
    dealt: npt.NDArray[np.int64] = fold[patient]
    return dealt
