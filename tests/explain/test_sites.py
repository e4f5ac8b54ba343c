"""Sites by layer and by name; those that no gradient reaches are refused by measurement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from radlens.core.errors import ExplainError
from radlens.explain.sites import check_sites, resolve_sites


def test_layers_and_names(encoder: Any) -> None:
    sites = resolve_sites(encoder, (-1, "-3", 0, "blocks.2", "blocks.1.mlp"))
    assert [(site.layer, site.name) for site in sites] == [
        ("-1", "blocks.3.norm1"),
        ("-3", "blocks.1.norm1"),
        ("0", "blocks.0.norm1"),
        ("blocks.2", "blocks.2"),
        ("blocks.1.mlp", "blocks.1.mlp"),
    ]
    check_sites(encoder, sites)


@pytest.mark.parametrize(
    "name", ["blocks.3", "blocks.3.attn", "blocks.3.norm2", "blocks.3.mlp", "blocks.3.mlp.fc2", "norm"]
)
def test_zero_gradient_is_refused_by_name(encoder: Any, name: str) -> None:
    with pytest.raises(ExplainError) as error:
        check_sites(encoder, resolve_sites(encoder, [-1, name]))
    expected = (
        f"site '{name}' has no gradient at the patch tokens (class-token pooling); nearest valid site: "
        "'blocks.3.norm1'."
    )
    assert str(error.value) == expected


def test_mean_pooling_has_a_gradient_after_the_last_block(make_encoder: Callable[..., Any]) -> None:
    encoder = make_encoder(pool="avg")
    check_sites(encoder, resolve_sites(encoder, ["blocks.3", "blocks.3.mlp", -1]))
    with pytest.raises(ExplainError, match=r"inside the pooling.*'blocks.3'"):
        check_sites(encoder, resolve_sites(encoder, ["norm"]))


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([-5], r"layer -5 is out of range: test-vit has 4 blocks, so layers go from -4 to 3\."),
        ([4], r"layer 4 is out of range"),
        (["blocks.4.mlp"], r"'blocks.0' to 'blocks.3'"),
        (["layer3"], r"unknown site 'layer3'; give a layer from -4 to 3"),
        (["blocks.2.norm_1"], r"unknown part of block 2 'norm_1'. Did you mean 'norm1'"),
        ([-1, "blocks.3.norm1"], r"layers '-1' and 'blocks.3.norm1' are the same site"),
        ([], r"no layers"),
    ],
)
def test_wrong_layers(encoder: Any, layers: list[int | str], sentence: str) -> None:
    with pytest.raises(ExplainError, match=sentence):
        resolve_sites(encoder, layers)


def test_a_site_that_is_no_row_of_tokens(encoder: Any) -> None:
    with pytest.raises(ExplainError, match=r"'blocks.2.attn.q_norm' cannot carry a map: expected .images, 17 tokens"):
        check_sites(encoder, resolve_sites(encoder, ["blocks.2.attn.q_norm"]))
