"""The page: offline, escaped, deterministic, honest about what is missing."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from radlens.core.errors import StoreError
from radlens.report.contents import read_run
from radlens.report.page import render, write_report


class Elements(HTMLParser):
    """Every element with its attributes, and the texts by nearest element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


@pytest.fixture(scope="module")
def page(whole_run: Path) -> str:
    return render(read_run(whole_run))


def rows(page: str, section: str) -> dict[str, list[str]]:
    """Cells (as HTML) of a section's table rows by the row's name; the first of a name counts."""
    part = page.split(f'<section id="{section}">')[1].split("</section>")[0]
    found: dict[str, list[str]] = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", part, re.DOTALL):
        name = re.search(r'<th scope="row"[^>]*>(.*?)</th>', row, re.DOTALL)
        if name:
            plain = re.sub(r"<[^>]*>|&nbsp;|[↑↓]", "", name[1]).removesuffix(" few").strip()
            found.setdefault(plain, re.findall(r"<td[^>]*>.*?</td>", row, re.DOTALL))
    return found


def mark(cell: str) -> str:
    found = re.search(r'<span class="(best|worst)">', cell)
    return found[1] if found else ""


def test_nothing_is_asked_of_the_network(page: str) -> None:
    elements = Elements(page).found
    assert not {tag for tag, _ in elements} & {"script", "iframe", "object", "embed", "form", "base", "video", "audio"}
    for tag, attributes in elements:
        for name in {"src", "href", "srcset", "action", "poster", "data", "xlink:href"} & attributes.keys():
            assert attributes[name].startswith(("data:", "#")), (tag, name, attributes[name])
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.findall(r"url\(|@import", page)
    policy = next(a["content"] for t, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script-src" not in policy


def test_hostile_names_are_escaped(page: str, folders: ModuleType) -> None:
    assert "<script" not in page
    assert folders.HOSTILE_NAME not in page
    assert "&lt;script&gt;alert(" in page
    assert "2PR / (P + R) &lt;b&gt;" in page
    images = [attributes for tag, attributes in Elements(page).found if tag == "img"]
    assert images and all(a["src"].startswith("data:image/jpeg;base64,") for a in images)


def test_the_same_run_gives_the_same_bytes(whole_run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(whole_run, elsewhere)
    first = write_report(elsewhere).read_bytes()
    assert render(read_run(whole_run)).encode() == first


def test_best_and_worst_in_both_directions(page: str) -> None:
    overall = rows(page, "overall")
    assert [mark(c) for c in overall["Label ranking average precision"]] == ["worst", "best", "", ""]
    assert [mark(c) for c in overall["Ranking loss"]] == ["worst", "best", "", ""]
    assert [mark(c) for c in overall["Coverage error"]] == ["worst", "best", "", ""]
    assert [mark(c) for c in overall["Inter-class distance"]] == ["best", "best", "worst", ""]
    assert [mark(c) for c in overall["Intra-class distance"]] == ["worst", "worst", "best", ""]
    assert [mark(c) for c in overall["Trainable parameters"]] == [""] * 4
    assert "no training" in overall["Training time"][0] and mark(overall["Training time"][0]) == ""
    # not by colour alone: a glyph, and a word for a screen reader
    assert "▲" in overall["Ranking loss"][1] and "best " in overall["Ranking loss"][1]


def test_few_positives_are_grey_and_unmarked(page: str, whole_run: Path) -> None:
    run = read_run(whole_run)
    labels = rows(page, "labels")
    assert set(run.labels) <= set(labels)
    few = [label for label in run.labels if label not in run.estimable]
    assert few and run.estimable
    for label in few:
        assert not [c for c in labels[label] if mark(c)], label
        assert 'class="few' in labels[label][3], label
    assert [c for c in labels[run.estimable[0]] if mark(c) == "best"]


def test_undefined_is_not_estimable_and_never_zero(page: str) -> None:
    cells = rows(page, "labels")["Pleural Other"]
    assert all("—" in c and "0.000" not in c for c in cells[2:])
    assert "not estimable" in cells[3]
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower().replace("nano", "")


def test_published_figures_only_for_their_data_set(page: str, build: Callable[..., Path], tmp_path: Path) -> None:
    theirs = render(read_run(build(tmp_path / "run", dataset="iu-xray", saliency=False)))
    assert "Sadman" not in page
    assert "Published: Sadman et al. 2025" in theirs
    overall = rows(theirs, "overall")
    assert [re.sub(r"<[^>]*>", "", c) for c in overall["Macro F1"][4:]] == ["0.105", "0.183", "0.235"]
    assert not [c for c in overall["Macro F1"][4:] if mark(c)]
    assert [re.sub(r"<[^>]*>", "", c) for c in rows(theirs, "domains")["Device"][-3:]] == [
        "0.093",
        "0.100"[:0] + "0.076",
        "0.000",
    ]
    assert "linear-probe 0.183 against 0.200" in theirs


def test_optional_files_may_be_missing(build: Callable[..., Path], tmp_path: Path) -> None:
    run = build(tmp_path / "run", localization=False, saliency=False)
    assert "cannot say whether the model looks at the right place" in render(read_run(run))
    for path in sorted(run.rglob("*")):
        if path.is_file() and path.name != "run.json":
            path.unlink()
    (run / "run.json").write_text("{}", "utf-8")
    bare = render(read_run(run))
    assert "This run has no overall table." in bare and "This run wrote no definitions." in bare


def test_errors_name_the_file(build: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a run folder: it has no run\.json"):
        write_report(tmp_path)
    run = build(tmp_path / "run", saliency=False)
    (run / "cohort.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(StoreError, match=r"cohort\.parquet cannot be read"):
        write_report(run)
    (run / "split_card.json").write_text("{", "utf-8")
    with pytest.raises(StoreError, match=r"split_card\.json cannot be read"):
        write_report(run)


def test_no_picture_from_outside_the_run(build: Callable[..., Path], tmp_path: Path) -> None:
    run = build(tmp_path / "run", localization=False)
    path = run / "saliency" / "examples.json"
    values = json.loads(path.read_text("utf-8"))
    values["examples"][0]["image"] = "../../secret.png"
    path.write_text(json.dumps(values), "utf-8")
    with pytest.raises(StoreError, match="lies outside the run folder"):
        write_report(run)


def test_settings_that_share_an_embedding_share_a_picture(page: str) -> None:
    space = page.split('<section id="space">')[1].split("</section>")[0]
    assert space.count("<svg") == 2
    assert "zero-shot, linear-probe" in space


def test_pictures_keep_the_film_s_shape(page: str) -> None:
    uri = next(a["src"] for tag, a in Elements(page).found if tag == "img")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        assert picture.size == (246, 288)  # the film is 128 x 150


def test_the_split_card_is_read(page: str, whole_run: Path) -> None:
    cohort = rows(page, "cohort")
    card = json.loads((whole_run / "split_card.json").read_text("utf-8"))
    plain = [re.sub(r"<[^>]*>", "", c) for c in cohort["test"]]
    assert plain[:3] == [str(card["splits"]["test"]["images"]), str(card["splits"]["test"]["patients"]), "30.0%"]
    counts = [card["labels"]["Edema"][s]["positives"] for s in ("train", "val", "test")]
    assert [re.sub(r"<[^>]*>", "", c) for c in cohort["Edema"]][:4] == [str(n) for n in (*counts, sum(counts))]
    assert re.search(r'<li class="clean">.{0,60}patients in several splits: <b>0</b>', page)
    assert re.search(r'<li class="leak">.{0,60}equal files in several splits: <b>2</b>', page)
    assert re.search(r'<li class="told">.{0,60}files compared: <b>420</b>', page)


def test_localisation_stands_beside_its_baselines(page: str) -> None:
    looks = rows(page, "looks")
    assert {"centre", "label-prior"} <= set(looks)
    assert not [c for c in (*looks["centre"], *looks["label-prior"]) if mark(c)]
    summary = page.split("Against the annotated regions")[1].split("</table>")[0]
    assert "another patient" not in summary.split("<tbody>")[1]
    assert "another patient’s grad-cam" in page
