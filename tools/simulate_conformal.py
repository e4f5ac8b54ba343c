"""Simulate what conformal thresholds and calibration intervals promise; prints the tables of docs/simulations.md.

    python tools/simulate_conformal.py [--splits 10000] [--trials 2000]

Every row says what was promised, what was found, and the error of the simulation itself (binomial or of the mean).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from radlens.evaluate.calibration.expected_error import calibration_error
from radlens.evaluate.calibration.recalibration import recalibration
from radlens.evaluate.conformal import control_misses, least_patients
from radlens.evaluate.log_odds import to_probabilities

Array = npt.NDArray[np.float64]


def positive_patients(
    random: np.random.Generator, patients: int, most: int
) -> tuple[Array, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Scores, targets (all 1) and patients of positives with 1 to `most` images each, alike within a patient."""
    groups = np.repeat(np.arange(patients), random.integers(1, most + 1, patients))
    scores = random.normal(size=patients)[groups] + 0.5 * random.normal(size=len(groups))
    return scores, np.ones(len(groups), np.float32), groups


def conformal(splits: int) -> None:
    """Miss rate of one new patient after each calibration split."""
    print(
        "| alpha | positive patients | images each | promised at most | missed | error | splits missing over 2 alpha |"
    )
    print("|---|---|---|---|---|---|---|")
    for alpha in (0.1, 0.2):
        for patients in (least_patients(alpha), 10, 20, 50, 200):
            for most in (1, 4):
                random = np.random.default_rng(patients * 10 + most)
                missed, far = np.empty(splits), 0
                for split in range(splits):
                    scores, targets, groups = positive_patients(random, patients + 1, most)
                    known = groups < patients
                    made = control_misses(scores[known], targets[known], groups[known].astype(str).tolist(), alpha)
                    missed[split] = (scores[~known] < made.threshold).mean()
                    # the true miss rate of an image under this threshold, by the normal law
                    far += normal_below(made.threshold / np.sqrt(1.25)) > 2 * alpha
                error = missed.std() / np.sqrt(splits)
                print(
                    f"| {alpha:g} | {patients} | {'1' if most == 1 else f'1 to {most}'} | {alpha:.3f} | "
                    f"{missed.mean():.4f} | {error:.4f} | {far / splits:.3f} |"
                )


def normal_below(x: float) -> float:
    """Share of a standard normal below x."""
    return float(ndtr(x))


def intervals(trials: int) -> None:
    """Coverage of the calibration slope's and intercept's intervals for calibrated probabilities, patients of two."""
    print("| positive patients, about | images a patient | slope covered (95%) | intercept covered (95%) | error |")
    print("|---|---|---|---|---|")
    for patients, about in ((100, 12), (170, 20), (340, 40), (1700, 200)):
        for images in (1, 2):
            random = np.random.default_rng(patients + images)
            slope, intercept, done = 0, 0, 0
            for _ in range(trials):
                logits = random.normal(-2.4, 1, patients)
                y = (random.random(patients) < to_probabilities(logits)).astype(np.float32)
                of = np.repeat(np.arange(patients), images).astype(str).tolist()
                found = recalibration(np.repeat(to_probabilities(logits), images), np.repeat(y, images), of)
                if np.isnan(found.slope):
                    continue
                done += 1
                slope += found.slope_low <= 1 <= found.slope_high
                intercept += found.intercept_low <= 0 <= found.intercept_high
            error = np.sqrt(0.05 * 0.95 / done)
            print(f"| {about} | {images} | {slope / done:.3f} | {intercept / done:.3f} | {error:.3f} |")


def null_of_error(trials: int) -> None:
    """How often a calibrated model's ECE is called too great, at 5% and 20%, and a miscalibrated one's."""
    print("| images | images a patient | targets shared | true slope | p <= .05 | p <= .20 | error at .05 |")
    print("|---|---|---|---|---|---|---|")
    for images, shared, slope in ((1, True, 1.0), (2, True, 1.0), (2, False, 1.0), (4, True, 1.0), (2, True, 0.5)):
        random = np.random.default_rng(images)
        values = []
        for _ in range(trials):
            logits = random.normal(-1.5, 1.2, 300)
            p = np.repeat(to_probabilities(logits), images)
            chance = np.repeat(random.random(300), images) if shared else random.random(300 * images)
            y = (chance < np.repeat(to_probabilities(slope * logits), images)).astype(np.float32)
            of = np.repeat(np.arange(300), images).astype(str).tolist()
            values.append(calibration_error(p, y, of, int(random.integers(2**31)), draws=99).p_value)
        found = np.array(values)
        print(
            f"| {300 * images} | {images} | {'yes' if shared else 'no'} | {slope:g} | {(found <= 0.05).mean():.3f} | "
            f"{(found <= 0.2).mean():.3f} | {np.sqrt(0.05 * 0.95 / trials):.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10_000, help="calibration splits a row")
    parser.add_argument("--trials", type=int, default=2_000, help="trials a row of the calibration tables")
    options = parser.parse_args()
    start = time.perf_counter()
    conformal(options.splits)
    print()
    intervals(options.trials)
    print()
    null_of_error(max(options.trials // 2, 1))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
