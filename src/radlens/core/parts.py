"""What each kind of part must be. A part's options are its pydantic fields; unknown ones are refused.

| kind | registered | contract |
|---|---|---|
| datasets | a class | `Dataset` |
| labelers | a class | `Labeler` |
| loaders | a class | `Loader` |
| settings | a class | `Setting` |
| metrics | a function, `@register` above `@defined(...)` | `Metric` |
| saliency | a function | `SaliencyMethod` |
| formats | a class | `AnnotationFormat` |
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from radlens.core.cohort import Cohort, Uncertain
from radlens.core.errors import RadlensError
from radlens.core.metric import Definition as Definition
from radlens.core.metric import Metric as Metric
from radlens.core.metric import MetricInput as MetricInput
from radlens.core.metric import defined as defined
from radlens.core.regions import Annotations
from radlens.core.reports import LabelledReports, Reports, Unmentioned, reports_of
from radlens.core.saliency import Needs as Needs
from radlens.core.saliency import Quantity as Quantity
from radlens.core.saliency import SaliencyMethod as SaliencyMethod
from radlens.core.saliency import needs as needs
from radlens.core.saliency import needs_of as needs_of
from radlens.core.store import Progress as Progress
from radlens.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radlens.core.classifier import Classifier, Encoder

Floats = npt.NDArray[np.float32]


def unheard(done: int, total: int) -> None:
    """Progress that nobody listens to."""


def unheard_line(line: str) -> None:
    """A line that nobody reads."""


class Part(BaseModel, abc.ABC):
    """Base of every part with options: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dataset(Part):
    """A source of images with labels. One file in `data/`; options are the keys beside `dataset:` in a study."""

    vocabulary: str = "chexpert-14"
    default_labeler: ClassVar[str | None] = None
    """The labeler of a data set whose labels are in its reports, used where a study names none."""

    @abc.abstractmethod
    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read the cohort. `folder`: what relative paths start from. `work`: a cache folder for images that are made.

        Raises `DataError` naming file, row and value. Images are not decoded here.
        """

    def annotations(self, cohort: Cohort, image_ids: Collection[str]) -> Annotations | None:
        """Regions that come with the data set, for these images; None where it has none."""
        return None

    def reports(self, cohort: Cohort) -> Reports:
        """What a labeler reads. Raises `DataError` where the cohort has no reports."""
        return reports_of(cohort)


class Labeler(Part):
    """From reports to labels. One file in `labels/`; options are the keys beside its name.

    uncertain: what -1 becomes in a cohort. unmentioned: what a label becomes in a cohort that an assessed report does
    not mention. (`radlens label` writes both as they are.)
    """

    vocabulary: str = "chexpert-14"
    uncertain: Uncertain = "ignore"
    unmentioned: Unmentioned = "negative"

    @abc.abstractmethod
    def label(self, reports: Reports, folder: Path, work: Path, progress: Progress = unheard) -> LabelledReports:
        """Label every report. `folder`: what relative paths of options start from. `work`: a cache folder.

        Raises `DataError` for reports it cannot use, `SpecError` for an option, `ModelError` for weights.
        """

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Files that the labels depend on beside the reports (weights, phrases): they are part of the cache's key."""
        return ()


class ImageSource(Protocol):
    """Images of one split, decoded when asked for; may be sent to another process."""

    @property
    def image_ids(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> npt.NDArray[np.uint8]:
        """uint8 (H, W) or (H, W, 3) of one image, in its original size. Raises `ImageError`."""
        ...


@dataclass(frozen=True)
class TrainingPlace:
    """Where and how a setting that trains an encoder runs.

    folder: its own, for checkpoints and logs; what stands in it is of the same task. device: cpu, cuda, mps or auto.
    devices: processes of this machine or group that train together. workers: that decode images.
    """

    folder: Path
    device: str = "auto"
    devices: int = 1
    workers: int = 2


@dataclass(frozen=True)
class AdaptationTask:
    """All that a setting may learn from. Test images are not in it.

    embeddings: split -> float32 (N, D). targets: split -> float32 (N, L) with NaN for null. Splits: train, val.
    encode_texts: sentences -> float32 (T, D) un-normalised, cached. encoder: for settings that change it; shared, so
    that only a copy (`with_image_tensors({})`) may be trained. images: split -> its images, in the order of embeddings.
    trunk: makes what `embeddings` is for features before the encoder's projection. tell: prints one line.
    """

    vocabulary: Vocabulary
    embeddings: Mapping[str, Floats]
    targets: Mapping[str, Floats]
    encode_texts: Callable[[Sequence[str]], Floats]
    logit_scale: float
    seed: int
    progress: Progress
    encoder: Encoder | None = None
    images: Mapping[str, ImageSource] = field(default_factory=dict)
    trunk: Callable[[], Mapping[str, Floats]] | None = None
    place: TrainingPlace | None = None
    tell: Callable[[str], None] = unheard_line


class Setting(Part):
    """A way of turning an encoder into a classifier. One file in `adapt/`."""

    collective: ClassVar[bool] = False
    """Whether several processes share its training: then all of them call `fit` and end with equal classifiers."""
    batched: ClassVar[bool] = False
    """Whether several of its kind are fitted in one go; else each is written before the next begins."""

    @abc.abstractmethod
    def fit(self, task: AdaptationTask) -> Classifier:
        """Make the classifier; its card holds `train_seconds`, `trainable_parameters` and what else is to be told."""

    @classmethod
    def fit_together(cls, parts: Sequence[Self], tasks: Sequence[AdaptationTask]) -> list[Classifier | RadlensError]:
        """Fit several of its kind, each on its own task; the tasks differ in nothing but seed and progress.

        A part that fails has its error in its place. Called where `batched` says so.
        """
        return [part.fit(task) for part, task in zip(parts, tasks, strict=True)]


class AnnotationFormat(Part):
    """A file format of regions. One file in `explain/annotations/`; options stand beside `format:` in a study."""

    @abc.abstractmethod
    def read(self, path: Path, labels: Sequence[str], sizes: Mapping[str, tuple[int, int]]) -> Annotations:
        """Regions in pixels of the original images.

        sizes: image id -> (width, height) of the cohort's images. Regions of other images or labels are counted in
        `left_out`. Raises `DataError` naming file, row and value.
        """


class Loader(Part):
    """A family of models. One file in `models/`."""

    @abc.abstractmethod
    def load(self, card: Mapping[str, Any], location: Path, device: str) -> Encoder:
        """The encoder from a folder in the released layout, wholly offline. Raises `ModelError`."""
