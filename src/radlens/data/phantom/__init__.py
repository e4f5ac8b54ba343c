"""Procedural chest radiographs with known findings and exact masks: a teaching phantom, not a patient."""

from .case import Case, draw_case
from .labels import FINDINGS, LABELS
from .render import Phantom, render, render_many
from .site import SHIFTED, SOURCE, Site

__all__ = [
    "FINDINGS",
    "LABELS",
    "SHIFTED",
    "SOURCE",
    "Case",
    "Phantom",
    "Site",
    "draw_case",
    "render",
    "render_many",
]
