"""Whether a table holds as much as its data set has."""

from __future__ import annotations

from collections.abc import Mapping

from radlens.data.cards import load_card


def count_notes(dataset: str, found: Mapping[str, int]) -> list[str]:
    """A note for each count (images, patients, studies, reports) that is not the one of the data set's card."""
    expected = load_card(dataset).expected.model_dump(exclude_none=True)
    return [
        f"the table holds {number} {what}, the whole data set {expected[what]}."
        for what, number in found.items()
        if expected.get(what, number) != number
    ]
