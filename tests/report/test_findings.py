"""Sentences and facts: each figure with what it rests on, and none that the run did not earn."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from radlens.report.contents import read_run
from radlens.report.facts import definition_facts, model_facts, run_facts, setting_cards
from radlens.report.findings import findings, question
from radlens.report.page import render


@pytest.fixture
def run(build: Callable[..., Path], tmp_path: Path) -> Path:
    return build(tmp_path / "run", saliency=False)


def change(run: Path, **values: Any) -> None:
    """Put values in run.json; None takes one out."""
    path = run / "run.json"
    facts = json.loads(path.read_text("utf-8")) | values
    path.write_text(json.dumps({k: v for k, v in facts.items() if v is not None}), "utf-8")


def rewrite(path: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Change every row of a table in place."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))


def where_it_looks(run: Path) -> str:
    return next(s for s in findings(read_run(run)) if s.startswith("Where it looks"))


def localize(run: Path, **own: float) -> None:
    """One setting's map with these figures, beside a centre map of lift 6."""
    counts = {"images": 3, "patients": 3, "maps": 3}
    rows = [
        {"setting": "probe", "method": "grad-cam", "layer": "-1", "label": "all"} | counts | own,
        {"setting": "baseline", "method": "label-prior", "layer": "-", "label": "all", "lift": 6.0} | counts,
    ]
    with (run / "tables" / "localization.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)


def test_heatmaps_are_held_against_baselines_on_the_same_pairs_alone(run: Path) -> None:
    # the baseline has the two small regions only, where these maps have 8; on all three they have less than its 6
    localize(run, lift=5.6, lift_best_baseline=6.0, lift_on_same_pairs=8.0, pairs_compared=2)
    sentence = where_it_looks(run)
    assert "highest lift over the annotated regions is 5.60 (probe, layer -1; 3 regions on 3 images of 3 p" in sentence
    assert "reaches 6.00 on 2 of these regions, the heatmaps there 8.00." in sentence
    assert "no better" not in sentence and "reader" not in sentence
    assert "Fewer than 10 images: treat as not estimable." in sentence
    localize(run, lift=7.0, lift_best_baseline=6.0, lift_on_same_pairs=5.0, pairs_compared=2)
    assert "the heatmaps there 5.00: they point no better than that." in where_it_looks(run)
    localize(run, lift=5.6)
    assert "never saw" not in where_it_looks(run)  # nothing to compare with: the baseline row is over other pairs


def test_agreement_is_the_least_cosine(run: Path) -> None:
    assert dict(run_facts(read_run(run)))["Agreement of bfloat16 with float32"] == "least cosine 0.999912"


def test_the_weights_are_named(run: Path) -> None:
    facts = dict(model_facts(read_run(run)))
    assert facts["Weights"] == "open_clip_model.safetensors"
    assert facts["Size of weights"].replace("\N{NARROW NO-BREAK SPACE}", "") == "23249324 bytes"
    assert facts["SHA-256 of weights"] == "0123456789ab…"
    assert facts["Revision of weights"] == "the released file"
    assert "unknown" not in question(read_run(run))
    change(run, model={"name": "m", "weights": {"file": "w", "revision": "unknown to the card: 01ab"}})
    assert question(read_run(run)).startswith("Can m (weights unknown to its card) be trusted on")


def test_images_changed_when_decoded_are_told_by_their_note(run: Path, folders: ModuleType) -> None:
    page = render(read_run(run))
    escaped = folders.HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = escaped.replace(chr(34), "&#34;").replace("'", "&#39;")
    told = f"3 images were changed when they were decoded, for example {escaped}: 16-bit: windowed 12..4095 to 8 bit."
    assert told in text_of(page)
    change(run, image_notes={"images": 1, "first": {"a": "zero is white: inverted"}}, windowed_images=1)
    page = text_of(render(read_run(run)))
    assert "1 image was changed when it was decoded: a, zero is white: inverted." in page
    assert "windowed" not in page
    change(run, image_notes={"images": 0, "first": {}})
    assert "decoded" not in text_of(render(read_run(run)))


def test_macro_means_tell_both_counts_of_labels(run: Path) -> None:
    page = text_of(render(read_run(run)))
    assert "Macro means count 13 of 14 labels (macro AUROC counts 12): a label" in page
    rewrite(run / "tables" / "overall.csv", lambda row: row.update(macro_auroc_labels_counted="13"))
    assert "Macro means count 13 of 14 labels: a label" in text_of(render(read_run(run)))


def test_a_domain_s_ratio_stands_beside_its_null(run: Path) -> None:
    part = render(read_run(run)).split('<section id="domains">')[1].split("</section>")[0]
    assert "Shuffled labels" in part
    rows = {name: re.findall(r"<td.*?</td>", row) for name, row in re.findall(r'scope="row">(\w+)(.*?)</tr>', part)}
    assert re.fullmatch(r'<td class="chance".*>1\.049</td>', rows["Pulmonary"][-1])
    rewrite(run / "tables" / "per_domain.csv", lambda row: row.update(test_positives="4"))
    part = render(read_run(run)).split('<section id="domains">')[1].split("</section>")[0]
    assert 'class="best' not in part
    assert re.search(r'<td class="chance few" title="fewer than 10 positives in the test split[^>]*>1\.049</td>', part)


def test_cards_are_those_of_the_run_s_settings(run: Path) -> None:
    left_over = run / "classifiers" / "dropped" / "card.json"
    left_over.parent.mkdir()
    left_over.write_text('{"setting": "dropped"}', "utf-8")
    assert [card.setting for card in setting_cards(read_run(run))] == ["zero-shot", "linear-probe", "fine-tune"]
    rewrite(run / "tables" / "overall.csv", lambda row: row.update(setting="../../" + row["setting"]))
    (run.parent / "zero-shot").mkdir()
    (run.parent / "zero-shot" / "card.json").write_text("{}", "utf-8")
    assert setting_cards(read_run(run)) == ()


def test_only_the_labels_of_the_shown_images_are_read(run: Path, folders: ModuleType) -> None:
    contents = read_run(run)
    table = contents.truth([folders.HOSTILE, "film_0007.png", "nobody"])
    assert table is not None and table.columns == ["image_id", *contents.labels]
    assert table["image_id"].to_list() == [folders.HOSTILE, "film_0007.png"]


def test_the_ends_of_an_interval_are_told_by_their_column(run: Path) -> None:
    path = run / "tables" / "localization_definitions.json"
    stated = json.loads(path.read_text("utf-8"))
    stated += [stated[0] | {"column": name} for name in ("lift_low", "lift_high", "mean_low")]
    path.write_text(json.dumps(stated), "utf-8")
    told = [fact["column"] for fact in definition_facts(read_run(run)) if fact["table"] == "localization"]
    assert told == ["lift", "mean_low"]  # nothing is called "mean" there
