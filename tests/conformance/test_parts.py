"""One table over all that the registry knows: every part keeps the contract of its kind."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

import radlens
from radlens.core.mapping import load_mapping
from radlens.core.parts import AnnotationFormat, Dataset, Definition, Labeler, Loader, MetricInput, Setting, needs_of
from radlens.core.parts import Part as PartWithOptions
from radlens.core.registry import ROOMS, Part, get, parts
from radlens.core.reports import EVIDENCE, make_reports
from radlens.core.vocabulary import load_vocabulary
from radlens.data.cards import cards, load_card

CONTRACTS: dict[str, type[PartWithOptions]] = {
    "datasets": Dataset,
    "labelers": Labeler,
    "settings": Setting,
    "loaders": Loader,
    "formats": AnnotationFormat,
}
EVERY = [part for kind in ROOMS for part in parts(kind).values()]
SOURCES = Path(radlens.__file__).parent


def of(*kinds: str) -> Any:
    """One test a part of these kinds."""
    chosen = [part for part in EVERY if part.kind in kinds]
    return pytest.mark.parametrize("part", chosen, ids=[f"{part.kind}:{part.name}" for part in chosen])


def test_every_mark_in_the_source_is_found() -> None:
    marked = {
        match.groups()
        for path in SOURCES.rglob("*.py")
        for match in re.finditer(r'^@register\(\s*"([^"]*)",\s*"([^"]*)"', path.read_text("utf-8"), re.MULTILINE)
    }
    assert marked == {(part.kind, part.name) for part in EVERY if part.kind != "models" and not part.entry_point}


@of(*ROOMS)
def test_has_a_plain_name_and_a_summary_and_loads(part: Part) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", part.name), "names are kebab-case"
    assert part.summary.strip(), "the docstring's first line is the summary"
    assert part.load() is not None


@of(*CONTRACTS)
def test_keeps_its_contract_and_refuses_unknown_options(part: Part) -> None:
    made = part.load()
    assert issubclass(made, CONTRACTS[part.kind])
    assert not inspect.isabstract(made)
    with pytest.raises(ValidationError) as caught:
        made(no_such_option=1)
    assert "extra_forbidden" in {error["type"] for error in caught.value.errors()}


def drawn(rows: int, labels: int, kind: str, seed: int = 0) -> MetricInput:
    """Input for a metric: `mixed`, `ties`, `nulls`, one class (`negative`, `positive`) or nothing assessed (`none`)."""
    generator = np.random.default_rng(seed)
    scores = generator.random((rows, labels))
    targets = generator.integers(0, 2, (rows, labels)).astype(np.float32)
    if kind == "ties":
        scores = np.full((rows, labels), 0.5)
    if kind == "nulls":
        targets[generator.random(targets.shape) < 0.4] = np.nan
    if kind in ("negative", "positive", "none"):
        targets[:] = {"negative": 0, "positive": 1, "none": np.nan}[kind]
    return MetricInput(scores, targets, (scores > 0.5).astype(np.int8))


@pytest.mark.parametrize("rows", [0, 1, 40])
@pytest.mark.parametrize("kind", ["mixed", "ties", "nulls", "negative", "positive", "none"])
@of("metrics")
def test_metrics_stay_in_bounds_and_undefined_is_nan(part: Part, kind: str, rows: int) -> None:
    metric, inputs = part.load(), drawn(rows, 5, kind)
    before = [array.copy() for array in (inputs.scores, inputs.targets, inputs.decisions)]
    value = np.asarray(metric(inputs), np.float64)
    definition = metric.definition
    assert isinstance(definition, Definition)
    assert definition.text.strip() and definition.source.strip()
    assert value.shape == ((5,) if definition.scope == "label" else ())
    known = value[~np.isnan(value)]
    low, high = definition.bounds
    assert ((known >= low) & (known <= high)).all()
    for array, copy in zip((inputs.scores, inputs.targets, inputs.decisions), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    if kind == "mixed" and rows == 40:
        assert known.size == value.size, "defined where every label has both classes"
        np.testing.assert_array_equal(metric(inputs), value)


@of("metrics")
def test_metrics_do_not_depend_on_the_order_of_images(part: Part) -> None:
    inputs = drawn(40, 5, "nulls")
    order = np.random.default_rng(1).permutation(40)
    turned = MetricInput(inputs.scores[order], inputs.targets[order], inputs.decisions[order])
    metric = part.load()
    np.testing.assert_allclose(metric(turned), metric(inputs), rtol=1e-12)


def left_behind(images: int, seed: int = 0) -> dict[str, Any]:
    """Every quantity that a saliency method may need, drawn: 4 x 4 patches behind one class token, 3 labels."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(images, *shape, generator=generator)

    weights = draw(3, 32, 32, 3)
    return {
        "activations": draw(16, 8),
        "gradients": draw(16, 8),
        "attention": draw(2, 17, 17).softmax(-1),
        "attention_gradients": draw(2, 17, 17),
        "queries": draw(2, 17, 4),
        "keys": draw(2, 17, 4),
        "values": draw(2, 17, 4),
        "mixed_gradients": draw(2, 17, 4),
        "readout_attention_gradients": draw(2, 1, 17),
        "patch_logits": draw(16),
        "prefix": 1,
        "pixels": draw(3, 32, 32),
        "pixel_gradients": draw(3, 32, 32),
        "logits_of": lambda pixels: torch.einsum("bchw,chwl->bl", torch.tanh(pixels), 0.01 * weights[0]),
        "grid": (4, 4),
    }


