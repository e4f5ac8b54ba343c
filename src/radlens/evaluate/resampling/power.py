"""What so few test positives can show: how far F1 scatters by chance, and the least difference that could be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from radlens.core.errors import SpecError

Array = npt.NDArray[np.float64]
_BINS = 2000
_OUTCOMES = 401
_CUTS = 24


@dataclass(frozen=True)
class Power:
    """The figures of a power statement.

    positives, negatives: of the test images. f1: expected, from recall and false_positive_rate. low, high: the interval
    that holds an observed F1 with the given confidence. difference: the least true difference in F1 that a two-sided
    test at 1 - confidence finds with the given power; NaN where not even the greatest one is found.
    """

    positives: int
    negatives: int
    recall: float
    false_positive_rate: float
    f1: float
    low: float
    high: float
    difference: float
    confidence: float
    power: float


def power_of_f1(
    positives: int,
    negatives: int,
    *,
    recall: float = 0.5,
    false_positive_rate: float | None = None,
    confidence: float = 0.95,
    power: float = 0.8,
) -> Power | None:
    """How far F1 scatters and which difference in it could be seen; None without positives.

    Assumed: images are independent (several images of a patient show less); true positives are binomial (positives,
    recall) and false positives binomial (negatives, false_positive_rate); the two settings err independently (settings
    that err on the same images show a little more). By default a setting of recall 0.5 that calls as many images
    positive as are, so that F1 is about 0.5. The distribution of F1 is exact for up to 400 outcomes of either count, of
    more their equally likely quantiles, in 2,000 bins; nothing is drawn at random. The second setting errs less (or
    more) in both counts in one proportion; of the two directions the smaller difference is given. `SpecError` for a
    count or a rate out of range.
    """
    if positives < 0 or negatives < 0:
        raise SpecError(f"expected counts of positives and negatives from 0, found {positives} and {negatives}.")
    rate = min((1 - recall) * positives / negatives, 1.0) if negatives and false_positive_rate is None else 0.0
    rate = rate if false_positive_rate is None else false_positive_rate
    shares = {"recall": recall, "false_positive_rate": rate, "confidence": confidence, "power": power}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise SpecError(f"expected {name} between 0 and 1, found {share}.")
    if not positives:
        return None
    own = _f1_distribution(positives, negatives, recall, rate)
    cumulative, tail = np.cumsum(own), (1 - confidence) / 2
    low, high = (int(np.searchsorted(cumulative, share - 1e-12)) for share in (tail, 1 - tail))
    critical = _critical(own, 1 - confidence)
    directions = [
        _least_visible(positives, negatives, (recall, rate), end, own, critical, power)
        for end in ((1.0, 0.0), (0.0, rate))
    ]
    found = [difference for difference in directions if not np.isnan(difference)]
    return Power(
        positives,
        negatives,
        recall,
        rate,
        _mean(own),
        low / _BINS,
        min(high, _BINS) / _BINS,
        min(found, default=float("nan")),
        confidence,
        power,
    )


def power_statement(
    positives: int,
    negatives: int,
    *,
    recall: float = 0.5,
    false_positive_rate: float | None = None,
    confidence: float = 0.95,
    power: float = 0.8,
) -> str:
    """`power_of_f1` as a sentence: "10 test positives: F1 interval .22 to .74; a difference below .48 could not be
    seen". The interval is where F1 of such a setting falls by chance, not one around an observed F1.
    """
    figures = power_of_f1(
        positives,
        negatives,
        recall=recall,
        false_positive_rate=false_positive_rate,
        confidence=confidence,
        power=power,
    )
    return in_words(figures)


def in_words(figures: Power | None) -> str:
    """What `power_of_f1` gave as the sentence of `power_statement`."""
    if figures is None:
        return "0 test positives: nothing can be said of F1"
    digits = 3 if figures.high - figures.low < 0.05 else 2
    low, high, difference = (short_share(x, digits) for x in (figures.low, figures.high, figures.difference))
    positives = figures.positives
    head = f"{positives} test positive{'s' if positives > 1 else ''}: F1 interval {low} to {high}"
    if np.isnan(figures.difference):
        return f"{head}; no difference could be seen"
    return f"{head}; a difference below {difference} could not be seen"


def short_share(share: float, digits: int = 2) -> str:
    """.62 for 0.62."""
    return f"{share:.{digits}f}".removeprefix("0")


def _binomial(trials: int, share: float) -> tuple[Array, Array]:
    """Outcomes and their chances: all of them where few, else equally likely quantiles."""
    spread = 8 * np.sqrt(max(trials * share * (1 - share), 1)) + 8
    middle = trials * share
    outcomes = np.arange(max(int(middle - spread), 0), min(int(middle + spread), trials) + 1)
    cumulative = bdtr(outcomes.astype(np.float64), trials, share)
    if len(outcomes) <= _OUTCOMES:
        return outcomes.astype(np.float64), np.diff(cumulative, prepend=0.0)
    middles = (np.arange(_OUTCOMES) + 0.5) / _OUTCOMES
    at = np.minimum(np.searchsorted(cumulative, middles), len(outcomes) - 1)
    return outcomes[at].astype(np.float64), np.full(_OUTCOMES, 1 / _OUTCOMES)


def _f1_distribution(positives: int, negatives: int, recall: float, rate: float) -> Array:
    """Chances (2001,) of F1 in steps of 1/2000."""
    true, true_chance = _binomial(positives, recall)
    false, false_chance = _binomial(negatives, rate) if negatives else (np.zeros(1), np.ones(1))
    f1 = 2 * true[:, None] / (true[:, None] + false[None, :] + positives)
    bins = np.rint(f1 * _BINS).astype(np.intp)
    chances = (true_chance[:, None] * false_chance[None, :]).ravel()
    distribution = np.bincount(bins.ravel(), chances, minlength=_BINS + 1).astype(np.float64)
    whole: Array = distribution / distribution.sum()
    return whole


def _difference_distribution(first: Array, second: Array) -> Array:
    """Chances (4001,) of first minus second, from -1 to 1."""
    size = 1 << int(np.ceil(np.log2(2 * len(first))))
    product = np.fft.rfft(first, size) * np.fft.rfft(second[::-1], size)
    return np.clip(np.fft.irfft(product, size)[: 2 * len(first) - 1], 0.0, None)


def _critical(own: Array, error: float) -> int:
    """The least distance, in bins, that two equal settings lie apart with a chance of at most `error`."""
    apart = _difference_distribution(own, own)
    # the chance of lying at least k bins apart, on either side
    at_least = 2 * np.cumsum(apart[::-1])[: _BINS + 1][::-1]
    at_least[0] = 1.0
    enough = np.flatnonzero(at_least <= error + 1e-9)
    return int(enough[0]) if len(enough) else _BINS + 1


def _least_visible(
    positives: int,
    negatives: int,
    start: tuple[float, float],
    end: tuple[float, float],
    own: Array,
    critical: int,
    power: float,
) -> float:
    """The least difference on the way from start to end (recall, false positive rate) that is found with `power`."""

    def other(share: float) -> Array:
        recall, rate = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        return _f1_distribution(positives, negatives, recall, rate)

    def found(distribution: Array) -> bool:
        apart = _difference_distribution(distribution, own)
        return float(apart[_BINS + critical :].sum() + apart[: max(_BINS - critical + 1, 0)].sum()) >= power

    if critical > _BINS or not found(other(1.0)):
        return float("nan")
    low, high = 0.0, 1.0
    for _ in range(_CUTS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(other(middle)) else (middle, high)
    return abs(_mean(other(high)) - _mean(own))


def _mean(distribution: Array) -> float:
    return float(distribution @ np.arange(_BINS + 1) / _BINS)
