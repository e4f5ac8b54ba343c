"""What is resampled: one setting's scores on the test images, and the patient of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.errors import DataError
from radlens.core.parts import MetricInput


@dataclass(frozen=True)
class SettingScores:
    """One setting on N images and L labels.

    setting: its name. inputs: scores (N, L), targets (N, L) with NaN for null, decisions (N, L). groups: N patient
    ids. image_ids: N names, by which settings are held to the same images; may be left out.
    """

    setting: str
    inputs: MetricInput
    groups: Sequence[str]
    image_ids: Sequence[str] | None = None


@dataclass(frozen=True)
class Patients:
    """Images by patient. index intp (N,): each image's patient, 0 to count - 1, in alphabetical order of their ids."""

    index: npt.NDArray[np.intp]
    count: int

    @property
    def images_each(self) -> npt.NDArray[np.intp]:
        """(count,) images of each patient."""
        return np.bincount(self.index, minlength=self.count)


def patients_of(results: Sequence[SettingScores], labels: Sequence[str]) -> Patients:
    """Check that the settings can be resampled together, and number their patients.

    Raises `DataError` without settings or images, for a setting named twice, arrays of other shapes, a score that is
    not finite (image and label named), and settings whose images or patients differ.
    """
    if not results:
        raise DataError("expected at least one setting to resample, found none; name the settings to evaluate.")
    names = [result.setting for result in results]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"setting {twice[0]!r} stands twice; resampling needs each setting once.")
    first = results[0]
    for result in results:
        _check_arrays(result, labels)
        _check_same_images(first, result)
    if not len(first.groups):
        raise DataError("expected test images to resample, found none; check the split.")
    _, index = np.unique(np.asarray(first.groups, dtype=str), return_inverse=True)
    return Patients(index.astype(np.intp), int(index.max()) + 1)


def _check_arrays(result: SettingScores, labels: Sequence[str]) -> None:
    shape = (len(result.groups), len(labels))
    arrays: dict[str, npt.NDArray[Any]] = {
        "scores": result.inputs.scores,
        "targets": result.inputs.targets,
        "decisions": result.inputs.decisions,
    }
    for what, array in arrays.items():
        if array.shape != shape:
            raise DataError(
                f"setting {result.setting!r}: expected {what} of {shape[0]} images and {shape[1]} labels, found shape "
                f"{array.shape}; give all arrays in the same order of images and labels."
            )
    broken = np.argwhere(~np.isfinite(result.inputs.scores))
    if len(broken):
        row, column = (int(x) for x in broken[0])
        image = result.image_ids[row] if result.image_ids is not None else f"number {row}"
        raise DataError(
            f"setting {result.setting!r}: expected finite scores, found {result.inputs.scores[row, column]} for image "
            f"{image}, label {labels[column]!r} ({len(broken)} in all); train the setting again or leave it out."
        )


def _check_same_images(first: SettingScores, other: SettingScores) -> None:
    same = f"settings {first.setting!r} and {other.setting!r}"
    if first.image_ids is not None and other.image_ids is not None:
        missing = len(set(first.image_ids) ^ set(other.image_ids))
        if missing or list(first.image_ids) != list(other.image_ids):
            found = f"{missing} images that only one of them has" if missing else "another order"
            raise DataError(
                f"{same}: expected the same test images, found {found}; evaluate both on one cohort and split."
            )
    if list(first.groups) != list(other.groups):
        raise DataError(f"{same}: expected the same patients image by image; evaluate both on one cohort and split.")
