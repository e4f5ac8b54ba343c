"""What `radlens explain` leaves behind beside its page: overlays, the maps on the patch grid, and what is what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from radlens.core.regions import Geometry, SaliencyMaps
from radlens.core.store import write_json
from radlens.explain.maps import save_maps
from radlens.explain_names import file_names
from radlens.report.columns import show
from radlens.report.explain_page import Column, ShownImage, ShownLabel
from radlens.report.explain_pictures import SIDE, Film, shown_film, write_overlay

UNTRUSTED = "No trust has been measured for this film. Research use only."
_MAPS = (
    "maps.safetensors: float16 (images, labels, methods, layers, rows, columns), each map divided by its own maximum; "
    "the names of its axes, and what makes a map meaningless, are in its header"
)


@dataclass
class ExplainFiles:
    """Writes overlays image by image; keeps the grids, a few hundred bytes a map, until `finish`."""

    out: Path
    columns: Sequence[Column]
    input_size: int
    stems: Mapping[str, str]
    words: Mapping[str, str]
    _grids: list[SaliencyMaps] = field(default_factory=list)
    _records: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def named(
        cls, out: Path, columns: Sequence[Column], input_size: int, images: Iterable[str], labels: Iterable[str]
    ) -> ExplainFiles:
        """With names of files for images and labels (or sentences) that cannot meet."""
        stems = file_names({image: Path(image).stem for image in images})
        return cls(out, columns, input_size, stems, file_names({label: label for label in labels}))

    def keep(self, maps: SaliencyMaps, labels: Sequence[str], spoken: SaliencyMaps | None) -> None:
        """The grids of these labels, and behind them those of sentences, marked as such."""
        at = [maps.labels.index(label) for label in labels]
        flags = {(i, at.index(k), m, n): why for (i, k, m, n), why in maps.flags.items() if k in at}
        names, values = tuple(labels), maps.maps[:, at]
        if spoken is not None:
            flags |= {(i, len(at) + k, m, n): why for (i, k, m, n), why in spoken.flags.items()}
            names = (*names, *(f"text: {sentence}" for sentence in spoken.labels))
            values = np.concatenate([values, spoken.maps], axis=1)
        self._grids.append(SaliencyMaps(maps.image_ids, names, maps.methods, maps.layers, values, flags))

    def write_overlays(self, image: ShownImage, source: Path) -> None:
        """`overlays/<image>__<label>__<method>__<layer>.png` and `.svg`, none for a map that means nothing."""
        film = shown_film(image.pixels, self.input_size, SIDE)
        height, width = image.pixels.shape[:2]
        self._records.append(
            {
                "image": image.name,
                "file": str(source),
                "width": width,
                "height": height,
                "seen_by_the_model": Geometry(width, height, self.input_size).visible(),
                "decoding": image.note,
                "labels": [self._label(image.name, film, label) for label in image.labels],
            }
        )

    def finish(self, facts: Mapping[str, Any]) -> None:
        """`maps.safetensors` and `maps.json`; the latter begins with `facts`."""
        first = self._grids[0]
        ids = tuple(image for one in self._grids for image in one.image_ids)
        flags: dict[tuple[int, int, int, int], str] = {}
        start = 0
        for one in self._grids:
            flags |= {(start + i, k, m, n): why for (i, k, m, n), why in one.flags.items()}
            start += len(one.image_ids)
        values = np.concatenate([one.maps for one in self._grids])
        save_maps(self.out, "maps", SaliencyMaps(ids, first.labels, first.methods, first.layers, values, flags))
        told = {"warning": UNTRUSTED, **facts, "maps": _MAPS, "labels_of_maps": first.labels, "images": self._records}
        write_json(self.out / "maps.json", told)

    def _label(self, image: str, film: Film, label: ShownLabel) -> dict[str, Any]:
        return {
            "name": label.name,
            "kind": "label" if label.cosine is None else "sentence",
            "probability": label.probability,
            "threshold": label.threshold,
            "cosine": label.cosine,
            "maps": [self._map(image, film, label, at) for at in range(len(self.columns))],
        }

    def _map(self, image: str, film: Film, label: ShownLabel, at: int) -> dict[str, Any]:
        column, drawn = self.columns[at], label.maps[at]
        record: dict[str, Any] = {"method": column.method, "layer": column.layer or None, "flag": drawn.flag or None}
        if drawn.verdict is not None:
            record |= {"verdict": drawn.verdict.verdict, "reason": drawn.verdict.reason}
        if drawn.flag:
            return record
        parts = (self.stems[image], self.words[label.name], column.method, column.layer or "all")
        path = self.out / "overlays" / "__".join(parts)
        png, svg = write_overlay(path, film, drawn.grid, _legend(image, column, label, at))
        return record | {"png": f"overlays/{png.name}", "svg": f"overlays/{svg.name}"}


def _legend(image: str, column: Column, label: ShownLabel, at: int) -> list[str]:
    if label.cosine is not None:
        said, score = f"“{label.name}”", f"cosine {show(label.cosine, 'share')}"
    else:
        said, score = label.name, f"probability {show(label.probability or 0.0, 'share')}"
        if label.threshold is not None:
            score += f", threshold {show(label.threshold, 'share')}"
    verdict = label.maps[at].verdict
    trust = [] if verdict is None else [f"Trust on the run's own test films: {verdict.verdict}."]
    return [f"{said} · {image}", f"{column.title} · {score}", *trust, UNTRUSTED]
