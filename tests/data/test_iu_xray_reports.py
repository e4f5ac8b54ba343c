"""The XML reports of IU-Xray: the real 3,955, and broken or hostile files."""

from __future__ import annotations

import collections
import re
import sys
import tarfile
import time
from pathlib import Path

import pytest

from radlens.core.errors import DataError
from radlens.data.iu_xray_reports import installed_file, read_iu_xray_reports

GOOD = (
    '<eCitation><uId id="CXR7"/><MedlineCitation><AbstractText Label="FINDINGS">Clear &amp;\n  dry.</AbstractText>'
    '<AbstractText Label="IMPRESSION"/></MedlineCitation><MeSH><major>normal</major></MeSH></eCitation>'
)
BAD = {
    "bomb.xml": (
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><eCitation><uId id="CXR8"/>&b;</eCitation>',
        "declares an entity or another file",
    ),
    "thief.xml": (
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><eCitation><uId id="CXR9"/>&a;</eCitation>',
        "declares an entity or another file",
    ),
    "broken.xml": ('<eCitation>\n<uId id="CXR10"/>', r"is not well-formed XML \(line 2, column 18\)"),
    "empty.xml": ("", "is not well-formed XML"),
    "page.xml": ("<html><body>Not Found</body></html>", "is XML but no report"),
    "coded.xml": ('<?xml version="1.0" encoding="klingon"?><eCitation/>', "(encoding|well-formed)"),
}


def counted(archive: Path) -> dict[str, int]:
    """Counts by patterns in the raw text, without any parser."""
    found: collections.Counter[str] = collections.Counter()
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                continue
            text = file.read().decode("utf-8")
            images = re.findall(r'<parentImage id="([^"]+)"', text)
            silent = all(re.search(rf'Label="{label}">\s*[^<\s]', text) is None for label in ("FINDINGS", "IMPRESSION"))
            found.update(
                reports=1,
                images=len(images),
                imageless=not images,
                unindexed="<major>No Indexing</major>" in text,
                silent=silent,
                major=len(re.findall("<major>", text)),
                automatic=len(re.findall("<automatic>", text)),
            )
    return dict(found)


def test_the_real_reports(torchxrayvision_data: Path) -> None:
    start = time.perf_counter()
    reports = read_iu_xray_reports("torchxrayvision", Path())
    assert time.perf_counter() - start < 10
    table = reports.table
    codes = table["codes"].drop_nulls()
    expected = {"reports": 3955, "images": 7470, "imageless": 104, "unindexed": 95, "silent": 28}
    independent = counted(torchxrayvision_data / "NLMCXR_reports.tgz")
    assert expected | {"major": 8298, "automatic": 7047} == independent
    assert expected == {
        "reports": len(reports),
        "images": int(table["image_ids"].list.len().sum()),
        "imageless": int((table["image_ids"].list.len() == 0).sum()),
        "unindexed": table["codes"].null_count(),
        "silent": sum(text is None for text in reports.text()),
    }
    assert int(codes.list.len().sum()) == 8298 - 95 and int(table["automatic"].list.len().sum()) == 7047
    assert (table["image_ids"].list.len() == table["captions"].list.len()).all()
    assert table["image_ids"].explode().drop_nulls().n_unique() == 7470
    assert table.filter(table["image_ids"].list.len() > 0)["patient_id"].n_unique() == 3851
    first = table.row(0, named=True)
    assert (first["study_id"], first["patient_id"], first["codes"]) == ("CXR1", "1", ["normal"])
    assert first["indication"] == "Positive TB test" and first["impression"] == "Normal chest x-XXXX."
    assert first["image_ids"] == ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"]
    assert "by-nc-nd" in first["licence"] and first["file"] == "ecgen-radiology/1.xml"
    assert reports.source["report_counts"]["not_indexed"] == 95 and len(reports.source["sha256"]) == 64
    assert not reports.left_out and any("28 of 3955" in note for note in reports.notes)
    assert "torchxrayvision" not in sys.modules


def test_a_patient_of_the_metadata_is_a_report(torchxrayvision_data: Path) -> None:
    import polars as pl

    table = pl.read_csv(torchxrayvision_data / "nlmcxr_dicom_metadata.csv.gz", infer_schema=False)
    number = table["imageid"].str.extract(r"^CXR(\d+)_")
    assert (table["Patient ID"] == number).all() and number.n_unique() == 3851
    assert table.select("Patient ID", "Study Instance UID").unique().height == 3851


