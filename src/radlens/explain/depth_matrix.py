"""Depth by setting: where maps find the regions best, and whether depth or fine-tuning makes a difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import DataError
from radlens.core.patient_means import PatientMeans, patient_means
from radlens.explain.paired_support import PERMUTATIONS, Support, support

Array = npt.NDArray[np.float64]

ALL = "all"
BASELINE, OTHER_PATIENT = "baseline", "other-patient:"
SCORES = ("lift", "iou", "pixel_auroc")
COMPARISONS = ("layer", "setting")
_KEYS = ("method", "score", "label", "setting", "layer")
_OF_A_COMPARISON = {
    "reference": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "supported": pl.Boolean,
    "pairs": pl.Int64,
    "reason": pl.String,
}
SCHEMA = {
    **dict.fromkeys(_KEYS, pl.String),
    **dict.fromkeys(("images", "patients", "pairs", "flagged"), pl.Int64),
    **dict.fromkeys(("mean", "mean_low", "mean_high"), pl.Float64),
    "mean_reason": pl.String,
    **{f"{which}_{name}": kind for which in COMPARISONS for name, kind in _OF_A_COMPARISON.items()},
}
_REFERENCE = "the reference"
_NO_REFERENCE = "undefined: the reference setting has no such layer"


@dataclass(frozen=True)
class _Cube:
    """The scores of one method: values (images, labels, cells), NaN where undefined or missing.

    cells: (score, setting, layer), in order of appearance. flagged (labels, cells): how many maps carry a flag.
    patients (images,).
    """

    labels: tuple[str, ...]
    cells: tuple[tuple[str, str, str], ...]
    values: Array
    flagged: npt.NDArray[np.int64]
    patients: npt.NDArray[np.str_]

    def by_label(self, values: Array) -> tuple[Array, npt.NDArray[np.str_]]:
        """Values (images, labels, M) as columns of a label each, (images, labels M), and their patients."""
        return values.reshape(len(self.patients), len(self.labels) * values.shape[2]), self.patients

    def together(self, values: Array) -> tuple[Array, npt.NDArray[np.str_]]:
        """Values (images, labels, M) as columns of all image-label pairs, (images labels, M), and their patients."""
        rows = values.reshape(len(self.patients) * len(self.labels), values.shape[2])
        return rows, np.repeat(self.patients, len(self.labels))

    def references(self, which: str) -> list[int | None]:
        """The cell that each cell is compared with: the setting's first layer, or the first setting's same layer."""
        if which == "layer":
            first: dict[tuple[str, str], int] = {}
            for at, cell in enumerate(self.cells):
                first.setdefault(cell[:2], at)
            return [first[cell[:2]] for cell in self.cells]
        known = {cell: at for at, cell in enumerate(self.cells)}
        return [known.get((score, self.cells[0][1], layer)) for score, _, layer in self.cells]


def depth_matrix(pairs: pl.DataFrame, *, seed: int = 0, permutations: int = PERMUTATIONS) -> pl.DataFrame:
    """Mean scores by setting and layer, and what changes from the first layer and from the first setting (`SCHEMA`).

    pairs: a row a (setting, method, layer, label, image_id) with these columns, patient_id, flag and the scores lift,
    iou and pixel_auroc (NaN or null: undefined); setting `baseline` and methods `other-patient:*` are left out.
    Rows: method, score, label (and `all`: over all image-label pairs), setting, layer.
    images, patients, pairs: what the mean rests on (pairs: image-label pairs); flagged: maps among all pairs, also
    those without a score, that carry a flag (constant maps score as spread evenly). mean, mean_low, mean_high: 95 %
    over patients, or null and mean_reason.
    layer_*: against the first listed layer of the same setting; setting_*: against the first listed setting at the
    same layer. reference: what that is; difference: the mean, over pairs that have both, of own minus reference; low,
    high: its 95 % interval over patients; p: two-sided, from `permutations` sign flips by patient; p_holm: corrected
    over labels x layers of one method, score, comparison and setting, `all` in a family of its own; supported: whether
    the interval leaves out 0 and p_holm is below 0.05; pairs: how many have both; reason: why there is no interval, in
    which case p, p_holm and supported are null ("the reference" for the reference itself).
    Deterministic in `seed`. Raises `DataError` for a map that stands twice.
    """
    own = pairs.filter((pl.col("setting") != BASELINE) & ~pl.col("method").str.starts_with(OTHER_PATIENT))
    key = ["setting", "method", "layer", "label", "image_id"]
    twice = own.filter(own.select(key).is_duplicated())
    if twice.height:
        stands = ", ".join(str(value) for value in twice.select(key).row(0))
        raise DataError(f"expected one row a map, found {stands} twice; score each map once.")
    rows = [
        row
        for method in own["method"].unique(maintain_order=True)
        for row in _of_method(method, own.filter(method=method), seed, permutations)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").with_columns(pl.selectors.float().fill_nan(None))


def _cube(pairs: pl.DataFrame) -> _Cube:
    labels, images, settings, layers = (
        tuple(pairs[name].unique(maintain_order=True)) for name in ("label", "image_id", "setting", "layer")
    )
    seen = set(pairs.select("setting", "layer").unique().iter_rows())
    sites = tuple(site for site in product(settings, layers) if site in seen)
    image_at, label_at, site_at = ({name: k for k, name in enumerate(names)} for names in (images, labels, sites))
    at = (
        np.array([image_at[image] for image in pairs["image_id"]]),
        np.array([label_at[label] for label in pairs["label"]]),
        np.array([site_at[site] for site in pairs.select("setting", "layer").iter_rows()]),
    )
    values = np.full((len(SCORES), len(images), len(labels), len(sites)), np.nan)
    for score, of_score in zip(SCORES, values, strict=True):
        of_score[at] = pairs[score].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    flagged = np.zeros((len(labels), len(sites)), np.int64)
    np.add.at(flagged, at[1:], pairs["flag"].is_not_null().to_numpy())
    who = dict(pairs.select("image_id", "patient_id").iter_rows())
    return _Cube(
        labels,
        tuple((score, *site) for score in SCORES for site in sites),
        np.concatenate(values, axis=-1),
        np.tile(flagged, len(SCORES)),
        np.array([str(who[image]) for image in images]),
    )


def _of_method(method: str, pairs: pl.DataFrame, seed: int, permutations: int) -> Iterator[tuple[object, ...]]:
    cube = _cube(pairs)
    count = len(cube.cells)
    compared = {which: _compared(cube, which, seed, permutations) for which in COMPARISONS}
    means = patient_means(*cube.by_label(cube.values), seed=seed), patient_means(*cube.together(cube.values), seed=seed)
    defined = ~np.isnan(cube.values)
    images = np.vstack([defined.sum(axis=0), defined.any(axis=1).sum(axis=0)])
    flagged = np.vstack([cube.flagged, cube.flagged.sum(axis=0)])
    for score in SCORES:
        for number, label in enumerate((*cube.labels, ALL)):
            of, start = (means[1], 0) if label == ALL else (means[0], number * count)
            for k, (own, setting, layer) in enumerate(cube.cells):
                if own == score:
                    at = start + k
                    counts = (int(images[number, k]), int(of.patients[at]), int(of.images[at]), int(flagged[number, k]))
                    both = [value for which in COMPARISONS for value in compared[which][label][k]]
                    yield method, score, label, setting, layer, *counts, *_mean(of, at), *both


def _compared(cube: _Cube, which: str, seed: int, permutations: int) -> dict[str, list[tuple[object, ...]]]:
    """label -> the columns of a comparison for every cell."""
    references = cube.references(which)
    tested = [(k, reference) for k, reference in enumerate(references) if reference not in (None, k)]
    own, other = ([pair[side] for pair in tested] for side in (0, 1))
    differences = cube.values[:, :, own] - cube.values[:, :, other]
    # a score and a setting; the labels of one are in one family, since their p-values are corrected together
    families = [cube.cells[k][:2] for k, _ in tested]
    labels, whole = (
        support(columns, who, families * repeated, seed=seed, permutations=permutations)
        for (columns, who), repeated in (
            (cube.by_label(differences), len(cube.labels)),
            (cube.together(differences), 1),
        )
    )
    place = {k: at for at, (k, _) in enumerate(tested)}
    found: dict[str, list[tuple[object, ...]]] = {}
    for number, label in enumerate((*cube.labels, ALL)):
        found[label] = []
        for k, reference in enumerate(references):
            name = None if reference is None else cube.cells[reference][2 if which == "layer" else 1]
            if k in place:
                known, start = (whole, 0) if label == ALL else (labels, number * len(tested))
                found[label].append((name, *_difference(known, start + place[k])))
            else:
                why = _NO_REFERENCE if reference is None else _REFERENCE
                found[label].append((name, *(None,) * (len(_OF_A_COMPARISON) - 2), why))
    return found


def _mean(means: PatientMeans, k: int) -> tuple[float, float, float, str | None]:
    return float(means.value[k]), float(means.low[k]), float(means.high[k]), means.reason[k]


def _difference(known: Support, at: int) -> Sequence[object]:
    value, low, high, reason = _mean(known.means, at)
    p = float(known.p[at]), float(known.p_holm[at])
    return value, low, high, *p, known.supported[at], int(known.means.images[at]), reason
