"""The tables of a study: overall, per label, per domain, and separability. NaN where a number is undefined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.parts import MetricInput
from radlens.core.predictions import Predictions
from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate.domains import domain_inputs, domain_targets
from radlens.evaluate.scoring import score
from radlens.evaluate.separability import separability
from radlens.evaluate.thresholds import decide, prevalence

Separabilities = Mapping[str, pl.DataFrame]
"""`embedding_key` -> what `separability` gives for it."""

SEPARABILITY_DEFINITION = "pairwise, raw"
_DISTANCES = ("inter_class_distance", "intra_class_distance", "separability_ratio")
_OVERALL = (
    *("macro_f1", "exact_match", "lrap", "coverage_error", "ranking_loss", "macro_auroc"),
    "macro_average_precision",
)
_OVERALL_BESIDE = ("macro_f1_always_positive", "macro_f1_oracle")
_LABEL = ("precision", "recall", "f1", "f1_always_positive", "auroc", "average_precision")
_DOMAIN = ("f1", "f1_always_positive", "precision", "recall", "auroc", "average_precision")


@dataclass(frozen=True)
class SettingResult:
    """What is known of one setting once it is trained.

    test, val: predictions on the two splits. thresholds (L,) on probabilities, chosen on validation;
    threshold_rules: how, in words. train_seconds, trainable_parameters: None where nothing was trained. embedding_key:
    equal for settings whose test embeddings are equal, so that separability is computed once for them.
    train_embeddings: gives those of the training images, float32 (M, D); called where they are needed and not kept, for
    there may be gigabytes of them.
    """

    setting: str
    test: Predictions
    val: Predictions
    thresholds: npt.NDArray[np.float64]
    threshold_rules: tuple[str, ...]
    train_seconds: float | None
    trainable_parameters: int | None
    embedding_key: str
    train_embeddings: Callable[[], npt.NDArray[np.float32]] | None = None

    def __post_init__(self) -> None:
        labels = len(self.test.labels)
        if (
            self.thresholds.shape != (labels,)
            or len(self.threshold_rules) != labels
            or self.val.labels != self.test.labels
        ):
            raise ValueError(
                f"setting {self.setting}: expected {labels} thresholds and rules, and the same labels twice."
            )

    def inputs(self) -> MetricInput:
        """What the metrics look at: the test split."""
        return MetricInput(self.test.probabilities, self.test.targets, decide(self.test.probabilities, self.thresholds))


def separabilities(results: Sequence[SettingResult], vocabulary: Vocabulary, seed: int) -> dict[str, pl.DataFrame]:
    """Separability once for each embedding key; hand it to the tables below, which otherwise compute it themselves."""
    found: dict[str, pl.DataFrame] = {}
    for result in results:
        _check_labels(result, vocabulary)
        if result.embedding_key not in found:
            test = result.test
            found[result.embedding_key] = separability(test.embeddings, test.targets, test.groups, vocabulary, seed)
    return found


def overall_table(results: Sequence[SettingResult], seed: int, known: Separabilities | None = None) -> pl.DataFrame:
    """A row a setting, over all labels of the test split."""
    if known is None:
        known = separabilities(results, _without_domains(results[0].test.labels), seed)
    rows = []
    for result in results:
        test, values = result.test, score(result.inputs(), "overall")
        apart = _distances(known[result.embedding_key], "overall", "overall")
        positive, negative = (test.targets == 1).any(axis=0), (test.targets == 0).any(axis=0)
        rows.append(
            {"setting": result.setting}
            | {column: apart[column] for column in _DISTANCES}
            | {column: values.pop(column) for column in _OVERALL}
            | {
                "train_seconds": result.train_seconds,
                "separability_definition": SEPARABILITY_DEFINITION,
                **{f"separability_{x}": apart[f"separability_{x}"] for x in ("ratio_null", "z", "p")},
                "labels_counted": int(positive.sum()),
                "macro_auroc_labels_counted": int((positive & negative).sum()),
            }
            | {column: values.pop(column) for column in _OVERALL_BESIDE}
            | {
                "test_images": len(test),
                "test_patients": len(set(test.groups)),
                "trainable_parameters": result.trainable_parameters,
            }
            | values
        )
    return _frame(rows, {"train_seconds": pl.Float64, "trainable_parameters": pl.Int64})


def per_label_table(
    results: Sequence[SettingResult], vocabulary: Vocabulary, train_targets: npt.NDArray[np.float32]
) -> pl.DataFrame:
    """A row a setting and label, labels in the vocabulary's order. train_targets (M, L); domain is null where none."""
    rows = []
    for result in results:
        _check_labels(result, vocabulary)
        values = score(result.inputs(), "label")
        counts = _counts(train_targets, result.val.targets, result.test.targets)
        for i, label in enumerate(vocabulary.labels):
            at = {column: float(value[i]) for column, value in values.items()}
            rows.append(
                {"setting": result.setting, "label": label.name, "domain": label.domain}
                | {column: value[i].item() for column, value in counts.items()}
                | {column: at.pop(column) for column in _LABEL}
                | {"threshold": float(result.thresholds[i]), "threshold_rule": result.threshold_rules[i]}
                | {column: at.pop(column) for column in ("f1_oracle", "specificity")}
                | at
            )
    return _frame(rows, {"domain": pl.String})


