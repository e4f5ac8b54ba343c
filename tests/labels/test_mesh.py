"""The labeler `mesh`: the judgements on hand-written codes, and the counts on the real collection."""

from __future__ import annotations

import runpy
import tarfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from defusedxml.ElementTree import fromstring
from pydantic import ValidationError

from radlens.core.errors import DataError, SpecError
from radlens.core.reports import LabelledReports, Reports, make_reports
from radlens.core.spec import build_part
from radlens.labels.mesh import Mesh
from radlens.labels.mesh_codes import CodeTable, code_table, plain


def reports_of_codes(*codes: list[str] | None) -> Reports:
    studies = [f"s{number}" for number in range(len(codes))]
    return make_reports("hand-written", pl.DataFrame({"study_id": studies, "codes": list(codes)}))


def label(reports: Reports, **options: str) -> LabelledReports:
    return Mesh(**options).label(reports, Path(), Path())  # type: ignore[arg-type]


def found(*codes: str, **options: str) -> dict[str, int]:
    """The labels that are not 0, of one report with these codes."""
    row = label(reports_of_codes(list(codes)), **options).table.row(0, named=True)
    assert row.pop("study_id") == "s0"
    assert row.pop("assessed") is True
    return {name: value for name, value in row.items() if value != 0}


ONE_CODE = {
    "Cardiomegaly": {"Cardiomegaly": 1},
    "Cardiomegaly/mild": {"Cardiomegaly": 1},
    "Cardiomegaly/borderline": {"Cardiomegaly": -1},
    "Cardiac Shadow/enlarged/moderate": {"Cardiomegaly": 1},
    "Cardiac Shadow/enlarged/borderline": {"Cardiomegaly": -1},
    "Cardiac Shadow/obscured/severe": {},
    "Heart Atria/left/enlarged": {},
    "Mediastinum/prominent": {"Enlarged Cardiomediastinum": 1},
    "Mediastinum/lymph nodes/enlarged": {},
    "Opacity/lung/base/left/mild": {"Lung Opacity": 1},
    "Opacity/retrocardiac": {"Lung Opacity": 1},
    "Opacity": {"Lung Opacity": 1},
    "Opacity/lung/upper lobe/right/round/small": {"Lung Opacity": 1, "Lung Lesion": 1},
    "Opacity/ribs/right/posterior/round": {},
    "Opacity/mediastinum/right": {},
    "Opacity/pleura/right": {"Pleural Other": -1, "Pleural Effusion": -1},
    "Density/lung/base/left": {"Lung Opacity": 1},
    "Density/lung/middle lobe/right/round": {"Lung Lesion": 1},
    "Density/thorax/round/multiple": {},
    "Infiltrate/lung/base": {"Lung Opacity": 1},
    "Airspace Disease/lung/base/right": {"Lung Opacity": 1},
    "Markings/lung/interstitial/chronic": {"Lung Opacity": 1},
    "Markings/bronchovascular": {},
    "Lung/interstitial/prominent": {"Lung Opacity": 1},
    "Lung/hypoinflation": {},
    "Cicatrix/lung/base/left": {"Lung Opacity": 1},
    "Cicatrix/pleura/apex/bilateral": {"Pleural Other": 1},
    "Cicatrix/costophrenic angle/left": {"Pleural Other": 1},
    "Cicatrix/breast/right": {},
    "Pulmonary Fibrosis/base": {"Lung Opacity": 1},
    "Consolidation/lung/lower lobe/left": {"Consolidation": 1},
    "Pneumonia/right": {"Pneumonia": 1},
    "Pulmonary Atelectasis/base/bilateral/mild": {"Atelectasis": 1},
    "Pulmonary Edema/interstitial": {"Edema": 1},
    "Pulmonary Congestion/mild": {},
    "Heart Failure": {"Edema": -1},
    "Nodule/lung/lingula": {"Lung Lesion": 1},
    "Nodule/pleura/left": {"Pleural Other": 1},
    "Nodule/heart/left/small": {},
    "Mass/lung/hilum/right": {"Lung Lesion": 1},
    "Mass/breast/large": {},
    "Calcified Granuloma/lung/upper lobe/right": {},
    "Granuloma/lung/lingula": {},
    "Calcinosis/lung/hilum/lymph nodes": {},
    "Calcinosis/pleura/base/right": {"Pleural Other": 1},
    "Pneumothorax/right/apex/small": {"Pneumothorax": 1},
    "Hydropneumothorax/right": {"Pneumothorax": 1, "Pleural Effusion": 1},
    "Pleural Effusion/left/small": {"Pleural Effusion": 1},
    "Pleural Effusion/borderline": {"Pleural Effusion": -1},
    "Costophrenic Angle/left/blunted": {"Pleural Effusion": -1},
    "Costophrenic Angle/left/obscured": {},
    "Thickening/pleura/apex/bilateral": {"Pleural Other": 1},
    "Thickening/heart ventricles": {},
    "Fractures, Bone/ribs/right/healed": {"Fracture": 1},
    "Deformity/ribs/right": {"Fracture": -1},
    "Deformity/mediastinum/severe": {},
    "Catheters, Indwelling/subclavian/right": {"Support Devices": 1},
    "Implanted Medical Device": {"Support Devices": 1},
    "Stents/coronary vessels": {"Support Devices": 1},
    "Surgical Instruments/abdomen": {},
    "Foreign Bodies/breast": {},
    "Aorta/tortuous": {},
    "Hernia, Hiatal/large": {},
    "Technical Quality of Image Unsatisfactory ": {},
}


