"""Scores of one saliency map against one region, in pixels of the original image.

All functions take `saliency` (H, W) non-negative, as `Geometry.enlarge` makes it, and `region` (H, W) boolean. An empty
region is undefined: NaN. Outside `visible` (H, W; None: everywhere) the model sees nothing and the map is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Bits = npt.NDArray[np.bool_]
# two pixels tie when they differ by less than interpolation rounds
_TIE = 1e-6
_BINS = 256


@dataclass(frozen=True)
class Scores:
    """All scores of one map; `unreachable` is the share of the region's pixels that the crop removed."""

    hit: float
    energy: float
    lift: float
    iou: float
    unreachable: float


def hit_rate(saliency: Pixels, region: Bits) -> float:
    """Pointing game: |{tied maxima} in region| / |{tied maxima}|, in [0, 1].

    Pixels within 1e-6 of the maximum tie, so a map of zeros scores the region's share of the image.
    Source: Zhang et al., IJCV 2018, with ties shared instead of broken by order.
    """
    if not region.any():
        return float("nan")
    tied = saliency >= saliency.max() * (1 - _TIE)
    return float((tied & region).sum() / tied.sum())


def energy_in_region(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """Energy-based pointing game: sum of the map inside the region / sum of the map, in [0, 1].

    A map of zeros is taken as uniform over what the model sees. Source: Wang et al., Score-CAM, CVPR-W 2020.
    """
    if not region.any():
        return float("nan")
    total = float(saliency.sum(dtype=np.float64))
    if total <= 0:
        return _area(region, visible)
    return float(saliency[region].sum(dtype=np.float64)) / total


def lift(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """Energy in the region / the region's share of the pixels that the model sees; a uniform map has 1.

    NaN when the region is empty or lies wholly outside the crop.
    """
    area = _area(region, visible)
    return energy_in_region(saliency, region, visible) / area if area > 0 else float("nan")


def iou_at_otsu(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """|(map > t) and region| / |(map > t) or region|, t by Otsu's rule over what the model sees, in [0, 1].

    A constant map has no foreground: 0. Unreachable pixels of the region count as missed.
    """
    if not region.any():
        return float("nan")
    seen = saliency if visible is None else saliency[visible]
    if float(seen.max()) - float(seen.min()) <= _TIE * abs(float(seen.max())):
        return 0.0
    above = saliency > otsu_threshold(seen)
    if visible is not None:
        above &= visible
    return float((above & region).sum() / (above | region).sum())


def otsu_threshold(values: Pixels) -> float:
    """The value t that maximises the variance between values <= t and values > t, among the cuts of 256 equal bins.

    Ties go to the lowest. A constant input returns its value. Source: Otsu, IEEE Trans. SMC 9, 1979.
    """
    flat = values.ravel()
    low, high = float(flat.min()), float(flat.max())
    if high <= low:
        return low
    bins = np.minimum(((flat - low) * np.float32(_BINS / (high - low))).astype(np.int32), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS).cumsum().astype(np.float64)
    sums = np.bincount(bins, weights=flat, minlength=_BINS).cumsum()
    below, above = counts[:-1], counts[-1] - counts[:-1]
    # the lowest value stands in the first bin and the highest in the last, so neither side is ever empty
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    cut = int((between >= between.max() * (1 - 1e-9)).argmax())
    return float(flat[bins <= cut].max())


def unreachable_share(region: Bits, visible: Bits) -> float:
    """Share of the region's pixels that the crop removed before the model saw the image; NaN for an empty region."""
    return float((region & ~visible).sum() / region.sum()) if region.any() else float("nan")


def score(saliency: Pixels, region: Bits, visible: Bits, *, degenerate: bool = False) -> Scores:
    """All scores of a map.

    degenerate: the map was flagged constant, so its few bits of noise are not looked at: hit and energy are the
    region's share of what the model sees, lift 1, IoU 0.
    """
    unreachable = unreachable_share(region, visible)
    if degenerate:
        area = _area(region, visible)
        empty = not region.any()
        return Scores(area, area, 1.0 if area > 0 else float("nan"), float("nan") if empty else 0.0, unreachable)
    return Scores(
        hit_rate(saliency, region),
        energy_in_region(saliency, region, visible),
        lift(saliency, region, visible),
        iou_at_otsu(saliency, region, visible),
        unreachable,
    )


def _area(region: Bits, visible: Bits | None) -> float:
    if not region.any():
        return float("nan")
    return float(region.mean()) if visible is None else float((region & visible).sum() / visible.sum())
