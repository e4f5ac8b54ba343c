"""Whether a zero-shot map follows what the text says: against nonsense, the denial, and the other side of the body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import Tensor

from radlens.core.classifier import Classifier
from radlens.core.regions import SaliencyMaps
from radlens.core.undefined import mean_of_defined
from radlens.core.vocabulary import Label
from radlens.explain.baselines import Grid
from radlens.explain.localization_table import ALL
from radlens.explain.maps import saliency_maps
from radlens.explain.sentences import sentence_classifier
from radlens.explain.trust.evidence import evidence
from radlens.explain.trust.paired import Answer, Comparison, answers, decisive
from radlens.explain.trust.specificity import energy_on_grid
from radlens.explain.trust.targets import rows_of_labels

Array = npt.NDArray[np.float64]
CHECK = "text"
NO_TEXT = "no text in this setting"
NONSENSE = (
    "of the which and by those were from",
    "at this but or had it then with a",
    "not only as for such an be when to",
)
"""Word salad: the commonest words of English, which every tokenizer knows, in an order that says nothing."""
SIDES = ("left", "right")
ONE_SIDED = 0.9
"""Share of a region that must lie in one half of what the model sees for it to have a side."""
_ENOUGH = 0.5
"""Share of a label's regions that must have a side for the sides to count; the heart, say, has none."""


def made_of_texts(classifier: Classifier) -> bool:
    """Whether each logit is a comparison with sentences and nothing else: a linear head of prompts, untrained."""
    card = classifier.card
    return classifier.head.kind == "linear" and "prompts" in card and card.get("trainable_parameters") == 0


def text_controls(
    classifier: Classifier,
    pixels: Iterable[Tensor | npt.NDArray[np.float32]],
    patients: Mapping[str, str],
    maps: SaliencyMaps,
    regions: Mapping[tuple[str, str], Grid],
    *,
    seed: int = 0,
) -> pl.DataFrame:
    """Evidence `text`: whether a label's map follows the label's words, for every method and layer of `maps`.

    pixels: batches in the order of the maps' images; their size bounds the memory. regions: (image id, label) -> share
    of each patch. All energies are those of `energy_on_grid`, paired by image. Three comparisons, all of which must
    hold: in the label's region, the label's map against the maps of three sentences of nonsense (their mean) and
    against the maps of its own denials (`negative` prompts, each alone; their mean), which share all words but the
    finding's presence; and, in the half where a region lies, the map of "<the first positive prompt> on the left"
    against "... on the right", the true side first. The patient's left is the image's right. The sides are left out
    where under half of a label's regions lie in one half. Label `all` takes every pair with the same weight. The row
    shows the comparison that decides.
    A setting whose head is not made of texts gets rows without an answer and with the reason `NO_TEXT`.
    """
    labels = [label for label in classifier.vocabulary.labels if any(of == label.name for _, of in regions)]
    keys = [(method, layer) for method in maps.methods for layer in maps.layers]
    if not made_of_texts(classifier):
        nothing: dict[str, object] = {"setting": classifier.setting, "check": CHECK, "reason": NO_TEXT}
        return evidence(
            [nothing | {"method": m, "layer": k, "label": of} for of in (*maps.labels, ALL) for m, k in keys]
        )
    if classifier.encoder is None:
        raise ValueError(f"setting {classifier.setting!r} has no encoder attached; load its model to explain it.")
    said = sentence_classifier(classifier.encoder, _sentences(labels))
    found: dict[tuple[str, str], Array] = {}
    start = 0
    for batch in pixels:
        part = maps.image_ids[start : start + len(batch)]
        drawn = saliency_maps(said, [batch], part, maps.methods, maps.layers)
        for index, image in enumerate(part):
            for label in labels:
                region = regions.get((image, label.name))
                if region is not None:
                    own = maps.maps[start + index, maps.labels.index(label.name)]
                    found[image, label.name] = _energies(label, own, drawn, index, region)
        start += len(part)
    if start != len(maps.image_ids):
        raise ValueError(f"{len(maps.image_ids)} images with maps, but pixels of {start}.")
    rows: list[dict[str, object]] = []
    pairs = sorted(found, key=lambda pair: maps.labels.index(pair[1]))
    for of, chosen in rows_of_labels([label for _, label in pairs]).items():
        table = np.stack([found[pairs[row]] for row in chosen]).reshape(len(chosen), 5, -1)
        several = _compared(table, [patients[pairs[row][0]] for row in chosen], seed)
        for at, (method, layer) in enumerate(keys):
            key = {"setting": classifier.setting, "method": method, "layer": layer, "label": of, "check": CHECK}
            rows.append(key | _row([one[at] for one in several]))
    return evidence(rows)


