"""AUROC, average precision and the best F1 of one label under many weightings, from one sort.

At each distinct score of a positive image (a cut) stand sums of weights: of the positives at it, of the negatives
between it and the cut above, of the negatives at it. Each sum is one row of a sparse matrix over patients, so that a
block of replicates is one sparse product; what follows are cumulative sums over the cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from radlens.core.patient_weights import Weights
from radlens.core.undefined import quotient
from radlens.evaluate.resampling.setting_scores import Patients

Array = npt.NDArray[np.float64]
Sums = npt.NDArray[np.float32]
_CHUNK = 100_000
"""Numbers in one array of a chunk of cuts: small enough to stay in a processor's cache."""


@dataclass(frozen=True)
class CutSums:
    """Weights at each of K cuts, the highest first, in B replicates; float32 (K, B), whole numbers below 2**24.

    gained: of positives at the cut. above: of negatives between it and the cut above. tied: of negatives at the cut;
    None where no negative ties with a positive.
    """

    gained: Sums
    above: Sums
    tied: Sums | None

    def taken_from(self, whole: CutSums) -> CutSums:
        """What is left of `whole` (K, 1) without these."""
        tied = None if self.tied is None or whole.tied is None else whole.tied - self.tied
        return CutSums(whole.gained - self.gained, whole.above - self.above, tied)


@dataclass(frozen=True)
class RankedLabel:
    """One label's cuts as sparse matrices (K, P) of images of each patient; built by `rank_label`."""

    gained: csr_array
    above: csr_array
    tied: csr_array | None

    def sums(self, weights: Weights) -> CutSums:
        """Sums at the cuts for weights (P, B)."""
        tied = None if self.tied is None else self.tied @ weights
        return CutSums(self.gained @ weights, self.above @ weights, tied)


def rank_label(scores: Array, targets: npt.NDArray[np.float32], patients: Patients) -> RankedLabel:
    """Cuts of one label: scores (N,), targets (N,) 1, 0 or NaN (left out)."""
    positive, negative = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    ascending, cut = np.unique(scores[positive], return_inverse=True)
    cuts = len(ascending)
    # cuts strictly above each negative: the number, from the highest, of the cut that it is at or next above
    before = cuts - np.searchsorted(ascending, scores[negative], "right")
    at = np.searchsorted(ascending, scores[negative], "left")
    tied = at < cuts - before
    above = (before < cuts) & ~tied
    index = patients.index
    return RankedLabel(
        _rows(cuts - 1 - cut, index[positive], cuts, patients.count),
        _rows(before[above], index[negative[above]], cuts, patients.count),
        _rows(before[tied], index[negative[tied]], cuts, patients.count) if tied.any() else None,
    )


def ranked_metrics(sums: CutSums, positives: Array, negatives: Array) -> tuple[Array, Array, Array]:
    """AUROC, average precision and best F1, each (B,), NaN where undefined; positives, negatives (B,): weights in all.

    Exact but for the rounding of float64: weights are whole numbers, and so are their sums.
    """
    cuts, replicates = sums.gained.shape
    true, false = np.zeros(replicates), np.zeros(replicates)
    lost, precision, best = np.zeros(replicates), np.zeros(replicates), np.zeros(replicates)
    step = max(_CHUNK // max(replicates, 1), 1)
    for start in range(0, cuts, step):
        chunk = slice(start, start + step)
        gained = _across(sums.gained[chunk])
        true_positive = _cumulative(gained, true)
        if sums.tied is None:
            false_positive = beaten_by = _cumulative(_across(sums.above[chunk]), false)
        else:
            tied = _across(sums.tied[chunk])
            false_positive = _cumulative(_across(sums.above[chunk]) + tied, false)
            beaten_by = false_positive - tied / 2
        true, false = true_positive[:, -1], false_positive[:, -1]
        lost += np.einsum("bk,bk->b", gained, beaten_by)
        called = true_positive + false_positive
        # before the first positive drawn both are 0: such a cut gains nothing
        np.maximum(called, 1, out=called)
        precision += np.einsum("bk,bk->b", gained, true_positive / called)
        called += positives[:, None]
        best = np.maximum(best, np.divide(true_positive, called, out=called).max(axis=1) * 2)
    area = quotient(positives * negatives - lost, positives * negatives)
    return area, quotient(precision, positives), np.where(positives > 0, best, np.nan)


def _rows(row: npt.NDArray[np.intp], patient: npt.NDArray[np.intp], rows: int, patients: int) -> csr_array:
    order = np.argsort(row, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    data = np.ones(len(row), np.float32)
    return csr_array((data, patient[order].astype(np.int32), starts.astype(np.int32)), shape=(rows, patients))


def _across(sums: Sums) -> Array:
    across: Array = sums.T.astype(np.float64, order="C")
    return across


def _cumulative(values: Array, before: Array) -> Array:
    """Cumulative sums (B, k) that go on from `before` (B,)."""
    total = np.cumsum(values, axis=1)
    total += before[:, None]
    return total
