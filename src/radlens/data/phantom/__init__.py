"""Procedural chest radiographs with known findings and exact masks: a teaching phantom, not a patient."""

from radlens.core.chexpert import FINDINGS, LABELS

from .case import Case, draw_case
from .planted import Planted, is_planted, plant
from .render import Phantom, render, render_many
from .site import SHIFTED, SOURCE, Site

__all__ = [
    "FINDINGS",
    "LABELS",
    "SHIFTED",
    "SOURCE",
    "Case",
    "Phantom",
    "Planted",
    "Site",
    "draw_case",
    "is_planted",
    "plant",
    "render",
    "render_many",
]
