"""The page of explained films and their pictures: where the heat lies, what is hidden, what is escaped."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from radlens.core.errors import StoreError
from radlens.core.regions import Geometry
from radlens.report.explain_page import Column, PageFacts, ShownImage, ShownLabel, ShownMap, write_explain_page
from radlens.report.explain_pictures import shown_film, write_overlay
from radlens.report.explain_verdicts import Verdict, read_verdicts

HOSTILE = '<script>alert("x")</script> & \x07 more'
COLUMNS = (Column("grad-cam", "-1"), Column("occlusion", ""))
SVG = "{http://www.w3.org/2000/svg}"


def film(height: int = 120, width: int = 120) -> npt.NDArray[np.uint8]:
    return np.full((height, width), 100, np.uint8)


def facts(images: int = 1, **more: object) -> PageFacts:
    given = {"setting": "linear-probe", "model": "tiny", "columns": COLUMNS, "methods": {"grad-cam": "a sum."}}
    return PageFacts(**given | {"input_size": 64, "has_cards": False, "images": images} | more)  # type: ignore[arg-type]


def maps(*flags: str) -> tuple[ShownMap, ...]:
    grid = np.eye(4)
    return tuple(ShownMap(grid, flag) for flag in flags)


def page(tmp_path: Path, images: list[ShownImage], told: PageFacts | None = None) -> str:
    path = write_explain_page(tmp_path / "explain.html", told or facts(len(images)), iter(images))
    return path.read_text("utf-8")


@pytest.mark.parametrize(("height", "width"), [(120, 120), (90, 150), (700, 400), (1500, 2000)])
def test_heat_lies_where_the_patch_lies_in_the_original(height: int, width: int) -> None:
    grid = np.zeros((4, 4))
    grid[1, 3] = 0.7
    small = shown_film(film(height, width), 64, 100)
    heat = small.heat(grid)
    assert heat.shape == small.pixels.shape and max(heat.shape) == 100 and heat.max() == 1
    # the patch's middle, by hand: a centre crop of the short side
    short = min(height, width)
    down = (height - short) / 2 + short * 1.5 / 4
    across = (width - short) / 2 + short * 3.5 / 4
    scale = 100 / max(height, width)
    rows, columns = np.where(heat > 0.9)
    assert abs(rows.mean() + 0.5 - down * scale) < 1.5
    # the outermost patch stays bright up to the crop's edge
    assert columns.min() <= across * scale <= columns.max() + 1


@pytest.mark.parametrize(("height", "width"), [(90, 150), (2000, 1500), (120, 119)])
def test_what_the_crop_hides_is_dimmed_and_framed(height: int, width: int) -> None:
    small = shown_film(film(height, width), 64, 200)
    drawn = small.picture(None).astype(int)
    seen = Geometry(width, height, 64).visible_mask()
    nearest = Image.fromarray(seen).resize(small.pixels.shape[::-1], Image.Resampling.NEAREST)
    inside = drawn[..., 0] >= 99
    # a pixel's row or column may round either way
    assert (inside != np.asarray(nearest)).mean() < 0.02
    if small.seen is not None:
        assert (drawn[~inside] == 40).all() and (drawn == 255).any() and (drawn == 100).any()
    assert (small.seen is None) == seen.all()


def test_a_film_that_is_seen_whole_has_no_frame() -> None:
    assert shown_film(film(), 64, 60).seen is None
    assert (shown_film(film(), 64, 60).picture(None) == 100).all()


def test_colour_films_are_shown_grey() -> None:
    colour = np.zeros((10, 20, 3), np.uint8)
    colour[..., 1] = 90
    small = shown_film(colour, 8, 20)
    assert small.pixels.shape == (10, 20) and (small.pixels == 30).all()


def test_an_overlay_is_a_picture_and_a_drawing_with_a_legend(tmp_path: Path) -> None:
    small = shown_film(film(90, 150), 64, 240)
    grid = np.zeros((4, 4))
    grid[0, 0] = 1
    png, svg = write_overlay(tmp_path / "new" / "a.b__-1", small, grid, [HOSTILE, "grad-cam, layer -1", "research"])
    assert (png.name, svg.name) == ("a.b__-1.png", "a.b__-1.svg")
    drawn = np.asarray(Image.open(png)).astype(int)
    assert drawn.shape == (144, 240, 3)
    # red above blue where there is heat, grey where there is none
    assert drawn[20, 60, 0] > drawn[20, 60, 2] + 40 and np.ptp(drawn[100, 150]) == 0

    root = ElementTree.fromstring(svg.read_bytes())
    assert root.findtext(f"{SVG}title") == '<script>alert("x")</script> &   more'
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert texts[:2] == ["least", "most"] and texts[-2:] == ["grad-cam, layer -1", "research"]
    assert "<script" not in svg.read_text("utf-8") and "http:" not in re.sub(r'xmlns="[^"]*"', "", svg.read_text())
    background, heat = (_image(node.attrib["href"]) for node in root.iter(f"{SVG}image"))
    assert background.size == (240, 144) and heat.mode == "RGBA"
    opacity = np.asarray(heat)[..., 3].astype(float)
    assert opacity.max() > 180 and opacity[:, :13].max() == 0 and opacity[30:, 40:].max() == 0
    assert root.find(f"{SVG}g[@id='not-seen-by-the-model']") is not None


def _image(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_rows_are_labels_and_columns_are_methods(tmp_path: Path) -> None:
    labels = (
        ShownLabel("Edema", maps("", ""), probability=0.25, threshold=0.2),
        ShownLabel("Mass", maps("constant", "label-invariant"), probability=0.1, threshold=0.2),
        ShownLabel("a large heart", maps("", "constant"), cosine=0.3333),
        ShownLabel("Hernia", maps("", ""), probability=0.5),
    )
    text = page(tmp_path, [ShownImage("a.png", film(), labels, "inverted")])
    assert re.findall(r"<b>(grad-cam|occlusion)</b>(layer -1|no depth)", text) == [
        ("grad-cam", "layer -1"),
        ("occlusion", "no depth"),
    ]
    rows = [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "|", row)) for row in text.split('class="row"')[1:]]
    assert "Edema" in rows[0] and "probability 0.250" in rows[0] and "threshold 0.200: called positive" in rows[0]
    assert "called negative" in rows[1] and "constant: no map" in rows[1] and "the same for every label" in rows[1]
    assert "“a large heart”" in rows[2] and "cosine 0.333" in rows[2] and "a sentence has no threshold" in rows[2]
    assert "no threshold was chosen" in rows[3]
    # one film and two, none, one and two maps
    assert text.count("<img ") == 6 and text.count('class="nomap flagged"') == 3
    assert "inverted" in text and "The model sees the whole film." in text


def test_the_page_warns_and_opens_offline(tmp_path: Path) -> None:
    text = page(tmp_path, [ShownImage("a.png", film(90, 150), (ShownLabel("Mass", maps("", ""), 0.5),))])
    assert "No trust has been measured for this film." in text and "research use only" in text.lower()
    assert "has no trust card" in text and "The model sees what the white frame holds." in text
    assert "<script" not in text and "http" not in re.sub(r'http-equiv="', "", text)
    assert set(re.findall(r'src="([^:]*:[^;]*)', text)) == {"data:image/jpeg"}


def test_everything_that_a_user_named_is_escaped(tmp_path: Path) -> None:
    shown = ShownMap(np.eye(4), "", Verdict(HOSTILE, HOSTILE))
    labels = (ShownLabel(HOSTILE, (shown, shown), 0.5, 0.4), ShownLabel(HOSTILE, (shown, shown), cosine=0.1))
    told = facts(setting=HOSTILE, model=HOSTILE, notes=(HOSTILE,), has_cards=True, failures=[(HOSTILE, HOSTILE)])
    text = page(tmp_path, [ShownImage(HOSTILE, film(), labels, HOSTILE)], told)
    assert "<script" not in text and text.count("&lt;script&gt;") > 15
    assert page(tmp_path, [ShownImage("\udcff.png", film(), ())])


def test_verdicts_stand_under_maps_and_their_reasons_beside_labels(tmp_path: Path) -> None:
    shown = (ShownMap(np.eye(4), "", Verdict("holds", "lift 2.1 above 1.6.")), ShownMap(np.eye(4)))
    told = facts(has_cards=True)
    text = page(tmp_path, [ShownImage("a.png", film(), (ShownLabel("Mass", shown, 0.5),))], told)
    assert text.count("<figcaption>trust: holds</figcaption>") == 1
    assert "<b>grad-cam, layer -1: holds.</b> lift 2.1 above 1.6." in text and "come from the trust card" in text


def test_films_are_taken_one_at_a_time_and_failures_told_at_the_end(tmp_path: Path) -> None:
    failures: list[tuple[str, str]] = []
    path = tmp_path / "explain.html"

    def films() -> Iterator[ShownImage]:
        yield ShownImage("one.png", film(), ())
        (aside,) = tmp_path.iterdir()
        assert aside.name.endswith(".part") and not path.exists()
        failures.append(("two.png", "is truncated"))
        yield ShownImage("three.png", film(), ())

    text = write_explain_page(path, facts(3, failures=failures), films()).read_text("utf-8")
    assert text.count('class="explained"') == 2 and "<code>two.png</code>: is truncated" in text


def test_no_page_is_left_where_the_films_end_in_an_error(tmp_path: Path) -> None:
    def films() -> Iterator[ShownImage]:
        yield ShownImage("one.png", film(), ())
        raise StoreError("full")

    with pytest.raises(StoreError, match="full"):
        write_explain_page(tmp_path / "explain.html", facts(), films())
    assert not list(tmp_path.iterdir())


def test_verdicts_are_those_of_one_setting(tmp_path: Path) -> None:
    path = tmp_path / "trust_cards.csv"
    assert read_verdicts(path, "linear-probe") is None
    head = "setting,method,layer,label,verdict,reason,more"
    rows = ['linear-probe,grad-cam,-1,Mass,holds,"a, b",1', "zero-shot,grad-cam,-1,Mass,no,c,1"]
    path.write_text("\n".join([head, *rows]))
    assert read_verdicts(path, "linear-probe") == {("grad-cam", "-1", "Mass"): Verdict("holds", "a, b")}
    assert read_verdicts(path, "other") == {}
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match="cannot be read"):
        read_verdicts(path, "linear-probe")
    path.write_text("setting,method\n")
    with pytest.raises(StoreError, match="no column 'layer'"):
        read_verdicts(path, "linear-probe")
