"""Audit files: how numbers are read, and what is refused in one sentence that names row and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlens.core.errors import DataError
from radlens.evaluate.audit.printed import read_printed
from radlens.evaluate.audit.reading import read_published

HEAD = "table,kind,name,setting,metric,value,percent,n,prevalence,where"


@pytest.mark.parametrize(
    ("text", "percent", "low", "high"),
    [
        ("0.143", False, 0.1425, 0.1435),
        (".143", False, 0.1425, 0.1435),
        ("14.3%", False, 0.1425, 0.1435),
        ("14.3 %", False, 0.1425, 0.1435),
        ("14.3", True, 0.1425, 0.1435),
        ("7,470", False, 7469.5, 7470.5),
        ("7 470", False, 7469.5, 7470.5),
        ("≈21.17", False, 21.16, 21.18),
        ("~ 21.17", False, 21.16, 21.18),
        ("0.14 ± 0.02", False, 0.135, 0.145),
        ("0.14+/-0.02", False, 0.135, 0.145),
        ("1.5e-3", False, 0.00145, 0.00155),
        ("**0.143**", False, 0.1425, 0.1435),
        ("0.143†", False, 0.1425, 0.1435),
        ("−0.5", False, -0.55, -0.45),
        ("4/1494", False, 4 / 1494, 4 / 1494),
        ("0", False, -0.5, 0.5),
    ],
)
def test_reads(text: str, percent: bool, low: float, high: float) -> None:
    number = read_printed(text, percent)
    assert number is not None
    assert (number.low, number.high) == pytest.approx((low, high))
    assert number.averaged == ("±" in text or "+/-" in text)


@pytest.mark.parametrize("text", ["", " ", "-", "—", "–", "n/a", "NaN", "NA"])
def test_blank(text: str) -> None:
    assert read_printed(text) is None


@pytest.mark.parametrize("text", ["0,143", "about 3", "0.1.2", "1,49", "0.14 (0.1-0.2)", "inf", "3/0", "0.1 0.2"])
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"it (is no number|has a comma)"):
        read_printed(text)


@given(st.floats(0, 1), st.integers(1, 6))
def test_true_value_is_within_what_is_printed(value: float, digits: int) -> None:
    for text in (f"{value:.{digits}f}", f"{100 * value:.{digits}f}%"):
        number = read_printed(text)
        assert number is not None
        assert number.meets(value, value)


def _read(tmp_path: Path, *rows: str, head: str = HEAD) -> None:
    path = tmp_path / "tables.csv"
    path.write_text("\n".join([head, *rows]), encoding="utf-8")
    read_published(path)


GOOD = "Table 1,overall,,zs,macro_f1,0.1,,,,"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Table 1,overall,,zs,macro_f1,0;1,,,,", "row 2, column value: cannot read '0;1': it is no number"),
        ('Table 1,overall,,zs,macro_f1,"0,105",,,,', "row 2, column value: .* write a decimal point"),
        ("Table 1,overal,,zs,macro_f1,0.1,,,,", "row 2, column kind: is 'overal'; expected overall, label"),
        ("Table 1,label,,zs,f1,0.1,,,,", "row 2, column name: is blank; expected the label's name"),
        ("Table 1,overall,Edema,zs,f1,0.1,,,,", "row 2, column name: is 'Edema'; a row of kind overall has none"),
        ("Table 1,label,Edema,,f1,0.1,,,,", "row 2, column setting: is blank"),
        ("text,data,,zs,images,10,,,,", "row 2, column setting: is 'zs'; leave it blank"),
        ("Table 1,overall,,zs,,0.1,,,,", "row 2, column metric: is blank"),
        (",overall,,zs,lrap,0.1,,,,", "row 2, column table: is blank"),
        ("Table 1,overall,,zs,lrap,14,maybe,,,", "row 2, column percent: is 'maybe'; expected yes, no"),
        ("Table 1,overall,,zs,lrap,0.1,,10.5,,", "row 2, column n: is 10.5; expected a whole number"),
        ("Table 1,overall,,zs,lrap,0.1,,0,,", "row 2, column n: is 0; expected a whole number"),
        ("Table 1,overall,,zs,lrap,0.1,,,x,", "row 2, column prevalence: cannot read 'x'"),
        ("text,overall,,zs,macro_f1,> sz,,,,", "row 2, column value: unknown setting 'sz'. Did you mean 'zs'?"),
        ("text,overall,,zz,macro_f1,best,,,,", "row 2, column setting: unknown setting 'zz'"),
        ("text,overall,,zs,macro_f1,>,,,,", "row 2, column value: is '>'; expected best, or > < = ~ and another"),
        ("text,label,Edma,zs,f1,best,,,,", "row 2, column name: unknown label 'Edma'"),
        ("text,domain,D,,members,Edma,,,,", "members of 'D': unknown label 'Edma'"),
        ("Table 1,overall,,zs,lrap", "row 2: 5 fields, expected 10"),
        ('Table 1,overall,"zs', "row 2: unexpected end of data; check its quotes"),
    ],
)
def test_bad_rows_are_named(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path, GOOD, row)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'metric' is missing"):
        _read(tmp_path, head="table,kind,setting,value")
    with pytest.raises(DataError, match=r"unknown column 'valu'\. Did you mean 'value'"):
        _read(tmp_path, head=HEAD.replace("value", "valu"))
    with pytest.raises(DataError, match="column 'n' stands twice"):
        _read(tmp_path, head=HEAD + ",n")
    with pytest.raises(DataError, match="no figure of any setting"):
        _read(tmp_path, "text,data,,,images,10,,,,")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_published(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_published(tmp_path)
    for content, message in ((b"", "is empty"), (b"\xff\xfe\x00t", "is not UTF-8"), (b"\n\n", "is empty")):
        (tmp_path / "bad.csv").write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_published(tmp_path / "bad.csv")


def test_semicolons_byte_order_mark_blank_rows_and_spelling(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    text = (
        "Table;Kind;Name;Setting;Metric;Value;n\r\n\r\n"
        "Table 2;label;No Finding;zs;F1;0.749;1,494\r\n"
        "Table 2;label;no  finding;LP;F1;—;1,494\r\n"
        "Table 2;label;No finding;lp;Subset-Accuracy;14.3 %;\r\n"
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    tables = read_published(path)
    assert tables.labels == ("No Finding",)
    assert tables.settings == ("zs", "LP")
    assert tables.size("No Finding", "label") == 1494
    assert tables.find("label", "No Finding", "LP", "f1") is None
    assert tables.find("label", "No Finding", "LP", "exact_match") is not None
