"""Time and memory of reading and splitting a large table, and the split's ratio to a plain loop.

    python benchmarks/split_table.py [--images 400000] [--plain-images 100000]

The plain loop is iterative stratification as it is written in the paper: a group at a time, in Python, with
positives alone. Both split the same table of `--plain-images` rows in this run.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.vocabulary import load_vocabulary
from radlens.data.splits import assign_split
from radlens.data.stratification import split_by_group
from radlens.data.table import Table

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
PREVALENCE = np.array([0.4, 0.05, 0.12, 0.3, 0.04, 0.12, 0.06, 0.03, 0.15, 0.08, 0.35, 0.01, 0.04, 0.5])


def draw(images: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.object_]]:
    """Labels (N, 14) with a quarter not assessed, and patients with about two images each."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, len(PREVALENCE))) < PREVALENCE).astype(np.float32)
    targets[rng.random(targets.shape) < 0.25] = np.nan
    patients = np.array([f"p{x:07d}" for x in rng.integers(0, max(images // 2, 1), images)], dtype=object)
    return targets, patients


def plain(
    targets: npt.NDArray[np.float32], groups: npt.NDArray[np.object_], shares: dict[str, float]
) -> npt.NDArray[np.object_]:
    """Sechidis' algorithm over groups, as plainly as it can be written."""
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    contents = {group: np.nansum(targets[rows], axis=0) for group, rows in members.items()}
    total = sum(contents.values())
    desired = {name: share * total for name, share in shares.items()}
    wanted = {name: share * len(targets) for name, share in shares.items()}
    result = np.empty(len(groups), dtype=object)
    remaining = dict(contents)
    while remaining:
        left = sum((content > 0).astype(int) for content in remaining.values())
        label = int(np.argmin(np.where(left > 0, left, np.inf))) if left.max() > 0 else None
        here = [g for g, content in remaining.items() if label is None or content[label] > 0]
        for group in here:
            best = max(shares, key=lambda s: (0 if label is None else desired[s][label], wanted[s]))
            desired[best] = desired[best] - remaining.pop(group)
            wanted[best] -= len(members[group])
            result[members[group]] = best
    return result


def deviation(targets: npt.NDArray[np.float32], split: npt.NDArray[np.object_]) -> float:
    """Mean over labels and splits of |share of the label's positives - share asked|."""
    positives = targets == 1
    shares = [(positives[split == s].sum(0) / positives.sum(0) - share) for s, share in SHARES.items()]
    return float(np.abs(shares).mean())


def peak() -> float:
    """Greatest resident memory of this process so far, in MiB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 if platform.system() != "Darwin" else 1024**2)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Read and split a large table.")
    parser.add_argument("--images", type=int, default=400_000)
    parser.add_argument("--plain-images", type=int, default=100_000)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")

    targets, groups = draw(options.images)
    labels = load_vocabulary("chexpert-14").names
    with tempfile.TemporaryDirectory() as folder:
        frame = pl.DataFrame({"image": [f"{x:08d}.png" for x in range(options.images)], "patient": groups.tolist()})
        columns = [pl.Series(label, targets[:, i]).fill_nan(None).cast(pl.Int8) for i, label in enumerate(labels)]
        frame.with_columns(columns).write_csv(Path(folder) / "table.csv")
        del frame, columns
        print(f"before: peak {peak():.0f} MiB")
        begin = time.perf_counter()
        cohort = Table(table="table.csv", image_column="image", patient_column="patient").load(Path(folder), Path())
        print(f"table: {len(cohort)} x {len(labels)} in {time.perf_counter() - begin:.2f} s, peak {peak():.0f} MiB")
    begin = time.perf_counter()
    done = assign_split(cohort, SHARES, seed=0)
    seconds = time.perf_counter() - begin
    off = deviation(targets, done.table["split"].to_numpy())
    print(f"split: {len(cohort)} x {len(labels)} in {seconds:.2f} s, peak {peak():.0f} MiB, mean deviation {off:.6f}")

    targets, groups = draw(options.plain_images, seed=1)
    begin = time.perf_counter()
    slow = plain(targets, groups, SHARES)
    slow_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    fast = split_by_group(targets, groups, SHARES, seed=0)
    fast_seconds = time.perf_counter() - begin
    print(
        f"{options.plain_images} images: plain loop {slow_seconds:.2f} s (deviation {deviation(targets, slow):.6f}), "
        f"ours {fast_seconds:.2f} s ({deviation(targets, fast):.6f}): {slow_seconds / fast_seconds:.1f}x"
    )


if __name__ == "__main__":
    main()
