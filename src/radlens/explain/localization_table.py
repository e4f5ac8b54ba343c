"""How well maps find regions: every setting, method, layer and label, beside maps that know nothing of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.patient_means import PatientMeans, patient_means
from radlens.core.regions import Annotations, Geometry, SaliencyMaps
from radlens.core.undefined import mean_of_defined
from radlens.explain.definitions import DEFINITIONS as DEFINITIONS
from radlens.explain.localization import SCORES
from radlens.explain.localization_targets import NO_LAYER, Key
from radlens.explain.maps import CONSTANT, LABEL_INVARIANT
from radlens.explain.pair_scores import (
    BASELINE,
    CENTRE,
    LABEL_PRIOR,
    OTHER_PATIENT,
    SIZES,
    Thresholds,
    pair_scores,
)

ALL = "all"
_COUNTS = ("images", "patients", "maps")
SCHEMA: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("setting", "method", "layer", "label"), pl.String),
    **dict.fromkeys(_COUNTS, pl.Int64),
    **dict.fromkeys(SCORES, pl.Float64),
    "lift_best_baseline": pl.Float64,
    "lift_on_same_pairs": pl.Float64,
    "pairs_compared": pl.Int64,
    "lift_difference": pl.Float64,
    "lift_difference_low": pl.Float64,
    "lift_difference_high": pl.Float64,
    "beats_baseline": pl.Boolean,
    "degenerate_maps": pl.Int64,
    "label_invariant_maps": pl.Int64,
    "unreachable_share": pl.Float64,
    "undefined_regions": pl.Int64,
    **{f"{score}_{end}": pl.Float64 for score in SCORES for end in ("low", "high")},
    "reason": pl.String,
}
# rows of a table that are resampled together
_AT_ONCE = 64
Array = npt.NDArray[np.float64]


def localization_table(
    results: Mapping[str, SaliencyMaps],
    annotations: Annotations,
    geometries: Mapping[str, Geometry],
    patients: Mapping[str, str],
    *,
    thresholds: Thresholds | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """`localization_of_pairs` of `pair_scores`, which see for the arguments and for the baselines.

    Raises `DataError` when no region belongs to an explained image.
    """
    pairs = pair_scores(results, annotations, geometries, patients, thresholds=thresholds)
    return localization_of_pairs(pairs, seed=seed)


def localization_of_pairs(pairs: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Mean scores over image-label pairs (of `pair_scores`), with columns as in `SCHEMA`.

    Rows: each (setting, method, layer) by label and `all` (the mean over all image-label pairs, `maps` of them), labels
    in order of first appearance, baselines last. <score>_low, _high: 95 % interval over patients (`patient_means`),
    null where `reason` says why.
    lift_best_baseline: the highest mean lift of centre, label-prior and the row's own other-patient, each over the
    image-label pairs that have it; lift_on_same_pairs: the row's own mean lift on those pairs, pairs_compared of them;
    lift_difference: their difference, paired, with its interval; beats_baseline: whether that interval lies above 0,
    null where there is none. All are null in rows of baselines. A rival need not exist for every pair (a label of one
    patient has no prior); means over different pairs would compare small regions with large ones.
    degenerate_maps, label_invariant_maps: flagged constant, flagged the same for all labels. undefined_regions: regions
    that cover no pixel centre; they are left out of the means, as is every NaN. A mean of nothing is NaN.
    """
    return pl.DataFrame(_rows(pairs, seed), schema=SCHEMA, orient="row")


