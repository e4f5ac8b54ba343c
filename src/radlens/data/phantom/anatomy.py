"""One patient's anatomy: the sizes and places of organs, in cm (see grid.py for the axes)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

_SALT_ANATOMY = 3


@dataclass(frozen=True)
class Anatomy:
    """Sizes (cm) of a thorax. Pairs are (patient's right, patient's left)."""

    female: bool
    age: int
    depth: float  # front to back
    lung_width: float  # midline to lateral lung border
    apex: float  # y of the lung apices
    sulcus: float  # y of the costophrenic angles
    dome: tuple[float, float]  # y of the diaphragm's domes
    fat: float  # soft tissue lateral of the ribs
    shoulder: float  # y where the shoulders start beside the neck
    heart: tuple[float, float, float, float]  # x, y, half length, half width
    heart_tilt: float
    mediastinum: float  # half-width of the upper mediastinum
    knob: tuple[float, float, float]  # aortic knob: x, y, radius
    trachea: float  # x at the carina
    carina: float  # y
    rib_pitch: float
    rib_radius: float
    clavicle: tuple[float, float]  # y at the sternum, rise towards the shoulder
    scapula: float  # how far the scapulae lie over the lungs
    breast: float  # thickness, 0 for none
    bubble: float  # size of the gastric bubble
    vessel: float  # calibre of the pulmonary vessels, 1 is usual

    @property
    def hilum(self) -> tuple[float, float]:
        """(distance from the midline, y) of the hila."""
        return 3.6 + 0.25 * (self.mediastinum - 2.6), self.carina + 1.9

    def lateral(self, y: float) -> float:
        """Distance of the lateral lung border from the midline at height y."""
        t = float(np.clip((y - self.apex) / (self.sulcus - self.apex), 0.0, 1.0))
        return self.lung_width * float(np.sqrt(1.0 - (1.0 - t) ** 3))

    def height(self, side: int, t: float) -> float:
        """y at the fraction t of the way from the apex (0) to the dome (1); side -1 right, 1 left."""
        return self.apex + t * (self.dome[side > 0] - self.apex)


def draw_anatomy(seed: int, patient: int, sex: str, age: int, view: str) -> Anatomy:
    """Draw a patient's anatomy; AP (portable) views show a larger heart and less breath."""
    rng = np.random.default_rng([seed, patient, _SALT_ANATOMY])
    normal = rng.normal
    female, portable = sex == "F", view == "AP"
    width = 13.3 + 0.5 * float(np.clip(normal(), -2, 2)) - 0.7 * female
    apex = -13.2 + 0.4 * float(np.clip(normal(), -2, 2))
    dome = 8.6 + 0.7 * float(np.clip(normal(), -2, 2)) - 1.1 * portable - 0.4 * female
    knob = 1.35 + 0.1 * normal() + 0.012 * (age - 50)
    # Cardiothoracic ratio of a normal heart: about 0.40 to 0.48 PA, a little more AP.
    ratio = float(np.clip(normal(0.437, 0.022), 0.38, 0.475)) * (1.07 if portable else 1.0)
    half = ratio * width
    mediastinum = float(np.clip(normal(2.5, 0.22), 2.0, 2.95)) * (1.1 if portable else 1.0)
    carina = -4.6 + 0.4 * float(np.clip(normal(), -2, 2))
    return Anatomy(
        female=female,
        age=age,
        depth=21.0 + 1.6 * float(np.clip(normal(), -1.7, 2.5)),
        lung_width=width,
        apex=apex,
        sulcus=dome + 3.6 + 0.3 * float(np.clip(normal(), -2, 2)),
        dome=(dome - 0.7 + 0.3 * normal(), dome + 0.4 + 0.3 * normal()),
        fat=1.5 + abs(normal()) * 1.0 + 0.4 * female,
        shoulder=-15.6 + 0.5 * normal() + 0.7 * portable,
        heart=(1.75 + 0.3 * normal(), dome - 4.2 + 0.2 * normal(), half * 1.06, half * 0.80),
        heart_tilt=0.55 + 0.12 * normal() - 0.15 * portable,
        mediastinum=mediastinum,
        knob=(mediastinum + 0.15 + 0.004 * (age - 50), carina - 2.2, max(0.9, knob)),
        trachea=0.25 + 0.15 * normal(),
        carina=carina,
        rib_pitch=2.2 + 0.06 * normal(),
        rib_radius=0.52 + 0.04 * normal(),
        clavicle=(-9.0 + 0.5 * normal() - 0.9 * portable, 1.9 + 0.5 * normal()),
        scapula=float(np.clip(normal(0.15, 0.25), 0, 1)) + 0.6 * portable,
        breast=max(0.0, normal(1.8, 0.7)) if female else max(0.0, normal(0.2, 0.25)),
        bubble=max(0.0, normal(0.8, 0.5)),
        vessel=float(np.clip(normal(1.0, 0.12), 0.7, 1.3)),
    )


def reshape(anatomy: Anatomy, severities: Mapping[str, float], sides: Mapping[str, str]) -> Anatomy:
    """Change the anatomy by the findings that move organs: heart, upper mediastinum, raised diaphragm."""
    severity = severities.get("Cardiomegaly")
    if severity is not None:
        x, y, a, b = anatomy.heart
        # From a cardiothoracic ratio of about 0.53 to 0.70, whatever the normal heart was.
        grow = (0.525 + 0.155 * severity) * anatomy.lung_width / (a / 1.06)
        x, y = x * (0.7 + 0.3 * grow), y - 0.55 * (grow - 1) * b
        anatomy = replace(anatomy, heart=(x, y, a * grow, b * grow))
    severity = severities.get("Enlarged Cardiomediastinum")
    if severity is not None:
        x, y, radius = anatomy.knob
        wider = 0.9 + 2.2 * severity
        anatomy = replace(
            anatomy,
            mediastinum=anatomy.mediastinum + wider,
            knob=(x + 0.8 * wider, y, radius * (1 + 0.25 * severity)),
        )
    severity = severities.get("Atelectasis")
    if severity is not None:
        raised = 0.3 + 1.4 * severity
        right, left = anatomy.dome
        side = sides.get("Atelectasis")
        right, left = right - raised * (side != "left"), left - raised * (side != "right")
        anatomy = replace(anatomy, dome=(right, left))
    return anatomy
