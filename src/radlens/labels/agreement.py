"""Cohen's kappa of two yes-or-no judgements of the same studies, with its large-sample interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST_POSITIVES = 10
_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True)
class Agreement:
    """Two judgements of n studies, positive against not positive.

    both, only_a, only_b, neither: the four cells. share: of studies judged alike, 0 to 1. positive_agreement: 2 both /
    (2 both + only_a + only_b), 0 to 1 (Cicchetti and Feinstein, J Clin Epidemiol 1990): unlike kappa and the share it
    is not moved by studies that neither calls positive. kappa: -1 to 1. low, high: 95 % interval of kappa. A number
    that is not defined is NaN; `reason` then says why (empty where all are defined).
    """

    n: int
    both: int
    only_a: int
    only_b: int
    neither: int
    share: float
    positive_agreement: float
    kappa: float
    low: float
    high: float
    reason: str = ""


def agreement(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> Agreement:
    """Agreement of two judgements, each (n,) boolean: True is positive.

    kappa = (p_o - p_e) / (1 - p_e) with p_o the share judged alike and p_e what the two rates of positives alone would
    give (Cohen, Educ Psychol Meas 1960). The interval is kappa +- 1.96 standard errors, cut to [-1, 1], with the
    variance of Fleiss, Cohen and Everitt (Psychol Bull 1969), equation 13; it takes studies as independent. No interval
    is given where either judgement has fewer than `LEAST_POSITIVES` positives or negatives, or where all agree: the
    formula then gives one far too narrow.
    """
    n = len(a)
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    neither = n - both - only_a - only_b
    cells = (n, both, only_a, only_b, neither)
    nan = math.nan
    if n == 0:
        return Agreement(*cells, nan, nan, nan, nan, nan, "no study to compare")
    share = (both + neither) / n
    some = 2 * both + only_a + only_b
    positive = 2 * both / some if some else nan
    # p_e is 1 where both judge every study alike and one way
    if some == 0 or neither + only_a + only_b == 0:
        what = "positive" if some == 0 else "negative"
        return Agreement(*cells, share, positive, nan, nan, nan, f"neither has a {what} study")
    kappa, error = _kappa(both / n, only_a / n, only_b / n, neither / n, n)
    fewest = min(both + only_a, both + only_b, neither + only_a, neither + only_b)
    if fewest < LEAST_POSITIVES:
        scarce = "positives" if min(both + only_a, both + only_b) == fewest else "negatives"
        reason = f"interval not estimable: {fewest} {scarce} in one of the two, below {LEAST_POSITIVES}"
        return Agreement(*cells, share, positive, kappa, nan, nan, reason)
    if only_a + only_b == 0:
        return Agreement(*cells, share, positive, kappa, nan, nan, "interval not estimable: all studies agree")
    low, high = max(-1.0, kappa - _NORMAL_975 * error), min(1.0, kappa + _NORMAL_975 * error)
    return Agreement(*cells, share, positive, kappa, low, high)


def _kappa(p11: float, p10: float, p01: float, p00: float, n: int) -> tuple[float, float]:
    """Kappa and its standard error, from the shares of the four cells."""
    a1, b1 = p11 + p10, p11 + p01
    a0, b0 = 1 - a1, 1 - b1
    observed, chance = p11 + p00, a1 * b1 + a0 * b0
    kappa = (observed - chance) / (1 - chance)
    # cell (i, j) brings the rate of i in b and of j in a
    alike = p11 * ((1 - chance) - (b1 + a1) * (1 - observed)) ** 2
    alike += p00 * ((1 - chance) - (b0 + a0) * (1 - observed)) ** 2
    unlike = (1 - observed) ** 2 * (p10 * (b1 + a0) ** 2 + p01 * (b0 + a1) ** 2)
    correction = (observed * chance - 2 * chance + observed) ** 2
    variance = (alike + unlike - correction) / (n * (1 - chance) ** 4)
    return kappa, math.sqrt(max(0.0, variance))
