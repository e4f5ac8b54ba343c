"""The labeler `rules`: hand-labelled sentences, aggregation, options and odd texts."""

from __future__ import annotations

import importlib
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from defusedxml import ElementTree
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import cohen_kappa_score

from radlens.core.cohort import make_cohort
from radlens.core.errors import DataError, SpecError
from radlens.core.registry import get
from radlens.core.reports import EVIDENCE, LabelledReports, apply_labels, make_reports
from radlens.core.vocabulary import load_vocabulary
from radlens.labels.rules import Rules, aggregate
from radlens.labels.rules_phrases import expand, read_phrases
from radlens.labels.rules_reading import Reader
from radlens.labels.rules_text import LONGEST, passages

CHEXPERT = load_vocabulary("chexpert-14").names
EC, CM, LO, LL, ED = "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"
CO, PN, AT, PX, PE = "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"
PO, FX, SD, NF = "Pleural Other", "Fracture", "Support Devices", "No Finding"


def label(texts: list[str | None], folder: Path = Path(), **options: Any) -> LabelledReports:
    table = pl.DataFrame(
        {"study_id": [f"s{i}" for i in range(len(texts))], "findings": texts},
        schema={"study_id": pl.String, "findings": pl.String},
    )
    return Rules(**options).label(make_reports("own", table), folder, folder)


def values(text: str, folder: Path = Path(), **options: Any) -> dict[str, int]:
    row = label([text], folder, **options).table.drop("study_id", "assessed").row(0, named=True)
    return {name: value for name, value in row.items() if value is not None}