@pytest.mark.parametrize("code", ONE_CODE)
def test_a_code_means(code: str) -> None:
    expected = dict(ONE_CODE[code])
    if not set(expected) - {"Support Devices"}:
        expected["No Finding"] = 1
    assert found(code) == expected


def test_borderline_may_count_as_positive() -> None:
    assert found("Cardiomegaly/borderline", borderline="positive") == {"Cardiomegaly": 1}
    # what a rule itself leaves open stays open
    assert found("Costophrenic Angle/blunted", borderline="positive") == {"Pleural Effusion": -1}


def test_a_sure_code_outweighs_an_uncertain_one() -> None:
    for codes in (["Cardiomegaly/borderline", "Cardiomegaly"], ["Cardiomegaly", "Cardiomegaly/borderline"]):
        labelled = label(reports_of_codes(codes))
        assert labelled.table["Cardiomegaly"].to_list() == [1]
        assert labelled.evidence.rows() == [("s0", "Cardiomegaly", 1, "Cardiomegaly")]


def test_no_finding_by_the_two_definitions() -> None:
    codes: list[list[str] | None] = [
        ["normal"],
        ["Scoliosis/mild"],
        ["Tube, Inserted/trachea"],
        ["Cardiomegaly/borderline"],
        [],
        ["normal", "Opacity/lung"],
        ["normal", "Scoliosis"],
    ]
    by_pathology = label(reports_of_codes(*codes)).table["No Finding"].to_list()
    by_code = label(reports_of_codes(*codes), no_finding="normal-code").table["No Finding"].to_list()
    assert by_pathology == [1, 1, 1, 0, 1, 0, 1]
    assert by_code == [1, 0, 0, 0, 0, 0, 0]


def test_a_report_that_nobody_indexed_is_not_normal() -> None:
    labelled = label(reports_of_codes(None, ["No Indexing"], ["normal"]))
    assert labelled.table["assessed"].to_list() == [False, False, True]
    values = labelled.table.drop("study_id", "assessed")
    assert all(value is None for row in values.rows()[:2] for value in row)
    assert None not in values.rows()[2]
    assert "2 of 3 reports were never indexed: they are not assessed." in labelled.notes


