"""MIMIC-CXR-JPG: tables in the released layout, labels by study, the official split, and reports in sections."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError
from radlens.core.parts import Dataset
from radlens.core.spec import build_part
from radlens.data.chexpert_labels import LABELS
from radlens.data.report_sections import split_sections

# the released label tables are in alphabetical order
ALPHABETICAL = sorted(LABELS)
PREFIX = "mimic-cxr-2.0.0-"
METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning\n"
    '02aa804e,10000032,50414267,"CHEST (PA, LAT)",PA,3056,2544,21800506,213014.531,"CHEST (PA, LAT)",,Erect\n'
    '174413ec,10000032,50414267,"CHEST (PA, LAT)",LATERAL,3056,2544,21800506,213014.531,"CHEST (PA, LAT)",,Erect\n'
    "2a2277a9,10000032,53189527,CHEST,,3056,2544,21800626,165500.312,CHEST,,Erect\n"
    "e084de3b,10000764,57375967,CHEST,AP,3056,2544,21321015,83639.0,CHEST,,Erect\n"
    "68b5c4b1,11000001,53911762,CHEST,AP,3056,2544,21321015,83639.0,CHEST,,Erect\n"
)
SPLIT = (
    "dicom_id,study_id,subject_id,split\n02aa804e,50414267,10000032,train\n174413ec,50414267,10000032,train\n"
    "2a2277a9,53189527,10000032,train\ne084de3b,57375967,10000764,validate\n68b5c4b1,53911762,11000001,test\n"
)


def labels(**studies: dict[str, str]) -> str:
    lines = ["subject_id,study_id," + ",".join(ALPHABETICAL)]
    for study, cells in studies.items():
        lines.append(f"10000032,{study.removeprefix('s')}," + ",".join(cells.get(n, "") for n in ALPHABETICAL))
    return "\n".join(lines) + "\n"


CHEXPERT = labels(
    s50414267={"No Finding": "1.0"},
    s53189527={"Edema": "1.0", "Pneumonia": "-1.0"},
    s57375967={"Pneumothorax": "0.0"},
)
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for infection

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation. 2 findings: none.
 The heart is normal.

 IMPRESSION:

 No acute cardiopulmonary process.
"""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    write(tmp_path, "metadata", METADATA)
    write(tmp_path, "split", SPLIT)
    write(tmp_path, "chexpert", CHEXPERT)
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    with gzip.open(folder / f"{PREFIX}{name}.csv.gz", "wt") as file:
        file.write(text)


def dataset(**options: Any) -> Dataset:
    part = build_part("datasets", "mimic-cxr-jpg", options)
    assert isinstance(part, Dataset)
    return part


@pytest.fixture
def load(release: Path) -> Callable[..., Cohort]:
    return lambda **options: dataset(**options).load(release, release)


def column(cohort: Cohort, name: str) -> list[Any]:
    return cohort.table[name].to_list()


def test_the_released_layout(load: Callable[..., Cohort], release: Path) -> None:
    cohort = load()
    assert column(cohort, "image_id") == ["02aa804e", "174413ec", "2a2277a9", "e084de3b", "68b5c4b1"]
    assert column(cohort, "path")[0] == str(release / "files/p10/p10000032/s50414267/02aa804e.jpg")
    assert column(cohort, "path")[4] == str(release / "files/p11/p11000001/s53911762/68b5c4b1.jpg")
    assert column(cohort, "patient_id") == ["10000032"] * 3 + ["10000764", "11000001"]
    assert column(cohort, "study_id")[:2] == ["50414267"] * 2
    assert column(cohort, "view") == ["PA", "lateral", None, "AP", "AP"]
    assert column(cohort, "split") == ["train", "train", "train", "val", "test"]
    assert column(cohort, "No Finding") == [1, 1, 0, 0, None]
    assert column(cohort, "Edema") == [0, 0, 1, 0, None]
    assert column(cohort, "Pneumonia") == [0, 0, None, 0, None]
    assert cohort.table["report"].null_count() == 5
    # study 53911762 has no row in the label table
    assert "1 images have no label at all: not assessed." in cohort.notes
    assert cohort.origins["Edema"].startswith("CheXpert labeler")
    assert cohort.source["rows"] == 5
    assert cohort.left_out == ()


def test_the_other_labeler_and_tables_unpacked(load: Callable[..., Cohort], release: Path) -> None:
    (release / f"{PREFIX}negbio.csv").write_text(labels(s50414267={"Edema": "1"}, s59999999={"Edema": "0"}))
    cohort = load(labels="negbio", unmentioned="ignore")
    assert column(cohort, "Edema") == [1, 1, None, None, None]
    assert column(cohort, "No Finding") == [0, 0, None, None, None]
    assert cohort.origins["Edema"].startswith("NegBio")
    (left,) = cohort.left_out
    assert (left.what, left.examples) == ("labelled studies without an image in the metadata", ("59999999",))


def test_without_a_split_table(load: Callable[..., Cohort], release: Path) -> None:
    (release / f"{PREFIX}split.csv.gz").unlink()
    cohort = load()
    assert cohort.table["split"].null_count() == 5
    assert any("official split is not known" in note for note in cohort.notes)


