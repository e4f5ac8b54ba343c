"""Maps that know nothing of the image they are scored on: what a map must beat to mean something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from radlens.core.regions import Geometry

Grid = npt.NDArray[np.float32]


def centre_map(rows: int, columns: int) -> Grid:
    """A Gaussian about the middle of the model's input, standard deviation a quarter of each side; (rows, columns)."""
    down, across = ((np.arange(n) + 0.5 - n / 2) / (n / 4) for n in (rows, columns))
    bell: Grid = np.exp(-0.5 * np.add.outer(down**2, across**2)).astype(np.float32)
    return bell


def region_on_grid(region: npt.NDArray[np.bool_], geometry: Geometry, rows: int, columns: int) -> Grid:
    """Share of each patch that a region of the original image covers: (rows, columns) in [0, 1].

    Patches without a pixel centre of the original (an image smaller than the grid) take 0.
    """
    left, top, right, bottom = geometry.visible()
    down = _membership(region.shape[0], top, bottom, rows)
    across = _membership(region.shape[1], left, right, columns)
    covered = down.T @ region.astype(np.float32) @ across
    pixels = np.outer(down.sum(axis=0), across.sum(axis=0))
    shares: Grid = np.divide(covered, pixels, out=np.zeros_like(covered), where=pixels > 0)
    return shares


def label_prior(regions: Mapping[str, Grid], patients: Mapping[str, str], image_id: str) -> Grid | None:
    """Mean region on the grid over the images of other patients; None when there are none.

    regions: image id -> region of one label on the grid.
    """
    others = [grid for other, grid in regions.items() if patients[other] != patients[image_id]]
    return np.mean(others, axis=0, dtype=np.float32) if others else None


def other_patient(image_ids: Sequence[str], patients: Mapping[str, str], image_id: str) -> str | None:
    """The next image, in order and round the end, of another patient; None when there is none."""
    start = image_ids.index(image_id)
    turned = [*image_ids[start + 1 :], *image_ids[:start]]
    return next((other for other in turned if patients[other] != patients[image_id]), None)


def _membership(length: int, start: float, stop: float, cells: int) -> Grid:
    """(length, cells): 1 where a pixel's centre lies in a cell."""
    at = np.floor((np.arange(length) + 0.5 - start) / (stop - start) * cells)
    inside: Grid = (at[:, None] == np.arange(cells)).astype(np.float32)
    return inside
