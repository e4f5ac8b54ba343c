"""Exact binomial (Clopper-Pearson) intervals of recall, specificity and precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import betaincinv

from radlens.core.interval_ends import CONFIDENCE
from radlens.core.undefined import quotient
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.resampling.setting_scores import SettingScores, patients_of
from radlens.evaluate.resampling.weighted_metrics import with_domains

Array = npt.NDArray[np.float64]


def clopper_pearson(
    successes: npt.ArrayLike, trials: npt.ArrayLike, confidence: float = CONFIDENCE
) -> tuple[Array, Array]:
    """Low and high of a share, any shape: both tails hold at most (1 - confidence) / 2. NaN without trials.

    Clopper and Pearson, Biometrika 26 (1934) 404-413. For independent trials it covers at least what it claims.
    """
    won, tried = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    tail = (1 - confidence) / 2
    lost = tried - won
    # where nothing was won or lost the end is 0 or 1, and the beta distribution has no such shape
    low = np.where(won > 0, betaincinv(np.maximum(won, 1), lost + 1, tail), 0.0)
    high = np.where(lost > 0, betaincinv(won + 1, np.maximum(lost, 1), 1 - tail), 1.0)
    return np.where(tried > 0, low, np.nan), np.where(tried > 0, high, np.nan)


def exact_intervals(results: Sequence[SettingScores], vocabulary: Vocabulary) -> pl.DataFrame:
    """A row a setting, label or domain, and metric (recall, specificity, precision): setting, scope, name, metric,
    value, low, high (95 %), successes, trials, unit, reason.

    Trials are images. unit is `patients` where no patient has two images in the trial; else `images`: images of one
    patient are alike, so that these intervals are too narrow. They stand at any number of positives. reason: why there
    is none (no trials), else null.
    """
    patients = patients_of(results, vocabulary.names)
    names = [*(("label", name) for name in vocabulary.names), *(("domain", name) for name in vocabulary.domains)]
    rows = []
    for result in results:
        columns = with_domains(result.inputs, vocabulary)
        positive, negative, called = columns.targets == 1, columns.targets == 0, columns.decisions == 1
        trials = {
            "recall": (positive, called),
            "specificity": (negative, ~called),
            "precision": (called & (positive | negative), positive),
        }
        for metric, (tried, right) in trials.items():
            number, won = tried.sum(axis=0), (tried & right).sum(axis=0)
            low, high = clopper_pearson(won, number)
            value = quotient(won, number)
            for k, (scope, name) in enumerate(names):
                most = np.bincount(patients.index[tried[:, k]], minlength=1).max()
                rows.append(
                    {
                        "setting": result.setting,
                        "scope": scope,
                        "name": name,
                        "metric": metric,
                        "value": float(value[k]),
                        "low": float(low[k]),
                        "high": float(high[k]),
                        "successes": int(won[k]),
                        "trials": int(number[k]),
                        "unit": "patients" if most <= 1 else "images",
                        "reason": None if number[k] else f"undefined: {_NONE[metric]}",
                    }
                )
    return pl.DataFrame(rows, schema_overrides={"reason": pl.String})


_NONE = {"recall": "no positives", "specificity": "no negatives", "precision": "nothing called positive"}
