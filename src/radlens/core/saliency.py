"""What a saliency method is: a pure function, and what it is handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

if TYPE_CHECKING:
    from torch import Tensor

Quantity = Literal[
    "activations",
    "gradients",
    "attention",
    "attention_gradients",
    "queries",
    "keys",
    "values",
    "mixed_gradients",
    "readout_attention_gradients",
    "patch_logits",
    "prefix",
    "pixels",
    "pixel_gradients",
    "logits_of",
    "grid",
]
"""What shared passes can hand to a saliency method, by the name of the argument.

At a site: activations (B, P, C); gradients (B, P, C) of the label's logit there.
At the site's block, of H heads of width d; N tokens, `prefix` (int) of which stand before the patches, the class token
first; Q is N, or 1 (the class token) in a last block of which nothing else is read:
attention (B, H, Q, N), rows sum to 1; attention_gradients (B, H, Q, N), the label's logit by each weight; queries
(B, H, Q, d), keys and values (B, H, N, d); mixed_gradients (B, H, Q, d), the label's logit by attention x values;
readout_attention_gradients (B, H, 1, N), as attention_gradients of the class token's row, but of the logit that the
head gives to this block's own class token; patch_logits (B, P), the label's logit of every patch read as though it
were the class token, in this block every token attending to itself alone.
Of the image: pixels (B, 3, H, W) as the encoder's transform makes them; pixel_gradients (B, 3, H, W) of the label's
logit; logits_of, a differentiable function (b, 3, H, W) -> (b, L); grid (rows, columns).
"""


@dataclass(frozen=True)
class Needs:
    """What a saliency method is handed, and how often it is called.

    over `site`: once a label and site, gives (B, P). `blocks`: once a label; what belongs to a block comes as a
    sequence over the blocks from the lowest asked for to the last, and one map each is given, (blocks, B, P). `image`:
    once a label, gives (B, P) for all layers alike. `classifier`: once for all labels, gives (B, L, P).
    An unknown quantity, or one that a method is not called often enough for, raises `ValueError`.
    """

    quantities: tuple[Quantity, ...] = ("activations", "gradients")
    over: Literal["site", "blocks", "image", "classifier"] = "site"

    def __post_init__(self) -> None:
        of_a_site = {"activations", "gradients"}
        of_an_image = {"pixels", "logits_of", "grid", "prefix"}
        known: set[str] = set(get_args(Quantity))
        allowed = {"site": known, "blocks": known - of_a_site, "image": of_an_image | {"pixel_gradients"}}
        for quantity in self.quantities:
            if quantity not in allowed.get(self.over, of_an_image):
                raise ValueError(f"a saliency method over {self.over!r} cannot need {quantity!r}.")


class SaliencyMethod(Protocol):
    """From what a network leaves behind to maps: a pure function, one file in `explain/saliency/`.

    Its arguments are the quantities that it `needs`, by name; a function without `@needs` takes (activations,
    gradients). Maps are float, non-negative, finite; their unit is the method's own.
    """

    def __call__(self, *arguments: Any, **quantities: Any) -> Tensor:
        """Maps over the patches, of the shape that `Needs.over` says; by default (B, P)."""
        ...


def needs(
    *quantities: Quantity, over: Literal["site", "blocks", "image", "classifier"] = "site"
) -> Callable[[Callable[..., Tensor]], SaliencyMethod]:
    """Declare what a saliency method is handed; stands below `@register("saliency", NAME)`."""

    declared = Needs(quantities, over)

    def attach(function: Callable[..., Tensor]) -> SaliencyMethod:
        function.needs = declared  # type: ignore[attr-defined]
        return function

    return attach


def needs_of(method: SaliencyMethod) -> Needs:
    """What a method declared, or the default: activations and gradients at a site."""
    declared = getattr(method, "needs", None)
    return declared if isinstance(declared, Needs) else Needs()
