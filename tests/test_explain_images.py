"""Explaining images that a user names: what is chosen, drawn, written, refused, and how much is in memory."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor
from typer.testing import CliRunner

import radlens.explain_images as room
from radlens.cli import app
from radlens.core.classifier import Classifier, Encoder, Head
from radlens.core.errors import DataError, ExplainError, ImageError, ModelError, RadlensError, SpecError, StoreError
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache, default_cache
from radlens.core.vocabulary import Label, Vocabulary
from radlens.data.decoded import DecodedImage
from radlens.data.images import read_image
from radlens.explain.maps import load_maps, saliency_maps
from radlens.explain_images import Wanted, explain_images
from radlens.explain_names import classifier_folder, file_names, image_names
from radlens.models.loading import load_encoder, resolve
from radlens.predict import open_classifier, predict_images
from radlens.progress import Teller

NAMES = ("Edema", "Pleural Effusion", "Fracture", "Pneumonia", "Mass")
ONE = Wanted(layers=(-1,))
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their size is tested with the pictures."""
    monkeypatch.setattr("radlens.explain_files.SIDE", 60)


@pytest.fixture(scope="module")
def encoder(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(resolve(ModelSpec(path=str(miniature)), Path(), Cache(tmp_path_factory.mktemp("digests"))))


@pytest.fixture
def make(encoder: Encoder, miniature: Path, tmp_path: Path) -> Make:
    """Writes `run/classifiers/<setting>`: random weights, thresholds, whatever a test asks for."""

    def write(
        setting: str = "linear-probe",
        weight: Tensor | None = None,
        thresholds: Sequence[float] | None = (0.5,) * len(NAMES),
        model: Path = miniature,
        of: Encoder = encoder,
        never: Sequence[str] = (),
        **more: Any,
    ) -> Path:
        if weight is None:
            weight = torch.randn(len(NAMES), of.dimension, generator=torch.Generator().manual_seed(3))
        vocabulary = Vocabulary(
            "five", tuple(Label(name, None, (name.lower(),), (f"no {name.lower()}",)) for name in NAMES)
        )
        card = {"model": {"path": str(model)}, "encoder": {"fingerprint": of.fingerprint}, "not_estimable": list(never)}
        head = Head(weight, torch.zeros(len(NAMES)), normalise=False)
        limits = None if thresholds is None else np.array(thresholds)
        folder = tmp_path / "run" / "classifiers" / setting
        Classifier(setting, head, vocabulary, thresholds=limits, card=card, **more).save(folder)
        return folder

    return write


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """Three films: square, wide (cropped), tall (cropped)."""
    paths = []
    for number, shape in enumerate(((200, 200), (150, 240), (260, 180))):
        generator = np.random.default_rng(number)
        coarse = Image.fromarray(generator.integers(0, 255, (6, 6), np.uint8))
        paths.append(tmp_path / f"film{number}.png")
        coarse.resize(shape[::-1], Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.fixture
def tell() -> Teller:
    return Teller(Console(quiet=True), quiet=True)


def told(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "maps.json").read_text("utf-8"))
    return found


def shown(out: Path) -> list[list[str]]:
    return [[label["name"] for label in image["labels"]] for image in told(out)["images"]]


def test_maps_and_probabilities_are_those_of_the_classifier(
    make: Make, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    folder, out = make(), tmp_path / "out"
    methods = ("grad-cam", "legrad")
    page = explain_images(folder, films, Wanted(methods=methods), out, tell)
    classifier, encoder, _ = open_classifier(folder)
    pixels = np.stack([encoder.transform(read_image(path).pixels) for path in films])
    expected = saliency_maps(classifier, [pixels], ["a", "b", "c"], methods)
    found = load_maps(out, "maps")
    np.testing.assert_allclose(found.maps.astype(float), expected.maps.astype(float), atol=2e-3)
    assert found.labels == NAMES and found.layers == ("-1", "-3", "-5") and found.methods == methods
    assert found.image_ids == ("film0.png", "film1.png", "film2.png") and found.flags == expected.flags

    scores = predict_images(folder, films).to_dicts()
    for row, image in zip(scores, told(out)["images"], strict=True):
        # those called positive, in the vocabulary's order; else the three most probable
        positive = [name for name in NAMES if row[f"{name} decision"] == 1]
        assert [label["name"] for label in image["labels"]] == positive and positive
        for label in image["labels"]:
            assert label["probability"] == pytest.approx(row[label["name"]], abs=1e-6) and label["threshold"] == 0.5
    assert page == out / "explain.html" and page.read_text("utf-8").count('class="explained"') == 3


def test_every_map_has_a_png_and_an_svg_and_nothing_is_left_aside(
    make: Make, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    out = tmp_path / "out"
    wanted = Wanted(labels=("Pleural Effusion",), methods=("grad-cam", "input-gradient"), layers=(-1, "blocks.2.mlp"))
    explain_images(make(), films[:2], wanted, out, tell)
    drawn = [one for image in told(out)["images"] for label in image["labels"] for one in label["maps"]]
    # a method without depth is drawn once
    assert [(one["method"], one["layer"]) for one in drawn[:3]] == [
        ("grad-cam", "-1"),
        ("grad-cam", "blocks.2.mlp"),
        ("input-gradient", None),
    ]
    named = {one[kind] for one in drawn for kind in ("png", "svg")}
    assert {str(path.relative_to(out)) for path in (out / "overlays").iterdir()} == named and len(named) == 12
    assert "overlays/film1__Pleural_Effusion__grad-cam__blocks.2.mlp.png" in named
    assert not list(out.rglob("*.part"))
    seen = [image["seen_by_the_model"] for image in told(out)["images"]]
    assert seen == [[0, 0, 200, 200], pytest.approx([45, 0, 195, 150])]


@pytest.mark.parametrize("thresholds", [(1.0,) * 5, None])
def test_the_three_most_probable_where_none_is_called_positive(
    thresholds: Sequence[float] | None, make: Make, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    folder, out = make(thresholds=thresholds), tmp_path / "out"
    explain_images(folder, films, ONE, out, tell)
    for row, names in zip(predict_images(folder, films).to_dicts(), shown(out), strict=True):
        assert names == sorted(NAMES, key=lambda name: -row[name])[:3]


def test_a_label_that_was_never_assessed_is_neither_chosen_nor_explained(
    make: Make, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    folder, out = make(thresholds=(0.0,) * 5, never=["Fracture"]), tmp_path / "out"
    explain_images(folder, films[:1], ONE, out, tell)
    assert shown(out) == [["Edema", "Pleural Effusion", "Pneumonia", "Mass"]]
    assert "Fracture" not in load_maps(out, "maps").labels
    with pytest.raises(ExplainError, match="'Fracture' was never assessed"):
        explain_images(folder, films, Wanted(labels=("Fracture",)), tmp_path / "other", tell)


def test_a_label_by_itself_is_still_compared_with_all_others(
    make: Make, encoder: Encoder, films: list[Path], tmp_path: Path, tell: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_TOGETHER", 1)
    direction = torch.randn(encoder.dimension, generator=torch.Generator().manual_seed(1))
    folder, out = make(weight=torch.outer(torch.tensor([1.0, 2.0, 0.0, 3.0, 4.0]), direction)), tmp_path / "out"
    explain_images(folder, films[:2], Wanted(labels=("Fracture", "Mass"), methods=("hires-cam",)), out, tell)
    found = load_maps(out, "maps")
    assert found.labels == ("Fracture", "Mass")
    assert {found.flags.get((i, 0, 0, k)) for i in range(2) for k in range(3)} == {"constant"}
    assert {found.flags.get((i, 1, 0, k)) for i in range(2) for k in range(3)} == {"label-invariant"}
    page = (out / "explain.html").read_text("utf-8")
    assert page.count(">constant: no map</div>") == 6 and page.count(">the same for every label</div>") == 6
    # a picture that means nothing is not drawn; the two films are
    assert page.count("<img ") == 2 and not (out / "overlays").exists()


def test_sentences_stand_beside_labels(
    make: Make, encoder: Encoder, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    out = tmp_path / "out"
    wanted = Wanted(
        labels=("Mass",), texts=("the heart <is> normal", "Mass"), methods=("grad-cam", "attention-rollout")
    )
    explain_images(make(), films, wanted, out, tell)
    found = load_maps(out, "maps")
    assert found.labels == ("Mass", "text: the heart <is> normal", "text: Mass")
    assert {at for at in found.flags if at[2] == 1} == {
        (i, k, 1, n) for i in range(3) for k in range(3) for n in range(3)
    }
    pixels = torch.from_numpy(np.stack([encoder.transform(read_image(path).pixels) for path in films]))
    with torch.no_grad():
        image, text = encoder.encode_images(pixels), encoder.encode_texts(["the heart <is> normal"])
        expected = torch.nn.functional.cosine_similarity(image, text).tolist()
    rows = [image["labels"][1] for image in told(out)["images"]]
    assert [row["cosine"] for row in rows] == pytest.approx(expected, abs=1e-5)
    assert {row["kind"] for row in rows} == {"sentence"} and rows[0]["probability"] is None
    # rollout never looks at the sentence
    assert {one["flag"] for row in rows for one in row["maps"] if one["method"] == "attention-rollout"} == {
        "label-invariant"
    }
    page = (out / "explain.html").read_text("utf-8")
    assert "“the heart &lt;is&gt; normal”" in page and "<is>" not in page
    assert "changed the image tower" not in page


def test_one_sentence_has_no_map_by_a_method_that_never_looks_at_it(
    make: Make, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    wanted = Wanted(labels=("Mass",), texts=("normal heart",), methods=("attention-rollout",), layers=(-1,))
    explain_images(make(), films[:1], wanted, tmp_path / "out", tell)
    assert told(tmp_path / "out")["images"][0]["labels"][1]["maps"][0]["flag"] == "label-invariant"


def test_a_changed_image_tower_says_whose_words_it_is_asked_in(
    make: Make, encoder: Encoder, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    name, tensor = next(iter(encoder.image_module.state_dict().items()))
    folder, out = make("fine-tune", image_tensors={name: tensor + 0.1}), tmp_path / "out"
    explain_images(folder, films[:1], Wanted(texts=("normal heart",), layers=(-1,)), out, tell)
    assert "fine-tune changed the image tower and not the text tower" in (out / "explain.html").read_text("utf-8")


def test_a_head_that_reads_the_trunk_takes_no_sentence(
    make: Make, encoder: Encoder, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    width = encoder.without_projection().dimension
    folder = make("trunk", torch.randn(5, width, generator=torch.Generator().manual_seed(0)), features="trunk")
    explain_images(folder, films[:1], ONE, tmp_path / "labels", tell)
    with pytest.raises(ExplainError, match="read before its projection"):
        explain_images(folder, films[:1], Wanted(texts=("normal heart",)), tmp_path / "out", tell)
    assert not (tmp_path / "out").exists()


def test_verdicts_of_the_run_stand_beside_the_labels(
    make: Make, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    folder, card = make(), tmp_path / "run" / "tables" / "trust_cards.csv"
    wanted = Wanted(labels=("Mass", "Edema"), texts=("normal heart",), layers=(-1, -3))
    explain_images(folder, films[:1], wanted, tmp_path / "without", tell)
    assert "has no trust card" in (tmp_path / "without" / "explain.html").read_text("utf-8")
    card.parent.mkdir()
    rows = ["linear-probe,grad-cam,-3,Mass,not shown,lift <0.9> below 1.6", "zero-shot,grad-cam,-1,Mass,wrong,no"]
    card.write_text("\n".join(["setting,method,layer,label,verdict,reason", *rows]))
    explain_images(folder, films[:1], wanted, tmp_path / "out", tell)
    page = (tmp_path / "out" / "explain.html").read_text("utf-8")
    assert page.count("trust: not shown") == 1 and "lift &lt;0.9&gt; below 1.6" in page and "wrong" not in page
    assert "No trust has been measured for this film" in page and "come from the trust card" in page
    maps = told(tmp_path / "out")["images"][0]["labels"][0]["maps"]
    assert "verdict" not in maps[0] and maps[1]["verdict"] == "not shown"
    card.write_text("setting,method,layer,label,verdict\n")
    with pytest.raises(StoreError, match=r"trust_cards\.csv has no column 'reason'"):
        explain_images(folder, films[:1], wanted, tmp_path / "other", tell)


def test_a_broken_image_is_named_and_the_others_are_done(
    make: Make, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    broken, out = tmp_path / "broken.png", tmp_path / "out"
    broken.write_bytes(films[0].read_bytes()[:500])
    with pytest.raises(DataError, match=r"^1 of 3 images could not be explained, first .*broken\.png: is truncated"):
        explain_images(make(), [films[0], broken, films[1]], ONE, out, tell)
    assert load_maps(out, "maps").image_ids == ("film0.png", "film1.png")
    page = (out / "explain.html").read_text("utf-8")
    assert re.search(r'id="not-read">.*broken\.png</code>: is truncated', page, re.DOTALL)
    assert told(out)["not_explained"][0]["image"] == "broken.png"


def test_no_page_where_no_image_can_be_read(make: Make, tmp_path: Path, tell: Teller) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png: the file is empty"):
        explain_images(make(), [tmp_path / "empty.png"], ONE, tmp_path / "out", tell)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("wanted", "kind", "says"),
    [
        (Wanted(labels=("Edemas",)), SpecError, "unknown label 'Edemas'. Did you mean 'Edema'?"),
        (Wanted(methods=("gradcam",)), SpecError, "unknown saliency method 'gradcam'. Did you mean 'grad-cam'?"),
        (Wanted(layers=("-7",)), ExplainError, "layer -7 is out of range"),
        (Wanted(layers=("norm",)), ExplainError, "no gradient at the patch tokens"),
        (Wanted(texts=(" ",)), ExplainError, "a sentence to explain is empty"),
    ],
)
def test_what_is_asked_is_checked_before_anything_is_written(
    wanted: Wanted, kind: type[RadlensError], says: str, make: Make, films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    with pytest.raises(kind, match=re.escape(says)):
        explain_images(make(), films, wanted, tmp_path / "out", tell)
    assert not (tmp_path / "out").exists()


def test_a_classifiers_folder_or_a_run_with_one(make: Make, tmp_path: Path) -> None:
    folder = make()
    assert classifier_folder(folder) == folder == classifier_folder(tmp_path / "run")
    make("zero-shot")
    with pytest.raises(ModelError, match=r"holds 2 classifiers \(linear-probe, zero-shot\); name one of them"):
        classifier_folder(tmp_path / "run")
    with pytest.raises(ModelError, match="is not a classifier folder"):
        classifier_folder(tmp_path / "run" / "classifiers")
    with pytest.raises(ModelError, match="no such folder"):
        classifier_folder(tmp_path / "nowhere")


def test_images_of_one_name_do_not_meet(make: Make, films: list[Path], tmp_path: Path, tell: Teller) -> None:
    places = [tmp_path / "a" / "film.png", tmp_path / "b" / "film.png", tmp_path / "c" / "Film.PNG"]
    for film, place in zip(films, places, strict=True):
        place.parent.mkdir()
        place.write_bytes(film.read_bytes())
    out = tmp_path / "out"
    again = tmp_path / "a" / ".." / "a" / "film.png"
    explain_images(make(), [*places, again], Wanted(labels=("Mass",), layers=(-1,)), out, tell)
    assert load_maps(out, "maps").image_ids == tuple(str(place) for place in places)
    drawn = [path.name.casefold() for path in (out / "overlays").glob("*.png")]
    assert len(drawn) == len(set(drawn)) == 3
    sizes = [(image["width"], image["height"]) for image in told(out)["images"]]
    assert sizes == [(200, 200), (240, 150), (180, 260)]


def test_paths_that_are_no_files_are_refused(films: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        image_names([films[0], tmp_path / "typo.png"])
    with pytest.raises(ImageError, match="is a folder"):
        image_names([tmp_path])
    with pytest.raises(ImageError, match="no image is named"):
        image_names([])


def test_names_of_files_are_plain_and_apart() -> None:
    texts = ["Lung Opacity", "lung/opacity", "../../x", "", "an enlarged heart? " * 9, "Übergröße", "a", "A"]
    found = file_names({text: text for text in texts})
    parts = [part.casefold() for part in found.values()]
    assert len(set(parts)) == len(texts) and all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,69}", p) for p in parts)
    assert file_names({"x": "Lung Opacity"}) == {"x": "Lung_Opacity"}


def test_only_a_few_films_are_in_memory(
    make: Make, films: list[Path], tmp_path: Path, tell: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "many" / f"{i:02}.png" for i in range(24)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(films[0].read_bytes())
    alive: list[weakref.ref[Any]] = []
    most = 0

    def counted(given: Any) -> Iterator[DecodedImage]:
        nonlocal most
        for path in given:
            film = read_image(path)
            alive.append(weakref.ref(film.pixels))
            most = max(most, sum(one() is not None for one in alive))
            yield film

    monkeypatch.setattr(room, "read_images", counted)
    explain_images(make(), paths, Wanted(labels=("Mass",), layers=(-1,)), tmp_path / "out", tell)
    assert len(alive) == 24 and most <= 2 * room._TOGETHER + 2


def test_open_clips_own_transformer_is_explained_too(
    make: Make, miniature_parts: dict[str, Any], films: list[Path], tmp_path: Path, tell: Teller
) -> None:
    vision = {"layers": 5, "width": 64, "head_width": 16, "patch_size": 16, "image_size": 96}
    model = miniature_parts["build_miniature"](tmp_path / "clip", vision=vision)
    encoder = load_encoder(resolve(ModelSpec(path=str(model)), Path(), Cache(tmp_path / "digests")))
    folder, out = make(model=model, of=encoder), tmp_path / "out"
    wanted = Wanted(texts=("normal heart",), methods=("grad-cam", "gradient-attention"))
    explain_images(folder, films[:1], wanted, out, tell)
    found = load_maps(out, "maps")
    assert found.maps.shape == (1, 6, 2, 3, 6, 6) and found.maps.any(axis=(4, 5)).mean() > 0.8


def test_the_embedded_model_is_explained_too(make: Make, films: list[Path], tmp_path: Path, tell: Teller) -> None:
    source = resolve(ModelSpec(name="radlens-tiny"), Path(), Cache(default_cache()))
    folder = make(model=source.location, of=load_encoder(source))
    explain_images(folder, films[:1], Wanted(texts=("an enlarged heart",)), tmp_path / "out", tell)
    assert load_maps(tmp_path / "out", "maps").maps.shape == (1, 6, 1, 3, 14, 14)


def test_the_command_takes_lists_and_layers_that_begin_with_a_dash(
    make: Make, films: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ["--labels", "Mass, Edema", "--methods", "grad-cam", "--methods", "hires-cam", "--layers", "-1,-3"]
    asked += ["--text", "the heart, normal", "--out", str(out), "--quiet"]
    result = CliRunner().invoke(app, ["explain", str(make()), str(films[0]), *asked])
    assert result.exit_code == 0 and result.stdout.strip() == str(out / "explain.html")
    found = load_maps(out, "maps")
    assert found.labels == ("Mass", "Edema", "text: the heart, normal")
    assert found.methods == ("grad-cam", "hires-cam") and found.layers == ("-1", "-3")
    refused = CliRunner().invoke(app, ["explain", str(make()), str(films[0]), "--text", "", "--out", str(out)])
    assert isinstance(refused.exception, ExplainError)
