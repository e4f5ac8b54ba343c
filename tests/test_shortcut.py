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
PLACE = ("gradient-attention", "-8")
"""Named before these films were drawn, on a model of other films."""


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
    layers = "explain.layers=[-1, -3, -5]"
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


def cards(folder: Path) -> dict[tuple[str, str], dict[str, str | None]]:
    """(method, layer) -> the trust card of the planted label."""
    table = pl.read_csv(folder / "tables" / "trust_cards.csv", schema_overrides={"layer": pl.String})
    return {(row["method"], row["layer"]): row for row in table.filter(label=LABEL).to_dicts()}


def lifts(folder: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """(method, layer) -> lift, and lift of the best map that never saw the image, on the same images."""
    rows = localization(folder).filter(pl.col("setting") != "baseline").filter(~pl.col("method").str.contains(":"))
    found = rows.select("method", "layer", "lift_on_same_pairs", "lift_best_baseline").rows()
    return {(method, layer): (own, rival) for method, layer, own, rival in found}


def beats_blind_maps(folder: Path) -> list[tuple[str, str]]:
    """(method, layer) whose lift is higher than that of every map that never saw the image, chance left out."""
    rows = localization(folder).filter(pl.col("beats_baseline").cast(pl.String) == "true")
    return rows.select("method", "layer").rows()


@pytest.mark.slow
def test_maps_find_the_mark_and_not_the_lungs(marker: Path, lungs: Path) -> None:
    on_marker, on_lungs = lifts(marker), lifts(lungs)
    assert len(on_marker) == len(on_lungs) == 6
    own, rival = on_marker[PLACE]
    assert own > 1.5 * rival
    assert PLACE in beats_blind_maps(marker)
    own, rival = on_lungs[PLACE]
    assert own < 0.8 * rival
    assert not beats_blind_maps(lungs)


@pytest.mark.slow
def test_the_trust_card_passes_the_mark_and_fails_the_lungs(marker: Path, lungs: Path) -> None:
    assert cards(marker)[PLACE]["verdict"] == "may be believed", cards(marker)[PLACE]
    on_lungs = cards(lungs)
    assert on_lungs[PLACE]["verdict"] == "contradicted"
    assert "lift" in str(on_lungs[PLACE]["failed"])
    assert "may be believed" not in {card["verdict"] for card in on_lungs.values()}


@pytest.mark.slow
def test_a_random_model_fails_everything(random_model: Path) -> None:
    found = cards(random_model)
    assert len(found) == 6
    # two of its maps do lie on the mark: an untrained network too answers to contrast, so that lift alone is no proof
    assert {card["verdict"] for card in found.values()} == {"contradicted"}, found
