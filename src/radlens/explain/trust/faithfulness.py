"""Whether the patches that a map marks are those that the logit rests on: deletion, insertion and ROAD."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from radlens.core.classifier import Classifier
from radlens.core.errors import ExplainError
from radlens.core.parts import Progress
from radlens.core.regions import SaliencyMaps
from radlens.explain.baselines import centre_map
from radlens.explain.passes import Precision
from radlens.explain.trust.curves import CHECKS, INSERTION, PerturbedLogits
from radlens.explain.trust.faithfulness_tables import TargetCurves, curve_table, evidence_table
from radlens.explain.trust.perturbation import Order, removal_order
from radlens.explain.trust.road import NOISE
from radlens.explain.trust.targets import Target, check_targets, images_of

Grid = npt.NDArray[np.floating]
Priors = Mapping[str, Grid] | Mapping[Target, Grid]
"""Of a label, or of each target: its label's mean region over the images of other patients."""


def faithfulness(
    classifier: Classifier,
    pixels: Iterable[Tensor | npt.NDArray[np.float32]],
    image_ids: Sequence[str],
    patients: Sequence[str],
    maps: SaliencyMaps,
    targets: Sequence[Target],
    priors: Priors | None = None,
    *,
    checks: Sequence[str] = CHECKS,
    steps: int = 8,
    random_orders: int = 4,
    sigma: float | None = None,
    batch_size: int = 32,
    precision: Precision = "float32",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Evidence (`evidence.SCHEMA`) and curves (`CURVES`) of the checks `deletion`, `insertion` and `road`.

    pixels: batches (b, 3, H, W) in the order of `image_ids`; patients: (N,), of the same images. maps: of this
    classifier, with at least the images of `targets`, the (image id, label) pairs to test. priors: label, or
    target -> mean region on the grid; without one the centre Gaussian. steps: equal steps from the whole image to none
    of it. random_orders: for each image, in pairs of an order and the same backwards. sigma: of the blur, in pixels of
    the input (None: the side of a patch).

    The logit is followed, never the probability. Patches go in the order of the map, the highest first, ties by a
    draw. `deletion`: they are blurred; value = logit of the untouched image - area under the curve: how far the logit
    falls on average. `insertion`: they are put back on the blurred image; value = area - logit of the blurred image.
    `road`: they are imputed from what is left (`road`), up to the last step but one; value as in deletion. rival: the
    same for the mean of the random orders, or for the prior's order. All in units of logit.

    Passed: the intervals over patients of both differences lie above 0. Failed: one lies at or below 0, or every map
    is constant. Null: an interval holds 0, or there is none (fewer than 10 patients). The row shows the rival that
    decides; its reason names both. Rows are of each method, layer and label, and of the label `all`: the mean over all
    targets. Deterministic in `seed`; an image's figures do not depend on which others are asked for.

    Forwards: at most N [2 + (S - 1)(2 R + 3 (D + Q))] for N images, S steps, R random orders, D different orders of an
    image's maps (at most methods x layers x labels of its targets) and Q different priors: a forward serves all labels,
    equal orders are followed once, and a random order backwards serves insertion. Memory: a batch, and the curves.
    Raises `ExplainError` for an unknown image or label, or for logits that are not finite.
    """
    given: Mapping[Any, Grid] = priors or {}
    _check(classifier, image_ids, patients, maps, targets, given, checks)
    if random_orders < 1:
        raise ValueError(f"expected at least one random order, found {random_orders}.")
    logits = PerturbedLogits(classifier, steps=steps, sigma=sigma, batch_size=batch_size, precision=precision)
    grid = maps.maps.shape[-2:]
    kinds = len(maps.methods) * len(maps.layers)
    drawn = {check: TargetCurves.empty(len(targets), kinds, logits.shares(check)) for check in checks}
    of_image: dict[str, list[int]] = {}
    for at, (image_id, _) in enumerate(targets):
        of_image.setdefault(image_id, []).append(at)
    done = 0
    for image_id, image in images_of(pixels, image_ids):
        if image_id not in of_image:
            continue
        # of the image and not of its place among others
        rng = np.random.default_rng([seed, zlib.crc32(image_id.encode())])
        orders = _Orders(rng.permutation(grid[0] * grid[1]))
        random = _random_orders(grid[0] * grid[1], random_orders, rng)
        noise = torch.from_numpy(NOISE * rng.standard_normal(tuple(image.shape), np.float32))
        rows = {}
        for at in of_image[image_id]:
            label = targets[at][1]
            own = maps.maps[maps.image_ids.index(image_id), maps.labels.index(label)].reshape(kinds, *grid)
            prior = given.get(targets[at], given.get(label, centre_map(*grid)))
            rows[at] = [orders.row(one) for one in [*own, prior]]
        # masks of a random order backwards are those of the same order forwards, so that insertion costs nothing more
        backwards = [order[::-1] for order in random]
        wanted = {check: [*(backwards if check == INSERTION else random), *orders.different] for check in checks}
        for check, curves in logits(image, noise, wanted).items():
            if not np.isfinite(curves).all():
                raise ExplainError(f"logits of image {image_id!r} are not finite; check its pixels.")
            for at, places in rows.items():
                of_label = curves[:, :, classifier.vocabulary.names.index(targets[at][1])]
                of_maps_and_prior = of_label[random_orders:][places]
                drawn[check].maps[at] = of_maps_and_prior[:-1]
                drawn[check].prior[at] = of_maps_and_prior[-1]
                drawn[check].random[at] = of_label[:random_orders].mean(axis=0)
        done += 1
        if progress is not None:
            progress(done, len(of_image))
    patient_of = dict(zip(image_ids, patients, strict=True))
    of_targets = [patient_of[image_id] for image_id, _ in targets]
    with_prior = {target[1] for target in targets if target in given or target[1] in given}
    table = evidence_table(classifier.setting, maps, targets, of_targets, with_prior, drawn, seed=seed)
    return table, curve_table(classifier.setting, maps, targets, drawn)


def _random_orders(patches: int, count: int, rng: np.random.Generator) -> list[Order]:
    """Each drawn order also backwards: what is early in one is late in the other, so that their mean varies less."""
    drawn = [rng.permutation(patches) for _ in range((count + 1) // 2)]
    return [order for one in drawn for order in (one, one[::-1])][:count]


class _Orders:
    """The different orders of an image's maps and priors. draw: what decides between equal values, for all of them."""

    def __init__(self, draw: Order) -> None:
        self.different: list[Order] = []
        self._draw = draw
        self._rows: dict[bytes, int] = {}

    def row(self, saliency: Grid) -> int:
        """Where a map's order stands among the different ones."""
        order = removal_order(saliency, self._draw)
        row = self._rows.setdefault(order.tobytes(), len(self.different))
        if row == len(self.different):
            self.different.append(order)
        return row


def _check(
    classifier: Classifier,
    image_ids: Sequence[str],
    patients: Sequence[str],
    maps: SaliencyMaps,
    targets: Sequence[Target],
    priors: Mapping[Any, Grid],
    checks: Sequence[str],
) -> None:
    if len(patients) != len(image_ids):
        raise ValueError(f"{len(image_ids)} image ids, but {len(patients)} patients.")
    if unknown := [check for check in checks if check not in CHECKS]:
        raise ValueError(f"unknown checks {unknown}; known: {', '.join(CHECKS)}.")
    grid = maps.maps.shape[-2:]
    if classifier.encoder is not None and grid != tuple(classifier.encoder.grid):
        raise ValueError(f"maps of {grid} patches, but {classifier.encoder.name} has {classifier.encoder.grid}.")
    for whose, prior in priors.items():
        if prior.shape != grid:
            raise ValueError(f"the prior of {whose!r} has shape {prior.shape}, the maps {grid}.")
    check_targets(targets, image_ids, classifier.vocabulary.names)
    mapped = set(maps.image_ids)
    for image_id, label in targets:
        if image_id not in mapped or label not in maps.labels:
            raise ExplainError(f"there is no map of label {label!r} of image {image_id!r}, which is to be tested.")
