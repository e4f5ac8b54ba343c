"""Heatmaps over films, and the outline of the annotated region, as JPEG data URIs at the size they are shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from radlens.core.errors import StoreError
from radlens.report.colours import OUTLINE
from radlens.report.columns import show
from radlens.report.contents import RunContents, listed, number, section
from radlens.report.map_kinds import NO_LAYER, map_words
from radlens.report.verdicts import Key, TrustVerdict, trust_verdicts

SIDE = 288
"""Longest side of a picture on the page, in pixels."""
_BESIDE = 4
"""Maps of a setting that stand side by side; more of them wrap, each under its own name."""
_BETWEEN = " · "
_MOST = 12
"""Maps of a setting that an example shows; all of them stay in the run folder."""


@dataclass(frozen=True)
class Panel:
    """One picture and what stands under it; `uri` is empty where there is no map. flagged: the map means nothing.

    name: method and layer, as far as they tell maps apart. verdict: of the trust card, None where there is none.
    """

    uri: str
    caption: str
    alt: str
    flagged: bool = False
    name: str = ""
    verdict: TrustVerdict | None = None


@dataclass(frozen=True)
class PanelRow:
    """All maps of one setting."""

    setting: str
    probability: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Example:
    """One image and label: the film with the region, and a row of heatmaps a setting.

    names: of the maps, the same in every row. wraps: they are too many to stand side by side. left_out: maps of a
    setting that are not shown.
    """

    image_id: str
    label: str
    film: Panel
    names: tuple[str, ...]
    rows: tuple[PanelRow, ...]
    wraps: bool
    left_out: int


def examples(run: RunContents) -> tuple[Example, ...]:
    """The examples that the run chose, drawn. Raises `StoreError` for a path that leaves the run folder."""
    cards = trust_verdicts(run)
    return tuple(_example(run, entry, cards) for entry in listed(run.examples, "examples") if isinstance(entry, dict))


def overlay(
    film: npt.NDArray[np.uint8], heat: npt.NDArray[np.float64] | None, region: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.uint8]:
    """A grey film (h, w) with a heatmap in [0, 1] and a region's outline over it: RGB (h, w, 3).

    The heatmap's opacity grows with its value, so that what the model ignores stays a plain film.
    """
    picture = np.repeat(film[:, :, None].astype(np.float64), 3, axis=2)
    if heat is not None:
        colour, opacity = heat_colours(heat)
        picture = picture * (1 - opacity[:, :, None]) + colour * opacity[:, :, None]
    if region is not None:
        mask = Image.fromarray((region * 255).astype(np.uint8))
        thick = np.asarray(mask.filter(ImageFilter.MaxFilter(7))) > 0
        thin = np.asarray(mask.filter(ImageFilter.MaxFilter(5))) > 0
        picture[thick & ~region] = (10, 14, 20)
        picture[thin & ~region] = OUTLINE
    return np.round(picture).astype(np.uint8)


def heat_colours(heat: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A heatmap (h, w) in [0, 1] -> its colours (h, w, 3) in 0..255 and their opacity (h, w) in [0, 0.78]."""
    return matplotlib.colormaps["inferno"](0.25 + 0.75 * heat)[:, :, :3] * 255, 0.78 * np.clip(heat, 0, 1) ** 0.8


def flag_words(flag: str) -> str:
    """What the page says of a map that means nothing."""
    return {"constant": "constant: no map", "label-invariant": "the same for every label"}.get(flag, flag)


