"""Where the regions come from, and which were left out."""

from __future__ import annotations

import math
from pathlib import Path

from radlens.report.contents import RunContents, listed, number, section


def region_source(run: RunContents) -> str:
    """Where the regions come from, in the run's own words; empty where it does not say.

    Of a path the file's name is told alone: a report is passed on, and a folder may carry a person's name.
    """
    source = str(section(run.facts, "annotations").get("source") or "")
    return Path(source).name if Path(source).is_absolute() else source


def region_notes(run: RunContents) -> tuple[str, ...]:
    """How the explained images were drawn, where the regions come from, and which regions were left out."""
    notes = []
    limit = number(section(run.study, "explain").get("images"))
    if math.isfinite(limit):
        notes.append(f"At most {limit:.0f} test images were explained, by a seeded draw, rare labels first.")
    annotations = section(run.facts, "annotations")
    if region_source(run):
        notes.append(f"Regions: {region_source(run)}.")
    left_out = {reason: number(count) for reason, count in section(annotations, "left_out").items()}
    if any(count > 0 for count in left_out.values()):
        reasons = "; ".join(f"{reason}: {count:.0f}" for reason, count in left_out.items() if count > 0)
        notes.append(f"Regions left out: {reasons}.")
    notes += [f"Regions left out: {reason}." for reason in listed(annotations, "left_out")]
    return tuple(notes)
