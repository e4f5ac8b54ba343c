"""Whether maps stay what they are: when the image moves by a few pixels, and when training begins from another seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import rankdata
from torch import Tensor

from radlens.core.classifier import Classifier
from radlens.core.errors import ExplainError
from radlens.core.parts import Progress
from radlens.core.regions import SaliencyMaps
from radlens.core.undefined import mean_of_defined, quotient
from radlens.explain.baselines import other_patients
from radlens.explain.maps import saliency_maps
from radlens.explain.passes import Precision
from radlens.explain.trust.evidence import evidence
from radlens.explain.trust.paired import Answer, Comparison, answers, decisive
from radlens.explain.trust.shifts import Shift, enlarged, half_a_patch, overlap, with_shifts
from radlens.explain.trust.targets import Target, check_targets, rows_of_labels

Array = npt.NDArray[np.float64]
STABILITY, SEEDS = "stability", "seeds"
FLOOR = 0.5
"""Rank correlation below which maps are not the same map, whatever those of other images are like."""


def shift_stability(
    classifier: Classifier,
    pixels: Iterable[Tensor | npt.NDArray[np.float32]],
    image_ids: Sequence[str],
    patients: Sequence[str],
    targets: Sequence[Target],
    methods: Sequence[str],
    layers: Sequence[int | str],
    *,
    shifts: Sequence[Shift] | None = None,
    floor: float = FLOOR,
    batch_size: int = 4,
    precision: Precision = "float32",
    seed: int = 0,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Evidence `stability`: how alike the maps of an image and of the same image moved by `shifts` are.

    pixels: batches (b, 3, H, W) in the order of `image_ids`; patients: (N,), of the same images; targets: (image id,
    label) pairs to test. shifts: None: half a patch down, up, right and left. What moves in at an edge repeats it.

    Both maps are enlarged to the model's input, the moved one is moved back, and they are compared by Spearman's rank
    correlation at two points a patch each way where both are defined. value: its mean over shifts and targets; rival:
    the same between an image's map and the moved map of the next image, in order and round the end, of another patient
    (one with the same target, else any). It passes when the intervals over patients of value - rival and of
    value - `floor` both lie above 0, fails when one lies at or below it, and is null otherwise; the row shows the rival
    that decides. A constant map correlates with nothing: it is left aside, and counted in `reason`.

    Cost: 1 + the number of shifts times the passes of `saliency_maps`, for images with a target. Memory: their maps for
    all labels. Raises `ExplainError` as `saliency_maps` does, or for an unknown image or label.
    """
    if classifier.encoder is None:
        raise ExplainError(f"setting {classifier.setting!r} has no encoder attached; load its model to explain it.")
    check_targets(targets, image_ids, classifier.vocabulary.names)
    patient_of = dict(zip(image_ids, patients, strict=True))
    if not targets:
        return evidence([])
    side, patch = classifier.encoder.transform.size, classifier.encoder.transform.size // max(classifier.encoder.grid)
    moves = tuple(shifts) if shifts is not None else half_a_patch(patch)
    if not moves or any(max(map(abs, move)) >= side for move in moves):
        raise ValueError(f"expected shifts of less than {side} pixels, and at least one, found {moves}.")
    wanted = {image_id for image_id, _ in targets}
    kept = [image_id for image_id in image_ids if image_id in wanted]
    names = [f"{image_id} moved by {move}" for image_id in kept for move in ((0, 0), *moves)]
    maps = saliency_maps(
        classifier,
        with_shifts(pixels, image_ids, wanted, moves),
        names,
        methods,
        layers,
        batch_size=batch_size,
        precision=precision,
        progress=progress,
    )
    labels, kinds = maps.labels, len(maps.methods) * len(maps.layers)
    grids = maps.maps.reshape(len(kept), 1 + len(moves), len(labels), kinds, *maps.maps.shape[-2:])
    row_of = {image_id: row for row, image_id in enumerate(kept)}
    rivals = _rivals(targets, kept, patient_of)
    own, between = (np.full((len(moves), len(targets), kinds), np.nan) for _ in range(2))
    for at, (image_id, label) in enumerate(targets):
        column, rival = labels.index(label), rivals[at]
        still = enlarged(grids[row_of[image_id], 0, column], side)
        for which, move in enumerate(moves):
            for table, other in ((own, image_id), (between, rival)):
                if other is not None:
                    back = enlarged(grids[row_of[other], 1 + which, column], side)
                    table[which, at] = rank_correlation(*overlap(still, back, move, max(patch // 2, 1)))
    figures = mean_of_defined(own, axis=0), mean_of_defined(between, axis=0)
    words = f"maps of the image moved by {max(max(map(abs, move)) for move in moves)} pixels"
    return _table(classifier.setting, STABILITY, words, maps, targets, patient_of, figures, floor, seed)


def seed_stability(
    maps: Mapping[str, SaliencyMaps],
    patients: Mapping[str, str],
    targets: Sequence[Target],
    *,
    setting: str,
    floor: float = FLOOR,
    seed: int = 0,
) -> pl.DataFrame:
    """Evidence `seeds`: how alike the maps of one setting trained from different seeds are.

    maps: seed -> maps of the same images, labels, methods and layers. patients: image id -> patient. value: Spearman's
    rank correlation of two seeds' maps of a target on the grid, its mean over pairs of seeds and targets; rival: the
    same between an image's map of one seed and another patient's map of the other. Passed, constant maps: as in
    `shift_stability`. Raises `ExplainError` for fewer than two seeds or maps that are not of the same things.
    """
    if len(maps) < 2:
        raise ExplainError(
            f"setting {setting!r}: maps of {len(maps)} seed, but stability over seeds needs two or more."
        )
    first, *rest = maps.values()
    for name, one in zip(list(maps)[1:], rest, strict=True):
        for part in ("image_ids", "labels", "methods", "layers"):
            if getattr(one, part) != getattr(first, part):
                raise ExplainError(
                    f"setting {setting!r}: maps of seeds {next(iter(maps))!r} and {name!r} are not of the same {part}."
                )
    check_targets(targets, first.image_ids, first.labels)
    if not targets:
        return evidence([])
    kinds = len(first.methods) * len(first.layers)
    row_of = {image_id: row for row, image_id in enumerate(first.image_ids)}
    rivals = _rivals(targets, first.image_ids, patients)
    pairs = list(combinations(maps.values(), 2))
    own, between = (np.full((len(pairs), len(targets), kinds), np.nan) for _ in range(2))
    for at, (image_id, label) in enumerate(targets):
        column, rival = first.labels.index(label), rivals[at]
        for which, (one, other) in enumerate(pairs):
            here = one.maps[row_of[image_id], column].reshape(kinds, -1)
            own[which, at] = rank_correlation(here, other.maps[row_of[image_id], column].reshape(kinds, -1))
            if rival is not None:
                there = other.maps[row_of[rival], column].reshape(kinds, -1)
                between[which, at] = rank_correlation(here, there)
    figures = mean_of_defined(own, axis=0), mean_of_defined(between, axis=0)
    words = f"maps of {len(maps)} seeds"
    return _table(setting, SEEDS, words, first, targets, patients, figures, floor, seed)


def rank_correlation(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> Array:
    """Spearman's rank correlation of (..., n) and (..., n), ties with their mean rank: (...), NaN for a constant."""
    centred = []
    for values in (first, second):
        ranks = rankdata(values, axis=-1)
        centred.append(ranks - ranks.mean(axis=-1, keepdims=True))
    sizes = [np.sqrt((ranks**2).sum(axis=-1)) for ranks in centred]
    return quotient((centred[0] * centred[1]).sum(axis=-1), sizes[0] * sizes[1])


def _table(
    setting: str,
    check: str,
    words: str,
    maps: SaliencyMaps,
    targets: Sequence[Target],
    patient_of: Mapping[str, str],
    figures: tuple[Array, Array],
    floor: float,
    seed: int,
) -> pl.DataFrame:
    """figures: (T, K) of the targets' own maps, and between images."""
    own, between = figures
    rows: list[dict[str, object]] = []
    for label, chosen in rows_of_labels([label for _, label in targets]).items():
        patients = [patient_of[targets[at][0]] for at in chosen]
        comparisons = (
            Comparison("maps of other patients", own[chosen], between[chosen]),
            Comparison("the floor", own[chosen], np.full_like(own[chosen], floor)),
        )
        each = [answers(one, patients, seed=seed) for one in comparisons]
        for kind, found in enumerate(zip(*each, strict=True)):
            method, layer = divmod(kind, len(maps.layers))
            key = {"method": maps.methods[method], "layer": maps.layers[layer], "label": label, "check": check}
            undefined = int(np.isnan(own[chosen, kind]).sum())
            rows.append({"setting": setting} | key | _row(words, found, undefined, len(chosen)))
    return evidence(rows)


def _row(words: str, found: Sequence[Answer], undefined: int, images: int) -> dict[str, object]:
    deciding = decisive(found)
    if undefined == images:
        return deciding.row(f"{words}: all {images} are constant, so that no rank correlation is defined")
    against = " and ".join(f"{one.rival:.2f} for {one.rival_name} ({one.interval()})" for one in found)
    left_out = f"; {undefined} of {images} are constant and left aside" if undefined else ""
    return deciding.row(f"{words}: rank correlation {found[-1].value:.2f}, against {against}{left_out}")


def _rivals(targets: Sequence[Target], image_ids: Sequence[str], patient_of: Mapping[str, str]) -> list[str | None]:
    """For each target the next image, in order and round the end, of another patient: with that target, else any."""
    of_label: dict[str, set[str]] = {}
    for image_id, label in targets:
        of_label.setdefault(label, set()).add(image_id)
    alike = {
        label: other_patients([one for one in image_ids if one in images], patient_of)
        for label, images in of_label.items()
    }
    any_label = other_patients(image_ids, patient_of)
    return [alike[label].get(image_id, any_label.get(image_id)) for image_id, label in targets]
