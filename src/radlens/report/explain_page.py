"""One page for films that were explained: each beside its maps, with what is known of their trust. Opens offline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from radlens.core.store import writing
from radlens.report.columns import show
from radlens.report.explain_pictures import shown_film
from radlens.report.explain_verdicts import Verdict
from radlens.report.overlays import SIDE, Panel, flag_words, jpeg_uri

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Column:
    """A method at a layer: `layer` is what the user asked for, empty for a method without depth."""

    method: str
    layer: str

    @property
    def title(self) -> str:
        return f"{self.method}, layer {self.layer}" if self.layer else self.method


@dataclass(frozen=True)
class ShownMap:
    """grid: (h, w) on the patch grid, whatever its flag; flag: what makes it meaningless, or empty."""

    grid: npt.NDArray[np.floating]
    flag: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True)
class ShownLabel:
    """A label or a sentence of one film, with a map a column.

    probability in [0, 1] and the threshold from which it is called positive, where there are such; cosine in [-1, 1]
    for a sentence, which has neither.
    """

    name: str
    maps: tuple[ShownMap, ...]
    probability: float | None = None
    threshold: float | None = None
    cosine: float | None = None


@dataclass(frozen=True)
class ShownImage:
    """A decoded film, uint8 (H, W) or (H, W, 3), and its labels. note: what decoding did to the values, if anything."""

    name: str
    pixels: npt.NDArray[np.uint8]
    labels: tuple[ShownLabel, ...]
    note: str | None = None


@dataclass(frozen=True)
class PageFacts:
    """What holds for all films of a page.

    methods: name -> summary, in order. has_cards: whether the run beside the classifier has a trust card. input_size:
    side of the model's square input. notes: further sentences about how to read the page. failures: (file, reason) of
    what could not be read, complete when the last image has been taken.
    """

    setting: str
    model: str
    columns: tuple[Column, ...]
    methods: dict[str, str]
    input_size: int
    has_cards: bool
    images: int
    notes: tuple[str, ...] = ()
    failures: Sequence[tuple[str, str]] = field(default_factory=list)


def write_explain_page(path: Path, facts: PageFacts, images: Iterable[ShownImage]) -> Path:
    """Write the page, whole or not at all, holding one image at a time. All text is escaped: a name may be anything."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (_TEMPLATES / "report.css").read_text("utf-8")
    films = _films(facts, images)
    with writing(path) as aside, aside.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(environment.get_template("explain.html").generate(css=css, facts=facts, films=films))
    return path


@dataclass(frozen=True)
class _Row:
    name: str
    sentence: bool
    score: str
    call: str
    panels: tuple[Panel, ...]
    reasons: tuple[tuple[str, Verdict], ...]


@dataclass(frozen=True)
class _FilmOfPage:
    name: str
    size: str
    note: str | None
    cropped: bool
    film: Panel
    rows: tuple[_Row, ...]


def _films(facts: PageFacts, images: Iterable[ShownImage]) -> Iterator[_FilmOfPage]:
    for image in images:
        film = shown_film(image.pixels, facts.input_size, SIDE)
        rows = []
        for label in image.labels:
            panels = []
            for column, drawn in zip(facts.columns, label.maps, strict=True):
                alt = f"{column.title}: map for {label.name} on {image.name}"
                if drawn.flag:
                    panels.append(Panel("", flag_words(drawn.flag), alt, flagged=True))
                    continue
                caption = f"trust: {drawn.verdict.verdict}" if drawn.verdict else ""
                panels.append(Panel(jpeg_uri(film.picture(film.heat(drawn.grid))), caption, alt))
            known = zip(facts.columns, label.maps, strict=True)
            reasons = tuple((column.title, drawn.verdict) for column, drawn in known if drawn.verdict)
            rows.append(_Row(label.name, label.cosine is not None, *_told(label), tuple(panels), reasons))
        height, width = image.pixels.shape[:2]
        alone = Panel(jpeg_uri(film.picture(None)), "", f"film {image.name}")
        size = f"{width} × {height} pixels"
        yield _FilmOfPage(image.name, size, image.note, film.seen is not None, alone, tuple(rows))


def _told(label: ShownLabel) -> tuple[str, str]:
    """What a label scored, and what that is called."""
    if label.cosine is not None:
        return f"cosine {show(label.cosine, 'share')}", "a sentence has no threshold"
    if label.probability is None:
        return "", ""
    score = f"probability {show(label.probability, 'share')}"
    if label.threshold is None:
        return score, "no threshold was chosen"
    called = "positive" if label.probability >= label.threshold else "negative"
    return score, f"threshold {show(label.threshold, 'share')}: called {called}"
