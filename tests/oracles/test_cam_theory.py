"""HiResCAM's and Grad-CAM's theory, written slowly in the paper's notation and compared with the engine.

A_{f,d} activations, s_m logit, D positions, F features; H_m(d) = Σ_f (∂s_m/∂A_{f,d}) A_{f,d};
G_m(d) = Σ_f α_f A_{f,d} with α_f = (1/|D|) Σ_d ∂s_m/∂A_{f,d}.
"""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from tiny_nets import Axial, Net, images, seeded
from translucid.explain import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from translucid.explain.cam import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam

LABELS = [0, 2]


def setting(head: str, axes: int) -> tuple[Net, Tensor]:
    size = {1: 9, 2: 6, 3: 4}[axes]
    return seeded(Net(head, axes, size=size)), images(2, 1, *[size] * axes)


def slopes(model: Net, a: Tensor, m: int) -> Tensor:
    """∂s_m/∂A for one image, by central differences: exact for affine heads, and nothing of ours."""
    a = a.detach()
    out = torch.zeros_like(a)
    model.requires_grad_(False)
    for index in product(*map(range, a.shape)):
        up, down = a.clone(), a.clone()
        up[index] += 1e-4
        down[index] -= 1e-4
        out[index] = (model.head(up[None])[0, m] - model.head(down[None])[0, m]) / 2e-4
    return out


def slow(model: Net, x: Tensor, rule: str) -> Tensor:
    """The four methods with a loop over everything."""
    a = model.features(x).detach()
    grid = a.shape[2:]
    out = torch.zeros(len(x), len(LABELS), *grid, dtype=torch.float64)
    for b, (k, m) in product(range(len(x)), enumerate(LABELS)):
        g = slopes(model, a[b], m).detach()
        for f in range(a.shape[1]):
            alpha = sum(float(g[f][d]) for d in product(*map(range, grid))) / math.prod(grid)
            total = sum(float(a[b, f][d]) for d in product(*map(range, grid)))
            weight = 0.0
            for d in product(*map(range, grid)):
                s = float(g[f][d])
                below = 2 * s**2 + total * s**3
                weight += (s**2 / below if below else 0.0) * max(s, 0.0)
            for d in product(*map(range, grid)):
                factor = {"hires": float(g[f][d]), "grad": alpha, "++": weight, "layer": max(float(g[f][d]), 0.0)}
                out[(b, k, *d)] += factor[rule] * float(a[b, f][d])
    return out


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    ("method", "rule"), [(HiResCAM, "hires"), (GradCAM, "grad"), (GradCAMPlusPlus, "++"), (LayerCAM, "layer")]
)
def test_definitions(method: type, rule: str, axes: int) -> None:
    model, x = setting("fc", axes)
    found = method()(model, x, LABELS)
    torch.testing.assert_close(found.maps, slow(model, x, rule), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("head", ["mlp", "gap"])
def test_definitions_where_gradients_differ_per_image(head: str) -> None:
    model, x = setting(head, 2)
    torch.testing.assert_close(HiResCAM()(model, x, LABELS).maps, slow(model, x, "hires"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("axes", [2, 3])
def test_t1_one_layer_head_sums_to_the_logit_less_its_bias(axes: int) -> None:
    model, x = setting("fc", axes)
    found = HiResCAM()(model, x, LABELS)
    assert found.exact
    torch.testing.assert_close(found.bias, model.fc.bias[LABELS].detach().expand(2, -1))
    torch.testing.assert_close(
        found.maps.flatten(2).sum(2) + model.fc.bias[LABELS], model(x).logits[:, LABELS], rtol=1e-10, atol=1e-12
    )
    assert found.residual.abs().max() < 1e-10


def test_t1_single_precision() -> None:
    model, x = setting("fc", 2)
    found = HiResCAM()(model.float(), x.float(), LABELS)
    assert found.exact
    assert found.residual.abs().max() < 1e-4 * model(x.float()).logits.abs().max()


def test_t2_slices_averaged() -> None:
    model, x = seeded(Axial()), images(2, 1, 5, 9, 9)
    found = HiResCAM()(model, x, [0, 1])
    assert found.maps.shape == (2, 2, 5, 3, 3)
    assert found.exact and found.residual.abs().max() < 1e-10
    slices = model.slice_scores(model.features(x)).transpose(1, 2)
    ours = model.classify.bias[None, :, None] + 5 * found.maps.sum((3, 4))
    torch.testing.assert_close(ours, slices, rtol=1e-10, atol=1e-12)


def test_t3_attention_of_the_mask_loss_is_slices_times_hirescam() -> None:
    model, x = seeded(Axial()), images(1, 1, 5, 9, 9)
    a = model.features(x)
    attention = torch.einsum("mfyx,bfsyx->bmsyx", model.classify.weight, a)
    torch.testing.assert_close(HiResCAM()(model, x, [0, 1]).maps, (attention / 5).detach())


def test_t4_global_average_pooling_makes_grad_cam_hirescam_and_cam_one() -> None:
    model, x = setting("gap", 2)
    hires, grad = HiResCAM()(model, x, LABELS), GradCAM()(model, x, LABELS)
    cam = torch.einsum("lf,bfyx->blyx", model.fc.weight[LABELS], model.features(x)) / 9
    torch.testing.assert_close(hires.maps, grad.maps, rtol=0, atol=1e-12)
    torch.testing.assert_close(hires.maps, cam.detach(), rtol=0, atol=1e-12)
    assert hires.exact and grad.exact
    assert any("coincide" in r for r in hires.remarks) and any("coincide" in r for r in grad.remarks)


def test_t5_difference_of_the_sums_is_a_covariance() -> None:
    model, x = setting("fc", 2)
    a = model.features(x).detach()
    g = model.fc.weight[LABELS].detach().unflatten(1, a.shape[1:])
    hires, grad = HiResCAM()(model, x, LABELS), GradCAM()(model, x, LABELS)
    assert not grad.exact and any("differ" in r for r in grad.remarks)
    for b, k in product(range(2), range(2)):
        covariance = sum(
            float(((g[k, f] - g[k, f].mean()) * (a[b, f] - a[b, f].mean())).mean()) for f in range(a.shape[1])
        )
        gap = float(hires.maps[b, k].sum() - grad.maps[b, k].sum())
        assert gap == pytest.approx(9 * covariance, rel=1e-10, abs=1e-12)


def test_t5_constructed_case_grad_cam_peaks_where_nothing_contributes() -> None:
    a, g = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[[3.0, 0.0]]]])
    assert hires_cam(a, g).tolist() == [[[3.0, 0.0]]]
    assert grad_cam(a, g).tolist() == [[[1.5, 3.0]]]