def side_of(region: Grid) -> str | None:
    """The patient's side on which a region lies, `left` or `right`; None where it lies on both."""
    share = float((region * half_of(region.shape, "left")).sum() / region.sum())
    return "left" if share >= ONE_SIDED else "right" if share <= 1 - ONE_SIDED else None


def half_of(shape: tuple[int, ...], side: str) -> Grid:
    """(rows, columns): share of each patch in the patient's left or right half; the left is at the image's right."""
    rows, columns = shape
    left: Grid = np.clip(np.arange(columns) + 1 - columns / 2, 0, 1).astype(np.float32)
    return np.tile(left if side == "left" else 1 - left, (rows, 1))


def sided(label: Label, side: str) -> str:
    """The label's sentence with a side in it."""
    return f"{label.positive[0]} on the {side}"


def _sentences(labels: Sequence[Label]) -> list[str]:
    of_labels = [text for label in labels for text in (*label.negative, *(sided(label, side) for side in SIDES))]
    # two labels may be denied in the same words
    return list(dict.fromkeys([*NONSENSE, *of_labels]))


def _energies(label: Label, own: npt.NDArray[np.floating], drawn: SaliencyMaps, image: int, region: Grid) -> Array:
    """(5, methods, layers): in the region the map's own, nonsense's, the denials'; in its half the true side's, the
    other's."""

    def of(texts: Sequence[str], place: Grid) -> Array:
        columns = [drawn.labels.index(text) for text in texts]
        energies: Array = energy_on_grid(drawn.maps[image, columns], place).mean(axis=0)
        return energies

    three = [energy_on_grid(own, region), of(NONSENSE, region), of(label.negative, region)]
    side = side_of(region)
    if side is None:
        return np.stack([*three, *[np.full_like(three[0], np.nan)] * 2])
    other = SIDES[1 - SIDES.index(side)]
    half = half_of(region.shape, side)
    return np.stack([*three, *(of([sided(label, one)], half) for one in (side, other))])


def _compared(table: Array, patients: Sequence[str], seed: int) -> list[list[Answer]]:
    own, nonsense, denial, true_side, other_side = table.swapaxes(0, 1)
    comparisons = [Comparison("nonsense", own, nonsense), Comparison("the sentence that denies it", own, denial)]
    if mean_of_defined((~np.isnan(true_side[:, :1])).astype(np.float64)) >= _ENOUGH:
        comparisons.append(Comparison("the sentence with the other side", true_side, other_side))
    return [answers(one, patients, seed=seed) for one in comparisons]


def _row(several: Sequence[Answer]) -> dict[str, object]:
    told = [
        f"in the region lies {one.value:.0%} of the map against {one.rival:.0%} for {one.rival_name} ({one.interval()})"
        for one in several[:2]
    ]
    told += [
        f"naming the finding's side puts {one.value:.0%} of the map in that half, naming the other {one.rival:.0%} "
        f"({one.interval()})"
        for one in several[2:]
    ]
    if len(several) < 3:
        told.append("sides were not compared, as few of its regions lie on one side")
    return decisive(several).row("; ".join(told))
