"""The phantom data set: procedural chest radiographs of one site, rendered once into the cache."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image
from pydantic import Field, PrivateAttr, TypeAdapter, ValidationError, field_validator, model_validator

from radlens.core.cohort import Cohort, make_cohort
from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.regions import Annotations, Mask, Region
from radlens.core.registry import register
from radlens.core.store import fingerprint, source_digest, writing
from radlens.core.vocabulary import load_vocabulary
from radlens.data.phantom import (
    FINDINGS,
    SHIFTED,
    SOURCE,
    Phantom,
    Planted,
    Site,
    draw_case,
    is_planted,
    plant,
    render,
    render_many,
)

_SITES = {"source": SOURCE, "shifted": SHIFTED}

Pixels = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.bool_]


@register("datasets", "phantom")
class Phantoms(Dataset):
    """Procedural chest radiographs with known findings and exact masks, made by radlens itself.

    images: how many. site: `source` (what radlens-tiny was trained on) or `shifted` (another hospital). prevalence:
    finding -> share of patients, in place of the site's own for those that are named. parameters: further fields of a
    site in place of its own (noise, blur, gamma, marker, ...). size: edge in pixels.
    planted: a mark burnt into the films that tells a label: a mapping of `label`, `mark` (one to four capital letters,
    `arrow` or `disc`), `where` (one or several of top left, top, top right, left, right, bottom left, bottom, bottom
    right; one of them is drawn for each image), `extent` (share of the edge), `agreement` (share of the images in which
    mark and label agree) and `visible` (whether the finding itself is drawn).
    regions: what stands for the planted label where its mark is: `findings` (what was drawn of it: nothing unless
    visible), `marker` (the mark's plate) or `lungs` (both lungs). Other labels have their findings' masks.
    """

    images: int = Field(600, ge=1)
    seed: int = Field(0, ge=0)
    site: Literal["source", "shifted"] = "source"
    prevalence: dict[str, float] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    size: int = Field(256, ge=64, le=2048)
    planted: Planted | None = None
    regions: Literal["findings", "marker", "lungs"] = "findings"
    _index: dict[str, int] = PrivateAttr(default_factory=dict)

    @field_validator("vocabulary")
    @classmethod
    def _findings(cls, value: str) -> str:
        if value != "chexpert-14":
            raise ValueError("phantoms have the labels of chexpert-14")
        return value

    @model_validator(mode="after")
    def _regions_of_a_mark(self) -> Self:
        if self.planted is None and self.regions != "findings":
            raise ValueError(f"regions: {self.regions} needs a planted mark; name one under planted")
        return self

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Draw the cases and render those whose file is not in `work` yet."""
        site = self._site()
        marked = (self.planted.model_dump(),) if self.planted is not None else ()
        drawing = fingerprint(self.seed, asdict(site), self.size, source_digest("radlens.data.phantom"), *marked)
        images = work / "phantoms" / drawing
        cases = [draw_case(self.seed, index, site) for index in range(self.images)]
        paths = [images / f"{case.image_id}.png" for case in cases]
        there = {entry.name for entry in os.scandir(images)} if images.is_dir() else set()
        absent = [index for index, path in enumerate(paths) if path.name not in there]
        workers = min(os.cpu_count() or 1, len(absent) // 64 + 1)
        rendered = render_many(self.seed, absent, site, self.size, workers, self._suppressed())
        for done, (index, phantom) in enumerate(zip(absent, rendered, strict=True), 1):
            with writing(paths[index]) as aside:
                Image.fromarray(self._pixels(phantom)[0]).save(aside, format="PNG")
            progress(done, len(absent))
        self._index.update({case.image_id: index for index, case in enumerate(cases)})
        rows = [
            {
                "image_id": case.image_id,
                "path": str(path),
                "patient_id": case.patient_id,
                "study_id": case.study_id,
                "view": case.view,
                "report": case.report,
                "age": case.age,
                "sex": case.sex,
                "site": site.name,
            }
            | case.labels
            for case, path in zip(cases, paths, strict=True)
        ]
        vocabulary = load_vocabulary(self.vocabulary)
        exact = "exact: each finding was drawn"
        source = {
            "dataset": "phantom",
            "title": f"Procedural chest phantoms, site {site.name!r}, seed {self.seed}",
            "licence": "Apache-2.0, made by radlens",
            "labels": exact,
        }
        notes = ["The images are procedural phantoms, not patients: they show what the tables and pictures mean."]
        origins = dict.fromkeys(vocabulary.names, exact)
        if self.planted is not None:
            told = self.planted.sentence()
            source["planted"] = told
            notes.append(told)
            origins[self.planted.label] = f"{exact} or planted. {told}"
        return make_cohort(
            f"phantom-{self.site}", pl.DataFrame(rows), vocabulary, source=source, notes=notes, origins=origins
        )

    def annotations(self, cohort: Cohort, image_ids: Collection[str]) -> Annotations | None:
        """The exact mask of every finding that is drawn in these images; of a planted label, what `regions` says."""
        site = self._site()
        regions: list[Region] = []
        for image_id in image_ids:
            if image_id not in self._index:
                raise DataError(f"image {image_id!r} is not one of these phantoms.")
            phantom = render(self.seed, self._index[image_id], site, self.size, self._suppressed())
            masks = self._masks(phantom)
            regions.extend(Region(image_id, name, Mask.pack(m), "drawn") for name, m in masks.items() if m.any())
        source = "exact masks of the phantoms"
        if self.planted is not None and self.regions != "findings":
            source += f"; {self.planted.label}: the {self.regions}, where the mark is"
        return Annotations(tuple(regions), source)

    def _suppressed(self) -> frozenset[str]:
        if self.planted is None or self.planted.visible:
            return frozenset()
        return frozenset({self.planted.label})

    def _pixels(self, phantom: Phantom) -> tuple[Pixels, Bits]:
        """The film as it is shown, and where it is covered by a plate, both (size, size)."""
        planted = self.planted
        if planted is None or not is_planted(self.seed, phantom.index, bool(phantom.labels[planted.label]), planted):
            return phantom.pixels, np.zeros(phantom.pixels.shape, np.bool_)
        return plant(phantom.pixels, self.seed, phantom.index, planted)

    def _masks(self, phantom: Phantom) -> dict[str, Bits]:
        """Label -> the region (size, size) that stands for it; what lies under the plate cannot be seen."""
        plate = self._pixels(phantom)[1]
        masks = {name: mask & ~plate for name, mask in phantom.masks.items()}
        if self.planted is not None and self.regions != "findings":
            masks.pop(self.planted.label, None)
            if plate.any():
                masks[self.planted.label] = plate if self.regions == "marker" else phantom.lungs & ~plate
        return masks

    def _site(self) -> Site:
        site = _SITES[self.site]
        for name in self.prevalence:
            if name not in FINDINGS:
                raise SpecError(f"phantom prevalence: {unknown_name('finding', name, FINDINGS)}")
        known = [field.name for field in fields(Site)]
        for name in self.parameters:
            if name not in known:
                raise SpecError(f"phantom site {self.site!r}: {unknown_name('parameter', name, known)}")
        try:
            changed = TypeAdapter(Site).validate_python({**asdict(site), **self.parameters})
            return changed.with_prevalence(self.prevalence)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(step) for step in first["loc"]) or "parameters"
            raise SpecError(f"phantom site {self.site!r}: {key}: {first['msg']}.") from error
        except ValueError as error:
            raise SpecError(f"phantom site {self.site!r}: {error}") from error