def localization_sizes(pairs: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """`localization_of_pairs` of small, medium and large regions apart: the same columns after a column `size`.

    Pairs without a size (the crop removed the region) are in none. images, patients and maps say what a row rests on.
    """
    rows = [{"size": size} | row for size in SIZES for row in _rows(pairs.filter(size=size), seed)]
    return pl.DataFrame(rows, schema={"size": pl.String, **SCHEMA}, orient="row")


class _Pairs:
    """The pairs of a table as arrays: (pairs,) and (pairs, keys); NaN where a pair has no such map."""

    def __init__(self, pairs: pl.DataFrame) -> None:
        self.labels = [*pairs["label"].unique(maintain_order=True), ALL]
        names = pairs.select("setting", "method", "layer").unique(maintain_order=True).rows()
        self.keys: list[Key] = sorted(names, key=lambda key: key[0] == BASELINE)
        which = {key: at for at, key in enumerate(self.keys)}
        self.column = np.array([which[key] for key in pairs.select("setting", "method", "layer").iter_rows()], np.intp)
        places: dict[tuple[str, str], int] = {}
        self.row = np.array(
            [places.setdefault(pair, len(places)) for pair in pairs.select("label", "image_id").iter_rows()], np.intp
        )
        first = np.unique(self.row, return_index=True)[1]
        self.label, self.image, self.patient = (
            pairs[name].to_numpy()[first].astype(str) for name in ("label", "image_id", "patient_id")
        )
        self.unreachable = pairs["unreachable_share"].to_numpy()[first]
        self.values = pairs.select(SCORES).to_numpy()
        self.flag = pairs["flag"].fill_null("").to_numpy().astype(str)
        self.place = np.full((len(places), len(self.keys)), -1)
        self.place[self.row, self.column] = np.arange(pairs.height)

    def scores(self, rows: npt.NDArray[np.intp], column: int) -> Array:
        """(rows, scores) of one key."""
        at = self.place[rows, column]
        return np.where(at[:, None] >= 0, self.values[at], np.nan)


def _rows(table: pl.DataFrame, seed: int) -> list[dict[str, object]]:
    if not table.height:
        return []
    pairs = _Pairs(table)
    found: dict[tuple[int, str], dict[str, object]] = {}
    for label in pairs.labels:
        rows = np.flatnonzero((pairs.label == label) | (label == ALL))
        present = [column for column in range(len(pairs.keys)) if (pairs.place[rows, column] >= 0).any()]
        for start in range(0, len(present), _AT_ONCE):
            some = present[start : start + _AT_ONCE]
            rivals = {column: _best_rival(pairs, rows, column) for column in some}
            blocks = [np.column_stack([pairs.scores(rows, c), _difference(pairs, rows, c, rivals[c])]) for c in some]
            means = patient_means(np.concatenate(blocks, axis=1), pairs.patient[rows], seed=seed)
            for at, column in enumerate(some):
                own = slice(at * (len(SCORES) + 1), (at + 1) * (len(SCORES) + 1))
                counted = _counted(pairs, rows, column)
                compared = _compared(pairs, rows, column, rivals[column], means, own.stop - 1)
                named = dict(zip(("setting", "method", "layer"), pairs.keys[column], strict=True))
                found[column, label] = named | {"label": label} | counted | _means(means, own) | compared
    order = {label: at for at, label in enumerate(pairs.labels)}
    return [found[key] for key in sorted(found, key=lambda key: (key[0], order[key[1]]))]


def _counted(pairs: _Pairs, rows: npt.NDArray[np.intp], column: int) -> dict[str, object]:
    at = pairs.place[rows, column]
    held, flags = rows[at >= 0], pairs.flag[at[at >= 0]]
    unreachable = pairs.unreachable[held]
    return {
        "images": len(set(pairs.image[held])),
        "patients": len(set(pairs.patient[held])),
        "maps": len(held),
        "degenerate_maps": int((flags == CONSTANT).sum()),
        "label_invariant_maps": int((flags == LABEL_INVARIANT).sum()),
        "unreachable_share": mean_of_defined(unreachable),
        "undefined_regions": int(np.isnan(unreachable).sum()),
    }


def _means(means: PatientMeans, own: slice) -> dict[str, object]:
    row: dict[str, object] = {}
    reasons: dict[str, list[str]] = {}
    for score, at in zip(SCORES, range(own.start, own.stop - 1), strict=True):
        row[score] = float(means.value[at])
        row[f"{score}_low"], row[f"{score}_high"] = _ends(means, at)
        # a score that nothing was asked of (no tuned threshold) needs no excuse, unless there is nothing at all
        if (why := means.reason[at]) is not None and means.images[at]:
            reasons.setdefault(why, []).append(score)
    if not means.images[own.start : own.stop - 1].any():
        return row | {"reason": means.reason[own.start]}
    estimable = any(row[f"{score}_low"] is not None for score in SCORES)
    if len(reasons) == 1 and not estimable:
        return row | {"reason": next(iter(reasons))}
    return row | {"reason": "; ".join(f"{', '.join(s)}: {why}" for why, s in reasons.items()) or None}


def _ends(means: PatientMeans, at: int) -> tuple[float | None, float | None]:
    if means.reason[at] is not None:
        return None, None
    return float(means.low[at]), float(means.high[at])


def _best_rival(pairs: _Pairs, rows: npt.NDArray[np.intp], column: int) -> int | None:
    """The column of the rival with the highest mean lift over the pairs that it shares; None for a baseline itself."""
    setting, method, layer = pairs.keys[column]
    if setting == BASELINE or method.startswith(f"{OTHER_PATIENT}:"):
        return None
    rivals: Sequence[Key] = (
        (BASELINE, CENTRE, NO_LAYER),
        (BASELINE, LABEL_PRIOR, NO_LAYER),
        (setting, f"{OTHER_PATIENT}:{method}", layer),
    )
    own = _lifts(pairs, rows, column)
    best: tuple[float, int] | None = None
    for rival in rivals:
        if rival in pairs.keys:
            theirs = _lifts(pairs, rows, pairs.keys.index(rival))
            shared = ~np.isnan(own) & ~np.isnan(theirs)
            if shared.any() and (best is None or theirs[shared].mean() > best[0]):
                best = float(theirs[shared].mean()), pairs.keys.index(rival)
    return None if best is None else best[1]


def _lifts(pairs: _Pairs, rows: npt.NDArray[np.intp], column: int) -> Array:
    return pairs.scores(rows, column)[:, SCORES.index("lift")]


def _difference(pairs: _Pairs, rows: npt.NDArray[np.intp], column: int, rival: int | None) -> Array:
    if rival is None:
        return np.full(len(rows), np.nan)
    return _lifts(pairs, rows, column) - _lifts(pairs, rows, rival)


def _compared(
    pairs: _Pairs, rows: npt.NDArray[np.intp], column: int, rival: int | None, means: PatientMeans, at: int
) -> dict[str, object]:
    if rival is None:
        return {}
    own, theirs = _lifts(pairs, rows, column), _lifts(pairs, rows, rival)
    shared = ~np.isnan(own) & ~np.isnan(theirs)
    low, high = _ends(means, at)
    return {
        "lift_best_baseline": float(theirs[shared].mean()),
        "lift_on_same_pairs": float(own[shared].mean()),
        "pairs_compared": int(shared.sum()),
        "lift_difference": float(means.value[at]),
        "lift_difference_low": low,
        "lift_difference_high": high,
        "beats_baseline": None if low is None else low > 0,
    }
