"""Write down what was asked, what was used, and the page."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import yaml

from radlens.core.cohort import Cohort
from radlens.core.store import fingerprint, source_digest, write_text
from radlens.report.page import write_report
from radlens.stages.context import Context

# what differs between two runs of one study without changing what the page is about
_CHANGING = ("created", "embedding", "command", "device")


def save_study(context: Context) -> None:
    """`study.yaml`: the resolved spec."""
    asked = context.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    where = f"# the study as it was understood; its paths start from {context.spec.folder.resolve()}\n"
    text = where + yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)
    path = context.run.folder / "study.yaml"

    def make() -> Iterable[Path]:
        write_text(path, text)
        return (path,)

    context.run.stage("study", fingerprint(text), make)


def summarise(context: Context, cohort: Cohort) -> None:
    """What run.json says of the model, the cohort and the machine's use."""
    run = context.run
    model = dict(context.source.card) | {"fingerprint": context.source.fingerprint}
    run.tell(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        device=_device(context),
        model=model,
        cohort={
            "name": cohort.name,
            "dataset": cohort.source.get("collection") or context.spec.cohort.dataset,
            "images": len(cohort),
            "patients": len(set(cohort.groups())),
            "source": dict(cohort.source),
            "label_origins": dict(cohort.origins),
        },
        left_out=[asdict(left) for left in cohort.left_out],
        notes=list(cohort.notes),
    )


def write_page(context: Context) -> Path:
    """`report.html`, made from the run folder alone."""
    run = context.run
    keys = [stage.key for stage in run.stages.values()]
    about = {name: value for name, value in run.facts.items() if name not in _CHANGING}
    key = fingerprint(keys, repr(about), source_digest("radlens.report"))
    # the page reads the folder: nothing of an earlier study may be left in it
    run.remove_leftovers(keep="report.html")
    run.stage("report", key, lambda: (write_report(run.folder),))
    run.finish()
    return run.folder / "report.html"


def _device(context: Context) -> str:
    if context.spec.compute.device != "auto":
        return context.spec.compute.device
    if "torch" not in sys.modules:
        return "none: all was cached"
    from radlens.core.device import choose_device

    return str(choose_device("auto"))
