"""Write down what was asked, what was used, and the page."""

from __future__ import annotations

import datetime
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from radlens.core.cohort import Cohort
from radlens.core.store import fingerprint, source_digest, write_text
from radlens.report.page import write_report
from radlens.stages.context import Context


# what differs between two runs of one study without changing what the page is about
_CHANGING = ("created", "totals", "embedding", "command", "device")


def save_study(context: Context) -> None:
    """`study.yaml`: the resolved spec."""
    asked = context.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    text = yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)
    path = context.run.folder / "study.yaml"

    def make() -> Iterable[Path]:
        write_text(path, text)
        return (path,)

    context.run.stage("study", fingerprint(text), make)


def summarise(context: Context, cohort: Cohort) -> None:
    """What run.json says of the model, the cohort and the machine's use."""
    run = context.run
    model = dict(context.source.card) | {"fingerprint": context.source.fingerprint}
    run.facts |= {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": _device(context),
        "model": model,
        "cohort": {
            "name": cohort.name,
            "dataset": context.spec.cohort.dataset,
            "images": len(cohort),
            "patients": len(set(cohort.groups())),
            "source": dict(cohort.source),
        },
        "notes": list(cohort.notes),
        "windowed_images": len(run.facts.get("image_notes", {})),
        "totals": {"peak_memory_gib": round(_peak_memory_gib(), 2)},
    }


def write_page(context: Context) -> Path:
    """`report.html`, made from the run folder alone."""
    run = context.run
    keys = [stage.key for stage in run.stages.values()]
    about = {
        k: v for k, v in run.facts.items() if k not in ("created", "totals", "embedding", "command", "image_notes")
    }
    key = fingerprint(keys, repr(about), source_digest("radlens.report"))
    run.stage("report", key, lambda: (write_report(run.folder),))
    run.finish()
    return run.folder / "report.html"


def _device(context: Context) -> str:
    if context.spec.compute.device != "auto":
        return context.spec.compute.device
    if "torch" not in sys.modules:
        return "none: all was cached"
    from radlens.models.device import choose_device

    return str(choose_device("auto"))


def _peak_memory_gib() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**30 if sys.platform == "darwin" else used / 2**20
