"""What every annotation format shares: names of labels, checks of shapes against images, and counts of what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from radlens.core.errors import DataError, unknown_name
from radlens.core.parts import AnnotationFormat
from radlens.core.regions import Annotations, Mask, Region, Shape
from radlens.explain.annotations.frames import Frame, frame_of, place
from radlens.explain.annotations.image_names import ImageNames

Sizes = Mapping[str, tuple[int, int]]


class LabelledFormat(AnnotationFormat):
    """A format whose names of findings may be mapped to labels.

    labels: the file's name -> one or several labels of the vocabulary ([]: none); names not mapped must match exactly.
    """

    labels: dict[str, str | list[str]] = Field(default_factory=dict)


class SizedFormat(LabelledFormat):
    """A format that states the size of the images that were annotated.

    rescale: scale the regions where the cohort's images are resized copies of those; else another size is refused.
    """

    rescale: bool = False


class ProjectFormat(SizedFormat):
    """A format of an annotation tool, whose file lists the images that were looked at.

    complete: a reader looked in each listed image for every finding that the file names, so that one without a region
    is absent; say false where regions were drawn for some findings only.
    """

    complete: bool = True


class Collector:
    """Gathers the regions of one source for the images and labels of a study."""

    def __init__(
        self,
        source: Path,
        labels: Sequence[str],
        sizes: Sizes,
        mapped: Mapping[str, str | list[str]],
        *,
        usual: Mapping[str, Sequence[str]] | None = None,
        rescale: bool = False,
        drawn_at: tuple[int, int] | None = None,
    ) -> None:
        """mapped: the option `labels`. usual: names of a published source that need no option -> labels."""
        self.source = source
        self.left_out: Counter[str] = Counter()
        self._labels, self._sizes, self._rescale, self._drawn_at = labels, sizes, rescale, drawn_at
        self._targets = _targets(source, labels, mapped, usual or {})
        self._names = ImageNames(sizes)
        self._regions: list[Region] = []
        self._named: dict[str, None] = {}
        self._looks: dict[tuple[str, str], set[str]] = {}
        self._whole_looks: dict[tuple[str, str], None] = {}
        self._unknown: dict[str, None] = {}
        self._stated: dict[str, tuple[tuple[int, int], str]] = {}

    def image(self, name: str, where: str, entries: int = 1, otherwise: str | None = None) -> str | None:
        """The image id of a name in the source, or of another name where the cohort has none of the first.

        None, with the entries that the source has for it counted, where neither is of the cohort.
        """
        image_id = self._names.find(name, where)
        if image_id is None and otherwise is not None:
            image_id = self._names.find(otherwise, where)
        if image_id is None:
            self._unknown[name] = None
            if entries:
                self.left_out["image not in the cohort"] += entries
        return image_id

    def declare(self, names: Iterable[str]) -> None:
        """Names of findings that the source's readers looked for, whether or not they found any."""
        self._named.update(dict.fromkeys(names))

    def targets(self, name: str) -> tuple[str, ...]:
        """Labels of a finding's name; empty, and counted, where it has none."""
        self.declare([name])
        found = self._targets.get(name, ())
        if not found:
            self.left_out[f"label {name!r} not in the vocabulary"] += 1
        return found

    def frame(self, where: str, image_id: str, stated: tuple[int, int] | None = None, advice: str = "") -> Frame:
        """How coordinates become pixels of an image. stated: (width, height) that the source gives for it.

        advice: what to do where a region does not fit, in place of the usual.

        Raises `DataError` where that is another size than the image's, or than the source gives elsewhere.
        """
        if stated is not None:
            earlier, at = self._stated.setdefault(image_id, (stated, where))
            if earlier != stated:
                raise DataError(
                    f"{where}: image {image_id} is {stated[0]}x{stated[1]} here but {earlier[0]}x{earlier[1]} in {at}; "
                    "regions of one image must be drawn on one size."
                )
        frame = frame_of(where, image_id, self._sizes[image_id], stated, self._drawn_at, rescale=self._rescale)
        return replace(frame, advice=advice) if advice else frame

    def add(self, where: str, image_id: str, targets: Sequence[str], shape: Shape, reader: str, frame: Frame) -> None:
        """A region of every target; an empty mask says that they were looked for and not found.

        Raises `DataError` for a region outside its image or without an area.
        """
        placed = place(where, image_id, shape, frame)
        self.looked(image_id, reader, targets)
        if isinstance(placed, Mask) and not any(placed.bits):
            return
        self._regions.extend(Region(image_id, target, placed, reader) for target in targets)

    def looked(self, image_id: str, reader: str, labels: Iterable[str] | None = None) -> None:
        """A reader looked for labels in an image; None: for all that the source names."""
        if labels is None:
            self._whole_looks[image_id, reader] = None
        else:
            self._looks.setdefault((image_id, reader), set()).update(labels)

    def annotations(self, noun: str, advice: str) -> Annotations:
        """All of it. Raises `DataError` with the counts and the advice where nothing belongs to the study."""
        every = frozenset(label for name in self._named for label in self._targets.get(name, ()))
        examined = {look: every | self._looks.get(look, frozenset()) for look in self._whole_looks if every}
        examined |= {look: frozenset(labels) for look, labels in self._looks.items() if look not in examined}
        if not self._regions and not examined:
            reasons = "; ".join(f"{why}: {count}" for why, count in self.left_out.most_common(3)) or "it has no entries"
            raise DataError(
                f"{self.source} holds no {noun} for this cohort ({reasons}); {advice}, or map the file's labels with "
                f"labels: {{file label: {self._labels[0] if self._labels else 'label'}}}."
            )
        return Annotations(tuple(self._regions), str(self.source), dict(self.left_out), examined, tuple(self._unknown))


def _targets(
    source: Path, labels: Sequence[str], mapped: Mapping[str, str | list[str]], usual: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    targets = {name: tuple(label for label in given if label in labels) for name, given in usual.items()}
    targets |= {label: (label,) for label in labels}
    for name, target in mapped.items():
        names = (target,) if isinstance(target, str) else tuple(target)
        for label in names:
            if label not in labels:
                raise DataError(f"labels: of {source}: {name!r} -> " + unknown_name("label", label, labels))
        targets[name] = names
    return targets
