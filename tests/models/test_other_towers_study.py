"""Whole studies, saliency maps among them, with a CLIP of transformers and with a convolutional tower."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radlens.core.classifier import load_classifier
from radlens.core.errors import ModelError
from radlens.core.spec import StudySpec, study_from_dict
from radlens.explain.maps import load_maps
from radlens.study import run_study

HERE = Path(__file__).parent
ATTENTION = ["grad-cam", "legrad", "gradient-attention", "grad-eclip", "value-map"]
FINE = {"name": "fine-tune", "epochs": 2, "batch_size": 12, "learning_rate": 0.003, "patience": None}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images: a bright left half is an edema, a bright lower half a fracture."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        left, lower = number % 2, (number // 2) % 3 == 0
        pixels = rng.integers(0, 90, (70, 64)).astype(np.uint8)
        pixels[:, :32] += np.uint8(120 * left)
        pixels[35:] += np.uint8(40 * lower)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "patient": number // 2, "Edema": left, "Fracture": int(lower)})
    pl.DataFrame(rows).write_csv(folder / "labels.csv")
    return folder


def study(films: Path, model: Path, settings: list[Any], **explain: Any) -> StudySpec:
    return study_from_dict(
        {
            "name": "towers",
            "cohort": {"dataset": "table", "table": "labels.csv", "image_column": "file", "patient_column": "patient"},
            "split": {"train": 0.6, "val": 0.2, "test": 0.2},
            "model": {"path": str(model)},
            "settings": settings,
        }
        | ({"explain": {"images": 4} | explain} if explain else {}),
        films,
    )


def overall(run: Path) -> dict[str, dict[str, Any]]:
    return {row["setting"]: row for row in pl.read_csv(run / "tables" / "overall.csv").iter_rows(named=True)}


def test_a_clip_of_transformers(films: Path, tmp_path: Path) -> None:
    runpy.run_path(str(HERE / "transformers_miniature.py"))["build"](tmp_path / "clip")
    trunk = {"name": "linear-probe", "as": "trunk-probe", "features": "trunk"}
    spec = study(films, tmp_path / "clip", ["zero-shot", "linear-probe", trunk], methods=ATTENTION, layers=[-1, -3])
    run_study(spec, tmp_path / "run")
    found = overall(tmp_path / "run")
    assert list(found) == ["zero-shot", "linear-probe", "trunk-probe"]
    assert all(0 <= row["macro_auroc"] <= 1 for row in found.values())
    assert found["linear-probe"]["macro_auroc"] > 0.7, "a bright half is seen by random features too"
    for setting in found:
        maps = load_maps(tmp_path / "run" / "saliency", setting)
        assert maps.maps.shape[2:] == (5, 2, 4, 4) and maps.maps.any(axis=(-1, -2)).any(axis=(0, 1)).all()
    run_study(spec, tmp_path / "run")
    assert all(stage["cached"] for stage in json.loads((tmp_path / "run" / "run.json").read_text())["stages"].values())


def test_a_convolutional_tower(films: Path, tmp_path: Path) -> None:
    runpy.run_path(str(HERE / "convolutional_miniature.py"))["build"](tmp_path / "cnn", "resnet", pixels=96)
    methods = ["grad-cam", "hires-cam", "input-gradient"]
    settings = ["zero-shot", "linear-probe", FINE | {"activation_checkpointing": True}]
    run_study(study(films, tmp_path / "cnn", settings, methods=methods, layers=[-1, -2]), tmp_path / "run")
    found = overall(tmp_path / "run")
    assert found["linear-probe"]["macro_auroc"] > 0.7
    for setting in found:
        maps = load_maps(tmp_path / "run" / "saliency", setting)
        assert maps.maps.shape[2:] == (3, 2, 3, 3) and maps.maps.any(axis=(-1, -2)).any(axis=(0, 1)).all()
    fitted = load_classifier(tmp_path / "run" / "classifiers" / "fine-tune")
    assert fitted.card["options"]["activation_checkpointing"] and fitted.image_tensors
    changed = {name.rpartition(".")[2] for name in fitted.image_tensors}
    assert "running_mean" not in changed, "statistics of batch norms stay as they were released"


def test_lora_is_refused_by_a_convolutional_tower(films: Path, tmp_path: Path) -> None:
    runpy.run_path(str(HERE / "convolutional_miniature.py"))["build"](tmp_path / "cnn", "resnet", pixels=96)
    lora = {"name": "lora", "epochs": 2, "patience": None}
    with pytest.raises(ModelError, match=r"which the image tower of cnn does not have; use bitfit"):
        run_study(study(films, tmp_path / "cnn", [lora]), tmp_path / "run")
