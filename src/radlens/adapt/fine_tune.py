"""Fine-tuning: the whole image encoder and a linear head, trained together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from radlens.adapt.training.options import EncoderSetting
from radlens.adapt.training.parameters import all_parameters, last_blocks
from radlens.core.classifier import Classifier, Encoder
from radlens.core.parts import AdaptationTask
from radlens.core.registry import register


@register("settings", "fine-tune")
class FineTune(EncoderSetting):
    """One epoch of the head alone, then the whole image encoder with it at a tenth of the rate.

    The protocol of Sadman et al. (BIOKDD 2025), which is preset `paper`, and what every option's default is: binary
    cross-entropy over assessed entries, AdamW with weight decay 0.01, batch 24, no augmentation; a warm-up epoch of
    the head, then everything unfrozen (the projection too; never the text tower) with the rate divided by 10, cosine
    over the remaining epochs, one value an epoch; early stopping on the validation loss, the best epoch's weights
    kept. The paper states neither its learning rate nor its patience: 1e-3, so that the encoder trains at 1e-4, and 5
    epochs are ours. An option that departs from the preset is named in the card.

    last_k_blocks: train the last so many transformer blocks alone, with the norm and projection after them.
    layer_decay: rate of a block as a share of the next one's (1: all alike).
    """

    preset: Literal["paper"] = "paper"
    last_k_blocks: int | None = Field(default=None, ge=1)
    layer_decay: float = Field(default=1.0, gt=0, le=1)

    def fit(self, task: AdaptationTask) -> Classifier:
        """Train on split `train`, stop by split `val`; see `train_encoder` for what is refused."""

        def choose(encoder: Encoder) -> set[str]:
            return all_parameters(encoder) if self.last_k_blocks is None else last_blocks(encoder, self.last_k_blocks)

        plain = type(self)().model_dump(mode="json")
        kept = ("keep_checkpoints", "checkpoint_minutes", "loggers", "accumulate", "activation_checkpointing")
        departs = [k for k, v in self.model_dump(mode="json").items() if v != plain[k] and k not in kept]
        facts = {"preset": self.preset, "departs_from_preset": departs}
        return self.trained("fine-tune", task, choose, layer_decay=self.layer_decay, facts=facts)
