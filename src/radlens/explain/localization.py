"""Scores of one saliency map against one region, in pixels of the original image: the definitions.

All functions take `saliency` (H, W) non-negative, as `Geometry.enlarge` makes it, and `region` (H, W) boolean. An empty
region is undefined: NaN. Outside `visible` (H, W; None: everywhere) the model sees nothing and the map is zero.
Many maps are scored faster by `sampled_scores`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Bits = npt.NDArray[np.bool_]
SCORES = (
    "hit_rate",
    "energy_in_region",
    "lift",
    "iou",
    "dice",
    "iou_tuned",
    "dice_tuned",
    "iou_oracle",
    "dice_oracle",
    "pixel_auroc",
    "pixel_average_precision",
    "contrast_to_noise",
)
"""Every score of a map, in order: overlaps at Otsu's, at a validation-tuned and at the best threshold."""
# two pixels tie when they differ by less than interpolation rounds
TIE = 1e-6
BINS = 256
_NAN = float("nan")


def hit_rate(saliency: Pixels, region: Bits) -> float:
    """Pointing game: |{tied maxima} in region| / |{tied maxima}|, in [0, 1].

    Pixels within 1e-6 of the maximum tie, so a map of zeros scores the region's share of the image.
    Source: Zhang et al., IJCV 2018, with ties shared instead of broken by order.
    """
    if not region.any():
        return _NAN
    tied = saliency >= saliency.max() * (1 - TIE)
    return float((tied & region).sum() / tied.sum())


