"""One sentence that a reader might dictate about the findings."""

from collections.abc import Mapping

import numpy as np

_NORMAL = (
    "No acute cardiopulmonary abnormality.",
    "The lungs are clear and the heart is of normal size.",
    "Normal chest radiograph.",
    "Clear lungs, normal cardiac silhouette and sharp costophrenic angles.",
    "No focal airspace disease, no fluid and no free pleural air are seen.",
)

# {size} is a word for the severity, {side} left, right or both sides, {zone} the zone of the lung.
_PHRASES: Mapping[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "{size} widening of the upper mediastinum",
        "a mediastinal contour that is {size}ly wider than expected",
    ),
    "Cardiomegaly": (
        "{size} enlargement of the heart",
        "{size} cardiomegaly",
        "a {size}ly enlarged cardiac silhouette",
    ),
    "Lung Opacity": (
        "{size} hazy opacity in the {side} {zone} zone",
        "an ill-defined {size} ground-glass opacity of the {side} {zone} lung",
    ),
    "Lung Lesion": (
        "a rounded {side} {zone} zone lesion",
        "nodular density in the {side} {zone} lung",
    ),
    "Edema": (
        "{size} perihilar haze with septal lines in keeping with pulmonary edema",
        "{size} pulmonary edema",
    ),
    "Consolidation": (
        "{side} {zone} lobe consolidation with air bronchograms",
        "dense consolidation of the {side} {zone} zone",
    ),
    "Pneumonia": (
        "patchy {side} {zone} zone airspace disease suggesting pneumonia",
        "clustered {side} {zone} opacities consistent with pneumonia",
    ),
    "Atelectasis": (
        "{side} basal plate-like atelectasis",
        "{size} linear {side} basal atelectasis with volume loss",
    ),
    "Pneumothorax": (
        "a {size} {side} pneumothorax",
        "a visible {side} pleural line in keeping with a {size} pneumothorax",
    ),
    "Pleural Effusion": (
        "a {size} {side} pleural effusion",
        "{size} {side} pleural fluid that blunts the costophrenic angle",
    ),
    "Pleural Other": (
        "{side} pleural thickening",
        "a {side} sided pleural plaque",
    ),
    "Fracture": (
        "a {side} rib fracture",
        "an interrupted {side} rib in keeping with a fracture",
    ),
    "Support Devices": (
        "support devices in place",
        "indwelling lines or tubes in expected position",
        "supporting hardware projecting over the chest",
    ),
}
_SIZES = ("mild", "moderate", "marked")
_AMOUNTS = ("small", "moderate", "large")
_BY_AMOUNT = frozenset({"Pneumothorax", "Pleural Effusion"})
_OPENINGS = ("There is ", "The film shows ", "Findings include ", "We see ")


def write_report(
    rng: np.random.Generator,
    severities: Mapping[str, float],
    sides: Mapping[str, str],
    zones: Mapping[str, str],
) -> str:
    """Write one sentence that names every present finding.

    severities  present finding -> 0 to 1; sides and zones as in Case.
    Returns a sentence that ends in a full stop.
    """
    if not severities:
        return _NORMAL[int(rng.integers(len(_NORMAL)))]
    parts = []
    for name, severity in severities.items():
        phrases = _PHRASES[name]
        words = _AMOUNTS if name in _BY_AMOUNT else _SIZES
        phrase = phrases[int(rng.integers(len(phrases)))]
        parts.append(
            phrase.format(
                size=words[min(int(severity * 3.0), 2)],
                side=sides.get(name, ""),
                zone=zones.get(name, ""),
            )
        )
    rng.shuffle(parts)
    listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return _OPENINGS[int(rng.integers(len(_OPENINGS)))] + listed + "."
