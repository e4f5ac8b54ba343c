"""The report's figures as files for a publication: SVG and PNG, the same bytes for the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from radlens.core.store import writing
from radlens.report.bars import f1_bars
from radlens.report.colours import POSITIVE, setting_colours
from radlens.report.contents import FEW, RunContents, number, read_run
from radlens.report.embedding_space import HEIGHT, WIDTH, embedding_view

_STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "radlens",
}


def write_figures(run: Path) -> tuple[Path, ...]:
    """Write F1 bars and the embedding view to `run/figures/` as SVG and 300 dpi PNG; returns the paths.

    A figure without data in the run is left out. Raises `StoreError` as `read_run` does, or when a file cannot be
    written.
    """
    contents = read_run(run)
    written: list[Path] = []
    with matplotlib.rc_context(_STYLE):
        for name, figure in (("f1_by_label", _bars(contents)), ("embedding_view", _embedding(contents))):
            if figure is not None:
                written += [_save(figure, run / "figures" / f"{name}.{kind}") for kind in ("svg", "png")]
    return tuple(written)


def _save(figure: Figure, path: Path) -> Path:
    kind = path.suffix.removeprefix(".")
    # no date and no version in the file: equal runs give equal bytes
    unnamed = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with writing(path) as aside:
        figure.savefig(aside, format=kind, dpi=300, bbox_inches="tight", metadata=unnamed)
    return path


def _bars(run: RunContents) -> Figure | None:
    colours = setting_colours(run.settings)
    rows = f1_bars(run, colours)
    if not rows or not run.settings:
        return None
    figure = Figure(figsize=(6.3, 0.6 + 0.34 * len(rows)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    thick = 0.8 / len(run.settings)
    for place, setting in enumerate(run.settings):
        at = [i - 0.4 + thick * (place + 0.5) for i in range(len(rows))]
        bars = axes.barh(at, [np.nan_to_num(r.bars[place].value) for r in rows], thick * 0.92, color=colours[setting])
        bars.set_label(setting)
        for bar, row in zip(bars, rows, strict=True):
            bar.set_alpha(0.35 if row.few else 1.0)
    for i, row in enumerate(rows):
        axes.plot([row.always] * 2, [i - 0.45, i + 0.45], color="black", lw=1.3, label="" if i else "always yes")
    axes.set_yticks(range(len(rows)), [_name(row.label, row.positives) for row in rows], parse_math=False)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=f"F1 on the test split (pale: fewer than {FEW} positives)")
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, loc="lower right")
    return figure


def _embedding(run: RunContents) -> Figure | None:
    view = embedding_view(run)
    if view is None:
        return None
    figure = Figure(figsize=(3.3 * len(view.views), 3.1))
    FigureCanvasAgg(figure)
    for place, one in enumerate(view.views):
        axes = figure.add_subplot(1, len(view.views), place + 1)
        points = np.array([[number(v) for v in p.path[1:-2].split(" ")] for p in one.points]).reshape(-1, 2)
        found = np.array(["p0" in p.classes.split(" ") for p in one.points], bool)
        for name, which, colour in (("no finding", ~found, "#9db0c4"), ("any finding", found, POSITIVE)):
            axes.scatter(points[which, 0], HEIGHT - points[which, 1], s=6, c=colour, lw=0, alpha=0.8, label=name)
        axes.set_title(", ".join(one.settings), fontsize=8, loc="left", parse_math=False)
        axes.set(xticks=[], yticks=[], aspect="equal", xlim=(0, WIDTH), ylim=(0, HEIGHT))
        axes.set_xlabel(f"component 1 ({100 * one.explained[0]:.0f}% of the variance)")
        axes.set_ylabel(f"component 2 ({100 * one.explained[1]:.0f}%)")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0.1, -0.02))
    return figure


def _name(label: str, positives: float) -> str:
    return f"{label} ({positives:.0f})" if positives == positives else label
