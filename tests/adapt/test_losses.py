"""Every loss against formulas written out again in plain loops, its gradient, and what odd entries do to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from radlens.adapt.losses import LOSSES, LossField, LossSpec, loss_spec, make_loss
from radlens.core.errors import DataError, SpecError

NAN = math.nan
# label 0: 2 of 5, label 1: 1 of 6, label 2: 4 of 5, label 3: no positives, label 4: no negatives, label 5: nothing
TRAIN = np.array(
    [
        [1, 0, 1, 0, 1, NAN],
        [0, 0, 1, 0, NAN, NAN],
        [0, 1, 1, NAN, 1, NAN],
        [NAN, 0, 0, 0, 1, NAN],
        [1, 0, 1, 0, NAN, NAN],
        [0, 0, NAN, 0, 1, NAN],
    ],
    np.float32,
)
POSITIVES, NEGATIVES = [2, 1, 4, 1, 4, 1], [3, 5, 1, 5, 1, 1]  # a count of 0 is taken as 1
OPTIONS: dict[str, list[dict[str, float]]] = {
    "bce": [{}],
    "weighted-bce": [{}, {"max_positive_weight": 1.2}],
    "focal": [{}, {"gamma": 0.0, "alpha": 0.5}, {"gamma": 0.5, "alpha": 0.9}],
    "asymmetric": [
        {},
        {"clip": 0.0},
        {"gamma_neg": 0.0, "gamma_pos": 0.0},
        {"gamma_neg": 0.5, "gamma_pos": 2.0, "clip": 0.2},
    ],
    "class-balanced": [{}, {"beta": 0.5}, {"beta": 0.0}],
    "distribution-balanced": [{}, {"negative_scale": 5.0, "bias_scale": 0.3, "map_mu": 0.5}],
    "ldam": [{}, {"scale": 3.0, "max_margin": 1.5, "defer": 0.5, "beta": 0.9}],
    "logit-adjusted": [{}, {"tau": 0.4}],
}
CASES = [(name, options, at) for name, many in OPTIONS.items() for options in many for at in (0.0, 0.9)]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def cost(z: float) -> float:
    """-log sigmoid(z), without loss of digits."""
    return math.log1p(math.exp(-z)) if z >= 0 else -z + math.log1p(math.exp(z))


def effective(n: float, beta: float) -> float:
    """1 + beta + beta^2 + ... with n terms."""
    return sum(beta**i for i in range(int(n)))


def slow(name: str, given_options: dict[str, float], at: float, logits: Any, targets: Any) -> npt.NDArray[np.float64]:
    """One entry after the other, from the papers' formulas."""
    o: Any = {**LossSpec(name=name).options, **given_options}
    result = np.zeros(logits.shape)
    for i in range(len(logits)):
        for j in range(logits.shape[1]):
            z, t = float(logits[i, j]), targets[i, j]
            if math.isnan(t):
                continue
            p, n1, n0 = sigmoid(z), POSITIVES[j], NEGATIVES[j]
            if name == "bce":
                value = cost(z) if t else cost(-z)
            elif name == "weighted-bce":
                value = min(n0 / n1, o["max_positive_weight"]) * cost(z) if t else cost(-z)
            elif name == "focal":
                right, alpha = (p, o["alpha"]) if t else (sigmoid(-z), 1 - o["alpha"])
                value = alpha * (1 - right) ** o["gamma"] * (cost(z) if t else cost(-z))
            elif name == "asymmetric":
                m = max(p - o["clip"], 0)
                value = (1 - p) ** o["gamma_pos"] * cost(z) if t else -(m ** o["gamma_neg"]) * math.log(1 - m)
            elif name == "class-balanced":
                raw = [1 / effective(n0, o["beta"]), 1 / effective(n1, o["beta"])]
                value = 2 * raw[int(t)] / sum(raw) * (cost(z) if t else cost(-z))
            elif name == "distribution-balanced":
                per_image = sum(1 / POSITIVES[k] for k in range(logits.shape[1]) if targets[i, k] == 1)
                ratio = 1 / n1 / per_image if per_image else math.inf
                x = -o["map_beta"] * (ratio - o["map_mu"])
                r = o["map_alpha"] + 1 / (1 + math.exp(x))
                prior = n1 / (n1 + n0)
                bias = -math.log(1 / prior - 1)
                nu, scale = -o["bias_scale"] * bias, o["negative_scale"]
                value = r * (cost(z - nu) if t else cost(-scale * (z - nu)) / scale)
            elif name == "ldam":
                seen = [2, 1, 4, 4, 3, 5, 1, 5]
                empty = (j in (3, 5) and t) or (j in (4, 5) and not t)
                delta = o["max_margin"] * (1.0 if empty else (min(seen) / (n1 if t else n0)) ** 0.25)
                raw = [1 / effective(n0, o["beta"]), 1 / effective(n1, o["beta"])]
                weight = 2 * raw[int(t)] / sum(raw) if at >= o["defer"] else 1
                value = weight * cost(o["scale"] * ((z if t else -z) - delta))
            else:
                prior = n1 / (n1 + n0)
                shifted = z + o["tau"] * (math.log(prior) - math.log(1 - prior))
                value = cost(shifted) if t else cost(-shifted)
            result[i, j] = value
    return result


