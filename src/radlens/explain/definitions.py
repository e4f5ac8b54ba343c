"""What the columns of the localisation table mean, in the same terms as the definitions of the metrics."""

from __future__ import annotations

from typing import Any

_MANY = float("inf")
_OURS = "METHODS section 6"


def _definition(column: str, direction: str, bounds: tuple[float, float], text: str, source: str) -> dict[str, Any]:
    stated = {"column": column, "table": "localization", "text": text}
    return stated | {"direction": direction, "bounds": bounds, "source": source}


def _overlap(column: str, cut: str) -> dict[str, Any]:
    if column.startswith("iou"):
        text, source = "Intersection over union of the region and the map", "Jaccard"
    else:
        text, source = (
            "Twice the intersection of the region and the map over the sum of their areas, the map",
            "Dice 1945",
        )
    return _definition(column, "higher", (0.0, 1.0), f"{text} cut at {cut}; 0 for a constant map.", source)


def _ends(score: str, bounds: tuple[float, float]) -> list[dict[str, Any]]:
    text = "{} end of the 95 % interval of {} over patients (BCa bootstrap); empty where `reason` says why."
    return [
        _definition(f"{score}_{end}", "none", bounds, text.format(word, score), "Efron, JASA 82, 1987")
        for end, word in (("low", "Lower"), ("high", "Upper"))
    ]


_OTSU = "Otsu's threshold (Otsu 1979)"
_TUNED = "the share of its maximum that has the highest mean overlap on validation images"
_ORACLE = "the threshold that is best for this very region: what a threshold could gain at most, never a result"
_SCORES = [
    _definition(
        "hit_rate",
        "higher",
        (0.0, 1.0),
        "Pointing game: share of the map's tied maxima that lie inside the region, averaged over image-label pairs.",
        "Zhang et al., IJCV 2018, with ties shared",
    ),
    _definition(
        "energy_in_region",
        "higher",
        (0.0, 1.0),
        "Sum of the map inside the region / sum of the map, averaged over image-label pairs.",
        "Wang et al., Score-CAM, CVPR-W 2020",
    ),
    _definition(
        "lift",
        "higher",
        (0.0, _MANY),
        "Energy in the region / the region's share of the pixels that the model sees; a map spread evenly has 1.",
        _OURS,
    ),
    *(
        _overlap(f"{kind}{name}", cut)
        for name, cut in (("", _OTSU), ("_tuned", _TUNED), ("_oracle", _ORACLE))
        for kind in ("iou", "dice")
    ),
    _definition(
        "pixel_auroc",
        "higher",
        (0.0, 1.0),
        "Chance that a pixel inside the region has a higher value than one outside, ties half, over what the "
        "model sees; a constant map has 0.5.",
        "Mann and Whitney 1947",
    ),
    _definition(
        "pixel_average_precision",
        "higher",
        (0.0, 1.0),
        "Average precision of the map's values for the region's pixels, over what the model sees; a constant "
        "map has the region's share of them.",
        "Davis and Goadrich, ICML 2006, without interpolation",
    ),
    _definition(
        "contrast_to_noise",
        "higher",
        (-_MANY, _MANY),
        "(Mean inside the region - mean outside) / root of the sum of both variances; below 0 where the map avoids the "
        "region, 0 for a constant map.",
        "Boecking et al., ECCV 2022, with its sign and against the union of a label's regions",
    ),
]
DEFINITIONS: list[dict[str, Any]] = [
    *_SCORES,
    *(end for score in _SCORES for end in _ends(score["column"], score["bounds"])),
    _definition(
        "lift_best_baseline",
        "none",
        (0.0, _MANY),
        "The highest mean lift among three maps that never saw the image (a Gaussian at the centre, the label's mean "
        "region over other patients, the same label's map of another patient), each over the image-label pairs that "
        "have it.",
        _OURS,
    ),
    _definition(
        "lift_on_same_pairs",
        "higher",
        (0.0, _MANY),
        "Mean lift of the setting's own maps on the image-label pairs of lift_best_baseline (pairs_compared of them): "
        "only these two may be compared.",
        _OURS,
    ),
    _definition(
        "pairs_compared", "none", (0.0, _MANY), "Image-label pairs that lift_difference is a mean of.", "count"
    ),
    _definition(
        "lift_difference",
        "higher",
        (-_MANY, _MANY),
        "Mean over the same image-label pairs of the map's lift - the best baseline's.",
        _OURS,
    ),
    *_ends("lift_difference", (-_MANY, _MANY)),
    _definition(
        "beats_baseline",
        "higher",
        (0.0, 1.0),
        "Whether the interval of lift_difference lies above 0; empty where there is no interval.",
        _OURS,
    ),
    _definition(
        "degenerate_maps",
        "lower",
        (0.0, _MANY),
        "Constant maps: they score as spread evenly, with IoU 0, and are not drawn.",
        "count",
    ),
    _definition(
        "label_invariant_maps",
        "lower",
        (0.0, _MANY),
        "Maps that are the same for every label of their image: they say nothing of a label.",
        "count",
    ),
    _definition(
        "unreachable_share",
        "none",
        (0.0, 1.0),
        "Share of the region's pixels that the model's crop removed, averaged over image-label pairs.",
        _OURS,
    ),
    _definition(
        "undefined_regions",
        "none",
        (0.0, _MANY),
        "Regions that cover no pixel centre: they have no score and are in no mean.",
        "count",
    ),
]
"""What the columns mean, as `tables/localization_definitions.json` states it to the report."""
