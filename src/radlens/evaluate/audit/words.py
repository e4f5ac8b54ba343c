"""How metrics and quantities are called in a finding, which direction is better, and within which bounds they lie."""

from __future__ import annotations

from radlens.evaluate.audit.published import Claim, Entry

_WORDS = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "auroc": "AUROC",
    "macro_auroc": "macro AUROC",
    "lrap": "LRAP",
    "n": "number of images",
    "inter_class_distance": "inter-class distance",
    "intra_class_distance": "intra-class distance",
}
SHARES = frozenset(
    {"f1", "precision", "recall", "specificity", "accuracy", "auroc", "average_precision", "prevalence", "brier"}
    | {"exact_match", "hamming_loss", "lrap", "ranking_loss", "test_fraction"}
)
LOWER_IS_BETTER = frozenset(
    ("coverage_error", "ranking_loss", "hamming_loss", "brier", "log_loss", "intra_class_distance", "train_minutes")
)
AVERAGES = ("macro_", "micro_", "weighted_")


def words(metric: str) -> str:
    """The metric in a reader's words."""
    return _WORDS.get(metric, metric.replace("_", " "))


def quantity(entry: Entry | Claim) -> str:
    """What is measured, of what, in which setting."""
    of = " in ".join(part for part in (entry.name, entry.setting) if part)
    return f"{words(entry.metric)} of {of}" if of else words(entry.metric)


def stem(metric: str) -> str:
    """The metric without macro_, micro_ or weighted_."""
    for prefix in AVERAGES:
        if metric.startswith(prefix):
            return metric.removeprefix(prefix)
    return metric


def is_share(metric: str) -> bool:
    """Whether a metric lies in [0, 1]."""
    return stem(metric) in SHARES


def lower_is_better(metric: str) -> bool:
    """Whether the least value is the best."""
    return stem(metric) in LOWER_IS_BETTER


def figure(value: float) -> str:
    """A derived figure in three digits behind the point."""
    return f"{value:.3f}"
