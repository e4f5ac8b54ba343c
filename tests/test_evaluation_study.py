"""What a study writes of doubt and of its embedding spaces, from its run folder to its page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radlens.core.spec import study_from_dict
from radlens.evaluate.view import view_methods
from radlens.study import run_study

pytestmark = pytest.mark.slow
SETTINGS = [
    "zero-shot",
    {"name": "linear-probe", "epochs": 4, "seeds": [0, 1, 2]},
    {"name": "fine-tune", "epochs": 2, "batch_size": 12, "learning_rate": 0.003, "patience": None},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, miniature: Path) -> Path:
    """A study of small images: a bright left half is an edema, a bright lower half a fracture."""
    folder = tmp_path_factory.mktemp("films")
    random = np.random.default_rng(0)
    rows = []
    for number in range(120):
        left, lower = int(random.random() < 0.5), int(random.random() < 0.4)
        pixels = random.integers(0, 90, (48, 48)).astype(np.uint8)
        pixels[:, :24] += np.uint8(120 * left)
        pixels[24:] += np.uint8(40 * lower)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "patient": number // 2, "Edema": left, "Fracture": lower})
    pl.DataFrame(rows).write_csv(folder / "labels.csv")
    values = {
        "name": "doubt",
        "cohort": {"dataset": "table", "table": "labels.csv", "image_column": "file", "patient_column": "patient"},
        "split": {"train": 0.4, "val": 0.3, "test": 0.3},
        "model": {"path": str(miniature)},
        "settings": SETTINGS,
        "evaluate": {"replicates": 200},
    }
    out = folder / "run"
    run_study(study_from_dict(values, folder), out)
    return out


def table(run: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(run / "tables" / f"{name}.csv", infer_schema_length=None)


def test_distances_are_of_each_setting_s_own_space(run: Path) -> None:
    found = table(run, "distance_to_train")
    assert found["setting"].n_unique() == 5 and found["method"].to_list() == ["mahalanobis", "knn"] * 5
    medians = {row["setting"]: row["test_median"] for row in found.filter(method="knn").to_dicts()}
    assert medians["zero-shot"] == medians["linear-probe.seed-0"] != medians["fine-tune"]
    split = pl.read_parquet(run / "cohort.parquet")["split"]
    assert found["train_images"].unique().to_list() == [(split == "train").sum()]
    assert found.filter(pl.col("farther").is_null()).is_empty()


def test_seeds_are_averaged_and_only_settings_have_intervals(run: Path) -> None:
    seeds = table(run, "seed_ensemble")
    assert seeds["setting"].unique().to_list() == ["linear-probe"] and seeds["members"].unique().to_list() == [3]
    overall = table(run, "overall").filter(pl.col("setting").str.starts_with("linear-probe"))
    row = seeds.filter(metric="macro_auroc").row(0, named=True)
    assert row["single_mean"] == pytest.approx(overall["macro_auroc"].mean())
    assert set(table(run, "intervals")["setting"]) == set(table(run, "overall")["setting"])


def test_bands_have_intervals_beside_the_labels(run: Path) -> None:
    bands = table(run, "intervals").filter(scope="band")
    frequency = {(r["setting"], r["band"]): r for r in table(run, "frequency").to_dicts()}
    # the labels that no image is assessed on are as rare as can be
    assert len(bands) == 5 * 3 * 2 and bands["name"].unique().sort().to_list() == ["medium", "tail"]
    for row in bands.filter(metric="f1").to_dicts():
        assert row["value"] == pytest.approx(frequency[row["setting"], row["name"]]["f1"])
        assert row["reason"] or row["low"] <= row["value"] <= row["high"]


def test_power_is_at_each_setting_s_rates_on_validation(run: Path) -> None:
    power = table(run, "power").filter(pl.col("label") == "Edema")
    assert power["setting"].n_unique() == 5
    cohort = pl.read_parquet(run / "cohort.parquet")
    val, truth = cohort["split"] == "val", cohort["Edema"]
    for row in power.to_dicts():
        place = run / "classifiers" / row["setting"] / "card.json"
        at = json.loads(place.read_text())["thresholds"][cohort.columns[-14:].index("Edema")]
        scores = pl.read_parquet(run / "predictions" / f"{row['setting']}.parquet")["Edema"]
        rate = (scores.filter(val & (truth == 0)) >= at).mean()
        count = (val & (truth == 0)).sum()
        assert row["false_positive_rate"] == pytest.approx(np.clip(rate, 0.5 / count, 1 - 0.5 / count))
        assert "at its validation recall" in row["statement"]


def test_every_view_is_drawn_and_defined(run: Path) -> None:
    views = table(run, "embedding_view")
    assert views["view"].unique(maintain_order=True).to_list() == list(view_methods())
    counts = views.group_by("view", "setting").len()["len"].unique().to_list()
    assert counts == [(pl.read_parquet(run / "cohort.parquet")["split"] == "test").sum()]
    defined = json.loads((run / "tables" / "definitions.json").read_text())
    assert [one["column"] for one in defined if one.get("table") == "embedding_view"] == list(view_methods())
    page = (run / "report.html").read_text()
    assert all(f'id="view-{method}"' in page for method in view_methods())
    for heading in ("Are the test images like those of training", "Several seeds together", "How alike the spaces are"):
        assert heading in page
