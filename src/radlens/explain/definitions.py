"""What the columns of the localisation table mean, in the same terms as the definitions of the metrics."""

from __future__ import annotations

from typing import Any


def _definition(column: str, direction: str, bounds: tuple[float, float], text: str, source: str) -> dict[str, Any]:
    stated = {"column": column, "table": "localization", "text": text}
    return stated | {"direction": direction, "bounds": bounds, "source": source}


_MANY = float("inf")
DEFINITIONS: list[dict[str, Any]] = [
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
        "METHODS section 6",
    ),
    _definition(
        "iou",
        "higher",
        (0.0, 1.0),
        "Intersection over union of the region and the map cut at Otsu's threshold; 0 for a constant map.",
        "Otsu 1979; Jaccard",
    ),
    _definition(
        "lift_best_baseline",
        "none",
        (0.0, _MANY),
        "The highest mean lift among three maps that never saw the image (a Gaussian at the centre, the label's mean "
        "region over other patients, the same label's map of another patient), each over the image-label pairs that "
        "have it.",
        "METHODS section 6",
    ),
    _definition(
        "lift_on_same_pairs",
        "higher",
        (0.0, _MANY),
        "Mean lift of the setting's own maps on the image-label pairs of lift_best_baseline (pairs_compared of them): "
        "only these two may be compared.",
        "METHODS section 6",
    ),
    _definition(
        "unreachable_share",
        "none",
        (0.0, 1.0),
        "Share of the region's pixels that the model's crop removed, averaged over image-label pairs.",
        "METHODS section 6",
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
]
"""What the columns mean, as `tables/localization_definitions.json` states it to the report."""
