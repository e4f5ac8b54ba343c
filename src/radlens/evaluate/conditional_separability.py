"""How far a label lies apart once the labels that occur with it are held equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.undefined import mean_of_defined, quotient
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.distances import Points, block_distances
from radlens.evaluate.patient_sample import patient_sample
from radlens.evaluate.permutation import null_position, patient_shuffles

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
PERMUTATIONS = 99
IMAGES = 10_000
"""Images looked at, at most: each label has distances and shuffles of its own."""
_AVERAGED = ("inter", "intra", "ratio", "ratio_unmatched")
SCHEMA: dict[str, Any] = {
    "name": pl.String,
    "normalised": pl.Boolean,
    "inter": pl.Float64,
    "intra": pl.Float64,
    "ratio": pl.Float64,
    "ratio_unmatched": pl.Float64,
    "ratio_null": pl.Float64,
    "ratio_z": pl.Float64,
    "ratio_p": pl.Float64,
    "positives": pl.Int64,
    "positives_matched": pl.Int64,
    "strata": pl.Int64,
    "images": pl.Int64,
    "reason": pl.String,
}


def conditional_separability(
    embeddings: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    groups: Sequence[str],
    vocabulary: Vocabulary,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> pl.DataFrame:
    """Each label against its absence among images alike in all other labels: a table with the columns of `SCHEMA`.

    embeddings float32 (N, D) un-normalised; targets (N, L) 1, 0 or NaN; groups: N patient ids.
    A stratum of a label is the set of images with one pattern of the other labels, "not assessed" being a value of its
    own; the vocabulary's no-finding label is left out of the pattern of every other, for it only says that there is
    none. In each stratum, over pairs of different patients: between = mean distance of a positive and a negative image,
    within = half of the mean distance of two positives plus half of that of two negatives. inter and intra are the
    means of between and within over strata, weighted by their positives; ratio = inter / intra. It is 1 in expectation
    if and only if positives and negatives of each stratum are spread alike (between >= within: the energy distance,
    Szekely and Rizzo, J Stat Plann Inference 143, 2013, 1249), so nothing that a label owes to the labels which occur
    with it is left. What stays: whatever else differs, as view or device. A stratum counts that has two patients of
    either kind; positives_matched are its positives.

    ratio_unmatched: the same with all assessed images as one stratum, co-occurrence included. ratio_null, ratio_z,
    ratio_p: among `permutations` shuffles of the label within strata, by patient. images: at most `IMAGES`, of patients
    drawn at random. The last rows, `overall`, are means over the labels; reason: why a ratio is NaN.
    """
    sample = patient_sample(groups, IMAGES, seed, by_patient=True)
    kept, names, patient = sample.rows, sample.names, sample.patient
    targets = targets[kept]
    rows: list[dict[str, Any]] = []
    for normalised in (False, True):
        vectors = embeddings[kept]
        positive, assessed = (targets == 1).astype(np.float32), (~np.isnan(targets)).astype(np.float32)
        plain = _sums(Points(vectors, normalised=normalised), patient, positive, assessed)
        unmatched = quotient(*plain.between_and_within())
        here = []
        for k, label in enumerate(vocabulary.names):
            strata = [s for s in _strata(targets, k, vocabulary) if _comparable(targets[s, k], patient[s])]
            found = _matched(vectors, targets[:, k], names, patient, strata, normalised, permutations, seed)
            matched = int(sum((targets[s, k] == 1).sum() for s in strata))
            row: dict[str, Any] = {"name": label, "normalised": normalised, **found}
            row["ratio_unmatched"] = float(unmatched[k])
            row |= {"positives": int(positive[:, k].sum()), "positives_matched": matched, "strata": len(strata)}
            reason = None if strata else "no two patients with and two without the label are alike in the other labels"
            here.append(row | {"images": len(kept), "reason": reason})
        overall = {column: mean_of_defined(np.array([row[column] for row in here])) for column in _AVERAGED}
        overall |= dict.fromkeys(("ratio_null", "ratio_z", "ratio_p"), float("nan"))
        fixed = {"name": "overall", "normalised": normalised, "images": len(kept)}
        rows += [*here, fixed | overall | {"reason": "mean over the labels, each of which has its own null"}]
    return pl.DataFrame(sorted(rows, key=lambda row: row["name"] == "overall"), schema=SCHEMA)


@dataclass(frozen=True)
class _Sums:
    """Sums and counts (3, Q) over pairs of different patients: two positives, one of each kind, two negatives."""

    sums: Array
    counts: Array

    def between_and_within(self) -> tuple[Array, Array]:
        means = quotient(self.sums, self.counts)
        return means[1], (means[0] + means[2]) / 2


def _sums(points: Points, patient: npt.NDArray[np.intp], positive: Floats, assessed: Floats) -> _Sums:
    """positive (n, Q), 1 or 0: positives of each of Q labellings; assessed (n, Q) or (n, 1): these and the negatives.

    patient (n,) in ascending order, so that most blocks have no patient in common. Sums over negatives follow from
    those over positives and over all assessed.
    """
    columns = positive.shape[1]
    both = np.concatenate([positive, assessed], axis=1)
    pp, pa, aa = np.zeros(columns), np.zeros(columns), np.zeros(columns)
    blocks = points.blocks()
    ready = [points.prepared(rows) for rows in blocks]
    for j, there in enumerate(blocks):
        for i, here in enumerate(blocks[: j + 1]):
            between = block_distances(ready[i], ready[j])
            if i == j or patient[here][-1] >= patient[there][0]:
                between[patient[here][:, None] == patient[there]] = 0.0
            towards = (between @ both[there]).astype(np.float64)
            # of two blocks both halves count, a block with itself holds each pair twice
            weight = 1.0 if i == j else 2.0
            pp += weight * np.einsum("nq,nq->q", positive[here], towards[:, :columns])
            aa += weight * (assessed[here] * towards[:, columns:]).sum(axis=0)
            pa += weight / 2 * (positive[here] * towards[:, columns:]).sum(axis=0)
            pa += weight / 2 * (assessed[here] * towards[:, :columns]).sum(axis=0)
    sums = np.stack([pp, pa - pp, aa - 2 * pa + pp])
    own = np.zeros((patient.max() + 1 if len(patient) else 0, both.shape[1]))
    np.add.at(own, patient, both)
    p, n = own[:, :columns], own[:, columns:] - own[:, :columns]
    counts = [p.sum(axis=0) ** 2 - (p**2).sum(axis=0), p.sum(axis=0) * n.sum(axis=0) - (p * n).sum(axis=0)]
    return _Sums(sums, np.stack([*counts, n.sum(axis=0) ** 2 - (n**2).sum(axis=0)]))


def _matched(
    vectors: Floats,
    label: Floats,
    names: Sequence[str],
    patient: npt.NDArray[np.intp],
    strata: Sequence[npt.NDArray[np.intp]],
    normalised: bool,
    permutations: int,
    seed: int,
) -> dict[str, float]:
    """inter, intra, ratio and the ratio's place in its null for one label; NaN without strata."""
    inter, intra = np.zeros(1 + permutations), np.zeros(1 + permutations)
    total = 0
    for place, stratum in enumerate(strata):
        orders = patient_shuffles([names[row] for row in stratum], permutations, [seed, place])
        order = np.stack([np.arange(len(stratum)), *orders], axis=1)
        positive = (label[stratum] == 1).astype(np.float32)[order]
        _, own = np.unique(patient[stratum], return_inverse=True)
        points, everyone = Points(vectors[stratum], normalised=normalised), np.ones((len(stratum), 1), np.float32)
        found = _sums(points, own, positive, everyone)
        between, within = found.between_and_within()
        weight = int(positive[:, 0].sum())
        inter, intra, total = inter + weight * between, intra + weight * within, total + weight
    inter, intra = quotient(inter, total), quotient(intra, total)
    ratio = quotient(inter, intra)
    null = null_position(ratio[:1], ratio[1:, None])
    values = {"inter": inter[0], "intra": intra[0], "ratio": ratio[0], "ratio_null": null.mean[0]}
    values |= {"ratio_z": null.z[0], "ratio_p": null.p[0]}
    return {column: float(value) for column, value in values.items()}


def _strata(targets: Floats, label: int, vocabulary: Vocabulary) -> list[npt.NDArray[np.intp]]:
    """Rows of the images that the label is assessed on, by their pattern of the other labels."""
    others = [k for k, name in enumerate(vocabulary.names) if k != label and name != vocabulary.no_finding]
    assessed = np.flatnonzero(~np.isnan(targets[:, label]))
    # a leading column, for a vocabulary of one label has no others
    pattern = np.zeros((len(assessed), 1 + len(others)), np.int8)
    pattern[:, 1:] = np.nan_to_num(targets[assessed][:, others], nan=2.0)
    _, place = np.unique(pattern, axis=0, return_inverse=True)
    place = place.ravel()
    by_place = np.argsort(place, kind="stable")
    return np.split(assessed[by_place], np.cumsum(np.bincount(place))[:-1]) if len(assessed) else []


def _comparable(label: Floats, patient: npt.NDArray[np.intp]) -> bool:
    """Whether there are two patients with and two without the label, so that all three means exist."""
    return all(len(np.unique(patient[label == kind])) > 1 for kind in (1, 0))