# Our own sentences, labelled by hand: all labels but "No Finding" that the sentence mentions, and nothing else.
SENTENCES: list[tuple[str, dict[str, int]]] = [
    # Enlarged Cardiomediastinum
    ("The upper mediastinum is widened.", {EC: 1}),
    ("Marked mediastinal widening since the last film.", {EC: 1}),
    ("There is no widening of the mediastinum.", {EC: 0}),
    ("Mediastinal contour is smooth and within normal limits.", {EC: 0}),
    ("The cardiomediastinal silhouette looks unremarkable.", {EC: 0}),
    ("Possible widening of the superior mediastinum.", {EC: -1}),
    ("The mediastinum appears a little prominent.", {EC: -1}),
    # Cardiomegaly
    ("Moderate cardiomegaly, unchanged.", {CM: 1}),
    ("The heart is mildly enlarged.", {CM: 1}),
    ("ENLARGED CARDIAC SILHOUETTE.", {CM: 1}),
    ("Heart size is normal.", {CM: 0}),
    ("The heart is not enlarged.", {CM: 0}),
    ("Normal-sized heart.", {CM: 0}),
    ("Heart size at the upper limits of normal.", {CM: 0}),
    ("Cardiac silhouette is borderline enlarged.", {CM: -1}),
    ("Question mild cardiomegaly.", {CM: -1}),
    ("Enlargement of the left hilum.", {}),
    ("Heart size normal with enlarged hilar nodes.", {CM: 0}),
    # Lung Opacity
    ("Patchy opacities at both bases.", {LO: 1}),
    ("New airspace disease in the lingula.", {LO: 1}),
    ("Lungs are clear.", {LO: 0}),
    ("No infiltrate is seen.", {LO: 0}),
    ("There may be a faint opacity behind the heart.", {LO: -1}),
    ("Normal pulmonary vascular markings.", {}),
    # Lung Lesion
    ("A 9 mm nodule projects over the right apex.", {LL: 1}),
    ("Multiple pulmonary metastases.", {LL: 1}),
    ("No suspicious nodules or masses.", {LL: 0}),
    ("Underlying mass cannot be excluded.", {LL: -1}),
    ("The trachea is displaced by mass effect of the thyroid.", {}),
    ("Calcified granuloma in the left upper lobe.", {}),
    # Edema
    ("Interval worsening of pulmonary edema.", {ED: 1}),
    ("Mild vascular congestion.", {ED: 1}),
    ("No overt pulmonary oedema.", {ED: 0}),
    ("Findings suggest early edema.", {ED: -1}),
    ("Soft tissue edema of the neck.", {}),
    # Consolidation
    ("Dense consolidation of the right middle lobe.", {CO: 1}),
    ("Without focal consolidation.", {CO: 0}),
    ("Suspicious for consolidation in the lingula.", {CO: -1}),
    # Pneumonia
    ("This is consistent with pneumonia.", {PN: 1}),
    ("No radiographic evidence of pneumonia.", {PN: 0}),
    ("Pneumonia is not excluded.", {PN: -1}),
    ("In the appropriate clinical setting this is compatible with pneumonia.", {PN: -1}),
    ("Exam ordered to rule out pneumonia.", {}),
    # Atelectasis
    ("Linear atelectasis in the left base.", {AT: 1}),
    ("Collapse of the right upper lobe.", {AT: 1}),
    ("The atelectasis has resolved.", {AT: 0}),
    ("Scarring or minimal atelectasis in the lingula.", {AT: -1}),
    ("Vertebral collapse is excluded by the prior scan.", {FX: 0}),
    # Pneumothorax
    ("Small apical pneumothorax on the left.", {PX: 1}),
    ("Tension hydropneumothorax.", {PX: 1, PE: 1}),
    ("There is no pneumothorax.", {PX: 0}),
    ("Pneumothorax is unlikely.", {PX: 0}),
    ("A tiny pneumothorax is possible.", {PX: -1}),
    # Pleural Effusion
    ("Large right pleural effusion.", {PE: 1}),
    ("Both costophrenic angles are sharp.", {PE: 0}),
    ("No effusions.", {PE: 0}),
    ("Blunting of the left costophrenic angle.", {PE: -1}),
    ("Probable trace effusion.", {PE: -1}),
    ("Moderate pericardial effusion.", {}),
    # Pleural Other
    ("Biapical pleural thickening.", {PO: 1}),
    ("No pleural plaques.", {PO: 0}),
    ("Pleural thickening versus fluid.", {PO: -1}),
    # Fracture
    ("Healed fractures of two left ribs.", {FX: 1}),
    ("No displaced rib fracture.", {FX: 0}),
    ("Nondisplaced fracture is suspected.", {FX: -1}),
    ("One of the sternotomy wires is fractured.", {}),
    ("If there is concern for a fracture, obtain rib views.", {}),
    # Support Devices
    ("Endotracheal tube ends above the carina.", {SD: 1}),
    ("A dual-lead pacemaker is in place.", {SD: 1}),
    ("The PICC line has been removed.", {SD: 0}),
    ("Surgical clips in the right axilla.", {}),
    # several at once: lists, ends of reach, two opinions, doubled negation, order
    ("No focal consolidation, pneumothorax, or pleural effusion.", {CO: 0, PX: 0, PE: 0}),
    ("No pneumothorax, but a small effusion remains.", {PX: 0, PE: 1}),
    ("Cardiomegaly without edema.", {CM: 1, ED: 0}),
    ("Lungs are clear of consolidation; stable cardiomegaly.", {LO: 0, CO: 0, CM: 1}),
    ("No acute abnormality other than mild bibasilar atelectasis.", {AT: 1}),
    ("Retrocardiac opacity, atelectasis versus pneumonia.", {LO: 1, AT: -1, PN: -1}),
    ("Left base opacity may represent pneumonia or aspiration.", {LO: 1, PN: -1}),
    ("No significant change in the small right effusion.", {PE: 1}),
    ("Cardiomegaly has not significantly changed.", {CM: 1}),
    ("Cannot exclude a small pneumothorax.", {PX: -1}),
    ("Pneumonia cannot be ruled out.", {PN: -1}),
    ("Neither effusion nor pneumothorax is identified.", {PE: 0, PX: 0}),
    ("The heart and mediastinum are normal.", {CM: 0, EC: 0}),
    ("Heart size, mediastinal contours and pulmonary vascularity are normal.", {CM: 0, EC: 0}),
    ("Interval removal of the chest tube without pneumothorax.", {SD: 0, PX: 0}),
    ("Possible small effusion, no pneumothorax.", {PE: -1, PX: 0}),
    ("Nodules and masses are absent.", {LL: 0}),
    ("There isn't any pneumothorax.", {PX: 0}),
    ("There isn\u2019t any effusion.", {PE: 0}),
    ("No air-space opacity.", {LO: 0}),
    ("Mild cardiomegaly, negative for pneumothorax.", {CM: 1, PX: 0}),
    ("Stable cardiomegaly, resolved edema.", {CM: 1, ED: 0}),
    ("The effusion is no longer seen.", {PE: 0}),
    ("Left effusion with suspected atelectasis.", {PE: 1, AT: -1}),
    ("Heart size is difficult to assess due to a large effusion.", {PE: 1}),
    ("Recommend CT to evaluate for an underlying mass.", {}),
    ("The nodule is not well seen today.", {LL: -1}),
    ("Lungs: Clear. Heart: Normal. Pleura: No effusion.", {LO: 0, CM: 0, PE: 0}),
    ("Hyperinflated lungs. Lungs are hyperinflated but clear.", {LO: 0}),
    ("Cardiac size normal, heart failure is not suspected.", {CM: 0, ED: 0}),
    # words that de-identification hid
    ("XXXX XXXX opacity.", {LO: 1}),
    ("No XXXX pleural XXXX effusion.", {PE: 0}),
    ("The XXXX. is enlarged, no XXXX. pneumothorax.", {PX: 0}),
    ("Heart XXXX is XXXX enlarged.", {CM: 1}),
    ("Opacity in the XXXX. No effusion.", {LO: 1, PE: 0}),
    ("Opacity at the ___ base, [**Hospital 12**] film: no effusion.", {LO: 1, PE: 0}),
]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(read_phrases(None, CHEXPERT))


