"""A run folder becomes one page that opens offline: no request, no script, the same bytes for the same run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from radlens.core.store import write_text
from radlens.report.annotated_regions import region_notes, region_source
from radlens.report.bars import f1_bars
from radlens.report.cohort_section import cohort_section
from radlens.report.colours import POSITIVE, setting_colours
from radlens.report.columns import columns
from radlens.report.contents import FEW, RunContents, listed, read_run, section
from radlens.report.depth import depth_matrices
from radlens.report.doubt import doubt
from radlens.report.draws import write_draws_report
from radlens.report.embedding_space import HEIGHT, WIDTH, embedding_views, separability_table
from radlens.report.facts import definition_facts, model_facts, run_facts, setting_cards, stage_facts, version_facts
from radlens.report.false_alarms import false_alarms
from radlens.report.findings import findings, question
from radlens.report.lesion_sizes import lesion_sizes
from radlens.report.localization import localization
from radlens.report.map_similarity import map_similarity
from radlens.report.overlays import examples
from radlens.report.published import published_for
from radlens.report.results import detail_table, domain_table, label_table, overall_table
from radlens.report.space_tables import space_tables
from radlens.report.trust import trust_section
from radlens.report.trust_curves import HEIGHT as CURVE_HEIGHT
from radlens.report.trust_curves import WIDTH as CURVE_WIDTH
from radlens.report.trust_curves import trust_curves
from radlens.report.verdicts import MEANINGS
from radlens.report.worth import worth

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: Path) -> Path:
    """Read a run folder, write `run/report.html` and return its path.

    Raises `StoreError` when the folder is no run folder, when a file of it is damaged, or when it cannot be written.
    """
    page = run / "report.html"
    contents = read_run(run)
    draws = listed(contents.facts, "draws")
    if draws:
        return write_draws_report(run, [str(draw) for draw in draws])
    write_text(page, render(contents))
    return page


def render(run: RunContents) -> str:
    """The whole page as text. Every text of the run is escaped: an image id may be anything."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_values(run))


def _values(run: RunContents) -> dict[str, Any]:
    # the checks of the trust card are called as the scores that they use
    known = columns(given for given in run.definitions if given.get("table") != "trust")
    pictures = examples(run)
    colours = setting_colours(tuple(dict.fromkeys((*run.settings, *(row.setting for e in pictures for row in e.rows)))))
    paper = published_for(run.dataset)
    model = section(run.facts, "model")
    trust = trust_section(run, colours)
    return {
        "css": "".join((_TEMPLATES / name).read_text("utf-8") for name in ("report.css", "looks.css")),
        "name": str(run.facts.get("name") or run.study.get("name") or run.folder.name),
        "created": _moment(str(run.facts.get("created") or "")),
        "model_title": str(model.get("title") or model.get("name") or "model unknown"),
        "cohort_facts": {"name": "", "dataset": "", "source": {}} | section(run.facts, "cohort"),
        "question": question(run),
        "findings": findings(run),
        "settings": run.settings,
        "colours": colours,
        "splits": run.splits,
        "labels": run.labels,
        "estimable": run.estimable,
        "few": FEW,
        "cohort": cohort_section(run),
        "paper": paper,
        "overall": overall_table(run, known, colours, paper),
        "per_label": label_table(run, known, colours, paper),
        "per_domain": domain_table(run, known, colours, paper),
        "detail": detail_table(run, known),
        "differences": bool(run.tables["differences"]),
        "worth": worth(run, known, colours),
        "bars": f1_bars(run, colours),
        "separability": separability_table(run, known),
        "spaces": space_tables(run, known),
        "doubt": doubt(run, known),
        "views": embedding_views(run),
        "view_size": (WIDTH, HEIGHT),
        "positive_colour": POSITIVE,
        "rule": str(run.examples.get("rule") or ""),
        "examples": pictures,
        "localization": localization(run, known),
        "sizes": lesion_sizes(run, known),
        "trust": trust,
        "curves": trust_curves(run, colours, trust.method, trust.layer) if trust else (),
        "curve_size": (CURVE_WIDTH, CURVE_HEIGHT),
        "verdicts": MEANINGS,
        "alarms": false_alarms(run, known),
        "depths": depth_matrices(run, known),
        "similarity": map_similarity(run, known),
        "region_source": region_source(run),
        "region_notes": region_notes(run),
        "definitions": definition_facts(run),
        "model_facts": model_facts(run),
        "model_notes": [str(note) for note in listed(model, "notes")],
        "run_facts": run_facts(run),
        "stages": stage_facts(run),
        "versions": version_facts(run),
        "cards": setting_cards(run),
    }


def _moment(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()
