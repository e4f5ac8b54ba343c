"""Whether maps show what the model learned: with its weights re-drawn, they must no longer look as they did."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from scipy.stats import rankdata
from torch import Tensor

from radlens.core.classifier import Classifier, Encoder
from radlens.core.errors import ExplainError
from radlens.core.patient_means import patient_means
from radlens.core.regions import SaliencyMaps
from radlens.core.undefined import quotient
from radlens.explain.maps import saliency_maps
from radlens.explain.sites import random_direction, random_tokens
from radlens.explain.trust.evidence import evidence
from radlens.explain.trust.paired import Answer, Comparison, answers
from radlens.explain.trust.targets import rows_of_labels

Array = npt.NDArray[np.float64]
Batches = Sequence[Tensor | npt.NDArray[np.float32]]
CHECK = "randomisation"
STAGES = (0.0, 1 / 3, 2 / 3, 1.0)
"""Share of the blocks that is re-drawn, from the last one down. The head, and what stands between it and the blocks, is
always re-drawn; at 1 the patch embedding is too, so that nothing learned is left."""
MARGIN = 0.1
"""Rank correlation by which maps of the re-drawn model may still be nearer than those of other patients."""
DRAWS = 24
"""Sets of new weights, each for patients of its own: maps of one re-drawn model are alike for reasons of that draw."""
_NAMES = dict.fromkeys(("setting", "method", "layer", "label", "stage"), pl.String)
_FIGURES = dict.fromkeys(("similarity", "low", "high"), pl.Float64)
CURVE = _NAMES | {"blocks": pl.Int64} | _FIGURES | {"images": pl.Int64, "patients": pl.Int64}
"""Columns of the curve: one row a map and stage, and one of stage `other patients`, where it should end. blocks: null
where it is not of some blocks. low, high: 95 % over draws, each with its own patients; NaN below 10 of them."""
OTHER_PATIENTS = "other patients"
_NO_ENCODER = "setting {!r} has no encoder attached; load its model to explain it."
_THEIRS = "maps of other patients"


def randomisation(
    classifier: Classifier,
    pixels: Batches,
    patients: Mapping[str, str],
    maps: SaliencyMaps,
    targets: Iterable[tuple[str, str]],
    *,
    seed: int,
    stages: Sequence[float] = STAGES,
    draws: int = DRAWS,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Evidence `randomisation`, and the curve of similarities (`CURVE`), of maps drawn anew as weights are re-drawn.

    pixels: a list of batches (b, 3, H, W) of any size, in the order of the maps' images.
    maps: the model's own maps, with the methods and layers to check. targets: (image id, label) pairs to compare; `all`
    takes every pair with the same weight. stages: rising shares of blocks, the last one 1. draws: at most so many sets
    of weights; patients are dealt out among them, so that each image is drawn once a stage.
    Weights are permuted inside each tensor, which keeps its mean and spread (constant tensors stay as they are), on a
    copy of the encoder; a tensor keeps its new values from stage to stage. Similarity is Spearman's correlation over
    patches; a constant map has none, and counts nowhere. It passes when, after the last stage, the likeness to the
    model's own map exceeds that between maps of different patients (of the same label; of any image where no other
    patient has it) by no more than `MARGIN`, at the far end of the interval; it fails when even the near end does. The
    interval is over draws with their patients: patients that share a draw are not independent, and one draw says
    nothing of another. value: likeness after the last stage; rival: likeness between patients.
    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, section 3; the dealing out is ours.
    Raises `ExplainError` where blocks are not parts of the image tower, `ValueError` for other stages, or
    pixels of other images.
    """
    if classifier.encoder is None:
        raise ExplainError(_NO_ENCODER.format(classifier.setting))
    cascade = _cascade(stages, len(classifier.encoder.blocks))
    rows_of = [(number, row) for number, batch in enumerate(pixels) for row in range(len(batch))]
    if len(rows_of) != len(maps.image_ids):
        raise ValueError(f"maps of {len(maps.image_ids)} images, but pixels of {len(rows_of)}.")
    place = {image: index for index, image in enumerate(maps.image_ids)}
    wanted = sorted({(place[image], maps.labels.index(label)) for image, label in targets})
    if not wanted:
        return evidence([]), pl.DataFrame(schema=CURVE)
    of = [patients[maps.image_ids[image]] for image, _ in wanted]
    turn = {patient: number % draws for number, patient in enumerate(dict.fromkeys(of))}
    # (T, methods, layers, P): only what is compared is kept
    trained = _ranks(np.stack([maps.maps[at] for at in wanted]))
    similar = np.full((len(cascade) + 1, *trained.shape[:-1]), np.nan)
    for draw in range(max(turn.values()) + 1):
        rows = [row for row, patient in enumerate(of) if turn[patient] == draw]
        images = list(dict.fromkeys(wanted[row][0] for row in rows))
        ids = [maps.image_ids[image] for image in images]
        these = torch.stack([torch.as_tensor(pixels[number][row]) for number, row in (rows_of[at] for at in images)])
        for stage, (_, blocks) in enumerate(cascade):
            redrawn = redraw(classifier, blocks, seed=seed, draw=draw)
            drawn = saliency_maps(redrawn, [these], ids, maps.methods, maps.layers).maps
            anew = _ranks(np.stack([drawn[images.index(wanted[row][0]), wanted[row][1]] for row in rows]))
            similar[stage, rows] = (trained[rows] * anew).sum(axis=-1)
    similar[-1] = _between_patients(trained, wanted, maps, patients)
    cascade.append((OTHER_PATIENTS, None))
    return _tables(classifier.setting, maps, wanted, of, [str(turn[one]) for one in of], cascade, similar, seed)


