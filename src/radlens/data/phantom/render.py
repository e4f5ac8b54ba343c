"""Render a case: anatomy, findings, detector; pixels and the exact mask of every finding."""

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

from radlens.core.chexpert import FINDINGS

from .anatomy import draw_anatomy, reshape
from .case import Case, check_arguments, draw_case
from .detector import attenuation, expose, quantise
from .findings_bone import draw_breaks, swell_breaks
from .findings_device import draw_devices
from .findings_heart import draw_cardiomegaly, draw_enlarged_mediastinum
from .findings_lung import (
    draw_atelectasis,
    draw_consolidation,
    draw_edema,
    draw_lesion,
    draw_opacity,
    draw_pneumonia,
)
from .findings_pleura import draw_effusion, draw_pleural_other, draw_pneumothorax
from .grid import FIELD_CM, Grid
from .marker import burn_marker
from .scene import Scene
from .site import Site
from .skeleton import Break, draw_skeleton
from .thorax import Mask, build_thorax
from .vessels import draw_vessels

_SALT_POSE, _SALT_DETECTOR, _SALT_MARKER, _SALT_FINDING = 11, 12, 13, 100
SMALLEST, LARGEST = 64, 2048

_Draw = Callable[[Scene, np.random.Generator, float, str, str], Mask]
# In the order in which they are drawn: what displaces lung comes last.
_DRAW: dict[str, _Draw] = {
    "Enlarged Cardiomediastinum": draw_enlarged_mediastinum,
    "Cardiomegaly": draw_cardiomegaly,
    "Edema": draw_edema,
    "Lung Opacity": draw_opacity,
    "Lung Lesion": draw_lesion,
    "Consolidation": draw_consolidation,
    "Pneumonia": draw_pneumonia,
    "Atelectasis": draw_atelectasis,
    "Pneumothorax": draw_pneumothorax,
    "Pleural Effusion": draw_effusion,
    "Pleural Other": draw_pleural_other,
    "Support Devices": draw_devices,
}

_AIRSPACE = frozenset({"Lung Opacity", "Edema", "Consolidation", "Pneumonia"})


@dataclass(frozen=True)
class Phantom(Case):
    """A case with its image.

    pixels  uint8 (size, size), bright where the beam is absorbed
    masks   present finding -> bool (size, size), True where the finding was drawn
    lungs   bool (size, size), True on both lungs beside heart and mediastinum
    """

    pixels: npt.NDArray[np.uint8]
    masks: dict[str, Mask]
    lungs: Mask


def render(
    seed: int,
    index: int,
    site: Site,
    size: int = 256,
    suppress: Collection[str] = frozenset(),
) -> Phantom:
    """Render one image; the same bytes for the same arguments, in any process and order.

    size      edge in pixels, 64 to 2048
    suppress  findings to leave out of pixels and masks while all else, noise included, stays the same;
              `labels` still tells the case as drawn
    Raises ValueError for a negative seed or index, a size out of range or an unknown finding.
    """
    check_arguments(seed, index, site)
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not SMALLEST <= size <= LARGEST:
        raise ValueError(f"size must be an integer from {SMALLEST} to {LARGEST}, found {size!r}.")
    unknown = sorted(set(suppress) - set(FINDINGS))
    if unknown:
        raise ValueError(f"suppress must name findings among {', '.join(FINDINGS)}; found {unknown}.")
    case = draw_case(seed, index, site)
    severities = {name: s for name, s in case.severities.items() if name not in suppress}
    anatomy = draw_anatomy(seed, case.patient, case.sex, case.age, case.view)
    anatomy = reshape(anatomy, severities, case.sides)
    grid = _pose(seed, index, site, int(size), anatomy.lung_width + 0.4)
    scene = Scene(anatomy, grid, build_thorax(anatomy, grid))
    masks = {}
    for name, draw in _DRAW.items():
        if name in severities:
            rng = _finding_rng(case, name)
            side, zone = case.sides.get(name, ""), case.zones.get(name, "")
            masks[name] = draw(scene, rng, severities[name], side, zone)
            scene.claimed |= masks[name]
    _drown(masks)
    breaks: tuple[Break, ...] = ()
    if "Fracture" in severities:
        rng = _finding_rng(case, "Fracture")
        breaks = draw_breaks(rng, severities["Fracture"], case.sides["Fracture"], anatomy)
        masks["Fracture"] = swell_breaks(scene, breaks)
    bone = draw_skeleton(anatomy, grid, breaks)
    vessels = draw_vessels(anatomy, grid, seed, case.patient)
    detector = np.random.default_rng([seed, index, _SALT_DETECTOR])
    grey = expose(attenuation(scene, bone, vessels), anatomy, site, detector, grid.pixel)
    rng = np.random.default_rng([seed, index, _SALT_MARKER])
    seen = _collimate(grey, site, rng)
    burn_marker(grey, site, rng)
    known = {f.name: getattr(case, f.name) for f in fields(Case)}
    return Phantom(
        **known,
        pixels=quantise(grey),
        masks={name: masks[name] & seen for name in FINDINGS if name in masks},
        lungs=scene.thorax.open_field & seen,
    )


def render_many(
    seed: int,
    indices: Iterable[int],
    site: Site,
    size: int = 256,
    workers: int = 1,
    suppress: Collection[str] = frozenset(),
) -> Iterator[Phantom]:
    """Render images in the order of `indices`, in `workers` processes (1 or less: in this one)."""
    jobs = [(seed, index, site, size, frozenset(suppress)) for index in indices]
    if workers <= 1:
        yield from map(_render_job, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_render_job, jobs, chunksize=8)


def _render_job(job: tuple[int, int, Site, int, frozenset[str]]) -> Phantom:
    return render(*job)


def _finding_rng(case: Case, name: str) -> np.random.Generator:
    return np.random.default_rng([case.seed, case.patient, _SALT_FINDING + FINDINGS.index(name)])


def _pose(seed: int, index: int, site: Site, size: int, reach: float) -> Grid:
    """Draw the pose; the radiographer keeps `reach` cm on each side of the midline inside the field."""
    rng = np.random.default_rng([seed, index, _SALT_POSE])
    bounded = [max(-2.0, min(2.0, float(z))) for z in rng.standard_normal(4)]
    mean, spread = site.magnification
    field = 0.5 * FIELD_CM * (1.0 - 2.0 * site.collimation[1])
    magnification = min(mean + spread * bounded[0], field / reach)
    slack = field / magnification - reach
    aside = max(-slack, min(slack, site.shift * bounded[2]))
    return Grid.build(
        size,
        magnification=magnification,
        angle=np.deg2rad(site.rotation) * bounded[1],
        shift=(aside, site.shift * bounded[3]),
    )


def _drown(masks: dict[str, Mask]) -> None:
    """Take what pleural fluid hides out of the masks of airspace findings, unless nothing would be left."""
    fluid = masks.get("Pleural Effusion")
    if fluid is None:
        return
    for name in _AIRSPACE & masks.keys():
        visible = masks[name] & ~fluid
        if 4 * np.count_nonzero(visible) > np.count_nonzero(masks[name]):
            masks[name] = visible


def _collimate(grey: npt.NDArray[np.float32], site: Site, rng: np.random.Generator) -> Mask:
    """Blacken the collimated margins in place; returns True where the beam passed."""
    size = grey.shape[0]
    top, bottom, left, right = (round(size * v) for v in rng.uniform(*site.collimation, 4))
    seen = np.zeros((size, size), np.bool_)
    seen[top : size - bottom, left : size - right] = True
    grey[~seen] = 0.02
    return seen
