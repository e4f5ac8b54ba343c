"""The planted shortcut of examples/shortcut: the maps find the mark that decides, not the lungs that do not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from rich.console import Console

from radlens.core.spec import StudySpec, read_study
from radlens.progress import Teller
from radlens.study import run_study

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "shortcut"
LABEL = "Pneumonia"


def study(name: str, *overrides: str) -> StudySpec:
    return read_study(EXAMPLES / f"{name}.yaml", list(overrides))


def run(spec: StudySpec, folder: Path) -> Path:
    run_study(spec, folder, Teller(Console(quiet=True), quiet=True))
    return folder


def localization(folder: Path) -> pl.DataFrame:
    table = pl.read_csv(folder / "tables" / "localization.csv", schema_overrides={"layer": pl.String})
    return table.filter(pl.col("label") == LABEL)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all runs of this file, and their folders."""
    place = tmp_path_factory.mktemp("shortcut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADLENS_CACHE", str(place / "cache"))
        run(study("marker"), place / "marker")
        # the trained model and its maps are the same: only the regions differ
        shutil.copytree(place / "marker", place / "lungs")
        run(study("lungs"), place / "lungs")
    return place


@pytest.fixture(scope="module")
def marker(folders: Path) -> Path:
    """Run folder of the study whose region is the mark."""
    return folders / "marker"


@pytest.fixture(scope="module")
def lungs(folders: Path) -> Path:
    """Run folder of the study whose region are the lungs."""
    return folders / "lungs"


@pytest.fixture(scope="module")
def random_model(folders: Path, miniature: Path) -> Path:
    """Run folder of a model of random weights, with the mark as the region."""
    settings = "settings=[zero-shot]"
    layers = "explain.layers=[-1, -2, -3, -5]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADLENS_CACHE", str(folders / "cache"))
        return run(study("marker", f"model={{path: {miniature}}}", settings, layers), folders / "random")


def test_the_two_studies_differ_in_nothing_but_the_regions() -> None:
    one, two = (yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text("utf-8")) for name in ("marker", "lungs"))
    assert one["cohort"].pop("regions") == "marker" and two["cohort"].pop("regions") == "lungs"
    assert one.pop("name") != two.pop("name")
    assert one == two


@pytest.mark.slow
def test_the_mark_decides_the_label(marker: Path) -> None:
    row = pl.read_csv(marker / "tables" / "per_label.csv").filter(label=LABEL).row(0, named=True)
    assert row["auroc"] > 0.95


@pytest.mark.slow
def test_training_is_not_done_twice(lungs: Path) -> None:
    stages = json.loads((lungs / "run.json").read_text("utf-8"))["stages"]
    assert stages["setting:fine-tune"]["cached"] and stages["maps:fine-tune"]["cached"]
    assert not stages["localization"]["cached"], "but its regions are others"


@pytest.mark.slow
def test_maps_find_the_mark_and_not_the_lungs(marker: Path, lungs: Path) -> None:
    def compared(folder: Path) -> dict[tuple[str, str], tuple[float, float]]:
        """(method, layer) -> lift, and lift of the best map that never saw the image, on the same images."""
        rows = localization(folder).filter(pl.col("setting") == "fine-tune").filter(~pl.col("method").str.contains(":"))
        found = rows.select("method", "layer", "lift_on_same_pairs", "lift_best_baseline").rows()
        return {(method, layer): (own, rival) for method, layer, own, rival in found}

    on_marker, on_lungs = compared(marker), compared(lungs)
    assert len(on_marker) == len(on_lungs) == 12
    for place in (("gradient-attention", "-8"), ("hires-cam", "-2")):
        own, rival = on_marker[place]
        assert own > 1.5 * rival and own > 4, place
        own, rival = on_lungs[place]
        assert own < 0.8 * rival, place
    for place, (own, rival) in on_lungs.items():
        assert own < 1.1 * rival, place


@pytest.mark.slow
def test_maps_of_random_weights_find_nothing(random_model: Path) -> None:
    own = localization(random_model).filter(setting="zero-shot").filter(~pl.col("method").str.contains(":"))
    assert len(own) == 12
    assert (own["lift_on_same_pairs"] < own["lift_best_baseline"]).all()