def test_an_unknown_heading_is_counted_and_leaves_no_finding_open() -> None:
    codes = [["Aspergilloma/lung", "Cardiomegaly"], ["Aspergilloma", "normal"], [" Opacty/lung "]]
    labelled = label(reports_of_codes(*codes))
    assert labelled.unknown == {"Aspergilloma": 2, "Opacty": 1}
    assert labelled.table["No Finding"].to_list() == [0, -1, -1]
    assert labelled.table["Lung Opacity"].to_list() == [0, 0, 0]
    assert any("3 codes have one of 2 headings" in note and "Aspergilloma (2)" in note for note in labelled.notes)
    assert label(reports_of_codes(["normal"])).unknown == {}


def test_capitals_and_blanks_do_not_matter() -> None:
    assert found("  pleural  effusion / LEFT/Small ") == {"Pleural Effusion": 1}
    assert found("Mediastinum/paratracheal/enlarged ") == {"Enlarged Cardiomediastinum": 1}
    assert found("", "Cardiomegaly") == {"Cardiomegaly": 1}


def test_evidence_is_the_code_that_decided() -> None:
    labelled = label(reports_of_codes(["Opacity/lung/base", "Infiltrate/lung", "Scoliosis"], ["Aorta/tortuous"]))
    assert labelled.evidence.rows() == [
        ("s0", "Lung Opacity", 1, "Opacity/lung/base"),
        ("s0", "Lung Opacity", 1, "Infiltrate/lung"),
        ("s1", "No Finding", 1, "no code of a finding"),
    ]


def test_reports_without_any_code_are_refused() -> None:
    with pytest.raises(DataError, match=r"none of the 2 reports has any; choose a labeler that reads the text"):
        label(reports_of_codes(None, None))


def test_a_vocabulary_without_its_labels_is_refused(tmp_path: Path) -> None:
    text = 'name = "eyes"\n[[label]]\nname = "Cataract"\npositive = ["a cataract"]\nnegative = ["a clear lens"]\n'
    (tmp_path / "eyes.toml").write_text(text, "utf-8")
    with pytest.raises(DataError, match="makes none of the labels of eyes"):
        Mesh(vocabulary="eyes.toml").label(reports_of_codes(["normal"]), tmp_path, tmp_path)


def test_a_vocabulary_of_a_few_labels_gets_those(tmp_path: Path) -> None:
    text = 'name = "few"\n' + "".join(
        f'[[label]]\nname = "{name}"\npositive = ["with it"]\nnegative = ["without it"]\n'
        for name in ("Cataract", "Fracture", "No Finding")
    )
    (tmp_path / "few.toml").write_text(text, "utf-8")
    labelled = Mesh(vocabulary="few.toml").label(reports_of_codes(["Cardiomegaly"], ["normal"]), tmp_path, tmp_path)
    assert labelled.table.columns == ["study_id", "assessed", "Fracture", "No Finding"]
    assert labelled.table["No Finding"].to_list() == [0, 1]
    assert set(labelled.evidence["label"]) == {"No Finding"}


def test_the_table_is_among_the_files_that_decide() -> None:
    assert [path.name for path in Mesh().files(Path()) if path.is_file()] == ["mesh.toml"]


def test_options_are_checked() -> None:
    assert isinstance(build_part("labelers", "mesh", {"borderline": "positive"}), Mesh)
    with pytest.raises(SpecError, match="borderline"):
        build_part("labelers", "mesh", {"borderline": "maybe"})


def test_a_heading_cannot_be_mapped_and_ignored() -> None:
    values = code_table().model_dump(by_alias=True)
    values["ignored"] = {**values["ignored"], "mistake": ("cardiomegaly",)}
    with pytest.raises(ValidationError, match="both mapped and ignored"):
        CodeTable.model_validate(values)


