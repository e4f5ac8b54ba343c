"""One colour a setting, the same in every figure and every run (Okabe and Ito's colour-blind-safe palette)."""

from __future__ import annotations

from collections.abc import Sequence

_KNOWN = {"zero-shot": "#0072B2", "linear-probe": "#E69F00", "fine-tune": "#009E73"}
_FURTHER = ("#CC79A7", "#56B4E9", "#8C6D1F", "#5B5FC7", "#7A7A7A")

POSITIVE = "#D55E00"
"""Marks what a label says yes to; no setting has it."""
OUTLINE = (0, 229, 255)
"""Annotated region over a film or a heatmap: far from every colour of the heatmap."""


def setting_colours(settings: Sequence[str]) -> dict[str, str]:
    """Hex colour of each setting: the standard settings have their own, others take further ones in order."""
    others = [setting for setting in settings if setting not in _KNOWN]
    taken = {setting: _FURTHER[place % len(_FURTHER)] for place, setting in enumerate(others)}
    return {setting: _KNOWN.get(setting) or taken[setting] for setting in settings}
