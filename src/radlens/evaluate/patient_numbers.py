"""Patients as numbers: names are compared once, not once a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Patients = Sequence[str] | npt.NDArray[np.integer]


def patient_numbers(groups: Patients) -> npt.NDArray[np.intp]:
    """(N,) number of each image's patient, 0 to patients - 1, in the order of their names or given numbers."""
    given = np.asarray(groups)
    if not np.issubdtype(given.dtype, np.integer):
        given = given.astype(str)
    numbers: npt.NDArray[np.intp] = np.unique(given, return_inverse=True)[1]
    return numbers
