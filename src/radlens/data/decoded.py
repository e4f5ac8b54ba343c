"""What a decoder hands over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class DecodedImage:
    """pixels: uint8 (H, W) or (H, W, 3). note: what was done to the values (a window, an inversion), or None."""

    pixels: npt.NDArray[np.uint8]
    note: str | None = None
