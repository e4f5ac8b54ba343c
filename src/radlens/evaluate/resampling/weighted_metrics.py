"""Every metric of the tables for many weightings of the patients at once, in closed form.

Where all weights are 1 each is the registered metric; where a patient weighs w, its images count w times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput
from radlens.core.patient_weights import Weights
from radlens.core.undefined import mean_of_defined, quotient
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.domains import domain_inputs
from radlens.evaluate.resampling.image_values import IMAGE_VALUES, image_values
from radlens.evaluate.resampling.ranked_label import RankedLabel, rank_label, ranked_metrics
from radlens.evaluate.resampling.setting_scores import Patients

Array = npt.NDArray[np.float64]

LABEL_METRICS = (
    *("precision", "recall", "specificity", "f1", "f1_always_positive", "f1_oracle", "auroc", "average_precision"),
    *("brier", "brier_skill", "log_loss", "prevalence"),
)
MACRO_OF = {
    "macro_f1": "f1",
    "macro_f1_always_positive": "f1_always_positive",
    "macro_f1_oracle": "f1_oracle",
    "macro_auroc": "auroc",
    "macro_average_precision": "average_precision",
    "macro_brier": "brier",
    "macro_log_loss": "log_loss",
}
OVERALL_METRICS = (
    *MACRO_OF,
    *("macro_average_precision_baseline", "micro_f1", "weighted_f1", "hamming_loss"),
    *IMAGE_VALUES[1:],
)
_SUMS = ("positives", "negatives", "true_positives", "false_positives", "squared_error", "log_loss")
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Quantity:
    """One number that is resampled. scope: overall, label or domain; name: of the label or domain, or overall."""

    scope: str
    name: str
    metric: str


@dataclass(frozen=True)
class PreparedSetting:
    """A setting laid out for resampling.

    totals float64 (P, C): what each patient adds to every sum. ranked: labels, then domains. quantities: the M numbers
    that `weighted_metrics` gives, in its order. labels: how many of `ranked` are labels, not domains.
    """

    totals: Array
    ranked: tuple[RankedLabel, ...]
    quantities: tuple[Quantity, ...]
    labels: int


def quantities_of(vocabulary: Vocabulary) -> tuple[Quantity, ...]:
    """What is resampled for a vocabulary: overall, then labels, then domains."""
    overall = tuple(Quantity("overall", "overall", metric) for metric in OVERALL_METRICS)
    labels = tuple(Quantity("label", name, metric) for name in vocabulary.names for metric in LABEL_METRICS)
    return overall + labels + tuple(Quantity("domain", name, m) for name in vocabulary.domains for m in LABEL_METRICS)


def with_domains(inputs: MetricInput, vocabulary: Vocabulary) -> MetricInput:
    """Columns of the labels, and beside them those of the domains (N, L + K)."""
    domains = domain_inputs(inputs, vocabulary)
    return MetricInput(
        np.concatenate([inputs.scores, domains.scores], axis=1),
        np.concatenate([inputs.targets, domains.targets], axis=1),
        np.concatenate([inputs.decisions, domains.decisions], axis=1),
    )


def prepare(
    inputs: MetricInput, vocabulary: Vocabulary, patients: Patients, order: Array | None = None
) -> PreparedSetting:
    """Lay out one setting. order (N, L + K): what labels and domains are ranked by; by default their scores.

    Brier score and log loss are left undefined for a label whose scores are not all in [0, 1].
    """
    columns = with_domains(inputs, vocabulary)
    order = columns.scores if order is None else order
    parts = [_patient_sums(image_values(inputs), patients)]
    parts += [_patient_sums(_label_sums(columns, k), patients) for k in range(columns.targets.shape[1])]
    ranked = tuple(rank_label(order[:, k], columns.targets[:, k], patients) for k in range(order.shape[1]))
    return PreparedSetting(np.concatenate(parts, axis=1), ranked, quantities_of(vocabulary), len(vocabulary))


def weighted_metrics(setting: PreparedSetting, weights: Weights) -> Array:
    """(B, M): every quantity for each column of weights (P, B), whole numbers; NaN where undefined."""
    totals = weights.T.astype(np.float64) @ setting.totals
    ranked = []
    for k, label in enumerate(setting.ranked):
        positives, negatives = label_counts(totals, k)
        ranked.append(ranked_metrics(label.sums(weights), positives, negatives))
    return assemble(setting, totals, ranked)


def label_counts(totals: Array, column: int) -> tuple[Array, Array]:
    """Weights (B,) of the positives and of the negatives of a label or domain."""
    start = len(IMAGE_VALUES) + column * len(_SUMS)
    return totals[:, start], totals[:, start + 1]


def assemble(setting: PreparedSetting, totals: Array, ranked: list[tuple[Array, Array, Array]]) -> Array:
    """(B, M) from sums (B, C) and the ranked metrics of each label and domain, each three times (B,)."""
    sums = totals[:, len(IMAGE_VALUES) :].reshape(len(totals), -1, len(_SUMS))
    positives, negatives, true, false, squares, logs = np.moveaxis(sums, 2, 0)
    assessed = positives + negatives
    some = positives > 0
    found = {
        "precision": quotient(true, true + false),
        "recall": quotient(true, positives),
        "specificity": quotient(negatives - false, negatives),
        "f1": np.where(some, quotient(2 * true, true + false + positives), np.nan),
        "f1_always_positive": np.where(some, quotient(2 * positives, assessed + positives), np.nan),
        "auroc": np.stack([area for area, _, _ in ranked], axis=1),
        "average_precision": np.stack([precision for _, precision, _ in ranked], axis=1),
        "f1_oracle": np.stack([best for _, _, best in ranked], axis=1),
        "brier": quotient(squares, assessed),
        "log_loss": quotient(logs, assessed),
        "prevalence": quotient(positives, assessed),
    }
    found["brier_skill"] = 1 - quotient(found["brier"], found["prevalence"] * (1 - found["prevalence"]))
    by_label = np.stack([found[metric] for metric in LABEL_METRICS], axis=2)
    return np.concatenate(
        [_overall(setting, totals, sums, found), by_label.reshape(len(totals), -1)],
        axis=1,
    )


def _overall(setting: PreparedSetting, totals: Array, sums: Array, found: dict[str, Array]) -> Array:
    own = slice(0, setting.labels)
    positives, negatives, true, false = (sums[:, own, i] for i in range(4))
    values = {metric: mean_of_defined(found[label][:, own], axis=1) for metric, label in MACRO_OF.items()}
    all_positives, assessed = positives.sum(axis=1), (positives + negatives).sum(axis=1)
    shares = np.where(positives > 0, found["prevalence"][:, own], np.nan)
    values["macro_average_precision_baseline"] = mean_of_defined(shares, axis=1)
    micro = quotient(2 * true.sum(axis=1), (true + false + positives).sum(axis=1))
    values["micro_f1"] = np.where(all_positives > 0, micro, np.nan)
    weighted = np.where(positives > 0, found["f1"][:, own], 0.0) * positives
    values["weighted_f1"] = quotient(weighted.sum(axis=1), all_positives)
    values["hamming_loss"] = quotient((positives - true + false).sum(axis=1), assessed)
    images = totals[:, : len(IMAGE_VALUES)]
    values |= {metric: quotient(images[:, i], images[:, 0]) for i, metric in enumerate(IMAGE_VALUES) if i}
    return np.stack([values[metric] for metric in OVERALL_METRICS], axis=1)


def _label_sums(columns: MetricInput, k: int) -> Array:
    """(N, 6) in the order of `_SUMS`."""
    targets, scores = columns.targets[:, k], columns.scores[:, k]
    positive, negative, called = targets == 1, targets == 0, columns.decisions[:, k] == 1
    known = positive | negative
    if ((scores[known] < 0) | (scores[known] > 1)).any():
        squares = logs = np.where(known, np.nan, 0.0)
    else:
        squares = np.where(known, (np.where(known, scores, 0.0) - positive) ** 2, 0.0)
        # clipped as in scikit-learn, so that a certain error costs 36, not infinity
        inside = np.clip(np.where(known, scores, 0.5), _EPSILON, 1 - _EPSILON)
        logs = np.where(known, -np.log(np.where(positive, inside, 1 - inside)), 0.0)
    return np.stack([positive, negative, positive & called, negative & called, squares, logs], axis=1)


def _patient_sums(values: Array, patients: Patients) -> Array:
    return np.stack(
        [np.bincount(patients.index, values[:, i], minlength=patients.count) for i in range(values.shape[1])], axis=1
    )
