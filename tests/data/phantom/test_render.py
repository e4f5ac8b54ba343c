"""Pixels and masks: determinism, agreement with the labels, sites."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from radlens.data.phantom import (
    FINDINGS,
    SHIFTED,
    SOURCE,
    Phantom,
    Site,
    draw_case,
    render,
    render_many,
)


def only(name: str, site: Site = SOURCE) -> Site:
    shares: Mapping[str, float] = {finding: float(finding == name) for finding in FINDINGS}
    return site.with_prevalence(shares)


def fingerprint(phantom: Phantom) -> str:
    digest = hashlib.sha256(phantom.pixels.tobytes())
    for name, mask in phantom.masks.items():
        digest.update(name.encode() + mask.tobytes())
    return digest.hexdigest()


def test_the_same_arguments_give_the_same_bytes_in_any_order() -> None:
    forward = [fingerprint(render(3, index, SHIFTED, 128)) for index in range(6)]
    backward = [fingerprint(render(3, index, SHIFTED, 128)) for index in reversed(range(6))]
    assert forward == backward[::-1]
    assert len(set(forward)) == 6


def test_two_workers_give_what_one_gives() -> None:
    inline = [fingerprint(p) for p in render_many(5, range(10), SHIFTED, 128)]
    spread = [fingerprint(p) for p in render_many(5, range(10), SHIFTED, 128, workers=2)]
    assert inline == spread


def test_case_and_render_tell_the_same() -> None:
    phantom = render(1, 4, SOURCE, 96)
    case = draw_case(1, 4, SOURCE)
    assert phantom.labels == case.labels
    assert (phantom.image_id, phantom.report, phantom.view) == (case.image_id, case.report, case.view)
    assert phantom.pixels.shape == (96, 96)
    assert phantom.pixels.dtype == np.uint8


def test_masks_agree_with_labels() -> None:
    often = SHIFTED.with_prevalence(dict.fromkeys(FINDINGS, 0.4))
    for index in range(24):
        phantom = render(2, index, often, 160)
        assert set(phantom.masks) == {name for name in FINDINGS if phantom.labels[name]}
        for name, mask in phantom.masks.items():
            assert mask.dtype == np.bool_
            assert mask.shape == phantom.pixels.shape
            assert mask.sum() >= 4, name
            assert mask.mean() < 0.6, name


@pytest.mark.parametrize("name", FINDINGS)
def test_pixels_change_where_the_mask_says(name: str) -> None:
    site = only(name)
    inside, outside = [], []
    for index in range(0, 24, 3):
        shown = render(11, index, site, 192)
        hidden = render(11, index, site, 192, suppress={name})
        assert not hidden.masks
        change = np.abs(shown.pixels.astype(float) - hidden.pixels)
        inside.append(change[shown.masks[name]].mean())
        outside.append(change[~shown.masks[name]].mean())
    assert np.mean(inside) > 4.0
    assert np.mean(inside) > 4.0 * np.mean(outside)


@pytest.mark.parametrize("name", ["Lung Opacity", "Pneumothorax", "Pleural Effusion", "Lung Lesion"])
def test_severity_shows(name: str) -> None:
    site = only(name)
    drawn = []
    for index in range(0, 48, 3):
        phantom = render(4, index, site, 128)
        hidden = render(4, index, site, 128, suppress={name})
        change = np.abs(phantom.pixels.astype(float) - hidden.pixels)
        # A haze grows denser rather than larger.
        strength = change[phantom.masks[name]].mean() if name == "Lung Opacity" else change.sum()
        drawn.append((phantom.severities[name], strength))
    severity, strength = np.array(drawn).T
    assert np.corrcoef(severity, strength)[0, 1] > 0.4


def test_air_is_darker_and_fluid_brighter() -> None:
    for name, sign in (("Pneumothorax", -1), ("Pleural Effusion", 1), ("Consolidation", 1)):
        site = only(name)
        shown, hidden = render(6, 0, site, 160), render(6, 0, site, 160, suppress={name})
        mask = shown.masks[name]
        change = shown.pixels[mask].astype(float).mean() - hidden.pixels[mask].mean()
        assert sign * change > 3, name


def test_images_of_a_patient_differ_in_pixels_only() -> None:
    patients = [draw_case(9, i, SOURCE).patient for i in range(12)]
    index = next(i for i in range(11) if patients[i] == patients[i + 1])
    one, two = render(9, index, SOURCE, 96), render(9, index + 1, SOURCE, 96)
    assert one.labels == two.labels
    assert not np.array_equal(one.pixels, two.pixels)


def test_source_and_shifted_histograms_differ() -> None:
    def histogram(site: Site, first: int) -> np.ndarray:
        pixels = np.stack([render(0, first + i, site, 96).pixels for i in range(0, 24, 2)])
        return np.histogram(pixels, bins=32, range=(0, 256), density=False)[0] / pixels.size

    source, again, shifted = histogram(SOURCE, 0), histogram(SOURCE, 60), histogram(SHIFTED, 0)
    assert np.abs(source - shifted).sum() > 2 * np.abs(source - again).sum()


def test_the_marker_is_burnt_in_and_may_be_left_out() -> None:
    marked, bare = render(0, 0, SOURCE, 128), render(0, 0, replace(SOURCE, marker=""), 128)
    rows, columns = np.nonzero(marked.pixels != bare.pixels)
    assert len(rows) > 5
    assert rows.max() < 40
    assert columns.min() > 64


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="size must be an integer from 64 to 2048"):
        render(0, 0, SOURCE, 32)
    with pytest.raises(ValueError, match="suppress must name findings"):
        render(0, 0, SOURCE, 96, suppress={"Fractures"})
    with pytest.raises(ValueError, match="index must be an integer"):
        render(0, -1, SOURCE, 96)
