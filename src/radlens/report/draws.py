"""The page of a study that was run for several folds or repeats: means and spread, and links to each draw's report."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from radlens.core.errors import StoreError
from radlens.core.store import write_text
from radlens.report.columns import columns, show
from radlens.report.contents import number, read_run

_TEMPLATES = Path(__file__).parent / "templates"


def write_draws_report(folder: Path, draws: Sequence[str]) -> Path:
    """Write `folder/report.html` from `tables/overall.csv` (a row a setting and metric) and return its path."""
    try:
        with (folder / "tables" / "overall.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as error:
        raise StoreError(f"{folder / 'tables' / 'overall.csv'} cannot be read; run the study again.") from error
    first = read_run(folder / draws[0])
    known = columns(first.definitions)
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    cells = {(row["metric"], row["setting"]): row for row in rows}
    lines = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        if metric not in known:
            continue
        column = known[metric]
        found = [cells.get((metric, setting), {}) for setting in settings]
        texts = [
            {
                key: show(number(cell.get(key)), column.kind)
                for key in ("mean", "standard_deviation", "least", "greatest")
            }
            | {"draws": cell.get("repeats", "0")}
            for cell in found
        ]
        lines.append({"title": column.heading, "cells": texts})
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("draws.html").render(
        css=(_TEMPLATES / "report.css").read_text("utf-8"),
        name=str(first.facts.get("name") or folder.name),
        settings=settings,
        lines=lines,
        draws=[{"name": draw, "href": f"{quote(draw)}/report.html"} for draw in draws],
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"
