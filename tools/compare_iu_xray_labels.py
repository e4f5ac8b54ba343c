"""Write the figures of docs/iu-xray-labels.md: labels of the real IU-Xray reports beside the paper's counts.

python tools/compare_iu_xray_labels.py            writes the part of the page between its two marks
python tools/compare_iu_xray_labels.py --check    exits 1 when that part is out of date

Reads the reports and the metadata from an installed torchxrayvision (pip install 'radlens[iu-xray]').
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

import polars as pl

from radlens.core.reports import Reports
from radlens.core.vocabulary import load_vocabulary
from radlens.data.iu_xray_images import image_key
from radlens.data.iu_xray_reports import INSTALLED, installed_file, read_iu_xray_reports
from radlens.data.iu_xray_views import read_view_positions, views_of_study
from radlens.labels.compare import compare_labels
from radlens.labels.label_table import write_labels
from radlens.labels.mesh import Mesh
from radlens.labels.mesh_codes import code_table
from radlens.labels.rules import Rules

PAGE = Path(__file__).parents[1] / "docs" / "iu-xray-labels.md"
BEGIN, END = "<!-- figures: begin (tools/compare_iu_xray_labels.py) -->", "<!-- figures: end -->"

# what the paper states in sections 1 and 5.2
PAPER = {
    "No Finding": 2400,
    "Lung Opacity": 516,
    "Cardiomegaly": 415,
    "Edema": 49,
    "Consolidation": 31,
    "Pneumothorax": 20,
}
# zero-shot F1 of the paper's table 2; of a rule that always says yes it is 2p / (1 + p)
ZERO_SHOT_F1 = {
    "No Finding": 0.749,
    "Enlarged Cardiomediastinum": 0.039,
    "Cardiomegaly": 0.216,
    "Lung Opacity": 0.314,
    "Lung Lesion": 0.109,
    "Edema": 0.046,
    "Consolidation": 0.032,
    "Pneumonia": 0.042,
    "Atelectasis": 0.135,
    "Pneumothorax": 0.021,
    "Pleural Effusion": 0.080,
    "Pleural Other": 0.011,
    "Fracture": 0.076,
    "Support Devices": 0.093,
}
# what torchxrayvision looks for in the automatic codes; it has no No Finding and no Consolidation
SUBSTRINGS = {
    "Cardiomegaly": ["cardiomegaly"],
    "Lung Opacity": ["opacity"],
    "Edema": ["edema"],
    "Pneumothorax": ["pneumothorax"],
}
UNITS = ("report", "report with an image", "image", "frontal image")
OPACITY_STEPS = {
    "Opacity": ["Opacity"],
    "and Density": ["Density"],
    "and Airspace Disease, Infiltrate": ["Airspace Disease", "Infiltrate"],
    "and interstitial or bronchial": ["Markings", "Lung", "Lung Diseases, Interstitial", "Thickening"],
    "and scars, fibrosis (all that `mesh` counts)": ["Cicatrix", "Pulmonary Fibrosis", "Fibrosis"],
}


def read() -> tuple[Reports, pl.DataFrame]:
    """The reports, and study_id with the number of each unit that a report stands for."""
    reports = read_iu_xray_reports(INSTALLED, Path())
    metadata = installed_file("nlmcxr_dicom_metadata.csv.gz")
    if metadata is None:
        raise SystemExit("torchxrayvision is not installed: pip install 'radlens[iu-xray]'")
    positions = read_view_positions(metadata)
    rows = []
    for study, ids, captions in reports.table.select("study_id", "image_ids", "captions").iter_rows():
        tags = [positions.get(image_key(name) or "") for name in ids]
        views = views_of_study(tags, captions[0] if captions else "")
        frontal = sum(view == "frontal" for view, _ in views)
        rows.append((study, 1, int(bool(ids)), len(ids), frontal))
    return reports, pl.DataFrame(rows, ["study_id", *UNITS], orient="row")


def labellings(reports: Reports) -> dict[str, pl.DataFrame]:
    """Name of a definition -> study_id and a boolean column a label."""

    def mesh(no_finding: str, borderline: str, least: tuple[int, ...] = (1,)) -> pl.DataFrame:
        labeler = Mesh.model_validate({"no_finding": no_finding, "borderline": borderline})
        table = labeler.label(reports, Path(), Path()).table.drop("assessed")
        return table.select("study_id", pl.exclude("study_id").is_in(least))

    def rules(sections: tuple[str, ...], least: tuple[int, ...] = (1,)) -> pl.DataFrame:
        table = Rules(sections=sections).label(reports, Path(), Path()).table.drop("assessed")
        return table.select("study_id", pl.exclude("study_id").is_in(least).fill_null(False))

    automatic = pl.col("automatic").list.join("|").str.to_lowercase()
    substring = [automatic.str.contains_any(words).alias(name) for name, words in SUBSTRINGS.items()]
    return {
        "`mesh` (default)": mesh("no-pathology", "uncertain"),
        "`mesh`, borderline: positive": mesh("no-pathology", "positive"),
        "`mesh`, every -1 as positive": mesh("no-pathology", "positive", (1, -1)),
        "`mesh`, no_finding: normal-code": mesh("normal-code", "uncertain"),
        "`mesh`, normal-code, borderline: positive": mesh("normal-code", "positive"),
        "`rules` (default: findings and impression)": rules(("findings", "impression")),
        "`rules`, every -1 as positive": rules(("findings", "impression"), (1, -1)),
        "`rules` on findings": rules(("findings",)),
        "`rules` on the impression": rules(("impression",)),
        "automatic codes by substring": reports.table.select("study_id", *substring),
    }


def count(labels: pl.DataFrame, units: pl.DataFrame, name: str, unit: str) -> int:
    """How many units carry a label."""
    positive = labels.filter(pl.col(name)).select("study_id")
    return int(units.join(positive, on="study_id", how="semi")[unit].sum())


def fit_table(named: dict[str, pl.DataFrame], units: pl.DataFrame) -> list[str]:
    """Definitions beside the paper's six counts, the nearest first; those that lack a label last."""
    rows: list[tuple[int, float, str]] = []
    for title, labels in named.items():
        for unit in UNITS:
            counts = {name: count(labels, units, name, unit) for name in PAPER if name in labels.columns}
            apart = sum(abs(math.log(found / PAPER[name])) for name, found in counts.items())
            factor = math.exp(apart / len(counts))
            cells = " | ".join(str(counts.get(name, "-")) for name in PAPER)
            missing = len(PAPER) - len(counts)
            total = f"{apart:.2f}" + (f" ({len(counts)} labels)" if missing else "")
            rows.append((missing, factor, f"| {title} | {unit} | {cells} | {total} | {factor:.2f} |"))
    head = " | ".join(PAPER)
    stated = " | ".join(str(value) for value in PAPER.values())
    return [
        f"| definition | counted by | {head} | sum of abs(ln ratio) | typical factor |",
        "|---|---|" + "---:|" * (len(PAPER) + 2),
        f"| **the paper** | | {stated} | | |",
        *(line for _, _, line in sorted(rows)),
    ]


