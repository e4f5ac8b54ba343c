"""What the mean probability of several seeds scores beside each of them, and whether disagreement tells errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.parts import MetricInput
from radlens.core.patient_means import patient_means
from radlens.core.undefined import mean_of_defined
from radlens.evaluate.resampling.bootstrap import Intervals, ends
from radlens.evaluate.resampling.estimable import reason_without_interval
from radlens.evaluate.resampling.paired import NOT_COMPARED, OF_TARGETS
from radlens.evaluate.resampling.setting_scores import SettingScores
from radlens.evaluate.seed_ensemble import Ensemble
from radlens.evaluate.selective import certainty
from radlens.evaluate.tables import SettingResult
from radlens.evaluate.thresholds import decide

Array = npt.NDArray[np.float64]
SCHEMA: dict[str, Any] = {
    "setting": pl.String,
    "members": pl.Int64,
    "metric": pl.String,
    **dict.fromkeys(("single_mean", "single_least", "single_greatest"), pl.Float64),
    **dict.fromkeys(("ensemble", "low", "high", "gain", "gain_low", "gain_high"), pl.Float64),
    "reason": pl.String,
}


@dataclass(frozen=True)
class SeedGroup:
    """The seeds of one setting and what they say together.

    setting: its name. members: names of the single settings. ensemble: of their test probabilities; thresholds (L,) on
    its mean, chosen on validation like those of any setting.
    """

    setting: str
    members: tuple[SettingResult, ...]
    ensemble: Ensemble
    thresholds: Array

    @property
    def names(self) -> tuple[str, str, str]:
        """Under which names `scores` hands over the mean, the disagreement and the margin."""
        return f"{self.setting} (mean)", f"{self.setting} (disagreement)", f"{self.setting} (margin)"

    def scores(self) -> list[SettingScores]:
        """What is to be resampled together with the members.

        The mean probabilities; then two scores of doubt whose positives are the mean's wrong decisions: how far the
        seeds disagree (mutual information), and how near the mean lies to its threshold, which needs one seed only.
        """
        test = self.members[0].test
        decisions = decide(self.ensemble.mean, self.thresholds)
        wrong = np.where(np.isnan(test.targets), np.nan, decisions != test.targets).astype(np.float32)
        none = np.zeros_like(decisions)
        doubts = self.ensemble.mutual_information, -certainty(self.ensemble.mean, self.thresholds)
        inputs = [MetricInput(self.ensemble.mean, test.targets, decisions)]
        inputs += [MetricInput(doubt, wrong, none) for doubt in doubts]
        return [SettingScores(n, one, test.groups, test.image_ids) for n, one in zip(self.names, inputs, strict=True)]


def seed_ensemble_table(group: SeedGroup, known: Intervals, seed: int) -> pl.DataFrame:
    """A row a figure, with the columns of `SCHEMA`. known: what `bootstrap` gave for the members and `group.scores()`.

    single_mean, _least, _greatest: over the seeds. ensemble: of the mean probability, with its interval over patients;
    gain: ensemble less single_mean, with the interval of this difference on the same resamples. Then, in the column
    ensemble, `disagreement`: standard deviation of the probability between seeds, mean over images and assessed labels;
    and the macro AUROC (mean over labels) of two scores for the decisions of the ensemble that are wrong:
    `disagreement_error_auroc` and `margin_error_auroc`, the second of how near the mean probability lies to its
    threshold; .5 says nothing of errors. gain of the first is its difference from the second: what several seeds tell
    that one does not. reason: why a row has no interval.
    """
    at = {q.metric: place for place, q in enumerate(known.quantities) if q.scope == "overall"}
    mean, disagreement, margin = group.names
    members = [one.setting for one in group.members]
    rows = []
    for metric in at:
        if metric in (*OF_TARGETS, *NOT_COMPARED):
            continue
        single = np.array([known.values[name][at[metric]] for name in members])
        told = {"single_mean": mean_of_defined(single)}
        if not np.isnan(single).all():
            told |= {"single_least": float(np.nanmin(single)), "single_greatest": float(np.nanmax(single))}
        rows.append({"metric": metric} | told | _figure(known, mean, at[metric], members))
    test = group.members[0].test
    spread = np.where(np.isnan(test.targets), np.nan, group.ensemble.spread)
    found = patient_means(mean_of_defined(spread, axis=1), test.groups, seed=seed)
    own = {"ensemble": float(found.value[0]), "low": float(found.low[0]), "high": float(found.high[0])}
    rows.append({"metric": "disagreement", **own, "reason": found.reason[0]})
    for name, against in ((disagreement, [margin]), (margin, [])):
        kind = "disagreement" if name == disagreement else "margin"
        row = _figure(known, name, at["macro_auroc"], against)
        reason = str(row["reason"]).replace("positives", "wrong decisions").replace("negatives", "right decisions")
        rows.append({"metric": f"{kind}_error_auroc", **row, "reason": reason if row["reason"] else None})
    empty = {column: np.nan for column, kind in SCHEMA.items() if kind == pl.Float64}
    fixed = {"setting": group.setting, "members": group.ensemble.members}
    return pl.DataFrame([empty | fixed | row for row in rows], schema=SCHEMA)


def _figure(known: Intervals, name: str, place: int, against: Sequence[str]) -> dict[str, float | str | None]:
    """A figure with its interval, and how far it lies above the mean of the same figure of others."""
    quantity = known.quantities[place]
    value = float(known.values[name][place])
    behind = known.evidence[name][quantity.scope, quantity.name]
    reason = reason_without_interval(quantity, value, behind, known.replicates[name][:, place])
    low, high = _ends(known, name, place, ())
    row: dict[str, float | str | None] = {"ensemble": value, "reason": reason}
    row |= {"low": np.nan if reason else low, "high": np.nan if reason else high}
    if against:
        others = mean_of_defined(np.array([known.values[other][place] for other in against]))
        low, high = _ends(known, name, place, against)
        same = bool(np.isclose(low, high, rtol=0, atol=1e-12))
        row |= {"gain": value - others, "gain_low": low, "gain_high": high}
        if reason or same:
            row |= {"gain_low": np.nan, "gain_high": np.nan}
            row["reason"] = reason or "the gain is the same in every replicate and has no interval"
    return row


def _ends(known: Intervals, name: str, place: int, against: Sequence[str]) -> tuple[float, float]:
    def less(values: dict[str, Array]) -> Array:
        own: Array = values[name][..., place, None]
        if not against:
            return own
        others = np.stack([values[other][..., place] for other in against], axis=-1)
        found: Array = own - np.asarray(mean_of_defined(others, axis=-1))[..., None]
        return found

    left_out = less(dict(known.left_out)) if known.method == "bca" else None
    low, high = ends(known.method, less(dict(known.values)), less(dict(known.replicates)), left_out)
    return float(low[0]), float(high[0])
