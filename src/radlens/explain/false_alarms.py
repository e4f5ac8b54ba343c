"""What maps do on images that do not show the finding: do they light up as much, in the same place, as strongly?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.interval_ends import percentile_ends
from radlens.core.patient_means import PatientMeans, patient_means
from radlens.core.regions import Annotations, Geometry, SaliencyMaps
from radlens.core.undefined import mean_of_defined, quotient
from radlens.explain.baselines import Grid, region_on_grid
from radlens.explain.maps import CONSTANT
from radlens.explain.presence import Presence, presences
from radlens.explain.region_pixels import region_pixels
from radlens.explain.strength_ranking import Ranking, strength_auroc

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

_COUNTED = (
    *("images_absent", "patients_absent", "images_present", "patients_present", "images_disputed"),
    *("constant_absent", "constant_present"),
)
_MEASURED = (
    *("area_absent", "area_present", "area_difference", "energy_absent", "energy_present", "energy_difference"),
    *("auroc_strength", "called_positive"),
)
SCHEMA = {
    **dict.fromkeys(("setting", "method", "layer", "label"), pl.String),
    **dict.fromkeys(_COUNTED, pl.Int64),
    "prior_area": pl.Float64,
    **{
        f"{name}{end}": pl.String if end == "_reason" else pl.Float64
        for name in _MEASURED
        for end in ("", "_low", "_high", "_reason")
    },
}
_NO_PRIOR = "undefined: no region of the label in another patient to take a prior from"
_NO_STRENGTHS = "undefined: the maps were stored without their strengths; draw them again"
_NO_DECISIONS = "undefined: no decision of the setting is known"
# images of which maps are cut at once
_IMAGES = 128
Estimate = tuple[float, float, float, str | None]


@dataclass(frozen=True)
class _Images:
    """Images of one label whose presence is known. rows (N,) in the maps; absent (N,); patients (N,); prior (N, P)."""

    rows: npt.NDArray[np.intp]
    absent: Bits
    patients: npt.NDArray[np.str_]
    prior: Array
    disputed: int


def false_alarm_table(
    results: Mapping[str, SaliencyMaps],
    present: Mapping[str, Mapping[str, bool | None]],
    patients: Mapping[str, str],
    annotations: Annotations | None,
    geometries: Mapping[str, Geometry],
    decisions: Mapping[str, Mapping[str, Mapping[str, bool | None]]] | None = None,
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """Maps on images without the finding beside those on images with it, with columns as in `SCHEMA`.

    results: setting -> its maps. present: label -> image id -> target (None or missing: unknown). patients, geometries:
    image id -> patient, geometry; annotated images of which either is unknown give no prior. decisions: setting ->
    label -> image id -> whether the setting calls it positive. Whether an image shows a label follows `presence_of`;
    disputed and unknown images are left aside, and a label without an absent image has no rows. A method without depth
    stands once, with layer `-`.
    Columns are defined in `explain.table_definitions`. Each figure has its 95 % interval over patients, or null and the
    reason; undefined figures are null. Deterministic in `seed`.
    """
    tables = [pl.DataFrame(schema=SCHEMA)]
    regions: dict[tuple[str, tuple[int, int]], list[tuple[str, Grid]]] = {}
    for setting, maps in results.items():
        shape = (maps.maps.shape[-2], maps.maps.shape[-1])
        for column, label in enumerate(maps.labels):
            if (label, shape) not in regions:
                regions[label, shape] = _regions(label, annotations, geometries, patients, shape)
            known = presences(maps.image_ids, label, present.get(label, {}), annotations)
            images = _images(maps, known, patients, regions[label, shape])
            if images.absent.any():
                called = (decisions or {}).get(setting, {}).get(label, {})
                said = np.array([_or_nan(called.get(maps.image_ids[row])) for row in images.rows])
                tables.append(_of_label(setting, maps, column, images, said, seed))
    return pl.concat(tables).with_columns(pl.selectors.float().fill_nan(None))


def highlighted_area(maps: npt.NDArray[np.floating[Any]]) -> Array:
    """Share of the patches above Otsu's threshold: maps (..., P) -> (...), in [0, 1); 0 for a constant map.

    Every cut between two distinct values is tried, ties go to the lowest. Source: Otsu, IEEE Trans. SMC 9, 1979.
    """
    ordered = np.sort(maps.astype(np.float64), axis=-1)
    cells = ordered.shape[-1]
    sums = ordered.cumsum(axis=-1)
    below = np.arange(1, cells, dtype=np.float64)
    above = cells - below
    between = below * above * (sums[..., :-1] / below - (sums[..., -1:] - sums[..., :-1]) / above) ** 2
    between = np.where(ordered[..., 1:] > ordered[..., :-1], between, 0.0)
    best = between.max(axis=-1, keepdims=True)
    share: Array = above[(between >= best * (1 - 1e-9)).argmax(axis=-1)] / cells
    return np.where(best[..., 0] > 0, share, 0.0)


def _regions(
    label: str,
    annotations: Annotations | None,
    geometries: Mapping[str, Geometry],
    patients: Mapping[str, str],
    shape: tuple[int, int],
) -> list[tuple[str, Grid]]:
    """(patient, region of the label on the grid) of every annotated image."""
    found = []
    for image_id in annotations.image_ids() if annotations is not None else ():
        shapes = annotations.shapes(image_id, label) if annotations is not None else ()
        if shapes and image_id in geometries and image_id in patients:
            geometry = geometries[image_id]
            grid = region_on_grid(region_pixels(shapes, geometry.height, geometry.width), geometry, shape)
            if grid.any():
                found.append((patients[image_id], grid))
    return found


def _images(
    maps: SaliencyMaps,
    known: Sequence[Presence | None],
    patients: Mapping[str, str],
    regions: Sequence[tuple[str, Grid]],
) -> _Images:
    rows = np.array([row for row, one in enumerate(known) if one in ("present", "absent")], np.intp)
    absent = np.array([known[row] == "absent" for row in rows], bool)
    who = [patients[maps.image_ids[row]] for row in rows]
    cells = maps.maps.shape[-2] * maps.maps.shape[-1]
    priors: dict[str, Array] = {}
    for patient in dict.fromkeys(who):
        others = [grid.ravel() for owner, grid in regions if owner != patient]
        nothing = np.full(cells, np.nan)
        priors[patient] = np.mean(others, axis=0, dtype=np.float64) if others else nothing
    prior = np.array([priors[patient] for patient in who]).reshape(len(who), cells)
    return _Images(rows, absent, np.array(who), prior, known.count("disputed"))


def _of_label(setting: str, maps: SaliencyMaps, column: int, images: _Images, called: Array, seed: int) -> pl.DataFrame:
    distinct = maps.distinct()
    methods, layers = [site[0] for site in distinct], [site[1] for site in distinct]
    constant = np.zeros((len(images.rows), len(distinct)), bool)
    for n, row in enumerate(images.rows):
        flags = (
            maps.flags.get((int(row), column, method, layer)) for method, layer in zip(methods, layers, strict=True)
        )
        constant[n] = [flag == CONSTANT for flag in flags]
    blocks = []
    for start in range(0, len(images.rows), _IMAGES):
        part = slice(start, start + _IMAGES)
        grids = maps.maps[images.rows[part], column][:, methods, layers]
        blocks.append(_figures(grids.reshape(*grids.shape[:2], -1), constant[part], images.prior[part]))
    area, energy = (np.concatenate(each) for each in zip(*blocks, strict=True))
    sides = [
        np.where(side[:, None], figure, np.nan) for figure in (area, energy) for side in (images.absent, ~images.absent)
    ]
    on_absent = np.where(images.absent, called, np.nan)[:, None]
    means = patient_means(np.concatenate([*sides, on_absent], axis=1), images.patients, seed=seed)
    ranking = None
    if maps.strengths is not None:
        strengths = maps.strengths[images.rows, column][:, methods, layers]
        ranking = strength_auroc(strengths, ~images.absent, images.patients, seed=seed)
    counts = [
        count for side in (images.absent, ~images.absent) for count in (side.sum(), len(set(images.patients[side])))
    ]
    rows = []
    for k, (method, _, layer) in enumerate(distinct):
        constants = [int(constant[side, k].sum()) for side in (images.absent, ~images.absent)]
        counted = (*map(int, counts), images.disputed, *constants, mean_of_defined(images.prior))
        figures = [end for one in _estimates(means, ranking, k, len(distinct)) for end in one]
        rows.append((setting, maps.methods[method], layer, maps.labels[column], *counted, *figures))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _figures(grids: npt.NDArray[np.float16], constant: Bits, prior: Array) -> tuple[Array, Array]:
    """Highlighted area and energy in the prior, (N, K) each, of maps (N, K, P); prior (N, P), NaN where none."""
    values = grids.astype(np.float64)
    energy = quotient(np.einsum("nkp,np->nk", values, prior), values.sum(axis=-1))
    even = constant | (values.max(axis=-1) == values.min(axis=-1))
    # a map that says nothing counts as spread evenly, as in the localisation table
    return np.where(even, 0.0, highlighted_area(values)), np.where(even, prior.mean(axis=1)[:, None], energy)


def _estimates(means: PatientMeans, ranking: Ranking | None, k: int, count: int) -> Iterator[Estimate]:
    """The estimates of map k of `count`, in the order of `_MEASURED`."""
    for measure, why in enumerate((None, _NO_PRIOR)):
        absent, present = 2 * measure * count + k, (2 * measure + 1) * count + k
        unknown = why if means.images[absent] + means.images[present] == 0 else None
        for at in (absent, present):
            yield float(means.value[at]), float(means.low[at]), float(means.high[at]), unknown or means.reason[at]
        difference = float(means.value[absent] - means.value[present])
        reason = unknown or means.reason[absent] or means.reason[present]
        ends = percentile_ends((means.replicates[:, absent] - means.replicates[:, present])[:, None])
        low, high = (float(end[0]) if reason is None else float("nan") for end in ends)
        yield difference, low, high, reason
    if ranking is None:
        yield float("nan"), float("nan"), float("nan"), _NO_STRENGTHS
    else:
        yield float(ranking.value[k]), float(ranking.low[k]), float(ranking.high[k]), ranking.reason[k]
    at = 4 * count
    reason = means.reason[at] if means.images[at] else _NO_DECISIONS
    yield float(means.value[at]), float(means.low[at]), float(means.high[at]), reason


def _or_nan(value: bool | None) -> float:
    return float("nan") if value is None else float(value)