def test_a_split_table_that_does_not_fit(load: Callable[..., Cohort], release: Path) -> None:
    write(release, "split", SPLIT.replace("68b5c4b1", "ffffffff"))
    cohort = load()
    assert column(cohort, "split") == ["train", "train", "train", "val", None]
    assert "1 of 5 images stand in no part of the official split." in cohort.notes
    assert cohort.left_out[0].examples == ("ffffffff",)


def test_only_present(load: Callable[..., Cohort], release: Path) -> None:
    for name in ("p10/p10000032/s50414267/02aa804e.jpg", "p11/p11000001/s53911762/68b5c4b1.jpg"):
        (release / "files" / name).parent.mkdir(parents=True)
        (release / "files" / name).touch()
    cohort = load(only_present=True)
    assert column(cohort, "image_id") == ["02aa804e", "68b5c4b1"]
    assert cohort.left_out[0].count == 3


@pytest.mark.parametrize("inside", ["files", "."])
def test_reports_in_sections(load: Callable[..., Cohort], release: Path, inside: str) -> None:
    path = release / "texts" / inside / "p10" / "p10000032" / "s50414267.txt"
    path.parent.mkdir(parents=True)
    path.write_text(REPORT)
    empty = path.with_name("s53189527.txt")
    empty.write_text(" \n")
    heard: list[tuple[int, int]] = []
    cohort = dataset(reports_folder="texts").load(release, release, lambda done, total: heard.append((done, total)))
    assert heard == [(4, 4)]
    assert column(cohort, "report")[:2] == [REPORT, REPORT]
    (left,) = cohort.left_out
    assert (left.what, left.examples) == ("studies without a report file", ("57375967", "53911762"))
    reports = dataset(reports_folder="texts").reports(cohort)
    assert reports.table["study_id"].to_list() == ["50414267", "53189527", "57375967", "53911762"]
    first = reports.table.row(0, named=True)
    assert first["impression"] == "No acute cardiopulmonary process."
    assert first["findings"] == "There is no focal consolidation. 2 findings: none.\n The heart is normal."
    assert first["indication"] == "___F with new onset ascites  // eval for infection"
    assert first["comparison"] == "None."
    assert reports.text(["impression"])[0] == "No acute cardiopulmonary process."
    assert reports.text(["impression"])[1:] == [None, None, None]


def test_headings() -> None:
    assert split_sections("no heading at all") == {}
    assert split_sections("") == {}
    twice = "IMPRESSION:  First.\n\nWET READ: ___ 9:15 PM\n Draft.\n\nIMPRESSION:\n Second."
    assert split_sections(twice) == {"impression": "First.\n\nSecond."}
    # a colon inside a sentence opens no section, nor does a heading without text
    assert split_sections("FINDINGS: Lungs: clear. AP VIEW: none\nIMPRESSION:\n") == {
        "findings": "Lungs: clear. AP VIEW: none"
    }
    assert split_sections("HISTORY:  Cough.\r\nFINDINGS AND IMPRESSION:\r\n Clear.") == {
        "indication": "Cough.",
        "findings": "Clear.",
    }


def test_no_reports_to_label(load: Callable[..., Cohort]) -> None:
    with pytest.raises(DataError, match="no image has one"):
        dataset().reports(load())


@pytest.mark.parametrize(
    ("name", "content", "options", "sentence"),
    [
        ("metadata", None, {}, "holds no mimic-cxr-2.0.0-metadata.csv.gz (with or without .gz)"),
        ("chexpert", None, {}, "holds no mimic-cxr-2.0.0-chexpert.csv.gz"),
        ("chexpert", None, {"label_table": "x.csv"}, "x.csv does not exist; expected the file that is released as"),
        ("chexpert", labels(s50414267={"Edema": "yes"}), {}, "row 1 has 'yes' for 'Edema'"),
        ("chexpert", CHEXPERT.replace("53189527", "50414267"), {}, "study_id '50414267' stands in rows 1, 2"),
        ("metadata", METADATA.replace("e084de3b", "02aa804e"), {}, "dicom_id '02aa804e' stands in rows 1, 4"),
        ("metadata", METADATA.replace("10000764", "../etc"), {}, "row 4 has '../etc' for 'subject_id'; expected eight"),
        ("metadata", METADATA.replace("ViewPosition", "View"), {}, "unknown column 'ViewPosition'"),
        (
            "split",
            SPLIT.replace("validate", "dev"),
            {},
            "row 4 has 'dev' for 'split'; expected train, validate or test",
        ),
        (
            "split",
            SPLIT.replace("174413ec,50414267,10000032,train", "174413ec,50414267,10000032,test"),
            {},
            "'10000032'",
        ),
        ("split", SPLIT, {"reports_folder": "nowhere"}, "nowhere does not exist; name it with `reports_folder:`"),
        ("split", SPLIT, {"reports_folder": "."}, "holds none of 4 reports (such as p10/p10000032/s50414267.txt)"),
    ],
)
def test_bad_input_is_one_sentence(
    load: Callable[..., Cohort],
    release: Path,
    name: str,
    content: str | None,
    options: dict[str, str],
    sentence: str,
) -> None:
    if content is None:
        (release / f"{PREFIX}{name}.csv.gz").unlink()
    else:
        write(release, name, content)
    with pytest.raises(DataError) as caught:
        load(**options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
