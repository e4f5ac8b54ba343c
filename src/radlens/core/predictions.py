"""What a classifier says of one split, beside what is true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Predictions:
    """Scores, targets and embeddings of one setting on one split.

    image_ids: N names. groups: N patient ids (what resampling draws). labels: L names.
    probabilities: float64 (N, L) in [0, 1], a monotone function of the logit per label.
    targets: float32 (N, L), 1, 0 or NaN (= not assessed). embeddings: float32 (N, D), un-normalised.
    """

    setting: str
    split: str
    labels: tuple[str, ...]
    image_ids: tuple[str, ...]
    groups: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = (len(self.image_ids), len(self.labels))
        if self.probabilities.shape != shape or self.targets.shape != shape:
            raise ValueError(
                f"probabilities {self.probabilities.shape} and targets {self.targets.shape} must both be {shape}."
            )
        if len(self.embeddings) != shape[0] or len(self.groups) != shape[0]:
            raise ValueError(f"embeddings and groups must have {shape[0]} rows.")

    def __len__(self) -> int:
        return len(self.image_ids)
