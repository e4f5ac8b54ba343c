"""Labels that stand in a table already: CheXpert-style columns and the findings of NIH."""

from __future__ import annotations

import csv
import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from radlens.core.errors import DataError, RadlensError, SpecError
from radlens.core.mapping import FindingMapping, load_mapping
from radlens.core.reports import LabelledReports, Reports, make_reports
from radlens.core.vocabulary import load_vocabulary
from radlens.labels.chexpert_csv import ChexpertCsv
from radlens.labels.nih_findings import NihFindings

HEAD = "study_id,No Finding,Cardiomegaly,Edema\n"


def reports_of(studies: list[str], **columns: list[Any]) -> Reports:
    return make_reports("here", pl.DataFrame({"study_id": studies, **columns}))


def read(path: Path, reports: Reports, **options: Any) -> LabelledReports:
    return ChexpertCsv(table=path.name, **options).label(reports, path.parent, path.parent)


def test_a_table_is_joined_by_study_and_its_values_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(HEAD + "s3,,1.0,-1.0\ns1,1,0,\ns9,1,,\ns2,,, \n")
    found = read(path, reports_of(["s1", "s2", "s3", "s4"]))
    assert found.table.to_dicts() == [
        {"study_id": "s1", "assessed": True, "No Finding": 1, "Cardiomegaly": 0, "Edema": None},
        {"study_id": "s2", "assessed": False, "No Finding": None, "Cardiomegaly": None, "Edema": None},
        {"study_id": "s3", "assessed": True, "No Finding": None, "Cardiomegaly": 1, "Edema": -1},
        {"study_id": "s4", "assessed": False, "No Finding": None, "Cardiomegaly": None, "Edema": None},
    ]
    assert {"study_id": "s3", "label": "Edema", "value": -1, "because": "labels.csv, row 1, column Edema"} in (
        found.evidence.to_dicts()
    )
    assert found.evidence.height == 4
    assert [note.partition(" ")[0] for note in found.notes] == ["1", "1", "1"]
    assert "s2" not in found.evidence["study_id"].to_list()


def test_columns_that_came_with_the_reports_are_used(tmp_path: Path) -> None:
    reports = reports_of(["a", "b"], Cardiomegaly=[1.0, None], heart=["0", "-1"])
    found = ChexpertCsv(columns={"Edema": "heart"}).label(reports, tmp_path, tmp_path)
    assert found.table.rows() == [("a", True, 1, 0), ("b", True, None, -1)]
    with pytest.raises(DataError, match="a column for none of the labels of chexpert-14"):
        ChexpertCsv().label(reports_of(["a"]), tmp_path, tmp_path)
    with pytest.raises(SpecError, match="key names a column of `table:`, which is not given"):
        ChexpertCsv(key="x").label(reports, tmp_path, tmp_path)


