"""A tree of DICOM files as a cohort: what is read, what is left out, what is never told."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sqlite3
import stat
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
)

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, RadlensError, SpecError, StoreError
from radlens.core.spec import build_part
from radlens.data import dicom_index
from radlens.data.dicom_header import age_in_years
from radlens.data.dicom_pseudonyms import Pseudonyms, salt_of_cache
from radlens.data.images import read_image

SECRETS = (
    "DOE^JANE",
    "PID-4711",
    "PID-4712",
    "ACC-0815",
    "ACC-0816",
    "19501231",
    "20210304",
    "ST. ELSEWHERE",
    "HOUSE^GREGORY",
    "2.25.111",
    "2.25.222",
)


def write(path: Path, image: str = "1", study: str = "1", patient: str = "PID-4711", **elements: Any) -> Path:
    """A radiograph with all that must not get out; an element that is None is left away."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = f"2.25.111.{image}"
    meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    given: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": f"2.25.111.{image}",
        "StudyInstanceUID": f"2.25.222.{study}",
        "SeriesInstanceUID": f"2.25.222.{study}.1",
        "AccessionNumber": f"ACC-081{4 + int(study)}",
        "PatientName": "DOE^JANE",
        "PatientID": patient,
        "PatientBirthDate": "19501231",
        "PatientSex": "F",
        "PatientAge": "045Y",
        "StudyDate": "20210304",
        "InstitutionName": "ST. ELSEWHERE",
        "ReferringPhysicianName": "HOUSE^GREGORY",
        "Modality": "CR",
        "ViewPosition": "PA",
        "ImageLaterality": "L",
        "Manufacturer": "Maker",
        "ManufacturerModelName": "Model 1",
        "BodyPartExamined": "CHEST",
        "Rows": 6,
        "Columns": 5,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": bytes(range(30)),
    }
    for name, value in (given | elements).items():
        if value is not None:
            setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def load(tmp_path: Path, **options: Any) -> Cohort:
    cohort: Cohort = build_part("datasets", "dicom", {"images": "files", **options}).load(tmp_path, tmp_path / "cache")
    return cohort


def left_out(cohort: Cohort) -> dict[str, int]:
    return {item.what: item.count for item in cohort.left_out}


def table(tmp_path: Path, columns: Sequence[str], *rows: Sequence[Any]) -> str:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return "labels.csv"


def salt(tmp_path: Path) -> bytes:
    return (tmp_path / "cache/dicom/salt").read_bytes().strip()


def test_columns_groups_and_pseudonyms(tmp_path: Path) -> None:
    write(tmp_path / "files/a/1.dcm", "1")
    write(tmp_path / "files/a/IM2", "2", ViewPosition="LL", PatientAge="018M", syntax=DeflatedExplicitVRLittleEndian)
    write(tmp_path / "files/b/3", "3", "2", "PID-4712", ViewPosition=None, PatientAge="093Y", PatientSex="M")
    cohort = load(tmp_path)
    rows = cohort.table.sort("path").to_dicts()
    assert [Path(row["path"]).name for row in rows] == ["1.dcm", "IM2", "3"]
    assert [row["view"] for row in rows] == ["PA", "lateral", None]
    assert [row["age"] for row in rows] == [45.0, 1.5, 90.0]
    assert [row["sex"] for row in rows] == ["F", "F", "M"]
    assert {(r["laterality"], r["modality"], r["manufacturer"], r["device"]) for r in rows} == {
        ("L", "CR", "Maker", "Model 1")
    }
    assert rows[0]["patient_id"] == rows[1]["patient_id"] != rows[2]["patient_id"]
    assert rows[0]["study_id"] == rows[1]["study_id"] != rows[2]["study_id"]
    # HMAC written out, with hashlib alone
    expected = hmac.new(salt(tmp_path), b"patient\0PID-4711", hashlib.sha256).hexdigest()[:16]
    assert rows[0]["patient_id"] == expected
    assert cohort.table.select(cohort.vocabulary.names).null_count().row(0) == (3,) * 14
    assert not any("does not assess" in note for note in cohort.notes)
    assert "ages from 90 years on stand as 90." in cohort.notes
    assert load(tmp_path).table.equals(cohort.table)


