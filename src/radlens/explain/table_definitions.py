"""What the columns of the tables of false alarms, of similarity and of depth mean, in the terms of `definitions`."""

from __future__ import annotations

from typing import Any

_OTSU = "Otsu 1979"
_MANY = float("inf")


def _definition(
    table: str, column: str, direction: str, bounds: tuple[float, float], text: str, source: str
) -> dict[str, Any]:
    stated = {"column": column, "table": table, "text": text}
    return stated | {"direction": direction, "bounds": bounds, "source": source}


FALSE_ALARMS: list[dict[str, Any]] = [
    _definition("false_alarms", column, direction, bounds, text, source)
    for column, direction, bounds, text, source in (
        (
            "images_absent",
            "none",
            (0.0, _MANY),
            "Images known not to show the label: its target is 0, or a reader looked for it and found nothing. Images "
            "about which target and readers disagree (images_disputed) and unknown ones are left aside; images_present "
            "show it.",
            "count",
        ),
        (
            "area_absent",
            "none",
            (0.0, 1.0),
            "Share of the patches above Otsu's threshold of the map on the patch grid, averaged over images without "
            "the label (area_present: over images with it); 0 for a constant map, which highlights nothing.",
            _OTSU,
        ),
        (
            "area_difference",
            "none",
            (-1.0, 1.0),
            "area_absent - area_present: near 0, the map concentrates as much where there is nothing to be found. "
            "Percentile interval of the same resamples of patients.",
            "METHODS section 6",
        ),
        (
            "energy_absent",
            "none",
            (0.0, 1.0),
            "Sum of map x prior / sum of the map on images without the label (energy_present: with it). The prior is "
            "the label's mean region on the patch grid over other patients; a constant map counts as spread evenly and "
            "has the prior's own mean, prior_area.",
            "energy-based pointing game (Wang et al., Score-CAM, CVPR-W 2020) with a soft region",
        ),
        (
            "energy_difference",
            "none",
            (-1.0, 1.0),
            "energy_absent - energy_present: near 0, the map points to where the finding usually is whether or not it "
            "is there. Percentile interval of the same resamples of patients.",
            "METHODS section 6",
        ),
        (
            "auroc_strength",
            "higher",
            (0.0, 1.0),
            "Chance that the map of an image with the label has a greater maximum, before maps are scaled, than that "
            "of an image without it, ties a half; 0.5: the strength says nothing of presence.",
            "Mann and Whitney 1947",
        ),
        (
            "called_positive",
            "lower",
            (0.0, 1.0),
            "Share of the images without the label that the setting calls positive; the same for all its maps.",
            "false-positive rate",
        ),
        (
            "constant_absent",
            "none",
            (0.0, _MANY),
            "Constant maps among the images without the label (constant_present: with it).",
            "count",
        ),
    )
]

MAP_SIMILARITY: list[dict[str, Any]] = [
    _definition("map_similarity", column, "none", (-1.0, 1.0), text, source)
    for column, text, source in (
        (
            "spearman",
            "Rank correlation of two maps of the same image and label over the patches, ties by mid-rank, averaged "
            "over images; 1: the same order of patches. Images where either map is constant are left aside.",
            "Spearman 1904",
        ),
        (
            "ssim",
            "Structural similarity of the same two maps, scaled to a maximum of 1, on the patch grid: flat windows of "
            "7 x 7 patches that lie in the grid, C1 = 0.01^2, C2 = 0.03^2, variances with n - 1; 1: equal.",
            "Wang et al., IEEE TIP 13 (2004) 600-612",
        ),
        (
            "spearman_other_patient",
            "The same, but with the second map from the next image of another patient: what maps share that does not "
            "come from the image. Likewise ssim_other_patient.",
            "METHODS section 6",
        ),
    )
]

DEPTH_MATRIX: list[dict[str, Any]] = [
    _definition("depth_matrix", column, direction, bounds, text, source)
    for column, direction, bounds, text, source in (
        (
            "layer_difference",
            "none",
            (-_MANY, _MANY),
            "Mean score less that of the same setting's first listed layer, over the image-label pairs that have both.",
            "METHODS section 6",
        ),
        (
            "setting_difference",
            "none",
            (-_MANY, _MANY),
            "Mean score less that of the first listed setting at the same layer, over the image-label pairs that have "
            "both.",
            "METHODS section 6",
        ),
        (
            "p_holm",
            "none",
            (0.0, 1.0),
            "Two-sided p of a difference from 10,000 flips of its sign, patient by patient, corrected by Holm over the "
            "labels and layers of one method, score, comparison and setting (all labels together: over the layers).",
            "Phipson and Smyth 2010; Holm 1979",
        ),
        (
            "supported",
            "none",
            (0.0, 1.0),
            "Whether the 95 % interval over patients leaves out 0 and p_holm is below 0.05; empty where there are too "
            "few patients to tell.",
            "METHODS section 6",
        ),
    )
]
"""Lists as `tables/*_definitions.json` states them to the report."""
