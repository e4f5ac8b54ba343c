"""Whether paired differences are supported: their interval over patients, a sign-flip p, and Holm's correction."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.holm import holm
from radlens.core.patient_means import PatientMeans, patient_means
from radlens.core.patient_weights import block_size, swap_weights

Array = npt.NDArray[np.float64]

PERMUTATIONS = 10_000
"""Sign flips: with n of them p is at least 1 / (n + 1), so that a family of up to 500 can be supported by 10,000."""
LEVEL = 0.05


@dataclass(frozen=True)
class Support:
    """M differences: `means` (value, low, high, reason, images, patients), p, p_holm (M,), NaN where not tested.

    supported: True where the interval leaves out 0 and p_holm is below 0.05; None where there is no interval.
    """

    means: PatientMeans
    p: Array
    p_holm: Array
    supported: tuple[bool | None, ...]


def support(
    differences: Array,
    patients: npt.NDArray[np.str_],
    families: Sequence[Hashable],
    *,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Support:
    """Differences (N, M), NaN where either side is undefined; patients (N,); families (M,): what is corrected together.

    A difference without an interval is not tested and does not count in its family. Deterministic in `seed`.
    """
    means = patient_means(differences, patients, seed=seed)
    p = sign_flip_p(differences, patients, seed=seed, permutations=permutations)
    p[[why is not None for why in means.reason]] = np.nan
    p_holm = np.full(len(p), np.nan)
    for family in dict.fromkeys(families):
        members = np.array([one == family for one in families], bool)
        p_holm[members] = holm(p[members])
    apart = (means.low > 0) | (means.high < 0)
    supported = tuple(
        None if np.isnan(adjusted) else bool(away and adjusted < LEVEL)
        for away, adjusted in zip(apart, p_holm, strict=True)
    )
    return Support(means, p, p_holm, supported)


def sign_flip_p(
    differences: Array, patients: npt.NDArray[np.str_], *, seed: int = 0, permutations: int = PERMUTATIONS
) -> Array:
    """Two-sided p (M,) that a mean difference is this far from 0 if each patient's could as well have the other sign.

    All differences of a patient change sign together. (k + 1) / (n + 1), k of n flips at least as far from 0 as
    observed: the 1 counts the observed arrangement (Phipson and Smyth, Statistical Applications in Genetics and
    Molecular Biology 9 (2010) 39). NaN for a column without a value.
    """
    names, index = np.unique(patients, return_inverse=True)
    member = np.zeros((len(names), len(index)))
    member[index, np.arange(len(index))] = 1
    defined = ~np.isnan(differences)
    sums = member @ np.where(defined, differences, 0.0)
    # the same values in another order of summing differ in the last digits
    observed = np.abs(sums.sum(axis=0)) - 1e-9 * np.abs(sums).sum(axis=0)
    as_far = np.zeros(sums.shape[1])
    for swap in swap_weights(len(names), permutations, seed, block_size(len(names))):
        as_far += (np.abs((1 - 2 * swap.T.astype(np.float64)) @ sums) >= observed).sum(axis=0)
    return np.where(defined.any(axis=0), (as_far + 1) / (permutations + 1), np.nan)