def draw(seed: int, rows: int = 7) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    targets = generator.choice([0.0, 1.0, NAN], size=(rows, 6))
    targets[0] = [0, 0, 0, 0, NAN, 0]  # an image without positives
    return 3 * generator.normal(size=(rows, 6)), targets


def test_every_loss_is_tried() -> None:
    assert set(OPTIONS) == set(LOSSES)
    for name, entry in LOSSES.items():
        assert set(entry.options) == set(LossSpec(name=name).options)
        assert entry.formula and entry.source


@pytest.mark.parametrize(("name", "options", "at"), CASES)
def test_values_and_gradients_are_those_of_the_plain_loops(name: str, options: dict[str, float], at: float) -> None:
    loss = make_loss(LossSpec(name=name, **options), TRAIN).at(at)
    logits, targets = draw(3)
    z = torch.tensor(logits, requires_grad=True)
    entries = loss.entries(z, torch.tensor(targets))
    expected = slow(name, options, at, logits, targets)
    np.testing.assert_allclose(entries.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    entries.sum().backward()
    step = 1e-5
    differences = slow(name, options, at, logits + step, targets) - slow(name, options, at, logits - step, targets)
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), differences / (2 * step), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(loss.slopes(z.detach(), torch.tensor(targets)).numpy(), z.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize(("name", "options", "at"), CASES)
def test_gradcheck(name: str, options: dict[str, float], at: float) -> None:
    loss = make_loss(LossSpec(name=name, **options), TRAIN).at(at)
    logits, targets = draw(5, rows=4)
    z = torch.tensor(logits, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss.entries(x, torch.tensor(targets)), (z,))
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor(targets)), (z,))