@pytest.mark.parametrize("key", ["StudyInstanceUID", "study", "Study ID", "UID"])
def test_usual_names_of_the_key_are_known(tmp_path: Path, key: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"other,{key},Edema\nx,s1,1\n")
    assert read(path, reports_of(["s1"])).table["Edema"].to_list() == [1]
    assert read(path, reports_of(["x"]), key="other").table["Edema"].to_list() == [1]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (HEAD + "s1,1,0,\ns2,,present,\n", {}, "row 2, column 'Cardiomegaly': expected 1, 0, -1 or blank, found 'pres"),
        (HEAD + "s1,1,0,0.5\n", {}, "row 1, column 'Edema': expected 1, 0, -1 or blank, found '0.5'"),
        (HEAD + "s1,1,0,nan\n", {}, "row 1, column 'Edema': expected 1, 0, -1 or blank, found 'nan'"),
        (HEAD + "s1,1,,\ns2,1,,\ns1,,,1\n", {}, "rows 1 and 3 give study 's1' different labels"),
        (HEAD + ",1,,\n", {}, "row 1, column 'study_id': expected the id of a study"),
        (HEAD + "t1,1,,\n", {}, "a label for none of the 2 studies of here: its 'study_id' is such as 't1'"),
        (HEAD, {}, "column names but no rows"),
        ("", {}, "is empty"),
        ("study_id,Edema,Edema\ns1,1,0\n", {}, "column 'Edema' stands twice"),
        ("study_id,Oedema\ns1,1\n", {}, "a column for none of the labels"),
        ("study_id,Oedema\ns1,1\n", {"columns": {"Edema": "Odema"}}, "Did you mean 'Oedema'"),
        ("study_id,Oedema\ns1,1\n", {"columns": {"Odema": "Oedema"}}, "unknown label 'Odema'. Did you mean 'Edema'"),
        ("patient,Edema\ns1,1\n", {}, "name the one that holds the study's id with `key:`"),
        ("patient,Edema\ns1,1\n", {"key": "patent"}, "unknown column 'patent'. Did you mean 'patient'"),
    ],
)
def test_a_wrong_table_is_told_in_one_sentence(tmp_path: Path, text: str, options: dict[str, Any], words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(RadlensError) as caught:
        read(path, reports_of(["s1", "s2"]), **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "none.csv", reports_of(["s1"]))
    (tmp_path / "bytes.csv").write_bytes(b"study_id,Edema\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="cannot be read as a CSV in UTF-8"):
        read(tmp_path / "bytes.csv", reports_of(["s1"]))


def test_a_row_an_image_is_no_contradiction_and_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv.gz"
    path.write_bytes(gzip.compress((HEAD + "s1,1,,\ns1,1,,\ns2,,,1\n").encode()))
    assert read(path, reports_of(["s1", "s2"])).table["No Finding"].to_list() == [1, None]


def find(values: list[Any], **options: Any) -> LabelledReports:
    studies = [f"s{row}" for row in range(len(values))]
    column = "codes" if isinstance(next(v for v in values if v is not None), list) else "Finding Labels"
    reports = make_reports("nih", pl.DataFrame({"study_id": studies, column: values}))
    return NihFindings(**options).label(reports, Path(), Path())


def test_nih_findings_become_labels() -> None:
    found = find(
        ["Infiltration|Mass", "No Finding", "Hernia", " Effusion | Effusion ", None, "Cardiomegally", "Edema|?"]
    )
    rows = {row["study_id"]: row for row in found.table.to_dicts()}
    positive = {
        study: {name for name, value in row.items() if name not in ("study_id", "assessed") and value == 1}
        for study, row in rows.items()
    }
    assert positive == {
        "s0": {"Lung Opacity", "Lung Lesion"},
        "s1": {"No Finding"},
        "s2": set(),
        "s3": {"Pleural Effusion"},
        "s4": set(),
        "s5": set(),
        "s6": {"Edema"},
    }
    assert [row["assessed"] for row in rows.values()] == [True, True, True, True, False, False, True]
    assert rows["s2"]["No Finding"] == 0 and rows["s5"]["No Finding"] is None
    assert not {"Fracture", "Support Devices", "Enlarged Cardiomediastinum"} & set(found.table.columns)
    assert found.unknown == {"?": 1, "Cardiomegally": 1}
    assert found.evidence.filter(pl.col("study_id") == "s3").rows() == [("s3", "Pleural Effusion", 1, "Effusion")]
    assert len(found.notes) == 2 and "'?', 'Cardiomegally'" in found.notes[1]


def test_nih_findings_as_codes() -> None:
    found = find([["Mass", "Pleural_Thickening"], ["No Finding"], ["Mass|Edema"], [], None])
    assert found.table["Lung Lesion"].to_list() == [1, 0, 1, None, None]
    assert found.table["Pleural Other"].to_list() == [1, 0, 0, None, None]
    assert found.table["Edema"].to_list() == [0, 0, 1, None, None]
    with pytest.raises(DataError, match="neither a column 'Finding Labels' nor codes"):
        NihFindings().label(reports_of(["a"]), Path(), Path())


def test_nih_findings_of_the_real_table() -> None:
    package = find_spec("torchxrayvision")
    if package is None or package.origin is None:
        pytest.skip("torchxrayvision is not installed")
    path = Path(package.origin).parent / "data" / "Data_Entry_2017_v2020.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {"study_id": [r["Image Index"] for r in rows], "Finding Labels": [r["Finding Labels"] for r in rows]}
    found = NihFindings().label(make_reports("nih", pl.DataFrame(columns)), Path(), Path())
    assert len(rows) == 112_120 and found.unknown == {} and found.notes == ()
    counts = {name: int((found.table[name] == 1).sum()) for name in found.table.columns[2:]}
    names = [set(row["Finding Labels"].split("|")) for row in rows]
    assert counts["No Finding"] == sum(n == {"No Finding"} for n in names) == 60_361
    assert counts["Lung Lesion"] == sum(bool(n & {"Mass", "Nodule"}) for n in names)
    assert counts["Pleural Effusion"] == sum("Effusion" in n for n in names) == 13_317
    assert counts["Cardiomegaly"] == 2_776


def test_every_shipped_mapping_fits_its_vocabulary() -> None:
    folder = Path(__file__).parents[2] / "src" / "radlens" / "core" / "mappings"
    names = sorted(path.stem for path in folder.glob("*.toml"))
    assert "nih-cxr14" in names
    for name in names:
        mapping = load_mapping(name)
        vocabulary = load_vocabulary(mapping.vocabulary)
        assert mapping.assesses and set(mapping.assesses) <= set(vocabulary.names), name
        assert mapping.source and mapping.findings, name
    with pytest.raises(SpecError, match="Did you mean 'nih-cxr14'"):
        load_mapping("nih-cxr-14")


def test_a_mapping_to_a_label_it_does_not_assess_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radlens.core.mapping._FOLDER", tmp_path)
    head = 'source = "s"\nvocabulary = "chexpert-14"\nassesses = ["Edema"]\n[findings]\n'
    (tmp_path / "one.toml").write_text(head + '"oedema" = "Oedema"\n')
    with pytest.raises(SpecError, match=r"mapping one: 'oedema': unknown label in assesses 'Oedema'. Did you mean 'Ed"):
        load_mapping("one")


def test_a_mapping_sets_each_label_of_a_finding() -> None:
    findings = {"haze": ("A", "B"), "line": ("B",), "hernia": ()}
    mapping = FindingMapping("m", "a source", "v", ("A", "B", "C"), findings)
    found = pl.DataFrame({"f": [["haze"], ["line", "hernia"], ["new", "new"], [], None]})
    made = found.select(mapping.columns(pl.col("f")))
    assert made.rows() == [(1, 1, 0), (0, 1, 0), (0, 0, 0), (0, 0, 0), (None, None, None)]
    assert mapping.unknown(found["f"]) == {"new": 2}
