"""How far the classes lie apart in embedding space: three definitions, each beside its permutation null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.parts import Definition
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.distances import Points, centroid_distances, pair_sums
from radlens.evaluate.domains import domain_targets
from radlens.evaluate.permutation import patient_shuffles
from radlens.evaluate.undefined import mean_of_defined, quotient

Array = npt.NDArray[np.float64]
PERMUTATIONS = 20
SCHEMA: dict[str, Any] = {
    "scope": pl.String,
    "name": pl.String,
    "definition": pl.String,
    "normalised": pl.Boolean,
    "inter": pl.Float64,
    "intra": pl.Float64,
    "ratio": pl.Float64,
    "ratio_null": pl.Float64,
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
}


@dataclass(frozen=True)
class ClassSets:
    """Images by class. members (N, K). first, second (N, M): exclusive members of the M class pairs (K, 2) in `pairs`.

    Exclusive means: known to be of the one class and known not to be of the other.
    """

    members: npt.NDArray[np.bool_]
    first: npt.NDArray[np.bool_]
    second: npt.NDArray[np.bool_]
    pairs: npt.NDArray[np.intp]


@dataclass(frozen=True)
class ClassDistances:
    """One definition's distances: intra (1 + P, K), inter (1 + P, K, K) symmetric with a NaN diagonal; NaN = undefined.

    The first of 1 + P is as labelled, the others are relabelled at random.
    """

    intra: Array
    inter: Array


def class_sets(targets: npt.NDArray[np.float32]) -> ClassSets:
    """Sets of the classes with targets (N, K); pairs without exclusive members on both sides are left out."""
    member, absent = targets == 1, targets == 0
    a, b = np.triu_indices(targets.shape[1], k=1)
    first, second = member[:, a] & absent[:, b], member[:, b] & absent[:, a]
    both = first.any(axis=0) & second.any(axis=0)
    return ClassSets(member, first[:, both], second[:, both], np.stack([a, b], axis=1)[both])


def separability(
    embeddings: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    groups: Sequence[str],
    vocabulary: Vocabulary,
    seed: int,
) -> pl.DataFrame:
    """Every definition, raw and normalised, overall, per label and per domain: a table with the columns of `SCHEMA`.

    embeddings float32 (N, D) un-normalised; targets (N, L) 1, 0 or NaN; groups: N patient ids.
    `pairwise`: intra = mean distance of distinct pairs within a class, inter = mean distance between the exclusive
    members of two classes. `centroid`: intra = mean distance to the class's centroid, inter = distance of two
    centroids. `mixed`: inter of the first, intra of the second. Overall: mean over labels and over pairs of labels.
    A label or domain: inter is its mean over the other labels or domains. members: images of the class (overall: of
    any label). NaN where a class has fewer than two members, or no pair has exclusive members. Source: METHODS
    section 5.
    """
    scopes = [("label", vocabulary.names, class_sets(targets))]
    scopes.append(("domain", tuple(vocabulary.domains), class_sets(domain_targets(targets, vocabulary))))
    orders = patient_shuffles(groups, PERMUTATIONS, seed)
    rows: list[dict[str, Any]] = []
    for normalised in (False, True):
        points = Points(embeddings, normalised=normalised)
        measured = _measure(points, [sets for _, _, sets in scopes], orders)
        for (scope, names, sets), definitions in zip(scopes, measured, strict=True):
            counts = sets.members.sum(axis=0)
            for definition, found in definitions.items():
                fixed = {"definition": definition, "normalised": normalised}
                if scope == "label":
                    inter, intra = mean_of_defined(found.inter, axis=(1, 2)), mean_of_defined(found.intra, axis=1)
                    some = int(sets.members.any(axis=1).sum())
                    rows.append({"scope": "overall", "name": "overall", **fixed, **_row(inter, intra), "members": some})
                inter = mean_of_defined(found.inter, axis=2)
                for k, name in enumerate(names):
                    values = _row(inter[:, k], found.intra[:, k])
                    rows.append({"scope": scope, "name": name, **fixed, **values, "members": int(counts[k])})
    order = {"overall": 0, "label": 1, "domain": 2}
    return pl.DataFrame(sorted(rows, key=lambda row: order[row["scope"]]), schema=SCHEMA)


def _measure(
    points: Points, classes: Sequence[ClassSets], orders: Sequence[npt.NDArray[np.intp]]
) -> list[dict[str, ClassDistances]]:
    """The three definitions for several sets of classes from one pass over the distances."""
    left = np.concatenate([array for sets in classes for array in (sets.members, sets.first)], axis=1)
    right = np.concatenate([array for sets in classes for array in (sets.members, sets.second)], axis=1)
    means = pair_sums(points, left, right, orders)
    all_members = np.concatenate([sets.members for sets in classes], axis=1)
    to_centroid = [centroid_distances(points, all_members)]
    to_centroid += [centroid_distances(points, all_members[order]) for order in orders]
    spread = np.stack([intra for intra, _ in to_centroid])
    apart = np.stack([inter for _, inter in to_centroid])
    measured = []
    start = seen = 0
    for sets in classes:
        classes_here, pairs_here = sets.members.shape[1], len(sets.pairs)
        middle, end = start + classes_here, start + classes_here + pairs_here
        counts = sets.members.sum(axis=0)
        pairwise_intra = quotient(means[:, start:middle], counts * (counts - 1))
        pairwise_inter = np.full((len(means), classes_here, classes_here), np.nan)
        a, b = sets.pairs.T
        between = quotient(means[:, middle:end], sets.first.sum(axis=0) * sets.second.sum(axis=0))
        pairwise_inter[:, a, b] = pairwise_inter[:, b, a] = between
        own = slice(seen, seen + classes_here)
        centroid_intra = np.where(counts > 1, spread[:, own], np.nan)
        centroid_inter = apart[:, own, own].copy()
        centroid_inter[:, np.arange(classes_here), np.arange(classes_here)] = np.nan
        measured.append(
            {
                "pairwise": ClassDistances(pairwise_intra, pairwise_inter),
                "centroid": ClassDistances(centroid_intra, centroid_inter),
                "mixed": ClassDistances(centroid_intra, pairwise_inter),
            }
        )
        start, seen = end, seen + classes_here
    return measured


def _row(inter: Array, intra: Array) -> dict[str, float]:
    ratios = quotient(inter, intra)
    return {
        "inter": float(inter[0]),
        "intra": float(intra[0]),
        "ratio": float(ratios[0]),
        "ratio_null": float(mean_of_defined(ratios[1:])),
    }
