"""Tables as CSV, as LaTeX (booktabs) and as Markdown; a value is marked only where its lead is supported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from radlens.core.errors import SpecError, unknown_name

Mark = Literal["", "best", "worst"]
UNDEFINED = "–"
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    UNDEFINED: "--",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{sign: f"\\{sign}" for sign in "\\|`*_[]~$"}}


@dataclass(frozen=True)
class Compared:
    """Columns that compete within each row, and the rows whose best or worst stands out by more than chance.

    columns: at least two, numeric. best, worst: one boolean a row; a row that is False is not marked, whatever its
    values. lower_is_better: for all rows, or one boolean a row.
    """

    columns: tuple[str, ...]
    best: Sequence[bool]
    worst: Sequence[bool]
    lower_is_better: bool | Sequence[bool] = False


def to_csv(table: pl.DataFrame) -> str:
    """The table with all digits it holds, for reading by a program; NaN and null are blank."""
    return table.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None)).write_csv()


def to_markdown(
    table: pl.DataFrame,
    *,
    headings: Mapping[str, str] | None = None,
    digits: int | Mapping[str, int] = 3,
    compared: Compared | None = None,
) -> str:
    """The table as GitHub Markdown: text escaped, numbers to the right, best in bold, worst in italics.

    headings: column -> its heading. digits: behind the point, for all columns or by column (3 where not named). NaN and
    null print as –. Raises `SpecError` for a column that the table has not, or a mask of another length.
    """
    marks, texts = _marks(table, compared, digits), _texts(table, digits)
    signs = {"": "{}", "best": "**{}**", "worst": "*{}*"}
    lines = [
        _pipes(_markdown(heading) for heading in _headings(table, headings)),
        _pipes("---:" if dtype.is_numeric() else "---" for dtype in table.dtypes),
    ]
    for row, cells in enumerate(texts):
        lines.append(
            _pipes(
                signs[marks.get((row, column), "")].format(_markdown(text))
                for column, text in zip(table.columns, cells, strict=True)
            )
        )
    return "\n".join(lines) + "\n"


def to_latex(
    table: pl.DataFrame,
    *,
    headings: Mapping[str, str] | None = None,
    digits: int | Mapping[str, int] = 3,
    compared: Compared | None = None,
    caption: str = "",
    label: str = "",
) -> str:
    r"""The table as LaTeX for the package booktabs: text escaped, best in bold, worst underlined.

    headings, digits, compared and errors as in `to_markdown`. With a caption or a label it stands in a `table`, else it
    is the bare `tabular`. The label is put as it is into \label.
    """
    marks, texts = _marks(table, compared, digits), _texts(table, digits)
    signs = {"": "{}", "best": r"\textbf{{{}}}", "worst": r"\underline{{{}}}"}
    kinds = "".join("r" if dtype.is_numeric() else "l" for dtype in table.dtypes)
    body = [
        f"\\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        _ampersands(_latex(heading) for heading in _headings(table, headings)),
        r"\midrule",
    ]
    for row, cells in enumerate(texts):
        body.append(
            _ampersands(
                signs[marks.get((row, column), "")].format(_latex(text))
                for column, text in zip(table.columns, cells, strict=True)
            )
        )
    body += [r"\bottomrule", r"\end{tabular}"]
    if caption or label:
        above = [r"\begin{table}", r"\centering"]
        above += [f"\\caption{{{_latex(caption)}}}"] if caption else []
        above += [f"\\label{{{label}}}"] if label else []
        body = [*above, *body, r"\end{table}"]
    return "\n".join(body) + "\n"


def _marks(
    table: pl.DataFrame, compared: Compared | None, digits: int | Mapping[str, int]
) -> dict[tuple[int, str], Mark]:
    """(row, column) -> mark. Values that print alike are marked alike; where all print alike none is."""
    if compared is None:
        return {}
    _check(table, compared)
    lower = compared.lower_is_better
    found: dict[tuple[int, str], Mark] = {}
    for row, cells in enumerate(table.select(compared.columns).iter_rows(named=True)):
        finite = {c: float(v) for c, v in cells.items() if v is not None and math.isfinite(v)}
        texts = {column: _text(cells[column], _digits(column, digits)) for column in finite}
        if len(set(texts.values())) < 2:
            continue
        down = lower if isinstance(lower, bool) else lower[row]
        order = sorted(finite, key=lambda column: finite[column], reverse=not down)
        ends: tuple[tuple[Mark, Sequence[bool], str], ...] = (
            ("worst", compared.worst, order[-1]),
            ("best", compared.best, order[0]),
        )
        for mark, supported, end in ends:
            if supported[row]:
                found |= {(row, column): mark for column, text in texts.items() if text == texts[end]}
    return found


def _check(table: pl.DataFrame, compared: Compared) -> None:
    for column in compared.columns:
        if column not in table.columns:
            raise SpecError(unknown_name("column to compare", column, table.columns))
        if not table.schema[column].is_numeric():
            raise SpecError(f"column {column!r} cannot be compared: expected numbers, found {table.schema[column]}.")
    lower = compared.lower_is_better
    masks = {"best": compared.best, "worst": compared.worst} | (
        {} if isinstance(lower, bool) else {"lower_is_better": lower}
    )
    for name, mask in masks.items():
        if len(mask) != table.height:
            raise SpecError(f"{name} must hold one boolean a row: expected {table.height}, found {len(mask)}.")


def _texts(table: pl.DataFrame, digits: int | Mapping[str, int]) -> list[list[str]]:
    if not isinstance(digits, int):
        for column in digits:
            if column not in table.columns:
                raise SpecError(unknown_name("column with digits", column, table.columns))
    places = [_digits(column, digits) for column in table.columns]
    return [[_text(value, each) for value, each in zip(row, places, strict=True)] for row in table.iter_rows()]


def _digits(column: str, digits: int | Mapping[str, int]) -> int:
    return digits if isinstance(digits, int) else digits.get(column, 3)


def _text(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        # -0.0004 prints 0.000
        return f"{value:z.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")
    if isinstance(value, list | tuple):
        return ", ".join(_text(part, digits) for part in value)
    return " ".join(str(value).split())


def _headings(table: pl.DataFrame, headings: Mapping[str, str] | None) -> list[str]:
    for column in headings or {}:
        if column not in table.columns:
            raise SpecError(unknown_name("column with a heading", column, table.columns))
    return [" ".join((headings or {}).get(column, column).split()) for column in table.columns]


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text).replace("-∞", r"$-\infty$").replace("∞", r"$\infty$")


def _markdown(text: str) -> str:
    return "".join(_MARKDOWN.get(sign, sign) for sign in text)


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ampersands(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
