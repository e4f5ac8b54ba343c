"""The derivative of a training loss as a sigmoid and a few numbers, the same few for every loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SigmoidForm:
    """d loss / d z of an entry is factor * K(w), with w = sigmoid(slope * z + offset) the probability of what is wrong.

    Without a focus K(w) = w. With one, m = max(w - clip, 0) and

        K(w) = w (1 - w) m^(gamma - 1) (m / (1 - m) - gamma log(1 - m)),

    which is 0 where m is 0, and w - (1 - w) log(1 - w) * gamma times w^gamma where clip is 0.
    Row 0 of an array is for target 0 and row 1 for target 1, whose slope is negative: slope, offset and factor float64
    (2, L), gamma and clip (2,), both or neither.
    """

    slope: Doubles
    offset: Doubles
    factor: Doubles
    gamma: Doubles | None = None
    clip: Doubles | None = None

    @property
    def focuses(self) -> bool:
        return self.gamma is not None
