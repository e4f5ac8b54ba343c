"""Data set cards: every shipped one reads, and nothing but a card does."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from radlens.core.errors import DataError, SpecError
from radlens.core.store import file_digest
from radlens.data.cards import DatasetCard, cards, load_card, read_card

CARD = """
title = "A collection"
licence = "CC0"
citation = "A paper"
homepage = "https://example.org/collection"
access = "open"
how_to_get = "Download it."
[expected]
images = 3
[[file]]
name = "images.tgz"
url = "https://example.org/images.tgz"
kind = "png"
what = "3 images"
size = 5
extract = true
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "card.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("name", sorted(cards()))
def test_every_shipped_card_reads_and_can_be_followed(name: str) -> None:
    card = load_card(name)
    assert card.homepage.startswith("https://")
    assert len(card.how_to_get) > 20
    assert all(file.url.startswith("https://") for file in card.file)
    assert any(value is not None for value in card.expected.model_dump().values())


def test_a_card_keeps_what_its_file_says(tmp_path: Path) -> None:
    card = read_card(written(tmp_path, CARD))
    assert (card.title, card.access, card.expected.images, card.expected.reports) == ("A collection", "open", 3, None)
    (file,) = card.file
    assert (file.name, file.kind, file.size, file.sha256, file.extract) == ("images.tgz", "png", 5, None, True)
    with pytest.raises(pydantic.ValidationError):
        card.title = "Another"


def test_an_unknown_name_gives_the_nearest_and_the_list() -> None:
    with pytest.raises(SpecError, match=r"unknown data set card 'iu-xrey'. Did you mean 'iu-xray'\? Known: .*chexpert"):
        load_card("iu-xrey")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('licence = "CC0"', 'license = "CC0"', "unknown key 'license'. Did you mean 'licence'"),
        ('citation = "A paper"', "", "key 'citation' is missing"),
        ("images = 3", "imagse = 3", "unknown key 'expected.imagse'. Did you mean 'images'"),
        ("images = 3", "images = 3.5", "expected.images: expected a whole number"),
        ("images = 3", "images = -3", "expected.images: expected a number of at least 0"),
        ('access = "open"', 'access = "free"', "access: expected 'open', 'registration' or 'credentialed'"),
        ('kind = "png"', 'kind = "jpeg"', "file.0.kind: expected 'reports', 'png', 'dicom' or 'labels'"),
        ('name = "images.tgz"', 'name = "../images.tgz"', "file.0.name"),
        ("https://example.org/images.tgz", "ftp://example.org/images.tgz", "file.0.url"),
        ("size = 5", 'sha256 = "abc"', "file.0.sha256"),
        ("size = 5", "size = 0", "file.0.size: expected a number greater than 0"),
        ('title = "A collection"', 'title = " "', "title: expected text that is not empty"),
        ("[expected]", "[expected", "cannot be read"),
    ],
)
def test_a_card_that_is_none_is_refused_in_one_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = written(tmp_path, CARD.replace(old, new))
    with pytest.raises(DataError) as caught:
        read_card(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = CARD + CARD[CARD.index("[[file]]") :]
    with pytest.raises(DataError, match=r"file 'images.tgz' stands twice"):
        read_card(written(tmp_path, twice))


def test_the_card_of_iu_xray_knows_the_reports_that_a_package_carries(torchxrayvision_data: Path) -> None:
    # an independent copy: the one inside the torchxrayvision wheel
    (file,) = (file for file in load_card("iu-xray").file if file.kind == "reports")
    copy = torchxrayvision_data / file.name
    assert copy.stat().st_size == file.size
    assert file_digest(copy) == file.sha256


def test_cards_are_plain_values() -> None:
    card = load_card("nih-cxr14")
    assert DatasetCard.model_validate(card.model_dump()) == card