@pytest.mark.parametrize(("sentence", "expected"), SENTENCES, ids=[text for text, _ in SENTENCES])
def test_a_sentence_labelled_by_hand(reader: Reader, sentence: str, expected: dict[str, int]) -> None:
    mentions = [m for _, found in reader.read((p, 0) for p in passages(sentence)) for m in found]
    found = {m.label: aggregate([o.value for o in mentions if o.label == m.label]) for m in mentions}
    assert found == expected


def test_the_sentences_cover_every_label_in_every_value() -> None:
    assert len(SENTENCES) >= 60
    seen = {(name, value) for _, expected in SENTENCES for name, value in expected.items()}
    wanted = {(name, value) for name in CHEXPERT if name not in (NF, SD) for value in (1, 0, -1)}
    assert wanted | {(SD, 1), (SD, 0)} <= seen


@pytest.mark.parametrize(
    ("mentions", "expected"), [([0], 0), ([0, -1], -1), ([-1, 1, 0], 1), ([0, 1], 1), ([-1], -1), ([0, 0], 0)]
)
def test_present_goes_before_uncertain_before_absent(mentions: list[int], expected: int) -> None:
    assert aggregate(mentions) == expected


def test_mentions_of_a_whole_report_are_aggregated() -> None:
    text = "No effusion on the right. Possible effusion on the left. Probable pneumonia; cardiomegaly. No pneumonia."
    assert values(text) == {PE: -1, PN: -1, CM: 1, NF: 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unremarkable examination.", 1),
        ("No effusion.", 1),
        ("Tracheostomy tube in place.", 1),
        ("Large effusion.", 0),
        ("Possible effusion.", None),
        ("Possible effusion. Cardiomegaly.", 0),
    ],
)
def test_no_finding(text: str, expected: int | None) -> None:
    assert values(text).get(NF) == expected


def test_no_finding_looks_at_labels_outside_the_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(
        'name = "two"\nno_finding = "Normal"\n'
        '[[label]]\nname = "Normal"\npositive = ["a"]\nnegative = ["b"]\n'
        '[[label]]\nname = "Cardiomegaly"\npositive = ["a"]\nnegative = ["b"]\n'
    )
    found = values("Normal heart size. Consolidation.", tmp_path, vocabulary="two.toml")
    assert found == {"Normal": 0, "Cardiomegaly": 0}


