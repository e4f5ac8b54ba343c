"""One registry for every kind of part: a lazy scan of a room's folder, plus entry points for outsiders.

A part is a top-level class or function marked with `@register(kind, name)`. The scan reads the source text only
(no import), so that listing what exists costs milliseconds; `get` imports the one file that is asked for.
Models are cards: one TOML file each in `models/cards`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from radlens.core.errors import SpecError, unknown_name

T = TypeVar("T")

# kind -> (package whose folder is scanned, what one is called in an error message)
ROOMS: dict[str, tuple[str, str]] = {
    "datasets": ("radlens.data", "data set"),
    "labelers": ("radlens.labels", "labeler"),
    "models": ("radlens.models.cards", "model"),
    "loaders": ("radlens.models", "model loader"),
    "settings": ("radlens.adapt", "setting"),
    "metrics": ("radlens.evaluate.metrics", "metric"),
    "saliency": ("radlens.explain.saliency", "saliency method"),
    "formats": ("radlens.explain.annotations", "annotation format"),
}


@dataclass(frozen=True)
class Part:
    """Where a registered part lives: `module:attribute` (or the path of a card), and its one-line summary."""

    kind: str
    name: str
    module: str
    attribute: str
    summary: str
    entry_point: EntryPoint | None = None

    def load(self) -> Any:
        """Import the part's file and return the registered object (for a model card, its path)."""
        if self.entry_point is not None:
            return self.entry_point.load()
        if self.kind == "models":
            return Path(self.module)
        return getattr(importlib.import_module(self.module), self.attribute)


def register(kind: str, name: str) -> Callable[[T], T]:
    """Mark a top-level class or function as the part `name` of `kind`; both must be literal strings."""
    if kind not in ROOMS:
        raise ValueError(unknown_name("kind of part", kind, ROOMS))

    def mark(part: T) -> T:
        part.__radlens_name__ = name  # type: ignore[attr-defined]
        return part

    return mark


def parts(kind: str) -> dict[str, Part]:
    """All parts of a kind by name, in alphabetical order. Duplicated names raise `SpecError`."""
    if kind not in ROOMS:
        raise SpecError(unknown_name("kind of part", kind, ROOMS))
    found: dict[str, Part] = {}
    for part in (*_scan(kind), *_outsiders(kind)):
        if part.name in found:
            raise SpecError(
                f"{ROOMS[kind][1]} {part.name!r} is registered twice: in {found[part.name].module} and in "
                f"{part.module}; rename one of them."
            )
        found[part.name] = part
    return dict(sorted(found.items()))


def get(kind: str, name: str) -> Any:
    """The registered object; an unknown name raises `SpecError` with the nearest name and the list."""
    known = parts(kind)
    if name not in known:
        raise SpecError(unknown_name(ROOMS[kind][1], name, known))
    return known[name].load()


@cache
def _scan(kind: str) -> tuple[Part, ...]:
    package = ROOMS[kind][0]
    if kind == "models":
        spec = importlib.util.find_spec(package.rsplit(".", 1)[0])
        folders = [Path(p) / "cards" for p in (spec.submodule_search_locations or [])] if spec else []
        return tuple(_card(path) for folder in folders for path in sorted(folder.glob("*.toml")))
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or []) if spec else []
    return tuple(
        part
        for location in locations
        for path in sorted(Path(location).glob("*.py"))
        for part in _marked(kind, path, f"{package}.{path.stem}")
    )


def _card(path: Path) -> Part:
    first = next((line for line in path.read_text("utf-8").splitlines() if line.startswith("summary")), "")
    summary = first.partition("=")[2].strip().strip('"')
    return Part("models", path.stem, str(path), "", summary)


def _marked(kind: str, path: Path, module: str) -> list[Part]:
    source = path.read_text("utf-8")
    if "@register(" not in source:
        return []
    found = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            match mark:
                case ast.Call(
                    func=ast.Name(id="register"),
                    args=[ast.Constant(value=str(of_kind)), ast.Constant(value=str(name))],
                ) if of_kind == kind:
                    summary = (ast.get_docstring(node) or "").partition("\n")[0]
                    found.append(Part(kind, name, module, node.name, summary))
                case _:
                    pass
    return found


def _outsiders(kind: str) -> list[Part]:
    return [
        Part(kind, point.name, point.value, "", f"from {point.dist.name if point.dist else point.value}", point)
        for point in entry_points(group=f"radlens.{kind}")
    ]
