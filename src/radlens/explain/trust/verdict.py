"""The trust card: from the evidence of all checks to one verdict a map, with the reason for it in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from radlens.core.regions import SaliencyMaps
from radlens.explain.localization_table import ALL
from radlens.explain.maps import CONSTANT, LABEL_INVARIANT
from radlens.explain.trust import curves, lift, randomisation, specificity, stability, text_controls
from radlens.explain.trust.stability import FLOOR

BELIEVABLE, NOT_SHOWN, CONTRADICTED, REFUSED = "may be believed", "not shown", "contradicted", "refused"
VERDICTS = (BELIEVABLE, NOT_SHOWN, CONTRADICTED, REFUSED)
FAITHFUL = curves.CHECKS
STABLE = stability.STABILITY
NEEDED = (lift.CHECK, *FAITHFUL, randomisation.CHECK, specificity.CHECK, STABLE, text_controls.CHECK)
"""Checks that a map must have been put to, in the order of a sentence."""
FAITHFUL_NEEDED = 2
"""How many of the three checks of faithfulness must pass, while none of them fails: they fill what they remove in
different ways, each of which misleads at times."""
REFUSED_SHARE = 0.5
"""Share of constant, or of label-invariant, maps from which on all maps of a label and place are refused."""
_PLACE = ("setting", "method", "layer", "label")
FLAGS = dict.fromkeys(_PLACE, pl.String) | dict.fromkeys(("maps", "constant", "label_invariant"), pl.Int64)
"""Columns of the table of flags: how many maps there are, and how many of them carry each flag."""
CARDS = dict.fromkeys((*_PLACE, "verdict", "reason", "passed", "failed", "open", "missing"), pl.String)
"""Columns of the trust cards. passed, failed, open (put to, without an answer) and missing (never put to): names of
checks, separated by commas."""


def map_flags(results: Mapping[str, SaliencyMaps], images: Mapping[str, Iterable[str]] | None = None) -> pl.DataFrame:
    """Count flagged maps, with columns `FLAGS`, one row a setting, method, layer and label (`all`: together).

    images: label -> the images to count over, such as those with a region of it; None, or a label that is not in it:
    all of them.
    """
    rows = []
    for setting, maps in results.items():
        chosen = {label: set((images or {}).get(label, maps.image_ids)) for label in maps.labels}
        counted = np.array([[image in chosen[label] for label in maps.labels] for image in maps.image_ids])
        carried = {why: np.zeros(maps.maps.shape[:4], bool) for why in (CONSTANT, LABEL_INVARIANT)}
        for position, why in maps.flags.items():
            carried[why][position] = counted[position[:2]]
        figures = np.stack([np.broadcast_to(counted[..., None, None], maps.maps.shape[:4]), *carried.values()])
        sums = figures.sum(axis=1)
        # labels, and all of them together
        sums = np.concatenate([sums, sums.sum(axis=1, keepdims=True)], axis=1)
        for m, method in enumerate(maps.methods):
            for k, layer in enumerate(maps.layers):
                for column, label in enumerate((*maps.labels, ALL)):
                    rows.append((setting, method, layer, label, *(int(n) for n in sums[:, column, m, k])))
    return pl.DataFrame(rows, schema=FLAGS, orient="row")


def trust_cards(
    evidence: pl.DataFrame, flags: pl.DataFrame, dead_sites: Mapping[tuple[str, str], str] | None = None
) -> pl.DataFrame:
    """One verdict a setting, method, layer and label, with columns `CARDS`; what is not shown is never believed.

    evidence: rows of all checks together. flags: as `map_flags` makes them; every row of it gets a card, and so does
    all that stands in the evidence. dead_sites: (setting, layer) -> why no gradient reaches it; a card for each that
    stands in no table has method and label `all`.

    `refused`: the maps mean nothing, whatever they score: the site has no gradient, or at least half of the maps are
    constant, or the same for every label. `contradicted`: a check failed, its interval on the wrong side.
    `may be believed`: lift, randomisation, class-specific and stability passed, of deletion, insertion and road at
    least two passed and none is missing, text passed (or the setting has none), and nothing failed. `not shown`: all
    else, with what is open or missing. A check with several rows passes when all of them do, fails when any does.
    """
    dead = dict(dead_sites or {})
    found: dict[tuple[str, ...], list[dict[str, object]]] = {}
    flagged: dict[tuple[str, ...], dict[str, int]] = {}
    for row in flags.iter_rows(named=True):
        place = tuple(row[name] for name in _PLACE)
        flagged[place] = row
        found.setdefault(place, [])
    for row in evidence.iter_rows(named=True):
        found.setdefault(tuple(row[name] for name in _PLACE), []).append(row)
    seen = {(setting, layer) for setting, _, layer, _ in found}
    for setting, layer in dead:
        if (setting, layer) not in seen:
            found[setting, ALL, layer, ALL] = []
    cards = []
    for place, rows in found.items():
        why = _refusal(flagged.get(place), dead.get((place[0], place[2])))
        cards.append((*place, *_card(rows, why)))
    return pl.DataFrame(cards, schema=CARDS, orient="row")


def _refusal(flags: Mapping[str, int] | None, dead: str | None) -> str | None:
    if dead is not None:
        return f"zero gradient: {dead}"
    if flags is None or not flags["maps"]:
        return None
    count = flags["maps"]
    if flags["constant"] >= REFUSED_SHARE * count:
        return f"constant maps: {flags['constant']} of {count} mark every place alike or none"
    if flags["label_invariant"] >= REFUSED_SHARE * count:
        return f"label-invariant maps: {flags['label_invariant']} of {count} are the same whatever the label"
    return None


def _card(rows: Sequence[Mapping[str, object]], refusal: str | None) -> tuple[str, ...]:
    said: dict[str, list[Mapping[str, object]]] = {}
    for row in rows:
        if row["reason"] != text_controls.NO_TEXT:
            said.setdefault(str(row["check"]), []).append(row)
    spared = {text_controls.CHECK} if any(row["reason"] == text_controls.NO_TEXT for row in rows) else set()
    order = [*NEEDED, *sorted(set(said) - set(NEEDED))]
    state = {check: _together([row["passed"] for row in said[check]]) for check in order if check in said}
    passed, failed, undecided = ([c for c in state if state[c] is answer] for answer in (True, False, None))
    missing = [check for check in NEEDED if check not in state and check not in spared]
    verdict, reason = _verdict(passed, failed, undecided, missing, said)
    if refusal is not None:
        verdict, reason = REFUSED, f"Refused, {refusal}."
    return verdict, reason, *(", ".join(names) for names in (passed, failed, undecided, missing))


def _together(answers: Sequence[object]) -> bool | None:
    if any(answer is False for answer in answers):
        return False
    return True if all(answer is True for answer in answers) else None


def _verdict(
    passed: Sequence[str],
    failed: Sequence[str],
    undecided: Sequence[str],
    missing: Sequence[str],
    said: Mapping[str, Sequence[Mapping[str, object]]],
) -> tuple[str, str]:
    def told(checks: Iterable[str], answer: object) -> str:
        return "; ".join(str(row["reason"]) for check in checks for row in said[check] if row["passed"] is answer)

    if failed:
        return CONTRADICTED, f"Contradicted by {_names(failed)}: {told(failed, False)}."
    # one open check of faithfulness may be spared
    faithful = sum(check in passed for check in FAITHFUL)
    blocking = [c for c in undecided if c in NEEDED and not (c in FAITHFUL and faithful >= FAITHFUL_NEEDED)]
    if not blocking and not missing:
        return BELIEVABLE, f"May be believed: {told(passed, True)}."
    parts = [f"no answer from {_names(blocking)} ({told(blocking, None)})"] if blocking else []
    parts += [f"never put to {_names(missing)}"] if missing else []
    return NOT_SHOWN, f"Not shown: {' and '.join(parts)}."


def _names(checks: Sequence[str]) -> str:
    return ", ".join(checks)


def _definition(column: str, text: str, source: str) -> dict[str, object]:
    return {"column": column, "table": "trust", "text": text, "direction": "none", "bounds": None, "source": source}


DEFINITIONS: list[dict[str, object]] = [
    _definition(
        "lift",
        "Lift of the maps on the regions - lift of the nearest of three maps that never saw the image (centre, the "
        "label's mean region over other patients, another patient's map), on the same image-label pairs.",
        "METHODS section 6",
    ),
    _definition(
        "randomisation",
        "Likeness (Spearman over patches) between maps of different patients - likeness of each map to its own after "
        f"all weights were permuted inside their tensors, {randomisation.DRAWS} times at most, each for its own "
        f"patients; may fall to -{randomisation.MARGIN:g}.",
        "Adebayo et al., NeurIPS 2018, section 3",
    ),
    _definition(
        "deletion",
        "Mean fall of the logit while the patches are blurred one after another, the highest of the map first - the "
        "same in random order, and - the same in the order of the label's mean region; the nearer of the two is shown.",
        "METHODS section 6; Petsiuk et al., BMVC 2018, on logits",
    ),
    _definition(
        "insertion",
        "Mean rise of the logit while the patches are put back on the blurred image in the order of the map - the same "
        "for the two other orders.",
        "METHODS section 6; Petsiuk et al., BMVC 2018, on logits",
    ),
    _definition(
        "road",
        "As deletion, but what is removed is filled in from what is left, so that the hole itself shows less.",
        "Rong et al., ICML 2022",
    ),
    _definition(
        "stability",
        f"Likeness (Spearman) between the map of an image and that of the same image moved by half a patch - likeness "
        f"to another patient's map, and - {FLOOR:g}.",
        "METHODS section 6",
    ),
    _definition(
        "seeds",
        f"Likeness (Spearman) between the maps of two trainings from different seeds - likeness to another patient's "
        f"map, and - {FLOOR:g}; only where a setting was fitted with several seeds.",
        "METHODS section 6",
    ),
    _definition(
        "class-specific",
        "Energy of a label's map in its own regions - mean energy there of the maps of labels without a region in "
        "the image, on the patch grid.",
        "METHODS section 6",
    ),
    _definition(
        "text",
        "Zero-shot alone: energy of the label's map in its region - that of three sentences of nonsense, and - that of "
        "its denials; and energy in the half where the finding lies, that side named - the other side named.",
        "METHODS section 6",
    ),
    _definition(
        "verdict",
        "Refused: no gradient at the site, or half of the maps constant or the same for every label. Contradicted: a "
        "check's 95 % interval over patients lies on the wrong side. May be believed: lift, randomisation, "
        "class-specific, stability and text (where the setting has texts) passed, two of deletion, insertion and road "
        "passed, none failed, none missing. Not shown: all else, and whatever rests on fewer than 10 patients.",
        "our own rule",
    ),
]
"""What the checks and the verdict mean, in the terms of the other tables' definitions."""