def test_a_vocabulary_without_any_known_label_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.toml").write_text('name = "v"\n[[label]]\nname = "Scoliosis"\npositive = ["a"]\nnegative = ["b"]\n')
    with pytest.raises(DataError, match="makes none of the labels of v"):
        label(["Clear."], tmp_path, vocabulary="v.toml")


def test_reports_without_a_word_are_not_assessed() -> None:
    labelled = label(["Cardiomegaly.", None, "  \n ", "XXXX XXXX. 3.", "No effusion."])
    assert labelled.table["assessed"].to_list() == [True, False, False, False, True]
    silent = labelled.table.filter(~pl.col("assessed")).drop("study_id", "assessed")
    assert silent.null_count().row(0) == (3,) * 14
    assert labelled.notes == ("3 of 5 reports have no text in findings or impression: not assessed.",)
    cohort = make_cohort(
        "c",
        pl.DataFrame({"image_id": ["a", "b"], "path": ["a", "b"], "study_id": ["s0", "s1"]}),
        load_vocabulary("chexpert-14"),
        labelled=False,
    )
    table = apply_labels(cohort, labelled).table
    assert table[CM].to_list() == [1, None] and table[PE].to_list() == [0, None]


def test_the_table_has_the_order_of_the_vocabulary_and_the_contract_of_evidence() -> None:
    labelled = label(["Lungs are clear. Large effusion. No pneumothorax.\n\nEffusion is unchanged.", None])
    assert labelled.table.columns == ["study_id", "assessed", *CHEXPERT]
    assert dict(labelled.evidence.schema) == EVIDENCE
    assert labelled.evidence.rows() == [
        ("s0", LO, 0, "Lungs are clear."),
        ("s0", PX, 0, "No pneumothorax."),
        ("s0", PE, 1, "Large effusion."),
        ("s0", PE, 1, "Effusion is unchanged."),
    ]
    assert get("labelers", "rules") is Rules
    assert "rules" in labelled.origin and "findings" in labelled.origin


def test_no_finding_says_why() -> None:
    assert label(["Unremarkable."]).evidence.rows() == [
        ("s0", NF, 1, "no finding is mentioned as present or uncertain")
    ]


def test_the_sentence_that_decided_stands_as_in_the_report() -> None:
    evidence = label(["XXXX, no XXXX. XXXX right-sided\n pleural\u00a0XXXX effusion/XXXX. Done."]).evidence
    assert evidence.rows() == [("s0", PE, 1, "XXXX right-sided pleural XXXX effusion/XXXX.")]


def test_sections_are_chosen() -> None:
    table = pl.DataFrame(
        {
            "study_id": ["a", "b", "c"],
            "indication": ["rib fracture", None, None],
            "findings": ["Cardiomegaly.", "Effusion.", None],
            "impression": ["No effusion.", None, None],
            "report": [None, None, "Pneumothorax."],
        }
    )
    reports = make_reports("own", table)
    both = Rules().label(reports, Path(), Path()).table
    assert both.select(CM, PE, PX, FX).rows() == [
        (1, 0, None, None),
        (None, 1, None, None),
        (None, None, 1, None),
    ]
    alone = Rules(sections=("impression",)).label(reports, Path(), Path())
    assert alone.table.select("assessed", CM, PE).rows()[:2] == [(True, None, 0), (False, None, None)]
    assert "in impression" in alone.notes[0] and "(impression)" in alone.origin
    for wrong in ((), ("findings", "findings"), ("history",)):
        with pytest.raises(ValidationError):
            Rules.model_validate({"sections": wrong})


def test_lists_and_headings_part_what_they_part() -> None:
    text = "FINDINGS:\nNo effusion\n- Cardiomegaly\n- No pneumothorax\n\nIMPRESSION: 1. No pneumonia 2. Rib fracture"
    assert values(text) == {PE: 0, CM: 1, PX: 0, PN: 0, FX: 1, NF: 0}
    assert values("No evidence of\npleural effusion.") == {PE: 0, NF: 1}
    assert values("Doubled stop.. No effusion .. Large pneumothorax.. Done") == {PE: 0, PX: 1, NF: 0}


