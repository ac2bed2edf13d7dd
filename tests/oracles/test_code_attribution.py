"""Explanations from codes alone: completeness, and the way back into the image, against slow loops."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from tiny_nets import CodeMlp, images, seeded
from translucid.errors import ConfigError, ShapeError
from translucid.explain import (
    GradientTimesCode,
    average,
    bands,
    by_scale_and_orientation,
    carry_back,
    code_gradients,
    edge_bias,
    explain_codes,
    spatial_bias,
)

SPACE = (4, 6)


@dataclass(frozen=True)
class Haar:
    """One level of the orthonormal Haar transform on blocks of 2×2, bands A V H D; all or only some bands kept."""

    keep: int = 4
    gain: float = 1.0

    def basis(self) -> Tensor:
        signs = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
        return self.gain * torch.tensor(signs, dtype=torch.float64)[: self.keep] / 2

    def encode(self, x: Tensor) -> Tensor:
        blocks = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        return torch.einsum("bcijp,kp->bckij", blocks, self.basis()).flatten(2)

    def adjoint(self, z: Tensor, space: tuple[int, ...]) -> Tensor:
        cells = z.unflatten(2, (self.keep, space[0] // 2, space[1] // 2))
        blocks = torch.einsum("bckij,kp->bcijp", cells, self.basis()).unflatten(4, (2, 2))
        return blocks.permute(0, 1, 2, 4, 3, 5).reshape(*z.shape[:2], *space)

    def lift(self, z: Tensor, space: tuple[int, ...]) -> Tensor:
        return self.adjoint(z, space)

    def to_image(self, z: Tensor, space: tuple[int, ...]) -> Tensor:
        return self.lift(z, space)

    def code_length(self, space: tuple[int, ...]) -> int:
        return self.keep * space[0] * space[1] // 4

    def split(self, z: Tensor) -> Tensor:
        return z.unflatten(2, (self.keep, SPACE[0] // 2, SPACE[1] // 2, 1))


@dataclass(frozen=True)
class Sample:
    """Keeps every third pixel; what is lost is shown as zero."""

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, ::3]

    def adjoint(self, z: Tensor, space: tuple[int, ...]) -> Tensor:
        out = z.new_zeros(*z.shape[:2], space[0] * space[1])
        out[:, :, ::3] = z
        return out.unflatten(2, space)

    lift = adjoint
    to_image = adjoint

    def code_length(self, space: tuple[int, ...]) -> int:
        return -(-space[0] * space[1] // 3)


def setting(compressor: Haar | Sample, channels: int = 1, bias: bool = True) -> tuple[CodeMlp, Tensor]:
    codes = compressor.encode(images(3, channels, *SPACE))
    return seeded(CodeMlp(codes.shape[2], bias=bias, channels=channels)), codes


def test_bias_free_network_is_complete_and_one_with_biases_says_what_is_missing() -> None:
    model, codes = setting(Haar(), bias=False)
    found = GradientTimesCode()(model, codes, [0, 2])
    assert found.exact and found.residual.abs().max() < 1e-10
    torch.testing.assert_close(found.maps.sum((2, 3)), model(codes).logits[:, [0, 2]].detach())
    model, codes = setting(Haar())
    found = GradientTimesCode()(model, codes, [0, 2])
    zero = model(torch.zeros_like(codes)).logits[:, [0, 2]].detach()
    assert not found.exact and found.residual.abs().max() > 1e-3
    torch.testing.assert_close(found.bias, zero)


def test_contribution_is_the_code_times_its_slope() -> None:
    model, codes = setting(Haar(), channels=2)
    found = GradientTimesCode()(model, codes, [1])
    for b, c, k in product(range(3), range(2), range(0, codes.shape[2], 5)):
        up, down = codes.clone(), codes.clone()
        up[b, c, k] += 1e-6
        down[b, c, k] -= 1e-6
        slope = (model(up).logits[b, 1] - model(down).logits[b, 1]).item() / 2e-6
        assert found.maps[b, 0, c, k].item() == pytest.approx(slope * codes[b, c, k].item(), abs=1e-7)


def test_integrated_gradients_add_up_between_baseline_and_codes() -> None:
    model, codes = setting(Haar())
    baseline = codes.clone()
    baseline[:, :, 6:] = 0  # only the smooth band is kept
    ends = (model(codes).logits - model(baseline).logits).detach()
    for steps, most in ((64, 0.02), (512, 0.002)):
        found = GradientTimesCode(steps=steps)(model, codes, [0, 1, 2], baseline)
        assert (found.maps.sum((2, 3)) - ends).abs().max() < most
        torch.testing.assert_close(found.bias, model(baseline).logits.detach())
        assert not found.exact
    slow = torch.zeros_like(codes)
    for t in torch.arange(0.5, 400) / 400:
        z = (baseline + t * (codes - baseline)).requires_grad_(True)
        slow += torch.autograd.grad(model(z).logits[:, 1].sum(), z)[0] * (codes - baseline) / 400
    torch.testing.assert_close(found.maps[:, 1], slow, rtol=0, atol=5e-3)


@pytest.mark.parametrize("compressor", [Haar(), Haar(keep=2), Sample()])
@pytest.mark.parametrize("channels", [1, 2])
def test_carried_back_contributions_still_add_up(compressor: Haar | Sample, channels: int) -> None:
    model, codes = setting(compressor, channels)
    found = code_gradients(model, codes, [0, 1])
    total = (found.gradient * codes[:, None]).sum((2, 3))
    for how in ("auto", "adjoint", "footprint"):
        carried = carry_back(found.gradient, codes, compressor, SPACE, how)
        torch.testing.assert_close(carried.maps.sum((2, 3)), total)
        assert carried.residual.abs().max() < 1e-10
        assert carried.how == ("footprint" if how == "footprint" else "adjoint") and carried.why


def test_adjoint_is_gradient_of_the_image_times_what_the_codes_show() -> None:
    compressor = Haar(keep=3)
    model, codes = setting(compressor)
    found = code_gradients(model, codes, [0])
    x = compressor.lift(codes, SPACE).requires_grad_(True)
    slope = torch.autograd.grad(model(compressor.encode(x)).logits[:, 0].sum(), x)[0]
    carried = carry_back(found.gradient, codes, compressor, SPACE)
    torch.testing.assert_close(carried.maps[:, 0], (slope * x).sum(1).detach())


def test_footprint_spreads_each_share_over_its_own_cell() -> None:
    compressor = Haar()
    model, codes = setting(compressor)
    gradient = code_gradients(model, codes, [0]).gradient
    slow = torch.zeros(3, 1, *SPACE, dtype=torch.float64)
    for b, band, i, j, di, dj in product(range(3), range(4), range(2), range(3), range(2), range(2)):
        k = band * 6 + i * 3 + j
        slow[b, 0, 2 * i + di, 2 * j + dj] += (gradient[b, 0, 0, k] * codes[b, 0, k]) / 4
    for chunk in (1, 10**6):
        carried = carry_back(gradient, codes, compressor, SPACE, "footprint", chunk)
        torch.testing.assert_close(carried.maps, slow)


def test_a_transform_that_does_not_return_its_codes_falls_back_to_footprints() -> None:
    compressor = Haar(gain=0.5)
    model, codes = setting(compressor, bias=False)
    gradient = code_gradients(model, codes, [0]).gradient
    forced = carry_back(gradient, codes, compressor, SPACE, "adjoint")
    assert forced.residual.abs().max() > 1e-3 and "not kept" in forced.why
    auto = carry_back(gradient, codes, compressor, SPACE)
    assert auto.how == "footprint" and auto.residual.abs().max() < 1e-10
    whole = explain_codes(model, codes, [0], compressor, SPACE)
    assert whole.exact and whole.maps.shape == (3, 1, *SPACE)
    assert whole.placement.start == (0, 0) and whole.placement.step == (1, 1)
    assert not explain_codes(model, codes, [0], compressor, SPACE, how="adjoint").exact


def test_spatial_and_edge_bias_keep_the_sum() -> None:
    compressor = Haar()
    model, codes = setting(compressor, channels=2)
    shares = GradientTimesCode()(model, codes, [0, 1]).maps
    spatial, edge = spatial_bias(shares, compressor.split), edge_bias(shares, compressor.split)
    assert spatial.shape == (3, 2, 2, 3) and edge.shape == (3, 2, 4)
    slow_s, slow_e = torch.zeros_like(spatial), torch.zeros_like(edge)
    for b, m, c, band, i, j in product(range(3), range(2), range(2), range(4), range(2), range(3)):
        slow_s[b, m, i, j] += shares[b, m, c, band * 6 + i * 3 + j]
        slow_e[b, m, band] += shares[b, m, c, band * 6 + i * 3 + j]
    torch.testing.assert_close(spatial, slow_s)
    torch.testing.assert_close(edge, slow_e)
    torch.testing.assert_close(edge.sum(2), shares.sum((2, 3)))
    with pytest.raises(ShapeError, match="band"):
        spatial_bias(shares, lambda z: z)
    with pytest.raises(ShapeError, match="numbers per image"):
        edge_bias(shares, lambda z: compressor.split(z)[..., :1, :])


def test_an_edge_shows_in_its_own_band() -> None:
    compressor = Haar()
    vertical = torch.zeros(1, 1, *SPACE, dtype=torch.float64)
    vertical[..., ::2] = 1
    energy = compressor.encode(vertical)[:, None] ** 2
    strongest = edge_bias(energy, compressor.split)[0, 0, 1:].argmax() + 1
    assert bands(1)[int(strongest)].orientation == "V"
    assert edge_bias(energy, compressor.split)[0, 0, 2:].tolist() == [0, 0]


def test_bands_of_deeper_packets() -> None:
    assert [b.scale for b in bands(2)] == [0, 2, 2, 2] + [1] * 12
    assert bands(3)[0b000110].name == "AVH" and bands(3)[0b000110].scale == 2
    assert len(bands(2, axes=3)) == 64 and bands(1, axes=3)[5].name == "HLH"
    edges = torch.arange(16.0).view(1, 1, 16)
    groups = by_scale_and_orientation(edges, bands(2))
    assert sum(float(v) for v in groups.values()) == 120
    with pytest.raises(ShapeError):
        by_scale_and_orientation(edges, bands(1))
    with pytest.raises(ShapeError):
        bands(0)


def test_average_counts_every_patient_once() -> None:
    values = torch.tensor([[[1.0], [1.0]], [[3.0], [5.0]], [[8.0], [7.0]], [[float("nan")], [100.0]]])
    chosen = torch.tensor([[True, True], [True, False], [True, False], [False, False]])
    found = average(values, chosen, ["a", "a", "b", "c"])
    assert found.mean.tolist() == [[5.0], [1.0]]
    assert found.patients.tolist() == [2, 1] and found.images.tolist() == [3, 1]
    assert torch.isnan(average(values, torch.zeros_like(chosen), ["a", "a", "b", "c"]).mean).all()
    with pytest.raises(ShapeError):
        average(values, chosen, ["a"])


def test_wrong_use_is_refused() -> None:
    compressor = Haar()
    model, codes = setting(compressor)
    gradient = code_gradients(model, codes, [0]).gradient
    with pytest.raises(ConfigError, match="footprint"):
        carry_back(gradient, codes, compressor, SPACE, "nearest")
    with pytest.raises(ShapeError, match="does not fit"):
        carry_back(gradient, codes[:1], compressor, SPACE)
    with pytest.raises(ShapeError, match="baseline"):
        code_gradients(model, codes, [0], baseline=torch.zeros(5))
    with pytest.raises(ShapeError, match="wanted"):
        code_gradients(model, codes[0], [0])
    with pytest.raises(ConfigError, match="steps"):
        GradientTimesCode(steps=-1)
