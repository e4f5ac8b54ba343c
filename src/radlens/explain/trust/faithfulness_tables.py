"""From the curves of targets to evidence and to the curves that a figure shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.regions import SaliencyMaps
from radlens.explain.maps import CONSTANT
from radlens.explain.trust.curves import DELETION, INSERTION, ROAD, area
from radlens.explain.trust.evidence import evidence
from radlens.explain.trust.paired import Answer, Comparison, answers, decisive
from radlens.explain.trust.targets import ALL, Target, rows_of_labels

Array = npt.NDArray[np.float64]
MAP, RANDOM, PRIOR = "map", "random", "prior"
CURVES = {
    "setting": pl.String,
    "method": pl.String,
    "layer": pl.String,
    "label": pl.String,
    "check": pl.String,
    "order": pl.String,
    "share": pl.Float64,
    "logit": pl.Float64,
    "images": pl.Int64,
}
"""Columns of the curves: mean logit over a label's targets at a share of patches removed (insertion: put back).

order: `map` (of a method and layer), `random` or `prior` (method and layer are null).
"""

_DOES = {
    DELETION: "the logit falls by {:.2f} on average as the map's patches are blurred",
    INSERTION: "the logit rises by {:.2f} on average as the map's patches are put back on the blurred image",
    ROAD: "the logit falls by {:.2f} on average as the map's patches are imputed from the rest",
}


@dataclass(frozen=True)
class TargetCurves:
    """Logits of T targets under one check. shares: (points,) of patches removed (insertion: put back).

    maps: (T, K, points), K methods x layers; random: (T, points), mean over the random orders; prior: (T, points).
    """

    shares: Array
    maps: Array
    random: Array
    prior: Array

    @classmethod
    def empty(cls, targets: int, kinds: int, shares: Array) -> Self:
        """Room for them."""
        points = len(shares)
        others = [np.full((targets, points), np.nan) for _ in range(2)]
        return cls(shares, np.full((targets, kinds, points), np.nan), *others)

    def changes(self, curves: Array, *, falling: bool) -> Array:
        """How far curves (..., points) fall (or rise) from their first point, on average: (...)."""
        moved = area(curves, self.shares) - curves[..., 0]
        return -moved if falling else moved


def evidence_table(
    setting: str,
    maps: SaliencyMaps,
    targets: Sequence[Target],
    patients: Sequence[str],
    with_prior: Collection[str],
    drawn: Mapping[str, TargetCurves],
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """One row a check, label (and `ALL`), method and layer.

    patients: (T,), of the targets. with_prior: labels whose prior map was given.
    """
    rows: list[dict[str, object]] = []
    constant = _constant(maps, targets)
    for check, curves in drawn.items():
        falling = check != INSERTION
        own = curves.changes(curves.maps, falling=falling)
        for label, chosen in rows_of_labels([label for _, label in targets]).items():
            prior = "the label's mean region" if label in with_prior else "a spot at the centre"
            names = {"random order": curves.random, "the prior map" if label == ALL else prior: curves.prior}
            each = []
            for name, other in names.items():
                theirs = curves.changes(other[chosen], falling=falling)[:, None]
                compared = Comparison(name, own[chosen], np.broadcast_to(theirs, own[chosen].shape))
                each.append(answers(compared, [patients[at] for at in chosen], seed=seed))
            for kind, found in enumerate(zip(*each, strict=True)):
                method, layer = divmod(kind, len(maps.layers))
                key = {"method": maps.methods[method], "layer": maps.layers[layer], "label": label, "check": check}
                flagged = int(constant[chosen, kind].sum())
                rows.append({"setting": setting} | key | _row(check, found, flagged, len(chosen)))
    return evidence(rows)


def curve_table(
    setting: str, maps: SaliencyMaps, targets: Sequence[Target], drawn: Mapping[str, TargetCurves]
) -> pl.DataFrame:
    """Mean curves with the columns of `CURVES`."""
    rows: list[dict[str, object]] = []
    for check, curves in drawn.items():
        for label, chosen in rows_of_labels([label for _, label in targets]).items():
            means: list[tuple[str, str | None, str | None, Array]] = [
                (RANDOM, None, None, curves.random[chosen].mean(axis=0)),
                (PRIOR, None, None, curves.prior[chosen].mean(axis=0)),
            ]
            for kind, mean in enumerate(curves.maps[chosen].mean(axis=0)):
                method, layer = divmod(kind, len(maps.layers))
                means.append((MAP, maps.methods[method], maps.layers[layer], mean))
            for order, method_name, layer_name, mean in means:
                key = {"setting": setting, "method": method_name, "layer": layer_name, "label": label, "check": check}
                for share, logit in zip(curves.shares.tolist(), mean.tolist(), strict=True):
                    rows.append(key | {"order": order, "share": share, "logit": logit, "images": len(chosen)})
    return pl.DataFrame(rows, schema=CURVES, orient="row")


def _constant(maps: SaliencyMaps, targets: Sequence[Target]) -> npt.NDArray[np.bool_]:
    """(T, K): whether a target's map is flagged as constant."""
    found = np.zeros((len(targets), len(maps.methods), len(maps.layers)), bool)
    at = {target: row for row, target in enumerate(targets)}
    for (image, label, method, layer), why in maps.flags.items():
        row = at.get((maps.image_ids[image], maps.labels[label]))
        if why == CONSTANT and row is not None:
            found[row, method, layer] = True
    return found.reshape(len(targets), len(maps.methods) * len(maps.layers))


def _row(check: str, found: Sequence[Answer], constant: int, images: int) -> dict[str, object]:
    deciding = decisive(found)
    against = " and ".join(f"{one.rival:.2f} for {one.rival_name} ({one.interval()})" for one in found)
    # + 0.0: no "-0.00"
    reason = f"{_DOES[check].format(round(deciding.value, 2) + 0.0)}, against {against}"
    if constant:
        reason += f"; {constant} of {images} maps are constant and order nothing"
    row = deciding.row(reason)
    # whatever a draw of ties gave: these maps mark no patch
    return row | {"passed": False} if constant == images else row
