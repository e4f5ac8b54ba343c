"""`radlens explain`: saliency maps of a run's classifier, or of any sentence, for images that a user names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radlens.core.classifier import Classifier
from radlens.core.errors import DataError, ExplainError, ImageError
from radlens.core.parts import Progress
from radlens.core.regions import SaliencyMaps
from radlens.core.registry import parts
from radlens.data.decoded import DecodedImage
from radlens.data.images import read_images
from radlens.explain.drawing import Drawing, Method, methods_named
from radlens.explain.maps import LABEL_INVARIANT, saliency_maps
from radlens.explain.sentences import sentence_classifier
from radlens.explain.sites import resolve_sites
from radlens.explain_files import ExplainFiles
from radlens.explain_names import classifier_folder, image_names
from radlens.models.encode import encode_images
from radlens.predict import open_classifier
from radlens.progress import Teller
from radlens.report.explain_page import Column, PageFacts, ShownImage, ShownLabel, ShownMap, write_explain_page
from radlens.report.explain_verdicts import read_verdicts

_TOGETHER = 4
"""Images in memory at once."""
_MOST_PROBABLE = 3


@dataclass(frozen=True)
class Wanted:
    """What to explain, and by what.

    labels: names; none means those that the classifier calls positive, else its three most probable. texts: sentences.
    """

    labels: Sequence[str] = ()
    texts: Sequence[str] = ()
    methods: Sequence[str] = ("grad-cam",)
    layers: Sequence[int | str] = (-1, -3, -5)


def explain_images(folder: Path, images: Sequence[Path], wanted: Wanted, out: Path, tell: Teller) -> Path:
    """Write maps, overlays and `explain.html` into `out`; returns the page's path.

    folder: `classifiers/<setting>` of a run, or a run with a single one. All but the images' content is checked before
    anything is written; an image that cannot be decoded is named on the page and left out, and ends in a `DataError`
    when all others are done. Raises `ModelError` for a folder without classifier, `SpecError` for an unknown label or
    method, `ExplainError` for a layer or sentence that cannot be explained, `ImageError` where no image can be read.
    """
    named = image_names(images)
    job = _Explaining(classifier_folder(folder), wanted, out, named, tell)
    with tell.bar("films") as progress:
        page = write_explain_page(out / "explain.html", job.facts(), job.films(progress))
    job.finish()
    if job.failures:
        first = job.failures[0]
        raise DataError(
            f"{len(job.failures)} of {len(named)} images could not be explained, first {first.path}: "
            f"{first.reason.rstrip('.')}; all others are in {page}."
        )
    return page


@dataclass
class _Explaining:
    """One call: what is fixed for all its images, and what went wrong so far."""

    place: Path
    wanted: Wanted
    out: Path
    named: Mapping[str, Path]
    tell: Teller
    failures: list[ImageError] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.classifier, self.encoder, self.precision = open_classifier(self.place)
        vocabulary, never = self.classifier.vocabulary, self.classifier.card.get("not_estimable", [])
        self.labels = tuple(dict.fromkeys(self.wanted.labels))
        for label in self.labels:
            vocabulary.index(label)
            if label in never:
                raise ExplainError(f"label {label!r} was never assessed in training: it has no score to explain.")
        self.assessed = [name for name in vocabulary.names if name not in never]
        self.methods = methods_named(tuple(dict.fromkeys(self.wanted.methods)))
        self.sites = resolve_sites(self.encoder, self.wanted.layers)
        self.sentences = sentence_classifier(self.encoder, self.wanted.texts) if self.wanted.texts else None
        # refuses what the tower cannot serve before the first image is read
        Drawing(self.classifier, self.sites, self.methods)
        self.layers = [site.layer for site in self.sites]
        # a method without depth gives one map at all layers
        self.columns = [
            (at, depth, Column(method.name, layer if method.has_depth else ""))
            for at, method in enumerate(self.methods)
            for depth, layer in enumerate(self.layers if method.has_depth else self.layers[:1])
        ]
        place = self.place.resolve()
        self.verdicts = read_verdicts(place.parent.parent / "tables" / "trust_cards.csv", place.name)
        said = self.sentences.vocabulary.names if self.sentences is not None else ()
        columns, size = [column for _, _, column in self.columns], self.encoder.transform.size
        self.files = ExplainFiles.named(self.out, columns, size, self.named, [*self.assessed, *said])

    def facts(self) -> PageFacts:
        known, card = parts("saliency"), self.encoder.card
        return PageFacts(
            setting=self.classifier.setting,
            model=str(card.get("title") or card.get("name") or self.encoder.name),
            columns=tuple(column for _, _, column in self.columns),
            methods={method.name: known[method.name].summary for method in self.methods},
            input_size=self.encoder.transform.size,
            has_cards=self.verdicts is not None,
            images=len(self.named),
            notes=tuple(self._notes()),
            failures=self.unread,
        )

    def films(self, progress: Progress) -> Iterator[ShownImage]:
        """One film after another, its overlays written. Raises `ImageError` where none could be read."""
        done = 0
        for chunk in self._decoded():
            names = [name for name, _ in chunk]
            pixels = np.stack([self.encoder.transform(film.pixels) for _, film in chunk])
            probabilities, cosines = self._scores([film for _, film in chunk])
            maps = self._maps(self.classifier, pixels, names)
            spoken = None if self.sentences is None else self._maps(self.sentences, pixels, names)
            self.files.keep(maps, self.labels or self.assessed, spoken)
            for row, (name, film) in enumerate(chunk):
                labels = [self._label(maps, row, at, probabilities[row, at]) for at in self._chosen(probabilities[row])]
                if spoken is not None:
                    labels += [self._sentence(spoken, row, at, cosines[row, at]) for at in range(len(spoken.labels))]
                image = ShownImage(name, film.pixels, tuple(labels), film.note)
                self.files.write_overlays(image, self.named[name])
                done += 1
                progress(done, len(self.named))
                yield image
        if not done:
            raise self.failures[0]

    def finish(self) -> None:
        self.files.finish(
            {
                "setting": self.classifier.setting,
                "model": self.encoder.name,
                "encoder_fingerprint": self.encoder.fingerprint,
                "layers": {site.layer: site.name for site in self.sites},
                "not_explained": [{"image": image, "reason": reason} for image, reason in self.unread],
            }
        )

    def _decoded(self) -> Iterator[list[tuple[str, DecodedImage]]]:
        chunk: list[tuple[str, DecodedImage]] = []
        for name, film in zip(self.named, read_images(self.named.values()), strict=True):
            if isinstance(film, ImageError):
                self.failures.append(film)
                self.unread.append((name, film.reason))
                if len(self.named) > 1:
                    self.tell.warn(str(film))
                continue
            chunk.append((name, film))
            if len(chunk) == _TOGETHER:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _scores(self, films: Sequence[DecodedImage]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Probabilities (N, L) as `predict` gives them, and cosines (N, T) to the sentences."""
        pixels = {Path(str(row)): film.pixels for row, film in enumerate(films)}
        batches = encode_images(self.encoder, list(pixels), pixels.__getitem__, precision=self.precision, workers=1)
        embeddings = np.concatenate([batch.embeddings for batch in batches])
        cosines = np.zeros((len(films), 0))
        if self.sentences is not None:
            unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
            cosines = unit.astype(np.float64) @ self.sentences.head.weight.double().cpu().numpy().T
        return self.classifier.probabilities(embeddings), cosines

    def _maps(self, classifier: Classifier, pixels: npt.NDArray[np.float32], names: Sequence[str]) -> SaliencyMaps:
        methods = [method.name for method in self.methods]
        # every label is drawn, whichever is shown: only so is it known whether a map is the same for all of them
        return saliency_maps(classifier, [pixels], names, methods, self.layers, batch_size=_TOGETHER)

    def _chosen(self, probabilities: npt.NDArray[np.float64]) -> list[int]:
        """Columns of the labels to show of one film."""
        index, limits = self.classifier.vocabulary.index, self.classifier.thresholds
        if self.labels:
            return [index(name) for name in self.labels]
        known = [index(name) for name in self.assessed]
        positive = [at for at in known if limits is not None and probabilities[at] >= limits[at]]
        return positive or sorted(known, key=lambda at: -probabilities[at])[:_MOST_PROBABLE]

    def _label(self, maps: SaliencyMaps, row: int, at: int, probability: float) -> ShownLabel:
        limits, verdicts, name = self.classifier.thresholds, self.verdicts or {}, maps.labels[at]
        shown = []
        for method, depth, column in self.columns:
            asked = self.layers if not column.layer else [column.layer]
            verdict = next((found for layer in asked if (found := verdicts.get((column.method, layer, name)))), None)
            shown.append(
                ShownMap(maps.maps[row, at, method, depth], self._flag(maps, (row, at, method, depth)), verdict)
            )
        return ShownLabel(name, tuple(shown), float(probability), None if limits is None else float(limits[at]))

    def _sentence(self, maps: SaliencyMaps, row: int, at: int, cosine: float) -> ShownLabel:
        shown = [
            ShownMap(maps.maps[row, at, method, depth], self._flag(maps, (row, at, method, depth)))
            for method, depth, _ in self.columns
        ]
        return ShownLabel(maps.labels[at], tuple(shown), cosine=float(cosine))

    def _flag(self, maps: SaliencyMaps, at: tuple[int, int, int, int]) -> str:
        # a single sentence has nothing to be compared with, but some methods never look at the label
        return maps.flags.get(at) or (LABEL_INVARIANT if _ignores_labels(self.methods[at[2]]) else "")

    def _notes(self) -> Iterator[str]:
        if not self.labels:
            yield "Labels: those that the classifier calls positive by its thresholds, else its three most probable."
        if self.sentences is None:
            return
        yield (
            "A sentence is compared with the film by the model's own text tower (zero-shot); its map shows what raised "
            "their cosine. Sentences have much in common, so look at the map of an unrelated one too."
        )
        if self.classifier.image_tensors:
            yield (
                f"{self.classifier.setting} changed the image tower and not the text tower: sentences are read by the "
                "text tower of the model it comes from, which the changed image tower may no longer match."
            )


def _ignores_labels(method: Method) -> bool:
    return not method.of_a_label and method.needs.over != "classifier"