def redraw(classifier: Classifier, blocks: int | None, *, seed: int, draw: int = 0) -> Classifier:
    """The classifier with permuted weights in its head, in what pools, and in its last `blocks` blocks.

    blocks: None for all of them and all that lies below. The encoder is a copy; the classifier's own stays as it is.
    """
    if classifier.encoder is None:
        raise ExplainError(_NO_ENCODER.format(classifier.setting))
    above, inside, below = _tensor_names(classifier.encoder)
    last = inside if blocks is None else inside[len(inside) - blocks :]
    chosen = [*above, *(name for block in last for name in block), *(below if blocks is None else ())]
    state = classifier.encoder.image_module.state_dict()
    head = copy.deepcopy(classifier.head)
    head.load_state_dict(_permuted(head.state_dict(), list(head.state_dict()), (seed, draw, 0)))
    changed = classifier.encoder.with_image_tensors(_permuted(state, chosen, (seed, draw, 1)))
    return replace(classifier, head=head, encoder=changed)


def _cascade(stages: Sequence[float], depth: int) -> list[tuple[str, int | None]]:
    """Name and number of blocks of each stage, None for all weights; few blocks make fewer stages."""
    if not stages or stages[0] < 0 or stages[-1] != 1 or list(stages) != sorted(set(stages)):
        raise ValueError(f"stages must rise to 1 from 0 or more, found {list(stages)}.")
    counts = dict.fromkeys(round(share * depth) for share in stages[:-1])
    partly: list[tuple[str, int | None]] = [
        ("head" if not count else f"head and last {count} blocks", count) for count in counts
    ]
    return [*partly, ("all weights", None)]


def _permuted(state: Mapping[str, Tensor], names: Iterable[str], seed: tuple[int, ...]) -> dict[str, Tensor]:
    numbers = {name: number for number, name in enumerate(sorted(state))}
    found = {}
    for name in names:
        tensor = state[name]
        # a stream of its own, so that a tensor is the same at every stage that re-draws it
        random = np.random.default_rng([*seed, numbers[name]])
        order = torch.from_numpy(random.permutation(tensor.numel())).to(tensor.device)
        found[name] = tensor.detach().flatten()[order].reshape(tensor.shape).clone()
    return found


def _tensor_names(encoder: Encoder) -> tuple[list[str], list[list[str]], list[str]]:
    """Names of the image tower's weights: those that pool, each block's, and all others (below the blocks)."""
    copied = encoder.with_image_tensors({})
    module = copied.image_module
    paths = {id(part): path for path, part in module.named_modules()}
    strange = next((i for i, block in enumerate(copied.blocks) if id(block) not in paths), None)
    if strange is not None:
        raise ExplainError(
            f"block {strange} of {encoder.name} is no part of its image tower, so it cannot be re-drawn."
        )
    parameters = dict(module.named_parameters())
    inside = [[f"{paths[id(block)]}.{name}" for name, _ in block.named_parameters()] for block in copied.blocks]
    of_blocks = {name for block in inside for name in block}
    rest = {name: weight.requires_grad_(True) for name, weight in parameters.items() if name not in of_blocks}
    if not rest:
        return [], inside, []
    with torch.no_grad():
        tokens = random_tokens(copied)
        # stages of a convolutional tower change the width of what they are given
        for block in copied.blocks:
            tokens = block(tokens)
    with torch.enable_grad():
        embedding = copied.pool(tokens.detach().requires_grad_(True))
        target = (embedding * random_direction(embedding)).sum()
        # which weights pool is measured, not looked up: towers name and place them differently
        found = torch.autograd.grad(target, list(rest.values()), allow_unused=True)
    above = [name for name, gradient in zip(rest, found, strict=True) if gradient is not None]
    return above, inside, [name for name in rest if name not in above]


