"""Label reports, once: what a labeler found is kept by the content of all that it looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from rich.console import Console
from rich.table import Table

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, SpecError
from radlens.core.parts import Dataset, Labeler, Progress, unheard
from radlens.core.reports import LabelledReports, Reports, apply_labels
from radlens.core.spec import LabelerSpec, StudySpec, build_part, read_study
from radlens.core.store import Cache, default_cache, fingerprint, source_digest, write_json, writing
from radlens.data.report_sources import read_reports
from radlens.labels.compare import compare_labels
from radlens.labels.label_table import write_labels
from radlens.progress import Teller


def labeler_of(spec: StudySpec) -> LabelerSpec | None:
    """The labeler that a study names, or that its data set needs; None where the data set brings labels of its own."""
    if spec.cohort.labeler is not None:
        return spec.cohort.labeler
    dataset: Dataset = build_part("datasets", spec.cohort.dataset, spec.cohort.options())
    return None if dataset.default_labeler is None else LabelerSpec(name=dataset.default_labeler)


def label_cohort(
    cohort: Cohort, dataset: Dataset, chosen: LabelerSpec, folder: Path, cache: Cache, progress: Progress = unheard
) -> tuple[Cohort, LabelledReports]:
    """The cohort with labels from its reports, and what the labeler found."""
    labeler: Labeler = build_part("labelers", chosen.name, chosen.options())
    found = label_reports(labeler, dataset.reports(cohort), folder, cache, progress)
    return apply_labels(cohort, found, labeler.uncertain, labeler.unmentioned), found


def label_reports(
    labeler: Labeler, reports: Reports, folder: Path, cache: Cache, progress: Progress = unheard
) -> LabelledReports:
    """What the labeler finds in the reports, from the cache where it was found before."""
    files = [digest for digest in cache.file_digests(list(labeler.files(folder))) if digest is not None]
    table = reports.table.write_ndjson().encode()
    code = source_digest("radlens.labels", "radlens.core.reports", "radlens.core.mapping")
    key = fingerprint(type(labeler).__qualname__, labeler.model_dump(mode="json"), files, table, code)
    kept = cache.folder / "labels" / key
    # `found.json` is written last: a folder without it is half-made
    if (kept / "found.json").is_file():
        try:
            return _read(kept)
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
            (kept / "found.json").unlink(missing_ok=True)
    found = labeler.label(reports, folder, cache.folder, progress)
    for name, frame in (("table", found.table), ("evidence", found.evidence)):
        with writing(kept / f"{name}.parquet") as aside:
            frame.write_parquet(aside)
    about = {"origin": found.origin, "unknown": dict(found.unknown), "notes": list(found.notes)}
    write_json(kept / "found.json", about)
    return found


def label_source(
    source: str, name: str, options: Mapping[str, Any], columns: Mapping[str, str], out: Path, tell: Teller
) -> LabelledReports:
    """Label what `source` names (a study file, a table, IU-Xray's reports) and write `out`, its evidence beside it."""
    labeler: Labeler = build_part("labelers", name, dict(options))
    if out.suffix.lower() != ".csv":
        raise DataError(f"--out {out}: expected a name that ends in .csv.")
    cache = Cache(default_cache())
    if Path(source).suffix.lower() in (".yaml", ".yml"):
        spec = read_study(Path(source))
        dataset: Dataset = build_part("datasets", spec.cohort.dataset, spec.cohort.options())
        with tell.bar("reading") as progress:
            reports = dataset.reports(dataset.load(spec.folder, cache.folder, progress))
    else:
        reports = read_reports(source, Path(), columns)
    tell.say(f"labelling {len(reports)} reports with {name}")
    with tell.bar("labelling") as progress:
        found = label_reports(labeler, reports, Path(), cache, progress)
    write_labels(found, out)
    tell.show(label_counts(found))
    for left in reports.left_out:
        tell.say(f"left out: {left.count} {left.what}{_examples(left.examples)}")
    for note in (*reports.notes, *found.notes):
        tell.warn(note)
    if found.unknown:
        listed = ", ".join(f"{what} ({count})" for what, count in sorted(found.unknown.items(), key=lambda kv: -kv[1]))
        tell.warn(f"{len(found.unknown)} codes or findings are not known to {name}: {listed}")
    return found


def label_counts(found: LabelledReports) -> Table:
    """Positive, negative, uncertain and blank reports of every label, as a table to print."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label", no_wrap=True)
    for heading in ("positive", "negative", "uncertain", "not mentioned", "not assessed"):
        table.add_column(heading, justify="right")
    assessed = found.table.filter(pl.col("assessed"))
    unassessed = str(found.table.height - assessed.height)
    for label in found.table.columns:
        if label not in ("study_id", "assessed"):
            values = assessed[label]
            cells = (int((values == value).sum()) for value in (1, 0, -1))
            table.add_row(label, *map(str, cells), str(values.null_count()), unassessed)
    return table


def compare_files(first: Path, second: Path, console: Console, out: Path | None) -> None:
    """Print how far two label files agree; with `out`, write all of it into that folder."""
    comparison = compare_labels(first, second)
    comparison.render(console)
    if out is not None:
        comparison.write(out)


def options_from(pairs: Sequence[str] | None, option: str) -> dict[str, Any]:
    """`KEY=VALUE` texts as a mapping, the values in YAML. Raises `SpecError`."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, sign, text = pair.partition("=")
        if not sign or not key.strip():
            raise SpecError(f"{option} expects KEY=VALUE, found {pair!r}.")
        try:
            found[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SpecError(f"{option} {pair}: the value is not valid YAML.") from error
    return found


def _examples(examples: tuple[str, ...]) -> str:
    return f" (such as {', '.join(examples[:3])})" if examples else ""


def _read(kept: Path) -> LabelledReports:
    about = json.loads((kept / "found.json").read_text("utf-8"))
    return LabelledReports(
        pl.read_parquet(kept / "table.parquet"),
        pl.read_parquet(kept / "evidence.parquet"),
        str(about["origin"]),
        {str(k): int(v) for k, v in about["unknown"].items()},
        tuple(str(note) for note in about["notes"]),
    )
