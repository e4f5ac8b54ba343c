"""Tables as CSV, LaTeX and Markdown."""

from __future__ import annotations

import io
import math
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlens.core.errors import SpecError
from radlens.evaluate.export import Compared, to_csv, to_latex, to_markdown

TABLE = pl.DataFrame(
    {
        "label": ["Edema", "50% & more_$1"],
        "n": [4, 480],
        "zs": [0.021, 0.749],
        "ft": [math.nan, 0.8034],
        "lp": [0.04, 0.8031],
    }
)


def test_markdown_marks_only_where_the_mask_says_so() -> None:
    compared = Compared(("zs", "ft", "lp"), best=[False, True], worst=[False, True])
    assert to_markdown(TABLE, headings={"zs": "zero-shot"}, compared=compared) == (
        "| label | n | zero-shot | ft | lp |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| Edema | 4 | 0.021 | – | 0.040 |\n"
        # .8034 and .8031 print alike and are marked alike
        "| 50% &amp; more\\_\\$1 | 480 | *0.749* | **0.803** | **0.803** |\n"
    )


def test_latex_is_booktabs_with_escaped_text() -> None:
    compared = Compared(("zs", "ft", "lp"), best=[True, True], worst=[False, False], lower_is_better=[True, False])
    assert to_latex(TABLE, digits={"lp": 1}, compared=compared, caption="F1 & more", label="tab:f1") == (
        "\\begin{table}\n\\centering\n\\caption{F1 \\& more}\n\\label{tab:f1}\n"
        "\\begin{tabular}{lrrrr}\n\\toprule\nlabel & n & zs & ft & lp \\\\\n\\midrule\n"
        "Edema & 4 & \\textbf{0.021} & -- & 0.0 \\\\\n"
        "50\\% \\& more\\_\\$1 & 480 & 0.749 & \\textbf{0.803} & 0.8 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def test_csv_keeps_all_digits() -> None:
    read = pl.read_csv(io.StringIO(to_csv(TABLE)))
    assert read["lp"].to_list() == [0.04, 0.8031]
    assert read["ft"].to_list() == [None, 0.8034]


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_any_text_keeps_the_shape(names: list[str]) -> None:
    table = pl.DataFrame({"a|b&c": names, "x": [0.5] * len(names)})
    for line in to_markdown(table).strip("\n").split("\n"):
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3
    rows = to_latex(table).split("\n")
    assert len(rows) == 4 + len(names) + 3
    for row in rows[4 : 4 + len(names)]:
        bare = re.sub(r"\\[&{}]", "", row).removesuffix(r" \\")
        assert bare.count(" & ") == 1
        assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compared": Compared(("zs", "fp"), [True] * 2, [True] * 2)}, "unknown column to compare 'fp'"),
        ({"compared": Compared(("zs", "label"), [True] * 2, [True] * 2)}, "expected numbers, found String"),
        (
            {"compared": Compared(("zs", "lp"), [True], [True] * 2)},
            "best must hold one boolean a row: expected 2, found 1",
        ),
        ({"headings": {"q": "Q"}}, "unknown column with a heading 'q'"),
        ({"digits": {"q": 1}}, "unknown column with digits 'q'"),
    ],
)
def test_refuses_what_does_not_fit(options: dict[str, object], message: str) -> None:
    for export in (to_markdown, to_latex):
        with pytest.raises(SpecError, match=message):
            export(TABLE, **options)  # type: ignore[arg-type]


def test_small_and_endless_values() -> None:
    table = pl.DataFrame({"x": [-0.0001, math.inf, None], "ok": [True, False, None], "all": [["a", "b"], [], None]})
    assert to_markdown(table).splitlines()[2:] == ["| 0.000 | yes | a, b |", "| ∞ | no |  |", "| – | – | – |"]
    assert r"$\infty$" in to_latex(table)
