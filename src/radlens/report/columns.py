"""Columns of the result tables: headings, digits, which direction is better, and who is best and worst."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["share", "number", "distance", "percent", "count", "seconds"]
Mark = Literal["", "best", "worst"]
MISSING = "—"


@dataclass(frozen=True)
class Column:
    """A column of a result table. direction: 1 higher is better, -1 lower is better, 0 neither."""

    key: str
    heading: str
    kind: Kind
    direction: int = 0
    text: str = ""


_KNOWN = (
    Column("macro_f1", "Macro F1", "share", 1),
    Column("macro_f1_oracle", "Macro F1, thresholds tuned on test", "share"),
    Column("exact_match", "Exact match", "share", 1),
    Column("macro_auroc", "Macro AUROC", "share", 1),
    Column("macro_average_precision", "Macro average precision", "share", 1),
    Column("macro_brier", "Macro Brier score", "share", -1),
    Column("macro_log_loss", "Macro log-loss", "share", -1),
    Column("lrap", "Label ranking average precision", "share", 1),
    Column("coverage_error", "Coverage error", "number", -1),
    Column("ranking_loss", "Ranking loss", "share", -1),
    Column("inter_class_distance", "Inter-class distance", "distance", 1),
    Column("intra_class_distance", "Intra-class distance", "distance", -1),
    Column("separability_ratio", "Separability ratio", "share", 1),
    Column("ratio", "Ratio, other labels held equal", "share", 1),
    Column("ratio_unmatched", "Ratio, all images", "share", 1),
    Column("knn_purity", "Neighbours with the label", "share", 1),
    Column("knn_purity_baseline", "Neighbours drawn at random", "share"),
    Column("silhouette_positives", "Silhouette", "share", 1),
    Column("linear_cka_debiased", "Alike (linear CKA)", "share"),
    Column("centroid_drift_aligned", "Centroids moved", "number"),
    Column("farther", "Farther than validation", "share"),
    Column("beyond", "Beyond 95% of validation", "percent"),
    Column("error_auroc", "Tells errors (AUROC)", "share"),
    Column("ensemble", "Mean probability", "share"),
    Column("gain", "Gain", "share"),
    Column("train_seconds", "Training time", "seconds", -1),
    Column("trainable_parameters", "Trainable parameters", "count"),
    Column("f1", "F1", "share", 1),
    Column("f1_oracle", "F1, threshold tuned on test", "share"),
    Column("f1_always_positive", "Always yes", "share"),
    Column("precision", "Precision", "share", 1),
    Column("recall", "Recall", "share", 1),
    Column("auroc", "AUROC", "share", 1),
    Column("average_precision", "Average precision", "share", 1),
    Column("threshold", "Threshold", "share"),
    Column("prevalence", "Prevalence", "percent"),
    Column("train_positives", "Positive, train", "count"),
    Column("val_positives", "Positive, val", "count"),
    Column("test_positives", "Positive, test", "count"),
    Column("test_assessed", "Assessed, test", "count"),
    Column("hit_rate", "Hit rate", "share", 1),
    Column("energy_in_region", "Energy in region", "share", 1),
    Column("lift", "Lift", "number", 1),
    Column("iou", "IoU", "share", 1),
    Column("lift_best_baseline", "Best baseline’s lift", "number"),
    Column("lift_on_same_pairs", "Own lift there", "number", 1),
    Column("pairs_compared", "Pairs", "count"),
    Column("lift_difference", "Difference", "number", 1),
    Column("pixel_auroc", "Pixel AUROC", "share", 1),
    Column("pixel_average_precision", "Pixel AP", "share", 1),
    Column("dice", "Dice", "share", 1),
    Column("iou_tuned", "IoU, tuned cut", "share", 1),
    Column("iou_oracle", "IoU, best cut", "share"),
    Column("contrast_to_noise", "Contrast to noise", "number", 1),
    Column("area_absent", "Highlighted, absent", "percent"),
    Column("area_present", "Highlighted, present", "percent"),
    Column("auroc_strength", "Strength tells presence (AUROC)", "share", 1),
    Column("called_positive", "Called positive", "percent", -1),
    Column("spearman", "Rank correlation", "share"),
    Column("ssim", "Structural similarity", "share"),
    Column("degenerate_maps", "Constant", "count"),
    Column("label_invariant_maps", "Same for every label", "count"),
    Column("unreachable_share", "Region outside crop", "percent"),
    Column("images", "Images", "count"),
    Column("patients", "Patients", "count"),
    Column("members", "Members", "count"),
)


def columns(definitions: Iterable[Mapping[str, Any]]) -> dict[str, Column]:
    """Columns by name; text and direction come from the run's own definitions where it has them."""
    found = {column.key: column for column in _KNOWN}
    for definition in definitions:
        key = str(definition["column"])
        base = found.get(key, Column(key, key.replace("_", " ").capitalize(), "share"))
        direction = _direction(definition.get("direction"), base.direction)
        found[key] = Column(key, base.heading, base.kind, direction, str(definition.get("text") or ""))
    return found


def _direction(stated: Any, otherwise: int) -> int:
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return (stated > 0) - (stated < 0)
    word = str(stated or "").strip().lower()
    if word.startswith(("high", "up", "max", "larg", "great", "↑", "+")):
        return 1
    if word.startswith(("low", "down", "min", "small", "less", "↓", "-")):
        return -1
    return 0 if word in {"none", "neither", "neutral"} else otherwise


def show(value: float, kind: Kind) -> str:
    """A value in the digits that its kind deserves; NaN is a dash."""
    if not math.isfinite(value):
        return MISSING
    match kind:
        case "share":
            return f"{value:.3f}"
        case "number":
            return f"{value:.2f}"
        case "distance":
            digits = 4 if value == 0 else min(4, max(0, 3 - math.floor(math.log10(abs(value)))))
            return f"{value:.{digits}f}"
        case "percent":
            return f"{100 * value:.1f}%"
        case "count":
            return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        case "seconds":
            return duration(value)


def duration(seconds: float) -> str:
    """Seconds in words: 0.42 s, 12.3 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def marks(values: Sequence[float], direction: int, kind: Kind) -> list[Mark]:
    """Who is best and who is worst among values, NaN left out.

    Values that print alike tie and are marked alike; when fewer than two are finite, when all tie, or when the column
    has no better direction, nobody is marked.
    """
    finite = [value for value in values if math.isfinite(value)]
    if direction == 0 or len(finite) < 2:
        return [""] * len(values)
    best, worst = (max(finite), min(finite)) if direction > 0 else (min(finite), max(finite))
    top, bottom = show(best, kind), show(worst, kind)
    if top == bottom:
        return [""] * len(values)
    named: dict[str, Mark] = {top: "best", bottom: "worst"}
    return [named.get(show(value, kind), "") if math.isfinite(value) else "" for value in values]