def label_table(reports: Reports, units: pl.DataFrame) -> list[str]:
    """All labels of the default definition, and what the paper's zero-shot F1 would mean."""
    table = Mesh().label(reports, Path(), Path()).table.join(units, on="study_id")
    lines = [
        "| label | reports: 1 | -1 | images: 1 | -1 | share of reports | share by the paper's zero-shot F1 "
        "| that share of 3,955 | stated |",
        "|---|" + "---:|" * 8,
    ]
    for name in load_vocabulary("chexpert-14").names:
        cells = [
            int(table.filter(pl.col(name) == value)[unit].sum()) for unit in ("report", "image") for value in (1, -1)
        ]
        share = ZERO_SHOT_F1[name] / (2 - ZERO_SHOT_F1[name])
        lines.append(
            f"| {name} | {' | '.join(map(str, cells))} | {cells[0] / len(reports):.4f} | {share:.4f} | "
            f"{share * len(reports):.0f} | {PAPER.get(name, '')} |"
        )
    return lines


def agreement_table(reports: Reports) -> list[str]:
    """`mesh` beside `rules` and the paper: positives a label, and Cohen's kappa."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.csv" for name in ("mesh", "rules")]
        for path, labeler in zip(paths, (Mesh(), Rules()), strict=True):
            write_labels(labeler.label(reports, Path(), Path()), path)
        compared = compare_labels(*paths)
    lines = [
        f"{compared.studies['compared'][0]:,} reports that both assess. {compared.definition}",
        "",
        "| label | `mesh`: 1 | -1 | `rules`: 1 | -1 | the paper | kappa | 95 % interval |",
        "|---|" + "---:|" * 7,
    ]
    for row in compared.labels.iter_rows(named=True):
        kappa = row["kappa"]
        low, high = row["low"], row["high"]
        shown = "not estimable" if kappa is None or math.isnan(kappa) else f"{kappa:.2f}"
        interval = f"{low:.2f} to {high:.2f}" if low is not None and not math.isnan(low) else (row["reason"] or "")
        lines.append(
            f"| {row['label']} | {row['a_1']} | {row['a_-1']} | {row['b_1']} | {row['b_-1']} | "
            f"{PAPER.get(row['label'], '')} | {shown} | {interval} |"
        )
    return lines


def opacity_table(reports: Reports) -> list[str]:
    """Reports that are Lung Opacity by fewer and by more headings."""
    headings: list[str] = []
    evidence = Mesh().label(reports, Path(), Path()).evidence.filter(pl.col("label") == "Lung Opacity")
    lines = ["| headings that count as Lung Opacity | reports |", "|---|---:|"]
    for title, further in OPACITY_STEPS.items():
        headings += further
        found = evidence.filter(pl.col("because").str.replace(r"/.*", "").is_in(headings))["study_id"].n_unique()
        lines.append(f"| {title} | {found} |")
    in_table = {rule.heading for rule in code_table().rule if "Lung Opacity" in rule.labels}
    if in_table != set(headings):
        raise SystemExit(f"OPACITY_STEPS and mesh.toml differ: {sorted(in_table ^ set(headings))}")
    return lines


def figures() -> str:
    """The generated part of the page."""
    reports, units = read()
    totals = ", ".join(f"{int(units[unit].sum()):,} {unit}s" for unit in UNITS)
    totals = totals.replace("report with an images", "reports with an image")
    return "\n".join(
        [
            f"Units: {totals}.",
            "",
            "### Every label",
            "",
            *label_table(reports, units),
            "",
            "### Which definition fits the paper's counts",
            "",
            *fit_table(labellings(reports), units),
            "",
            "### The two labelers beside each other",
            "",
            *agreement_table(reports),
            "",
            "### What Lung Opacity is made of",
            "",
            *opacity_table(reports),
        ]
    )


def main() -> None:
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{PAGE} has lost its marks {BEGIN!r} and {END!r}")
    written = f"{before}{BEGIN}\n\n{figures()}\n\n{END}{after}"
    if "--check" in sys.argv[1:]:
        if written != page:
            raise SystemExit(f"{PAGE} is out of date; run python tools/compare_iu_xray_labels.py")
        return
    PAGE.write_text(written, "utf-8")


if __name__ == "__main__":
    main()
