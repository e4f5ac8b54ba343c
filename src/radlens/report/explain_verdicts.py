"""What a run's trust card says of the maps of one setting."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from radlens.core.errors import StoreError

_COLUMNS = ("setting", "method", "layer", "label", "verdict", "reason")


@dataclass(frozen=True)
class Verdict:
    """verdict: a word or two; reason: the sentence with the figures."""

    verdict: str
    reason: str


def read_verdicts(path: Path, setting: str) -> Mapping[tuple[str, str, str], Verdict] | None:
    """(method, layer, label) -> verdict, from a run's `tables/trust_cards.csv`; None where there is no such file.

    Raises `StoreError` for a file without the columns setting, method, layer, label, verdict and reason.
    """
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise StoreError(f"{path} has no column {missing[0]!r}; run the study again to write it anew.")
            return {
                (row["method"], row["layer"], row["label"]): Verdict(row["verdict"] or "", row["reason"] or "")
                for row in table
                if row["setting"] == setting
            }
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path} cannot be read: {error}; run the study again to write it anew.") from error