def maps_of(method: Any, found: dict[str, Any]) -> torch.Tensor:
    """A method's maps with images first; a method over blocks is given the same block twice."""
    needed = needs_of(method)
    given = {name: found[name] for name in needed.quantities}
    if needed.over != "blocks":
        return method(**given).detach()
    given = {name: [one, one] if isinstance(one, torch.Tensor) else one for name, one in given.items()}
    return method(**given).transpose(0, 1)


@of("saliency")
def test_saliency_is_a_map_an_image_and_never_negative(part: Part) -> None:
    method, found = part.load(), left_behind(3)
    maps = maps_of(method, found)
    assert maps.shape == {"blocks": (3, 2, 16), "classifier": (3, 3, 16)}.get(needs_of(method).over, (3, 16))
    assert torch.isfinite(maps).all() and (maps >= 0).all() and maps.any()
    each = [
        maps_of(method, {k: v[i : i + 1] if isinstance(v, torch.Tensor) else v for k, v in found.items()})
        for i in range(3)
    ]
    torch.testing.assert_close(maps, torch.cat(each))
    nothing = {name: torch.zeros_like(v) if "gradients" in name else v for name, v in found.items()}
    silent = maps_of(method, nothing | {"patch_logits": torch.zeros(3, 16)})
    assert torch.isfinite(silent).all() and (silent >= 0).all()


@of("models")
def test_cards_say_what_a_reader_must_know(part: Part) -> None:
    card = tomllib.loads(Path(part.load()).read_text("utf-8"))
    for key in ("summary", "loader", "licence", "citation"):
        assert isinstance(card.get(key), str) and card[key].strip(), f"the card has no {key}"
    assert card["summary"] == part.summary
    assert issubclass(get("loaders", card["loader"]), Loader)


GENERIC = {"table", "phantom", "folder", "dicom"}
"""Data sets that are the user's own, or made here: they have no card."""


@of("datasets")
def test_a_published_data_set_has_a_card(part: Part) -> None:
    if part.name in GENERIC:
        assert part.name not in cards()
        return
    card = load_card(part.name)
    assert card.licence and card.citation and card.how_to_get
    assert card.expected.images, "the true number of images"


def test_no_card_without_a_data_set() -> None:
    assert set(cards()) <= set(parts("datasets"))


@pytest.mark.parametrize("name", sorted(path.stem for path in (SOURCES / "core" / "mappings").glob("*.toml")))
def test_a_mapping_leads_into_the_vocabulary(name: str) -> None:
    mapping = load_mapping(name)
    known = set(load_vocabulary("chexpert-14").names)
    assert set(mapping.assesses) <= known
    assert set(mapping.sources) <= set(mapping.assesses)


@of("labelers")
def test_a_labeler_leaves_out_what_has_nothing_to_read(part: Part, tmp_path: Path) -> None:
    if part.name == "chexbert":
        pytest.skip("needs the released weights; tests/labels/test_chexbert.py has its own")
    reports = make_reports(
        "two",
        pl.DataFrame({"study_id": ["a", "b"], "findings": ["The heart is enlarged.", None]}).with_columns(
            codes=pl.Series([["Cardiomegaly"], None]),
            **{"Finding Labels": pl.Series(["Cardiomegaly", None]), "Cardiomegaly": pl.Series(["1", None])},
        ),
    )
    found = part.load()().label(reports, tmp_path, tmp_path)
    assert found.table["study_id"].to_list() == ["a", "b"]
    assert found.table["assessed"].to_list() == [True, False]
    assert found.table["Cardiomegaly"].to_list() == [1, None]
    labels = [column for column in found.table.columns if column not in ("study_id", "assessed")]
    assert all(found.table[label].dtype == pl.Int8 for label in labels)
    assert found.table.filter(pl.col("study_id") == "b").select(labels).null_count().sum_horizontal()[0] == len(labels)
    assert found.evidence.columns == list(EVIDENCE) and found.origin.strip()
    assert set(found.evidence["study_id"]) <= {"a"}
