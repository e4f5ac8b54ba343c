"""All rules of an audit, in the order in which their findings are told."""

from __future__ import annotations

from collections.abc import Callable

from radlens.evaluate.audit.findings import Finding, ranked
from radlens.evaluate.audit.published import PublishedTables
from radlens.evaluate.audit.rules import (
    chance,
    claims,
    distances,
    domains,
    means,
    multilabel,
    parts,
    sample_size,
    values,
)

RULES: tuple[Callable[[PublishedTables], list[Finding]], ...] = (
    means.macro_means,
    means.winner_flips,
    means.between_labels,
    means.hamming,
    values.two_values,
    values.outside_range,
    values.not_whole,
    parts.from_parts,
    parts.macro_f1_possible,
    parts.ratios,
    domains.one_label_domains,
    domains.least_domain_f1,
    domains.domain_prevalence,
    multilabel.exact_match_bounds,
    multilabel.coverage_minimum,
    multilabel.lrap_bounds,
    claims.text_against_tables,
    chance.equals_always_positive,
    chance.fits_always_positive,
    chance.below_always_positive,
    distances.ratio_of_noise,
    chance.no_hit,
    chance.errors_for_each_hit,
    chance.no_better_than_chance,
    sample_size.few_positives,
    sample_size.f1_differences,
    sample_size.share_differences,
)


def audit(tables: PublishedTables) -> list[Finding]:
    """All findings, contradictions first; each is true of the figures as they were read."""
    return ranked(finding for rule in RULES for finding in rule(tables))


def without_rule(tables: PublishedTables) -> list[str]:
    """Metrics that are compared between places only, since no rule knows them; overall f1 is one: say macro, micro."""
    known = _OVERALL | {f"macro_{metric}" for metric in means.MEANS}
    found = []
    for entry in tables.entries:
        overall = entry.kind in ("overall", "data")
        if entry.metric not in (known if overall else _OF_LABELS):
            found.append(f"{entry.kind} {entry.metric}" if overall else entry.metric)
    return list(dict.fromkeys(found))


_DISTANCES = {"inter_class_distance", "intra_class_distance", "separability_ratio"}
_OF_LABELS = {*means.MEANS, *_DISTANCES, "prevalence", "positives", "n"}
_OVERALL = {
    *("micro_f1", "weighted_f1", "micro_precision", "micro_recall", "hamming_loss", "exact_match", "accuracy"),
    *("lrap", "coverage_error", "ranking_loss", "train_minutes", "n", "prevalence"),
    *("images", "reports", "patients", "labels", "test_fraction"),
    *_DISTANCES,
}
