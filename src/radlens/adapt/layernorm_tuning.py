"""Layer norm tuning: weights and biases of the image encoder's layer norms, and a linear head."""

from __future__ import annotations

from pydantic import Field

from radlens.adapt.training.options import EncoderSetting
from radlens.adapt.training.parameters import layer_norms
from radlens.core.classifier import Classifier
from radlens.core.parts import AdaptationTask
from radlens.core.registry import register


@register("settings", "layernorm-tuning")
class LayerNormTuning(EncoderSetting):
    """Trains the layer norms of the image encoder alone, with the head: under a thousandth of its parameters.

    Kim et al., "How to adapt your large-scale vision-and-language model" (2022), and De Min et al., ICCV workshops
    2023, on vision transformers. The encoder trains at the head's rate.
    """

    unfrozen_factor: float = Field(default=1.0, gt=0, le=1)

    def fit(self, task: AdaptationTask) -> Classifier:
        """Train on split `train`, stop by split `val`; see `train_encoder` for what is refused."""
        return self.trained("layernorm-tuning", task, layer_norms)
