"""The card that shows what a split is like: counts, shares, leakage, near-duplicates, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.cohort import SPLITS, Cohort
from radlens.core.spec import SplitSpec
from radlens.data.near_duplicates import SAME_WITHIN, NearDuplicate

_SHOWN = 20
"""So many pairs of near-duplicates are listed in the card, beside their number."""


def split_card(
    cohort: Cohort,
    spec: SplitSpec,
    digests: Sequence[str | None] | None = None,
    near: Sequence[NearDuplicate] | None = None,
) -> dict[str, Any]:
    """What `split_card.json` holds: counts per split and label, shares asked and reached, leakage, warnings.

    digests (N,): SHA-256 of each image file or None; files of the same bytes on both sides of the split are leakage
    too. near: pictures on both sides that are nearly the same (`near_duplicates`); None: not looked for. A label
    without positives or without negatives in a split is a sentence in `warnings`, not an error.
    """
    targets = cohort.targets()
    groups = cohort.groups()
    inside: dict[str, npt.NDArray[np.bool_]] = {split: cohort.where(split) for split in SPLITS}
    counts = {split: {"images": int(rows.sum()), "patients": len(set(groups[rows]))} for split, rows in inside.items()}
    labels: dict[str, dict[str, dict[str, int]]] = {
        label: {split: _count(targets[rows, column]) for split, rows in inside.items()}
        for column, label in enumerate(cohort.vocabulary.names)
    }
    leakage: dict[str, Any] = {"patients_in_several_splits": len(_torn(groups, inside)), "files_compared": 0}
    never = [label for label, of_split in labels.items() if not any(_assessed(count) for count in of_split.values())]
    warnings = [x for label, of_split in labels.items() if label not in never for x in _poor(label, of_split)]
    if never:
        verb = "is" if len(never) == 1 else "are"
        warnings.append(f"{_and(never)} {verb} not assessed in any image: neither to be learnt nor to be scored.")
    if leakage["patients_in_several_splits"]:
        warnings.insert(0, f"{leakage['patients_in_several_splits']} patients are in more than one split.")
    if spec.by != "patient":
        warnings.insert(
            0,
            f"the split keeps {'studies' if spec.by == 'study' else 'no images'} together, not patients: it leaks, and "
            "its scores say less of new patients than they seem to.",
        )
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
    ids = cohort.table["image_id"]
    if near is not None:
        apart = [pair for pair in near if digests is None or digests[pair.first] != digests[pair.second]]
        leakage["near_duplicates_in_several_splits"] = len(apart)
        if apart:
            first = apart[0]
            warnings.insert(
                0,
                f"{len(apart)} pairs of images in different splits are nearly the same picture (such as "
                f"{ids[first.first]} and {ids[first.second]}; {first.bits} of 256 bits of a perceptual hash differ).",
            )
    unnamed = cohort.table["patient_id"].null_count()
    return {
        "by": spec.by,
        "seed": spec.seed,
        "method": _method(spec),
        "official": spec.official,
        "file": spec.file,
        "fold": spec.fold,
        "folds": spec.folds,
        "repeat": spec.repeat,
        "same_within_bits": SAME_WITHIN if near is not None else None,
        "near_duplicates": [{"images": [ids[p.first], ids[p.second]], "bits": p.bits} for p in (near or ())[:_SHOWN]],
        "shares": {
            "asked": _asked(spec),
            "reached": {split: counts[split]["images"] / max(len(cohort), 1) for split in SPLITS},
        },
        "splits": counts,
        "images_without_patient": unnamed,
        "labels": labels,
        "leakage": leakage,
        "warnings": warnings,
    }


def _method(spec: SplitSpec) -> str:
    if spec.official:
        return "the data set's official split"
    if spec.file is not None:
        return f"the split of {spec.file}"
    drawn = "iterative stratification (Sechidis et al., 2011) over groups, positives and negatives"
    if spec.folds is None:
        return drawn
    return f"fold {spec.fold or 1} of {spec.folds}, {drawn}"


def _asked(spec: SplitSpec) -> dict[str, float] | None:
    """Shares, where shares were asked for."""
    if spec.official or spec.file is not None:
        return None
    if spec.folds is None:
        return {split: float(getattr(spec, split)) for split in SPLITS}
    rest = (1 - 1 / spec.folds) / (spec.train + spec.val)
    return {"train": spec.train * rest, "val": spec.val * rest, "test": 1 / spec.folds}


def _count(values: npt.NDArray[np.float32]) -> dict[str, int]:
    positives, negatives = int((values == 1).sum()), int((values == 0).sum())
    return {"positives": positives, "negatives": negatives, "not_assessed": len(values) - positives - negatives}


def _assessed(count: Mapping[str, int]) -> int:
    return count["positives"] + count["negatives"]


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
