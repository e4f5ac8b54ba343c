"""CoOp through a miniature BERT: learns context that lowers the validation loss, and leaves all else as it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from radlens.adapt.coop import CoOp
from radlens.core.classifier import Classifier, load_classifier
from radlens.core.errors import DataError, ModelError
from radlens.core.heads import Head
from radlens.core.parts import AdaptationTask
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.core.vocabulary import Label, Vocabulary
from radlens.models.encoder import OpenClipEncoder
from radlens.models.loading import load_encoder, resolve

Floats = npt.NDArray[np.float32]
NAMES = ("pleural effusion", "pneumonia", "normal heart")
VOCABULARY = Vocabulary("test", tuple(Label(name, None, (f"with {name}",), (f"no {name}",)) for name in NAMES))


@pytest.fixture(scope="module")
def encoder(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    loaded = load_encoder(resolve(ModelSpec(path=str(miniature)), Path(), cache), "cpu")
    assert isinstance(loaded, OpenClipEncoder)
    return loaded


def cohort(encoder: OpenClipEncoder, seed: int, images: int = 150, null: float = 0.0) -> tuple[Floats, Floats]:
    """Images lie along the directions of sentences that the prompts at the start do not say."""
    with torch.no_grad():
        pairs = [encoder.encode_texts([f"the x ray of the lung and {x}", f"a normal image and {x}"]) for x in NAMES]
        along = normalize(torch.stack([a - b for a, b in pairs]), dim=-1).numpy()
    generator = np.random.default_rng(seed)
    y = (generator.random((images, 3)) < [0.5, 0.3, 0.15]).astype(np.float32)
    x = ((2 * y - 1) @ along + 0.3 * generator.normal(size=(images, 24))) * 5
    y[generator.random(y.shape) < null] = np.nan
    return x.astype(np.float32), y


def task(encoder: Any, train: tuple[Floats, Floats], val: tuple[Floats, Floats], seed: int = 0) -> AdaptationTask:
    def encode(texts: Any) -> Floats:
        raise AssertionError("coop reads its texts through the tower")

    return AdaptationTask(
        vocabulary=VOCABULARY,
        embeddings={"train": train[0], "val": val[0]},
        targets={"train": train[1], "val": val[1]},
        encode_texts=encode,
        logit_scale=20.0,
        seed=seed,
        progress=lambda done, total: None,
        encoder=encoder,
    )


FAST: dict[str, Any] = {"positive": "chest x ray with", "negative": "chest x ray no", "learning_rate": 0.03}
FAST |= {"epochs": 15, "batch_size": 50, "patience": 15}


@pytest.mark.parametrize("per_label", [False, True])
@pytest.mark.parametrize("init", ["words", "random"])
def test_lowers_the_validation_loss(encoder: OpenClipEncoder, init: str, per_label: bool) -> None:
    train, val = (cohort(encoder, seed, null=0.1) for seed in (1, 2))
    made = CoOp(init=init, per_label=per_label, context=5, **FAST).fit(task(encoder, train, val))
    card = made.card
    assert card["validation_bce"] < 0.8 * card["start_bce"]
    known = ~np.isnan(val[1])
    kept = binary_cross_entropy_with_logits(
        made.head(torch.from_numpy(val[0]))[torch.from_numpy(known)], torch.from_numpy(val[1][known])
    )
    assert float(kept) == pytest.approx(card["validation_bce"], rel=1e-4)
    vectors = 4 if init == "words" else 5
    assert card["trainable_parameters"] == (3 if per_label else 1) * 2 * vectors * 32 + 3
    told = card["learned_context"]["negative"]
    assert set(told) == (set(NAMES) if per_label else {"every label"})
    assert all(len(list_of_words) == vectors and len(list_of_words[0]) == 3 for list_of_words in told.values())


def test_an_untrained_head_is_that_of_the_sentences(encoder: OpenClipEncoder) -> None:
    train, val = cohort(encoder, 1), cohort(encoder, 2)
    made = CoOp(**FAST | {"learning_rate": 1e-12, "epochs": 1}).fit(task(encoder, train, val))
    with torch.no_grad():
        positive, negative = (
            normalize(encoder.encode_texts([f"{FAST[side]} {name}" for name in NAMES]), dim=-1)
            for side in ("positive", "negative")
        )
    torch.testing.assert_close(made.head.weight, positive - negative, atol=1e-5, rtol=0)
    assert made.head.scale == pytest.approx(20 * made.card["slope"])
    nearest = [next(iter(found)) for found in made.card["learned_context"]["positive"]["every label"]]
    assert nearest == ["chest", "x", "ray", "with"]
    np.testing.assert_allclose(made.probabilities(train[0]).mean(axis=0), train[1].mean(axis=0), atol=5e-3)


def test_a_plain_head_goes_to_disk_and_the_encoder_stays(encoder: OpenClipEncoder, tmp_path: Path) -> None:
    train, val = cohort(encoder, 1), cohort(encoder, 2)
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    texts = encoder.encode_texts(list(NAMES))
    made = CoOp(**FAST | {"epochs": 2}).fit(task(encoder, train, val))
    assert type(made.head) is Head and not made.image_tensors
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in encoder.model.parameters())
    assert torch.equal(encoder.encode_texts(list(NAMES)), texts)
    Classifier(
        made.setting, made.head, VOCABULARY, card=dict(made.card) | {"encoder": {"fingerprint": encoder.fingerprint}}
    ).save(tmp_path)
    back = load_classifier(tmp_path, encoder)
    np.testing.assert_array_equal(back.probabilities(val[0]), made.probabilities(val[0]))


def test_repeats_with_its_seed(encoder: OpenClipEncoder) -> None:
    train, val = cohort(encoder, 1), cohort(encoder, 2)
    options = FAST | {"init": "random", "epochs": 2}
    first, again, other = (CoOp(**options).fit(task(encoder, train, val, seed)).head for seed in (0, 0, 1))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize("batch_size", [10, 10**6])
def test_an_epoch_has_so_many_steps(encoder: OpenClipEncoder, batch_size: int) -> None:
    calls: list[int] = []
    table = encoder.model.text.transformer.get_input_embeddings()
    handle = table.register_forward_hook(lambda *_: calls.append(1) if torch.is_grad_enabled() else None)
    CoOp(**FAST | {"epochs": 2, "batch_size": batch_size, "steps": 3}).fit(
        task(encoder, cohort(encoder, 1), cohort(encoder, 2))
    )
    handle.remove()
    assert len(calls) == 2 * 2 * 3  # epochs, sides, steps


def test_labels_without_positives_and_nulls(encoder: OpenClipEncoder) -> None:
    train, val = cohort(encoder, 1), cohort(encoder, 2)
    train[1][:, 0], train[1][:, 1] = 0, np.nan
    val[1][:, 2] = 0
    made = CoOp(per_label=True, **FAST | {"epochs": 4}).fit(task(encoder, train, val))
    assert made.card["not_estimable"] == [NAMES[1]]
    assert made.card["no_training_positives"] == list(NAMES[:2])
    start = CoOp(per_label=True, **FAST | {"epochs": 1, "learning_rate": 1e-12}).fit(task(encoder, train, val))
    # context of its own, and no loss: nothing moves
    torch.testing.assert_close(made.head.weight[:2], start.head.weight[:2], atol=1e-6, rtol=0)
    torch.testing.assert_close(made.head.bias[:2], start.head.bias[:2])
    assert np.isfinite(made.probabilities(val[0])).all()
    assert made.probabilities(val[0])[:, 0].mean() < 0.1


def test_validation_without_positives_still_stops_it(encoder: OpenClipEncoder) -> None:
    val = cohort(encoder, 2)
    val[1][:] = 0
    made = CoOp(**FAST | {"epochs": 3}).fit(task(encoder, cohort(encoder, 1), val))
    assert np.isfinite(made.card["validation_bce"])


def test_what_it_cannot_do_is_one_sentence(encoder: OpenClipEncoder) -> None:
    good, none = cohort(encoder, 1), cohort(encoder, 2)
    none[1][:] = 0
    with pytest.raises(DataError, match=r"coop expected at least one positive of any label in the train split"):
        CoOp().fit(task(encoder, none, good))
    for other in (None, SimpleNamespace(encode_texts=lambda texts: None)):
        with pytest.raises(ModelError, match="coop needs a model whose text tower takes learned context"):
            CoOp().fit(task(other, good, good))
    with pytest.raises(ModelError, match=r"99 context vectors and 'pleural effusion' do not fit"):
        CoOp(init="random", context=99).fit(task(encoder, good, good))
