"""A small run folder made from seeded random scores, with every figure in it computed from those scores."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from radlens.core.vocabulary import load_vocabulary

SETTINGS = ("zero-shot", "linear-probe", "fine-tune")
HOSTILE = '<script>alert("x")</script>&"\'.png'
HOSTILE_NAME = "</title><img src=x onerror=alert(1)>"
_STRENGTH = {"zero-shot": 0.5, "linear-probe": 1.3, "fine-tune": 1.0}


def build(folder: Path, *, dataset: str = "table", localization: bool = True, saliency: bool = True) -> Path:
    """Write a run folder of 420 images, 14 labels and three settings; the first image has a hostile id."""
    random = np.random.default_rng(7)
    vocabulary = load_vocabulary("chexpert-14")
    names = vocabulary.names
    count = 420
    rates = np.geomspace(0.4, 0.012, len(names) - 1)
    found = random.random((count, len(names) - 1)) < rates
    truth = np.column_stack([~found.any(1), found]).astype(float)
    truth[:, names.index("Pleural Other")] = 0  # no positive at all: F1 and AUROC are undefined
    truth[random.random(count) < 0.08, names.index("Fracture")] = np.nan
    ids = [HOSTILE, *(f"film_{i:04d}.png" for i in range(1, count))]
    split = np.array(["train", "val", "test"])[np.searchsorted([0.6, 0.7], random.random(count))]
    patients = [f"patient {i // 2}" for i in range(count)]
    table = pl.DataFrame(
        {
            "image_id": ids,
            "path": ids,
            "patient_id": patients,
            "study_id": pl.Series([None] * count, dtype=pl.String),
            "view": ["PA"] * count,
            "report": pl.Series([None] * count, dtype=pl.String),
            "split": split.tolist(),
        }
        | {
            n: pl.Series([None if math.isnan(v) else int(v) for v in truth[:, j]], dtype=pl.Int8)
            for j, n in enumerate(names)
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    table.write_parquet(folder / "cohort.parquet")
    _json(folder / "split_card.json", _split_card(names, truth, split, patients))
    _json(folder / "run.json", _facts(dataset, count))
    (folder / "study.yaml").write_text(f"name: demo\ncohort: {{dataset: {dataset}}}\n", "utf-8")

    test = split == "test"
    overall, per_label, per_domain = [], [], []
    for setting in SETTINGS:
        scores = 1 / (1 + np.exp(-(random.normal(size=truth.shape) + _STRENGTH[setting] * np.nan_to_num(truth) - 0.5)))
        rows = [
            _label(setting, n, vocabulary.labels[j].domain, truth[:, j], scores[:, j], split)
            for j, n in enumerate(names)
        ]
        per_label += rows
        overall.append(_overall(setting, rows, int(test.sum()), random))
        for domain, members in vocabulary.domains.items():
            columns = [names.index(m) for m in members]
            target, score = np.nan_to_num(truth[test][:, columns]).max(1), scores[test][:, columns].max(1)
            per_domain.append(
                {
                    "setting": setting,
                    "domain": domain,
                    "test_positives": int(target.sum()),
                    "prevalence": target.mean(),
                    "f1": f1_score(target, score > 0.6, zero_division=0.0),
                    "f1_always_positive": 2 * target.mean() / (1 + target.mean()),
                    "inter_class_distance": 11 + _STRENGTH[setting],
                    "intra_class_distance": 10.5,
                    "separability_ratio": (11 + _STRENGTH[setting]) / 10.5 if len(members) > 1 else math.nan,
                    "separability_ratio_null": 1.04 + 0.001 * len(members),
                }
            )
    _csv(folder / "tables/overall.csv", overall)
    _csv(folder / "tables/per_label.csv", per_label)
    _csv(folder / "tables/per_domain.csv", per_domain)
    _csv(folder / "tables/separability.csv", _separability())
    _csv(folder / "tables/embedding_view.csv", _view(ids, split, truth, random))
    _json(folder / "tables/definitions.json", _definitions())
    for setting in SETTINGS:
        _json(folder / "classifiers" / setting / "card.json", _card(setting))
    if localization:
        _csv(folder / "tables/localization.csv", _localization(random))
        stated = {"column": "lift", "table": "localization", "text": "energy / area", "direction": "higher"}
        _json(folder / "tables/localization_definitions.json", [stated | {"bounds": [0, None], "source": "METHODS 6"}])
    if saliency:
        _saliency(folder / "saliency", ids, random)
    return folder


def _label(setting: str, name: str, domain: str | None, target: Any, score: Any, split: Any) -> dict[str, Any]:
    here = (split == "test") & ~np.isnan(target)
    truth, given, positives = target[here], score[here], int(target[here].sum())
    called = given > 0.6
    prevalence = truth.mean()
    defined = positives > 0
    return {
        "setting": setting,
        "label": name,
        "domain": domain or "",
        "train_positives": int(np.nansum(target[split == "train"])),
        "val_positives": int(np.nansum(target[split == "val"])),
        "test_positives": positives,
        "test_assessed": int(here.sum()),
        "prevalence": prevalence,
        "precision": precision_score(truth, called, zero_division=0.0) if defined else math.nan,
        "recall": recall_score(truth, called) if defined else math.nan,
        "f1": f1_score(truth, called) if defined else math.nan,
        "f1_always_positive": 2 * prevalence / (1 + prevalence) if defined else math.nan,
        "auroc": roc_auc_score(truth, given) if defined else math.nan,
        "average_precision": average_precision_score(truth, given) if defined else math.nan,
        "threshold": 0.6,
        "threshold_rule": "tuned on validation" if positives >= 10 else "shrunk to the pooled threshold",
        "f1_oracle": max(f1_score(truth, given > t, zero_division=0.0) for t in (0.4, 0.5, 0.6, 0.7))
        if defined
        else math.nan,
    }


def _overall(setting: str, rows: list[dict[str, Any]], test: int, random: np.random.Generator) -> dict[str, Any]:
    place = SETTINGS.index(setting)

    def mean(key: str) -> float:
        return float(np.nanmean([row[key] for row in rows]))

    return {
        "setting": setting,
        "inter_class_distance": (11.91, 11.91, 9.37)[place],
        "intra_class_distance": (10.62, 10.62, 7.4)[place],
        "separability_ratio": (1.1215, 1.1215, 1.2662)[place],
        "macro_f1": mean("f1"),
        "exact_match": (0.0, 0.143, 0.134)[place],
        "lrap": (0.402, 0.661, 0.634)[place],
        "coverage_error": (6.9, 3.91, 4.4)[place],
        "ranking_loss": (0.41, 0.22, 0.251)[place],
        "macro_auroc": mean("auroc"),
        "macro_average_precision": mean("average_precision"),
        "train_seconds": (0.0, 3.21, 254.0)[place],
        "separability_definition": "pairwise, un-normalised",
        "separability_ratio_null": (1.0032, 1.0032, 1.0051)[place],
        "labels_counted": 13,
        "macro_auroc_labels_counted": 12,
        "macro_f1_always_positive": mean("f1_always_positive"),
        "macro_f1_oracle": mean("f1_oracle"),
        "test_images": test,
        "test_patients": test,
        "trainable_parameters": (0, 7182, 86_200_000)[place],
    }


def _split_card(names: tuple[str, ...], truth: Any, split: Any, patients: list[str]) -> dict[str, Any]:
    splits = ("train", "val", "test")
    labels = {
        name: {
            s: {
                "positives": int((truth[split == s, j] == 1).sum()),
                "negatives": int((truth[split == s, j] == 0).sum()),
                "not_assessed": int(np.isnan(truth[split == s, j]).sum()),
            }
            for s in splits
        }
        for j, name in enumerate(names)
    }
    return {
        "by": "patient",
        "seed": 0,
        "method": "iterative stratification",
        "shares": {
            "asked": {"train": 0.6, "val": 0.1, "test": 0.3},
            "reached": {s: float((split == s).mean()) for s in splits},
        },
        "splits": {
            s: {"images": int((split == s).sum()), "patients": len(set(np.array(patients)[split == s]))} for s in splits
        },
        "labels": labels,
        "leakage": {"patients_in_several_splits": 0, "files_compared": 420, "equal_files_in_several_splits": 2},
        "warnings": ["Pleural Other has no positive in the test split: its figures are undefined."],
    }


def _facts(dataset: str, images: int) -> dict[str, Any]:
    return {
        "radlens": "0.1.0",
        "name": HOSTILE_NAME,
        "created": "2026-01-02T03:04:05+00:00",
        "command": "radlens run study.yaml --out run",
        "seed": 0,
        "python": "3.12.4",
        "platform": "Linux x86_64",
        "versions": {"torch": "2.9.0", "numpy": "2.4.6", "open_clip_torch": "3.1.0"},
        "device": "cpu",
        "precision": "float32",
        "model": {
            "title": "radlens-tiny",
            "name": "radlens-tiny",
            "fingerprint": "5f1d" * 8,
            "licence": "Apache-2.0",
            "citation": "none",
            "summary": "a small model trained on phantoms only",
            "parameters": 5_812_331,
            "notes": ["Never saw a radiograph of a person."],
            "url": "https://example.org/model",
            "weights": {
                "file": "open_clip_model.safetensors",
                "bytes": 23_249_324,
                "sha256": "0123456789abcdef" * 4,
                "revision": "the released file",
            },
        },
        "stages": {
            "cohort": {"seconds": 0.42, "cached": False, "key": "a1"},
            "embed": {"seconds": 12.3, "cached": True, "key": "b2"},
            "explain": {"seconds": 75.0, "cached": False, "key": "c3"},
        },
        "totals": {"seconds": 131.2, "peak_memory_gib": 1.94},
        "agreement_bfloat16": 0.999912,
        "notes": ["Edema: 3 uncertain (-1) labels became not assessed (policy 'ignore')."],
        "skipped_images": [
            {"image_id": "broken.png", "row": 17, "reason": "image broken.png: truncated after 812 bytes"}
        ],
        "image_notes": {"images": 3, "first": {HOSTILE: "16-bit: windowed 12..4095 to 8 bit"}},
        "annotations": {"source": "exact masks of the phantoms", "regions": 41, "images": 20, "left_out": {}},
        "cohort": {
            "name": "demo cohort",
            "dataset": dataset,
            "images": images,
            "patients": 210,
            "source": {"licence": "CC0"},
        },
        "embedding": {"seconds": 12.3, "images_per_second": 34.1, "cached": True},
    }


def _separability() -> list[dict[str, Any]]:
    rows = []
    for place, setting in enumerate(SETTINGS):
        for definition, ratio, null in (("pairwise", 1.12, 1.003), ("centroid", 0.41, 0.26), ("mixed", 1.58, 1.44)):
            for normalised in (False, True):
                unit = 0.7 if normalised else 11.9
                moved = 0.1 if setting == "fine-tune" else 0.0
                rows.append(
                    {
                        "setting": setting,
                        "scope": "overall",
                        "name": "all labels",
                        "definition": definition,
                        "normalised": normalised,
                        "inter": unit + moved,
                        "intra": unit / ratio,
                        "ratio": (unit + moved) / unit * ratio,
                        "ratio_null": null + 0.0001 * place,
                        "members": 120,
                    }
                )
    return rows


def _view(ids: list[str], split: Any, truth: Any, random: np.random.Generator) -> list[dict[str, Any]]:
    frozen = random.normal(size=(len(ids), 2)) * (3, 1.6) + np.nan_to_num(truth[:, [1, 2]]) * 2
    tuned = random.normal(size=(len(ids), 2)) * (2, 1.2) + np.nan_to_num(truth[:, [1, 3]]) * 3
    return [
        {"setting": s, "image_id": i, "split": at, "x": x, "y": y, "explained_x": 0.31, "explained_y": 0.12}
        for s, places in (("zero-shot", frozen), ("linear-probe", frozen), ("fine-tune", tuned))
        for i, at, (x, y) in zip(ids, split, places.tolist(), strict=True)
    ]


def _definitions() -> list[dict[str, Any]]:
    stated = (
        ("macro_f1", "mean of F1 over labels with a positive", "higher", [0, 1]),
        ("exact_match", "share of images whose labels are all right", "higher", [0, 1]),
        ("coverage_error", "labels to go down to cover all true ones", "lower", [1, None]),
        ("ranking_loss", "share of pairs in the wrong order", "lower", [0, 1]),
        ("f1", "2PR / (P + R) <b>", "higher", [0, 1]),
    )
    keys = ("column", "text", "direction", "bounds")
    return [dict(zip(keys, row, strict=True)) | {"source": "scikit-learn"} for row in stated]


def _card(setting: str) -> dict[str, Any]:
    card: dict[str, Any] = {
        "setting": setting,
        "options": {"batch": 24, "learning_rate": 0.001, "epochs": 100, "seed": 0},
    }
    if setting == "zero-shot":
        return card | {
            "options": {"rule": "pair"},
            "prompts": {"Edema": ["a chest X-ray with edema", "pulmonary oedema"]},
        }
    epochs = np.arange(1, 31)
    history = [
        {
            "epoch": int(e),
            "train_bce": float(0.6 * np.exp(-e / 8) + 0.2),
            "val_bce": float(0.55 * np.exp(-e / 7) + 0.26 + 0.0008 * e),
        }
        for e in epochs
    ]
    return card | {
        "history": history,
        "train_seconds": 3.21,
        "trainable_parameters": 7182,
        "thresholds": {"Edema": 0.4},
    }


def _localization(random: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    whos = [(s, "grad-cam", layer) for s in SETTINGS for layer in ("-1", "-3", "-5")]
    whos += [(s, "other-patient:grad-cam", layer) for s in SETTINGS for layer in ("-1", "-3", "-5")]
    whos += [("baseline", "centre", "-"), ("baseline", "label-prior", "-")]
    for setting, method, layer in whos:
        for label, images in (("Cardiomegaly", 14), ("Edema", 6), ("Fracture", 0), ("all", 20)):
            hit, energy, lift, iou = random.random(4) * (0.9, 0.5, 2.4, 0.4) if images else [math.nan] * 4
            who = {"setting": setting, "method": method, "layer": layer, "label": label}
            scores = {"hit_rate": hit, "energy_in_region": energy, "lift": lift, "iou": iou}
            own = setting != "baseline" and method == "grad-cam"
            rival = {"lift_best_baseline": 1.31, "lift_on_same_pairs": 1.47, "pairs_compared": images - 1}
            rival = rival if own and images else dict.fromkeys(rival, "")
            counts = {"images": images, "patients": images // 2, "maps": 2 * images}
            flagged = {"degenerate_maps": 3, "label_invariant_maps": 4, "unreachable_share": 0.125}
            rows.append(who | counts | scores | rival | flagged)
    return rows


def _saliency(folder: Path, ids: list[str], random: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    down, across = np.mgrid[0:150, 0:128]
    body = np.exp(-(((across - 64) / 58) ** 4)) * 190 - 70 * np.exp(-((across - 38) ** 2 + (down - 70) ** 2) / 900)
    body -= 70 * np.exp(-((across - 92) ** 2 + (down - 70) ** 2) / 900)
    Image.fromarray(np.clip(body + random.normal(0, 4, body.shape), 0, 255).astype(np.uint8)).save(folder / "film.png")
    Image.fromarray((((down > 80) & (down < 120) & (across > 40) & (across < 85)) * 255).astype(np.uint8)).save(
        folder / "region.png"
    )
    entries = []
    for image_id, label in ((ids[0], "Cardiomegaly"), (ids[5], "Edema")):
        maps: dict[str, dict[str, str]] = {}
        scores: dict[str, dict[str, Any]] = {}
        for setting in SETTINGS if label == "Cardiomegaly" else SETTINGS[:1]:
            for layer in ("-1", "-3", "-5"):
                x, y = random.uniform(30, 100, 2)
                heat = np.exp(-((across - x) ** 2 + (down - y) ** 2) / random.uniform(200, 1200)) * 255
                name = f"{label}_{setting}_{layer}.png"
                Image.fromarray(heat.astype(np.uint8)).save(folder / name)
                maps.setdefault(setting, {})[layer] = name
                lift, iou = random.random(2) * (2.5, 0.5)
                scores.setdefault(setting, {})[layer] = {"lift": lift, "iou": iou, "hit": bool(random.random() > 0.5)}
        maps["zero-shot"]["-1"] = "absent.png"
        flags = {"zero-shot": {"-3": "constant", "-5": "label-invariant"}} if label == "Edema" else {}
        entries.append(
            {
                "image_id": image_id,
                "label": label,
                "image": "film.png",
                "region": "region.png",
                "maps": maps,
                "scores": scores,
                "flags": flags,
            }
            | {"probabilities": {s: float(random.random()) for s in SETTINGS}}
        )
    _json(folder / "examples.json", {"rule": "the two films with the largest regions.", "examples": entries})


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
