"""The demo, from nothing and again: seconds, the ratio of the two, and peak memory.

    python benchmarks/study.py [STUDY.yaml]

The cache and the run folder are new, so that the first run renders, encodes, fits and draws; the second finds all done.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak resident memory (GiB) of a command; raises when it fails."""
    environment = os.environ | {"RADLENS_CACHE": str(folder / "cache")}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return time.perf_counter() - start, usage.ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, help="default: the demo")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = ["run", str(arguments.study)] if arguments.study else ["demo"]
        command = [sys.executable, "-m", "radlens.cli", *what, "--quiet", "--out", str(folder / "run")]
        first, memory = timed(command, folder)
        second, _ = timed(command, folder)
    print(f"first run   {first:7.1f} s   peak {memory:.2f} GiB   (the demo's aim: 180 s, 3 GiB)")
    print(f"second run  {second:7.1f} s   (aim: 10 s)")
    print(f"ratio       {first / second:7.1f}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
