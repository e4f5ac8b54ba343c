"""A run folder: files made by stages, each stage known by the fingerprint of all that changes it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radlens.core.crew import crew
from radlens.core.errors import StoreError
from radlens.core.store import file_digest, write_failure, write_json


@dataclass(frozen=True)
class Stage:
    """How one stage went. `seconds` is the time it took now; `made_in_seconds` when its files were made."""

    key: str
    seconds: float
    made_in_seconds: float
    cached: bool
    outputs: dict[str, str]
    """Path in the run folder -> SHA-256."""


class RunFolder:
    """Runs stages once: a stage whose key and files are those of the last run is not run again.

    `run.json` is written after every stage, so that a killed run goes on where it stopped. Files of an earlier run that
    this one no longer makes are removed by `remove_leftovers`. Of several processes that run one study only the first
    writes; what it knows, the others are told. Raises `StoreError` when the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.crew = crew()
        self.facts: dict[str, Any] = {}
        """What run.json says beside its stages."""
        self.stages: dict[str, Stage] = {}
        self._started = time.perf_counter()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            began = (folder / "run.json").is_file()
            strange = not began and any(not path.name.startswith(".") for path in folder.iterdir())
        except OSError as error:
            raise StoreError(write_failure(folder, error)) from error
        if strange:
            raise StoreError(f"{folder} holds files but no run.json; name an empty or new folder with --out.")
        self._before = self.crew.agree(_recorded(folder / "run.json") if began else {})
        self._record(finished=False)

    def stage(self, name: str, key: str, make: Callable[[], Iterable[Path]], *, together: bool = False) -> Stage:
        """Run `make` (which returns the files it wrote) unless the last run did it with the same key.

        together: `make` is work that all processes of the crew share; it writes in the first one alone. Otherwise only
        the first runs it, and the others wait for its files.
        """
        started = time.perf_counter()
        before = self._before.get(name)
        if self.is_done(name, key):
            seconds = time.perf_counter() - started
            assert before is not None
            stage = Stage(key, seconds, before.made_in_seconds, True, before.outputs)
        else:
            written = list(make()) if together or self.crew.first else []
            self.crew.barrier()
            seconds = time.perf_counter() - started
            outputs = {str(path.relative_to(self.folder)): file_digest(path) for path in written}
            stage = Stage(key, seconds, seconds, False, self.crew.agree(outputs))
        self.stages[name] = stage
        self._record(finished=False)
        return stage

    def is_done(self, name: str, key: str) -> bool:
        """Whether `stage` would find its files from the last run, as the first process sees it."""
        before = self._before.get(name)
        return self.crew.agree(before is not None and before.key == key and self._intact(before))

    def tell(self, **facts: Any) -> None:
        """Add facts to `run.json`, at once."""
        self.facts |= facts
        self._record(finished=False)

    def remove_leftovers(self, *, keep: str) -> None:
        """Remove files that earlier runs left and this one did not make; `keep` is made later."""
        if not self.crew.first:
            return
        kept = {path for stage in self.stages.values() for path in stage.outputs} | {keep}
        here = self.folder.resolve()
        for stage in self._before.values():
            for path in stage.outputs.keys() - kept:
                target = (here / path).resolve()
                # a run.json that came from elsewhere may name anything
                if not target.is_relative_to(here):
                    continue
                try:
                    target.unlink(missing_ok=True)
                    while target.parent != here and not any(target.parent.iterdir()):
                        target = target.parent
                        target.rmdir()
                except OSError as error:
                    raise StoreError(f"cannot remove {target}, left by an earlier run: {error.strerror}.") from error

    def finish(self) -> None:
        """Record the totals."""
        self._record(finished=True)

    def total_seconds(self) -> float:
        """Seconds since the folder was opened."""
        return time.perf_counter() - self._started

    def _intact(self, stage: Stage) -> bool:
        try:
            return all(file_digest(self.folder / path) == digest for path, digest in stage.outputs.items())
        except OSError:
            return False

    def _record(self, finished: bool) -> None:
        if not self.crew.first:
            return
        # stages of the last run that were not reached yet stay on record: a killed run loses nothing
        stages = self._before | self.stages if not finished else self.stages
        totals = {"seconds": round(self.total_seconds(), 3), "finished": finished}
        totals |= {"peak_memory_gib": round(_peak_memory_gib(), 2)}
        write_json(self.folder / "run.json", self.facts | {"totals": totals, "stages": stages})


def _peak_memory_gib() -> float:
    if sys.platform == "win32":
        return float("nan")
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**30 if sys.platform == "darwin" else used / 2**20


def _recorded(path: Path) -> dict[str, Stage]:
    try:
        stages = json.loads(path.read_text("utf-8"))["stages"]
        return {name: Stage(**values) for name, values in stages.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
