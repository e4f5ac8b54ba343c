"""How alike maps are between settings, layers and methods, beside how alike they are between two patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.patient_means import patient_means
from radlens.core.regions import SaliencyMaps
from radlens.core.undefined import quotient
from radlens.explain.alike import Prepared, prepare, rank_correlation, structural_similarity
from radlens.explain.baselines import other_patients
from radlens.explain.maps import CONSTANT

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

ALL = "all"
MEASURES = {"spearman": rank_correlation, "ssim": structural_similarity}
SCHEMA = {
    **dict.fromkeys(
        ("kind", "setting_a", "setting_b", "method_a", "method_b", "layer_a", "layer_b", "label"), pl.String
    ),
    "images": pl.Int64,
    "patients": pl.Int64,
    **{f"{measure}{end}": pl.Float64 for measure in MEASURES for end in ("", "_low", "_high", "_other_patient")},
    "reason": pl.String,
}
# images prepared at once
_IMAGES = 128


@dataclass(frozen=True)
class _Side:
    """The maps of a setting that differ from each other: K of them an image and label, by (method, layer's name)."""

    setting: str
    maps: SaliencyMaps
    names: tuple[tuple[str, str], ...]
    methods: Index
    layers: Index
    constant: npt.NDArray[np.bool_]

    def prepared(self, images: Index, label: str) -> Prepared:
        column = self.maps.labels.index(label)
        constant = self.constant[images, column][:, self.methods, self.layers]
        return prepare(self.maps.maps[images, column][:, self.methods, self.layers], constant)

    def rows(self, image_ids: Sequence[str]) -> Index:
        known = {image_id: row for row, image_id in enumerate(self.maps.image_ids)}
        return np.array([known[image_id] for image_id in image_ids], np.intp)


@dataclass(frozen=True)
class _Comparison:
    """Maps a (M,) of one setting against maps b (M,) of another or of itself."""

    kind: str
    first: _Side
    second: _Side
    pairs: Sequence[tuple[int, int]]

    @property
    def a(self) -> Index:
        return np.array([pair[0] for pair in self.pairs], np.intp)

    @property
    def b(self) -> Index:
        return np.array([pair[1] for pair in self.pairs], np.intp)


def map_similarity_table(
    results: Mapping[str, SaliencyMaps], patients: Mapping[str, str], *, seed: int = 0
) -> pl.DataFrame:
    """Mean similarity of two maps of one image and label, with columns as in `SCHEMA`.

    results: setting -> its maps. patients: image id -> patient. kind `settings`: two settings at the same method and
    layer, over the images and labels that both have; `layers`: two layers of one setting and method; `methods`: two
    methods of one setting at one layer. A method without depth has the layer `-`, stands against every layer of
    another method, and has no rows of kind `layers`. Rows are each label and `all` (the mean over all image-label
    pairs, `images` being how many images those come from).
    spearman, ssim: `rank_correlation` and `structural_similarity`, in [-1, 1]; images where either map is constant are
    left aside. low, high: 95 % over patients, null with the `reason`. *_other_patient: the same two maps, the second
    one from the next image of another patient: what maps have in common that does not come from the image. Figures
    that are undefined are null. Deterministic in `seed`.
    """
    sides = [_side(setting, maps) for setting, maps in results.items()]
    tables = [pl.DataFrame(schema=SCHEMA)]
    for comparison in _comparisons(sides):
        tables += _compared(comparison, patients, seed)
    return pl.concat(tables).with_columns(pl.selectors.float().fill_nan(None))


def _side(setting: str, maps: SaliencyMaps) -> _Side:
    distinct = maps.distinct()
    constant = np.zeros(maps.maps.shape[:4], bool)
    for at, why in maps.flags.items():
        constant[at] |= why == CONSTANT
    return _Side(
        setting,
        maps,
        tuple((maps.methods[method], layer) for method, _, layer in distinct),
        np.array([method for method, _, _ in distinct], np.intp),
        np.array([layer for _, layer, _ in distinct], np.intp),
        constant,
    )


def _comparisons(sides: Sequence[_Side]) -> Iterator[_Comparison]:
    for first, second in combinations(sides, 2):
        found = {name: k for k, name in enumerate(second.names)}
        yield _Comparison("settings", first, second, [(k, found[n]) for k, n in enumerate(first.names) if n in found])
    for side in sides:
        pairs = list(combinations(enumerate(side.names), 2))
        layers = [(k, j) for (k, one), (j, other) in pairs if one[0] == other[0]]
        methods = [
            (k, j)
            for (k, one), (j, other) in pairs
            if one[0] != other[0] and (one[1] == other[1] or "-" in (one[1], other[1]))
        ]
        yield _Comparison("layers", side, side, layers)
        yield _Comparison("methods", side, side, methods)


def _compared(comparison: _Comparison, patients: Mapping[str, str], seed: int) -> Iterator[pl.DataFrame]:
    first, second = comparison.first, comparison.second
    image_ids = [image for image in first.maps.image_ids if image in set(second.maps.image_ids)]
    labels = [label for label in first.maps.labels if label in second.maps.labels]
    if not (comparison.pairs and image_ids and labels):
        return
    strangers = other_patients(image_ids, patients)
    others = [strangers.get(image_id) for image_id in image_ids]
    # single precision: the figures of all labels and pairs are kept until the last label
    own = np.empty((len(labels), len(MEASURES), len(image_ids), len(comparison.pairs)), np.float32)
    strange = np.empty((2, len(labels), len(MEASURES), len(comparison.pairs)))
    for at, label in enumerate(labels):
        own[at], strange[:, at] = _of_label(comparison, image_ids, others, label)
    who = np.array([patients[image_id] for image_id in image_ids])
    for at, label in enumerate(labels):
        yield _table(comparison, label, own[at : at + 1], strange[:, at], who, seed)
    yield _table(comparison, ALL, own, strange.sum(axis=1), who, seed)


def _of_label(
    comparison: _Comparison, image_ids: Sequence[str], others: Sequence[str | None], label: str
) -> tuple[npt.NDArray[np.float32], Array]:
    """Figures (measures, N, M) of each image, and sums and counts (2, measures, M) with the other patient's image."""
    first, second, a, b = comparison.first, comparison.second, comparison.a, comparison.b
    own = np.empty((len(MEASURES), len(image_ids), len(a)), np.float32)
    strange = np.zeros((2, len(MEASURES), len(a)))
    for start in range(0, len(image_ids), _IMAGES):
        block = slice(start, start + _IMAGES)
        needed = list(dict.fromkeys([*image_ids[block], *(other for other in others[block] if other is not None)]))
        theirs = second.prepared(second.rows(needed), label)
        alone = np.arange(len(image_ids[block]))
        mine = first.prepared(first.rows(image_ids[block]), label) if first is not second else theirs.of_images(alone)
        known = np.array([k for k, other in enumerate(others[block]) if other is not None], np.intp)
        stranger = np.array([needed.index(other) for other in others[block] if other is not None], np.intp)
        for m, measure in enumerate(MEASURES.values()):
            own[m, block] = measure(mine, theirs.of_images(alone), a, b)
            found = measure(mine.of_images(known), theirs.of_images(stranger), a, b)
            strange[:, m] += np.nansum(found, axis=0), (~np.isnan(found)).sum(axis=0)
    return own, strange


def _table(
    comparison: _Comparison,
    label: str,
    own: npt.NDArray[np.float32],
    strange: Array,
    who: npt.NDArray[np.str_],
    seed: int,
) -> pl.DataFrame:
    """Rows of one label, or of all: own (labels, measures, N, M), strange (2, measures, M)."""
    first, second, pairs = comparison.first, comparison.second, len(comparison.pairs)
    columns = np.concatenate([own[:, m].reshape(-1, pairs) for m in range(len(MEASURES))], axis=1)
    means = patient_means(columns, np.tile(who, len(own)), seed=seed)
    others = quotient(*strange)
    table: dict[str, object] = {
        "kind": [comparison.kind] * pairs,
        "setting_a": [first.setting] * pairs,
        "setting_b": [second.setting] * pairs,
        "method_a": [first.names[k][0] for k in comparison.a],
        "method_b": [second.names[k][0] for k in comparison.b],
        "layer_a": [first.names[k][1] for k in comparison.a],
        "layer_b": [second.names[k][1] for k in comparison.b],
        "label": [label] * pairs,
        "images": (~np.isnan(own[:, 0])).any(axis=0).sum(axis=0),
        "patients": means.patients[:pairs],
    }
    for m, measure in enumerate(MEASURES):
        part = slice(m * pairs, (m + 1) * pairs)
        table |= {measure: means.value[part], f"{measure}_low": means.low[part], f"{measure}_high": means.high[part]}
        table[f"{measure}_other_patient"] = others[m]
    reasons = [means.reason[m * pairs : (m + 1) * pairs] for m in range(len(MEASURES))]
    table["reason"] = [next((why for why in each if why is not None), None) for each in zip(*reasons, strict=True)]
    return pl.DataFrame(table, schema=SCHEMA)
