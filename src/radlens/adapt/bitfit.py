"""BitFit: the biases of the image encoder, and a linear head."""

from __future__ import annotations

from pydantic import Field

from radlens.adapt.training.options import EncoderSetting
from radlens.adapt.training.parameters import biases
from radlens.core.classifier import Classifier
from radlens.core.parts import AdaptationTask
from radlens.core.registry import register


@register("settings", "bitfit")
class BitFit(EncoderSetting):
    """Trains the bias vectors of the image encoder alone, with the head: about a thousandth of its parameters.

    Ben Zaken et al., "BitFit", ACL 2022. So few parameters bear a rate ten times that of fine-tuning, and the encoder
    trains at the head's.
    """

    unfrozen_factor: float = Field(default=1.0, gt=0, le=1)

    def fit(self, task: AdaptationTask) -> Classifier:
        """Train on split `train`, stop by split `val`; see `train_encoder` for what is refused."""
        return self.trained("bitfit", task, biases)