@pytest.mark.parametrize(
    "text",
    [
        "Cardiomegaly \U0001fac0 \u2014 na\u00efve caf\u00e9, \u4e2d\u6587. No\u00a0pneumothorax.",
        "\ufeffCARDIOMEGALY\u2028NO PNEUMOTHORAX",
        "cardiomegaly;no pneumothorax",
        "Cardiomegaly.No pneumothorax.<br/>",
    ],
)
def test_unicode_and_glued_words(text: str) -> None:
    assert {name: value for name, value in values(text).items() if name in (CM, PX)} == {CM: 1, PX: 0}


def test_a_very_long_report_takes_linear_time_and_loses_nothing() -> None:
    filler = "The right hemidiaphragm is mildly elevated and the trachea lies in the midline. " * 6000
    text = f"{filler}No pneumothorax. {filler}Small effusion at the very end."
    assert len(text) > 900_000
    assert values(text) == {PX: 0, PE: 1, NF: 0}
    assert values("x" * 200_000 + " cardiomegaly") == {CM: 1, NF: 0}
    assert all(len(p.original) <= LONGEST for p in passages(text))
    assert "".join("".join(p.original.split()) for p in passages(text)) == "".join(text.split())


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("XXX nopleural effusion.,;/-\n\t12()?*[]_<b>\u00df\u2019\u4e2d"), max_size=300))
def test_any_text_can_be_read_and_quoted(text: str) -> None:
    for passage in passages(text):
        assert passage.clean == " ".join(passage.clean.split())
        assert len(passage.starts) == len(passage.spans)
        whole = passage.quote(0, len(passage.clean))
        assert whole in " ".join(text.split())


def test_progress_and_repetition() -> None:
    heard: list[tuple[int, int]] = []
    table = pl.DataFrame({"study_id": [str(i) for i in range(700)], "findings": ["Effusion. No edema."] * 700})
    reports = make_reports("own", table)
    first = Rules().label(reports, Path(), Path(), lambda done, total: heard.append((done, total)))
    assert heard == sorted(heard) and heard[-1] == (700, 700) and len(heard) > 2
    again = Rules().label(reports, Path(), Path())
    assert first.table.equals(again.table) and first.evidence.equals(again.evidence)


# ---- a user's own phrases


def test_own_phrases_join_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[label.Cardiomegaly]\npresent = ["boot shaped heart"]\n[negation]\npreceding = ["kein"]\n'
    )
    assert values("Boot-shaped heart. Kein effusion.", tmp_path, phrases="own.toml") == {CM: 1, PE: 0, NF: 0}
    assert values("Cardiomegaly. No effusion.", tmp_path, phrases="own.toml") == {CM: 1, PE: 0, NF: 0}
    assert values("Boot-shaped heart.") == {NF: 1}