def test_nothing_that_names_gets_out(tmp_path: Path) -> None:
    write(tmp_path / "files/1.dcm", "1")
    write(tmp_path / "files/2.dcm", "2", "2", "PID-4712", Modality="CT")
    broken = write(tmp_path / "files/3.dcm", "3", "2", "PID-4712").read_bytes()
    (tmp_path / "files/3.dcm").write_bytes(broken[:-10])
    labels = table(tmp_path, ["AccessionNumber", "Edema"], ["ACC-0815", 1], ["ACC-0816", 0])
    cohort = load(tmp_path, table=labels, key="AccessionNumber")
    cohort.table.write_csv(tmp_path / "cohort.csv")
    told = [(tmp_path / "cohort.csv").read_text(), repr(cohort.source), repr(cohort.notes), repr(cohort.left_out)]
    told.append(json.dumps(asdict(cohort.left_out[0])))
    for rows in ([["ACC-0815", "x"]], [["ACC-0815", 1], ["ACC-0815", 1]], [["ACC-0899", 1]]):
        table(tmp_path, ["AccessionNumber", "Edema"], *rows)
        with pytest.raises(RadlensError) as raised:
            load(tmp_path, table=labels, key="AccessionNumber")
        told.append(str(raised.value))
    caches = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(caches) == 2
    for text in (*(text.encode() for text in told), *caches):
        for secret in (*SECRETS, "ACC-0899"):
            assert secret.encode() not in text
    assert str(tmp_path / "files").encode() not in b"".join(caches), "a folder may be named after a patient"


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    files = tmp_path / "files"
    write(files / "ok.dcm", "1")
    write(files / "again.dcm", "1")
    write(files / "ct.dcm", "2", Modality="CT")
    write(files / "none.dcm", "3", Modality=None)
    write(files / "cine.dcm", "4", NumberOfFrames=2, PixelData=bytes(60))
    write(files / "one-frame.dcm", "5", NumberOfFrames=1)
    write(files / "bare.dcm", "6", PixelData=None)
    cut = write(files / "cut.dcm", "7").read_bytes()
    (files / "cut.dcm").write_bytes(cut[:-1])
    write(
        files / "state.dcm", "8", SOPClassUID=GrayscaleSoftcopyPresentationStateStorage, Modality="PR",
        Rows=None, Columns=None, PixelData=None,
    )  # fmt: skip
    (files / "notes.txt").write_text("not a film")
    (files / "empty.dcm").write_bytes(b"")
    (files / "rubbish.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    (files / "nowhere.dcm").symlink_to(files / "not there")
    cohort = load(tmp_path)
    assert sorted(Path(path).name for path in cohort.table["path"]) == ["again.dcm", "one-frame.dcm"]
    assert left_out(cohort) == {
        "files that are not DICOM": 2,
        "DICOM files that cannot be read": 1,
        "DICOM objects that are no image (reports, presentation states, folders)": 1,
        "DICOM images of several frames": 1,
        "DICOM images without pixels, or cut short": 2,
        "files that repeat an image (same SOP Instance UID)": 1,
        "images of another modality": 2,
    }
    assert cohort.source["files"] == 12
    assert cohort.left_out[-1].examples == ("CT", "none named")
    for path in cohort.table["path"]:
        assert read_image(path).pixels.shape == (6, 5)
    wider = load(tmp_path, modalities=["cr", "ct"])
    assert len(wider) == 3


def test_the_shared_pair_is_one_image_of_one_patient(tmp_path: Path, shared: Path) -> None:
    cohort = load(tmp_path, images=str(shared / "dicom"))
    assert left_out(cohort) == {"files that repeat an image (same SOP Instance UID)": 1}
    assert cohort.table.select("view", "age", "sex", "modality").row(0) == ("PA", 62.0, "M", "CR")


def test_ids_that_are_missing(tmp_path: Path) -> None:
    bare = {"SOPInstanceUID": None, "StudyInstanceUID": None, "SeriesInstanceUID": None, "AccessionNumber": None}
    write(tmp_path / "files/1", "1", patient="", **bare)
    write(tmp_path / "files/2", "2", "2", patient=" ")
    write(tmp_path / "files/3", "3", "2", patient=" ")
    cohort = load(tmp_path)
    one, two, three = cohort.table.sort("path").to_dicts()
    assert one["patient_id"] is None
    assert one["study_id"] is None
    assert two["patient_id"] == three["patient_id"] == f"study-{two['study_id']}"
    assert "3 images name no patient: each study counts as a patient of its own." in cohort.notes
    assert cohort.table["image_id"].n_unique() == 3


def test_a_placeholder_for_many_patients_is_told(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / f"files/{number}", str(number), str(number), "ANONYMOUS")
    write(tmp_path / "files/x", "x".replace("x", "99"), "99", "PID-4711")
    assert any("12 of 13 studies: perhaps a placeholder" in note for note in load(tmp_path).notes)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("SOPInstanceUID", ["2.25.111.1", "2.25.111.2", "2.25.111.3"]),
        ("StudyInstanceUID", ["2.25.222.1", "2.25.222.2", "2.25.222.9"]),
        ("AccessionNumber", ["ACC-0815", "ACC-0816", "ACC-0899"]),
        ("PatientID", ["PID-4711", " PID-4712", "PID-4713"]),
        ("file", ["a/1.dcm", "b\\2.dcm", "b/3.dcm"]),
        ("file", ["1.dcm", "2.dcm", "3.dcm"]),
    ],
)
def test_labels_join_by_any_key(tmp_path: Path, key: str, values: list[str]) -> None:
    write(tmp_path / "files/a/1.dcm", "1")
    write(tmp_path / "files/b/2.dcm", "2", "2", "PID-4712")
    rows = [[value, label, "seen"] for value, label in zip(values, ("1", "-1", "0"), strict=True)]
    labels = table(tmp_path, ["my key", "Edema", "remark"], *rows)
    cohort = load(
        tmp_path, table=labels, key=key, key_column="my key", keep=["remark"], report_column="remark", uncertain="ones"
    )
    assert cohort.table["Edema"].to_list() == [1, 1]
    assert cohort.table["remark"].to_list() == cohort.table["report"].to_list() == ["seen", "seen"]
    assert cohort.origins == {"Edema": "table labels.csv"}
    assert left_out(cohort) == {"rows of labels.csv whose image is not there": 1}
    assert cohort.left_out[0].examples == ("row 3",)
    hashed = table(tmp_path, ["patient_id", "Edema"], *((row["patient_id"], 0) for row in cohort.table.to_dicts()))
    assert load(tmp_path, table=hashed, key="patient_id").table["Edema"].to_list() == [0, 0]