def per_domain_table(
    results: Sequence[SettingResult],
    vocabulary: Vocabulary,
    train_targets: npt.NDArray[np.float32],
    seed: int,
    known: Separabilities | None = None,
) -> pl.DataFrame:
    """A row a setting and domain: target and decision are the OR over its labels, score their maximum.

    train_targets (M, L). `labels` names the domain's labels. A vocabulary without domains gives an empty table.
    """
    known = separabilities(results, vocabulary, seed) if known is None else known
    rows = []
    for result in results:
        inputs = domain_inputs(result.inputs(), vocabulary)
        values = score(inputs, "label")
        train, val = (domain_targets(targets, vocabulary) for targets in (train_targets, result.val.targets))
        counts = _counts(train, val, inputs.targets)
        for k, (domain, labels) in enumerate(vocabulary.domains.items()):
            at = {column: float(value[k]) for column, value in values.items()}
            rows.append(
                {"setting": result.setting, "domain": domain, "labels": "; ".join(labels)}
                | {column: value[k].item() for column, value in counts.items()}
                | {column: at.pop(column) for column in _DOMAIN}
                | _distances(known[result.embedding_key], "domain", domain)
                | at
            )
    return _frame(rows, {})


def separability_table(
    results: Sequence[SettingResult], vocabulary: Vocabulary, seed: int, known: Separabilities | None = None
) -> pl.DataFrame:
    """Every definition of separability, raw and normalised, for each setting: overall, per label and per domain."""
    known = separabilities(results, vocabulary, seed) if known is None else known
    return pl.concat(
        known[result.embedding_key].select(pl.lit(result.setting).alias("setting"), pl.all()) for result in results
    )


def _check_labels(result: SettingResult, vocabulary: Vocabulary) -> None:
    if result.test.labels != vocabulary.names:
        raise ValueError(f"setting {result.setting}: its labels {result.test.labels} are not {vocabulary.names}.")


def _without_domains(names: Sequence[str]) -> Vocabulary:
    return Vocabulary("labels", tuple(Label(name, None, (), ()) for name in names))


def _counts(
    train: npt.NDArray[np.float32], val: npt.NDArray[np.float32], test: npt.NDArray[np.float32]
) -> dict[str, npt.NDArray[Any]]:
    return {
        "train_positives": (train == 1).sum(axis=0),
        "val_positives": (val == 1).sum(axis=0),
        "test_positives": (test == 1).sum(axis=0),
        "test_assessed": (~np.isnan(test)).sum(axis=0),
        "prevalence": prevalence(test),
    }


def _distances(table: pl.DataFrame, scope: str, name: str) -> dict[str, float]:
    row = table.filter(
        (pl.col("scope") == scope)
        & (pl.col("name") == name)
        & (pl.col("definition") == "pairwise")
        & ~pl.col("normalised")
    ).row(0, named=True)
    columns = {"inter": _DISTANCES[0], "intra": _DISTANCES[1], "ratio": _DISTANCES[2]}
    beside = {"ratio_null": "separability_ratio_null", "ratio_z": "separability_z", "ratio_p": "separability_p"}
    return {new: row[old] for old, new in (columns | beside).items()}


def _frame(rows: list[dict[str, Any]], types: Mapping[str, Any]) -> pl.DataFrame:
    # a column of which every value is None would otherwise have no type
    return pl.DataFrame(rows, schema_overrides=types if rows else None, infer_schema_length=None)
