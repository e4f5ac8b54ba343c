"""What a run folder holds, read once and without a model: the report's only source."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from radlens.core.cohort import SPLITS
from radlens.core.errors import StoreError

Row = dict[str, str]
FEW = 10
"""Below this many positives in the test split a figure is shown grey: its interval would mislead (METHODS 4)."""


def number(value: Any) -> float:
    """A cell as a float; blank, text and null become NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


@dataclass(frozen=True)
class RunContents:
    """All of a run folder that the report shows. A missing optional file is an empty value, never an error."""

    folder: Path
    facts: dict[str, Any]
    study: dict[str, Any]
    split_card: dict[str, Any]
    cards: dict[str, dict[str, Any]]
    tables: dict[str, tuple[Row, ...]]
    definitions: tuple[dict[str, Any], ...]
    examples: dict[str, Any]

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """Settings in the order of the overall table."""
        return _settings(self.tables)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels in the vocabulary's order."""
        rows = tuple(dict.fromkeys(row["label"] for row in self.tables["per_label"] if row.get("label")))
        return rows or tuple(section(self.split_card, "labels"))

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Splits that the run has, in the usual order."""
        named = set(section(self.split_card, "splits")) | set(section(self.split_card, "images"))
        for counts in section(self.split_card, "labels").values():
            named |= set(counts) if isinstance(counts, dict) else set()
        return tuple(split for split in SPLITS if split in named)

    @cached_property
    def dataset(self) -> str:
        """Registered name of the data set."""
        named = section(self.facts, "cohort").get("dataset") or section(self.study, "cohort").get("dataset")
        return str(named or "")

    def of(self, table: str, **keys: str) -> dict[str, Row]:
        """Rows of a table that match `keys`, by setting; the first row of a setting counts."""
        found: dict[str, Row] = {}
        for row in self.tables[table]:
            if all(row.get(key) == value for key, value in keys.items()):
                found.setdefault(row.get("setting", ""), row)
        return found

    @cached_property
    def intervals(self) -> dict[tuple[str, str, str, str], Row]:
        """(setting, scope, name, metric) -> its row of the table of intervals."""
        rows = self.tables["intervals"]
        return {(row["setting"], row["scope"], row["name"], row["metric"]): row for row in rows}

    def interval(self, setting: str, scope: str, name: str, metric: str) -> tuple[float, float]:
        """95 % interval of a figure; NaN where it has none."""
        row = self.intervals.get((setting, scope, name, metric), {})
        return number(row.get("low")), number(row.get("high"))

    @cached_property
    def _differences(self) -> dict[tuple[str, str, str, str, str], Row]:
        rows = self.tables["differences"]
        return {(row["a"], row["b"], row["scope"], row["name"], row["metric"]): row for row in rows}

    def differs(self, one: str, other: str, scope: str, name: str, metric: str) -> bool | None:
        """Whether two settings differ in a figure: its interval leaves out 0, and Holm's p, if any, is below .05.

        None where the run did not compare them.
        """
        known = self._differences
        row = known.get((one, other, scope, name, metric)) or known.get((other, one, scope, name, metric))
        if row is None:
            return None
        low, high, p = (number(row.get(key)) for key in ("low", "high", "p_holm"))
        # not every pair of many settings is permuted: then the interval decides
        return bool((low > 0 or high < 0) and not p >= 0.05)

    def test_positives(self, label: str) -> float:
        """Positives of a label in the test split; NaN where unknown."""
        rows = self.of("per_label", label=label)
        known = [number(row.get("test_positives")) for row in rows.values()]
        return next((value for value in known if value == value), float("nan"))

    def truth(self, image_ids: Collection[str]) -> pl.DataFrame | None:
        """`image_id` and a column a label that the cohort has, of these images alone; None without a cohort.

        Raises `StoreError` when the cohort's file is damaged. Reports and paths of 400,000 images stay on disk.
        """
        path = self.folder / "cohort.parquet"
        if not path.is_file():
            return None
        try:
            known = pl.scan_parquet(path)
            present = set(known.collect_schema())
            wanted = known.select("image_id", *(label for label in self.labels if label in present))
            return wanted.filter(pl.col("image_id").is_in(list(image_ids))).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise StoreError(_damaged(path, error)) from error

    @cached_property
    def estimable(self) -> tuple[str, ...]:
        """Labels with at least `FEW` positives in the test split."""
        return tuple(label for label in self.labels if self.test_positives(label) >= FEW)


def read_run(folder: Path) -> RunContents:
    """Read a run folder.

    Raises `StoreError` when the folder has no run.json, or when a file of it is damaged (named in the sentence).
    """
    if not (folder / "run.json").is_file():
        raise StoreError(f"{folder} is not a run folder: it has no run.json; name a folder that `radlens run` wrote.")
    names = (
        *("overall", "per_label", "per_domain", "separability", "localization", "embedding_view"),
        *("conditional_separability", "neighbourhood", "spaces", "distance_to_train", "seed_ensemble"),
        *("intervals", "differences", "subgroups", "power", "frequency", "calibration_error", "conformal", "seeds"),
        *("localization_sizes", "depth_matrix", "map_similarity", "false_alarms"),
        *("trust_cards", "trust_evidence", "faithfulness_curves", "randomisation_curves"),
    )
    tables = {name: _csv(folder / "tables" / f"{name}.csv") for name in names}
    listings = ("definitions.json", "localization_definitions.json", "trust_definitions.json")
    stated = (_json(folder / "tables" / name, []) for name in listings)
    definitions = [one for listing in stated if isinstance(listing, list) for one in listing]
    return RunContents(
        folder=folder,
        facts=_mapping(folder / "run.json"),
        study=_study(folder / "study.yaml"),
        split_card=_mapping(folder / "split_card.json"),
        cards=_cards(folder / "classifiers", _settings(tables)),
        tables=tables,
        definitions=tuple(d for d in definitions if isinstance(d, dict) and d.get("column")),
        examples=_mapping(folder / "saliency" / "examples.json"),
    )


def section(values: dict[str, Any], key: str) -> dict[str, Any]:
    """A mapping inside a mapping; empty when absent or of another kind."""
    inner = values.get(key)
    return inner if isinstance(inner, dict) else {}


def listed(values: dict[str, Any], key: str) -> list[Any]:
    """A list inside a mapping; empty when absent or of another kind."""
    inner = values.get(key)
    return inner if isinstance(inner, list) else []


def _settings(tables: Mapping[str, tuple[Row, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.get("setting", "") for row in tables["overall"] or tables["per_label"]))


def _cards(folder: Path, settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Cards of the run's own settings: a folder left over from a setting that the study dropped is none of them."""
    paths = {setting: (folder / setting / "card.json").resolve() for setting in settings}
    return {
        setting: _mapping(path)
        for setting, path in paths.items()
        if path.is_relative_to(folder.resolve()) and path.is_file()
    }


def _json(path: Path, absent: Any) -> Any:
    if not path.is_file():
        return absent
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise StoreError(_damaged(path, error)) from error


def _mapping(path: Path) -> dict[str, Any]:
    values = _json(path, {})
    if not isinstance(values, dict):
        raise StoreError(f"{path}: expected a JSON object, found {type(values).__name__}; run the study again.")
    return values


def _study(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise StoreError(_damaged(path, error)) from error
    return values if isinstance(values, dict) else {}


def _csv(path: Path) -> tuple[Row, ...]:
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple({k: v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise StoreError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} cannot be read ({str(error).splitlines()[0]}); run the study again to write it anew."
