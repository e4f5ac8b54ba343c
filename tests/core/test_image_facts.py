"""What decoding found is remembered by content."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radlens.core.errors import StoreError
from radlens.core.image_facts import ImageFacts


def test_sizes_and_notes_come_back(tmp_path: Path) -> None:
    ImageFacts(tmp_path).remember("a", 30, 20, "windowed", b"h" * 32)
    ImageFacts(tmp_path).remember("b", 3, 2, None, b"h" * 32)
    facts = ImageFacts(tmp_path)
    assert facts.size("a") == (30, 20) and facts.size("b") == (3, 2)
    assert facts.size("c") is None and facts.size(None) is None
    assert facts.notes(["a", "b", None]) == {"a": "windowed"}
    assert facts.notes(["b"]) == {}


def test_a_size_alone_does_not_take_a_note_away(tmp_path: Path) -> None:
    facts = ImageFacts(tmp_path)
    facts.remember("a", 30, 20, "windowed", b"h" * 32)
    facts.remember_size("a", 30, 20)
    facts.remember_size("b", 1, 1)
    assert facts.notes(["a", "b"]) == {"a": "windowed"} and facts.size("b") == (1, 1)


def test_several_threads_may_remember(tmp_path: Path) -> None:
    facts = ImageFacts(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: facts.remember(str(i), i, i, None, b"h" * 32), range(100)))
    assert [facts.size(str(i)) for i in range(100)] == [(i, i) for i in range(100)]


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "images.sqlite").write_text("this is no database, whatever its name says" * 20)
    with pytest.raises(StoreError, match="RADLENS_CACHE"):
        ImageFacts(tmp_path).size("a")
