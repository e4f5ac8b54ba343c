"""A case: who is on an image and what is found, drawn without rendering a pixel."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from radlens.core.chexpert import FINDINGS, LABELS

from .copula import draw_present
from .report import write_report
from .site import Site

# Images come in blocks of six that hold three patients with one, two and three images in one of six orders,
# so that the patient of an image is known without walking through the images before it.
_BLOCK = 6
_ORDERS = tuple(permutations((1, 2, 3)))

_SALT_ORDER, _SALT_PATIENT = 1, 2

_BILATERAL_SHARE = {"Lung Opacity": 0.35, "Pneumonia": 0.15, "Atelectasis": 0.3, "Pleural Effusion": 0.35}
_SIDED = frozenset(
    {
        "Lung Opacity",
        "Lung Lesion",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Effusion",
        "Pleural Other",
        "Fracture",
    }
)
_ZONES = ("upper", "mid", "lower")
_ZONE_SHARES = {
    "Lung Opacity": (0.3, 0.3, 0.4),
    "Lung Lesion": (0.4, 0.35, 0.25),
    "Consolidation": (0.4, 0.1, 0.5),
    "Pneumonia": (0.15, 0.25, 0.6),
}


@dataclass(frozen=True)
class Case:
    """What is known of one image before it is drawn.

    index       number of the image in the cohort, >= 0
    patient     number of the patient, >= 0
    view        "PA" or "AP"; age in years; sex "F" or "M"
    labels      each of the 14 LABELS -> 0 or 1; "No Finding" is 1 exactly when all others are 0
    severities  present finding -> 0.15 (subtle) to 1 (obvious)
    sides       present finding that has a side -> "left", "right" (the patient's) or "bilateral"
    zones       present finding of the lung -> "upper", "mid" or "lower"
    report      one sentence
    """

    seed: int
    index: int
    patient: int
    site: str
    patient_id: str
    study_id: str
    image_id: str
    view: str
    age: int
    sex: str
    labels: dict[str, int]
    severities: dict[str, float]
    sides: dict[str, str]
    zones: dict[str, str]
    report: str


def draw_case(seed: int, index: int, site: Site) -> Case:
    """Draw one image's patient, findings and report; deterministic in (seed, index) for a site.

    The one to three images of a patient share all but `index` and `image_id`.
    Raises ValueError when seed or index is negative or no integer, or site is no Site.
    """
    check_arguments(seed, index, site)
    patient, number = _patient_of(seed, index)
    rng = np.random.default_rng([seed, patient, _SALT_PATIENT])
    present, portable = draw_present(rng, site.prevalence, site.ap_share)
    sex = "F" if rng.random() < 0.47 else "M"
    age = int(np.clip(rng.normal(58.0, 17.0), 18, 95))
    # Draws are made for every finding, present or not, so that one finding never moves another.
    severity = 0.15 + 0.85 * rng.beta(1.7, 1.3, len(FINDINGS))
    side_draw, zone_draw, both_draw = rng.random((3, len(FINDINGS)))
    severities, sides, zones = {}, {}, {}
    for i, name in enumerate(FINDINGS):
        if name not in present:
            continue
        severities[name] = round(float(severity[i]), 4)
        if name in _SIDED:
            both = both_draw[i] < _BILATERAL_SHARE.get(name, 0.0)
            sides[name] = "bilateral" if both else ("left" if side_draw[i] < 0.5 else "right")
        if name in _ZONE_SHARES:
            edges = np.cumsum(_ZONE_SHARES[name])
            zones[name] = _ZONES[min(int(np.searchsorted(edges, zone_draw[i])), 2)]
    patient_id = f"{site.name}-{seed}-p{patient:06d}"
    return Case(
        seed=seed,
        index=index,
        patient=patient,
        site=site.name,
        patient_id=patient_id,
        study_id=f"{patient_id}-s1",
        image_id=f"{patient_id}-s1-i{number}",
        view="AP" if portable else "PA",
        age=age,
        sex=sex,
        labels={name: int(name in present or (name == "No Finding" and not present)) for name in LABELS},
        severities=severities,
        sides=sides,
        zones=zones,
        report=write_report(rng, severities, sides, zones),
    )


def check_arguments(seed: int, index: int, site: Site) -> None:
    """Raise ValueError unless seed and index are integers >= 0 and site is a Site."""
    for name, value in (("seed", seed), ("index", index)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ValueError(f"{name} must be an integer of 0 or more, found {value!r}.")
    if not isinstance(site, Site):
        raise ValueError(f"site must be a Site (such as SOURCE or SHIFTED), found {type(site).__name__}.")


def _patient_of(seed: int, index: int) -> tuple[int, int]:
    """The patient of an image, and which of the patient's images it is (from 1)."""
    block, place = divmod(int(index), _BLOCK)
    order = _ORDERS[int(np.random.default_rng([seed, block, _SALT_ORDER]).integers(len(_ORDERS)))]
    for k, count in enumerate(order):
        if place < count:
            return block * len(order) + k, place + 1
        place -= count
    raise AssertionError("a block holds six images")