def test_images_without_a_row_and_tables_of_reports_only(tmp_path: Path) -> None:
    write(tmp_path / "files/1.dcm", "1")
    write(tmp_path / "files/2.dcm", "2", "2", "PID-4712")
    labels = table(tmp_path, ["file", "text"], ["1.dcm", "Clear lungs."])
    cohort = load(tmp_path, table=labels, key="file", report_column="text")
    assert cohort.table["report"].to_list() == ["Clear lungs.", None]
    assert "1 of 2 images have no row in labels.csv: no label of theirs." in cohort.notes
    assert cohort.origins == {}


@pytest.mark.parametrize(
    ("columns", "rows", "options", "error", "match"),
    [
        (["file", "Edema"], [["1.dcm", "yes"]], {}, DataError, "row 1: label 'Edema' must be 1, 0, -1 or blank"),
        (["file", "Edema"], [["1.dcm", 1], ["1.dcm", 0]], {}, DataError, "rows 1, 2 have the same 'file'"),
        (["file", "Edema"], [["", 1]], {}, DataError, "row 1 has no 'file'"),
        (["file", "Edema"], [["9.dcm", 1]], {}, DataError, "none of its 1 rows is of one of the 2 images"),
        (["file", "Edema"], [["same.dcm", 1]], {}, DataError, "file names are those of several files"),
        (["file", "Odema"], [["1.dcm", 1]], {}, DataError, "has a column for none of the 14 labels"),
        (["name", "Edema"], [["1.dcm", 1]], {}, DataError, "unknown column 'file'"),
        (["file", "x"], [["1.dcm", 1]], {"labels": {"Odema": "x"}}, SpecError, "unknown label 'Odema'. Did you mean"),
        (["file", "view", "Edema"], [["1.dcm", 1, 1]], {"keep": ["view"]}, SpecError, "radlens fills itself"),
    ],
)
def test_bad_tables(
    tmp_path: Path, columns: list[str], rows: list[list[Any]], options: Any, error: type[Exception], match: str
) -> None:
    write(tmp_path / "files/1.dcm", "1")
    if "same" in str(rows):
        write(tmp_path / "files/a/same.dcm", "2")
    write(tmp_path / "files/b/same.dcm", "3")
    with pytest.raises(error, match=match) as raised:
        load(tmp_path, table=table(tmp_path, columns, *rows), key="file", **options)
    assert "\n" not in str(raised.value)


