"""How well radiologists agree with each other: the ceiling for any map that is scored against their regions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Point

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

ALL = "all"
LEAST = 10
"""Patients below which no interval is given."""
_MOST_UNDEFINED = 0.05
_BLOCK = 100
SCHEMA = {
    "label": pl.String,
    "reader": pl.String,
    "other": pl.String,
    "images": pl.Int64,
    "patients": pl.Int64,
    "both": pl.Int64,
    "only_reader": pl.Int64,
    "only_other": pl.Int64,
    "neither": pl.Int64,
    "kappa": pl.Float64,
    "kappa_low": pl.Float64,
    "kappa_high": pl.Float64,
    "kappa_reason": pl.String,
    "overlaps": pl.Int64,
    "overlap_patients": pl.Int64,
    "iou": pl.Float64,
    "iou_low": pl.Float64,
    "iou_high": pl.Float64,
    "dice": pl.Float64,
    "dice_low": pl.Float64,
    "dice_high": pl.Float64,
    "overlap_reason": pl.String,
}


@dataclass(frozen=True)
class _Pair:
    """Two readings of one label in one image; iou and dice are NaN unless both drew an area."""

    label: str
    readers: tuple[str, str]
    image_id: str
    present: tuple[bool, bool]
    iou: float
    dice: float


def intersection_over_union(one: Bits, other: Bits) -> float:
    """Pixels in both / pixels in either of two masks (height, width), in [0, 1]; NaN where both are empty (Jaccard)."""
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else float("nan")


def dice(one: Bits, other: Bits) -> float:
    """2 x pixels in both / (pixels of one + of the other), in [0, 1]; NaN where both are empty (Dice 1945)."""
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else float("nan")


def cohen_kappa(tables: Array) -> Array:
    """Cohen's kappa (1960), (observed - chance agreement) / (1 - chance agreement), in [-1, 1].

    tables: (..., 4) counts of both present, only the first, only the second, neither. NaN without an image, and where
    chance alone agrees wholly (both readers always say the same one thing).
    """
    both, first, second, neither = np.moveaxis(np.asarray(tables, np.float64), -1, 0)
    total = both + first + second + neither
    # in counts: exact where chance agreement is whole
    chance = (both + first) * (both + second) + (second + neither) * (first + neither)
    remaining = total * total - chance
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(remaining > 0, ((both + neither) * total - chance) / remaining, np.nan)


def reader_agreement(
    annotations: Annotations,
    sizes: Mapping[str, tuple[int, int]],
    patients: Mapping[str, str],
    *,
    labels: Sequence[str] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Agreement of every two readers who both looked for a label in an image, with columns as in `SCHEMA`.

    sizes: image id -> (width, height). patients: image id -> patient. labels: default all that are annotated.
    images, both, only_reader, only_other, neither, kappa: presence, over images that both are known to have looked at
    for the label. overlaps, iou, dice: means over the images in which both drew an area (a point is none), each
    reader's regions of the label as one mask in original pixels. Rows: a label and two readers; the same with reader
    and other `all`, every two readers of every image together (kappa then from the table made symmetric, since the
    readers have no order), which is the human ceiling; and label `all`, with overlaps alone, since pooled presence
    would mistake differences between labels for agreement. low, high: 95 % percentile bootstrap over patients, or null
    with the reason. Deterministic in `seed`. Raises `DataError` where no image has two readers for one label.
    """
    pairs = list(_pairs(annotations, sizes, labels))
    if not pairs:
        readers = ", ".join(annotations.readers()[:5]) or "none"
        raise DataError(
            f"agreement needs two readers who looked for one label in one image; {annotations.source} has none such "
            f"(readers: {readers})."
        )
    groups: dict[tuple[str, str, str], list[_Pair]] = {}
    for pair in pairs:
        for key in ((pair.label, *pair.readers), (pair.label, ALL, ALL), (ALL, ALL, ALL)):
            groups.setdefault(key, []).append(pair)
    order = {label: at for at, label in enumerate(dict.fromkeys(pair.label for pair in pairs))} | {ALL: len(pairs)}
    keys = sorted(groups, key=lambda key: (order[key[0]], key[1] == ALL))
    rows = [_row(key, groups[key], patients, replicates, seed) for key in keys]
    return pl.DataFrame(rows, schema=SCHEMA)


def _pairs(
    annotations: Annotations, sizes: Mapping[str, tuple[int, int]], labels: Sequence[str] | None
) -> Iterator[_Pair]:
    readers: dict[str, dict[str, None]] = {}
    for image_id, reader in annotations.examined:
        readers.setdefault(image_id, {})[reader] = None
    for region in annotations.regions:
        readers.setdefault(region.image_id, {})[region.reader] = None
    if labels is None:
        every = dict.fromkeys(region.label for region in annotations.regions)
        labels = [*(every | dict.fromkeys(sorted(frozenset().union(*annotations.examined.values()))))]
    for image_id, found in readers.items():
        for label in labels:
            present = {
                reader: known
                for reader in sorted(found)
                if (known := annotations.presence(image_id, label, reader)) is not None
            }
            masks = {
                reader: _mask(annotations, image_id, label, reader, sizes) if len(present) > 1 and there else None
                for reader, there in present.items()
            }
            for one, other in combinations(present, 2):
                first, second = masks[one], masks[other]
                overlap = (float("nan"), float("nan"))
                if first is not None and second is not None:
                    overlap = (intersection_over_union(first, second), dice(first, second))
                yield _Pair(label, (one, other), image_id, (present[one], present[other]), *overlap)


