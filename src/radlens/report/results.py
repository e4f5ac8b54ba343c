"""The three result tables: overall, a label, a domain; the paper's figures beside where the data set is its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from radlens.report.columns import MISSING, Column
from radlens.report.contents import FEW, RunContents, number
from radlens.report.published import Figures, Published
from radlens.report.tables import (
    Cell,
    Head,
    Table,
    TableRow,
    agreed,
    arrow,
    cell,
    compared,
    setting_heads,
    settings_compared,
    too_few,
)

Columns = Mapping[str, Column]
Colours = Mapping[str, str]

_OVERALL = {
    "Decisions, thresholds from validation": ("macro_f1", "macro_f1_oracle", "exact_match"),
    "Ranking of scores": (
        "macro_auroc",
        "macro_average_precision",
        "lrap",
        "coverage_error",
        "ranking_loss",
    ),
    "Embedding space": ("inter_class_distance", "intra_class_distance", "separability_ratio"),
    "Cost": ("train_seconds", "trainable_parameters"),
}
_CHANCE = {
    "macro_f1": ("macro_f1_always_positive", "answering yes to every label on every image"),
    "separability_ratio": ("separability_ratio_null", "the same embeddings with the labels shuffled between patients"),
}
_DETAIL = (
    "train_positives",
    "val_positives",
    "test_positives",
    "threshold",
    "precision",
    "recall",
    "f1",
    "f1_oracle",
    "average_precision",
)


def overall_table(run: RunContents, columns: Columns, colours: Colours, paper: Published | None) -> Table:
    """A row a metric, a column a setting: as the paper's Table 1, turned."""
    rows_of = run.of("overall")
    heads = (*setting_heads(run.settings, colours), Head("By chance", kind="chance", title="what no skill gives"))
    rows: list[TableRow] = []
    for title, keys in _OVERALL.items():
        block = []
        for key in keys:
            if not any(row.get(key) for row in rows_of.values()):
                continue
            column = columns[key]
            values = [number(rows_of[setting].get(key)) for setting in run.settings]
            if key == "train_seconds":
                values = [value if value > 0 else math.nan for value in values]
            cells = settings_compared(run, values, column, "overall", "overall")
            if key == "train_seconds":
                cells = [Cell(c.text, c.mark, c.kind, "no training") if c.text == MISSING else c for c in cells]
            cells.append(_chance(run, rows_of, key, column))
            cells += _paper_cells(paper, paper.overall if paper else {}, key, column)
            block.append(TableRow(column.heading, tuple(cells), title=column.text, arrow=arrow(column)))
        if block:
            rows += [TableRow(title), *block]
    notes = _counted(run, rows_of)
    definition = next(
        (row["separability_definition"] for row in rows_of.values() if row.get("separability_definition")), ""
    )
    if definition:
        notes.append(f"Distances and ratio use the definition “{definition}”; all three stand under Embedding space.")
    if paper and paper.disagreement():
        notes.append(paper.disagreement())
    return Table("Metric", (*heads, *_paper_heads(paper)), tuple(rows), _groups(run, paper, 1), tuple(notes))


def label_table(run: RunContents, columns: Columns, colours: Colours, paper: Published | None) -> Table:
    """A row a label: positives, prevalence, F1 and AUROC of every setting, and F1 of always answering yes."""
    settings = run.settings
    rows = []
    for label in run.labels:
        found = run.of("per_label", label=label)
        positives = run.test_positives(label)
        few = not positives >= FEW
        cells = [
            cell(positives, columns["test_positives"], kind="few" if few else ""),
            Cell(agreed(run, found, "prevalence", columns["prevalence"]), kind="few" if few else ""),
            Cell(agreed(run, found, "f1_always_positive", columns["f1_always_positive"]), kind="chance"),
        ]
        for key in ("f1", "auroc"):
            values = [number(found.get(s, {}).get(key)) for s in settings]
            cells += settings_compared(run, values, columns[key], "label", label, few)
        cells += _paper_cells(paper, paper.label if paper else {}, label, columns["f1"])
        rows.append(TableRow(label, tuple(cells), remark="few" if _counted_few(positives) else ""))
    heads = (
        Head("n", title="images of the test split with the label"),
        Head("Prevalence", title="positives among the assessed images of the test split"),
        Head("F1 of always yes", kind="chance", title="2p / (1 + p), p the prevalence"),
        *setting_heads(settings, colours),
        *setting_heads(settings, colours),
        *_paper_heads(paper),
    )
    groups = (
        Head("Test split", 2),
        Head("", 1, kind="chance"),
        Head("F1 ↑", len(settings)),
        Head("AUROC ↑", len(settings)),
    )
    return Table("Label", heads, tuple(rows), (*groups, *_paper_group(paper)))


