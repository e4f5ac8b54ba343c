"""A site: how one hospital takes, processes and marks its radiographs, and who comes to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType

from radlens.core.chexpert import FINDINGS

# The published per-class F1 of an always-positive classifier (paper, Table 2) is 2p / (1 + p);
# these prevalences p are that column inverted.
DEFAULT_PREVALENCE: Mapping[str, float] = MappingProxyType(
    {
        "Enlarged Cardiomediastinum": 0.020,
        "Cardiomegaly": 0.121,
        "Lung Opacity": 0.186,
        "Lung Lesion": 0.058,
        "Edema": 0.0235,
        "Consolidation": 0.016,
        "Pneumonia": 0.0215,
        "Atelectasis": 0.072,
        "Pneumothorax": 0.011,
        "Pleural Effusion": 0.042,
        "Pleural Other": 0.0055,
        "Fracture": 0.0395,
        "Support Devices": 0.049,
    }
)


def _default_prevalence() -> Mapping[str, float]:
    return dict(DEFAULT_PREVALENCE)


@dataclass(frozen=True)
class Site:
    """Parameters of acquisition, processing and case mix of one hospital.

    name            free text, kept with each case
    gamma           exponent of the display curve, > 0; below 1 brightens the lungs
    steepness       strength of the s-curve, 0 (straight) to 1
    window          (low, high): attenuation shown as black and as white, as fractions of the range from
                    air-filled lung to abdomen
    window_spread   standard deviation of the exposure (shift of the window, same fraction), >= 0
    equalisation    share of the low frequencies removed by the processing, 0 to 0.8
    noise           quantum noise: standard deviation at unit intensity, >= 0
    blur            focal-spot blur: Gaussian sigma in cm at the detector, >= 0
    scatter         scattered over primary radiation, 0 to 1
    magnification   (mean, spread) of the patient's size on the detector, mean in 0.7 to 1.4
    rotation        standard deviation of the in-plane rotation, degrees
    shift           standard deviation of the patient's displacement, cm
    collimation     (smallest, largest) margin lost on each edge, fraction of the image, 0 to 0.12
    marker          letter and text burnt in beside the patient's side marker; "" burns nothing
    marker_corner   "top left" or "top right" (as seen on the screen): the letter is R or L accordingly
    ap_share        share of studies taken AP (portable) rather than PA, 0 to 1
    prevalence      finding -> share of patients, 0 to 1; must name all 13 findings

    Raises ValueError with one sentence when a value lies outside its range.
    """

    name: str
    gamma: float = 1.0
    steepness: float = 0.4
    window: tuple[float, float] = (-0.1, 1.0)
    window_spread: float = 0.03
    equalisation: float = 0.3
    noise: float = 0.004
    blur: float = 0.08
    scatter: float = 0.25
    magnification: tuple[float, float] = (1.0, 0.025)
    rotation: float = 1.2
    shift: float = 0.4
    collimation: tuple[float, float] = (0.0, 0.03)
    marker: str = "A"
    marker_corner: str = "top right"
    ap_share: float = 0.25
    prevalence: Mapping[str, float] = field(default_factory=_default_prevalence)

    def __post_init__(self) -> None:
        _check_range("gamma", self.gamma, 0.2, 4.0)
        _check_range("steepness", self.steepness, 0.0, 1.0)
        _check_range("window_spread", self.window_spread, 0.0, 0.3)
        _check_range("equalisation", self.equalisation, 0.0, 0.8)
        _check_range("noise", self.noise, 0.0, 0.1)
        _check_range("blur", self.blur, 0.0, 1.0)
        _check_range("scatter", self.scatter, 0.0, 1.0)
        _check_range("magnification mean", self.magnification[0], 0.7, 1.4)
        _check_range("magnification spread", self.magnification[1], 0.0, 0.2)
        _check_range("rotation", self.rotation, 0.0, 15.0)
        _check_range("shift", self.shift, 0.0, 3.0)
        _check_range("collimation", self.collimation[0], 0.0, self.collimation[1])
        _check_range("collimation", self.collimation[1], 0.0, 0.12)
        _check_range("ap_share", self.ap_share, 0.0, 1.0)
        if self.window[1] - self.window[0] < 0.2:
            raise ValueError(f"window must rise by at least 0.2, found {self.window}.")
        if self.marker_corner not in ("top left", "top right"):
            found = self.marker_corner
            raise ValueError(f"marker_corner must be 'top left' or 'top right', found {found!r}.")
        missing = [name for name in FINDINGS if name not in self.prevalence]
        if missing:
            raise ValueError(f"prevalence must name all 13 findings, missing: {', '.join(missing)}.")
        for name, share in self.prevalence.items():
            _check_finding(name)
            _check_range(f"prevalence of {name}", share, 0.0, 1.0)
        object.__setattr__(self, "prevalence", dict(self.prevalence))

    def with_prevalence(self, prevalence: Mapping[str, float]) -> "Site":
        """The same site with some prevalences replaced; findings not named keep theirs.

        prevalence  finding -> share of patients, 0 to 1.
        Raises ValueError for an unknown finding or a share outside 0 to 1.
        """
        return replace(self, prevalence={**self.prevalence, **prevalence})


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}, found {value!r}.")


def _check_finding(name: str) -> None:
    if name not in FINDINGS:
        near = get_close_matches(name, FINDINGS, n=1)
        hint = f" did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is not one of the 13 findings ({', '.join(FINDINGS)});{hint}".rstrip(";"))


SOURCE = Site(name="source")

SHIFTED = Site(
    name="shifted",
    gamma=0.78,
    steepness=0.1,
    window=(-0.3, 1.02),
    window_spread=0.07,
    equalisation=0.05,
    noise=0.009,
    blur=0.14,
    scatter=0.5,
    magnification=(1.09, 0.05),
    rotation=2.5,
    shift=0.8,
    collimation=(0.01, 0.045),
    marker="PORT",
    marker_corner="top left",
    ap_share=0.7,
    prevalence={
        "Enlarged Cardiomediastinum": 0.05,
        "Cardiomegaly": 0.20,
        "Lung Opacity": 0.25,
        "Lung Lesion": 0.05,
        "Edema": 0.10,
        "Consolidation": 0.05,
        "Pneumonia": 0.06,
        "Atelectasis": 0.13,
        "Pneumothorax": 0.04,
        "Pleural Effusion": 0.13,
        "Pleural Other": 0.015,
        "Fracture": 0.05,
        "Support Devices": 0.22,
    },
)
