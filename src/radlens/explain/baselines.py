"""Maps that know nothing of the image they are scored on: what a map must beat to mean something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.regions import Geometry
from radlens.explain.lattice import lattice
from radlens.explain.region_pixels import RegionPixels

Grid = npt.NDArray[np.float32]


def centre_map(rows: int, columns: int) -> Grid:
    """A Gaussian about the middle of the model's input, standard deviation a quarter of each side; (rows, columns)."""
    down, across = ((np.arange(n) + 0.5 - n / 2) / (n / 4) for n in (rows, columns))
    bell: Grid = np.exp(-0.5 * np.add.outer(down**2, across**2)).astype(np.float32)
    return bell


def region_on_grid(region: RegionPixels, geometry: Geometry, shape: tuple[int, int]) -> Grid:
    """Share of each patch that a region of the original image covers: `shape` (rows, columns) in [0, 1].

    Patches without a pixel centre of the original (an image smaller than the grid) take 0.
    """
    film = lattice(geometry, shape)
    covered = region.counts(film.rows.patches, film.columns.patches)
    pixels = np.outer(np.diff(film.rows.patches), np.diff(film.columns.patches))
    shares: Grid = np.divide(covered, pixels, out=np.zeros_like(covered), where=pixels > 0).astype(np.float32)
    return shares


def label_prior(regions: Mapping[str, Grid], patients: Mapping[str, str], image_id: str) -> Grid | None:
    """Mean region on the grid over the images of other patients; None when there are none.

    regions: image id -> region of one label on the grid.
    """
    others = [grid for other, grid in regions.items() if patients[other] != patients[image_id]]
    return np.mean(others, axis=0, dtype=np.float32) if others else None


def label_priors(regions: Mapping[str, Grid], patients: Mapping[str, str]) -> dict[str, Grid]:
    """`label_prior` of every image that has one, in one pass."""
    total, sums, counts = np.zeros(()), dict[str, Any](), dict[str, int]()
    for image_id, grid in regions.items():
        patient = patients[image_id]
        total = total + grid.astype(np.float64)
        sums[patient] = sums.get(patient, 0.0) + grid.astype(np.float64)
        counts[patient] = counts.get(patient, 0) + 1
    found = {}
    for image_id in regions:
        patient = patients[image_id]
        others = len(regions) - counts[patient]
        if others:
            # what is left of a difference of sums may be a hair below 0
            found[image_id] = np.maximum((total - sums[patient]) / others, 0).astype(np.float32)
    return found


def other_patients(image_ids: Sequence[str], patients: Mapping[str, str]) -> dict[str, str]:
    """Image id -> the next image, in order and round the end, of another patient; empty when there is one patient."""
    who = [patients[image_id] for image_id in image_ids]
    if len(set(who)) < 2:
        return {}
    found: dict[str, str] = {}
    # from the end, twice round: the next image is either of another patient or knows the next that is
    following = ""
    for at in (*range(len(who) - 1, -1, -1), *range(len(who) - 1, -1, -1)):
        after = (at + 1) % len(who)
        following = image_ids[after] if who[after] != who[at] else following
        if following:
            found[image_ids[at]] = following
    return found
