"""How well each map finds each region, a row each, beside maps that know nothing of the image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.regions import Annotations, Geometry, SaliencyMaps
from radlens.core.undefined import mean_of_defined
from radlens.explain.baselines import Grid, centre_map, label_priors, other_patients, region_on_grid
from radlens.explain.localization import SCORES
from radlens.explain.localization_targets import NO_LAYER, DrawnMaps, Key, Target, grid_of, targets_of
from radlens.explain.maps import CONSTANT
from radlens.explain.sampled_region import sampled_region
from radlens.explain.sampled_scores import score_maps

BASELINE = "baseline"
CENTRE, LABEL_PRIOR, OTHER_PATIENT = "centre", "label-prior", "other-patient"
ORACLE, SECOND_READER = "oracle", "second-reader"
SIZES = {"small": 0.02, "medium": 0.1, "large": float("inf")}
"""Name -> the area share below which a region is of that size: 2 % is about four patches of a 14 x 14 grid (a nodule
or a mass), 10 % a consolidated lobe; hearts and effusions are larger."""
SCHEMA = {
    **dict.fromkeys(("setting", "method", "layer", "label", "image_id", "patient_id", "flag"), pl.String),
    "area_share": pl.Float64,
    "size": pl.String,
    "unreachable_share": pl.Float64,
    **dict.fromkeys(SCORES, pl.Float64),
}
Thresholds = Mapping[Key, float]


@dataclass(frozen=True)
class _Scored:
    """All maps of one target: keys, flags and scores (M, 12)."""

    keys: list[Key]
    flags: list[str | None]
    scores: npt.NDArray[np.float64]
    area_share: float
    unreachable_share: float


def pair_scores(
    results: Mapping[str, SaliencyMaps],
    annotations: Annotations,
    geometries: Mapping[str, Geometry],
    patients: Mapping[str, str],
    *,
    thresholds: Thresholds | None = None,
    threads: int | None = None,
) -> pl.DataFrame:
    """Scores of every map against the region of its label in its image, with columns as in `SCHEMA`.

    results: setting -> its maps, all on one grid. geometries, patients: image id -> geometry, patient. thresholds:
    (setting, method, layer) -> share of the map's maximum (`tuned_thresholds`); without one, iou_tuned and dice_tuned
    are NaN. threads: images scored at once (default: the processors at hand, 4 at most). Only labels with a region in
    an image are scored. A method without depth (one map an image, the same at every layer) has the layer `-`.
    Rows beside each map's: method `other-patient:<method>`, the same label's map of the next other patient's image
    (rather one with a region of the label) put in this image's place; and setting `baseline`, layer `-`: `centre` (a
    Gaussian), `label-prior` (mean region of the label over other patients), `oracle` (the region itself on the patch
    grid: what no map on the grid can be asked to beat), `second-reader` (where two readers drew: one's region on the
    grid against the other's region, mean over both ways round).
    flag: `constant` (such maps score as spread evenly), `label-invariant`, or null. area_share: the region's share of
    what the model sees; size: `small`, `medium`, `large` by `SIZES`, null where nothing of the region is seen;
    unreachable_share: share of the region that the crop removed. An undefined figure is NaN: all of them for a region
    that covers no pixel centre. Raises `DataError` when no region belongs to an explained image.
    """
    targets = targets_of(results, annotations, geometries)
    shape = grid_of(results)
    regions: dict[str, dict[str, Grid]] = {}
    for target in targets:
        grid = region_on_grid(target.pixels(), target.geometry, shape)
        regions.setdefault(target.label, {})[target.image_id] = grid
    scoring = _Scoring(results, regions, patients, thresholds or {}, shape)
    with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 4)) as pool:
        return _table(targets, list(pool.map(scoring, targets)), patients)


class _Scoring:
    """From a target to the scores of all its maps; what belongs to all targets is made once."""

    def __init__(
        self,
        results: Mapping[str, SaliencyMaps],
        regions: Mapping[str, Mapping[str, Grid]],
        patients: Mapping[str, str],
        thresholds: Thresholds,
        shape: tuple[int, int],
    ) -> None:
        self.drawn = {setting: DrawnMaps(maps) for setting, maps in results.items()}
        self.regions, self.thresholds, self.shape = regions, thresholds, shape
        self.priors = {label: label_priors(grids, patients) for label, grids in regions.items()}
        self.others: dict[tuple[str, str], dict[str, str]] = {}
        for setting, maps in results.items():
            anyone = other_patients(maps.image_ids, patients)
            for label, grids in regions.items():
                # images that show the finding too are the fairer strangers
                alike = [image_id for image_id in maps.image_ids if image_id in grids]
                self.others[setting, label] = anyone | other_patients(alike, patients)

    def __call__(self, target: Target) -> _Scored:
        image_id, label = target.image_id, target.label
        region = sampled_region(target.pixels(), target.geometry, self.shape)
        keys: list[Key] = []
        flags: list[str | None] = []
        grids: list[npt.NDArray[np.float32]] = []
        for setting, drawn in self.drawn.items():
            if not drawn.has(image_id, label):
                continue
            for source, prefix in ((image_id, ""), (self.others[setting, label].get(image_id), f"{OTHER_PATIENT}:")):
                if source is not None:
                    keys += [(setting, prefix + method, layer) for method, layer in drawn.columns]
                    flags += drawn.flags(source, label)
                    grids.append(drawn.grids(source, label))
        known = {
            CENTRE: centre_map(*self.shape),
            LABEL_PRIOR: self.priors[label].get(image_id),
            ORACLE: self.regions[label][image_id],
        }
        baselines = {method: grid for method, grid in known.items() if grid is not None}
        keys += [(BASELINE, method, NO_LAYER) for method in baselines]
        flags += [None] * len(baselines)
        stack = np.concatenate([*grids, np.stack(list(baselines.values()))])
        constant = np.array([flag == CONSTANT for flag in flags])
        scores = score_maps(stack, region, constant, np.array([self._share(key) for key in keys]))
        if len(target.readers) > 1:
            keys.append((BASELINE, SECOND_READER, NO_LAYER))
            flags.append(None)
            scores = np.vstack([scores, self._second_reader(target)])
        return _Scored(keys, flags, scores, region.area_share, region.unreachable_share)

    def _share(self, key: Key) -> float:
        setting, method, layer = key
        return self.thresholds.get((setting, method.removeprefix(f"{OTHER_PATIENT}:"), layer), float("nan"))

    def _second_reader(self, target: Target) -> npt.NDArray[np.float64]:
        """Mean scores of one reader's region as a map against another's, over all ordered pairs of readers."""
        share = np.array([self._share((BASELINE, SECOND_READER, NO_LAYER))])
        pixels = {reader: target.pixels(reader) for reader in target.readers}
        grids = {reader: region_on_grid(own, target.geometry, self.shape) for reader, own in pixels.items()}
        truths = {reader: sampled_region(own, target.geometry, self.shape) for reader, own in pixels.items()}
        found = [score_maps(grids[one][None], truths[other], None, share) for one, other in permutations(pixels, 2)]
        mean: npt.NDArray[np.float64] = mean_of_defined(np.concatenate(found), axis=0)
        return mean


def _size(area_share: float) -> str | None:
    if not area_share > 0:
        return None
    return next(name for name, below in SIZES.items() if area_share < below)


def _table(targets: Sequence[Target], found: Sequence[_Scored], patients: Mapping[str, str]) -> pl.DataFrame:
    counts = [len(one.keys) for one in found]

    def repeated(name: str, values: Sequence[str | float | None]) -> pl.Series:
        return pl.Series(name, values, SCHEMA[name]).gather(np.repeat(np.arange(len(values)), counts))

    keys = {key: at for at, key in enumerate(dict.fromkeys(key for one in found for key in one.keys))}
    at = np.array([keys[key] for one in found for key in one.keys])
    scores = np.concatenate([one.scores for one in found])
    columns = [
        *(
            pl.Series(name, [key[k] for key in keys]).gather(at)
            for k, name in enumerate(("setting", "method", "layer"))
        ),
        repeated("label", [target.label for target in targets]),
        repeated("image_id", [target.image_id for target in targets]),
        repeated("patient_id", [patients[target.image_id] for target in targets]),
        pl.Series("flag", [flag for one in found for flag in one.flags], pl.String),
        repeated("area_share", [one.area_share for one in found]),
        repeated("size", [_size(one.area_share) for one in found]),
        repeated("unreachable_share", [one.unreachable_share for one in found]),
        *(pl.Series(name, column) for name, column in zip(SCORES, scores.T, strict=True)),
    ]
    return pl.DataFrame(columns)
