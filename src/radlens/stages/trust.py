"""Whether each setting's maps may be believed: the checks, and the verdict that they allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.classifier import Classifier, load_classifier
from radlens.core.explain_spec import TrustSpec
from radlens.core.regions import Geometry, SaliencyMaps
from radlens.core.store import fingerprint, source_digest, write_json, writing
from radlens.explain.baselines import Grid, label_priors
from radlens.explain.localization_targets import NO_LAYER
from radlens.explain.trust.evidence import evidence
from radlens.explain.trust.faithfulness import faithfulness
from radlens.explain.trust.lift import lift_check
from radlens.explain.trust.randomisation import randomisation
from radlens.explain.trust.specificity import class_specificity, region_grids
from radlens.explain.trust.stability import seed_stability, shift_stability
from radlens.explain.trust.text_controls import text_controls
from radlens.explain.trust.verdict import DEFINITIONS, map_flags, trust_cards
from radlens.stages.context import Context
from radlens.stages.evaluate import write_csv
from radlens.stages.plan import Plan

FAITHFULNESS = ("deletion", "insertion", "road")
_BATCH = 8
Target = tuple[str, str]
Regions = Mapping[Target, Grid]


@dataclass(frozen=True)
class _Tested:
    """What is put to the checks: (image id, label) pairs, their images in the maps' order, and known regions."""

    targets: list[Target]
    image_ids: list[str]
    regions: Regions
    priors: Mapping[Target, Grid]


def judge_maps(context: Context, plan: Plan, maps: Mapping[str, SaliencyMaps], pairs: pl.DataFrame | None) -> None:
    """`tables/trust_evidence.csv`, `trust_cards.csv` and the curves behind them.

    pairs: scores of each map against each region, None where no region is known: then nothing can be believed.
    """
    run, spec = context.run, plan.spec.trust

    # asked for only where something is left to do: both need the model's input size, and so the model
    @cache
    def regions() -> Regions:
        return _regions(context, plan, next(iter(maps.values())))

    @cache
    def tested() -> _Tested:
        return _tested(plan, spec or TrustSpec(), maps, regions())

    checked: list[pl.DataFrame] = []
    curves: dict[str, list[pl.DataFrame]] = {}
    for setting in maps if spec is not None else ():
        table, drawn = _checked(context, plan, spec or TrustSpec(), setting, maps[setting], tested)
        checked.append(table)
        for name, curve in drawn.items():
            curves.setdefault(name, []).append(curve)
    keys = [stage.key for name, stage in run.stages.items() if name.startswith(("maps:", "trust:"))]
    asked = None if spec is None else spec.model_dump()
    key = fingerprint(keys, plan.test.annotations, asked, context.spec.seed, source_digest("radlens.explain"))

    def make() -> Iterable[Path]:
        seed, films = context.spec.seed, plan.films
        found = list(checked)
        if spec is not None and "seeds" in spec.checks:
            found += _over_seeds(context, plan, maps, tested())
        if pairs is not None:
            found.append(lift_check(pairs, seed=seed))
            found.append(_once(class_specificity(maps, regions(), films.patients, seed=seed), maps))
        images: dict[str, list[str]] = {}
        for image_id, label in regions():
            images.setdefault(label, []).append(image_id)
        flags = _once(map_flags(maps, images or None), maps)
        together = pl.concat([evidence([]), *found])
        tables = {"trust_evidence": together, "trust_cards": trust_cards(together, flags)}
        tables |= {name: pl.concat(parts) for name, parts in curves.items()}
        for name, table in tables.items():
            write_csv(run.folder / "tables" / f"{name}.csv", table)
        write_json(run.folder / "tables" / "trust_definitions.json", DEFINITIONS)
        return [run.folder / "tables" / name for name in ("trust_definitions.json", *(f"{n}.csv" for n in tables))]

    run.stage("trust", key, make)


def _regions(context: Context, plan: Plan, maps: SaliencyMaps) -> Regions:
    annotations = plan.test.annotations
    if annotations is None or not annotations.regions:
        return {}
    size = context.encoder().transform.size
    geometries = {image_id: Geometry(*plan.films[image_id], size) for image_id in plan.test.image_ids}
    rows, columns = maps.maps.shape[-2:]
    return region_grids(annotations, plan.test.image_ids, maps.labels, geometries, (rows, columns))


def _tested(plan: Plan, spec: TrustSpec, maps: Mapping[str, SaliencyMaps], regions: Regions) -> _Tested:
    """At most `pairs` images a label, of as many patients as there are; with a region, where any is known."""
    known = list(regions) or plan.films.positives(plan.test.image_ids)
    of_label: dict[str, list[str]] = {}
    for image_id, label in known:
        of_label.setdefault(label, []).append(image_id)
    chosen: list[Target] = []
    for label, images in of_label.items():
        seen: dict[str, int] = {}
        turns = []
        for place, image_id in enumerate(images):
            patient = plan.films.patients[image_id]
            turns.append((seen.get(patient, 0), place, image_id))
            seen[patient] = seen.get(patient, 0) + 1
        # the first image of every patient before the second of any
        chosen += [(image_id, label) for _, _, image_id in sorted(turns)[: spec.pairs]]
    wanted = {image_id for image_id, _ in chosen}
    ids = [image_id for image_id in next(iter(maps.values())).image_ids if image_id in wanted]
    priors: dict[Target, Grid] = {}
    for label in of_label:
        grids = {image_id: grid for (image_id, of), grid in regions.items() if of == label}
        priors |= {(image_id, label): prior for image_id, prior in label_priors(grids, plan.films.patients).items()}
    return _Tested(chosen, ids, regions, {target: priors[target] for target in chosen if target in priors})


