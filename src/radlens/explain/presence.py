"""Which images are known to show a label and which are known not to, from targets and from readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from radlens.core.regions import Annotations

Presence = Literal["present", "absent", "disputed"]


def presence_of(target: float | None, readers: Sequence[bool | None]) -> Presence | None:
    """Whether an image shows a label, from its target and what each reader who looked for it found; None: unknown.

    `disputed` where any of them contradicts another. A target that is neither 0 nor 1, and a reader's None, say
    nothing.
    """
    said = {bool(one) for one in (target, *readers) if one in (0, 1)}
    if len(said) == 2:
        return "disputed"
    if not said:
        return None
    return "present" if True in said else "absent"


def presences(
    image_ids: Sequence[str],
    label: str,
    targets: Mapping[str, bool | None],
    annotations: Annotations | None,
) -> list[Presence | None]:
    """`presence_of` every image. targets: image id -> target of the label, None or missing where unknown."""
    read: dict[str, list[bool | None]] = {}
    if annotations is not None:
        drew = dict.fromkeys((region.image_id, region.reader) for region in annotations.regions)
        for image_id, reader in drew | dict.fromkeys(annotations.examined):
            read.setdefault(image_id, []).append(annotations.presence(image_id, label, reader))
    return [presence_of(targets.get(image_id), read.get(image_id, ())) for image_id in image_ids]
