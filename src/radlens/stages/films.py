"""The images of a cohort by id, decoded when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.image_facts import ImageFacts
from radlens.data.images import read_image


class Films(Mapping[str, tuple[int, int]]):
    """Image id -> (width, height), remembered from an earlier decoding or found by one when asked for."""

    def __init__(self, cohort: Cohort, digests: Sequence[str | None], facts: ImageFacts) -> None:
        self._cohort = cohort
        self._facts = facts
        self._digests = dict(zip(cohort.table["image_id"], digests, strict=True))
        self._paths = dict(zip(cohort.table["image_id"], cohort.table["path"], strict=True))
        self._sizes: dict[str, tuple[int, int]] = {}
        groups = [str(group) for group in cohort.groups()]
        self.patients: dict[str, str] = dict(zip(self._paths, groups, strict=True))

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        pixels = read_image(Path(self._paths[image_id])).pixels
        self._sizes[image_id] = (pixels.shape[1], pixels.shape[0])
        return pixels

    def positives(self, image_ids: Sequence[str]) -> list[tuple[str, str]]:
        """One (image, label) an image: its rarest finding."""
        labels = [label for label in self._cohort.vocabulary.names if label != self._cohort.vocabulary.no_finding]
        table = self._cohort.table.select("image_id", *labels)
        rare = sorted(labels, key=lambda label: int(table[label].sum() or 0))
        rows = {row["image_id"]: row for row in table.filter(pl.col("image_id").is_in(list(image_ids))).to_dicts()}
        found = ((i, next((label for label in rare if rows[i][label] == 1), None)) for i in image_ids)
        return [(image_id, label) for image_id, label in found if label is not None]

    def __getitem__(self, image_id: str) -> tuple[int, int]:
        if image_id not in self._sizes:
            known = self._facts.size(self._digests[image_id])
            if known is None:
                self.pixels(image_id)
                digest = self._digests[image_id]
                if digest is not None:
                    self._facts.remember_size(digest, *self._sizes[image_id])
            else:
                self._sizes[image_id] = known
        return self._sizes[image_id]

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
