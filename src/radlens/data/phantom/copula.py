"""Correlated findings with exact marginals: a Gaussian copula with a few clinical factors."""

from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from radlens.core.chexpert import FINDINGS

VIEW = "AP view"

# Loadings on: acuity (how ill), congestion, infection, bases of the lungs, tubes and lines, trauma.
# Their common part (acuity) is tuned so that about 60 % of the patients of the default site have no finding.
_LOADINGS: Mapping[str, tuple[float, ...]] = {
    "Enlarged Cardiomediastinum": (0.42, 0.40, 0.00, 0.00, 0.10, 0.10),
    "Cardiomegaly": (0.34, 0.60, 0.00, 0.05, 0.10, 0.00),
    "Lung Opacity": (0.42, 0.15, 0.50, 0.20, 0.05, 0.00),
    "Lung Lesion": (0.42, 0.00, 0.10, 0.00, 0.00, 0.00),
    "Edema": (0.38, 0.65, 0.05, 0.10, 0.30, 0.00),
    "Consolidation": (0.38, 0.05, 0.65, 0.15, 0.10, 0.00),
    "Pneumonia": (0.34, 0.00, 0.70, 0.10, 0.05, 0.00),
    "Atelectasis": (0.42, 0.05, 0.05, 0.60, 0.15, 0.05),
    "Pneumothorax": (0.27, 0.00, 0.00, 0.05, 0.50, 0.45),
    "Pleural Effusion": (0.38, 0.40, 0.10, 0.55, 0.25, 0.05),
    "Pleural Other": (0.38, 0.00, 0.00, 0.35, 0.00, 0.25),
    "Fracture": (0.30, 0.00, 0.00, 0.05, 0.10, 0.60),
    "Support Devices": (0.42, 0.30, 0.05, 0.15, 0.60, 0.10),
    VIEW: (0.34, 0.20, 0.10, 0.10, 0.45, 0.05),
}


@lru_cache(maxsize=1)
def _matrix() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    loadings = np.array([_LOADINGS[name] for name in (*FINDINGS, VIEW)])
    unique = np.sqrt(1.0 - (loadings**2).sum(axis=1))
    return loadings, unique


def draw_present(
    rng: np.random.Generator, prevalence: Mapping[str, float], ap_share: float
) -> tuple[tuple[str, ...], bool]:
    """Draw which findings a patient has, and whether the study is taken AP.

    prevalence  finding -> probability, 0 to 1, for all 13 findings; holds exactly in expectation.
    Returns the present findings in label order, and True for AP.
    """
    loadings, unique = _matrix()
    factors = rng.standard_normal(loadings.shape[1])
    latent = (loadings * factors).sum(axis=1) + unique * rng.standard_normal(len(unique))
    shares = [*(prevalence[name] for name in FINDINGS), ap_share]
    hit = [_exceeds(float(z), float(share)) for z, share in zip(latent, shares, strict=True)]
    return tuple(name for name, present in zip(FINDINGS, hit, strict=False) if present), hit[-1]


def _exceeds(latent: float, share: float) -> bool:
    if share <= 0.0:
        return False
    return share >= 1.0 or latent > _threshold(share)


@lru_cache(maxsize=256)
def _threshold(share: float) -> float:
    return NormalDist().inv_cdf(1.0 - share)
