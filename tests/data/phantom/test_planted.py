"""A planted mark: where it lies, what it covers, how often it tells the truth, and what it leaves alone."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from radlens.data.phantom import Planted, is_planted, plant
from radlens.data.phantom.marker import lettering

GREY = np.full((200, 200), 90, np.uint8)


def middle(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(rows.mean() / mask.shape[0]), float(columns.mean() / mask.shape[1])


def test_nothing_but_the_plate_changes_and_the_mask_is_the_plate() -> None:
    planted = Planted(label="Pneumonia", mark="PX", extent=0.3)
    for index in range(20):
        marked, mask = plant(GREY, 1, index, planted)
        assert (GREY == 90).all(), "the given pixels stay"
        np.testing.assert_array_equal(marked[~mask], GREY[~mask])
        assert (marked[mask] != 90).all()
        rows, columns = np.nonzero(mask)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert mask.sum() == height * width, "a rectangle"
        assert max(height, width) / 200 == pytest.approx(0.3, abs=0.05)


def test_the_mark_can_be_read() -> None:
    for mark in ("L", "PORT", "arrow", "disc"):
        marked, mask = plant(GREY, 0, 0, Planted(label="Edema", mark=mark))
        rows, columns = np.nonzero(mask)
        plate = marked[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        small = np.pad(lettering(mark), 1)
        scale = plate.shape[0] // small.shape[0]
        np.testing.assert_array_equal(plate[scale // 2 :: scale, scale // 2 :: scale] > 128, small)
    assert lettering("L").tolist()[0] == [True, False, False, False, False]
    assert lettering("LI").shape == (7, 11)


@pytest.mark.parametrize(
    ("place", "low", "high"),
    [
        ("top left", (0.0, 0.0), (0.3, 0.3)),
        ("top", (0.0, 0.4), (0.3, 0.6)),
        ("right", (0.4, 0.7), (0.6, 1.0)),
        ("bottom right", (0.7, 0.7), (1.0, 1.0)),
        ("bottom", (0.7, 0.4), (1.0, 0.6)),
    ],
)
def test_a_place_is_where_its_name_says(place: Any, low: tuple[float, float], high: tuple[float, float]) -> None:
    planted = Planted(label="Edema", where=place)
    centres = [middle(plant(GREY, 3, index, planted)[1]) for index in range(30)]
    for row, column in centres:
        assert low[0] < row < high[0] and low[1] < column < high[1]
    assert len(set(centres)) > 5, "it wanders"


def test_places_are_drawn_about_equally_often() -> None:
    planted = Planted(label="Edema", where=("top left", "bottom right"))
    top = [middle(plant(GREY, 5, index, planted)[1])[0] < 0.5 for index in range(200)]
    assert 70 < sum(top) < 130
    again = [middle(plant(GREY, 5, index, planted)[1])[0] < 0.5 for index in range(200)]
    assert top == again


@pytest.mark.parametrize("agreement", [0.0, 0.7, 1.0])
def test_agreement_is_the_share_in_which_mark_and_label_agree(agreement: float) -> None:
    planted = Planted(label="Edema", agreement=agreement)
    for present in (True, False):
        agree = np.mean([is_planted(2, index, present, planted) == present for index in range(600)])
        assert agree == pytest.approx(agreement, abs=0.06)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"label": "Pneumonya"}, "Did you mean 'Pneumonia'"),
        ({"label": "No Finding"}, "unknown finding"),
        ({"mark": "p"}, "capital letters"),
        ({"mark": ""}, "capital letters"),
        ({"mark": "LONGER"}, "capital letters"),
        ({"where": ["top", "top"]}, "twice"),
        ({"where": []}, "at least 1"),
        ({"where": "middle"}, "top left"),
        ({"agreement": 1.5}, "less than or equal to 1"),
        ({"extent": 0.9}, "less than or equal to 0.4"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Planted(**{"label": "Edema", **options})
