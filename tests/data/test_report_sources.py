"""Reports for `radlens label`: XML or tables, columns found or named."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from radlens.core.errors import DataError, SpecError
from radlens.core.reports import COLUMNS
from radlens.data.report_sources import read_reports


def test_the_usual_names_are_found(tmp_path: Path) -> None:
    # as the reports of IU-Xray stand on Kaggle
    (tmp_path / "indiana.csv").write_text(
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
        '1,normal,normal,Xray Chest PA and Lateral,"TB, positive",None.,Clear.,Normal.\n'
        "002,a;b,x,y,,,,\n"
    )
    reports = read_reports("indiana.csv", tmp_path)
    assert reports.table.columns == [*COLUMNS, "uid", "MeSH", "Problems", "image"]
    assert reports.table["study_id"].to_list() == ["1", "002"]
    assert reports.text() == ["Clear.\n\nNormal.", None]
    assert reports.table["codes"].null_count() == 2 and reports.source["columns"]["study_id"] == "uid"


@pytest.mark.parametrize(
    ("header", "study", "report"),
    [
        ("Report Impression,id", "b", "a"),
        ("Text,image_id", "b", "a"),
        ("report_text,Image Index", "b", "a"),
        ("Path,REPORT", "a", "b"),
        ("report,Study-ID", "b", "a"),
        ("id,uid", "b", None),
    ],
)
def test_names_in_other_writing(header: str, study: str, report: str | None, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(header.replace(",", "\t") + "\na\tb\n")
    row = read_reports(str(tmp_path / "t.tsv"), Path()).table.row(0, named=True)
    assert (row["study_id"], row["report"]) == (study, report)


def test_columns_may_be_named(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "key": [7, 8, 9],
            "text": ["old", "old", "old"],
            "Befund": ["Clear.", None, " "],
            "found": ["Edema | Mass", "", None],
            "report": ["wrong"] * 3,
        }
    ).write_parquet(tmp_path / "t.parquet")
    columns = {"study_id": "key", "report": "Befund", "codes": "found"}
    reports = read_reports("t.parquet", tmp_path, columns)
    assert reports.table["study_id"].to_list() == ["7", "8", "9"]
    assert reports.table["codes"].to_list() == [["Edema", "Mass"], None, None]
    assert reports.text() == ["Clear.", None, None]
    assert reports.table["text"].to_list() == ["old"] * 3  # kept for labelers that read columns
    assert reports.notes == ("column 'report' of t.parquet is not used: another was named in its place.",)


def test_lists_of_codes_in_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"id": ["a", "b"], "c": [["x|y"], None]}).write_parquet(tmp_path / "t.parquet")
    assert read_reports("t.parquet", tmp_path, {"codes": "c"}).table["codes"].to_list() == [["x|y"], None]


@pytest.mark.parametrize(
    ("text", "columns", "error", "told"),
    [
        ("id,report\na,b\n", {"rport": "report"}, SpecError, r"unknown role 'rport'\. Did you mean 'report'"),
        ("id,report\na,b\n", {"report": "reprt"}, DataError, r"t\.csv: unknown column 'reprt'\. Did you mean 'report'"),
        ("name,report\na,b\n", {}, DataError, r"no column that is known to name a report .* Columns: name, report"),
        ("id,report\na,b\na,c\n", {}, DataError, r"t\.csv: study id 'a' stands in rows \[1, 2\]"),
        ("id,report\na,b\n,c\n", {}, DataError, r"row 2 has no study id"),
        ("id,report\n", {}, DataError, r"no rows"),
        ("id,report\na,b,c\n", {}, DataError, r"row 1 has 3 fields, expected 2"),
    ],
)
def test_a_wrong_table_is_one_sentence(
    text: str, columns: dict[str, str], error: type[Exception], told: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=told) as caught:
        read_reports("t.csv", tmp_path, columns)
    assert "\n" not in str(caught.value)


def test_xml_has_no_columns_to_name(tmp_path: Path) -> None:
    (tmp_path / "7.xml").write_text('<eCitation><uId id="CXR7"/></eCitation>')
    assert read_reports(".", tmp_path).table["study_id"].to_list() == ["CXR7"]
    with pytest.raises(SpecError, match="holds XML reports, which have no columns to name"):
        read_reports(".", tmp_path, {"report": "x"})
    with pytest.raises(DataError, match=r"table .*nowhere\.csv does not exist"):
        read_reports("nowhere.csv", tmp_path)


def test_the_installed_reports(torchxrayvision_data: Path) -> None:
    assert len(read_reports("torchxrayvision", Path())) == 3955
    assert len(read_reports("NLMCXR_reports.tgz", torchxrayvision_data)) == 3955


def test_a_real_label_table(torchxrayvision_data: Path) -> None:
    nih = read_reports("Data_Entry_2017_v2020.csv.gz", torchxrayvision_data, {"codes": "Finding Labels"})
    assert len(nih) == 112_120 and nih.table["patient_id"].n_unique() == 30_805
    assert nih.table["codes"].to_list() == nih.table["Finding Labels"].str.split("|").to_list()
