"""Null of the separability, by simulation: what noise gives, and how often p <= 0.05 where nothing is to be found.

    python tools/simulate_separability.py [--simulations 400] [--seed 0]

Prints the tables of docs/simulations.md, section "Null of the separability".
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import beta

from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate.conditional_separability import conditional_separability
from radlens.evaluate.separability import separability

Floats = npt.NDArray[np.float32]
LABELS = ("finding", "tube", "other", "rare")
VOCABULARY = Vocabulary("simulated", tuple(Label(name, None, (), ()) for name in LABELS))
PATIENTS, DIMENSION, LEVEL = 100, 16, 0.05
# shares of positives as among IU-Xray's labels, No Finding first
PREVALENCE = (0.6, 0.03, 0.11, 0.13, 0.04, 0.012, 0.008, 0.02, 0.08, 0.006, 0.04, 0.015, 0.021, 0.05)


def cohort(random: np.random.Generator, knows_tube: bool) -> tuple[Floats, Floats, list[str]]:
    """Two images a patient, which lie near each other and share labels; the tube goes with the finding.

    The embeddings know nothing of the labels, or of the tube alone.
    """
    finding = random.random(PATIENTS) < 0.3
    tube = np.where(finding, random.random(PATIENTS) < 0.8, random.random(PATIENTS) < 0.1)
    others = random.random((2, PATIENTS)) < [[0.2], [0.05]]
    targets = np.repeat(np.stack([finding, tube, *others], axis=1), 2, axis=0).astype(np.float32)
    patient = np.repeat(random.normal(size=(PATIENTS, DIMENSION)), 2, axis=0)
    embeddings = patient + 0.5 * random.normal(size=patient.shape)
    if knows_tube:
        embeddings[:, 0] += 4 * targets[:, 1]
    return embeddings.astype(np.float32), targets, [f"p{i // 2}" for i in range(2 * PATIENTS)]


def tests(random: np.random.Generator) -> Iterator[tuple[str, float]]:
    """(what, p) of one simulated cohort of each kind."""
    embeddings, targets, groups = cohort(random, knows_tube=False)
    seed = int(random.integers(2**31))
    images = [str(i) for i in range(len(groups))]
    for how, units in (("labels shuffled by patient", groups), ("labels shuffled by image", images)):
        table = separability(embeddings, targets, units, VOCABULARY, seed).filter(normalised=False)
        for definition in ("pairwise", "centroid", "mixed"):
            yield f"noise; {definition}, overall; {how}", p_of(table.filter(definition=definition, scope="overall"))
    rows = conditional_separability(embeddings, targets, groups, VOCABULARY, seed).filter(normalised=False)
    for name in ("finding", "rare"):
        yield f"noise; conditional, {name}; by patient within strata", p_of(rows.filter(name=name))
    embeddings, targets, groups = cohort(random, knows_tube=True)
    plain = separability(embeddings, targets, groups, VOCABULARY, seed)
    plain = plain.filter(normalised=False, definition="pairwise", scope="label")
    rows = conditional_separability(embeddings, targets, groups, VOCABULARY, seed).filter(normalised=False)
    for name in ("finding", "tube"):
        yield f"embeddings know the tube; pairwise, {name}", p_of(plain.filter(name=name))
        yield f"embeddings know the tube; conditional, {name}", p_of(rows.filter(name=name))


def p_of(table: pl.DataFrame) -> float:
    return float(table["ratio_p"].item())


def noise_ratios(random: np.random.Generator, cohorts: int) -> dict[str, list[tuple[float, float]]]:
    """Definition -> (ratio, mean of its null) on noise, 1,500 images of 750 patients, 512 dimensions, 14 labels."""
    names = tuple(f"label {k}" for k in range(len(PREVALENCE)))
    vocabulary = Vocabulary("noise", tuple(Label(name, None, (), ()) for name in names))
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(cohorts):
        labels = (random.random((750, len(PREVALENCE))) < PREVALENCE).astype(np.float32)
        labels[labels[:, 0] == 1, 1:] = 0
        embeddings = random.standard_normal((1500, 512), np.float32)
        groups = [f"p{i // 2}" for i in range(1500)]
        table = separability(embeddings, np.repeat(labels, 2, axis=0), groups, vocabulary, 0, permutations=19)
        for row in table.filter(scope="overall", normalised=False).iter_rows(named=True):
            found.setdefault(row["definition"], []).append((row["ratio"], row["ratio_null"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    print("| definition | ratio on noise | mean of its null |\n|---|---|---|")
    for definition, pairs in noise_ratios(random, 10).items():
        ratio, null = np.mean(pairs, axis=0)
        low, high = np.min(pairs, axis=0)[0], np.max(pairs, axis=0)[0]
        print(f"| {definition} | {ratio:.3f} ({low:.3f} to {high:.3f}) | {null:.3f} |")
    small: dict[str, list[float]] = {}
    for _ in range(arguments.simulations):
        for what, p in tests(random):
            small.setdefault(what, []).append(p)
    print(f"\n| what | p <= {LEVEL} | of | share (95 % interval) |\n|---|---|---|---|")
    for what, values in small.items():
        defined = np.array(values)[~np.isnan(values)]
        k, n = int((defined <= LEVEL).sum()), len(defined)
        low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
        high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
        print(f"| {what} | {k} | {n} | {k / n:.3f} ({low:.3f} to {high:.3f}) |")


if __name__ == "__main__":
    main()
