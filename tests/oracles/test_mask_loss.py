"""Mask losses written again cell by cell, their values and gradients in closed form, and maps made for losses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tiny_nets import Net, images, seeded
from translucid.errors import ConfigError, InputError, ShapeError
from translucid.explain import HiResCAM
from translucid.losses import (
    BCE,
    OutsideMask,
    PublishedMask,
    Shown,
    attention,
    forbidden_cells,
    linear_attention,
    outside_positive,
    outside_softplus,
)
from translucid.models import AxialNet, CTNet
from translucid.tensors import Batch, Prediction

NAN = float("nan")
LOSSES = [PublishedMask(0.7), OutsideMask(0.7, 0.3, 0.2), OutsideMask(0.7, 0.3, 0.0)]


def case(seed: int, cases: int = 2, labels: int = 3, grid: tuple[int, ...] = (2, 3)) -> tuple[Prediction, Batch]:
    draw = torch.Generator().manual_seed(seed)
    maps = torch.randn(cases, labels, *grid, generator=draw, dtype=torch.float64)
    regions = torch.rand(cases, labels, *grid, generator=draw) < 0.5
    y = torch.tensor([0.0, 1.0, NAN])[torch.randint(3, (cases, labels), generator=draw)]
    batch = Batch(torch.zeros(cases, 1, 1), y, torch.arange(cases), {"regions": regions})
    return Prediction(torch.randn(cases, labels, generator=draw, dtype=torch.float64), maps), batch


# -- the formulas -----------------------------------------------------------------------------------------------------


def omega(batch: Batch, i: int, m: int) -> list[int]:
    """The forbidden cells of one case and label."""
    y, region = batch.y[i, m].item(), batch.extra["regions"][i, m].flatten().tolist()
    if math.isnan(y):
        return []
    return [d for d, allowed in enumerate(region) if y == 0 or not allowed]


def slow_published(maps: Tensor, batch: Batch, groups: float) -> float:
    per_case = []
    for i in range(len(maps)):
        terms = [
            math.log1p(math.exp(groups * maps[i, m].flatten()[d].item()))
            for m in range(maps.shape[1])
            for d in omega(batch, i, m)
        ]
        per_case.append(sum(terms) / len(terms) if terms else 0.0)
    return sum(per_case) / len(per_case)


def slow_ours(maps: Tensor, batch: Batch, absent_weight: float, soften: float) -> float:
    def h(a: float) -> float:
        if a <= 0:
            return 0.0
        return a * a / (2 * soften) if a < soften else a - soften / 2

    kinds: dict[float, list[float]] = {1.0: [], 0.0: []}
    for i in range(len(maps)):
        for m in range(maps.shape[1]):
            cells = maps[i, m].flatten().tolist()
            found = [h(len(cells) * cells[d]) for d in omega(batch, i, m)]
            if found:
                kinds[batch.y[i, m].item()].append(sum(found) / len(found))
    mean = {k: sum(v) / len(v) if v else 0.0 for k, v in kinds.items()}
    return mean[1.0] + absent_weight * mean[0.0]


@given(st.integers(0, 1000), st.sampled_from([(2, 3), (4,), (2, 1, 2)]), st.sampled_from([1.0, 5.0]))
def test_published_loss_is_its_formula(seed: int, grid: tuple[int, ...], groups: float) -> None:
    said, batch = case(seed, grid=grid)
    said = said._replace(extra={"groups": torch.tensor(groups)} if groups > 1 else {})
    expected = BCE()(said, batch).item() + slow_published(said.maps, batch, groups) / 3
    assert PublishedMask()(said, batch).item() == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 1000), st.sampled_from([(2, 3), (4,), (2, 1, 2)]), st.sampled_from([0.0, 0.5, 3.0]))
def test_our_loss_is_its_formula(seed: int, grid: tuple[int, ...], soften: float) -> None:
    said, batch = case(seed, grid=grid)
    expected = BCE()(said, batch).item() + 0.7 * slow_ours(said.maps, batch, 0.3, soften)
    assert OutsideMask(0.7, 0.3, soften)(said, batch).item() == pytest.approx(expected, rel=1e-6)


def test_published_value_and_gradient_at_zero_attention() -> None:
    _, batch = case(4, cases=1)
    batch.y[:] = torch.tensor([[1.0, 0.0, NAN]])
    a = torch.zeros(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    forbidden = forbidden_cells(batch.y, batch.extra["regions"])
    assert torch.equal(forbidden[0, 1], torch.ones(2, 3, dtype=torch.bool))
    assert not forbidden[0, 2].any() and torch.equal(forbidden[0, 0], ~batch.extra["regions"][0, 0])
    loss = outside_softplus(a, forbidden)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-12)
    expected = forbidden.double() / (2 * forbidden.sum().item())
    assert torch.allclose(a.grad, expected, rtol=0, atol=1e-12)
    plain = BCE()(Prediction(torch.zeros(1, 3)), batch).item()
    whole = PublishedMask()(Prediction(torch.zeros(1, 3), torch.zeros(1, 3, 2, 3)), batch).item()
    assert whole == pytest.approx(plain + math.log(2) / 3, abs=1e-6)


def test_published_loss_rewards_evidence_against_and_ours_does_not() -> None:
    said, batch = case(1, cases=1)
    batch.y[:] = 0
    for depth in (0.0, -1.0, -5.0):
        maps = torch.full_like(said.maps, depth).requires_grad_()
        PublishedMask()(said._replace(maps=maps), batch).backward()
        assert (maps.grad > 0).all()
        maps.grad = None
        OutsideMask()(said._replace(maps=maps), batch).backward()
        assert (maps.grad == 0).all()


def test_soft_hinge_is_smooth_and_meets_the_hinge() -> None:
    a = torch.linspace(-1, 2, 3001, dtype=torch.float64, requires_grad=True)
    every = torch.ones(3001, 1, 1, dtype=torch.bool)
    h = outside_positive(a[:, None, None], every, 0.5)
    (slope,) = torch.autograd.grad(h.sum(), a)
    assert (slope.diff() >= 0).all() and slope.diff().max() < 3e-3 and slope.max() == 1
    gap = (outside_positive(a[:, None, None], every, 0.0) - h).detach()
    assert gap.min() >= -1e-15 and gap.max().item() == pytest.approx(0.25)


# -- laws --------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.sampled_from(LOSSES))
def test_allowed_and_unknown_cells_feel_nothing(seed: int, loss) -> None:
    said, batch = case(seed)
    maps = said.maps.clone().requires_grad_()
    loss(said._replace(maps=maps), batch).backward()
    free = ~forbidden_cells(batch.y, batch.extra["regions"])
    assert (maps.grad[free] == 0).all()
    assert (maps.grad[torch.isnan(batch.y)] == 0).all()


def test_nothing_known_costs_nothing() -> None:
    said, batch = case(2)
    batch.y[:] = NAN
    for loss in LOSSES:
        maps = said.maps.clone().requires_grad_()
        cost = loss(said._replace(maps=maps), batch)
        cost.backward()
        assert cost.item() == 0 and (maps.grad == 0).all()


def test_our_loss_does_not_depend_on_how_fine_the_grid_is() -> None:
    said, batch = case(5)
    fine = [t.repeat_interleave(2, 2).repeat_interleave(3, 3) for t in (said.maps / 6, batch.extra["regions"])]
    finer = Batch(batch.x, batch.y, batch.index, {"regions": fine[1]})
    coarse = OutsideMask()(said, batch)
    torch.testing.assert_close(OutsideMask()(said._replace(maps=fine[0]), finer), coarse, rtol=1e-12, atol=0)


def test_our_loss_does_not_drown_present_labels_in_absent_ones() -> None:
    """The gradient at a present label is the same beside one absent label or beside forty; the published one fades."""

    def pull(loss, absent: int) -> float:
        maps = torch.full((1, 1 + absent, 4), 0.1, dtype=torch.float64, requires_grad=True)
        y = torch.tensor([[1.0] + [0.0] * absent])
        regions = torch.tensor([True, True, False, False]).expand(1, 1 + absent, 4)
        batch = Batch(torch.zeros(1, 1, 1), y, torch.arange(1), {"regions": regions})
        loss(Prediction(torch.zeros(1, 1 + absent, dtype=torch.float64), maps), batch).backward()
        return maps.grad[0, 0, 3].item()

    assert pull(OutsideMask(), 40) == pytest.approx(pull(OutsideMask(), 1), rel=1e-12)
    assert pull(PublishedMask(), 40) == pytest.approx(pull(PublishedMask(), 1) * (2 + 4) / (2 + 160), rel=1e-9)


def test_what_does_not_fit_is_refused() -> None:
    said, batch = case(0)
    for loss in LOSSES:
        with pytest.raises(ShapeError, match="grid of 2 × 3, regions on one of 4 × 6"):
            loss(said, Batch(batch.x, batch.y, batch.index, {"regions": torch.ones(2, 3, 4, 6, dtype=torch.bool)}))
        with pytest.raises(InputError, match="regions"):
            loss(said, Batch(batch.x, batch.y, batch.index))
        with pytest.raises(InputError, match="axialnet"):
            loss(said._replace(maps=None), batch)
    for wrong in ({"weight": -1.0}, {"absent_weight": NAN}, {"soften": -0.1}, {"positive": (0.0,)}):
        with pytest.raises(ConfigError):
            OutsideMask(**wrong)


# -- maps for losses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["fc", "gap", "bn", "mlp", "max"])
def test_attention_is_hirescam(head: str) -> None:
    model, x = seeded(Net(head)), images(2, 1, 6, 6)
    got = attention(model, x, labels=[2, 0])
    torch.testing.assert_close(got, HiResCAM()(model, x, [2, 0]).maps, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        quiet = attention(model, x, labels=[2, 0])
    assert got.requires_grad and not quiet.requires_grad
    assert torch.equal(quiet, got)


def test_attention_and_closed_form_give_the_network_the_same_gradients() -> None:
    spec = AxialNet(slices_per_group=1, trunk="small", tail=(3,), norm="frozen")
    model, x = seeded(spec.build((1, 2, 40, 40), 3, 0)), images(1, 1, 2, 40, 40)
    weight = torch.randn(1, 3, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def closed() -> Tensor:
        w = model.fc.weight.view(3, 3, 1, 3, 3) / 2
        return linear_attention(model.features(x), w, chunk=2)

    grads = []
    for maps in (attention(model, x), closed(), model(x).maps):
        found = torch.autograd.grad((maps * weight).square().sum(), list(model.parameters()), allow_unused=True)
        grads.append([g for g in found if g is not None])
        assert len(grads[-1]) == len(list(model.parameters())) - 1, "all but the bias"
    for other in grads[1:]:
        for a, b in zip(grads[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_gradients_through_a_bent_head_are_those_of_differences() -> None:
    model, x = seeded(Net("mlp")), images(1, 1, 6, 6)
    regions = torch.zeros(1, 3, 3, 3, dtype=torch.bool)

    def cost(bias: Tensor) -> Tensor:
        model.hidden._parameters["bias"] = bias
        maps = attention(model, x)
        return outside_softplus(maps, ~regions)

    start = model.hidden.bias.detach().clone().requires_grad_()
    del model.hidden._parameters["bias"]
    assert torch.autograd.gradcheck(cost, (start,), eps=1e-6, atol=1e-7)


def test_shown_network_predicts_the_same_and_pays_for_its_maps() -> None:
    bare = seeded(CTNet(trunk="small", slices="depth", widths=(2, 2, 2), norm="group").build((1, 9, 48, 48), 2, 0))
    model, x = Shown(bare), images(2, 1, 9, 48, 48)
    said = model(x)
    assert torch.equal(said.logits, bare(x).logits)
    torch.testing.assert_close(said.maps, HiResCAM()(bare, x, [0, 1]).maps, rtol=1e-9, atol=1e-12)
    regions = torch.zeros(said.maps.shape, dtype=torch.bool)
    batch = Batch(x, torch.tensor([[1.0, 0.0]] * 2), torch.arange(2), {"regions": regions})
    assert PublishedMask()(said, batch) > BCE()(said, batch)
    with pytest.raises(InputError, match="no features"):
        Shown(nn.Linear(2, 2))


def test_attention_says_what_is_missing() -> None:
    model, x = seeded(Net("fc")), images(1, 1, 6, 6)
    with pytest.raises(InputError, match="not both"):
        attention(model)
    with pytest.raises(InputError, match="not both"):
        attention(model, x, model.features(x))
    with pytest.raises(ShapeError, match="do not fit weights"):
        linear_attention(torch.zeros(1, 2, 3, 3), torch.zeros(4, 2, 3, 2))
    with pytest.raises(ShapeError, match="do not fit weights"):
        linear_attention(torch.zeros(1, 2, 3, 3), torch.zeros(4, 3, 3, 3))
    with pytest.raises(ConfigError, match="at least 1 label"):
        linear_attention(torch.zeros(1, 2, 3), torch.zeros(4, 2, 3), chunk=0)


def test_pricing_outside_evidence_moves_it_inside() -> None:
    """Two bright corners tell the same of the label; the loss decides which one the network listens to."""
    y = (torch.arange(16)[:, None] % 2).float()
    x = torch.zeros(16, 1, 8, 8)
    x[:, :, :3, :3] = x[:, :, 5:, 5:] = y[:, :, None, None]
    regions = torch.zeros(16, 1, 4, 4, dtype=torch.bool)
    regions[:, :, :2, :2] = True
    batch = Batch(x, y, torch.arange(16), {"regions": regions})

    def share_inside(loss) -> float:
        draw = torch.Generator().manual_seed(0)
        net = Net("fc", labels=1, size=8)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=draw))
        model = Shown(net)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(60):
            optimiser.zero_grad()
            loss(model(batch.x), batch).backward()
            optimiser.step()
        said = model(batch.x)
        assert ((said.logits > 0) == (y > 0.5)).all()
        positive = said.maps[y[:, 0] == 1].clamp(min=0).sum((0, 1))
        return (positive[:2, :2].sum() / positive.sum()).item()

    assert share_inside(OutsideMask(weight=1.0)) > max(0.9, share_inside(BCE()) + 0.2)
