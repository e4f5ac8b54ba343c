"""Read published tables from a long CSV: one row a figure or a statement (columns: docs/how-to/audit.md)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from radlens.core.errors import DataError, unknown_name
from radlens.evaluate.audit.printed import Printed, read_printed
from radlens.evaluate.audit.published import ANY, KINDS, MOST, RELATIONS, Claim, Entry, Kind, PublishedTables

REQUIRED = ("table", "kind", "setting", "metric", "value")
COLUMNS = (*REQUIRED[:2], "name", *REQUIRED[2:], "percent", "n", "prevalence", "where")
EXAMPLE = Path(__file__).parent / "paper_tables.csv"
_FOR_ALL = ("prevalence", "positives", "n", "members")
_CLAIM = re.compile(r"(best|[><=~])\s*(.*)")
_PERCENT = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True, "%": True}
_ALIASES = {
    "ap": "average_precision",
    "auc": "auroc",
    "roc_auc": "auroc",
    "subset_accuracy": "exact_match",
    "exact_match_ratio": "exact_match",
    "sensitivity": "recall",
    "map": "macro_average_precision",
    "macro_ap": "macro_average_precision",
    "macro_auc": "macro_auroc",
}


def read_published(path: Path) -> PublishedTables:
    """The figures of an audit file.

    Raises `DataError` in one sentence that names row (1 is the first below the column names) and column: a file that
    is no table, a column missing or unknown, a value that is no number, a statement about a setting that has no row.
    """
    rows = list(_rows(path))
    spelling: dict[str, str] = {}
    entries: list[Entry] = []
    claims: list[Claim] = []
    members: dict[str, tuple[str, ...]] = {}
    for number, cells in rows:
        row = _Row(path, number, cells, spelling)
        if row.metric == "members":
            members[row.name] = tuple(row.spelled(part) for part in cells["value"].split(";") if part.strip())
        elif row.is_claim:
            claims.append(row.claim())
        else:
            entries.extend(row.entries())
    tables = PublishedTables(str(path), tuple(entries), tuple(claims), members)
    if not any(entry.setting and entry.number for entry in entries):
        raise DataError(f"audit file {path} has no figure of any setting; expected a row for each cell of the tables.")
    _check_names(path, tables)
    return tables


class _Row:
    """One row with its checks; each error names the file, the row and the column."""

    def __init__(self, path: Path, number: int, cells: dict[str, str], spelling: dict[str, str]) -> None:
        self._path, self.number, self.cells, self._spelling = path, number, cells, spelling
        self.kind = self._kind()
        self.metric = re.sub(r"[\s-]+", "_", cells["metric"].lower())
        self.metric = _ALIASES.get(self.metric, self.metric)
        if not self.metric:
            raise self.error("metric", "is blank; name the metric, such as f1")
        if not cells["table"]:
            raise self.error("table", "is blank; name where it stands, such as Table 1, or text")
        self.setting = self.spelled(cells["setting"])
        self.name = self.spelled(cells["name"])
        if self.kind in ("label", "domain") and not self.name:
            raise self.error("name", f"is blank; expected the {self.kind}'s name")
        if self.kind in ("overall", "data") and self.name:
            raise self.error("name", f"is {self.name!r}; a row of kind {self.kind} has none")
        if self.kind == "data" and self.setting:
            raise self.error("setting", f"is {self.setting!r}; leave it blank, data hold for all settings")
        if not self.setting and self.kind != "data" and self.metric not in _FOR_ALL:
            raise self.error("setting", f"is blank; only {', '.join(_FOR_ALL)} and rows of kind data hold for all")

    @property
    def is_claim(self) -> bool:
        return bool(self.setting) and _CLAIM.fullmatch(self.cells["value"]) is not None and not self._is_number()

    def claim(self) -> Claim:
        found = _CLAIM.fullmatch(self.cells["value"])
        assert found is not None
        other = self.spelled(found[2])
        if (found[1] == "best") == bool(other):
            raise self.error("value", f"is {self.cells['value']!r}; expected best, or > < = ~ and another setting")
        relation = next(known for known in RELATIONS if known == found[1])
        table, where = self.cells["table"], self.cells["where"]
        return Claim(self.number, table, self.kind, self.name, self.setting, self.metric, relation, other, where)

    def entries(self) -> Iterator[Entry]:
        """The cell itself, and what its row says of n and prevalence as cells of their own."""
        percent = _PERCENT.get(self.cells["percent"].lower())
        if percent is None:
            raise self.error("percent", f"is {self.cells['percent']!r}; expected yes, no or a blank")
        n = self._number("n")
        if n is not None and (n.value < 1 or n.value != round(n.value)):
            raise self.error("n", f"is {n.text}; expected a whole number of images, 1 or more")
        yield self._entry(self.metric, self.setting, self._number("value", percent), n)
        if n is not None and self.kind != "data" and self.metric != "positives":
            yield self._entry("n", "", n, n)
        prevalence = self._number("prevalence")
        if prevalence is not None:
            yield self._entry("prevalence", "", prevalence, n)

    def _entry(self, metric: str, setting: str, number: Printed | None, n: Printed | None) -> Entry:
        table, where = self.cells["table"], self.cells["where"]
        return Entry(self.number, table, self.kind, self.name, setting, metric, number, n, where)

    def spelled(self, name: str) -> str:
        # "No finding" and "No Finding" are one label, spelled as it is first
        name = " ".join(name.split())
        return self._spelling.setdefault(name.casefold(), name)

    def error(self, column: str, what: str) -> DataError:
        return DataError(f"audit file {self._path}, row {self.number}, column {column}: {what}.")

    def _kind(self) -> Kind:
        kind = self.cells["kind"].lower()
        for known in KINDS:
            if kind == known:
                return known
        raise self.error("kind", f"is {self.cells['kind']!r}; expected {', '.join(KINDS)}")

    def _number(self, column: str, percent: bool = False) -> Printed | None:
        try:
            return read_printed(self.cells[column], percent)
        except ValueError as error:
            raise self.error(column, f"cannot read {self.cells[column]!r}: {error}") from error

    def _is_number(self) -> bool:
        try:
            return read_printed(self.cells["value"]) is not None
        except ValueError:
            return False


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"audit file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"audit file {path} is not UTF-8 text; save the table as CSV in UTF-8.") from error
    if not text.strip():
        raise DataError(f"audit file {path} is empty; expected the columns {', '.join(COLUMNS)}.")
    first = text.lstrip().splitlines()[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    number, names = 0, []
    try:
        names = [name.strip().lower() for name in next(row for row in reader if row)]
        _check_columns(path, names)
        for number, row in enumerate(reader, start=1):
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(names):
                raise DataError(
                    f"audit file {path}, row {number}: {len(row)} fields, expected {len(names)}; look for a missing or "
                    "surplus separator, and put a text that holds one in quotes."
                )
            cells = dict.fromkeys(COLUMNS, "") | {name: cell.strip() for name, cell in zip(names, row, strict=True)}
            yield number, cells
    except csv.Error as error:
        raise DataError(f"audit file {path}, row {number + 1}: {error}; check its quotes.") from error


def _check_columns(path: Path, names: list[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise DataError(f"audit file {path}: {unknown_name('column', name, COLUMNS)}")
        if names.count(name) > 1:
            raise DataError(f"audit file {path}: column {name!r} stands twice; rename or remove one.")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise DataError(f"audit file {path}: column {missing[0]!r} is missing; expected {', '.join(COLUMNS)}.")


def _check_names(path: Path, tables: PublishedTables) -> None:
    for claim in tables.claims:
        here = f"audit file {path}, row {claim.row}, column"
        for column, setting in (("setting", claim.setting), ("value", claim.other)):
            if setting and setting not in tables.settings:
                raise DataError(f"{here} {column}: {unknown_name('setting', setting, tables.settings)}")
        known = (*(tables.labels if claim.kind == "label" else tables.domains), ANY, MOST)
        if claim.name and claim.name not in known:
            raise DataError(f"{here} name: {unknown_name(claim.kind, claim.name, known)}")
    for domain, labels in tables.members.items():
        for label in labels:
            if label not in tables.labels:
                raise DataError(
                    f"audit file {path}: members of {domain!r}: {unknown_name('label', label, tables.labels)}"
                )
