"""The embedding section: views to choose from, labels with others held equal, neighbours and other spaces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from radlens.report.columns import columns
from radlens.report.contents import read_run
from radlens.report.embedding_space import embedding_view, embedding_views, shortened
from radlens.report.page import render
from radlens.report.space_tables import space_tables

SPACES = ("zero-shot; linear-probe", "fine-tune")


@pytest.fixture(scope="module")
def run(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build(tmp_path_factory.mktemp("space") / "run", saliency=False, localization=False)
    tables = folder / "tables"
    view = pl.read_csv(tables / "embedding_view.csv").with_columns(pl.lit("pca").alias("view"))
    other = view.filter(split="test").with_columns(
        pl.lit("t-sne").alias("view"),
        pl.col("x") * 3,
        pl.lit(None, pl.Float64).alias("explained_x"),
        pl.lit(None, pl.Float64).alias("explained_y"),
    )
    kept = other["image_id"].unique(maintain_order=True)[:50]
    pl.concat([view, other.filter(pl.col("image_id").is_in(kept.to_list()))]).write_csv(tables / "embedding_view.csv")
    stated = json.loads((tables / "definitions.json").read_text())
    told = {"column": "t-sne", "table": "embedding_view", "text": "t-SNE <seed 3>: distances mean nothing."}
    (tables / "definitions.json").write_text(json.dumps([*stated, told]))
    labels = {"Edema": (0.01, 12), "Fracture": (0.4, 12), "Cardiomegaly": (0.2, 4), "overall": (None, None)}
    matched, near = [], []
    for space in SPACES:
        for name, (p, positives) in labels.items():
            fixed = {"settings": space, "name": name, "images": 120, "positives": positives}
            ratios = {"ratio": 1.2, "ratio_unmatched": 1.3, "ratio_null": 1.01, "ratio_z": 2.5, "ratio_p": p}
            known = fixed | {"normalised": "false", "positives_matched": positives, "reason": None}
            matched += [known | ratios, known | ratios | {"normalised": "true", "ratio": 9.9}]
            purity = {"knn_purity": 0.3, "knn_purity_low": 0.25, "knn_purity_high": 0.41, "knn_purity_baseline": 0.2}
            shape = {"silhouette_positives": -0.1, "silhouette_positives_low": -0.2, "silhouette_positives_high": 0.05}
            if name == "Cardiomegaly":
                purity |= {"knn_purity_low": None, "knn_purity_high": None}
                known = known | {"reason": "not estimable: 4 patients"}
            near.append(known | purity | shape)
    pl.DataFrame(matched).write_csv(tables / "conditional_separability.csv")
    pl.DataFrame(near).write_csv(tables / "neighbourhood.csv")
    pair = {"a": "zero-shot", "b": "fine-tune", "name": "overall", "images": 120, "centroid_drift_aligned": 0.52}
    alike = {"linear_cka_debiased": 0.9, "linear_cka_debiased_low": 0.85, "linear_cka_debiased_high": 0.95}
    pl.DataFrame([pair | alike, pair | {"name": "Edema"}]).write_csv(tables / "spaces.csv")
    return folder


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def section(run: Path) -> str:
    return render(read_run(run)).split('<section id="space">')[1].split("</section>")[0]


def test_each_view_has_its_own_points_and_words(run: Path) -> None:
    first, second = embedding_views(read_run(run))
    assert (first.key, second.key, second.name) == ("pca", "t-sne", "t-SNE")
    assert first.images > 50 and second.images == 50 and len(second.views[0].points) == 50
    assert second.text == "t-SNE <seed 3>: distances mean nothing." and first.text == ""
    assert embedding_view(read_run(run)) == first
    counted = sum("p0" in point.classes.split(" ") for point in second.views[0].points)
    assert second.choices[0].positives == counted, "counts are those of the points drawn"


def test_the_reader_chooses_without_a_script(run: Path) -> None:
    page, part = render(read_run(run)), section(run)
    assert "<script" not in page
    assert re.findall(r'name="view" id="(view-[a-z-]+)"( checked)?', part) == [
        ("view-pca", " checked"),
        ("view-t-sne", ""),
    ]
    for key in ("pca", "t-sne"):
        assert f'<label for="view-{key}">' in part and f'class="picture in-{key}"' in part
        assert f"#view-{key}:checked ~ .in-{key}{{display:block}}" in page
        assert f"#view-{key}:focus-visible" in page, "the keyboard's place is seen"
    assert ".picture{display:none}" in page
    assert "t-SNE &lt;seed 3&gt;: distances mean nothing." in part
    drawn = part.split('class="picture in-t-sne"')[1]
    assert "of the variance" not in drawn and "axes without a unit" in drawn


def test_one_view_leaves_nothing_to_choose(whole_run: Path) -> None:
    part = section(whole_run)
    assert "Drawn by" not in part and part.count('name="view"') == 1 and "checked" in part


def test_labels_beyond_their_shuffles_are_counted_as_encoded(run: Path) -> None:
    contents = read_run(run)
    found = space_tables(contents, columns(contents.definitions))
    assert [row.name for row in found.overview.rows] == ["zero-shot, linear-probe", "fine-tune"]
    images, purity, chance, silhouette, ratio, beyond = found.overview.rows[0].cells
    assert (images.text, purity.text, purity.interval, chance.text) == ("120", "0.300", "0.250–0.410", "0.200")
    assert silhouette.interval == "-0.200 to 0.050" and ratio.text == "1.200"
    assert beyond.text == "1 of 3" and beyond.title == "0.2 by chance"
    assert "9.9" not in str(found), "the normalised stay in the table"


def test_few_are_grey_with_a_reason(run: Path) -> None:
    contents = read_run(run)
    found = space_tables(contents, columns(contents.definitions))
    assert [row.name for row in found.matched.rows] == ["Edema"] * 2 + ["Fracture"] * 2 + ["Cardiomegaly"] * 2
    rare = found.matched.rows[-1].cells
    assert (
        rare[0].text == "fine-tune" and rare[1].text == "4 of 4" and {c.kind for c in rare[3:]} == {"few", "chance few"}
    )
    near = found.neighbours.rows[-1].cells[2]
    assert (near.kind, near.title, near.interval) == ("few", "not estimable: 4 patients", "")


def test_spaces_are_compared_by_the_settings_that_share_them(run: Path) -> None:
    contents = read_run(run)
    (row,) = space_tables(contents, columns(contents.definitions)).compared.rows
    assert row.name == "zero-shot, linear-probe" and row.cells[0].text == "fine-tune"
    assert (row.cells[2].interval, row.cells[3].text) == ("0.850–0.950", "0.52")
    assert "it has no interval" in text(section(run))


def test_many_settings_of_one_space_are_counted() -> None:
    assert shortened(["a", "b"]) == "a, b"
    assert shortened(["zero-shot", *(f"linear-probe.seed-{i}" for i in range(5))]) == "zero-shot and 5 more"
