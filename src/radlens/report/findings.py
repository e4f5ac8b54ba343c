"""What was asked and what was found, in plain sentences made from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from radlens.report.columns import Kind, show
from radlens.report.contents import FEW, RunContents, number, section
from radlens.report.localization_rows import BestLift, best_lift
from radlens.report.map_kinds import map_words
from radlens.report.trust_findings import believed


def question(run: RunContents) -> str:
    """One sentence: which model, on which cohort, in which settings."""
    model = section(run.facts, "model")
    name = str(model.get("title") or model.get("name") or "this model")
    cohort = section(run.facts, "cohort")
    images, patients = number(cohort.get("images")), number(cohort.get("patients"))
    size = f", {show(images, 'count')} images" if images == images else ""
    size += f" of {show(patients, 'count')} patients" if size and patients == patients else ""
    settings = join(run.settings) or "no setting"
    revision = str(section(model, "weights").get("revision") or "")
    unknown = " (weights unknown to its card)" if revision.startswith("unknown") else ""
    where = str(cohort.get("name") or cohort.get("dataset") or "the cohort")
    return (
        f"Can {name}{unknown} be trusted on {where}{size}, how should it be adapted ({settings}), "
        "and does it look at the right place?"
    )


def findings(run: RunContents) -> tuple[str, ...]:
    """Sentences in order of weight; each is left out when its numbers are missing."""
    made = (
        *(_decisions(run), _ranking(run), _few(run), _separability(run), _localization(run)),
        *(believed(run), _differences(run)),
    )
    return tuple(sentence for sentence in made if sentence)


def join(names: Sequence[str]) -> str:
    """Names in running text: a, b and c."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _ordered(run: RunContents, key: str) -> list[tuple[str, float]]:
    rows = run.of("overall")
    values = [(setting, number(rows.get(setting, {}).get(key))) for setting in run.settings]
    return sorted(((s, v) for s, v in values if math.isfinite(v)), key=lambda pair: -pair[1])


def _chain(pairs: Sequence[tuple[str, float]], kind: Kind) -> str:
    return join([f"{setting} {show(value, kind)}" for setting, value in pairs])


def _decisions(run: RunContents) -> str:
    pairs = _ordered(run, "macro_f1")
    if not pairs:
        return ""
    text = f"Yes-or-no decisions: macro F1 is {_chain(pairs, 'share')}."
    always = [value for _, value in _ordered(run, "macro_f1_always_positive")]
    if always:
        text += f" Answering yes to everything already scores {show(always[0], 'share')}"
        below = [setting for setting, value in pairs if value <= always[0]]
        if below:
            text += f"; {join(below)} {'does' if len(below) == 1 else 'do'} no better than that"
        text += "."
    gaps = dict(_ordered(run, "macro_f1_oracle"))
    top, value = pairs[0]
    if top in gaps and gaps[top] - value >= 0.0005:
        text += (
            f" Thresholds tuned on the test split itself would have shown {show(gaps[top], 'share')} for {top}: "
            "that is not to be had."
        )
    return text


def _ranking(run: RunContents) -> str:
    pairs = _ordered(run, "macro_auroc")
    if not pairs:
        return ""
    text = (
        f"Ranking images by score: macro AUROC is {_chain(pairs, 'share')}, where 0.500 is chance, "
        "whatever the threshold."
    )
    counts = []
    for setting, _ in pairs:
        values = [
            number(row.get("auroc"))
            for row in run.tables["per_label"]
            if row.get("setting") == setting and row.get("label") in run.estimable
        ]
        values = [value for value in values if math.isfinite(value)]
        if values:
            counts.append(f"{setting} {sum(v < 0.5 for v in values)} of {len(values)}")
    if counts:
        text += f" Below chance among the labels with at least {FEW} positives: {join(counts)}."
    return text


