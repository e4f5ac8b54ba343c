"""What a reader needs to redo the run: model card, command, seeds, timings, versions, and how each setting was made."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from radlens.report.columns import MISSING, duration, show
from radlens.report.contents import RunContents, number, section

Fact = tuple[str, str]


@dataclass(frozen=True)
class SettingCard:
    """How one setting was made: options and cost as facts, losses as a small curve, prompts."""

    setting: str
    facts: tuple[Fact, ...]
    curve: Curve | None
    prompts: tuple[Fact, ...]


@dataclass(frozen=True)
class Curve:
    """Loss over epochs as SVG polyline points in a box of 240 x 72, with what the ends mean."""

    train: str
    validation: str
    best_x: str
    best_y: str
    caption: str


def model_facts(run: RunContents) -> tuple[Fact, ...]:
    """The model card's facts."""
    model = section(run.facts, "model")
    names = ("title", "name", "summary", "licence", "citation", "url", "parameters", "fingerprint")
    values = [
        (name, show(number(model[name]), "count") if name == "parameters" else text(model[name]))
        for name in names
        if model.get(name)
    ]
    stated = tuple((name.capitalize().replace("Url", "Source"), value) for name, value in values)
    return stated + _weights(section(model, "weights"))


def _weights(weights: dict[str, Any]) -> tuple[Fact, ...]:
    """Which file the weights came from; a digest's first 12 digits tell two revisions apart."""
    found: list[Fact] = [("Weights", text(weights["file"]))] if weights.get("file") else []
    size = number(weights.get("bytes"))
    if math.isfinite(size):
        found.append(("Size of weights", f"{show(size, 'count')} bytes"))
    if weights.get("sha256"):
        found.append(("SHA-256 of weights", f"{text(weights['sha256'])[:12]}…"))
    if weights.get("revision"):
        found.append(("Revision of weights", text(weights["revision"])))
    return tuple(found)


def run_facts(run: RunContents) -> tuple[Fact, ...]:
    """Command, seed, device, precision and totals."""
    facts, totals, embedding = run.facts, section(run.facts, "totals"), section(run.facts, "embedding")
    found: list[Fact] = [
        (name.capitalize(), text(facts[name]))
        for name in ("created", "command", "seed", "device", "precision", "python", "platform")
        if facts.get(name) is not None
    ]
    agreement = number(facts.get("agreement_bfloat16"))
    if math.isfinite(agreement):
        found.append(("Agreement of bfloat16 with float32", f"least cosine {agreement:.6f}"))
    if math.isfinite(number(embedding.get("seconds"))):
        speed = number(embedding.get("images_per_second"))
        rate = f", {speed:.1f} images/s" if math.isfinite(speed) else ""
        found.append(("Embedding", duration(number(embedding["seconds"])) + rate + _cached(embedding)))
    if math.isfinite(number(totals.get("seconds"))):
        found.append(("Total time", duration(number(totals["seconds"]))))
    if math.isfinite(number(totals.get("peak_memory_gib"))):
        found.append(("Peak memory", f"{number(totals['peak_memory_gib']):.2f} GiB"))
    return tuple(found)


def stage_facts(run: RunContents) -> tuple[Fact, ...]:
    """Seconds a stage, and whether its result was there already."""
    stages = section(run.facts, "stages")
    return tuple(
        (name, duration(number(stage.get("seconds"))) + _cached(stage))
        for name, stage in stages.items()
        if isinstance(stage, dict)
    )


def version_facts(run: RunContents) -> tuple[Fact, ...]:
    """radlens and every library that it stood on."""
    own: tuple[Fact, ...] = (("radlens", text(run.facts.get("radlens") or MISSING)),)
    return own + tuple((name, text(value)) for name, value in sorted(section(run.facts, "versions").items()))


def definition_facts(run: RunContents) -> tuple[dict[str, str], ...]:
    """Definitions of the run's columns: column, table, text, better direction, bounds and source, as text.

    The ends of an interval are told by the column that they belong to.
    """
    found = []
    named = {(given.get("table"), given["column"]) for given in run.definitions}
    for given in run.definitions:
        base, _, end = str(given["column"]).rpartition("_")
        if end in {"low", "high"} and (given.get("table"), base) in named:
            continue
        direction = text(given.get("direction") or "")
        found.append(
            {key: text(given.get(key) or "") for key in ("column", "table", "text", "source")}
            | {
                "direction": f"{direction} is better" if direction in {"higher", "lower"} else "",
                "bounds": _bounds(given.get("bounds")),
            }
        )
    return tuple(found)


def setting_cards(run: RunContents) -> tuple[SettingCard, ...]:
    """A card a setting, in the run's order."""
    return tuple(_card(name, card) for name, card in run.cards.items())


def text(value: Any) -> str:
    """A plain value in running text: lists joined, mappings as compact JSON."""
    if isinstance(value, list):
        return ", ".join(text(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _bounds(given: Any) -> str:
    """Bounds in words; an open end is stored as null, for JSON has no infinity."""
    if not isinstance(given, list) or len(given) != 2:
        return text(given or "")
    low, high = (text(end) if math.isfinite(number(end)) else "" for end in given)
    if low and high:
        return f"from {low} to {high}"
    return f"from {low}" if low else f"up to {high}" if high else ""


def _cached(stage: dict[str, Any]) -> str:
    return " (from cache)" if stage.get("cached") else ""


def _card(name: str, card: dict[str, Any]) -> SettingCard:
    found: list[Fact] = []
    history: list[Any] = []
    prompts: list[Fact] = []
    for key, value in _leaves(card):
        last = key.rsplit(".", 1)[-1]
        if last == "history" and isinstance(value, list):
            history = value
        elif last == "prompts":
            prompts = [(str(k), text(v)) for k, v in value.items()] if isinstance(value, dict) else [("", text(value))]
        elif last.endswith("seconds"):
            found.append((last.replace("_", " "), duration(number(value))))
        elif last != "thresholds" and isinstance(value, str | int | float | bool) and len(str(value)) <= 160:
            found.append((last.replace("_", " "), text(value)))
    return SettingCard(name, tuple(found), _curve(history), tuple(prompts))


def _leaves(card: dict[str, Any]) -> list[tuple[str, Any]]:
    """Options one level down stand beside the rest; deeper structure is for the file itself."""
    leaves: list[tuple[str, Any]] = []
    for key, value in card.items():
        inner = value if isinstance(value, dict) and key in {"setting", "options", "training", "details"} else None
        leaves += list(inner.items()) if inner is not None else [(key, value)]
    return leaves


def _curve(history: list[Any]) -> Curve | None:
    rows = [row for row in history if isinstance(row, dict)]
    train = [number(row.get("train_bce")) for row in rows]
    validation = [number(row.get("val_bce")) for row in rows]
    finite = [value for value in (*train, *validation) if math.isfinite(value)]
    known = [value for value in validation if math.isfinite(value)]
    if len(rows) < 2 or not known:
        return None
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0

    def at(place: int, value: float) -> tuple[str, str]:
        return f"{4 + 232 * place / (len(rows) - 1):.1f}", f"{4 + 64 * (high - value) / span:.1f}"

    def line(values: list[float]) -> str:
        return " ".join(",".join(at(i, value)) for i, value in enumerate(values) if math.isfinite(value))

    best = min(known)
    place = validation.index(best)
    caption = (
        f"{len(rows)} epochs; lowest validation loss {best:.4f} at epoch {text(rows[place].get('epoch', place + 1))}"
    )
    x, y = at(place, best)
    return Curve(line(train), line(validation), x, y, caption)