def test_t6_batch_norm_in_the_head_moves_the_bias() -> None:
    model, x = setting("bn", 2)
    found = HiResCAM()(model, x, LABELS)
    zero = model.head(torch.zeros(1, 4, 3, 3, dtype=torch.float64))[:, LABELS]
    assert found.exact and found.residual.abs().max() < 1e-10
    torch.testing.assert_close(found.bias, zero.expand(2, -1).detach())
    assert (zero - model.fc.bias[LABELS]).abs().min() > 1e-3


def test_t7_relu_head_is_complete_only_without_biases() -> None:
    model, x = setting("homogeneous", 2)
    found = HiResCAM()(model, x, LABELS)
    assert found.exact and found.residual.abs().max() < 1e-10
    torch.testing.assert_close(
        found.maps.flatten(2).sum(2), model(x).logits[:, LABELS].detach(), rtol=1e-10, atol=1e-12
    )
    model, x = setting("mlp", 2)
    found = HiResCAM()(model, x, LABELS)
    assert not found.exact
    assert found.residual.abs().min() > 1e-4
    torch.testing.assert_close(
        found.residual, (model(x).logits[:, LABELS] - found.bias - found.maps.flatten(2).sum(2)).detach()
    )
    assert any("not provably" in r for r in found.remarks)


def test_t8_maximum_over_places_is_complete_and_shows_one_place() -> None:
    model, x = setting("max", 2)
    found = HiResCAM()(model, x, LABELS)
    assert found.exact and found.residual.abs().max() < 1e-10
    assert (found.maps.flatten(2) != 0).sum(2).tolist() == [[1, 1], [1, 1]]


def test_t9_probability_scales_the_map_by_p_times_one_less_p() -> None:
    model, x = setting("fc", 2)
    a = model.features(x).detach().requires_grad_(True)
    p = model.head(a)[:, 0].sigmoid()
    g = torch.autograd.grad(p.sum(), a)[0]
    total = hires_cam(a.detach(), g[:, None]).flatten(2).sum(2)[:, 0]
    expected = (p * (1 - p) * (model.head(a)[:, 0] - model.fc.bias[0])).detach()
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-12)


def test_t11_zeroing_places_changes_the_logit_by_their_share() -> None:
    model, x = setting("fc", 2)
    found = HiResCAM()(model, x, LABELS)
    a = model.features(x).detach()
    for place in product(range(3), range(3)):
        without = a.clone()
        without[:, :, place[0], place[1]] = 0
        change = model.head(without)[:, LABELS] - model.head(a)[:, LABELS]
        torch.testing.assert_close(change, -found.maps[:, :, place[0], place[1]], rtol=1e-10, atol=1e-12)
    without = a.clone()
    without[:, :, :2, 1:] = 0
    change = model.head(without)[:, LABELS] - model.head(a)[:, LABELS]
    torch.testing.assert_close(change, -found.maps[:, :, :2, 1:].sum((2, 3)), rtol=1e-10, atol=1e-12)


def test_grad_cam_plus_plus_really_divides() -> None:
    a, g = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[[2.0, 1.0]]]])
    alpha = [4 / (2 * 4 + 3 * 8), 1 / (2 * 1 + 3 * 1)]
    weight = alpha[0] * 2 + alpha[1] * 1
    torch.testing.assert_close(grad_cam_plus_plus(a, g), torch.tensor([[[weight, 2 * weight]]]))
    assert torch.isfinite(grad_cam_plus_plus(-a, torch.full_like(g, 2 / 3))).all()


def test_maps_scale_with_the_logit_and_keep_their_sign() -> None:
    model, x = setting("fc", 2)
    before = HiResCAM()(model, x, LABELS).maps
    with torch.no_grad():
        model.fc.weight.mul_(10)
    torch.testing.assert_close(HiResCAM()(model, x, LABELS).maps, 10 * before)
    with torch.no_grad():
        model.fc.weight.mul_(-1)
    torch.testing.assert_close(HiResCAM()(model, x, LABELS).maps, -10 * before)
    assert before.min() < 0 < before.max()
    assert layer_cam(torch.ones(1, 1, 2), torch.tensor([[[[-1.0, 1.0]]]])).tolist() == [[[0.0, 1.0]]]
