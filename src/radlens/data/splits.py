"""Split a cohort by patient, and the card that shows what the split is like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.cohort import SPLITS, Cohort
from radlens.core.errors import DataError
from radlens.core.spec import SplitSpec
from radlens.data.stratification import split_by_group


def assign_split(cohort: Cohort, shares: Mapping[str, float], seed: int) -> Cohort:
    """The cohort with a split of its own (one that it came with is replaced): `split_by_group` over all its labels.

    shares: train, val and test. Raises `DataError` when a split would be without images.
    """
    split = split_by_group(cohort.targets(), cohort.groups(), shares, seed)
    empty = [name for name in shares if not np.any(split == name)]
    if empty:
        raise DataError(
            f"cohort {cohort.name}: split {empty[0]!r} would be empty with {len(cohort)} images of "
            f"{len(set(cohort.groups()))} patients; use more images or a larger share."
        )
    return cohort.with_split(split.tolist())


def split_card(cohort: Cohort, spec: SplitSpec, digests: Sequence[str | None] | None = None) -> dict[str, Any]:
    """What `split_card.json` holds: counts per split and label, shares asked and reached, leakage, warnings.

    digests (N,): SHA-256 of each image file or None; files of the same bytes on both sides of the split are leakage
    too. A label without positives or without negatives in a split is a sentence in `warnings`, not an error.
    """
    targets = cohort.targets()
    groups = cohort.groups()
    asked: dict[str, float] = {split: float(getattr(spec, split)) for split in SPLITS}
    inside: dict[str, npt.NDArray[np.bool_]] = {split: cohort.where(split) for split in SPLITS}
    counts = {split: {"images": int(rows.sum()), "patients": len(set(groups[rows]))} for split, rows in inside.items()}
    labels: dict[str, dict[str, dict[str, int]]] = {
        label: {split: _count(targets[rows, column]) for split, rows in inside.items()}
        for column, label in enumerate(cohort.vocabulary.names)
    }
    leakage: dict[str, Any] = {"patients_in_several_splits": len(_torn(groups, inside)), "files_compared": 0}
    warnings = [sentence for label, of_split in labels.items() for sentence in _poor(label, of_split)]
    if leakage["patients_in_several_splits"]:
        warnings.insert(0, f"{leakage['patients_in_several_splits']} patients are in more than one split.")
    if digests is not None:
        known = np.asarray([digest is not None for digest in digests], bool)
        files = np.asarray([digest or "" for digest in digests], dtype=object)
        twice = _torn(files, {split: rows & known for split, rows in inside.items()})
        leakage |= {"files_compared": int(known.sum()), "equal_files_in_several_splits": len(twice)}
        if twice:
            pair = cohort.table["image_id"].to_numpy()[files == twice[0]][:2]
            warnings.insert(
                0,
                f"{len(twice)} image files stand in more than one split with the same bytes (such as "
                f"{' and '.join(map(str, pair))}): the same film under two patients?",
            )
    unnamed = cohort.table["patient_id"].null_count()
    return {
        "by": spec.by,
        "seed": spec.seed,
        "method": "iterative stratification (Sechidis et al., 2011) over groups, positives and negatives",
        "shares": {
            "asked": asked,
            "reached": {split: counts[split]["images"] / max(len(cohort), 1) for split in SPLITS},
        },
        "splits": counts,
        "images_without_patient": unnamed,
        "labels": labels,
        "leakage": leakage,
        "warnings": warnings,
    }


def _count(values: npt.NDArray[np.float32]) -> dict[str, int]:
    positives, negatives = int((values == 1).sum()), int((values == 0).sum())
    return {"positives": positives, "negatives": negatives, "not_assessed": len(values) - positives - negatives}


def _torn(names: npt.NDArray[np.object_], inside: Mapping[str, npt.NDArray[np.bool_]]) -> list[str]:
    """Names that stand in more than one split, sorted."""
    seen: set[str] = set()
    torn: set[str] = set()
    for rows in inside.values():
        here = set(names[rows])
        torn |= here & seen
        seen |= here
    return sorted(torn)


def _poor(label: str, of_split: Mapping[str, Mapping[str, int]]) -> list[str]:
    if all(count["positives"] + count["negatives"] == 0 for count in of_split.values()):
        return [f"{label} is not assessed in any image: it can be neither learnt nor scored."]
    sentences = []
    for kind in ("positives", "negatives"):
        without = [split for split, count in of_split.items() if count[kind] == 0]
        if without:
            means = " it cannot be learnt;" if "train" in without else ""
            means += " it cannot be scored there." if "test" in without else " its threshold cannot be chosen there."
            means = means if without != ["train"] else " it cannot be learnt."
            sentences.append(f"{label} has no {kind} in {_and(without)}:{means}")
    return sentences


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
