"""Ratios of inter-class to intra-class distance against what labels without meaning give."""

from __future__ import annotations

from radlens.evaluate.audit.findings import Finding, listed
from radlens.evaluate.audit.published import PublishedTables, places

# ratio of noise by definition (METHODS section 5), measured with label sizes like IU-Xray's
_NOISE = ((1.00, 1.00), (0.26, 0.26), (1.41, 1.45))
_NEAR = 0.10


def ratio_of_noise(tables: PublishedTables) -> list[Finding]:
    """Ratios within a tenth of what noise gives under one of the definitions in use."""
    known = {s: entry for s in tables.settings if (entry := tables.overall(s, "separability_ratio")) is not None}
    near = []
    for setting, entry in known.items():
        value = entry.printed.value
        if any(low * (1 - _NEAR) <= value <= high * (1 + _NEAR) for low, high in _NOISE):
            near.append(setting)
    if not near:
        return []
    said = listed([f"{entry.printed.text} ({setting})" for setting, entry in known.items()])
    text = (
        f"separability ratio {said} may be explained by its definition: labels without meaning give 1.00 where both "
        "distances are mean pairwise ones, about 0.26 where both are of centroids, and 1.41 to 1.45 where inter is "
        f"pairwise and intra to the centroid; within a tenth of one of these: {listed(near)}."
    )
    return [Finding("suspicious", "ratio of noise", text, places(known.values()))]
