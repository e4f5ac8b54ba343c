"""Separability in three definitions, raw and normalised, against a scipy route: seconds, figures and the ratio.

    python benchmarks/separability.py [--images 7470] [--threads 1] [--alone]

The scipy route takes the matrix of all distances from `pdist`, and its means over labels and pairs of labels. Both run
here, in turn, without the permutation null. Exit code 1 when scipy is less than 5 times as slow, or a figure differs by
1e-5 or more. --alone: radlens only, with its peak of memory, where the matrix would not fit.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy
from scipy.spatial.distance import pdist, squareform
from threadpoolctl import threadpool_limits

from radlens.core.vocabulary import load_vocabulary
from radlens.evaluate.domains import domain_targets
from radlens.evaluate.separability import separability

Floats = npt.NDArray[np.float32]
DIMENSION = 512
VOCABULARY = load_vocabulary("chexpert-14")
# shares of positives as among IU-Xray's 14 labels, where nothing is found in three of five
PREVALENCE = (0.03, 0.11, 0.13, 0.04, 0.012, 0.008, 0.02, 0.08, 0.006, 0.04, 0.015, 0.021, 0.05)
MIB = 2**20


def cohort(images: int, seed: int = 0) -> tuple[Floats, Floats, list[str]]:
    """Embeddings with a direction a label and a centre far from 0, labels that occur together, two images a patient."""
    generator = np.random.default_rng(seed)
    patients = (images + 1) // 2
    sick = generator.random((patients, 1)) > 0.5
    found = (generator.random((patients, len(PREVALENCE))) < 2 * np.array(PREVALENCE)) & sick
    named = dict(zip((n for n in VOCABULARY.names if n != VOCABULARY.no_finding), found.T, strict=True))
    named[VOCABULARY.no_finding or ""] = ~found.any(axis=1)
    targets = np.stack([named[name] for name in VOCABULARY.names], axis=1).astype(np.float32)
    targets = np.repeat(targets, 2, axis=0)[:images]
    embeddings = generator.standard_normal((images, DIMENSION), np.float32)
    directions = generator.normal(size=(len(VOCABULARY), DIMENSION)).astype(np.float32)
    centre = 3 * generator.normal(size=DIMENSION).astype(np.float32)
    for start in range(0, images, 1024):  # in blocks, so that making them needs no more memory than holding them
        embeddings[start : start + 1024] += targets[start : start + 1024] @ directions + centre
    return embeddings, targets, [f"p{i // 2}" for i in range(images)]


def scipy_route(embeddings: Floats, targets: Floats) -> dict[tuple[str, bool, str], tuple[float, float]]:
    """(scope, normalised, definition) -> overall inter and intra, in plain numpy from the matrix of all distances."""
    found = {}
    for normalised in (False, True):
        points = embeddings.astype(np.float64)
        if normalised:
            points /= np.linalg.norm(points, axis=1, keepdims=True)
        matrix = squareform(pdist(points))
        for scope, known in (("label", targets), ("domain", domain_targets(targets, VOCABULARY))):
            own = [np.flatnonzero(known[:, k] == 1) for k in range(known.shape[1])]
            centroids = np.stack([points[rows].mean(axis=0) for rows in own])
            within = [matrix[np.ix_(rows, rows)].sum() / (len(rows) * (len(rows) - 1)) for rows in own]
            spread = [np.linalg.norm(points[rows] - c, axis=1).mean() for rows, c in zip(own, centroids, strict=True)]
            between = []
            for a, b in itertools.combinations(range(known.shape[1]), 2):
                first = np.flatnonzero((known[:, a] == 1) & (known[:, b] == 0))
                second = np.flatnonzero((known[:, b] == 1) & (known[:, a] == 0))
                if len(first) and len(second):
                    between.append(matrix[np.ix_(first, second)].mean())
            found[scope, normalised, "pairwise"] = np.mean(between), np.mean(within)
            found[scope, normalised, "centroid"] = pdist(centroids).mean(), np.mean(spread)
            found[scope, normalised, "mixed"] = np.mean(between), np.mean(spread)
    return {key: (float(inter), float(intra)) for key, (inter, intra) in found.items()}


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall-clock seconds, processor seconds, and what was made."""
    wall, processor = time.perf_counter(), time.process_time()
    made = work()
    return time.perf_counter() - wall, time.process_time() - processor, made


def largest_difference(table: pl.DataFrame, reference: dict[tuple[str, bool, str], tuple[float, float]]) -> float:
    worst = 0.0
    for (scope, normalised, definition), (inter, intra) in reference.items():
        rows = table.filter(normalised=normalised, definition=definition)
        own = rows.filter(scope="overall" if scope == "label" else scope)
        worst = max(worst, abs(float(own["intra"].mean()) / intra - 1))  # type: ignore[arg-type]
        if scope == "label":
            worst = max(worst, abs(float(own["inter"][0]) / inter - 1))
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=7470)
    parser.add_argument("--threads", type=int, default=1, help="of the matrix products")
    parser.add_argument("--alone", action="store_true", help="radlens only")
    arguments = parser.parse_args()
    print(f"machine: {platform.platform()}, {platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads")
    print(f"numpy {np.__version__}, scipy {scipy.__version__}")
    print(f"{arguments.images} x {DIMENSION} embeddings, {len(VOCABULARY)} labels, load {os.getloadavg()[0]:.1f}")
    embeddings, targets, groups = cohort(arguments.images)

    def ours() -> pl.DataFrame:
        return separability(embeddings, targets, groups, VOCABULARY, seed=0, permutations=0)

    with threadpool_limits(arguments.threads):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
        first, processor, table = timed(ours)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
        print(f"radlens  {first:8.2f} s ({processor:.2f} of processor), peak {peak:,.0f} MiB, {before:,.0f} before it")
        if arguments.alone:
            return 0
        reference_seconds, reference_processor, reference = timed(lambda: scipy_route(embeddings, targets))
        again, processor_again, _ = timed(ours)
    own, own_processor = (first + again) / 2, (processor + processor_again) / 2
    ratio, apart = reference_seconds / own, largest_difference(table, reference)
    print(f"scipy    {reference_seconds:8.2f} s ({reference_processor:.2f} of processor)")
    print(f"radlens  {again:8.2f} s ({processor_again:.2f} of processor), again")
    print(f"ratio {ratio:.1f} (at least 5), of processor time {reference_processor / own_processor:.1f}")
    print(f"largest relative difference {apart:.1e} (below 1e-5)")
    return 0 if ratio >= 5 and apart < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
