"""What is put to a check: (image id, label) pairs, label by label and all together, and their images."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radlens.core.errors import ExplainError, unknown_name

Target = tuple[str, str]
"""(image id, label)."""
ALL = "all"
"""The label of rows that take all targets together, each with the same weight."""


def rows_of_labels(labels: Sequence[str]) -> dict[str, list[int]]:
    """Labels of image-label pairs (N,) -> label -> its rows, then `ALL` -> every row; empty for none."""
    found: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        found.setdefault(label, []).append(row)
    return found | ({ALL: list(range(len(labels)))} if labels else {})


def check_targets(targets: Sequence[Target], image_ids: Collection[str], labels: Collection[str]) -> None:
    """Refuse, with `ExplainError`, an unknown image or label, or a target given twice."""
    images, seen = set(image_ids), set()
    for image_id, label in targets:
        if image_id not in images:
            raise ExplainError(f"image {image_id!r}, whose {label!r} is to be tested, is not among those given.")
        if label not in labels:
            raise ExplainError(f"image {image_id!r}: {unknown_name('label', label, labels)}")
        if (image_id, label) in seen:
            raise ExplainError(f"label {label!r} of image {image_id!r} is to be tested twice; give it once.")
        seen.add((image_id, label))


def images_of(
    pixels: Iterable[Tensor | npt.NDArray[np.float32]], image_ids: Sequence[str]
) -> Iterator[tuple[str, Tensor]]:
    """Batches (b, 3, H, W) as single images (3, H, W) with their ids; `ValueError` where the two do not fit."""
    done = 0
    for batch in pixels:
        for image in torch.as_tensor(batch):
            if done == len(image_ids):
                raise ValueError(f"more images than the {len(image_ids)} image ids.")
            yield image_ids[done], image
            done += 1
    if done != len(image_ids):
        raise ValueError(f"{len(image_ids)} image ids, but pixels of {done} images.")
