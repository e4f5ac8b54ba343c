"""Tables in every shape that a user may have, and one sentence for each that cannot be read."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, RadlensError, SpecError
from radlens.core.spec import build_part

TOML = """name = "two"
[[label]]
name = "Edema"
positive = ["a"]
negative = ["b"]
[[label]]
name = "Mass"
positive = ["a"]
negative = ["b"]
"""
CSV = """image,patient,Edema,Mass,age
00000061.png,0061,1,0,77
00000062.png,0062,,-1,12
00000063.png,0062,0.0,1.0,
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Cohort]:
    (tmp_path / "two.toml").write_text(TOML)
    (tmp_path / "t.csv").write_text(CSV)

    def read(**options: Any) -> Cohort:
        named = {"table": "t.csv", "image_column": "image", "vocabulary": "two.toml"} | options
        cohort = build_part("datasets", "table", named).load(tmp_path, tmp_path)
        assert isinstance(cohort, Cohort)
        return cohort

    return read


def test_a_plain_table(load: Callable[..., Cohort], tmp_path: Path) -> None:
    cohort = load(patient_column="patient")
    assert cohort.table["image_id"].to_list() == ["00000061.png", "00000062.png", "00000063.png"]
    assert cohort.table["path"].to_list() == [str(tmp_path / f"0000006{i}.png") for i in (1, 2, 3)]
    assert cohort.table["patient_id"].to_list() == ["0061", "0062", "0062"]
    assert cohort.table["age"].to_list() == ["77", "12", None]
    assert "patient" not in cohort.table.columns
    np.testing.assert_array_equal(cohort.targets(), np.array([[1, 0], [np.nan, np.nan], [0, 1]], np.float32))
    assert cohort.notes == ("uncertain (-1) labels became not assessed (policy 'ignore'): Mass 1.",)
    assert cohort.source["rows"] == 3


def test_the_same_table_in_every_format(load: Callable[..., Cohort], tmp_path: Path) -> None:
    expected = load(patient_column="patient").table
    (tmp_path / "t.tsv").write_text(CSV.replace(",", "\t"))
    (tmp_path / "semi.csv").write_text(CSV.replace(",", ";"))
    (tmp_path / "bom.csv").write_text(CSV, "utf-8-sig")
    (tmp_path / "crlf.csv").write_text(CSV, newline="\r\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    frame = pl.read_csv(CSV.encode(), infer_schema=False)
    frame.write_parquet(tmp_path / "t.parquet")
    options: dict[str, dict[str, str]] = {
        name: {} for name in ("t.tsv", "bom.csv", "crlf.csv", "t.csv.gz", "t.parquet")
    }
    options["semi.csv"] = {"separator": ";"}
    for name, more in options.items():
        assert load(table=name, patient_column="patient", **more).table.equals(expected), name


def test_parquet_numbers(load: Callable[..., Cohort], tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "image": ["a", "b", "c"],
            "patient": [61.0, 62.0, float("nan")],
            "Edema": [1.0, float("nan"), 0.0],
            "Mass": [True, None, False],
        }
    ).write_parquet(tmp_path / "n.parquet")
    cohort = load(table="n.parquet", patient_column="patient")
    assert cohort.table["patient_id"].to_list() == ["61", "62", None]
    np.testing.assert_array_equal(cohort.targets(), np.array([[1, 1], [np.nan, np.nan], [0, 0]], np.float32))
    assert "1 of 3 images name no patient" in cohort.notes[-1]


@pytest.mark.parametrize(("policy", "value"), [("zeros", 0), ("ones", 1), ("ignore", np.nan)])
def test_uncertain(load: Callable[..., Cohort], policy: str, value: float) -> None:
    np.testing.assert_equal(load(uncertain=policy).targets()[1, 1], np.float32(value))


def test_mapped_labels_leave_the_column_of_that_name_out(load: Callable[..., Cohort]) -> None:
    cohort = load(labels={"Mass": "Edema"})
    np.testing.assert_array_equal(cohort.targets()[:, 1], np.array([1, np.nan, 0], np.float32))
    assert np.isnan(cohort.targets()[:, 0]).all()
    assert any("does not assess" in note for note in cohort.notes)
    assert any("also has 'Mass'" in note for note in cohort.notes)


