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
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from radlens.core.cohort import Cohort, Uncertain
from radlens.core.regions import Annotations
from radlens.core.reports import LabelledReports, Reports, Unmentioned, reports_of
from radlens.core.store import Progress as Progress
from radlens.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

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

    @abc.abstractmethod
    def fit(self, task: AdaptationTask) -> Classifier:
        """Make the classifier; its card holds `train_seconds`, `trainable_parameters` and what else is to be told."""

    @classmethod
    def fit_together(cls, parts: Sequence[Self], tasks: Sequence[AdaptationTask]) -> list[Classifier]:
        """Fit several of its kind, each on its own task; the tasks differ in nothing but seed and progress."""
        return [part.fit(task) for part, task in zip(parts, tasks, strict=True)]


@dataclass(frozen=True)
class MetricInput:
    """What a metric may look at. scores float64 (N, L); targets float32 (N, L) 1/0/NaN; decisions int8 (N, L) 1/0."""

    scores: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float32]
    decisions: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Definition:
    """What a metric's number means.

    scope `overall`: one number for all labels together; `label`: one number a label, an array (L,).
    direction: which way is better (`none`: neither). bounds: least and greatest value.
    """

    scope: Literal["overall", "label"]
    direction: Literal["higher", "lower", "none"]
    bounds: tuple[float, float]
    text: str
    source: str


class Metric(Protocol):
    """A pure function with its definition; one or a few in a file of `evaluate/metrics/`. Undefined is NaN, never 0.

    Its column in the tables is its registered name with `-` as `_`.
    """

    definition: Definition

    def __call__(self, inputs: MetricInput) -> Any:
        """A float (scope `overall`) or float64 (L,) (scope `label`)."""
        ...


def defined(
    scope: Literal["overall", "label"],
    direction: Literal["higher", "lower", "none"],
    bounds: tuple[float, float],
    text: str,
    source: str,
) -> Callable[[Callable[[MetricInput], Any]], Metric]:
    """Attach a definition to a metric function; stands below `@register("metrics", NAME)`."""

    def attach(function: Callable[[MetricInput], Any]) -> Metric:
        function.definition = Definition(scope, direction, bounds, text, source)  # type: ignore[attr-defined]
        return function  # type: ignore[return-value]

    return attach


Quantity = Literal[
    "activations",
    "gradients",
    "attention",
    "attention_gradients",
    "queries",
    "keys",
    "values",
    "mixed_gradients",
    "readout_attention_gradients",
    "patch_logits",
    "prefix",
    "pixels",
    "pixel_gradients",
    "logits_of",
    "grid",
]
"""What shared passes can hand to a saliency method, by the name of the argument.

At a site: activations (B, P, C); gradients (B, P, C) of the label's logit there.
At the site's block, of H heads of width d; N tokens, `prefix` (int) of which stand before the patches, the class token
first; Q is N, or 1 (the class token) in a last block of which nothing else is read:
attention (B, H, Q, N), rows sum to 1; attention_gradients (B, H, Q, N), the label's logit by each weight; queries
(B, H, Q, d), keys and values (B, H, N, d); mixed_gradients (B, H, Q, d), the label's logit by attention x values;
readout_attention_gradients (B, H, 1, N), as attention_gradients of the class token's row, but of the logit that the
head gives to this block's own class token; patch_logits (B, P), the label's logit of every patch read as though it
were the class token, in this block every token attending to itself alone.
Of the image: pixels (B, 3, H, W) as the encoder's transform makes them; pixel_gradients (B, 3, H, W) of the label's
logit; logits_of, a differentiable function (b, 3, H, W) -> (b, L); grid (rows, columns).
"""


@dataclass(frozen=True)
class Needs:
    """What a saliency method is handed, and how often it is called.

    over `site`: once a label and site, gives (B, P). `blocks`: once a label; what belongs to a block comes as a
    sequence over the blocks from the lowest asked for to the last, and one map each is given, (blocks, B, P). `image`:
    once a label, gives (B, P) for all layers alike. `classifier`: once for all labels, gives (B, L, P).
    An unknown quantity, or one that a method is not called often enough for, raises `ValueError`.
    """

    quantities: tuple[Quantity, ...] = ("activations", "gradients")
    over: Literal["site", "blocks", "image", "classifier"] = "site"

    def __post_init__(self) -> None:
        of_a_site = {"activations", "gradients"}
        of_an_image = {"pixels", "logits_of", "grid", "prefix"}
        known: set[str] = set(get_args(Quantity))
        allowed = {"site": known, "blocks": known - of_a_site, "image": of_an_image | {"pixel_gradients"}}
        for quantity in self.quantities:
            if quantity not in allowed.get(self.over, of_an_image):
                raise ValueError(f"a saliency method over {self.over!r} cannot need {quantity!r}.")


class SaliencyMethod(Protocol):
    """From what a network leaves behind to maps: a pure function, one file in `explain/saliency/`.

    Its arguments are the quantities that it `needs`, by name; a function without `@needs` takes (activations,
    gradients). Maps are float, non-negative, finite; their unit is the method's own.
    """

    def __call__(self, *arguments: Any, **quantities: Any) -> Tensor:
        """Maps over the patches, of the shape that `Needs.over` says; by default (B, P)."""
        ...


def needs(
    *quantities: Quantity, over: Literal["site", "blocks", "image", "classifier"] = "site"
) -> Callable[[Callable[..., Tensor]], SaliencyMethod]:
    """Declare what a saliency method is handed; stands below `@register("saliency", NAME)`."""

    declared = Needs(quantities, over)

    def attach(function: Callable[..., Tensor]) -> SaliencyMethod:
        function.needs = declared  # type: ignore[attr-defined]
        return function

    return attach


def needs_of(method: SaliencyMethod) -> Needs:
    """What a method declared, or the default: activations and gradients at a site."""
    declared = getattr(method, "needs", None)
    return declared if isinstance(declared, Needs) else Needs()


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
