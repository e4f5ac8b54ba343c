"""How far the classes lie apart in embedding space: three definitions, each beside its permutation null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from radlens.core.parts import Definition
from radlens.core.undefined import mean_of_defined, quotient
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.class_sets import ClassSets, class_sets
from radlens.evaluate.distances import Points, centroid_distances, set_products, shuffled_centroid_distances
from radlens.evaluate.domains import domain_targets
from radlens.evaluate.patient_sample import some_patients
from radlens.evaluate.permutation import null_position, patient_shuffles

Array = npt.NDArray[np.float64]
PERMUTATIONS = 99
NULL_IMAGES = 10_000
"""Images that the null is made on at most: its time grows with their square times the number of shuffles."""
SCHEMA: dict[str, Any] = {
    "scope": pl.String,
    "name": pl.String,
    "definition": pl.String,
    "normalised": pl.Boolean,
    "inter": pl.Float64,
    "intra": pl.Float64,
    "ratio": pl.Float64,
    "ratio_null": pl.Float64,
    "ratio_z": pl.Float64,
    "ratio_p": pl.Float64,
    "null_images": pl.Int64,
    "members": pl.Int64,
}
DEFINITIONS = {
    "inter_class_distance": Definition(
        "overall",
        "none",
        (0.0, float("inf")),
        "Pairwise definition on un-normalised image embeddings: for two labels, the mean Euclidean distance between "
        "images of the one but not the other and images of the other but not the one; the mean over pairs of labels "
        "(for one label: over the other labels; for a domain: over the other domains).",
        "METHODS section 5",
    ),
    "intra_class_distance": Definition(
        "overall",
        "none",
        (0.0, float("inf")),
        "Pairwise definition on un-normalised image embeddings: mean Euclidean distance of distinct pairs of images of "
        "a label, the mean over labels with at least two images.",
        "METHODS section 5",
    ),
    "separability_ratio": Definition(
        "overall",
        "higher",
        (0.0, float("inf")),
        "inter_class_distance / intra_class_distance. To be read beside separability_ratio_null. Other definitions (in "
        "the separability table): centroid = mean distance between label centroids over mean distance to the own "
        "centroid; mixed = pairwise inter over intra to the centroid. Noise gives 1, well below 1, and about 1.4.",
        "METHODS section 5",
    ),
    "separability_ratio_null": Definition(
        "overall",
        "none",
        (0.0, float("inf")),
        f"Mean separability ratio over {PERMUTATIONS} shuffles of the labels between patients: what embeddings that "
        "know nothing of the labels would give.",
        "METHODS section 5",
    ),
    "separability_z": Definition(
        "overall",
        "higher",
        (float("-inf"), float("inf")),
        "(separability_ratio - separability_ratio_null) / standard deviation of the ratio over the shuffles. Where the "
        f"split has more than {NULL_IMAGES} images, ratio and shuffles are those of so many, of patients drawn at "
        "random.",
        "METHODS section 5",
    ),
    "separability_p": Definition(
        "overall",
        "lower",
        (0.0, 1.0),
        "(k + 1) / (n + 1), where k of n shuffles of the labels between patients give a separability ratio at least as "
        "high: small when the embeddings know something of the labels. Uncorrected for the number of rows read.",
        "Phipson and Smyth, Stat Appl Genet Mol Biol 9 (2010) 39; METHODS section 5",
    ),
}


@dataclass(frozen=True)
class ClassDistances:
    """One definition's distances: intra (1 + P, K), inter (1 + P, K, K) symmetric with a NaN diagonal; NaN = undefined.

    The first of 1 + P is as labelled, the others are relabelled at random.
    """

    intra: Array
    inter: Array


def separability(
    embeddings: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    groups: Sequence[str],
    vocabulary: Vocabulary,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> pl.DataFrame:
    """Every definition, raw and normalised, overall, per label and per domain: a table with the columns of `SCHEMA`.

    embeddings float32 (N, D) un-normalised; targets (N, L) 1, 0 or NaN; groups: N patient ids.
    `pairwise`: intra = mean distance of distinct pairs within a class, inter = mean distance between the exclusive
    members of two classes. `centroid`: intra = mean distance to the class's centroid, inter = distance of two
    centroids. `mixed`: inter of the first, intra of the second. Overall: mean over labels and over pairs of labels.
    A label or domain: inter is its mean over the other labels or domains. members: images of the class (overall: of
    any label). NaN where a class has fewer than two members, or no pair has exclusive members. Source: METHODS
    section 5.

    ratio_null, ratio_z, ratio_p: the ratio among `permutations` shuffles of the label rows between patients
    (`null_position`); null_images: on how many images, at most `NULL_IMAGES` of patients drawn at random, and then the
    ratio of these same images is held against it. inter, intra and ratio are exact on all images. A ratio above its
    null says that the embeddings know something of the labels, not of this one in itself: labels that occur together
    lend each other their distance (see `conditional_separability`). Raises `DataError` for an embedding with NaN.
    """
    scopes = [
        ("label", vocabulary.names, targets),
        ("domain", tuple(vocabulary.domains), domain_targets(targets, vocabulary)),
    ]
    kept = some_patients(groups, NULL_IMAGES, seed)
    orders = patient_shuffles([groups[row] for row in kept], permutations, seed)
    rows: list[dict[str, Any]] = []
    for normalised in (False, True):
        every = [class_sets(known) for _, _, known in scopes]
        whole = len(kept) == len(groups)
        exact = measured = _measure(Points(embeddings, normalised=normalised), every, orders if whole else [])
        if not whole and permutations:
            some = [class_sets(known[kept]) for _, _, known in scopes]
            measured = _measure(Points(embeddings[kept], normalised=normalised), some, orders)
        for (scope, names, _), sets, found, held in zip(scopes, every, exact, measured, strict=True):
            counts = sets.members.sum(axis=0)
            for definition in found:
                fixed = {"definition": definition, "normalised": normalised, "null_images": len(kept)}
                if scope == "label":
                    values = _row(*_means(found[definition]), *_means(held[definition]))
                    members = int(sets.members.any(axis=1).sum())
                    rows.append({"scope": "overall", "name": "overall", **fixed, **_at(values, 0), "members": members})
                values = _row(*_by_class(found[definition]), *_by_class(held[definition]))
                for k, name in enumerate(names):
                    rows.append({"scope": scope, "name": name, **fixed, **_at(values, k), "members": int(counts[k])})
    order = {"overall": 0, "label": 1, "domain": 2}
    return pl.DataFrame(sorted(rows, key=lambda row: order[row["scope"]]), schema=SCHEMA)


def _measure(
    points: Points, classes: Sequence[ClassSets], orders: Sequence[npt.NDArray[np.intp]]
) -> list[dict[str, ClassDistances]]:
    """The three definitions for several kinds of classes from one pass over the distances."""
    joined = sparse.hstack([sets.sets for sets in classes], format="csr")
    products = set_products(points, [joined, *(joined[order] for order in orders)])
    members = np.concatenate([sets.members for sets in classes], axis=1)
    as_labelled, shuffled = centroid_distances(points, members), shuffled_centroid_distances(points, members, orders)
    spread, apart = (np.concatenate([one[None], many]) for one, many in zip(as_labelled, shuffled, strict=True))
    measured = []
    start = seen = 0
    for sets in classes:
        here, own = slice(start, start + sets.sets.shape[1]), slice(seen, seen + sets.members.shape[1])
        within, between = sets.mean_distances(products[:, here, here])
        to_centroid = np.where(sets.members.sum(axis=0) > 1, spread[:, own], np.nan)
        centroids = np.where(np.eye(sets.members.shape[1], dtype=np.bool_), np.nan, apart[:, own, own])
        measured.append(
            {
                "pairwise": ClassDistances(within, between),
                "centroid": ClassDistances(to_centroid, centroids),
                "mixed": ClassDistances(to_centroid, between),
            }
        )
        start, seen = here.stop, own.stop
    return measured


def _means(found: ClassDistances) -> tuple[Array, Array]:
    """Over all classes and pairs: (1 + P, 1) each."""
    return mean_of_defined(found.inter, axis=(1, 2))[:, None], mean_of_defined(found.intra, axis=1)[:, None]


def _by_class(found: ClassDistances) -> tuple[Array, Array]:
    """Of each class: (1 + P, K) each."""
    return mean_of_defined(found.inter, axis=2), found.intra


def _row(inter: Array, intra: Array, held_inter: Array, held_intra: Array) -> dict[str, Array]:
    held = quotient(held_inter, held_intra)
    null = null_position(held[0], held[1:])
    return {
        "inter": inter[0],
        "intra": intra[0],
        "ratio": quotient(inter[0], intra[0]),
        "ratio_null": null.mean,
        "ratio_z": null.z,
        "ratio_p": null.p,
    }


def _at(values: dict[str, Array], place: int) -> dict[str, float]:
    return {column: float(value[place]) for column, value in values.items()}
