"""The phantom data set: procedural chest radiographs of one site, rendered once into the cache."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import polars as pl
from PIL import Image
from pydantic import Field, PrivateAttr, TypeAdapter, ValidationError, field_validator

from radlens.core.cohort import Cohort, make_cohort
from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.regions import Annotations, Mask, Region
from radlens.core.registry import register
from radlens.core.store import fingerprint, source_digest, writing
from radlens.core.vocabulary import load_vocabulary
from radlens.data.phantom import FINDINGS, SHIFTED, SOURCE, Site, draw_case, render, render_many

_SITES = {"source": SOURCE, "shifted": SHIFTED}


@register("datasets", "phantom")
class Phantoms(Dataset):
    """Procedural chest radiographs with known findings and exact masks, made by radlens itself.

    images: how many. site: `source` (what radlens-tiny was trained on) or `shifted` (another hospital). prevalence:
    finding -> share of patients, in place of the site's own for those that are named. parameters: further fields of a
    site in place of its own (noise, blur, gamma, marker, ...). size: edge in pixels.
    """

    images: int = Field(600, ge=1)
    seed: int = Field(0, ge=0)
    site: Literal["source", "shifted"] = "source"
    prevalence: dict[str, float] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    size: int = Field(256, ge=64, le=2048)
    _index: dict[str, int] = PrivateAttr(default_factory=dict)

    @field_validator("vocabulary")
    @classmethod
    def _findings(cls, value: str) -> str:
        if value != "chexpert-14":
            raise ValueError("phantoms have the labels of chexpert-14")
        return value

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Draw the cases and render those whose file is not in `work` yet."""
        site = self._site()
        drawing = fingerprint(self.seed, asdict(site), self.size, source_digest("radlens.data.phantom"))
        images = work / "phantoms" / drawing
        cases = [draw_case(self.seed, index, site) for index in range(self.images)]
        paths = [images / f"{case.image_id}.png" for case in cases]
        there = {entry.name for entry in os.scandir(images)} if images.is_dir() else set()
        absent = [index for index, path in enumerate(paths) if path.name not in there]
        workers = min(os.cpu_count() or 1, len(absent) // 64 + 1)
        rendered = render_many(self.seed, absent, site, self.size, workers)
        for done, (index, phantom) in enumerate(zip(absent, rendered, strict=True), 1):
            with writing(paths[index]) as aside:
                Image.fromarray(phantom.pixels).save(aside, format="PNG")
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
        source = {
            "dataset": "phantom",
            "title": f"Procedural chest phantoms, site {site.name!r}, seed {self.seed}",
            "licence": "Apache-2.0, made by radlens",
            "labels": "exact: each finding was drawn",
        }
        notes = ["The images are procedural phantoms, not patients: they show what the tables and pictures mean."]
        vocabulary = load_vocabulary(self.vocabulary)
        return make_cohort(
            f"phantom-{self.site}",
            pl.DataFrame(rows),
            vocabulary,
            source=source,
            notes=notes,
            origins=dict.fromkeys(vocabulary.names, "exact: each finding was drawn"),
        )

    def annotations(self, cohort: Cohort, image_ids: Collection[str]) -> Annotations | None:
        """The exact mask of every finding that is drawn in these images."""
        site = self._site()
        regions: list[Region] = []
        for image_id in image_ids:
            if image_id not in self._index:
                raise DataError(f"image {image_id!r} is not one of these phantoms.")
            masks = render(self.seed, self._index[image_id], site, self.size).masks
            regions.extend(Region(image_id, name, Mask.pack(m), "drawn") for name, m in masks.items() if m.any())
        return Annotations(tuple(regions), "exact masks of the phantoms")

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
