"""Time and memory of intervals for all metrics at once, and the ratio to a loop that calls scikit-learn a replicate.

    python benchmarks/bootstrap.py [--images 1500] [--large 400000] [--loop 5] [--replicates 1000] [--differences]

The loop writes each resample out and calls scikit-learn for every metric, label, domain and setting; it is timed over
`--loop` replicates, on the same resamples, and scaled to as many as ours. The largest difference of the two is printed.
`--large 0` leaves the large table out.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
import warnings

import numpy as np
from sklearn import metrics as reference

from radlens.core.parts import MetricInput
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.evaluate.domains import domain_inputs
from radlens.evaluate.resampling import Intervals, SettingScores, bootstrap, paired_differences

PREVALENCE = np.array([0.4, 0.05, 0.12, 0.3, 0.04, 0.12, 0.06, 0.03, 0.15, 0.08, 0.35, 0.02, 0.04, 0.5])
NAMES = ("zero-shot", "linear-probe", "fine-tune")


def draw(images: int, seed: int = 0) -> list[SettingScores]:
    """Three settings of growing skill; patients with about two images each."""
    random = np.random.default_rng(seed)
    targets = (random.random((images, len(PREVALENCE))) < PREVALENCE).astype(np.float32)
    groups = [f"p{x:07d}" for x in random.integers(0, max(images // 2, 1), images)]
    results = []
    for skill, name in enumerate(NAMES):
        scores = 1 / (1 + np.exp(1 - random.normal((0.5 + 0.5 * skill) * targets, 1)))
        results.append(SettingScores(name, MetricInput(scores, targets, (scores >= 0.5).astype(np.int8)), groups))
    return results


def plain(
    results: list[SettingScores], vocabulary: Vocabulary, replicates: int, seed: int
) -> list[dict[tuple[str, str, str, str], float]]:
    """(setting, scope, name, metric) -> value for each replicate, by scikit-learn on the resample written out."""
    patients, index = np.unique(np.asarray(results[0].groups), return_inverse=True)
    order = np.argsort(index, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(index))[:-1])
    random = np.random.default_rng(seed)
    found = []
    for _ in range(replicates):
        drawn = random.integers(0, len(patients), len(patients))
        rows = np.concatenate([members[patient] for patient in drawn])
        values: dict[tuple[str, str, str, str], float] = {}
        for result in results:
            x = result.inputs
            copies = MetricInput(x.scores[rows], x.targets[rows], x.decisions[rows])
            labels = labels_plain(copies, vocabulary.names)
            of_domains = labels_plain(domain_inputs(copies, vocabulary), tuple(vocabulary.domains))
            values |= {(result.setting, "label", *at): value for at, value in labels.items()}
            values |= {(result.setting, "domain", *at): value for at, value in of_domains.items()}
            values |= {
                (result.setting, "overall", "overall", at): value for at, value in overall_plain(copies, labels).items()
            }
        found.append(values)
    return found


def labels_plain(x: MetricInput, names: tuple[str, ...]) -> dict[tuple[str, str], float]:
    """(name, metric) -> scikit-learn's value."""
    found: dict[tuple[str, str], float] = {}
    for k, name in enumerate(names):
        y, s, d = x.targets[:, k].astype(int), x.scores[:, k], x.decisions[:, k]
        found[name, "precision"] = reference.precision_score(y, d)
        found[name, "recall"] = reference.recall_score(y, d)
        found[name, "specificity"] = reference.recall_score(1 - y, 1 - d)
        found[name, "f1"] = reference.f1_score(y, d)
        found[name, "f1_always_positive"] = reference.f1_score(y, np.ones_like(y))
        found[name, "auroc"] = reference.roc_auc_score(y, s)
        found[name, "average_precision"] = reference.average_precision_score(y, s)
        found[name, "brier"] = reference.brier_score_loss(y, s)
        found[name, "log_loss"] = reference.log_loss(y, s)
        found[name, "prevalence"] = float(y.mean())
    return found


def overall_plain(x: MetricInput, labels: dict[tuple[str, str], float]) -> dict[str, float]:
    """Metric -> scikit-learn's value, over all labels."""
    y, d = x.targets.astype(int), x.decisions
    means = {m: float(np.mean([v for (_, metric), v in labels.items() if metric == m])) for m in ("f1", "auroc")}
    return {
        "macro_f1": means["f1"],
        "macro_auroc": means["auroc"],
        "micro_f1": reference.f1_score(y, d, average="micro"),
        "weighted_f1": reference.f1_score(y, d, average="weighted"),
        "hamming_loss": reference.hamming_loss(y, d),
        "exact_match": reference.accuracy_score(y, d),
        "lrap": reference.label_ranking_average_precision_score(y, x.scores),
        "coverage_error": reference.coverage_error(y, x.scores),
        "ranking_loss": reference.label_ranking_loss(y, x.scores),
    }


def largest_difference(found: Intervals, loop: list[dict[tuple[str, str, str, str], float]]) -> float:
    """Between the first replicates of ours and the loop's."""
    at = {(q.scope, q.name, q.metric): m for m, q in enumerate(found.quantities)}
    return max(
        abs(found.replicates[setting][row, at[scope, name, metric]] - value)
        for row, values in enumerate(loop)
        for (setting, scope, name, metric), value in values.items()
    )


def timed(results: list[SettingScores], vocabulary: Vocabulary, options: argparse.Namespace) -> tuple[Intervals, float]:
    """Intervals and the seconds they took; with `--differences` also the paired table, told apart."""
    images = len(results[0].groups)
    begin, worked = time.perf_counter(), time.process_time()
    found = bootstrap(results, vocabulary, replicates=options.replicates)
    seconds, worked = time.perf_counter() - begin, time.process_time() - worked
    what = (
        f"{found.method}, {options.replicates} replicates x {len(found.quantities)} numbers x {len(results)} settings"
    )
    print(f"{images} images: {what} in {seconds:.2f} s (processor {worked:.2f} s), peak {peak():.0f} MiB", flush=True)
    if options.differences:
        begin = time.perf_counter()
        rows = paired_differences(results, vocabulary, known=found, permutations=1000).height
        print(
            f"{images} images: {rows} differences, 1000 permutations, in {time.perf_counter() - begin:.2f} s, "
            f"peak {peak():.0f} MiB",
            flush=True,
        )
    return found, seconds


def peak() -> float:
    """Greatest resident memory of this process so far, in MiB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 if platform.system() != "Darwin" else 1024**2)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Bootstrap intervals of every metric.")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--large", type=int, default=400_000)
    parser.add_argument("--loop", type=int, default=5)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--differences", action="store_true")
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    vocabulary = load_vocabulary("chexpert-14")
    results = draw(options.images)
    found, seconds = timed(results, vocabulary, options)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        # scikit-learn warns of each 0/0; ours are NaN
        warnings.simplefilter("ignore")
        loop = plain(results, vocabulary, options.loop, seed=0)
    scaled = (time.perf_counter() - begin) * options.replicates / options.loop
    print(
        f"loop over scikit-learn: {scaled:.0f} s for {options.replicates} (from {options.loop}); "
        f"{scaled / seconds:.0f}x; largest difference {largest_difference(found, loop):.1e}"
    )
    if options.large:
        timed(draw(options.large), vocabulary, options)


if __name__ == "__main__":
    main()
