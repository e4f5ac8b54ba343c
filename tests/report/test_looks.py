"""Where it looks: flagged maps, few images, what the regions are and how the images were drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from radlens.report.contents import read_run
from radlens.report.overlays import examples
from radlens.report.page import render


@pytest.fixture(scope="module")
def looks(whole_run: Path) -> str:
    return _looks(render(read_run(whole_run)))


def _looks(page: str) -> str:
    return page.split('<section id="looks">')[1].split("</section>")[0]


def _text(part: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"data:[^\"]*", "", part)))


def test_flagged_maps_are_not_drawn_as_if_they_meant_something(whole_run: Path, looks: str) -> None:
    (edema,) = (example for example in examples(read_run(whole_run)) if example.label == "Edema")
    absent, constant, invariant = edema.rows[0].panels
    assert (absent.uri, absent.caption, absent.flagged) == ("", "", False)
    assert (constant.uri, constant.caption, constant.flagged) == ("", "constant: no map", True)
    assert invariant.uri and (invariant.caption, invariant.flagged) == ("the same for every label", True)
    assert looks.count('<figcaption class="flagged">') == 2


def test_flagged_maps_and_hidden_regions_are_counted(looks: str) -> None:
    table = looks.split("Against the annotated regions")[1].split("</table>")[0]
    heads = [re.sub(r"<[^>]*>", "", h) for h in re.findall(r"<th scope=\"col\".*?</th>", table)]
    cells = [re.sub(r"<[^>]*>", "", c) for c in re.findall(r"<td.*?</td>", table.split("<tbody>")[1])[: len(heads) - 1]]
    row = dict(zip(heads[1:], cells, strict=True))
    assert (row["Constant"], row["Same for every label"], row["Region outside crop"]) == ("3", "4", "12.5%")
    assert (row["Own lift there"], row["Best baseline’s lift"], row["Pairs"]) == ("1.47", "1.31", "19")


def test_nothing_is_claimed_of_readers_or_decisions(looks: str) -> None:
    text = _text(looks)
    assert "reader" not in text and "decisive" not in text and "ignored" not in text
    assert "Each map is scaled to its own brightest patch: compare places, not brightness, between maps." in text
    assert "least most" in text
    assert "the annotated region (exact masks of the phantoms)" in text.replace(" ( ", " (").replace("  ", " ")


def test_few_images_are_grey_and_unmarked(build: Callable[..., Path], tmp_path: Path) -> None:
    run = build(tmp_path / "run", saliency=False)
    table = run / "tables" / "localization.csv"
    assert 'class="best"' in _looks(render(read_run(run)))
    table.write_text(table.read_text("utf-8").replace(",all,20,10,", ",all,9,5,"), "utf-8")
    part = _looks(render(read_run(run)))
    assert 'class="best"' not in part and 'class="few" title="fewer than 10 images with a region' in part


def test_how_images_were_drawn_and_what_was_left_out(build: Callable[..., Path], tmp_path: Path) -> None:
    run = build(tmp_path / "run", saliency=False)
    (run / "study.yaml").write_text("name: demo\nexplain: {images: 24}\n", "utf-8")
    facts = json.loads((run / "run.json").read_text("utf-8"))
    facts["annotations"] = {"source": "boxes.csv", "left_out": {"label <Mass> unknown": 5, "no image": 0}}
    (run / "run.json").write_text(json.dumps(facts), "utf-8")
    part = _looks(render(read_run(run)))
    assert "At most 24 test images were explained, by a seeded draw, rare labels first." in part
    assert "Regions: boxes.csv." in part
    (run / "run.json").write_text(json.dumps(facts | {"annotations": {"source": "/home/jane/boxes.csv"}}), "utf-8")
    assert "Regions: boxes.csv." in (named := _looks(render(read_run(run)))) and "jane" not in named
    assert "Regions left out: label &lt;Mass&gt; unknown: 5." in part
    facts.pop("annotations")
    (run / "run.json").write_text(json.dumps(facts), "utf-8")
    assert "Regions" not in _looks(render(read_run(run)))


def test_localisation_columns_are_defined(whole_run: Path, looks: str) -> None:
    page = render(read_run(whole_run))
    assert "energy / area" in page.split('<section id="definitions">')[1].split("</section>")[0]
    assert 'title="energy / area"' in looks


def _with_methods(run: Path, names: list[str], methods: str) -> None:
    path = run / "saliency" / "examples.json"
    values = json.loads(path.read_text("utf-8"))
    values["method"] = methods
    for example in values["examples"]:
        shown = example["maps"]["zero-shot"]["-3"]
        example["maps"] = {"zero-shot": dict.fromkeys(names, shown)}
        example["scores"] = example["flags"] = {}
    path.write_text(json.dumps(values), "utf-8")


def test_maps_of_several_methods_are_named_by_both_and_carry_their_verdict(
    build: Callable[..., Path], tmp_path: Path
) -> None:
    run = build(tmp_path / "run")
    _with_methods(run, ["cam -1", "cam ++ -1", "gradient"], "cam · cam ++ · gradient")
    cards = ["setting,method,layer,label,verdict,reason,passed,failed,open,missing"]
    cards += ["zero-shot,cam ++,-1,Edema,contradicted,why,,lift,,", "zero-shot,gradient,-,Edema,refused,why,,,,lift"]
    (run / "tables" / "trust_cards.csv").write_text("\n".join(cards), "utf-8")
    contents = read_run(run)
    (edema,) = (example for example in examples(contents) if example.label == "Edema")
    assert edema.names == ("cam, layer -1", "cam ++, layer -1", "gradient") and not edema.wraps
    verdicts = [panel.verdict and panel.verdict.word for panel in edema.rows[0].panels]
    assert verdicts == [None, "contradicted", "refused"]
    assert '<span class="verdict contradicted" title="failed: lift">✗ contradicted</span>' in _looks(render(contents))


def test_many_maps_wrap_and_the_first_method_comes_first(build: Callable[..., Path], tmp_path: Path) -> None:
    run = build(tmp_path / "run")
    names = [f"{method} -{layer}" for method in ("cam", "legrad", "chefer") for layer in range(1, 9)]
    _with_methods(run, names, "cam · legrad · chefer")
    example = examples(read_run(run))[0]
    assert example.wraps and example.left_out == 12
    assert example.names == tuple(
        f"{method}, layer -{layer}"
        for method, layers in (("cam", range(1, 9)), ("legrad", (1, 2)), ("chefer", (1, 2)))
        for layer in layers
    )
    assert "12 further maps of each setting" in _looks(render(read_run(run)))