def _ranks(maps: npt.NDArray[np.floating]) -> Array:
    """(..., rows, columns) -> (..., P): centred ranks of length one, so that a product is Spearman's correlation.

    A constant map has no ranks: NaN.
    """
    ranks = rankdata(maps.reshape(*maps.shape[:-2], -1), axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(ranks, axis=-1, keepdims=True)
    unit: Array = np.divide(ranks, length, out=np.full_like(ranks, np.nan), where=length > 0)
    return unit


def _between_patients(
    trained: Array, wanted: Sequence[tuple[int, int]], maps: SaliencyMaps, patients: Mapping[str, str]
) -> Array:
    """(T, methods, layers): mean correlation of each map with those of other patients for the same label."""
    of = [patients[image] for image in maps.image_ids]
    found = np.full(trained.shape[:-1], np.nan)
    for label in {label for _, label in wanted}:
        rows = [row for row, at in enumerate(wanted) if at[1] == label]
        own = [of[wanted[row][0]] for row in rows]
        strangers, whose = trained[rows], own
        if len(set(own)) == 1:
            strangers, whose = _ranks(maps.maps[:, label]), of
        known: npt.NDArray[np.bool_] = np.isfinite(strangers[..., 0])
        filled = np.nan_to_num(strangers)
        for patient in set(own):
            others = [row for row, one in enumerate(whose) if one != patient]
            # a mean of products is the product with the mean: no pair is ever stored
            mean = quotient(filled[others].sum(axis=0), known[others].sum(axis=0)[..., None])
            mine = [row for row, one in zip(rows, own, strict=True) if one == patient]
            found[mine] = (trained[mine] * mean).sum(axis=-1)
    return found


def _tables(
    setting: str,
    maps: SaliencyMaps,
    wanted: Sequence[tuple[int, int]],
    patients: Sequence[str],
    draws: Sequence[str],
    cascade: Sequence[tuple[str, int | None]],
    similar: Array,
    seed: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows: list[dict[str, object]] = []
    curve: list[tuple[object, ...]] = []
    keys = [(method, layer) for method in maps.methods for layer in maps.layers]
    for label, chosen in rows_of_labels([maps.labels[column] for _, column in wanted]).items():
        of, units = [patients[row] for row in chosen], [draws[row] for row in chosen]
        figures = similar[:, chosen].reshape(len(similar), len(chosen), -1)
        means = [patient_means(one, units, seed=seed) for one in figures]
        found = answers(Comparison(_THEIRS, figures[-2], figures[-1]), units, margin=MARGIN, higher=False, seed=seed)
        for at, (method, layer) in enumerate(keys):
            key = {"setting": setting, "method": method, "layer": layer, "label": label}
            both = np.isfinite(figures[-2:, :, at]).all(axis=0)
            rows.append(key | {"check": CHECK} | _row(found[at], len({of[row] for row in np.flatnonzero(both)})))
            for (stage, blocks), mean, figure in zip(cascade, means, figures, strict=True):
                counted = len({of[row] for row in np.flatnonzero(np.isfinite(figure[:, at]))})
                numbers = (one[at].item() for one in (mean.value, mean.low, mean.high, mean.images))
                curve.append((*key.values(), stage, blocks, *numbers, counted))
    return evidence(rows), pl.DataFrame(curve, schema=CURVE, orient="row")


def _row(answer: Answer, patients: int) -> dict[str, object]:
    draws = answer.patients
    # what answers is told as patients are draws here
    why = None if answer.no_interval is None else answer.no_interval.replace("patients", "draws with own patients")
    told = replace(answer, patients=patients, no_interval=why)
    if not patients:
        return told.row("randomisation cannot be told: there are no maps to compare, or none of another patient")
    return told.row(
        f"with all weights re-drawn {draws} times the map is like its own by {answer.value:.2f} (rank correlation), "
        f"{_THEIRS} are by {answer.rival:.2f} ({told.interval()}; down to -{MARGIN:g} is allowed)"
    )
