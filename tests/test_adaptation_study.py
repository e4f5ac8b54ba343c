"""A study whose settings change the encoder: its tables, its cards, prediction in a fresh process, seeds and sweeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radlens.core.classifier import load_classifier
from radlens.core.errors import DataError, ModelError
from radlens.core.spec import StudySpec, study_from_dict
from radlens.study import run_study

IMAGES = 60


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images: a bright left half is an edema, a bright lower half a fracture."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(IMAGES):
        left, lower = number % 2, (number // 2) % 3 == 0
        pixels = rng.integers(0, 90, (60, 60)).astype(np.uint8)
        pixels[:, :30] += np.uint8(120 * left)
        pixels[30:] += np.uint8(40 * lower)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "patient": number // 2, "Edema": left, "Fracture": int(lower)})
    pl.DataFrame(rows).write_csv(folder / "labels.csv")
    return folder


def study(films: Path, miniature: Path, settings: list[Any], **changes: Any) -> StudySpec:
    return study_from_dict(
        {
            "name": "adapted",
            "cohort": {"dataset": "table", "table": "labels.csv", "image_column": "file", "patient_column": "patient"},
            "split": {"train": 0.6, "val": 0.2, "test": 0.2},
            "model": {"path": str(miniature)},
            "settings": settings,
        }
        | changes,
        films,
    )


FINE = {"name": "fine-tune", "epochs": 3, "batch_size": 12, "learning_rate": 0.003, "patience": None}


def test_a_setting_with_an_encoder_of_its_own(films: Path, miniature: Path, tmp_path: Path) -> None:
    explain = {"methods": ["grad-cam"], "layers": [-1], "images": 4}
    trunk = {"name": "linear-probe", "as": "trunk-probe", "features": "trunk"}
    spec = study(films, miniature, ["zero-shot", "linear-probe", trunk, FINE], explain=explain)
    run = tmp_path / "run"
    page = run_study(spec, run)
    overall = {row["setting"]: row for row in pl.read_csv(run / "tables" / "overall.csv").iter_rows(named=True)}
    assert list(overall) == ["zero-shot", "linear-probe", "trunk-probe", "fine-tune"]
    distances = [overall[name]["inter_class_distance"] for name in overall]
    assert distances[0] == distances[1] and len(set(distances)) == 3, "each encoder has a space of its own"
    place = run / "classifiers" / "fine-tune"
    assert sorted(p.name for p in place.iterdir()) == ["card.json", "encoder.safetensors", "head.safetensors"]
    card = json.loads((place / "card.json").read_text())
    assert card["trainable_parameters"] <= card["total_parameters"] and card["train_seconds"] > 0
    assert card["metrics"]["images"] == 12 and card["metrics"]["labels"]["Edema"]["positives"] > 0
    assert card["cohort"]["split_fingerprint"] and card["machine"]["cores"]
    assert {p.name for p in (run / "saliency").iterdir()} >= {"fine-tune.safetensors", "trunk-probe.safetensors"}
    assert "fine-tune" in page.read_text()
    run_study(spec, run)
    stages = json.loads((run / "run.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages.values())

    # the same probabilities in a fresh process
    table = pl.read_parquet(run / "predictions" / "fine-tune.parquet").head(5)
    command = [sys.executable, "-m", "radlens.cli", "predict", str(place), *(str(films / i) for i in table["image_id"])]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = pl.read_csv(out.encode())
    for label in ("Edema", "Fracture"):
        np.testing.assert_allclose(found[label].to_numpy(), table[label].to_numpy(), atol=1e-5)


def test_another_encoder_is_refused(films: Path, miniature: Path, tmp_path: Path, miniature_parts: Any) -> None:
    run_study(study(films, miniature, ["linear-probe"]), tmp_path / "run")
    card = tmp_path / "run" / "classifiers" / "linear-probe" / "card.json"
    values = json.loads(card.read_text())
    values["encoder"]["fingerprint"] = "0" * 32
    card.write_text(json.dumps(values))
    out = subprocess.run(
        [sys.executable, "-m", "radlens.cli", "predict", str(card.parent), str(films / "0.png")],
        capture_output=True,
        text=True,
    )
    assert out.returncode == 1 and "was made with an encoder of fingerprint" in out.stderr
    with pytest.raises(ModelError):
        load_classifier(tmp_path)


def test_seeds_and_a_sweep(films: Path, miniature: Path, tmp_path: Path) -> None:
    swept = {"name": "linear-probe", "epochs": 4, "seeds": [0, 1, 2], "sweep": {"loss": ["bce", "focal"]}}
    run_study(study(films, miniature, [swept]), tmp_path / "run")
    overall = pl.read_csv(tmp_path / "run" / "tables" / "overall.csv")
    assert overall["setting"].to_list() == [
        f"linear-probe.loss-{loss}.seed-{seed}" for loss in ("bce", "focal") for seed in (0, 1, 2)
    ]
    seeds = pl.read_csv(tmp_path / "run" / "tables" / "seeds.csv")
    row = seeds.filter(setting="linear-probe.loss-focal", metric="macro_auroc").row(0, named=True)
    each = overall.filter(pl.col("setting").str.contains("focal"))["macro_auroc"].to_list()
    assert row["repeats"] == 3 and row["mean"] == pytest.approx(np.mean(each))
    assert row["standard_deviation"] == pytest.approx(np.std(each, ddof=1), abs=1e-12)


def test_what_a_sweep_has_computed_outlives_a_variant_that_fails(films: Path, miniature: Path, tmp_path: Path) -> None:
    swept = {"name": "linear-probe", "epochs": 3, "sweep": {"learning_rate": [1e38, 1e-3]}}
    with pytest.raises(DataError, match=r"learning rate 1e\+38\).*not finite"):
        run_study(study(films, miniature, [swept]), tmp_path / "run")
    kept = list((tmp_path / "run" / "classifiers").iterdir())
    assert len(kept) == 1
    assert load_classifier(kept[0]).card["options"]["learning_rate"] == 1e-3


@pytest.mark.slow
def test_two_processes_make_the_same_study(films: Path, miniature: Path, tmp_path: Path) -> None:
    text = {
        "name": "two",
        "cohort": {
            "dataset": "table",
            "table": str(films / "labels.csv"),
            "images": str(films),
            "image_column": "file",
            "patient_column": "patient",
        },
        "model": {"path": str(miniature)},
        "settings": ["zero-shot", "linear-probe", FINE],
    }
    (tmp_path / "study.yaml").write_text(json.dumps(text))
    tables = {}
    for devices in (1, 2):
        out = tmp_path / str(devices)
        command = [sys.executable, "-m", "radlens.cli", "run", str(tmp_path / "study.yaml"), "--out", str(out)]
        done = subprocess.run(
            [*command, "--set", f"compute.devices={devices}"], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("report.html") == 1
        tables[devices] = pl.read_csv(out / "tables" / "overall.csv").drop("train_seconds")
        card = json.loads((out / "classifiers" / "fine-tune" / "card.json").read_text())
        tables[f"bce{devices}"] = card["validation_bce"]
    assert tables["bce1"] == pytest.approx(tables["bce2"], rel=1e-4)
    for one, two in zip(tables[1].iter_rows(named=True), tables[2].iter_rows(named=True), strict=True):
        for column, value in one.items():
            assert two[column] == (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value), column
