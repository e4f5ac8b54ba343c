"""Start several processes of one command on this machine, and end them together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 20.0


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `radlens ARGUMENTS` in several processes that know of each other; the code of the first that fails, or 0.

    They find their number in the environment as if torchrun had started them. When one fails the others are ended.
    """
    shared = os.environ | {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        # Lightning asks for this name to know that processes were started from outside
        "TORCHELASTIC_RUN_ID": "radlens",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes))),
    }
    command = [sys.executable, "-m", "radlens.cli", *arguments]
    running = [
        subprocess.Popen(command, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    try:
        while True:
            codes = [process.poll() for process in running]
            failed = [code for code in codes if code]
            if failed:
                return failed[0] if failed[0] > 0 else 1
            if all(code == 0 for code in codes):
                return 0
            time.sleep(_POLL_SECONDS)
    finally:
        _end(running)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
