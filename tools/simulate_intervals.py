"""How often the intervals hold the true value, by simulation; prints the table of docs/simulations.md.

    python tools/simulate_intervals.py [--sets 1000] [--patients 500] [--replicates 1000] [--auroc 0.85]

A positive image scores N(mu, 1), a negative one N(0, 1), mu such that the AUROC is the one asked. An image is called
positive at the threshold that is best for F1 in the population. The truth is the population's at the prevalence
positives / patients: AUROC and recall in closed form, F1 likewise, average precision by a sum over a fine grid.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from radlens.core.parts import MetricInput
from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate.resampling import SettingScores, bootstrap, clopper_pearson
from radlens.evaluate.resampling.bootstrap import ends

POSITIVES = (5, 10, 20, 40)
DESIGNS = {
    "fixed number": (True, 1),
    "drawn number": (False, 1),
    "drawn, two images a patient": (False, 2),
}
METRICS = ("f1", "auroc", "average_precision")
TOGETHER = 50
ALIKE = 0.7
"""Correlation of the scores of one patient's images."""


def truth(prevalence: float, mu: float) -> tuple[dict[str, float], float]:
    """The population's values, and the threshold of best F1."""
    grid = np.linspace(-8, 8 + mu, 200_001)
    recall, alarms = ndtr(mu - grid), ndtr(-grid)
    called = prevalence * recall + (1 - prevalence) * alarms
    f1 = 2 * prevalence * recall / (called + prevalence)
    best = int(f1.argmax())
    density = np.exp(-((grid - mu) ** 2) / 2) / np.sqrt(2 * np.pi)
    precision = float((density * prevalence * recall / called).sum() * (grid[1] - grid[0]))
    values = {"f1": float(f1[best]), "auroc": float(ndtr(mu / np.sqrt(2))), "average_precision": precision}
    return values | {"recall": float(recall[best])}, float(grid[best])


def draw(
    random: np.random.Generator, patients: int, positives: int, fixed: bool, each: int, mu: float, threshold: float
) -> MetricInput:
    """Test sets of `TOGETHER` labels that are drawn independently; patients' images lie together."""
    if fixed:
        is_positive = random.random((patients, TOGETHER)).argsort(axis=0) < positives
    else:
        is_positive = random.random((patients, TOGETHER)) < positives / patients
    own = random.normal(size=(patients, 1, TOGETHER)) * np.sqrt(ALIKE)
    noise = random.normal(size=(patients, each, TOGETHER)) * np.sqrt(1 - ALIKE)
    raw = (mu * is_positive[:, None] + own + noise).reshape(patients * each, TOGETHER)
    targets = np.repeat(is_positive, each, axis=0).astype(np.float32)
    return MetricInput(1 / (1 + np.exp(-raw)), targets, (raw >= threshold).astype(np.int8))


def simulate(options: argparse.Namespace, positives: int, fixed: bool, each: int) -> dict[tuple[str, str], list[float]]:
    """(metric, method) -> for each test set 1 where the interval holds the truth, 0 where not, NaN where undefined."""
    mu = NormalDist().inv_cdf(options.auroc) * 2**0.5
    true, threshold = truth(positives / options.patients, mu)
    words = Vocabulary("simulated", tuple(Label(f"l{i}", None, (), ()) for i in range(TOGETHER)))
    groups = [f"{i:06d}" for i in range(options.patients) for _ in range(each)]
    held: dict[tuple[str, str], list[float]] = defaultdict(list)
    random = np.random.default_rng([positives, fixed, each])
    for batch in range(options.sets // TOGETHER):
        inputs = draw(random, options.patients, positives, fixed, each, mu, threshold)
        found = bootstrap(
            [SettingScores("s", inputs, groups)], words, replicates=options.replicates, seed=batch, method="bca"
        )
        values, replicates, left_out = found.values["s"], found.replicates["s"], found.left_out["s"]
        for method in ("percentile", "bca"):
            low, high = ends(method, values, replicates, left_out)  # type: ignore[arg-type]
            for metric in METRICS:
                at = [m for m, q in enumerate(found.quantities) if q.scope == "label" and q.metric == metric]
                held[metric, method] += holds(low[at], high[at], true[metric])
        called, positive = inputs.decisions == 1, inputs.targets == 1
        low, high = clopper_pearson((called & positive).sum(axis=0), positive.sum(axis=0))
        held["recall", "exact"] += holds(low, high, true["recall"])
    return held


def holds(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], true: float) -> list[float]:
    """1 where low <= true <= high, 0 where not, NaN where there is no interval."""
    return np.where(np.isnan(low), np.nan, (low <= true) & (true <= high)).tolist()


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals by simulation.")
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--auroc", type=float, default=0.85)
    options = parser.parse_args()
    columns = [(metric, method) for metric in METRICS for method in ("percentile", "bca")] + [("recall", "exact")]
    print("| positives among the patients | positive patients | " + " | ".join(f"{a}, {b}" for a, b in columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for design, (fixed, each) in DESIGNS.items():
        for positives in POSITIVES:
            held = simulate(options, positives, fixed, each)
            cells = [f"{np.nanmean(held[column]):.1%}" for column in columns]
            print(f"| {design} | {positives} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