@pytest.mark.parametrize("name", LOSSES)
def test_null_entries_are_nothing_whatever_their_logit(name: str) -> None:
    loss = make_loss(LossSpec(name=name), TRAIN)
    logits, targets = draw(11)
    null = np.isnan(targets)
    wild = logits.copy()
    wild[null] = np.resize([NAN, math.inf, -math.inf, 1e30], null.sum())
    z = torch.tensor(wild, dtype=torch.float32, requires_grad=True)
    mean = loss(z, torch.tensor(targets, dtype=torch.float32))
    mean.backward()
    expected = slow(name, {}, 0.0, logits, targets).sum() / (~null).sum()
    assert mean.item() == pytest.approx(expected, rel=1e-5)
    assert z.grad is not None
    assert (z.grad.numpy()[null] == 0).all()
    assert np.isfinite(z.grad.numpy()).all()
    assert (loss.slopes(z.detach(), torch.tensor(targets)).numpy()[null] == 0).all()
    nothing = torch.full((3, 6), NAN)
    z = torch.randn(3, 6, requires_grad=True)
    loss(z, nothing).backward()
    assert z.grad is not None
    assert loss(z, nothing).item() == 0
    assert (z.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_stay_finite(name: str, dtype: torch.dtype) -> None:
    logits = torch.tensor([[-1e4, 1e4, -90.0, 90.0, -30.0, 30.0], [0, -15, 15, -1e4, 1e4, 1e-8]]).to(dtype)
    for at in (0.0, 1.0):
        loss = make_loss(LossSpec(name=name), TRAIN).at(at)
        for target in (0.0, 1.0):
            z = logits.clone().requires_grad_()
            entries = loss.entries(z, torch.full((2, 6), target))
            entries.sum().backward()
            assert z.grad is not None
            assert entries.dtype == torch.float32
            assert entries.isfinite().all()
            assert (entries >= 0).all()
            assert z.grad.isfinite().all()
            assert loss.slopes(logits, torch.full((2, 6), target)).isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_stack_of_heads_is_each_head_alone(name: str) -> None:
    loss = make_loss(LossSpec(name=name), TRAIN).at(1.0)
    logits = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor(draw(2, rows=5)[1], dtype=torch.float32)
    together = loss(logits, targets)
    assert together.shape == (2, 3)
    assert loss.entries(logits, targets).shape == logits.shape
    for i in range(2):
        for j in range(3):
            assert together[i, j].item() == pytest.approx(loss(logits[i, j], targets).item(), rel=1e-6)
    own = targets.expand(2, 3, 5, 6).clone()
    own[1, 2] = NAN
    assert loss(logits, own)[1, 2] == 0
    assert loss(logits, own)[0].tolist() == pytest.approx(together[0].tolist(), rel=1e-6)


rows = st.lists(
    st.tuples(st.floats(-50, 50, allow_subnormal=False), st.sampled_from([0.0, 1.0, NAN])), min_size=6, max_size=6
)


@given(st.lists(rows, min_size=1, max_size=4), st.lists(rows, min_size=1, max_size=4), st.sampled_from(sorted(LOSSES)))
def test_any_counts_and_logits_give_finite_numbers_and_matching_slopes(train: Any, data: Any, name: str) -> None:
    loss = make_loss(LossSpec(name=name), np.array(train, np.float32)[..., 1])
    given_rows = torch.tensor(data, dtype=torch.float64)
    targets = given_rows[..., 1]
    for at in (0.0, 1.0):
        z = given_rows[..., 0].clone().requires_grad_()
        entries = loss.at(at).entries(z, targets)
        entries.sum().backward()
        assert z.grad is not None
        assert entries.isfinite().all()
        assert z.grad.isfinite().all()
        np.testing.assert_allclose(loss.at(at).slopes(z.detach(), targets).numpy(), z.grad.numpy(), atol=1e-9)
        # a positive's loss never rises with its logit
        assert (z.grad[targets == 1] <= 0).all()


def test_weights_of_labels_without_positives_or_negatives_are_finite() -> None:
    for name in LOSSES:
        loss = make_loss(LossSpec(name=name), TRAIN)
        for target in (0.0, 1.0):
            assert loss.entries(torch.zeros(1, 6), torch.full((1, 6), target)).isfinite().all()


def test_deferred_weights_come_in_once() -> None:
    loss = make_loss(LossSpec(name="ldam", defer=0.5, beta=0.9), TRAIN)
    assert loss.at(0.49) is loss
    later = loss.at(0.5)
    z, t = torch.zeros(1, 6), torch.ones(1, 6)
    assert not torch.allclose(loss.entries(z, t), later.entries(z, t))
    assert torch.equal(later.at(1.0).entries(z, t), later.entries(z, t))
    plain = make_loss(LossSpec(), TRAIN)
    assert plain.at(1.0) is plain


def test_options_of_another_loss_are_refused() -> None:
    with pytest.raises(SpecError, match=r"loss 'focal' does not use 'beta' .*class-balanced, ldam"):
        LossSpec(name="focal", beta=0.9)
    with pytest.raises(SpecError, match=r"loss 'bce' does not use 'gamma' \(it takes no options"):
        LossSpec(gamma=1)
    with pytest.raises(SpecError, match=r"unknown loss 'focale'. Did you mean 'focal'"):
        LossSpec(name="focale")
    with pytest.raises(ValidationError):
        LossSpec(name="focal", gamma=-1)
    with pytest.raises(ValidationError):
        LossSpec(name="focal", gamma=math.inf)


def test_a_field_takes_a_name_or_a_mapping_and_writes_what_is_used() -> None:
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        loss: LossField = LossSpec()

    assert Options().loss.name == "bce"
    assert Options.model_validate({"loss": "focal"}).loss == LossSpec(name="focal")
    asked = Options.model_validate({"loss": {"name": "focal", "gamma": 3}})
    assert asked.model_dump() == {"loss": {"name": "focal", "gamma": 3.0, "alpha": 0.25}}
    assert Options.model_validate(asked.model_dump()).loss.options == asked.loss.options
    assert loss_spec("ldam") == LossSpec(name="ldam")
    assert len({LossSpec(name="focal"), LossSpec(name="focal", gamma=2.0)}) == 1
    with pytest.raises(ValidationError):
        Options.model_validate({"loss": {"name": "focal", "gama": 3}})
    with pytest.raises(ValidationError):
        Options.model_validate({"loss": 3})


def test_a_target_that_is_no_target_is_refused() -> None:
    with pytest.raises(DataError, match=r"found 0.5 for image 2, label 1"):
        make_loss(LossSpec(), np.array([[1], [0.5]], np.float32))
