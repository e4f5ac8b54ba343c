"""`radlens data check`: what a study would be run on."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from radlens.core.cohort import SPLITS
from radlens.core.spec import StudySpec
from radlens.core.store import Cache, default_cache
from radlens.data.split_card import split_card
from radlens.progress import Teller
from radlens.stages.cohort import divide, missing, read_cohort


def check_data(spec: StudySpec, console: Console, skip_bad_images: bool) -> None:
    """Read and split the cohort, and print its counts and notes. Raises `DataError` for what a run would refuse."""
    read = read_cohort(spec, Cache(default_cache()), skip_bad_images, Teller(console, quiet=True))
    cohort = read.cohort
    gone = missing(cohort) if skip_bad_images else {}
    total = len(cohort)
    cohort = cohort.keep(np.array([row not in gone for row in range(total)]))
    cohort = divide(cohort, spec)
    card = split_card(cohort, spec.split)
    counts = f"{cohort.name}: {len(cohort)} images, {len(set(cohort.groups()))} patients"
    console.print(counts, highlight=False, markup=False)
    if gone:
        console.print(f"{len(gone)} of {total} images are missing and were left out", style="yellow")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label")
    for split in SPLITS:
        table.add_column(f"{split} +", justify="right")
        table.add_column("-", justify="right")
    table.add_column("not assessed", justify="right")
    targets = cohort.targets()
    for column, label in enumerate(cohort.vocabulary.names):
        cells = []
        for split in SPLITS:
            values = targets[cohort.where(split), column]
            cells += [str(int((values == 1).sum())), str(int((values == 0).sum()))]
        table.add_row(escape(label), *cells, str(int(np.isnan(targets[:, column]).sum())))
    console.print(table)
    for left in cohort.left_out:
        console.print(f"left out: {left.count} {left.what}", style="yellow", highlight=False, markup=False)
    for origin in dict.fromkeys(cohort.origins.values()):
        labels = [name for name in cohort.vocabulary.names if cohort.origins.get(name) == origin]
        named = "all labels" if len(labels) == len(cohort.vocabulary) else ", ".join(labels)
        console.print(f"{named}: {origin}", highlight=False, markup=False)
    for sentence in (*cohort.notes, *card.get("warnings", [])):
        console.print(f"note: {sentence}", style="yellow", highlight=False, markup=False)
