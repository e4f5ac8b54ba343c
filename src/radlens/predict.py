"""`radlens predict`: scores of images by a classifier of a run, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from radlens.core.classifier import Classifier, Encoder, load_classifier
from radlens.core.errors import ModelError
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache, default_cache
from radlens.data.decoding import Decoding
from radlens.models.encode import encode_images
from radlens.models.loading import load_encoder, resolve


def open_classifier(folder: Path) -> tuple[Classifier, Encoder, str]:
    """A saved classifier, the encoder that its head reads, attached to it, and the precision of its embeddings.

    A setting that changed the encoder brings its own. Raises `ModelError` when the folder is no classifier or its model
    has changed.
    """
    card = load_classifier(folder).card
    if "model" not in card:
        raise ModelError(f"{folder / 'card.json'} does not say which model it was made with.")
    source = resolve(ModelSpec.model_validate(card["model"]), Path(), Cache(default_cache()))
    encoder = load_encoder(source)
    classifier = load_classifier(folder, encoder)
    return classifier, classifier.encoder or encoder, str(card.get("precision", "float32"))


def predict_images(folder: Path, images: Sequence[Path]) -> pl.DataFrame:
    """A row an image: `image`, a probability a label (null where it was never assessed), `<label> decision`.

    Raises `ModelError` when the folder is no classifier or its model has changed, `ImageError` for a bad image.
    """
    classifier, own, precision = open_classifier(folder)
    card = classifier.card
    labels, probabilities = list(classifier.vocabulary.names), []
    with Decoding(images, 2) as decoding:
        for batch in encode_images(own, list(images), lambda path: decoding.read(path).pixels, precision=precision):
            for error in batch.failures.values():
                raise error
            probabilities.append(
                pl.DataFrame(classifier.probabilities(batch.embeddings), list(classifier.vocabulary.names))
            )
    scores = pl.concat(probabilities)
    # what was not assessed in training has no score, though a head of zeros gives one
    unknown = [pl.lit(None, pl.Float64).alias(label) for label in card.get("not_estimable", [])]
    scores = scores.with_columns(unknown)
    if classifier.thresholds is not None:
        decisions = [
            (pl.col(label) >= limit).cast(pl.Int8).alias(f"{label} decision")
            for label, limit in zip(labels, classifier.thresholds, strict=True)
        ]
        scores = scores.with_columns(decisions)
    return scores.select(pl.Series("image", [str(path) for path in images]), pl.all())
