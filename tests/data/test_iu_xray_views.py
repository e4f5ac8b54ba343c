"""Frontal or lateral: the rules one by one, and how often they are right on the whole collection."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from radlens.data.iu_xray_images import image_key
from radlens.data.iu_xray_reports import read_iu_xray_reports
from radlens.data.iu_xray_views import read_view_positions, views_of_study

TWO = "Xray Chest PA and Lateral"
F, L = "frontal", "lateral"


@pytest.mark.parametrize(
    ("positions", "caption", "views"),
    [
        (["PA", "PA"], TWO, [F, L]),
        ([None, None], "Chest 2V", [F, L]),
        ([None, None], "Two-view chest.", [F, L]),
        (["PA", "LL"], TWO, [F, L]),
        (["RL", None], "", [L, F]),
        ([" lateral ", "AP"], "", [L, F]),
        ([None, "AP"], TWO, [L, F]),
        (["AP", "PA"], TWO, [F, L]),
        (["AP", "PA"], "Portable chest", [F, F]),
        (["PA", "PA", "PA"], TWO, [F, None, L]),
        (["PA"], TWO, [F]),
        ([None], TWO, [None]),
        (["LL"], "", [L]),
        (["AP"], "", [F]),
        (["PA", None], "Portable chest", [F, None]),
        (["SWIMMERS"], TWO, [None]),
        ([], TWO, []),
    ],
)
def test_the_rules(positions: list[str | None], caption: str, views: list[str | None]) -> None:
    found = views_of_study(positions, caption)
    assert [view for view, _ in found] == views
    assert all((view is None) == (source == "unknown") for view, source in found)


def test_how_often_they_are_right(torchxrayvision_data: Path) -> None:
    """The figures of the docstring, against the views that were found from the pixels."""
    positions = read_view_positions(torchxrayvision_data / "nlmcxr_dicom_metadata.csv.gz")
    seen = pl.read_csv(torchxrayvision_data / "nlmcxr_tsne_pa.csv.gz")
    pixels = {name: {"PA": F, "L": L}[view] for name, view in seen.iter_rows()}
    reports = read_iu_xray_reports("torchxrayvision", Path()).table
    rows = []
    for ids, captions in reports.select("image_ids", "captions").iter_rows():
        assert len(set(captions)) <= 1  # one caption for all images of a report
        tags = [positions.get(image_key(i) or "") for i in ids]
        caption = "".join(captions[:1])
        found, alone = views_of_study(tags, caption), views_of_study([None] * len(ids), caption)
        for name, tag, (view, source), (blind, _) in zip(ids, tags, found, alone, strict=True):
            rule = {"metadata": "4" if tag == "PA" else f"1 {view}"}.get(source, source)
            rows.append((name, tag, view, blind, rule, pixels.get(name)))
    columns = ["image_id", "tag", "view", "blind", "rule", "pixels"]
    table = pl.DataFrame(rows, columns, orient="row")
    assert (table.height, table["view"].null_count(), table["tag"].null_count()) == (7470, 281, 2587)
    known = table.drop_nulls("pixels")
    assert known.height == 3851
    right = (
        known.drop_nulls("view")
        .group_by("rule")
        .agg((pl.col("view") == pl.col("pixels")).sum().alias("right"), pl.len())
    )
    assert {rule: (hits, n) for rule, hits, n in right.iter_rows()} == {
        "1 lateral": (129, 129),
        "1 frontal": (146, 164),
        "other image": (903, 918),
        "order and caption": (2124, 2231),
        "4": (202, 248),
    }
    blind = known.drop_nulls("blind")
    assert ((blind["blind"] == blind["pixels"]).sum(), blind.height) == (2955, 3373)
    tagged = known.drop_nulls("tag").with_columns(
        said=pl.when(pl.col("tag").is_in(["PA", "AP"])).then(pl.lit(F)).otherwise(pl.lit(L))
    )
    assert ((tagged["said"] == tagged["pixels"]).sum(), tagged.height) == (2269, 2468)


def test_the_two_ids_that_differ_and_the_one_that_is_absent(torchxrayvision_data: Path) -> None:
    positions = read_view_positions(torchxrayvision_data / "nlmcxr_dicom_metadata.csv.gz")
    reports = read_iu_xray_reports("torchxrayvision", Path()).table
    keys = [image_key(name) for name in reports["image_ids"].explode().drop_nulls()]
    assert len(set(keys)) == 7470 and None not in keys
    assert set(keys) - set(positions) == {"1000_IM-0003-1001"} and not set(positions) - set(keys)
