"""Writes that are whole or nothing, fingerprints that tell values apart, a cache that heals."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from radlens.core.errors import StoreError
from radlens.core.store import Cache, file_digest, fingerprint, write_json, write_text, writing


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_broken_write_leaves_the_old_file_and_no_rest(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error), writing(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_a_sentence(tmp_path: Path, error: Exception) -> None:
    sentence = r"cannot write .*new/a\.bin: no space left on the disk; free some"
    with pytest.raises(StoreError, match=sentence), writing(tmp_path / "new" / "a.bin") as aside:
        aside.write_bytes(b"half")
        raise error
    assert list((tmp_path / "new").iterdir()) == []


def test_other_errors_of_safetensors_pass(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError), writing(tmp_path / "a"):
        raise SafetensorError("odd")


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_json_holds_plain_values(tmp_path: Path) -> None:
    @dataclass
    class Point:
        x: float
        where: Path

    value = {1: np.float32(0.5), "nan": float("nan"), "array": np.array([1.0, np.inf]), "set": {"b", "a"}, "p": (1,)}
    write_json(tmp_path / "a.json", value | {"point": Point(1.0, Path("x"))})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "1": 0.5, "nan": None, "array": [1.0, None], "set": ["a", "b"], "p": [1], "point": {"x": 1.0, "where": "x"},
    }  # fmt: skip


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def _exact(value: Any) -> Any:
    """A form in which == means the same type and value throughout."""
    if isinstance(value, dict):
        return ("dict", [(key, _exact(value[key])) for key in sorted(value)])
    if isinstance(value, list):
        return ("list", [_exact(v) for v in value])
    return (type(value).__name__, repr(value))


@settings(max_examples=150, deadline=None)
@given(plain, plain)
def test_fingerprints_are_equal_exactly_when_values_are(a: Any, b: Any) -> None:
    assert (fingerprint(a) == fingerprint(b)) == (_exact(a) == _exact(b))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), plain, min_size=2, max_size=5))
def test_the_order_of_a_mapping_does_not_matter(value: dict[str, Any]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


def test_fingerprints_of_look_alikes_differ() -> None:
    @dataclass
    class Pair:
        a: Any
        b: Any

    alike = [
        (1,), (1.0,), ("1",), (True,), ("True",), (None,), ("None",), (Path("1"),), (b"1",), ([1],), ([[1]],), (1, 1),
        ([1, 1],), (["1;str:1"],), (["1", "1"],), (["11"],), ([["1"], "1"],), ([["1", "1"]],), ({"1": 1},),
        (Pair(1, 1),), (np.array([1]),), (np.array([1.0]),), (np.array([[1]]),), (np.array([1], np.int32),),
    ]  # fmt: skip
    assert len({fingerprint(*values) for values in alike}) == len(alike)
    assert fingerprint((1, "a")) == fingerprint([1, "a"])
    assert fingerprint(Pair(1, {"x": 2, "y": 3})) == fingerprint(Pair(1, {"y": 3, "x": 2}))
    assert fingerprint({"a", "b"}) == fingerprint(frozenset(["b", "a"])) != fingerprint(["a", "b"])
    strided = np.arange(12).reshape(3, 4)
    assert fingerprint(strided.T) == fingerprint(np.ascontiguousarray(strided.T)) != fingerprint(strided)


@pytest.mark.parametrize("value", [object(), {1, object()}, np.array([object()], dtype=object)])
def test_what_has_no_fingerprint_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot fingerprint"):
        fingerprint(value)


def test_the_cache_makes_once_and_heals(tmp_path: Path) -> None:
    cache, made = Cache(tmp_path), []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"x": np.arange(6).reshape(2, 3).T}

    for found in (False, True):
        arrays, was_there = cache.arrays("room", "abcd", make)
        assert was_there is found
        np.testing.assert_array_equal(arrays["x"], np.arange(6).reshape(2, 3).T)
    path = cache.path("room", "abcd")
    for damage in (b"", b"junk", path.read_bytes()[:-8]):
        path.write_bytes(damage)
        arrays, was_there = cache.arrays("room", "abcd", make)
        assert not was_there and arrays["x"].shape == (3, 2)
        assert cache.arrays("room", "abcd", make)[1]
    assert len(made) == 4
    with pytest.raises(ZeroDivisionError):
        cache.arrays("room", "broken", lambda: {"x": np.array(1 // 0)})
    assert not cache.path("room", "broken").exists()


def test_file_digests_notice_a_changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, files = Cache(tmp_path / "cache"), [tmp_path / "a", tmp_path / "b", tmp_path / "missing"]
    for file in files[:2]:
        file.write_bytes(file.name.encode())
    first = cache.file_digests(files)
    assert first == [file_digest(files[0]), file_digest(files[1]), None]
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr("radlens.core.store.file_digest", counted)
    assert Cache(tmp_path / "cache").file_digests(files) == first
    assert read == [files[2]] or read == []
    read.clear()
    files[0].write_bytes(b"c")  # the same size
    stat = files[0].stat()
    os.utime(files[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert cache.file_digests(files)[:2] == [file_digest(files[0]), first[1]]
    assert read == [files[0]]


def test_a_broken_index_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "files.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"cannot read .*files\.sqlite: .*delete that file"):
        Cache(tmp_path).file_digests([tmp_path / "files.sqlite"])
