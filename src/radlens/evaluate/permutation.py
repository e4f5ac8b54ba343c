"""Shuffling labels between patients: the null that separability is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_FEW = 5


def patient_shuffles(groups: Sequence[str], count: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """`count` orders (N,): image i takes the label row of image order[i]; whole patients change places.

    groups: the patient of each of N images. Patients change places with patients of as many images, so that rows of one
    patient stay together. Numbers of images that fewer than five patients have are pooled; there a patient's rows may
    be divided over two. Every order is a permutation: label counts never change.
    """
    _, patient = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    by_patient = np.argsort(patient, kind="stable")
    sizes = np.bincount(patient)
    first = np.cumsum(sizes) - sizes
    common = np.bincount(sizes)[sizes] >= _FEW if len(sizes) else np.zeros(0, np.bool_)
    strata = np.where(common, sizes, 0)
    random = np.random.default_rng(seed)
    orders = []
    for _ in range(count):
        order = np.empty(len(patient), np.intp)
        for stratum in np.unique(strata):
            inside = np.flatnonzero(strata == stratum)
            order[_images(inside, first, sizes, by_patient)] = _images(
                random.permutation(inside), first, sizes, by_patient
            )
        orders.append(order)
    return orders


def _images(
    patients: npt.NDArray[np.intp],
    first: npt.NDArray[np.intp],
    sizes: npt.NDArray[np.intp],
    by_patient: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Images of these patients, one patient after the other."""
    each = sizes[patients]
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    images: npt.NDArray[np.intp] = by_patient[np.repeat(first[patients], each) + within]
    return images