def test_an_unnamed_patient_column_is_told(load: Callable[..., Cohort], tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(CSV.replace("patient", "patient_id"))
    cohort = load(table="p.csv")
    assert cohort.table["patient_id"].null_count() == 3
    assert any("'patient_id', which no option of the study names" in note for note in cohort.notes)


def test_keep_and_ids_and_paths(load: Callable[..., Cohort], tmp_path: Path) -> None:
    assert "age" not in load(keep=[]).table.columns
    (tmp_path / "d.csv").write_text("image,Edema\np1/view1.jpg,1\np2/view1.jpg,0\n/abs/x.jpg,\n../up.jpg,\n")
    cohort = load(table="d.csv")
    assert cohort.table["image_id"].to_list() == ["p1/view1.jpg", "p2/view1.jpg", "/abs/x.jpg", "../up.jpg"]
    assert cohort.table["path"].to_list()[2:] == ["/abs/x.jpg", f"{tmp_path}/../up.jpg"]
    (tmp_path / "e.csv").write_text("image,Edema,uid\np1/view1.jpg,1,u1\np2/view2.jpg,0,u2\n")
    assert load(table="e.csv").table["image_id"].to_list() == ["view1.jpg", "view2.jpg"]
    assert load(table="e.csv", id_column="uid").table["image_id"].to_list() == ["u1", "u2"]


def test_reports_with_newlines_and_quotes(load: Callable[..., Cohort], tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text('image,Edema,text\na,1,"No ""acute"" finding,\nheart normal."\nb,0,\n')
    assert load(table="r.csv", report_column="text").table["report"].to_list() == [
        'No "acute" finding,\nheart normal.',
        None,
    ]


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (CSV, {"image_column": "imge"}, "unknown column 'imge'. Did you mean 'image'? Known: Edema, Mass, age"),
        (CSV, {"patient_column": "pid"}, "unknown column 'pid'"),
        (CSV, {"keep": ["sex"]}, "unknown column 'sex'"),
        (CSV, {"labels": {"Mass": "nodule"}}, "unknown column 'nodule'"),
        (CSV, {"labels": {"Edem": "Edema"}}, "unknown label 'Edem'. Did you mean 'Edema'?"),
        (CSV, {"images": "films"}, "films does not exist; name it with `images:`"),
        (CSV, {"uncertain": "maybe"}, "uncertain"),
        (CSV, {"colour": 1}, "unknown key 'colour'"),
        (CSV.replace("Edema", "x").replace("Mass", "y"), {}, "has a column for none of the 2 labels of two"),
        (CSV.replace("63.png", "62.png"), {}, "image id '00000062.png' stands in rows 2, 3"),
        (CSV.replace("00000062.png", ""), {}, "row 2 has no 'image' (1 rows have none)"),
        (CSV.replace("0.0,1.0", "yes,1.0"), {}, "label 'Edema' must be 1, 0, -1 or blank; row 3 (image 00000063.png)"),
        (CSV.replace("0.0,1.0", "2,1.0"), {}, "has '2'"),
        (CSV.replace("0.0,1.0", "nan,1.0"), {}, "has 'nan'"),
        (CSV + "x,y\n", {}, "row 4 has 2 fields, expected 5; look for"),
        (CSV + "x,y,1,0,5,6\n", {}, "row 4 has 6 fields, expected 5"),
        (CSV.replace(",", ";"), {}, "name its separator: `separator: ';'`"),
        (CSV.replace("age", "Mass"), {}, "column 'Mass' stands twice"),
        ("image,Edema\n", {}, "has column names but no rows"),
        ("", {}, "is empty (0 bytes)"),
        ("\n\n", {}, "is empty"),
        ("image,Edema\nMüller.png,1\n", {"encoding": "latin-1"}, "is not UTF-8 text"),
    ],
)
def test_bad_tables(
    load: Callable[..., Cohort], tmp_path: Path, text: str, options: dict[str, Any], sentence: str
) -> None:
    encoding = options.pop("encoding", "utf-8")
    (tmp_path / "t.csv").write_text(text, encoding)
    with pytest.raises(RadlensError) as raised:
        load(**options)
    assert isinstance(raised.value, DataError | SpecError)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    options["encoding"] = encoding


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.csv", None, "does not exist"),
        ("x.xlsx", b"PK", "expected a name that ends in .csv"),
        ("x.parquet", b"PAR1 not really", "cannot be read"),
        ("x.csv.gz", b"not gzip", "cannot be read"),
        ("x.csv", b"\xff\xfei\0m\0a\0g\0e\0\n\0", "is not UTF-8 text"),
    ],
)
def test_bad_files(
    load: Callable[..., Cohort], tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as raised:
        load(table=name)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_ragged_row_is_named_far_down(load: Callable[..., Cohort], tmp_path: Path) -> None:
    rows = [f"{i}.png,1" for i in range(120_000)]
    rows[110_000] = "x.png"
    (tmp_path / "t.csv").write_text("image,Edema\n" + "\n".join(rows))
    with pytest.raises(DataError, match="row 110001 has 1 fields, expected 2"):
        load()


def test_nih_dev(shared: Path) -> None:
    options = {"table": "labels.csv", "images": "images", "image_column": "image", "patient_column": "patient_id"}
    cohort = build_part("datasets", "table", options).load(shared / "nih_dev", shared)
    assert len(cohort) == 538
    assert len(set(cohort.groups())) == 345
    # counted independently, line by line
    lines = [line.split(",") for line in (shared / "nih_dev/labels.csv").read_text().splitlines()]
    for label, column in zip(cohort.vocabulary.names, cohort.targets().T, strict=True):
        written = [line[lines[0].index(label)] for line in lines[1:]]
        counts = [int((column == 1).sum()), int((column == 0).sum()), int(np.isnan(column).sum())]
        assert counts == [written.count("1"), written.count("0"), written.count("")], label
    assert {"sex", "age", "nih_labels"} <= set(cohort.table.columns)