def energy_in_region(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """Energy-based pointing game: sum of the map inside the region / sum of the map, in [0, 1].

    A map of zeros is taken as uniform over what the model sees. Source: Wang et al., Score-CAM, CVPR-W 2020.
    """
    if not region.any():
        return _NAN
    total = float(saliency.sum(dtype=np.float64))
    if total <= 0:
        return area_share(region, visible)
    return float(saliency[region].sum(dtype=np.float64)) / total


def lift(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """Energy in the region / the region's share of the pixels that the model sees; a uniform map has 1.

    NaN when the region is empty or lies wholly outside the crop.
    """
    area = area_share(region, visible)
    return energy_in_region(saliency, region, visible) / area if area > 0 else _NAN


def iou_above(saliency: Pixels, region: Bits, threshold: float, visible: Bits | None = None) -> float:
    """Jaccard: |A and region| / |A or region|, A = what the model sees with map > threshold, in [0, 1].

    A constant map has no foreground: 0. Unreachable pixels of the region count as missed.
    """
    if not region.any():
        return _NAN
    if is_constant(saliency, visible):
        return 0.0
    above = _above(saliency, threshold, visible)
    return float((above & region).sum() / (above | region).sum())


def dice_above(saliency: Pixels, region: Bits, threshold: float, visible: Bits | None = None) -> float:
    """Dice (1945): 2 |A and region| / (|A| + |region|), A and edges as in `iou_above`, in [0, 1]."""
    if not region.any():
        return _NAN
    if is_constant(saliency, visible):
        return 0.0
    above = _above(saliency, threshold, visible)
    return float(2 * (above & region).sum() / (above.sum() + region.sum()))


def iou_at_otsu(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """`iou_above` Otsu's threshold over what the model sees."""
    return iou_above(saliency, region, otsu_threshold(_seen(saliency, visible)), visible)


def dice_at_otsu(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """`dice_above` Otsu's threshold over what the model sees."""
    return dice_above(saliency, region, otsu_threshold(_seen(saliency, visible)), visible)


def best_threshold(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """The threshold of the highest IoU, and so of the highest Dice, 2 IoU / (1 + IoU); NaN for an empty region.

    Chosen with the region in hand ("oracle"): what a threshold could gain at most, never a result. -inf is one of the
    thresholds: all that the model sees.
    """
    if not region.any():
        return _NAN
    seen, own = _seen(saliency, visible), _seen(region, visible)
    values, group = np.unique(seen, return_inverse=True)
    pixels = np.bincount(group.ravel(), minlength=len(values))[::-1].cumsum()[::-1]
    inside = np.bincount(group.ravel(), weights=own, minlength=len(values))[::-1].cumsum()[::-1]
    best = int((inside / (pixels + region.sum() - inside)).argmax())
    return float(values[best - 1]) if best else float("-inf")


def pixel_auroc(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """Chance that a pixel inside has a higher value than one outside, ties half, over what the model sees, in [0, 1].

    NaN where it sees nothing of the region, or nothing else. Source: Mann and Whitney, Ann. Math. Statist. 18, 1947.
    """
    pixels, inside = _groups(saliency, region, visible)
    outside = pixels - inside
    pairs = inside.sum() * outside.sum()
    below = outside.cumsum() - outside
    return float((inside * (below + outside / 2)).sum() / pairs) if pairs else _NAN


def pixel_average_precision(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """Sum over thresholds, falling, of (gain in recall) x precision, over what the model sees, in [0, 1].

    Pixels of one value enter together. Recall is of the pixels that the model sees; NaN where there are none.
    Source: Davis and Goadrich, ICML 2006, without interpolation, as in scikit-learn.
    """
    pixels, inside = _groups(saliency, region, visible)
    if not inside.sum():
        return _NAN
    precision = inside[::-1].cumsum() / pixels[::-1].cumsum()
    return float((inside[::-1] * precision).sum() / inside.sum())


def contrast_to_noise(saliency: Pixels, region: Bits, visible: Bits | None = None) -> float:
    """(mean inside - mean outside) / sqrt(variance inside + variance outside), over what the model sees.

    Signed, so that a map that avoids the region is below 0 (the source takes the absolute value), and against the union
    of all regions of a label. A constant map has no contrast: 0. NaN where the model sees nothing of the region, or
    nothing else, or where the map has one value inside and another one outside.
    Source: Boecking et al., Making the most of text semantics, ECCV 2022.
    """
    seen, own = _seen(saliency, visible), _seen(region, visible)
    if not own.any() or own.all():
        return _NAN
    if is_constant(saliency, visible):
        return 0.0
    inside, outside = seen[own].astype(np.float64), seen[~own].astype(np.float64)
    spread = inside.var() + outside.var()
    return float((inside.mean() - outside.mean()) / np.sqrt(spread)) if spread > 0 else _NAN


def otsu_threshold(values: Pixels) -> float:
    """The value t that maximises the variance between values <= t and values > t, among the cuts of 256 equal bins.

    Ties go to the lowest. A constant input returns its value. Source: Otsu, IEEE Trans. SMC 9, 1979.
    """
    flat = values.ravel()
    low, high = float(flat.min()), float(flat.max())
    if high <= low:
        return low
    bins = np.minimum(((flat - low) * np.float32(BINS / (high - low))).astype(np.int32), BINS - 1)
    counts = np.bincount(bins, minlength=BINS).cumsum().astype(np.float64)
    sums = np.bincount(bins, weights=flat, minlength=BINS).cumsum()
    below, above = counts[:-1], counts[-1] - counts[:-1]
    # the lowest value stands in the first bin and the highest in the last, so neither side is ever empty
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    cut = int((between >= between.max() * (1 - 1e-9)).argmax())
    return float(flat[bins <= cut].max())


def unreachable_share(region: Bits, visible: Bits) -> float:
    """Share of the region's pixels that the crop removed before the model saw the image; NaN for an empty region."""
    return float((region & ~visible).sum() / region.sum()) if region.any() else _NAN


def area_share(region: Bits, visible: Bits | None = None) -> float:
    """The region's share of the pixels that the model sees, in [0, 1]; NaN for an empty region."""
    if not region.any():
        return _NAN
    return float(region.mean()) if visible is None else float((region & visible).sum() / visible.sum())


def is_constant(saliency: Pixels, visible: Bits | None = None) -> bool:
    """Whether the map's spread over what the model sees is within a millionth of its maximum."""
    seen = _seen(saliency, visible)
    return float(seen.max()) - float(seen.min()) <= TIE * abs(float(seen.max()))


def scores(
    saliency: Pixels, region: Bits, visible: Bits, *, degenerate: bool = False, share: float = _NAN
) -> dict[str, float]:
    """All `SCORES` of a map. share: the tuned threshold as a share of the map's maximum, NaN for none.

    degenerate: the map was flagged constant, so its few bits of noise are not looked at. Such a map, and one of a
    single value, scores as spread evenly over what the model sees: hit, energy and average precision are the region's
    share of it, lift 1, AUROC .5, contrast 0, and IoU and Dice 0.
    """
    if degenerate or is_constant(saliency, visible):
        saliency = visible.astype(np.float32)
    cuts = otsu_threshold(_seen(saliency, visible)), share * float(saliency.max())
    overlaps = [
        _NAN if np.isnan(cut) else overlap(saliency, region, cut, visible)
        for cut in (*cuts, best_threshold(saliency, region, visible))
        for overlap in (iou_above, dice_above)
    ]
    scored = (f(saliency, region, visible) for f in (pixel_auroc, pixel_average_precision, contrast_to_noise))
    energy = energy_in_region(saliency, region, visible), lift(saliency, region, visible)
    return dict(zip(SCORES, (hit_rate(saliency, region), *energy, *overlaps, *scored), strict=True))


def _seen(values: npt.NDArray[Any], visible: Bits | None) -> npt.NDArray[Any]:
    return values.ravel() if visible is None else values[visible]


def _above(saliency: Pixels, threshold: float, visible: Bits | None) -> Bits:
    above: Bits = saliency > np.float32(threshold)
    return above if visible is None else above & visible


def _groups(
    saliency: Pixels, region: Bits, visible: Bits | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Pixels, and the region's pixels, of each value of the map, rising."""
    values, group = np.unique(_seen(saliency, visible), return_inverse=True)
    pixels = np.bincount(group.ravel(), minlength=len(values)).astype(np.float64)
    inside = np.bincount(group.ravel(), weights=_seen(region, visible), minlength=len(values))
    return pixels, inside.astype(np.float64)
