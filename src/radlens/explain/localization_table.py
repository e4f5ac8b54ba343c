"""How well maps find regions: every setting, method, layer and label, beside maps that know nothing of the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass

import numpy as np
import polars as pl

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Geometry, SaliencyMaps
from radlens.explain.baselines import Grid, centre_map, label_prior, other_patient, region_on_grid
from radlens.explain.definitions import DEFINITIONS as DEFINITIONS
from radlens.explain.localization import Scores, score
from radlens.explain.maps import CONSTANT, LABEL_INVARIANT

BASELINE = "baseline"
CENTRE, LABEL_PRIOR, OTHER_PATIENT = "centre", "label-prior", "other-patient"
ALL = "all"
SCHEMA = {
    "setting": pl.String,
    "method": pl.String,
    "layer": pl.String,
    "label": pl.String,
    "images": pl.Int64,
    "patients": pl.Int64,
    "maps": pl.Int64,
    "hit_rate": pl.Float64,
    "energy_in_region": pl.Float64,
    "lift": pl.Float64,
    "iou": pl.Float64,
    "lift_best_baseline": pl.Float64,
    "lift_on_same_pairs": pl.Float64,
    "pairs_compared": pl.Int64,
    "degenerate_maps": pl.Int64,
    "label_invariant_maps": pl.Int64,
    "unreachable_share": pl.Float64,
    "undefined_regions": pl.Int64,
}


@dataclass(frozen=True)
class _Target:
    """One label of one image that has a region."""

    image_id: str
    label: str
    annotations: Annotations
    geometry: Geometry

    def mask(self) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        return self.annotations.mask(self.image_id, self.label, self.geometry.height, self.geometry.width)


@dataclass(frozen=True)
class _Score:
    key: tuple[str, str, str]
    target: _Target
    scores: Scores
    flag: str | None


def localization_table(
    results: Mapping[str, SaliencyMaps],
    annotations: Annotations,
    geometries: Mapping[str, Geometry],
    patients: Mapping[str, str],
) -> pl.DataFrame:
    """Mean scores over images, with columns as in `SCHEMA`.

    results: setting -> its maps. geometries, patients: image id -> geometry, patient. Only labels with a region in an
    image are scored; other images count in none. Rows: each (setting, method, layer) by label and `all` (the mean over
    all image-label pairs, `maps` of them); the same with method `other-patient:<method>` (the same label's map of the
    next other patient's image, put in this image's place); and setting `baseline` with methods `centre` (Gaussian) and
    `label-prior` (mean region of the label over other patients), layer `-`.
    lift_best_baseline: the highest mean lift of the three, each over the image-label pairs that have it;
    lift_on_same_pairs: the row's own mean lift on those pairs, pairs_compared of them; all null in baseline rows.
    degenerate_maps, label_invariant_maps: flagged constant, flagged the same for all labels.
    undefined_regions: regions that cover no pixel centre; they are left out of the means. Raises `DataError` when no
    region belongs to an explained image.
    """
    explained = dict.fromkeys(image for maps in results.values() for image in maps.image_ids)
    labels = {label for maps in results.values() for label in maps.labels}
    targets = list(_targets(annotations.of(explained), labels, geometries))
    if not targets:
        raise DataError(
            f"none of the {len(annotations.regions)} regions of {annotations.source} belongs to one of the "
            f"{len(explained)} explained images and their labels; explain more images or check the image ids."
        )
    shape = next(iter(results.values())).maps.shape[-2:]
    priors: dict[str, dict[str, Grid]] = {}
    for target in targets:
        grid = region_on_grid(target.mask(), target.geometry, *shape)
        priors.setdefault(target.label, {})[target.image_id] = grid
    found: list[_Score] = []
    for target in targets:
        region, visible = target.mask(), target.geometry.visible_mask()
        maps = [*_own_maps(results, target), *_strange_maps(results, target, priors[target.label], patients)]
        for key, grid, flag in maps:
            scores = score(target.geometry.enlarge(grid), region, visible, degenerate=flag == CONSTANT)
            found.append(_Score(key, target, scores, flag))
    return _summarise(found, patients)


def _targets(annotations: Annotations, labels: set[str], geometries: Mapping[str, Geometry]) -> Iterator[_Target]:
    for image_id in annotations.image_ids():
        own = annotations.of([image_id])
        for label in own.labels_of(image_id):
            if label in labels:
                yield _Target(image_id, label, own, geometries[image_id])


def _own_maps(
    results: Mapping[str, SaliencyMaps], target: _Target
) -> Iterator[tuple[tuple[str, str, str], Grid, str | None]]:
    for setting, maps in results.items():
        if target.image_id in maps.image_ids and target.label in maps.labels:
            for method, layer, grid, flag in _of_image(maps, target.image_id, target.label):
                yield (setting, method, layer), grid, flag


def _strange_maps(
    results: Mapping[str, SaliencyMaps], target: _Target, prior: Mapping[str, Grid], patients: Mapping[str, str]
) -> Iterator[tuple[tuple[str, str, str], Grid, str | None]]:
    rows, columns = prior[target.image_id].shape
    yield (BASELINE, CENTRE, "-"), centre_map(rows, columns), None
    mean = label_prior(prior, patients, target.image_id)
    if mean is not None:
        yield (BASELINE, LABEL_PRIOR, "-"), mean, None
    for setting, maps in results.items():
        if target.image_id not in maps.image_ids or target.label not in maps.labels:
            continue
        # images that show the finding too are the fairer strangers
        alike = [image for image in maps.image_ids if image in prior]
        other = other_patient(alike, patients, target.image_id) or other_patient(
            maps.image_ids, patients, target.image_id
        )
        if other is not None:
            for method, layer, grid, flag in _of_image(maps, other, target.label):
                yield (setting, f"{OTHER_PATIENT}:{method}", layer), grid, flag


def _of_image(maps: SaliencyMaps, image_id: str, label: str) -> Iterator[tuple[str, str, Grid, str | None]]:
    image, column = maps.image_ids.index(image_id), maps.labels.index(label)
    for m, method in enumerate(maps.methods):
        for k, layer in enumerate(maps.layers):
            flag = maps.flags.get((image, column, m, k))
            yield method, layer, maps.maps[image, column, m, k].astype(np.float32), flag


def _summarise(found: list[_Score], patients: Mapping[str, str]) -> pl.DataFrame:
    groups: dict[tuple[str, str, str, str], list[_Score]] = {}
    for one in found:
        for label in (one.target.label, ALL):
            groups.setdefault((*one.key, label), []).append(one)
    # labels in order of first appearance, `all` after them; baselines after the settings
    labels = [*dict.fromkeys(one.target.label for one in found), ALL]
    keys = sorted(dict.fromkeys(key[:3] for key in groups), key=lambda key: key[0] == BASELINE)
    rows = []
    for key in keys:
        for label in labels:
            group = groups.get((*key, label))
            if group is None:
                continue
            values = np.array([astuple(one.scores) for one in group])
            hit, energy, lift, iou, unreachable = (_mean(column) for column in values.T)
            images = {one.target.image_id for one in group}
            counts = (len(images), len({patients[image] for image in images}), len(group))
            knows_nothing = key[0] == BASELINE or key[1].startswith(OTHER_PATIENT)
            best = (None, None, None) if knows_nothing else _best(groups, key, label)
            flagged = [sum(one.flag == flag for one in group) for flag in (CONSTANT, LABEL_INVARIANT)]
            undefined = int(np.isnan(values[:, -1]).sum())
            rows.append((*key, label, *counts, hit, energy, lift, iou, *best, *flagged, unreachable, undefined))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _best(
    groups: Mapping[tuple[str, str, str, str], list[_Score]], key: tuple[str, str, str], label: str
) -> tuple[float | None, float | None, int | None]:
    """The highest mean lift of a rival, the own mean lift on that rival's pairs, and how many pairs those are.

    A rival need not exist for every pair (a label of one patient has no prior); means over different pairs would
    compare small regions with large ones.
    """
    setting, method, layer = key
    rivals = ((BASELINE, CENTRE, "-"), (BASELINE, LABEL_PRIOR, "-"), (setting, f"{OTHER_PATIENT}:{method}", layer))
    own = _lifts(groups[*key, label])
    found = []
    for rival in rivals:
        theirs = _lifts(groups.get((*rival, label), []))
        pairs = [pair for pair in own if pair in theirs]
        if pairs:
            rival_mean, own_mean = (float(np.mean([lifts[pair] for pair in pairs])) for lifts in (theirs, own))
            found.append((rival_mean, own_mean, len(pairs)))
    return max(found, key=lambda one: one[0]) if found else (None, None, None)


def _lifts(group: list[_Score]) -> dict[tuple[str, str], float]:
    """(image id, label) -> lift, where it is defined."""
    lifts = {(one.target.image_id, one.target.label): one.scores.lift for one in group}
    return {pair: value for pair, value in lifts.items() if not np.isnan(value)}


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
