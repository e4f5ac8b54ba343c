"""The cohort and its split: counts per label, what was not assessed, shares, leakage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from radlens.report.columns import show
from radlens.report.contents import RunContents, listed, number, section


@dataclass(frozen=True)
class SplitSize:
    """One split: images, patients, and the share asked for and reached, as text."""

    name: str
    images: str
    patients: str
    asked: str
    reached: str


@dataclass(frozen=True)
class LabelCount:
    """One label: positives a split, all that is positive, negative and not assessed, and bar widths in percent."""

    label: str
    by_split: tuple[str, ...]
    positive: str
    negative: str
    not_assessed: str
    width: str
    absent_width: str
    few: bool


@dataclass(frozen=True)
class Leakage:
    """One leakage check: what was counted, how many. state: "clean", "leak", or "told" for a count that is no check."""

    name: str
    count: str
    state: str


@dataclass(frozen=True)
class DecodingNotes:
    """How many images decoding changed, and one of them with what was done to it (empty where the run names none)."""

    images: int
    image_id: str
    note: str


@dataclass(frozen=True)
class LeftOut:
    """What the source held and the cohort does not: a kind, how many, and a few of them in words."""

    what: str
    count: str
    examples: str


@dataclass(frozen=True)
class Origin:
    """Where labels come from, and which ("all labels" or their names)."""

    labels: str
    origin: str


@dataclass(frozen=True)
class CohortSection:
    """All that the cohort section shows."""

    sizes: tuple[SplitSize, ...]
    labels: tuple[LabelCount, ...]
    leakage: tuple[Leakage, ...]
    by: str
    seed: str
    method: str
    notes: tuple[str, ...]
    skipped: tuple[dict[str, str], ...]
    decoded: DecodingNotes
    left_out: tuple[LeftOut, ...]
    origins: tuple[Origin, ...]
    near: tuple[str, ...]


def cohort_section(run: RunContents) -> CohortSection:
    """Counts of the split card, notes of the cohort, and images that were skipped or changed when decoded."""
    card = run.split_card
    notes = [str(x) for x in (*listed(run.facts, "notes"), *listed(card, "warnings"))]
    skipped = [x for x in listed(run.facts, "skipped_images") if isinstance(x, dict)]
    return CohortSection(
        sizes=tuple(_size(card, split) for split in run.splits),
        labels=tuple(_label(run, label) for label in run.labels),
        leakage=tuple(
            Leakage(key.replace("_", " "), _count(number(value)), _state(key, number(value)))
            for key, value in section(card, "leakage").items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ),
        by=str(card.get("by") or ""),
        seed=str(card["seed"]) if card.get("seed") is not None else "",
        method=str(card.get("method") or ""),
        notes=tuple(dict.fromkeys(notes)),
        skipped=tuple({k: str(x.get(k, "")) for k in ("image_id", "row", "reason")} for x in skipped),
        decoded=_decoded(section(run.facts, "image_notes")),
        left_out=tuple(_left_out(x) for x in listed(run.facts, "left_out") if isinstance(x, dict)),
        origins=_origins(section(section(run.facts, "cohort"), "label_origins")),
        near=tuple(_pair(x) for x in listed(card, "near_duplicates") if isinstance(x, dict)),
    )


def _left_out(entry: dict[str, Any]) -> LeftOut:
    examples = [str(x) for x in listed(entry, "examples")]
    count = number(entry.get("count"))
    more = ", ..." if count > len(examples) and examples else ""
    return LeftOut(str(entry.get("what", "")), _count(count), ", ".join(examples) + more)


def _origins(origins: dict[str, Any]) -> tuple[Origin, ...]:
    """One entry an origin, in the order of the labels."""
    together: dict[str, list[str]] = {}
    for label, origin in origins.items():
        together.setdefault(str(origin), []).append(label)
    return tuple(
        Origin("all labels" if len(labels) == len(origins) > 1 else ", ".join(labels), origin)
        for origin, labels in together.items()
    )


def _pair(entry: dict[str, Any]) -> str:
    names = " and ".join(str(x) for x in listed(entry, "images"))
    return f"{names} ({_count(number(entry.get('bits')))} of 256 bits differ)"


def _decoded(notes: dict[str, Any]) -> DecodingNotes:
    images = number(notes.get("images"))
    image_id, note = next(iter(section(notes, "first").items()), ("", ""))
    return DecodingNotes(int(images) if math.isfinite(images) else 0, str(image_id), str(note))


def _state(key: str, value: float) -> str:
    if key.endswith("compared"):
        return "told"
    return "clean" if value == 0 else "leak"


def _size(card: dict[str, Any], split: str) -> SplitSize:
    counts, shares = section(section(card, "splits"), split), section(card, "shares")
    return SplitSize(
        split,
        _count(number(counts.get("images", section(card, "images").get(split)))),
        _count(number(counts.get("patients", section(card, "patients").get(split)))),
        show(number(section(shares, "asked").get(split)), "percent"),
        show(number(section(shares, "reached").get(split)), "percent"),
    )


def _label(run: RunContents, label: str) -> LabelCount:
    counts = section(section(run.split_card, "labels"), label)
    of = {split: section(counts, split) for split in run.splits}
    positive, negative, absent = (
        math.fsum(v for s in of.values() if math.isfinite(v := number(s.get(key))))
        for key in ("positives", "negatives", "not_assessed")
    )
    whole = positive + negative + absent
    return LabelCount(
        label,
        tuple(_count(number(of[split].get("positives"))) for split in run.splits),
        _count(positive),
        _count(negative),
        _count(absent),
        f"{100 * positive / whole:.2f}" if whole else "0",
        f"{100 * absent / whole:.2f}" if whole else "0",
        label not in run.estimable,
    )


def _count(value: float) -> str:
    return show(value, "count")