def _checked(
    context: Context, plan: Plan, spec: TrustSpec, setting: str, maps: SaliencyMaps, tested: Callable[[], _Tested]
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Evidence of one setting by the checks that run its model again, and the curves behind it."""
    run, folder = context.run, context.run.folder / "saliency" / "trust"
    names = {"evidence": f"{setting}.parquet"}
    names |= {f"{name}_curves": f"{setting}.{name}.parquet" for name in ("faithfulness", "randomisation")}
    code = source_digest("radlens.explain", "radlens.core.class_token")
    shown = plan.films.positives(plan.test.image_ids)
    key = fingerprint(
        *(run.stages[f"maps:{setting}"].key, plan.test.annotations, shown, spec.model_dump(), code),
        *(context.spec.seed, context.spec.compute.precision),
    )

    def make() -> Iterable[Path]:
        classifier = load_classifier(run.folder / "classifiers" / setting, context.encoder())
        tables = _run_checks(context, plan, spec, classifier, maps, tested())
        written = []
        for name, table in tables.items():
            path = folder / names[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path) as aside:
                table.write_parquet(aside)
            written.append(path)
        return written

    run.stage(f"trust:{setting}", key, make)
    known = {name: pl.read_parquet(folder / file) for name, file in names.items() if (folder / file).is_file()}
    return _once(known.pop("evidence"), {setting: maps}), known


def _run_checks(
    context: Context, plan: Plan, spec: TrustSpec, classifier: Classifier, maps: SaliencyMaps, tested: _Tested
) -> dict[str, pl.DataFrame]:
    encoder, films = context.encoder(), plan.films
    ids, seed, precision = tested.image_ids, context.spec.seed, context.spec.compute.precision
    pixels: list[npt.NDArray[np.float32]] = [
        np.stack([encoder.transform(films.pixels(image_id)) for image_id in ids[start : start + _BATCH]])
        for start in range(0, len(ids), _BATCH)
    ]
    patients = [films.patients[image_id] for image_id in ids]
    own = maps.of(ids)
    setting = classifier.setting
    found: list[pl.DataFrame] = []
    curves: dict[str, pl.DataFrame] = {}
    faithful = [check for check in FAITHFULNESS if check in spec.checks]
    if faithful:
        with context.tell.bar(f"faithfulness of {setting}") as progress:
            table, curve = faithfulness(
                *(classifier, pixels, ids, patients, own, tested.targets, tested.priors),
                checks=faithful,
                steps=spec.steps,
                random_orders=2,
                precision=precision,
                seed=seed,
                progress=progress,
            )
        found.append(table)
        curves["faithfulness_curves"] = curve
    if "randomisation" in spec.checks:
        context.tell.say(f"  re-drawing the weights of {setting}")
        table, curve = randomisation(classifier, pixels, films.patients, own, tested.targets, seed=seed)
        found.append(table)
        curves["randomisation_curves"] = curve
    if "stability" in spec.checks:
        with context.tell.bar(f"stability of {setting}") as progress:
            found.append(
                shift_stability(
                    *(classifier, pixels, ids, patients, tested.targets, plan.spec.methods, plan.spec.layers),
                    seed=seed,
                    progress=progress,
                )
            )
    if "text" in spec.checks:
        regions = {target: tested.regions[target] for target in tested.targets if target in tested.regions}
        found.append(text_controls(classifier, pixels, films.patients, own, regions, seed=seed))
    return {"evidence": pl.concat([evidence([]), *found]), **curves}


def _over_seeds(context: Context, plan: Plan, maps: Mapping[str, SaliencyMaps], tested: _Tested) -> list[pl.DataFrame]:
    """Evidence `seeds` of every setting that was fitted with several seeds, for each of its fits."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for setting in context.spec.settings:
        for variant in setting.variants(context.spec.seed):
            groups.setdefault(variant.group, []).append((variant.seed, variant.title))
    found = []
    for group, fits in groups.items():
        if len(fits) < 2:
            continue
        own = {str(seed): maps[title].of(tested.image_ids) for seed, title in fits}
        table = seed_stability(own, plan.films.patients, tested.targets, setting=group, seed=context.spec.seed)
        table = _once(table, {group: next(iter(own.values()))})
        found += [table.with_columns(pl.lit(title).alias("setting")) for _, title in fits]
    return found


def _once(table: pl.DataFrame, maps: Mapping[str, SaliencyMaps]) -> pl.DataFrame:
    """A table by layer, with methods that have no depth once, at the layer `-`, instead of once a layer."""
    first = next(iter(maps.values()))
    flat = [method for method, deep in zip(first.methods, first.has_depth, strict=True) if not deep]
    without = pl.col("method").is_in(flat)
    kept = table.filter(~without | (pl.col("layer") == first.layers[0]))
    return kept.with_columns(pl.when(without).then(pl.lit(NO_LAYER)).otherwise(pl.col("layer")).alias("layer"))