def _mask(
    annotations: Annotations, image_id: str, label: str, reader: str, sizes: Mapping[str, tuple[int, int]]
) -> Bits | None:
    """A reader's regions of a label as one mask; None where there are only points."""
    areas = [shape for shape in annotations.shapes(image_id, label, reader) if not isinstance(shape, Point)]
    if not areas:
        return None
    width, height = sizes[image_id]
    union = np.zeros((height, width), bool)
    for shape in areas:
        union |= shape.mask(height, width)
    return union


def _row(
    key: tuple[str, str, str], pairs: Sequence[_Pair], patients: Mapping[str, str], replicates: int, seed: int
) -> dict[str, float | int | str | None]:
    symmetric = key[1] == ALL and len({pair.readers for pair in pairs}) > 1
    tables = np.array([_table(pair.present, symmetric=symmetric) for pair in pairs])
    who = [patients[pair.image_id] for pair in pairs]
    row: dict[str, float | int | str | None] = {
        "label": key[0],
        "reader": key[1],
        "other": key[2],
        "images": len({pair.image_id for pair in pairs}),
        "patients": len(set(who)),
    }
    if key[0] != ALL:
        both, first, second, neither = tables.sum(axis=0)
        row |= {"both": round(both), "only_reader": None, "only_other": None, "neither": round(neither)}
        if not symmetric:
            row |= {"only_reader": round(first), "only_other": round(second)}
        row |= _with_interval(("kappa",), "kappa_reason", _kappas, tables, who, replicates, seed)
    drawn = [at for at, pair in enumerate(pairs) if not np.isnan(pair.iou)]
    values = np.array([(pairs[at].iou, pairs[at].dice, 1.0) for at in drawn]).reshape(-1, 3)
    owners = [who[at] for at in drawn]
    row |= {"overlaps": len(drawn), "overlap_patients": len(set(owners))}
    return row | _with_interval(("iou", "dice"), "overlap_reason", _means, values, owners, replicates, seed)


def _table(present: tuple[bool, bool], *, symmetric: bool) -> tuple[float, float, float, float]:
    match present:
        case (True, True):
            return 1.0, 0.0, 0.0, 0.0
        case (False, False):
            return 0.0, 0.0, 0.0, 1.0
        case _ if symmetric:
            return 0.0, 0.5, 0.5, 0.0
        case (True, False):
            return 0.0, 1.0, 0.0, 0.0
        case _:
            return 0.0, 0.0, 1.0, 0.0


def _kappas(sums: Array) -> Array:
    """(B, 4) summed tables -> (B, 1)."""
    return cohen_kappa(sums)[:, None]


def _means(sums: Array) -> Array:
    """(B, 3) sums of IoU, Dice and 1 -> (B, 2)."""
    with np.errstate(invalid="ignore"):
        means: Array = sums[:, :2] / sums[:, 2:]
    return means


def _with_interval(
    names: tuple[str, ...],
    why: str,
    statistic: Callable[[Array], Array],
    values: Array,
    who: Sequence[str],
    replicates: int,
    seed: int,
) -> dict[str, float | str | None]:
    """Numbers of the sums of values (N, K) with intervals over patients; null, and the reason, where there is none."""
    owners, index = np.unique(who, return_inverse=True)
    sums = np.zeros((len(owners), values.shape[1]))
    np.add.at(sums, index, values)
    found = statistic(sums.sum(axis=0, keepdims=True))[0]
    row: dict[str, float | str | None] = {
        name: None if np.isnan(value) else float(value) for name, value in zip(names, found, strict=True)
    }
    low = high = np.full(len(names), np.nan)
    if np.isnan(found).any():
        reason: str | None = f"undefined: {len(values)} pairs of readings, or readings without any difference"
    elif len(owners) < LEAST:
        reason = f"not estimable: {len(owners)} patients, an interval needs {LEAST}"
    else:
        drawn = _resampled(statistic, sums, replicates, seed)
        undefined = float(np.isnan(drawn).any(axis=1).mean())
        if undefined > _MOST_UNDEFINED:
            reason = f"not estimable: undefined in {undefined:.1%} of the replicates"
        elif (np.nanmax(drawn, axis=0) == np.nanmin(drawn, axis=0)).any():
            reason = "not estimable: the same value in every replicate"
        else:
            reason, (low, high) = None, np.nanpercentile(drawn, (2.5, 97.5), axis=0)
    for name, start, stop in zip(names, low, high, strict=True):
        row |= {f"{name}_low": None if reason else float(start), f"{name}_high": None if reason else float(stop)}
    return row | {why: reason}


def _resampled(statistic: Callable[[Array], Array], sums: Array, replicates: int, seed: int) -> Array:
    """(replicates, numbers) of patients drawn with replacement, each with all that is theirs. sums (patients, K)."""
    generator = np.random.default_rng(seed)
    patients = len(sums)
    found = []
    for start in range(0, replicates, _BLOCK):
        size = min(_BLOCK, replicates - start)
        weights = generator.multinomial(patients, np.full(patients, 1 / patients), size)
        found.append(statistic(weights @ sums))
    return np.concatenate(found)