def test_a_folder_reads_as_the_archive(torchxrayvision_data: Path, tmp_path: Path) -> None:
    with tarfile.open(torchxrayvision_data / "NLMCXR_reports.tgz") as tar:
        for member in list(tar)[1:40]:
            content = tar.extractfile(member)
            assert content is not None
            place = tmp_path / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.read())
    folder = read_iu_xray_reports(".", tmp_path).table
    archive = read_iu_xray_reports("torchxrayvision", Path()).table
    same = archive.filter(archive["study_id"].is_in(folder["study_id"].implode()))
    assert folder.height == 39 and folder.equals(same)


@pytest.mark.parametrize("packed", [False, True])
def test_files_that_cannot_be_read_are_left_out_and_counted(packed: bool, tmp_path: Path) -> None:
    folder = tmp_path / "xml"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "7.XML").write_text(GOOD)
    (folder / "deep" / "._7.xml").write_bytes(b"\0\5\26\7")
    (folder / "notes.txt").write_text("no report")
    for name, (text, _) in BAD.items():
        (folder / name).write_text(text)
    (folder / "huge.xml").write_bytes(b" " * (5 << 20))
    if packed:
        with tarfile.open(tmp_path / "reports.tgz", "w:gz") as tar:
            tar.add(folder, "ecgen")
    reports = read_iu_xray_reports("reports.tgz" if packed else "xml", tmp_path)
    assert reports.table.select("study_id", "findings", "impression", "codes").to_dicts() == [
        {"study_id": "CXR7", "findings": "Clear & dry.", "impression": None, "codes": ["normal"]}
    ]
    (left,) = reports.left_out
    assert (left.what, left.count) == ("XML files that cannot be read", len(BAD) + 1)


@pytest.mark.parametrize("name", BAD)
def test_only_when_nothing_can_be_read_it_is_an_error(name: str, tmp_path: Path) -> None:
    text, why = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"found none that can be read .*{re.escape(name)}: .*{why}") as caught:
        read_iu_xray_reports(str(tmp_path), Path())
    assert "\n" not in str(caught.value) and "root:" not in str(caught.value)


def test_no_xml_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"it holds no \.xml file"):
        read_iu_xray_reports(str(tmp_path), Path())
    with pytest.raises(DataError, match=r"a\.txt: expected a \.tgz, a folder"):
        read_iu_xray_reports("a.txt", tmp_path)


def test_what_nobody_indexed_is_null_and_what_was_found_normal_is_not(tmp_path: Path) -> None:
    for n, codes in enumerate(["<major>No Indexing</major>", "", "<major>normal</major>", "<automatic>x</automatic>"]):
        text = GOOD.replace("CXR7", f"CXR{n}").replace("<major>normal</major>", codes)
        (tmp_path / f"{n}.xml").write_text(text)
    reports = read_iu_xray_reports(str(tmp_path), Path())
    assert reports.table["codes"].to_list() == [None, None, ["normal"], None]
    assert reports.table["automatic"].to_list() == [[], [], [], ["x"]]


def test_a_report_without_text_stays_and_is_counted(tmp_path: Path) -> None:
    (tmp_path / "7.xml").write_text(GOOD.replace("Clear &amp;\n  dry.", "  "))
    reports = read_iu_xray_reports(str(tmp_path), Path())
    assert reports.text() == [None] and "1 of 1 reports have neither" in reports.notes[0]


def test_an_id_in_two_files_is_one_sentence(tmp_path: Path) -> None:
    for name in ("a.xml", "b.xml"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(DataError, match=r"report id 'CXR7' stands in a\.xml and in b\.xml; expected each report once"):
        read_iu_xray_reports(str(tmp_path), Path())
    image = '<parentImage id="CXR7_IM-1-1"/></eCitation>'
    (tmp_path / "a.xml").write_text(GOOD.replace("</eCitation>", image))
    (tmp_path / "b.xml").write_text(GOOD.replace("</eCitation>", image).replace("CXR7", "CXR8", 1))
    with pytest.raises(DataError, match=r"image id 'CXR7_IM-1-1' stands in a\.xml and in b\.xml"):
        read_iu_xray_reports(str(tmp_path), Path())


def test_without_the_package_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert installed_file("NLMCXR_reports.tgz") is None
    with pytest.raises(DataError, match=r"pip install 'radlens\[iu-xray\]'"):
        read_iu_xray_reports("torchxrayvision", Path())
