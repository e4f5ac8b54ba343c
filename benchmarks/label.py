"""Label reports by phrase rules: reports a second, and the memory as the number of reports grows.

    python benchmarks/label.py REPORTS.tgz [--copies 4] [--rounds 3]

The archive holds the XML reports of IU-Xray, as NLM ships them. They are labelled once a round; then the collection is
labelled `--copies` times over in one call, to see that the memory does not grow with what has been read. Printed are
reports a second (the median of the rounds, without loading spaCy) and the peak memory after one collection and after
all copies. Exit code 1 below 100 reports a second, or when the peak grows by more than a third.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import tarfile
import time
from pathlib import Path

import polars as pl
from defusedxml import ElementTree

from radlens.core.reports import Reports, make_reports
from radlens.labels.rules import Rules


def read(archive: Path) -> pl.DataFrame:
    """study_id, findings, impression of every report in the archive."""
    rows = []
    with tarfile.open(archive) as members:
        for member in members:
            stream = members.extractfile(member) if member.name.endswith(".xml") else None
            if stream is None:
                continue
            root = ElementTree.fromstring(stream.read())
            sections = {(part.get("Label") or "").lower(): part.text for part in root.iter("AbstractText")}
            rows.append((member.name, sections.get("findings"), sections.get("impression")))
    return pl.DataFrame(rows, ["study_id", "findings", "impression"], orient="row")


def copies(table: pl.DataFrame, count: int) -> Reports:
    """The collection `count` times over, each copy under ids of its own."""
    several = [table.with_columns(study_id=pl.lit(f"{copy}-") + pl.col("study_id")) for copy in range(count)]
    return make_reports("benchmark", pl.concat(several))


def peak() -> float:
    """MiB: the most that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("archive", type=Path)
    arguments.add_argument("--copies", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=3)
    asked = arguments.parse_args()
    table = read(asked.archive)
    once = copies(table, 1)
    labeler = Rules()
    labeler.label(make_reports("warm", once.table.head(1)), Path(), Path())
    seconds = []
    for _ in range(asked.rounds):
        start = time.perf_counter()
        labeler.label(once, Path(), Path())
        seconds.append(time.perf_counter() - start)
    first = peak()
    labeler.label(copies(table, asked.copies), Path(), Path())
    last = peak()
    rate = len(once) / statistics.median(seconds)
    print(f"{platform.machine()}, Python {platform.python_version()}, one process")
    print(f"{len(once)} reports: {rate:.0f} reports/s (rounds: {', '.join(f'{s:.2f} s' for s in seconds)})")
    print(f"peak memory: {first:.0f} MiB after one collection, {last:.0f} MiB after {asked.copies} in one call")
    sys.exit(0 if rate >= 100 and last < first * 4 / 3 else 1)


if __name__ == "__main__":
    main()