def jpeg_uri(picture: npt.NDArray[np.uint8]) -> str:
    """Grey (h, w) or RGB (h, w, 3) as a data URI."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=86, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _example(run: RunContents, entry: dict[str, Any], cards: Mapping[Key, TrustVerdict]) -> Example:
    image_id, label = str(entry.get("image_id", "")), str(entry.get("label", ""))
    film = _grey(run, entry.get("image"))
    size = _shown(film)
    plain = np.asarray(film.resize(size, Image.Resampling.LANCZOS)) if film else np.zeros((SIDE, SIDE), np.uint8)
    region = _region(run, entry.get("region"), size)
    maps, scores, flags = section(entry, "maps"), section(entry, "scores"), section(entry, "flags")
    settings = [s for s in run.settings if s in maps] + [s for s in maps if s not in run.settings]
    drawn = tuple(dict.fromkeys(name for s in settings for name in section(maps, s)))
    methods = str(run.examples.get("method") or "").split(_BETWEEN)
    kinds = {name: _kind(name, methods) for name in drawn}
    shown = _chosen(drawn, kinds)
    words = {name: map_words("" if len(methods) == 1 and at != NO_LAYER else m, at) for name, (m, at) in kinds.items()}
    rows = []
    for setting in settings:
        panels = []
        for name in shown:
            heat = _heat(run, section(maps, setting).get(name), size)
            flag = str(section(flags, setting).get(name) or "")
            alt = f"{setting}, {words[name]}: heatmap for {label} on {image_id}"
            one = _panel(plain, heat, region, flag, section(section(scores, setting), name), alt)
            verdict = cards.get((setting, *kinds[name], label))
            panels.append(replace(one, name=words[name], verdict=verdict))
        probability = number(section(entry, "probabilities").get(setting))
        rows.append(PanelRow(setting, show(probability, "share") if probability == probability else "", tuple(panels)))
    outlined = "annotated region" if region is not None else "no region"
    alone = Panel(jpeg_uri(overlay(plain, None, region)), outlined, f"film {image_id} with the {label} region outlined")
    names = tuple(words[name] for name in shown)
    return Example(image_id, label, alone, names, tuple(rows), len(names) > _BESIDE, len(drawn) - len(shown))


def _kind(name: str, methods: Sequence[str]) -> tuple[str, str]:
    """Method and layer of a map: it is named by both where a study has several methods, else by its layer."""
    if len(methods) == 1:
        return methods[0], name
    for method in sorted(methods, key=len, reverse=True):
        if name == method:
            return method, NO_LAYER
        if name.startswith(f"{method} "):
            return method, name.removeprefix(f"{method} ")
    return name, NO_LAYER


def _chosen(names: Sequence[str], kinds: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """All of few maps; of many those of the first method, then the first layer of every other, then the rest."""
    seen: dict[str, int] = {}
    turn = {}
    for name in names:
        method = kinds[name][0]
        turn[name] = 0 if method == kinds[names[0]][0] else 1 + seen.get(method, 0)
        seen[method] = seen.get(method, 0) + 1
    kept = set(sorted(names, key=lambda name: turn[name])[:_MOST])
    return tuple(name for name in names if name in kept)


def _panel(
    film: npt.NDArray[np.uint8],
    heat: npt.NDArray[np.float64] | None,
    region: npt.NDArray[np.bool_] | None,
    flag: str,
    scores: dict[str, Any],
    alt: str,
) -> Panel:
    """A map with its scores; a flagged one is told as such, and its scores, which mean nothing, are left out."""
    if flag == "constant":
        return Panel("", flag_words(flag), alt, flagged=True)
    if heat is None:
        return Panel("", "", alt)
    told = flag_words(flag) or _scores(scores)
    return Panel(jpeg_uri(overlay(film, heat, region)), told, alt, flagged=bool(flag))


def _scores(values: dict[str, Any]) -> str:
    parts = []
    if number(values.get("lift")) == number(values.get("lift")):
        parts.append(f"lift {show(number(values['lift']), 'number')}")
    if number(values.get("iou")) == number(values.get("iou")):
        parts.append(f"IoU {show(number(values['iou']), 'number')}")
    hit = number(values.get("hit"))
    if hit == hit:
        parts.append("hit" if hit >= 1 else "miss" if hit <= 0 else f"hit {show(hit, 'number')}")
    return " · ".join(parts)


def _shown(film: Image.Image | None) -> tuple[int, int]:
    if film is None:
        return SIDE, SIDE
    scale = SIDE / max(film.size)
    return max(1, round(film.width * scale)), max(1, round(film.height * scale))


def _grey(run: RunContents, name: Any) -> Image.Image | None:
    path = _inside(run, name)
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith("I") or image.mode == "F":
                values = np.asarray(image, np.float64)
                span = float(np.ptp(values)) or 1.0
                return Image.fromarray(np.round((values - values.min()) / span * 255).astype(np.uint8))
            return image.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StoreError(f"{path} is not a readable image; run the study again to write it anew.") from error


def _region(run: RunContents, name: Any, size: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    mask = _grey(run, name)
    if mask is None:
        return None
    shown = np.asarray(mask.resize(size, Image.Resampling.NEAREST)) > 0
    return shown if shown.any() else None


def _heat(run: RunContents, name: Any, size: tuple[int, int]) -> npt.NDArray[np.float64] | None:
    image = _grey(run, name)
    if image is None:
        return None
    values = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float64)
    top = float(values.max())
    return values / top if top > 0 else values


def _inside(run: RunContents, name: Any) -> Path | None:
    """A file under saliency/; None when it is not named or not there. Never a file outside the run folder."""
    if not isinstance(name, str) or not name:
        return None
    path = (run.folder / "saliency" / name).resolve()
    if not path.is_relative_to(run.folder.resolve()):
        raise StoreError(f"saliency/examples.json names {name!r}, which lies outside the run folder; mend that path.")
    return path if path.is_file() else None