@pytest.fixture(scope="module")
def collection(torchxrayvision_data: Path) -> pl.DataFrame:
    """study_id, codes, images of all real reports, read here without the library's own reader."""
    rows = []
    with tarfile.open(torchxrayvision_data / "NLMCXR_reports.tgz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".xml"):
                continue
            root = fromstring(file.read())
            codes = [node.text for node in root.findall("MeSH/major")]
            rows.append(
                {
                    "study_id": root.find("uId").get("id"),
                    "codes": None if codes == ["No Indexing"] else codes,
                    "images": len(root.findall("parentImage")),
                }
            )
    return pl.DataFrame(rows)


REAL_REPORTS = {
    "No Finding": (2501, 0),
    "Enlarged Cardiomediastinum": (23, 0),
    "Cardiomegaly": (346, 51),
    "Lung Opacity": (758, 0),
    "Lung Lesion": (168, 0),
    "Edema": (46, 4),
    "Consolidation": (30, 0),
    "Pneumonia": (42, 0),
    "Atelectasis": (332, 0),
    "Pneumothorax": (27, 0),
    "Pleural Effusion": (162, 45),
    "Pleural Other": (68, 2),
    "Fracture": (84, 79),
    "Support Devices": (291, 0),
}


def test_the_real_collection(collection: pl.DataFrame) -> None:
    assert (len(collection), collection["images"].sum()) == (3955, 7470)
    labelled = label(make_reports("iu-xray", collection))
    assert labelled.table["study_id"].to_list() == collection["study_id"].to_list()
    assert int(labelled.table["assessed"].sum()) == 3955 - 95
    counts = {
        name: (int((labelled.table[name] == 1).sum()), int((labelled.table[name] == -1).sum()))
        for name in labelled.table.columns[2:]
    }
    assert counts == REAL_REPORTS
    assert labelled.unknown == {}
    assert "unknown" not in " ".join(labelled.notes)


def test_real_counts_agree_with_a_search_for_the_headings(collection: pl.DataFrame) -> None:
    """Headings that decide a label by themselves, counted without the table or its reader."""
    table = label(make_reports("iu-xray", collection), borderline="positive").table
    heads = collection.select("study_id", pl.col("codes").list.eval(pl.element().str.replace(r"/.*", ""))).explode(
        "codes"
    )
    for name, wanted in {
        "Consolidation": ["Consolidation"],
        "Pneumonia": ["Pneumonia"],
        "Atelectasis": ["Pulmonary Atelectasis"],
        "Edema": ["Pulmonary Edema"],
        "Fracture": ["Fractures, Bone"],
        "Pneumothorax": ["Pneumothorax", "Hydropneumothorax", "Hemopneumothorax"],
        "Support Devices": [
            "Catheters, Indwelling",
            "Tube, Inserted",
            "Implanted Medical Device",
            "Medical Device",
            "Stents",
        ],
    }.items():
        expected = heads.filter(pl.col("codes").is_in(wanted))["study_id"].unique().sort().to_list()
        assert table.filter(pl.col(name) == 1)["study_id"].sort().to_list() == expected, name


def test_every_real_heading_is_in_the_table_and_the_table_has_no_other(collection: pl.DataFrame) -> None:
    table = code_table()
    ignored = {plain(heading) for group in table.ignored.values() for heading in group}
    listed = (
        {plain(rule.heading) for rule in table.rule} | ignored | {plain(h) for h in (table.normal, *table.unindexed)}
    )
    codes = [code for codes in collection["codes"].to_list() for code in codes or ["No Indexing"]]
    headings = Counter(plain(code.partition("/")[0]) for code in codes)
    assert set(headings) == listed
    qualifiers = {plain(part) for code in codes for part in code.split("/")[1:]}
    for rule in table.rule:
        assert rule.one_of | rule.and_one_of | rule.without <= qualifiers, rule.heading


def test_every_rule_of_the_table_fits_a_real_code(collection: pl.DataFrame) -> None:
    codes = {code for codes in collection["codes"].to_list() for code in codes or []}
    split = [(plain(code.split("/")[0]), frozenset(map(plain, code.split("/")[1:]))) for code in codes]
    for rule in code_table().rule:
        assert any(heading == plain(rule.heading) and rule.fits(qualifiers) for heading, qualifiers in split), rule


def test_the_page_of_figures_is_up_to_date(torchxrayvision_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Path(__file__).parents[2] / "tools" / "compare_iu_xray_labels.py"
    monkeypatch.setattr("sys.argv", [str(tool), "--check"])
    runpy.run_path(str(tool), run_name="__main__")
