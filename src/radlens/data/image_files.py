"""Images of a split as files that are decoded when asked for; may be sent to another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radlens.data.images import read_image


@dataclass(frozen=True)
class ImageFiles:
    """An `ImageSource` over files: `paths[i]` is the file of `image_ids[i]`."""

    image_ids: Sequence[str]
    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> npt.NDArray[np.uint8]:
        """uint8 (H, W) or (H, W, 3) in its original size. Raises `ImageError`."""
        return read_image(Path(self.paths[row])).pixels
