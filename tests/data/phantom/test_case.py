"""Cases without pixels: labels, patients, prevalences, reports, errors."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from radlens.data.phantom import FINDINGS, LABELS, SHIFTED, SOURCE, Case, Site, draw_case

DRAWS = 20_000


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [draw_case(7, index, SOURCE) for index in range(DRAWS)]


def test_labels_are_chexpert_14_in_order() -> None:
    assert len(LABELS) == 14
    assert LABELS[0] == "No Finding"
    assert LABELS[-1] == "Support Devices"
    assert tuple(draw_case(0, 0, SOURCE).labels) == LABELS


def test_no_finding_exactly_when_all_others_are_absent(cases: list[Case]) -> None:
    for case in cases:
        present = {name for name in FINDINGS if case.labels[name]}
        assert case.labels["No Finding"] == int(not present)
        assert set(case.severities) == present


def test_prevalence_holds_for_every_finding(cases: list[Case]) -> None:
    for name in FINDINGS:
        expected = SOURCE.prevalence[name]
        found = np.mean([case.labels[name] for case in cases])
        # Images of a patient share findings: 2.33 images a draw on average, weighted by image.
        error = np.sqrt(expected * (1 - expected) * 2.34 / DRAWS)
        assert abs(found - expected) < 4.5 * error, name


def test_about_sixty_per_cent_have_no_finding(cases: list[Case]) -> None:
    assert np.mean([case.labels["No Finding"] for case in cases]) == pytest.approx(0.60, abs=0.02)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cardiomegaly", "Edema"),
        ("Cardiomegaly", "Pleural Effusion"),
        ("Pneumonia", "Consolidation"),
        ("Pneumonia", "Lung Opacity"),
        ("Pleural Effusion", "Atelectasis"),
        ("Support Devices", "Pleural Effusion"),
        ("Support Devices", "Edema"),
    ],
)
def test_findings_that_belong_together_come_together(cases: list[Case], one: str, other: str) -> None:
    a = np.array([case.labels[one] for case in cases], dtype=bool)
    b = np.array([case.labels[other] for case in cases], dtype=bool)
    assert (a & b).mean() > 1.8 * a.mean() * b.mean()


def test_severities_run_from_subtle_to_obvious(cases: list[Case]) -> None:
    drawn = np.array([value for case in cases for value in case.severities.values()])
    assert drawn.min() >= 0.15
    assert drawn.max() <= 1.0
    assert np.quantile(drawn, 0.05) < 0.35
    assert np.quantile(drawn, 0.95) > 0.9


def test_patients_have_one_to_three_images_that_share_the_findings(cases: list[Case]) -> None:
    by_patient: dict[str, list[Case]] = {}
    for case in cases[:6000]:
        by_patient.setdefault(case.patient_id, []).append(case)
    assert {len(group) for group in by_patient.values()} == {1, 2, 3}
    for group in by_patient.values():
        assert len({case.image_id for case in group}) == len(group)
        first = group[0]
        for case in group[1:]:
            assert case.index == first.index + group.index(case)
            for shared in (
                "study_id",
                "labels",
                "severities",
                "sides",
                "zones",
                "age",
                "sex",
                "view",
                "report",
            ):
                assert getattr(case, shared) == getattr(first, shared)
            assert case.report == first.report


def test_a_report_is_one_sentence(cases: list[Case]) -> None:
    for case in cases[:2000]:
        assert case.report.endswith(".")
        assert case.report.count(".") == 1
        assert "{" not in case.report
        assert "  " not in case.report
    assert len({case.report for case in cases}) > 500


def test_sites_differ_in_views_and_case_mix() -> None:
    source = [draw_case(0, 3 * i, SOURCE) for i in range(600)]
    shifted = [draw_case(0, 3 * i, SHIFTED) for i in range(600)]
    assert np.mean([c.view == "AP" for c in shifted]) > np.mean([c.view == "AP" for c in source]) + 0.2
    assert sum(sum(c.severities.values()) for c in shifted) > sum(sum(c.severities.values()) for c in source)


def test_with_prevalence_replaces_only_what_it_names() -> None:
    site = SOURCE.with_prevalence({"Fracture": 1.0, "Edema": 0.0})
    assert site.prevalence["Cardiomegaly"] == SOURCE.prevalence["Cardiomegaly"]
    drawn = [draw_case(0, index, site) for index in range(50)]
    assert all(case.labels["Fracture"] == 1 and case.labels["Edema"] == 0 for case in drawn)


def test_cases_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        draw_case(0, 0, SOURCE).view = "AP"  # type: ignore[misc]


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1), (0.5, 0), (0, True)])
def test_bad_seed_or_index_is_refused(seed: int, index: int) -> None:
    with pytest.raises(ValueError, match="must be an integer of 0 or more"):
        draw_case(seed, index, SOURCE)


def test_bad_sites_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'Fracture'"):
        SOURCE.with_prevalence({"Fractures": 0.1})
    with pytest.raises(ValueError, match="prevalence of Edema must lie between 0 and 1"):
        SOURCE.with_prevalence({"Edema": 1.2})
    with pytest.raises(ValueError, match="missing: Enlarged"):
        Site(name="empty", prevalence={})
    with pytest.raises(ValueError, match="gamma must lie"):
        Site(name="odd", gamma=0.0)
    with pytest.raises(ValueError, match="site must be a Site"):
        draw_case(0, 0, "source")  # type: ignore[arg-type]