def test_own_phrases_replace_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[label.Cardiomegaly]\nreplace = true\npresent = ["cor ... grande"]\npathology = false\n'
        "[uncertainty]\nreplace = true\n"
    )
    assert values("Cardiomegaly.", tmp_path, phrases="own.toml") == {NF: 1}
    assert values("Cor is not grande. Possible effusion.", tmp_path, phrases="own.toml") == {CM: 0, PE: 1, NF: 0}
    assert values("Cor molto grande.", tmp_path, phrases="own.toml") == {CM: 1, NF: 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[label.Cardiomegalia]\npresent = ["x"]', "label.unknown label 'Cardiomegalia'. Did you mean 'Cardiomegaly'"),
        ('[label.Cardiomegaly]\npresents = ["x"]', "'label.Cardiomegaly.presents'. Did you mean 'present'"),
        ('[label.Cardiomegaly]\npresent = "x"', "label.Cardiomegaly.present: expected a list"),
        ("[label.Cardiomegaly]\npresent = [3]", "label.Cardiomegaly.present.0: expected text"),
        ('[label.Cardiomegaly]\npresent = ["heart ..."]', "label.Cardiomegaly.present.0: phrase 'heart ...'"),
        ('[label.Cardiomegaly]\npresent = ["a ... b ... c"]', "may hold one gap"),
        ('[label.Cardiomegaly]\npresent = ["big?"]', "can be empty"),
        ('[label.Cardiomegaly]\npresent = [""]', "can be empty"),
        ("[label.Cardiomegaly]\nreplace = true", "label.Cardiomegaly: expected phrases in `present`"),
        ('[negation]\npreceding = ["no ... of"]', "negation.preceding.0: phrase 'no ... of' may not hold a gap"),
        ('[negations]\npreceding = ["no"]', "unknown key 'negations'. Did you mean 'negation'"),
        (f'[label.Edema]\npresent = ["{" ".join(["a|b|c|d"] * 6)}"]', "stands for 4096 wordings"),
        ("[label", "is not valid TOML"),
    ],
)
def test_a_wrong_phrase_table_is_told_in_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "own.toml").write_text(content)
    with pytest.raises(SpecError) as caught:
        label(["Clear."], tmp_path, phrases="own.toml")
    message = str(caught.value)
    assert words in message and str(tmp_path / "own.toml") in message and "\n" not in message


def test_a_missing_phrase_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.toml: cannot be read"):
        label(["Clear."], tmp_path, phrases="nowhere.toml")


def test_phrases_are_written_out() -> None:
    assert expand("no|without definite? change") == [
        "no definite change",
        "no change",
        "without definite change",
        "without change",
    ]
    assert expand("?") == ["?"]
    assert expand("and/or air-space") == ["and / or air space"]


@pytest.mark.parametrize("package", ["spacy", "negspacy"])
def test_a_missing_package_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.delitem(sys.modules, "radlens.labels.rules_reading")
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=rf"needs the package {package}\b.*pip install 'radlens\[rules\]'"):
        label(["Clear."])


def test_the_labeler_is_listed_without_importing_spacy() -> None:
    for name in ("rules", "rules_phrases", "rules_text"):
        source = Path(importlib.import_module(f"radlens.labels.{name}").__file__ or "").read_text("utf-8")
        assert "import spacy" not in source and "from negspacy" not in source


# ---- the real collection, against the codes of its human indexers

HEADINGS = {
    CM: ("Cardiomegaly",),
    PX: ("Pneumothorax", "Hydropneumothorax", "Hemopneumothorax"),
    PE: ("Pleural Effusion", "Hydropneumothorax"),
    CO: ("Consolidation",),
    AT: ("Pulmonary Atelectasis",),
    FX: ("Fractures, Bone",),
    ED: ("Pulmonary Edema", "Pulmonary Congestion", "Heart Failure"),
}


def test_the_real_reports_agree_with_their_codes(torchxrayvision_data: Path) -> None:
    rows = []
    with tarfile.open(torchxrayvision_data / "NLMCXR_reports.tgz") as archive:
        for member in archive:
            if member.name.endswith(".xml") and (stream := archive.extractfile(member)):
                root = ElementTree.fromstring(stream.read())
                sections = {(s.get("Label") or "").lower(): s.text for s in root.iter("AbstractText")}
                codes = [code.text or "" for code in root.findall("MeSH/major")]
                rows.append((member.name, sections.get("findings"), sections.get("impression"), json.dumps(codes)))
    table = pl.DataFrame(rows, ["study_id", "findings", "impression", "json"], orient="row")
    labelled = Rules().label(make_reports("iu-xray", table), Path(), Path()).table
    assert labelled.height == 3955
    joined = labelled.join(table, on="study_id").filter(~pl.col("json").str.contains("No Indexing"))
    for name, headings in HEADINGS.items():
        coded = [any(c.split("/")[0].strip() in headings for c in json.loads(codes)) for codes in joined["json"]]
        mentioned = joined[name].is_in([1, -1]).fill_null(False).to_list()
        assert cohen_kappa_score(coded, mentioned) > 0.75, name
