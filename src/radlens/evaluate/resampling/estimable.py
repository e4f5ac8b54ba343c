"""Which numbers may have an interval, and the sentence for those that may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.resampling.setting_scores import Patients
from radlens.evaluate.resampling.weighted_metrics import Quantity, with_domains

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEAST = 10
"""Positive patients (for AUROC and specificity also negative ones) below which no interval is given."""
MOST_UNDEFINED = 0.05
"""Share of replicates that may be undefined; with more, the others are no fair sample."""


@dataclass(frozen=True)
class Evidence:
    """What stands behind a label's or domain's numbers, or behind all labels together.

    positives, negatives: assessed images (over all labels: pairs of an image and a label). positive_patients,
    negative_patients: patients with at least one of them. called: images called positive.
    """

    positives: int
    negatives: int
    positive_patients: int
    negative_patients: int
    called: int


def evidence(inputs: MetricInput, vocabulary: Vocabulary, patients: Patients) -> dict[tuple[str, str], Evidence]:
    """(scope, name) -> its evidence, for all labels together, each label and each domain."""
    columns = with_domains(inputs, vocabulary)
    own = len(vocabulary)
    names = [*(("label", name) for name in vocabulary.names), *(("domain", name) for name in vocabulary.domains)]
    positive, negative = columns.targets == 1, columns.targets == 0
    called = (columns.decisions == 1) & (positive | negative)

    def of(part: slice) -> Evidence:
        return _evidence(positive[:, part], negative[:, part], called[:, part], patients)

    found = {("overall", "overall"): of(slice(0, own))}
    return found | {at: of(slice(k, k + 1)) for k, at in enumerate(names)}


def reason_without_interval(quantity: Quantity, value: float, behind: Evidence, replicates: Array) -> str | None:
    """Why a number has no interval, None where it may have one. replicates (B,), NaN where undefined."""
    reason = few(quantity, value, behind)
    if reason is not None:
        return reason
    undefined = float(np.isnan(replicates).mean())
    if undefined > MOST_UNDEFINED:
        return f"not estimable: undefined in {undefined:.1%} of the replicates, at most {MOST_UNDEFINED:.0%} may be"
    if np.nanmax(replicates) == np.nanmin(replicates):
        return "not estimable: the same value in every replicate, so that resampling cannot tell how far it may be off"
    return None


def few(quantity: Quantity, value: float, behind: Evidence) -> str | None:
    """Why a number is undefined or rests on too few patients; None where it does not."""
    if np.isnan(value):
        return (
            f"undefined: {behind.positives} positives, {behind.negatives} negatives, {behind.called} called positive"
            if quantity.metric not in ("brier", "log_loss") or behind.positives + behind.negatives == 0
            else "undefined: the scores are not all probabilities between 0 and 1"
        )
    found = _too_few("positives", behind.positives, behind.positive_patients)
    if found is None and quantity.metric in ("auroc", "specificity"):
        found = _too_few("negatives", behind.negatives, behind.negative_patients)
    if found is None and quantity.metric == "precision" and behind.called < LEAST:
        found = f"not estimable: {behind.called} called positive, an interval needs {LEAST}"
    return found


def _too_few(what: str, images: int, patients: int) -> str | None:
    if images < LEAST:
        return f"not estimable: {images} {what}, an interval needs {LEAST}"
    if patients < LEAST:
        return f"not estimable: the {images} {what} are of {patients} patients, an interval needs {LEAST}"
    return None


def _evidence(
    positive: npt.NDArray[np.bool_], negative: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_], patients: Patients
) -> Evidence:
    of_patients = [
        int(np.bincount(patients.index[cell.any(axis=1)]).astype(bool).sum()) for cell in (positive, negative)
    ]
    return Evidence(int(positive.sum()), int(negative.sum()), of_patients[0], of_patients[1], int(called.sum()))


def reasons(
    quantities: Sequence[Quantity], values: Array, behind: dict[tuple[str, str], Evidence], replicates: Array
) -> list[str | None]:
    """`reason_without_interval` of each quantity: values (M,), replicates (B, M)."""
    return [
        reason_without_interval(quantity, float(values[m]), behind[quantity.scope, quantity.name], replicates[:, m])
        for m, quantity in enumerate(quantities)
    ]
