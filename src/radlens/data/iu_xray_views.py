"""Frontal or lateral: what IU-Xray's metadata, captions and the order of its images say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from radlens.core.errors import DataError, unknown_name
from radlens.data.iu_xray_images import image_key
from radlens.data.tabular import read_table

_LATERAL = frozenset({"LL", "RL", "LATERAL", "LARGE LATERAL"})
_AT_LEAST_TWO = re.compile(r"\blat|\btwo\b|\b2(v|\b)", re.IGNORECASE)


def views_of_study(positions: Sequence[str | None], caption: str) -> list[tuple[str | None, str]]:
    """(view, where it comes from) of each image of one study: `frontal`, `lateral` or None, images in report order.

    positions: DICOM `View Position`, None where the metadata has none. caption: the report's, one for all its images.
    The first rule that fits an image decides:

    1. `metadata`: LL, RL, LATERAL and LARGE LATERAL are lateral, AP is frontal.
    2. `other image`: PA or nothing, beside an image that rule 1 calls lateral: frontal. Beside one that it calls
       frontal, if the caption speaks of a lateral or of two views: lateral.
    3. `order and caption`: a study of several images whose caption speaks of a lateral or of two views: the first is
       frontal, the last lateral, those between are unknown.
    4. `metadata`: PA is frontal. All else is `unknown`.

    PA comes last because cassette readers of this collection write it for laterals too: it stands at both images of
    1,089 of the 3,208 studies with two. AP overrides it, though most of these films are PA by their caption (269 of
    423): neither tells the projection, so that a view is never called PA or AP.

    Checked against the view of each study's first image that torchxrayvision found from the pixels (its t-SNE table,
    3,851 images; no header took part in it): 3,504 of the 3,690 images that get a view agree (95.0%), by rule 1 lateral
    129 of 129, AP 146 of 164, rule 2 903 of 918, rule 3 2,124 of 2,231, rule 4 202 of 248. The header alone would
    decide 2,468 of them, 2,269 rightly (91.9%); order and caption alone 3,373, 2,955 rightly (87.6%).
    Of all 7,470 images 281 get no view. Later images are not in that table; where a study has two and one of them is
    the lateral, they are as often right as the first.
    """
    tags = [(position or "").strip().upper() for position in positions]
    several = len(tags) > 1 and _AT_LEAST_TWO.search(caption) is not None
    found: list[tuple[str | None, str]] = []
    for index, tag in enumerate(tags):
        if tag in _LATERAL:
            found.append(("lateral", "metadata"))
        elif tag == "AP":
            found.append(("frontal", "metadata"))
        elif _LATERAL & set(tags):
            found.append(("frontal", "other image"))
        elif several and "AP" in tags:
            found.append(("lateral", "other image"))
        elif several and index in (0, len(tags) - 1):
            found.append(("lateral" if index else "frontal", "order and caption"))
        elif tag == "PA" and not several:
            found.append(("frontal", "metadata"))
        else:
            found.append((None, "unknown"))
    return found


def read_view_positions(path: Path) -> dict[str, str | None]:
    """`image_key` -> DICOM `View Position` from the collection's metadata table (`nlmcxr_dicom_metadata.csv.gz`).

    Two images have another id there than in their report (CXR1_IM-0001-3001 for CXR1_1_IM-0001-3001), which
    `image_key` makes one, and one (CXR1000_IM-0003-1001) is absent. Raises `DataError` for a table without the columns
    `imageid` and `View Position`.
    """
    table = read_table(path)
    for column in ("imageid", "View Position"):
        if column not in table.columns:
            raise DataError(f"metadata {path}: {unknown_name('column', column, table.columns[:40])}")
    rows = table.select(pl.col("imageid").cast(pl.String), pl.col("View Position").cast(pl.String)).iter_rows()
    return {key: position for name, position in rows if name and (key := image_key(name)) is not None}
