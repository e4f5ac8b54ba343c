"""The registry: what it finds without importing, what it refuses, what outsiders may add."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from radlens.core import registry
from radlens.core.errors import SpecError


def test_listing_every_kind_imports_no_part_and_no_torch() -> None:
    code = """
import sys
from radlens.core.registry import ROOMS, parts
names = {kind: list(parts(kind)) for kind in ROOMS}
assert "zero-shot" in names["settings"], names
heavy = {"torch", "torchvision", "open_clip", "timm", "transformers", "sklearn", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
assert "radlens.adapt.zero_shot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_get_imports_the_one_file() -> None:
    from radlens.adapt.zero_shot import ZeroShot

    assert registry.get("settings", "zero-shot") is ZeroShot


def test_unknown_names_list_what_exists_and_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"unknown setting 'zeroshot'. Did you mean 'zero-shot'\? Known: .*-probe"):
        registry.get("settings", "zeroshot")
    with pytest.raises(SpecError, match=r"unknown kind of part 'setting'. Did you mean 'settings'\?"):
        registry.parts("setting")
    with pytest.raises(ValueError, match="unknown kind of part"):
        registry.register("seting", "x")


def _outside(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])


def test_outsiders_come_in_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    _outside(monkeypatch, EntryPoint("adapter", "collections:OrderedDict", "radlens.settings"))
    part = registry.parts("settings")["adapter"]
    assert part.summary == "from collections:OrderedDict"
    assert registry.get("settings", "adapter").__name__ == "OrderedDict"
    assert "adapter" not in registry.parts("metrics")


@pytest.mark.parametrize("names", [("zero-shot",), ("mine", "mine")])
def test_duplicates_are_refused(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    _outside(monkeypatch, *(EntryPoint(name, f"package{i}:Part", "radlens.settings") for i, name in enumerate(names)))
    with pytest.raises(SpecError, match=rf"setting '{names[0]}' is registered twice: .* in package\d:Part; "):
        registry.parts("settings")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A room of one's own; call it with file names and sources."""
    package = tmp_path / "strange_room"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.ROOMS, "settings", ("strange_room", "setting"))
    registry._scan.cache_clear()

    def write(**files: str) -> None:
        for name, source in files.items():
            (package / f"{name}.py").write_text("from radlens.core.registry import register\n" + source)

    yield write
    registry._scan.cache_clear()
    for name in [name for name in sys.modules if name.startswith("strange_room")]:
        del sys.modules[name]


def test_scan_reads_files_and_never_runs_them(room: Any) -> None:
    room(
        one='raise RuntimeError\n@register("settings", "first")\nclass One:\n    """Says what.\n\n    More."""\n',
        two='@register("metrics", "other-kind")\ndef f(): ...\n@register("settings", "second")\ndef g():\n    "G."\n',
        three='class Inner:\n    @register("settings", "nested")\n    def f(self): ...\n',
    )
    found = registry.parts("settings")
    assert {name: part.summary for name, part in found.items()} == {"first": "Says what.", "second": "G."}
    assert registry.get("settings", "second").__radlens_name__ == "second"
    with pytest.raises(RuntimeError):
        registry.get("settings", "first")


def test_two_files_with_one_name_are_refused(room: Any) -> None:
    room(**dict.fromkeys(("one", "two"), '@register("settings", "same")\nclass A: ...\n'))
    with pytest.raises(SpecError, match=r"'same' is registered twice: in strange_room\.one and in strange_room\.two"):
        registry.parts("settings")


def test_a_model_is_a_card() -> None:
    part = registry.parts("models")["biomedclip"]
    path = part.load()
    assert path.name == "biomedclip.toml" and path.is_file()
    assert part.summary.startswith("BiomedCLIP")
