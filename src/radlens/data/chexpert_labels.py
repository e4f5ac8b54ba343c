"""Label tables as the CheXpert labeler leaves them: 1, 0, -1, and blank for what a report does not mention."""

from __future__ import annotations

import polars as pl

from radlens.core.chexpert import LABELS as LABELS
from radlens.core.reports import Unmentioned

_NO_FINDING = "No Finding"
# the labeler lets a device stand beside "No Finding"
_FINDINGS = tuple(name for name in LABELS if name not in (_NO_FINDING, "Support Devices"))


def resolve_unmentioned(rows: pl.DataFrame, policy: Unmentioned) -> tuple[pl.DataFrame, list[str]]:
    """Give a blank cell its meaning, and say in a note how many there were.

    rows: the Int8 columns of `LABELS`, 1, 0, -1 or null, a row an image. `negative`: a finding that the report does
    not mention is absent (0), as in Irvin et al., AAAI 2019, section 4. `ignore`: it stays null. In both, a row without
    any label was not assessed and stays null, and a blank "No Finding" is 0 where a finding other than a device is
    positive or uncertain, since that is what the labeler leaves it blank for (aggregation rule of the same paper).
    """
    present = pl.any_horizontal(pl.col(name).is_in([1, -1]).fill_null(False) for name in _FINDINGS)
    read = pl.any_horizontal(pl.col(name).is_not_null() for name in LABELS)
    rows = rows.with_columns(pl.when(present).then(pl.col(_NO_FINDING).fill_null(0)).otherwise(pl.col(_NO_FINDING)))
    unread = int(rows.select((~read).sum()).item())
    notes = [f"{unread} images have no label at all: not assessed."] if unread else []
    if policy == "ignore":
        return rows, notes
    blank = int(rows.select(pl.sum_horizontal(pl.col(n).is_null().sum() for n in LABELS)).item()) - unread * len(LABELS)
    if blank:
        notes.append(f"{blank} findings that a report does not mention count as absent (unmentioned: negative).")
    filled = (pl.when(read).then(pl.col(name).fill_null(0)).otherwise(pl.col(name)) for name in LABELS)
    return rows.with_columns(filled), notes
