"""Every column that the report defines exists in its table."""

from __future__ import annotations

from radlens.evaluate import conditional_separability, distance_table, neighbourhood, seed_ensemble_table, similarity
from radlens.evaluate.space_definitions import space_definitions, view_definitions
from radlens.evaluate.view import view_methods

SCHEMAS = {
    "conditional_separability": conditional_separability.SCHEMA,
    "neighbourhood": neighbourhood.SCHEMA,
    "spaces": similarity.SCHEMA,
    "distance_to_train": distance_table.SCHEMA,
    "seed_ensemble": seed_ensemble_table.SCHEMA,
}
ROWS = {"disagreement", "disagreement_error_auroc"}
"""Figures that are rows of a table, not columns."""


def test_what_is_defined_stands_in_its_table() -> None:
    for one in space_definitions():
        assert one["column"] in SCHEMAS[one["table"]] or one["column"] in ROWS, one["column"]
        assert one["text"].endswith(".") and one["source"]


def test_views_tell_their_parameters_and_what_distances_mean() -> None:
    texts = {one["column"]: one["text"] for one in view_definitions(seed=7)}
    assert list(texts) == list(view_methods())
    assert "perplexity 30" in texts["t-sne"] and "seed 7" in texts["t-sne"]
    assert "distances between them mean nothing" in texts["t-sne"] and "principal components" in texts["pca"]
