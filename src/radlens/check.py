"""`radlens data check`: what a study would be run on."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from radlens.core.cohort import SPLITS
from radlens.core.spec import StudySpec
from radlens.core.store import Cache, default_cache
from radlens.data.presence import require_images
from radlens.data.split_card import split_card
from radlens.progress import Teller
from radlens.stages.cohort import divide, missing, read_cohort, refuse_empty


def check_data(spec: StudySpec, console: Console, skip_bad_images: bool) -> None:
    """Read and split the cohort, and print its counts and notes. Raises `DataError` for what a run would refuse."""
    # what is there is told first; only then, that images are missing
    cohort = read_cohort(spec, Cache(default_cache()), True, Teller(console, quiet=True)).cohort
    total, gone = len(cohort), missing(cohort)
    whole = cohort
    if skip_bad_images and gone:
        cohort = cohort.keep(np.array([row not in gone for row in range(total)]))
        refuse_empty(cohort)
        cohort = divide(cohort, spec)
    card = split_card(cohort, spec.split)
    counts = f"{cohort.name}: {len(cohort)} images, {len(set(cohort.groups()))} patients"
    console.print(counts, highlight=False, markup=False, soft_wrap=True)
    if gone and skip_bad_images:
        console.print(f"{len(gone)} of {total} images are missing and were left out", style="yellow")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label", no_wrap=True)
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
        console.print(
            f"left out: {left.count} {left.what}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )
    for origin in dict.fromkeys(cohort.origins.values()):
        labels = [name for name in cohort.vocabulary.names if cohort.origins.get(name) == origin]
        named = "all labels" if len(labels) == len(cohort.vocabulary) else ", ".join(labels)
        console.print(f"{named}: {origin}", highlight=False, markup=False, soft_wrap=True)
    for sentence in (*cohort.notes, *card.get("warnings", [])):
        console.print(f"note: {sentence}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if not skip_bad_images:
        require_images(whole)
