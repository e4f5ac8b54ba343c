"""A whole study on phantoms with a miniature model: the run folder, the second run, and a run that was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from radlens.core.errors import RadlensError
from radlens.core.spec import StudySpec, study_from_dict
from radlens.predict import predict_images
from radlens.progress import Teller
from radlens.study import run_study

IMAGES = 72
CONTRACT = {
    "overall": "setting inter_class_distance intra_class_distance separability_ratio macro_f1 exact_match lrap "
    "coverage_error ranking_loss macro_auroc macro_average_precision train_seconds",
    "per_label": "setting label train_positives test_positives prevalence precision recall f1 f1_always_positive auroc "
    "average_precision threshold",
    "per_domain": "setting domain f1 inter_class_distance intra_class_distance separability_ratio",
    "localization": "setting method layer label images hit_rate energy_in_region lift iou",
}


def study(miniature: Path, **changes: Any) -> StudySpec:
    common = ("Cardiomegaly", "Lung Opacity", "Pleural Effusion")
    cohort = {"dataset": "phantom", "images": IMAGES, "size": 96, "prevalence": dict.fromkeys(common, 0.4)}
    values: dict[str, Any] = {
        "name": "small",
        "cohort": cohort,
        "split": {"train": 0.5, "val": 0.25, "test": 0.25},
        "model": {"path": str(miniature)},
        "settings": ["zero-shot", {"name": "zero-shot", "rule": "paper", "as": "paper-rule"}, "linear-probe"],
        "explain": {"layers": [-1, -3], "images": 6},
    }
    return study_from_dict(values | changes, Path())


def run(spec: StudySpec, out: Path, **options: Any) -> dict[str, Any]:
    run_study(spec, out, Teller(Console(quiet=True), quiet=True), **options)
    return recorded(out)


def recorded(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text("utf-8"))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def finished(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        # the cache of all tests: a study whose images moved would rightly be split anew
        patch.setenv("RADLENS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        out = tmp_path_factory.mktemp("runs") / "small"
        run(study(miniature), out)
    return out


def test_the_run_folder_holds_what_the_contract_names(finished: Path) -> None:
    for name in ("run.json", "study.yaml", "cohort.parquet", "split_card.json", "report.html"):
        assert (finished / name).is_file(), name
    for setting in ("zero-shot", "paper-rule", "linear-probe"):
        assert {p.name for p in (finished / "classifiers" / setting).iterdir()} == {"head.safetensors", "card.json"}
        assert (finished / "saliency" / f"{setting}.safetensors").is_file()
    for table, columns in CONTRACT.items():
        found = pl.read_csv(finished / "tables" / f"{table}.csv").columns
        assert set(columns.split()) <= set(found), table
    facts = recorded(finished)
    assert facts["totals"]["finished"]
    assert {"seconds", "cached", "key"} <= set(facts["stages"]["evaluate"])
    assert not list(finished.rglob("*.part"))


def test_predictions_are_those_of_all_images_by_split_and_label(finished: Path) -> None:
    cohort = pl.read_parquet(finished / "cohort.parquet")
    table = pl.read_parquet(finished / "predictions" / "linear-probe.parquet")
    assert table["image_id"].to_list() == cohort["image_id"].to_list()
    assert table["split"].to_list() == cohort["split"].to_list()
    assert table.columns[2:] == cohort.columns[-14:]
    values = table.select(table.columns[2:]).to_numpy()
    assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    assert cohort.group_by("patient_id").agg(pl.col("split").n_unique())["split"].max() == 1


def test_the_papers_rule_calls_by_the_sign_of_the_cosine(finished: Path) -> None:
    card = json.loads((finished / "classifiers" / "paper-rule" / "card.json").read_text("utf-8"))
    assert card["thresholds"] == [0.5] * 14
    probabilities = pl.read_parquet(finished / "predictions" / "paper-rule.parquet")[:, 2:].to_numpy()
    # the sigmoid of a cosine
    assert probabilities.min() >= 1 / (1 + np.e) - 1e-6 and probabilities.max() <= 1 / (1 + 1 / np.e) + 1e-6


def test_tables_follow_from_predictions(finished: Path) -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    cohort = pl.read_parquet(finished / "cohort.parquet").filter(pl.col("split") == "test")
    table = pl.read_parquet(finished / "predictions" / "linear-probe.parquet").filter(pl.col("split") == "test")
    rows = pl.read_csv(finished / "tables" / "per_label.csv").filter(pl.col("setting") == "linear-probe")
    row = rows.filter(pl.col("label") == "Cardiomegaly").to_dicts()[0]
    truth, scores = cohort["Cardiomegaly"].to_numpy(), table["Cardiomegaly"].to_numpy()
    assert row["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert row["f1"] == pytest.approx(f1_score(truth, scores >= row["threshold"]))
    assert row["f1_always_positive"] == pytest.approx(f1_score(truth, np.ones_like(truth)))


def test_a_second_run_does_nothing_twice(
    finished: Path, miniature: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def loaded(*arguments: object) -> None:
        raise AssertionError("the model was loaded, though nothing was left to do")

    monkeypatch.setattr("radlens.models.loading.load_encoder", loaded)
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file() and p.name != "run.json"}
    facts = run(study(miniature), finished)
    assert {name for name, stage in facts["stages"].items() if not stage["cached"]} <= set()
    assert {p: p.read_bytes() for p in before} == before


def test_another_seed_fits_anew_but_embeds_nothing(finished: Path, miniature: Path, tmp_path: Path) -> None:
    facts = run(study(miniature), tmp_path / "first")
    again = run(study(miniature, split={"train": 0.5, "val": 0.25, "test": 0.25, "seed": 7}), tmp_path / "first")
    assert facts["embedding"]["images"] == IMAGES and again["embedding"]["cached"]
    assert not again["stages"]["split"]["cached"] and not again["stages"]["setting:linear-probe"]["cached"]


def test_a_setting_that_is_no_longer_asked_for_leaves_the_folder(miniature: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(study(miniature, explain=None), out)
    assert (out / "classifiers" / "linear-probe").is_dir()
    run(study(miniature, settings=["zero-shot"], explain=None), out)
    assert not (out / "classifiers" / "linear-probe" / "card.json").exists()
    assert not (out / "predictions" / "linear-probe.parquet").exists()
    assert pl.read_csv(out / "tables" / "overall.csv")["setting"].to_list() == ["zero-shot"]


@pytest.mark.parametrize("where", ["radlens.stages.evaluate.write_csv", "radlens.stages.explain.saliency_maps"])
def test_a_stopped_run_goes_on_and_ends_in_the_same_tables(
    finished: Path, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    out = tmp_path / "out"

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, stop)
        with pytest.raises(KeyboardInterrupt):
            run(study(miniature), out)
    assert not recorded(out)["totals"]["finished"]
    facts = run(study(miniature), out)
    assert facts["stages"]["setting:linear-probe"]["cached"]
    for table in ("per_label", "per_domain", "separability", "localization"):
        name = f"tables/{table}.csv"
        assert (out / name).read_bytes() == (finished / name).read_bytes()


def test_predict_gives_the_studys_probabilities(finished: Path) -> None:
    cohort = pl.read_parquet(finished / "cohort.parquet").head(3)
    expected = pl.read_parquet(finished / "predictions" / "linear-probe.parquet").head(3)
    found = predict_images(finished / "classifiers" / "linear-probe", [Path(p) for p in cohort["path"]])
    labels = expected.columns[2:]
    np.testing.assert_allclose(found.select(labels).to_numpy(), expected.select(labels).to_numpy(), atol=1e-5)


def test_predict_refuses_a_classifier_whose_model_changed(
    finished: Path, miniature: Path, miniature_parts: dict[str, Any], tmp_path: Path
) -> None:
    import shutil

    place = shutil.copytree(finished / "classifiers" / "linear-probe", tmp_path / "moved")
    other = miniature_parts["build_miniature"](tmp_path / "other", seed=9)
    card = json.loads((place / "card.json").read_text("utf-8"))
    card["model"] = {"path": str(other)}
    (place / "card.json").write_text(json.dumps(card))
    with pytest.raises(RadlensError, match="was made with an encoder"):
        predict_images(place, [Path(pl.read_parquet(finished / "cohort.parquet")["path"][0])])


def test_a_folder_with_other_files_is_not_written_into(miniature: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(RadlensError, match="holds files but no run"):
        run(study(miniature), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


def test_bad_annotations_are_told_before_anything_is_fitted(miniature: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,label,x,y,w,h\nno-such-image,Cardiomegaly,1,1,5,5\n")
    asked = {"annotations": str(tmp_path / "boxes.csv"), "format": "boxes-csv"}
    with pytest.raises(RadlensError, match=r"boxes\.csv"):
        run(study(miniature, explain=asked), tmp_path / "out")
    assert not (tmp_path / "out" / "classifiers").exists()


def test_what_was_never_assessed_is_not_predicted(miniature: Path, tmp_path: Path) -> None:
    from PIL import Image

    generator = np.random.default_rng(0)
    rows = []
    for i in range(24):
        Image.fromarray(generator.integers(0, 255, (40, 40), np.uint8)).save(tmp_path / f"{i}.png")
        rows.append({"file": f"{i}.png", "patient": f"p{i}", "Edema": i % 2, "Fracture": None})
    pl.DataFrame(rows).write_csv(tmp_path / "labels.csv")
    cohort = {"dataset": "table", "table": str(tmp_path / "labels.csv"), "image_column": "file"}
    cohort |= {"patient_column": "patient"}
    run(study(miniature, cohort=cohort, settings=["linear-probe"], explain=None), tmp_path / "out")
    found = predict_images(tmp_path / "out" / "classifiers" / "linear-probe", [tmp_path / "0.png"]).to_dicts()[0]
    assert found["Edema"] is not None and found["Edema decision"] in (0, 1)
    assert found["Fracture"] is None and found["Fracture decision"] is None