def _few(run: RunContents) -> str:
    few = [x for x in run.labels if x not in run.estimable and math.isfinite(run.test_positives(x))]
    if not few:
        return ""
    verb = "has" if len(few) == 1 else "have"
    return (
        f"Too few to judge: {join(few)} {verb} fewer than {FEW} positives in the test split; treat "
        f"{'its' if len(few) == 1 else 'their'} figures as not estimable. "
        "They still count in the macro means where they are defined."
    )


def _separability(run: RunContents) -> str:
    pairs = _ordered(run, "separability_ratio")
    nulls = dict(_ordered(run, "separability_ratio_null"))
    if not pairs:
        return ""
    stated = [
        f"{setting} {show(value, 'share')}"
        + (f" (shuffled labels give {show(nulls[setting], 'share')})" if setting in nulls else "")
        for setting, value in pairs
    ]
    return f"Embedding space: the inter/intra-class ratio is {join(stated)}."


def _localization(run: RunContents) -> str:
    found = best_lift(run)
    if found is None:
        return ""
    method = found.method if found.among > 1 and len({row["method"] for row in run.tables["trust_cards"]}) > 1 else ""
    where = ", ".join(word for word in (found.setting, map_words(method, found.layer)) if word)
    counted = f"; {_counted(found)}" if _counted(found) else ""
    text = (
        f"Where it looks: the highest lift over the annotated regions is {show(found.lift, 'number')} "
        f"({where}{counted}), where 1 is a map spread evenly."
    )
    if math.isfinite(found.rival) and math.isfinite(found.own):
        there = f"{found.pairs:.0f} of these regions" if math.isfinite(found.pairs) else "these regions"
        text += (
            f" The best map that never saw the image reaches {show(found.rival, 'number')} on {there}, "
            f"the heatmaps there {show(found.own, 'number')}"
        )
        if found.rival >= found.own:
            text += ": they point no better than that."
        elif found.tested and not found.beats:
            why = "may be chance" if found.beats is False else "cannot be told from chance"
            text += f": the difference {why}."
        else:
            text += ", which is more than chance." if found.beats else "."
        if found.beats and found.among > 1:
            text += f" It is the highest of {found.among} kinds of map, which flatters it."
    if not found.images >= FEW and math.isfinite(found.images):
        text += f" Fewer than {FEW} images: treat as not estimable."
    return text


def _counted(found: BestLift) -> str:
    """39 regions on 8 images of 6 patients; a region is all that is marked of one label on one image."""
    regions, images, patients = (
        f"{count:.0f} {noun if count == 1 else noun + 's'}" if math.isfinite(count) else ""
        for count, noun in ((found.regions, "region"), (found.images, "image"), (found.patients, "patient"))
    )
    text = f"{regions} on {images}" if regions and images else regions or images
    return f"{text} of {patients}" if text and patients else text


def _differences(run: RunContents) -> str:
    """Which settings differ by more than chance, or that the run did not look."""
    if not run.tables["differences"]:
        if len(run.settings) < 2:
            return "" if run.tables["intervals"] else "No intervals: a figure here may be off by chance alone."
        return (
            "No intervals and no tests: an order of settings above is what this test split shows, "
            "not a difference that has been shown to be real."
        )
    shown = []
    for metric, words in (("macro_f1", "macro F1"), ("macro_auroc", "macro AUROC")):
        for row in run.tables["differences"]:
            if row.get("scope") != "overall" or row.get("metric") != metric:
                continue
            if run.differs(row["a"], row["b"], "overall", "overall", metric):
                low, high, value = (number(row.get(key)) for key in ("low", "high", "difference"))
                better, worse = (row["a"], row["b"]) if value > 0 else (row["b"], row["a"])
                ends = sorted((abs(low), abs(high)))
                shown.append(
                    f"{better} over {worse} in {words} by {show(abs(value), 'share')} "
                    f"({show(ends[0], 'share')} to {show(ends[1], 'share')})"
                )
    if not shown:
        return (
            "Differences between settings: none in macro F1 or macro AUROC is larger than chance may make it "
            "(paired intervals over patients and permutation tests)."
        )
    return f"Differences between settings that chance does not explain: {join(shown)}."
