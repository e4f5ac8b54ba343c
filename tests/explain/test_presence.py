"""When an image is known to show a label, known not to, or disputed."""

from __future__ import annotations

import pytest

from radlens.core.regions import Annotations, Box, Region
from radlens.explain.presence import presence_of, presences


@pytest.mark.parametrize(
    ("target", "readers", "expected"),
    [
        (True, (), "present"),
        (False, (), "absent"),
        (None, (), None),
        (None, (None, None), None),
        (None, (False, None), "absent"),
        (None, (True,), "present"),
        (False, (True,), "disputed"),
        (True, (False,), "disputed"),
        (None, (True, False), "disputed"),
        (True, (True, None), "present"),
        (-1, (), None),
        (float("nan"), (False,), "absent"),
        (1.0, (), "present"),
        (0, (False,), "absent"),
    ],
)
def test_sources_agree_or_are_disputed(target: float | None, readers: tuple[bool | None, ...], expected: str) -> None:
    assert presence_of(target, readers) == expected


def test_readers_of_annotations() -> None:
    box = Box(0, 0, 9, 9)
    regions = (Region("a", "X", box, "r1"), Region("b", "Y", box, "r1"), Region("c", "X", box, "r2"))
    looked = {("b", "r1"): frozenset({"X", "Y"}), ("c", "r1"): frozenset({"X"}), ("e", "r1"): frozenset({"Y"})}
    annotations = Annotations(regions, "t", examined=looked)
    images = ("a", "b", "c", "d", "e")
    assert presences(images, "X", {}, annotations) == ["present", "absent", "disputed", None, None]
    assert presences(images, "X", {"a": False, "d": True, "e": None}, annotations) == [
        *("disputed", "absent", "disputed", "present", None)
    ]
    assert presences(images, "X", {"a": False}, None) == ["absent", None, None, None, None]
