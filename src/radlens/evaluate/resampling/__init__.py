"""Intervals, tests and power: everything resamples patients, and says why where it cannot tell."""

from radlens.core.holm import holm
from radlens.evaluate.resampling.bootstrap import Intervals, bootstrap
from radlens.evaluate.resampling.exact import clopper_pearson, exact_intervals
from radlens.evaluate.resampling.label_bands import band_intervals
from radlens.evaluate.resampling.paired import paired_differences
from radlens.evaluate.resampling.power import Power, power_of_f1, power_statement
from radlens.evaluate.resampling.setting_scores import SettingScores

__all__ = [
    "Intervals",
    "Power",
    "SettingScores",
    "band_intervals",
    "bootstrap",
    "clopper_pearson",
    "exact_intervals",
    "holm",
    "paired_differences",
    "power_of_f1",
    "power_statement",
]