def test_bad_folders_and_options(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; expected a folder of DICOM files"):
        load(tmp_path)
    (tmp_path / "files").mkdir()
    with pytest.raises(DataError, match="found no file at all"):
        load(tmp_path)
    write(tmp_path / "files/1", "1", Modality="MR")
    with pytest.raises(DataError, match=r"\(CR, DR, DX, RG\), found 1 images of another modality"):
        load(tmp_path)
    with pytest.raises(SpecError, match="labels is of no use without `table:`"):
        load(tmp_path, labels={"Edema": "x"})
    with pytest.raises(SpecError, match="unknown key"):
        load(tmp_path, institution="x")


def test_salt_is_private_kept_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache/dicom/salt"
    first = salt_of_cache(path)
    assert len(first) == 64
    assert salt_of_cache(path) == first
    assert [entry.name for entry in path.parent.iterdir()] == ["salt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    salt_of_cache(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(StoreError, match="is cut short"):
        salt_of_cache(path)
    write(tmp_path / "files/1", "1")
    for value, found in ((None, "that is not set"), ("short", "of 5 characters")):
        monkeypatch.delenv("SITE_SALT", raising=False)
        if value:
            monkeypatch.setenv("SITE_SALT", value)
        with pytest.raises(SpecError, match=found):
            load(tmp_path, salt_variable="SITE_SALT")
    monkeypatch.setenv("SITE_SALT", "a secret of the hospital")
    cohort = load(tmp_path, salt_variable="SITE_SALT")
    assert cohort.table["patient_id"][0] == Pseudonyms(b"a secret of the hospital").of("patient", "PID-4711")
    assert "a secret" not in repr(cohort.source)


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write(tmp_path / f"files/{number}", str(number), patient=f"P{number}")
    done: list[tuple[int, int]] = []
    part = build_part("datasets", "dicom", {"images": "files"})
    first = part.load(tmp_path, tmp_path / "cache", lambda *at: done.append(at))
    assert done == [(5, 5)]
    read: list[str] = []
    original = dicom_index.read_header
    monkeypatch.setattr(dicom_index, "read_header", lambda p, s, n: read.append(p.name) or original(p, s, n))
    assert part.load(tmp_path, tmp_path / "cache").table.equals(first.table)
    assert read == []
    write(tmp_path / "files/3", "3", patient="another")
    os.utime(tmp_path / "files/3", ns=(1, 1))
    write(tmp_path / "files/6", "6")
    second = part.load(tmp_path, tmp_path / "cache")
    assert sorted(read) == ["3", "6"]
    assert second.table["patient_id"][3] != first.table["patient_id"][3]
    index = next((tmp_path / "cache/dicom").glob("*.sqlite"))
    index.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="delete that file, it is made anew"):
        part.load(tmp_path, tmp_path / "cache")
    index.unlink()
    assert part.load(tmp_path, tmp_path / "cache").table.equals(second.table)
    with sqlite3.connect(index) as connection:
        assert connection.execute("select count(*) from header").fetchone() == (6,)
    connection.close()


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", 45.0),
        ("018M", 1.5),
        ("003W", 0.06),
        ("010D", 0.03),
        ("62", 62.0),
        ("089Y", 89.0),
        ("090Y", 90.0),
        ("120Y", 90.0),
        ("999Y", None),
        ("", None),
        (None, None),
        ("old", None),
        ("0-5Y", None),
    ],
)
def test_ages(text: str | None, years: float | None) -> None:
    assert age_in_years(text) == years


@pytest.mark.parametrize(
    ("position", "meaning", "view"),
    [
        ("AP", None, "AP"),
        ("LATERAL", None, "lateral"),
        ("RL", None, "lateral"),
        (None, "postero-anterior", "PA"),
        ("", "left lateral", "lateral"),
        ("LLO", None, None),
    ],
)
def test_views(tmp_path: Path, position: str | None, meaning: str | None, view: str | None) -> None:
    codes = None
    if meaning is not None:
        code = pydicom.Dataset()
        code.CodeMeaning = meaning
        codes = [code]
    write(tmp_path / "files/1", ViewPosition=position, ViewCodeSequence=codes)
    assert load(tmp_path).table["view"].to_list() == [view]


def test_values_that_bend_the_standard_do_not_warn(tmp_path: Path) -> None:
    path = write(tmp_path / "files/1", PatientAge="045Y", ImageLaterality=None, BodyPartExamined="HAND")
    path.write_bytes(path.read_bytes().replace(b"045Y", b"45 Y").replace(b"2.25.222.1 ", b"2.25.a_2.1 "))
    cohort = load(tmp_path)
    assert cohort.table["age"].to_list() == [None]
    assert "1 images are of another body part than the chest by their header; they are kept." in cohort.notes
    assert load(tmp_path).notes == cohort.notes, "from the cache as from the files"
    assert cohort.table.schema["age"] == pl.Float64
    assert cohort.targets().shape == (1, 14)
    assert np.isnan(cohort.targets()).all()
