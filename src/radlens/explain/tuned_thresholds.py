"""Where to cut a map: the share of its maximum that finds regions best on validation images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from radlens.core.regions import Annotations, Geometry, SaliencyMaps
from radlens.core.undefined import quotient
from radlens.explain.baselines import centre_map, label_priors, region_on_grid
from radlens.explain.localization_targets import NO_LAYER, DrawnMaps, Key, grid_of, targets_of
from radlens.explain.pair_scores import BASELINE, CENTRE, LABEL_PRIOR, ORACLE
from radlens.explain.sampled_region import sampled_region
from radlens.explain.sampled_scores import iou_at_shares

SHARES = np.arange(1, 20) / 20
"""The thresholds that are tried: .05, .10, ... .95 of the map's maximum."""


def tuned_thresholds(
    val_results: Mapping[str, SaliencyMaps],
    annotations: Annotations,
    geometries: Mapping[str, Geometry],
    patients: Mapping[str, str] | None = None,
) -> dict[Key, float]:
    """(setting, method, layer) -> the share of `SHARES` with the highest mean IoU over validation images.

    The mean is over all image-label pairs with a region, all labels together: one threshold a label would rest on a
    handful of regions. Pixels above the share times the map's maximum count as found; the lowest of tied shares is
    taken. `baseline` has its own thresholds (centre, oracle and, where `patients` (image id -> patient) are given,
    label-prior), so that it is not held back. Empty where no validation image has a region that covers a pixel.
    """
    regions = annotations.of([image for maps in val_results.values() for image in maps.image_ids]).regions
    labels = {label for maps in val_results.values() for label in maps.labels}
    if not any(region.label in labels for region in regions):
        return {}
    targets, shape = targets_of(val_results, annotations, geometries), grid_of(val_results)
    drawn = {setting: DrawnMaps(maps) for setting, maps in val_results.items()}
    grids: dict[str, dict[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]]] = {}
    for target in targets:
        grid = region_on_grid(target.pixels(), target.geometry, shape)
        grids.setdefault(target.label, {})[target.image_id] = grid
    priors = {} if patients is None else {label: label_priors(own, patients) for label, own in grids.items()}
    sums: dict[Key, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    counts: dict[Key, int] = {}
    for target in targets:
        image_id, label = target.image_id, target.label
        region = sampled_region(target.pixels(), target.geometry, shape)
        if not region.area:
            continue
        maps: dict[Key, np.ndarray[tuple[int, int], np.dtype[np.float32]]] = {
            (setting, method, layer): grid
            for setting, one in drawn.items()
            if one.has(image_id, label)
            for (method, layer), grid in zip(one.columns, one.grids(image_id, label), strict=True)
        }
        maps[BASELINE, CENTRE, NO_LAYER] = centre_map(*shape)
        maps[BASELINE, ORACLE, NO_LAYER] = grids[label][image_id]
        if (prior := priors.get(label, {}).get(image_id)) is not None:
            maps[BASELINE, LABEL_PRIOR, NO_LAYER] = prior
        for key, row in zip(maps, iou_at_shares(np.stack(list(maps.values())), region, SHARES), strict=True):
            sums[key] = sums.get(key, np.zeros(len(SHARES))) + row
            counts[key] = counts.get(key, 0) + 1
    means = {key: quotient(total, counts[key]) for key, total in sums.items()}
    return {key: float(SHARES[int(mean.argmax())]) for key, mean in means.items()}
