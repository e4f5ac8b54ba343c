"""From what passes left behind to what a saliency method is handed, each made once and only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from radlens.core.parts import Needs, Quantity
from radlens.explain.passes import OF_A_BLOCK, Gradients, Passes, SharedPasses
from radlens.explain.readout import logits_at_class_token, patch_logits, readout_attention_gradients
from radlens.explain.recording import autocast


class BatchQuantities:
    """Quantities of one batch, to be asked for while the encoder is frozen.

    Those of all labels together are kept from label to label.
    """

    def __init__(self, passes: SharedPasses, found: Passes, pixels: Tensor) -> None:
        self._passes = passes
        self._found = found
        self._pixels = pixels.to(passes.encoder.device)
        self._logits = logits_at_class_token(passes.encoder, passes.head)
        self._made: dict[tuple[Quantity, int], Tensor] = {}

    def arguments(self, needs: Needs, *, site: int = 0, label: LabelQuantities | None = None) -> dict[str, Any]:
        """Every argument of a method; `site` is where a method over sites is called."""
        given: dict[str, Any] = {}
        for name in needs.quantities:
            if name in OF_A_BLOCK and needs.over == "blocks":
                given[name] = [self._of_block(name, block, label) for block in self._passes.blocks]
            elif name in OF_A_BLOCK:
                given[name] = self._of_block(name, self._passes.sites[site].block, label)
            else:
                given[name] = self._other(name, site, label)
        return given

    def _other(self, name: Quantity, site: int, label: LabelQuantities | None) -> Any:
        if name == "activations":
            return self._found.activations[site]
        if name == "prefix":
            return self._passes.encoder.prefix_tokens
        if name == "grid":
            return self._passes.encoder.grid
        if name == "pixels":
            return self._pixels
        if name == "logits_of":
            return self._passes.logits
        gradients = _of_label(name, label).gradients
        return gradients.pixels if name == "pixel_gradients" else gradients.sites[site]

    def _of_block(self, name: Quantity, block: int, label: LabelQuantities | None) -> Tensor:
        attention = self._found.attention[block]
        if name in ("queries", "keys", "values"):
            return getattr(attention, name).float()  # type: ignore[no-any-return]
        if name == "attention":
            return self._once(name, block, attention.weights)
        if name == "patch_logits":
            return self._once(name, block, lambda: self._patch_logits(block))[..., _of_label(name, label).label]
        if name == "readout_attention_gradients":
            return self._once(name, block, lambda: self._readout(block))[_of_label(name, label).label]
        asked = _of_label(name, label)
        mixed = asked.gradients.mixed[block]
        if name == "mixed_gradients":
            return mixed
        if block not in asked.attention_gradients:
            asked.attention_gradients[block] = attention.weight_gradients(mixed)
        return asked.attention_gradients[block]

    def _once(self, name: Quantity, block: int, make: Callable[[], Tensor]) -> Tensor:
        if (name, block) not in self._made:
            self._made[name, block] = make()
        return self._made[name, block]

    def _patch_logits(self, block: int) -> Tensor:
        passes, encoder = self._passes, self._passes.encoder
        with autocast(encoder.device, passes.precision):
            return patch_logits(
                encoder.blocks[block],
                passes.block_name(block),
                self._found.inputs[block],
                encoder.prefix_tokens,
                self._logits,
            ).float()

    def _readout(self, block: int) -> Tensor:
        passes, encoder, found = self._passes, self._passes.encoder, self._found
        with autocast(encoder.device, passes.precision):
            return readout_attention_gradients(
                encoder.blocks[block],
                passes.block_name(block),
                found.inputs[block],
                found.attention[block],
                self._logits,
                found.logits.shape[1],
            )


class LabelQuantities:
    """What belongs to one label, and is dropped when the next one comes."""

    def __init__(self, label: int, gradients: Gradients) -> None:
        self.label = label
        self.gradients = gradients
        self.attention_gradients: dict[int, Tensor] = {}


def _of_label(name: Quantity, label: LabelQuantities | None) -> LabelQuantities:
    if label is None:
        raise ValueError(f"{name} belongs to a label, so that a method over the classifier cannot need it.")
    return label