def domain_table(run: RunContents, columns: Columns, colours: Colours, paper: Published | None) -> Table:
    """A row a domain: F1 of the OR over its labels, and the separability ratio among them."""
    settings = run.settings
    domains = dict.fromkeys(row["domain"] for row in run.tables["per_domain"] if row.get("domain"))
    rows = []
    for domain in domains:
        found = run.of("per_domain", domain=domain)
        positives = next((number(row.get("test_positives")) for row in found.values()), math.nan)
        few = positives < FEW
        cells = [
            cell(positives, columns["test_positives"], kind="few" if few else ""),
            Cell(agreed(run, found, "f1_always_positive", columns["f1_always_positive"]), kind="chance"),
            *settings_compared(
                run, [number(found.get(s, {}).get("f1")) for s in settings], columns["f1"], "domain", domain, few
            ),
        ]
        ratio = columns["separability_ratio"]
        cells += compared([number(found.get(s, {}).get("separability_ratio")) for s in settings], ratio, few)
        cells.append(_shuffled(run, found, ratio, few))
        cells += _paper_cells(paper, paper.domain if paper else {}, domain, columns["f1"])
        rows.append(TableRow(domain, tuple(cells), remark="few" if _counted_few(positives) else ""))
    heads = (
        Head("n", title="images of the test split with at least one label of the domain"),
        Head("F1 of always yes", kind="chance", title="2p / (1 + p), p the prevalence"),
        *setting_heads(settings, colours),
        *setting_heads(settings, colours),
        Head("Shuffled labels", kind="chance", title=_CHANCE["separability_ratio"][1]),
        *_paper_heads(paper),
    )
    groups = (
        Head("", 1),
        Head("", 1, kind="chance"),
        Head("F1 ↑", len(settings)),
        Head("Separability ratio ↑", len(settings) + 1),
    )
    return Table("Domain", heads, tuple(rows), (*groups, *_paper_group(paper)))


def detail_table(run: RunContents, columns: Columns) -> Table:
    """Every label under every setting, with its threshold: the small print under the label table."""
    rows = []
    for label in run.labels:
        found = run.of("per_label", label=label)
        few = not run.test_positives(label) >= FEW
        for setting in run.settings:
            row = found.get(setting, {})
            cells = [cell(number(row.get(key)), columns[key], kind="few" if few else "") for key in _DETAIL]
            rule = Cell(row.get("threshold_rule") or MISSING, kind="words")
            rows.append(TableRow(label, (Cell(setting, kind="words"), *cells, rule)))
    heads = (
        Head("Setting", kind="words"),
        *(Head(columns[key].heading, title=columns[key].text) for key in _DETAIL),
        Head("Threshold rule", kind="words"),
    )
    return Table("Label", heads, tuple(rows))


def _counted(run: RunContents, rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """How many labels the macro means average, where the run says so."""
    counted, ranked = (
        max((number(row.get(key)) for row in rows.values()), default=math.nan)
        for key in ("labels_counted", "macro_auroc_labels_counted")
    )
    if not math.isfinite(counted):
        return []
    own = f" (macro AUROC counts {ranked:.0f})" if math.isfinite(ranked) and ranked != counted else ""
    return [
        f"Macro means count {counted:.0f} of {len(run.labels)} labels{own}: a label without a positive "
        "(for AUROC also without a negative) in the test split is undefined, not zero."
    ]


def _shuffled(run: RunContents, found: Mapping[str, Mapping[str, str]], ratio: Column, few: bool) -> Cell:
    """The separability ratio of shuffled labels: as grey as the ratio where that rests on few images."""
    shown = agreed(run, found, "separability_ratio_null", ratio)
    title = too_few("positives in the test split") if few else _CHANCE["separability_ratio"][1]
    return Cell(shown, kind="chance few" if few else "chance", title=title)


def _counted_few(positives: float) -> bool:
    return math.isfinite(positives) and positives < FEW


def _chance(run: RunContents, rows: Mapping[str, Mapping[str, str]], key: str, column: Column) -> Cell:
    if key in _CHANCE:
        source, meaning = _CHANCE[key]
        return Cell(agreed(run, rows, source, column), kind="chance", title=meaning)
    if key == "macro_auroc":
        return Cell("0.500", kind="chance", title="scores that know nothing of the label")
    return Cell("", kind="chance")


def _paper_heads(paper: Published | None) -> tuple[Head, ...]:
    return tuple(Head(setting, kind="paper") for setting in paper.settings) if paper else ()


def _paper_group(paper: Published | None, what: str = "F1 published") -> tuple[Head, ...]:
    return (Head(f"{what}: {paper.short}", len(paper.settings), kind="paper", title=paper.source),) if paper else ()


def _groups(run: RunContents, paper: Published | None, further: int) -> tuple[Head, ...]:
    return (Head("This run", len(run.settings) + further), *_paper_group(paper, "Published")) if paper else ()


def _paper_cells(paper: Published | None, figures: Figures, name: str, column: Column) -> list[Cell]:
    if paper is None:
        return []
    values = [figures.get(name, {}).get(setting, math.nan) for setting in paper.settings]
    return [
        cell(value, column, kind="paper", title="" if math.isfinite(value) else "not published") for value in values
    ]
