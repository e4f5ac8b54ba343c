"""The permutation null of a difference: the two settings' predictions change places patient by patient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput
from radlens.core.patient_weights import block_size, swap_weights
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.resampling.ranked_label import ranked_metrics
from radlens.evaluate.resampling.setting_scores import Patients
from radlens.evaluate.resampling.weighted_metrics import assemble, label_counts, prepare, with_domains

Array = npt.NDArray[np.float64]


def swapped_differences(
    a: MetricInput, b: MetricInput, vocabulary: Vocabulary, patients: Patients, permutations: int, seed: int
) -> Array:
    """(permutations, M): first setting minus second after each patient's predictions changed places with chance 1/2.

    For AUROC and average precision scores are first made ranks within their setting, label by label (Venkatraman and
    Begg, Biometrika 83 (1996) 835-848): settings that differ in scale alone must not differ here. a and b have the
    same targets. Both settings stand one below the other, and a permutation is a choice of half of the rows; what the
    other setting gets is what is left of the whole.
    """
    both = MetricInput(
        np.concatenate([a.scores, b.scores]),
        np.concatenate([a.targets, b.targets]),
        np.concatenate([a.decisions, b.decisions]),
    )
    order = np.concatenate([_ranks(with_domains(x, vocabulary)) for x in (a, b)])
    twice = Patients(np.concatenate([patients.index, patients.index + patients.count]), 2 * patients.count)
    setting = prepare(both, vocabulary, twice, order)
    all_rows = np.ones((twice.count, 1), np.float32)
    whole = all_rows.T.astype(np.float64) @ setting.totals
    whole_sums = [label.sums(all_rows) for label in setting.ranked]
    found = []
    for swap in swap_weights(patients.count, permutations, seed, block_size(len(both.scores))):
        weights = np.concatenate([1 - swap, swap])
        totals = weights.T.astype(np.float64) @ setting.totals
        first, second = [], []
        for k, label in enumerate(setting.ranked):
            sums = label.sums(weights)
            left = sums.taken_from(whole_sums[k])
            first.append(ranked_metrics(sums, *label_counts(totals, k)))
            second.append(ranked_metrics(left, *label_counts(whole - totals, k)))
        found.append(assemble(setting, totals, first) - assemble(setting, whole - totals, second))
    return np.concatenate(found)


def permutation_p(observed: Array, permuted: Array) -> Array:
    """Two-sided (M,): (k + 1) / (n + 1), k of n permuted differences (n, M) at least as far from 0 as observed (M,).

    The 1 counts the observed arrangement, so that p is never 0 (Phipson and Smyth, 2010). NaN where the observed
    difference is undefined, or more than 5 % of the permuted ones are.
    """
    defined = ~np.isnan(permuted)
    # the same counts in another order of summing differ in the last digits
    as_far = ((np.abs(permuted) >= np.abs(observed) - 1e-12) & defined).sum(axis=0)
    p = (as_far + 1) / (defined.sum(axis=0) + 1)
    return np.where(np.isnan(observed) | (defined.mean(axis=0) < 0.95), np.nan, p)


def _ranks(columns: MetricInput) -> Array:
    """Twice the mid-rank of each score among its column's assessed images; 0 where not assessed."""
    ranks = np.zeros(columns.scores.shape, np.float64)
    for k in range(columns.scores.shape[1]):
        known = ~np.isnan(columns.targets[:, k])
        scores = columns.scores[known, k]
        ordered = np.sort(scores)
        ranks[known, k] = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return ranks
