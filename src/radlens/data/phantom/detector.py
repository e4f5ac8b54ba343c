"""From path lengths to grey levels: Beer-Lambert, scatter, focal blur, quantum noise, display curve."""

import numpy as np
import numpy.typing as npt

from .anatomy import Anatomy
from .blur import F32, gaussian, smooth
from .scene import Scene
from .site import Site

# Linear attenuation per cm at about 70 keV; lung is taken as air over a quarter of its path.
WATER, BONE, METAL, AIR_SHARE = 0.19, 0.46, 6.0, 0.78


def attenuation(scene: Scene, bone: F32, vessels: F32) -> F32:
    """Line integral of attenuation (size, size), dimensionless."""
    t = scene.thorax
    air = np.maximum(t.lung * scene.open_lung - t.heart - t.centre, np.float32(0.06) * t.lung)
    inside = np.clip(t.lung * np.float32(1 / 2.5), 0, 1) * scene.vessel
    water = t.body - np.float32(AIR_SHARE) * air + vessels * inside + scene.soft
    water -= np.minimum(t.tube + t.bubble, 0.5 * t.body)
    total: F32 = np.float32(WATER) * np.maximum(water, 0)
    total += np.float32(BONE) * np.where(t.body > 0.5, bone + scene.bone, 0)
    total += np.float32(METAL) * scene.metal
    return total


def expose(attenuated: F32, a: Anatomy, site: Site, rng: np.random.Generator, pixel: float) -> F32:
    """Grey levels 0 to 1 (size, size) that the detector and the site's processing make of a line integral."""
    size = attenuated.shape[0]
    # At equal dose a smaller pixel catches fewer quanta; 0.15 cm is a pixel of a 256 px image.
    grain = rng.standard_normal((size, size), dtype=np.float32) * np.float32(site.noise * 0.15 / pixel)
    exposure = site.window_spread * rng.standard_normal()
    primary = np.exp(-attenuated)
    primary = gaussian(primary, site.blur / pixel)
    signal = primary + np.float32(site.scatter) * smooth(np.minimum(primary, 0.15))
    signal += np.sqrt(signal) * grain
    measured = -np.log(np.maximum(signal, 2e-4))
    if site.equalisation > 0:
        level = np.float32(0.6 * WATER * a.depth)
        measured = measured - np.float32(site.equalisation) * (smooth(np.maximum(measured, 1.2)) - level)
    return _display(measured, a, site, exposure)


def _display(measured: F32, a: Anatomy, site: Site, exposure: float) -> F32:
    low, high = 0.36 * WATER * a.depth, 0.92 * WATER * a.depth
    black = low + (site.window[0] + exposure) * (high - low)
    white = low + (site.window[1] + exposure) * (high - low)
    grey = np.clip((measured - np.float32(black)) / np.float32(white - black), 0, 1)
    grey = grey ** np.float32(site.gamma)
    curve = grey * grey * (3 - 2 * grey)
    shown: F32 = grey + np.float32(site.steepness) * (curve - grey)
    return shown


def quantise(grey: F32) -> npt.NDArray[np.uint8]:
    """Grey levels 0 to 1 as uint8."""
    return (np.clip(grey, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
