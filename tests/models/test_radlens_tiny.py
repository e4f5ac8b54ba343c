"""The embedded model: its layout, its size, and whether it does what its card says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from radlens.core.classifier import Encoder
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.core.vocabulary import load_vocabulary
from radlens.data.phantom import FINDINGS, SHIFTED, SOURCE, Site, render
from radlens.models.loading import ModelSource, load_encoder, resolve


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return resolve(ModelSpec(name="radlens-tiny"), Path(), Cache(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def encoder(source: ModelSource) -> Encoder:
    return load_encoder(source, "cpu")


def test_it_has_biomedclips_layout_in_miniature(source: ModelSource, encoder: Encoder) -> None:
    names = {path.name for path in source.location.iterdir()}
    assert {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "vocab.txt"} <= names
    assert (source.location / "open_clip_model.safetensors").stat().st_size <= 12_000_000
    assert len(encoder.blocks) == 12 and encoder.grid == (14, 14) and encoder.transform.size == 224
    for key in ("summary", "title", "licence", "citation", "measured"):
        assert source.card[key], key


def test_a_word_changes_a_sentence(encoder: Encoder) -> None:
    with torch.no_grad():
        stated, denied = encoder.encode_texts(["there is a pleural effusion", "there is no pleural effusion"])
    assert torch.cosine_similarity(stated, denied, dim=0) < 0.97


@pytest.mark.slow
def test_its_zero_shot_auroc_on_unseen_phantoms_is_that_of_its_card(source: ModelSource, encoder: Encoder) -> None:
    measured: dict[str, Any] = source.card["measured"]["zero_shot_macro_auroc"]
    own, shifted = (macro_auroc(encoder, site, 600) for site in (SOURCE, SHIFTED))
    assert own == pytest.approx(measured["source"], abs=0.04)
    assert shifted == pytest.approx(measured["shifted"], abs=0.05)
    # the demo rests on it: the model knows its own hospital, and less of the other
    assert own > 0.75 and own > shifted


def macro_auroc(encoder: Encoder, site: Site, count: int) -> float:
    vocabulary = load_vocabulary("chexpert-14")
    enriched = site.with_prevalence(dict.fromkeys(FINDINGS, 0.12))
    scores, targets = [], []
    with torch.inference_mode():
        directions = []
        for label in vocabulary.labels:
            sides = [encoder.encode_texts(list(side)) for side in (label.positive, label.negative)]
            stated, denied = (torch.nn.functional.normalize(side, dim=-1).mean(0) for side in sides)
            directions.append(stated - denied)
        for start in range(0, count, 25):
            cases = [render(424242, index, enriched, 256) for index in range(start, start + 25)]
            pixels = torch.from_numpy(np.stack([encoder.transform(case.pixels) for case in cases]))
            embedded = torch.nn.functional.normalize(encoder.encode_images(pixels), dim=-1)
            scores.append((embedded @ torch.stack(directions).T).numpy())
            targets.append([[case.labels[name] for name in vocabulary.names] for case in cases])
    truth, said = np.concatenate(targets), np.concatenate(scores)
    return float(np.mean([roc_auc_score(truth[:, i], said[:, i]) for i in range(len(vocabulary))]))


def test_the_card_repeats_what_the_training_measured(source: ModelSource) -> None:
    facts = json.loads((source.location / "training.json").read_text("utf-8"))
    card = source.card["measured"]
    assert card["parameters"] == facts["parameters"] and card["phantoms"] == facts["phantoms"]
    found = facts["zero_shot_macro_auroc"]
    told = card["zero_shot_macro_auroc"]
    assert told == {"source": found["source"], "shifted": found["shifted"], "nih_chest_xray14": found["nih_dev"]}
