"""Whether a label's map is that label's own: on its regions it must hold more than the maps of other labels do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.regions import Annotations, Geometry, SaliencyMaps
from radlens.core.undefined import mean_of_defined, quotient
from radlens.explain.baselines import Grid, region_on_grid
from radlens.explain.region_pixels import region_pixels
from radlens.explain.trust.evidence import evidence
from radlens.explain.trust.paired import Answer, Comparison, answers
from radlens.explain.trust.targets import rows_of_labels

Array = npt.NDArray[np.float64]
CHECK = "class-specific"
_OTHERS = "the maps of the other labels"


def region_grids(
    annotations: Annotations,
    image_ids: Iterable[str],
    labels: Sequence[str],
    geometries: Mapping[str, Geometry],
    grid: tuple[int, int],
) -> dict[tuple[str, str], Grid]:
    """(image id, label) -> share of each patch that the label's region covers, where a patch is touched at all.

    Regions that lie outside the crop, or cover no pixel centre, are left out.
    """
    found: dict[tuple[str, str], Grid] = {}
    for image_id in image_ids:
        geometry = geometries[image_id]
        for label in annotations.labels_of(image_id):
            if label in labels:
                pixels = region_pixels(annotations.shapes(image_id, label), geometry.height, geometry.width)
                shares = region_on_grid(pixels, geometry, grid)
                if shares.any():
                    found[image_id, label] = shares
    return found


def energy_on_grid(maps: npt.NDArray[np.floating], region: Grid) -> Array:
    """Maps (..., rows, columns) -> (...): sum(map x share of the patch in the region) / sum(map), in [0, 1].

    The energy-based pointing game on patches: linear in the map, so that many maps cost one product. A map of zeros is
    taken as spread evenly. Against the score on enlarged maps it leaves out what interpolation carries over a border.
    """
    exact = maps.astype(np.float64)
    total = exact.sum(axis=(-1, -2))
    inside = (exact * region).sum(axis=(-1, -2))
    return np.where(total > 0, quotient(inside, total), float(region.mean()))


def class_specificity(
    results: Mapping[str, SaliencyMaps],
    regions: Mapping[tuple[str, str], Grid],
    patients: Mapping[str, str],
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """Evidence `class-specific`: energy of a label's map in its own regions - mean energy there of the other labels'.

    results: setting -> its maps. regions: as `region_grids` makes them. patients: image id -> patient. Paired by
    image. A label that has a region of its own in the same image is not among the others: it may rightly mark the same
    place. value and rival are energies in [0, 1]. Label `all` takes every pair with the same weight.
    """
    rows: list[dict[str, object]] = []
    for setting, maps in results.items():
        at = {image: index for index, image in enumerate(maps.image_ids)}
        pairs = [(image, label) for image, label in regions if image in at and label in maps.labels]
        both = np.array([_energies(maps, at[image], image, label, regions) for image, label in pairs])
        keys = [(method, layer) for method in maps.methods for layer in maps.layers]
        for label, chosen in rows_of_labels([label for _, label in pairs]).items():
            compared = Comparison(_OTHERS, both[chosen, 0], both[chosen, 1])
            found = answers(compared, [patients[pairs[row][0]] for row in chosen], seed=seed)
            for (method, layer), answer in zip(keys, found, strict=True):
                key = {"setting": setting, "method": method, "layer": layer, "label": label, "check": CHECK}
                rows.append(key | answer.row(_reason(answer)))
    return evidence(rows)


def _energies(
    maps: SaliencyMaps, at: int, image: str, label: str, regions: Mapping[tuple[str, str], Grid]
) -> tuple[Array, Array]:
    """Of the label's own maps, and the mean of the other labels': each (methods x layers,)."""
    energy = energy_on_grid(maps.maps[at], regions[image, label]).reshape(len(maps.labels), -1)
    absent = [row for row, other in enumerate(maps.labels) if (image, other) not in regions]
    others: Array = mean_of_defined(energy[absent], axis=0)
    return energy[maps.labels.index(label)], others


def _reason(answer: Answer) -> str:
    if answer.patients == 0:
        return "class-specificity cannot be told: no other label is without a region in these images"
    return (
        f"{answer.value:.0%} of the map lies in the label's region against {answer.rival:.0%} of {answer.rival_name} "
        f"({answer.interval()})"
    )
