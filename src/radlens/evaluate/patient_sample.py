"""Whole patients drawn at random, where looking at every image would take too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.evaluate.patient_numbers import patient_numbers


@dataclass(frozen=True)
class PatientSample:
    """rows intp (n,): the images looked at. names: the patient of each. patient (n,): the same as numbers from 0."""

    rows: npt.NDArray[np.intp]
    names: tuple[str, ...]
    patient: npt.NDArray[np.intp]


def some_patients(groups: Sequence[str], most: int, seed: int) -> npt.NDArray[np.intp]:
    """Rows, in order, of whole patients drawn at random, at most `most` images of them; all rows if they fit."""
    if len(groups) <= most:
        return np.arange(len(groups))
    patient = patient_numbers(groups)
    sizes = np.bincount(patient)
    drawn = np.random.default_rng(seed).permutation(len(sizes))
    fits = np.zeros(len(sizes), np.bool_)
    fits[drawn[np.cumsum(sizes[drawn]) <= most]] = True
    return np.flatnonzero(fits[patient])


def patient_sample(groups: Sequence[str], most: int, seed: int, *, by_patient: bool = False) -> PatientSample:
    """`some_patients` of N images with their patients; by_patient: in the order of patients, not of images."""
    rows = some_patients(groups, most, seed)
    if by_patient:
        rows = rows[np.argsort(patient_numbers(groups)[rows], kind="stable")]
    names = tuple(groups[row] for row in rows)
    return PatientSample(rows, names, patient_numbers(names))
