"""Receptive-field centres: the closed arithmetic against influence measured by differentiating a positive network."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tiny_nets import CONV
from translucid.errors import ShapeError
from translucid.explain import HiResCAM, Window, candidates, trace_placement
from translucid.explain.geometry import Geometry, Tracer

RESNET18 = [Window.cube(2, 7, 2, 3), Window.cube(2, 3, 2, 1)] + [
    Window.cube(2, 3, stride if first else 1, 1) for stride in (1, 2, 2, 2) for first in (True, False, False, False)
]


def test_t12_axialnet_at_420_pixels() -> None:
    placed = trace_placement(RESNET18 + [Window.cube(2, 3)] * 4)
    centres = [placed.start[0] + placed.step[0] * i for i in range(6)]
    assert centres == [128 + 32 * i for i in range(6)]
    geometry = Geometry.pixels(2)
    for window in RESNET18 + [Window.cube(2, 3)] * 4:
        geometry = geometry.through(window)
    assert geometry.field == (691, 691)


def centre_and_width(net: nn.Module, x: Tensor, cell: int) -> tuple[float, int]:
    """Mass centre and width of the input a cell depends on, along the last axis, for positive weights."""
    y = net(x)
    index = [0, 0] + [n // 2 for n in y.shape[2:-1]] + [cell]
    pull = torch.autograd.grad(y[tuple(index)], x)[0][0, 0]
    seen = pull.reshape(-1, pull.shape[-1]).sum(0).nonzero().flatten()
    return float(seen.min() + seen.max()) / 2, int(seen.max() - seen.min()) + 1


@settings(max_examples=15)
@given(
    layers=st.lists(
        st.tuples(
            st.integers(1, 4), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.sampled_from(["conv", "avg"])
        ),
        min_size=1,
        max_size=3,
    ),
    axes=st.integers(1, 2),
)
def test_arithmetic_is_what_the_gradient_measures(layers: list[tuple[int, int, int, int, str]], axes: int) -> None:
    pool = {1: nn.AvgPool1d, 2: nn.AvgPool2d}[axes]
    modules: list[nn.Module] = []
    windows = []
    for kernel, stride, padding, dilation, kind in layers:
        if kind == "avg":
            padding, dilation = min(padding, kernel // 2), 1
            modules.append(pool(kernel, stride, padding))
        else:
            modules.append(CONV[axes](1, 1, kernel, stride, padding, dilation, bias=False))
            nn.init.ones_(modules[-1].weight)
        windows.append(Window.cube(axes, kernel, stride, padding, dilation))
    net = nn.Sequential(*modules)
    x = torch.ones(1, 1, *[5] * (axes - 1), 61, requires_grad=True)
    try:
        cells = net(x).shape[-1]
    except RuntimeError:
        return
    placed = trace_placement(windows)
    centre, width = centre_and_width(net, x, cells // 2)
    assert placed.start[-1] + placed.step[-1] * (cells // 2) == centre
    with torch.no_grad(), Tracer(x) as trace:
        y = net(x)
        found = trace.of(y)
    assert found is not None and found.placement == placed
    assert found.field[-1] == width


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(2, 2, 5, padding=2), nn.BatchNorm2d(2), nn.ReLU(inplace=True))
        self.narrow = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.wide(x) + self.narrow(x), x], 1)


def test_trail_through_branches_pooling_and_resampling() -> None:
    x = torch.rand(1, 1, 16, 32)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), Skip(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)).eval()
    with torch.no_grad(), Tracer(x) as trace:
        skip = net[:2](x)
        pooled = net[2](skip)
        up = net[3](pooled)
        lost = pooled.transpose(2, 3)
        padded = net[0](nn.functional.pad(pooled[:, :1], (3, 0, 1, 2)))
    assert trace.of(skip) == Geometry(((0.0, 1.0, 7.0),) * 2)
    assert trace.of(pooled) == Geometry(((0.5, 2.0, 8.0),) * 2)
    assert trace.of(up) == Geometry(((0.0, 1.0, 8.0),) * 2)
    assert trace.of(lost) is None
    assert trace.of(padded) == Geometry(((0.5 - 2 * 1, 2.0, 12.0), (0.5 - 2 * 3, 2.0, 12.0)))


def test_valid_convolutions_do_not_tile_the_image() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(50, 2))
    for p in net.parameters():  # positive throughout, so that no unit is silent
        p.data.abs_()
    x = torch.rand(1, 1, 15, 15)
    found = HiResCAM(layer="3")(net, x, [0])
    assert found.maps.shape[2:] == (5, 5)
    assert found.placement.start == (3.0, 3.0) and found.placement.step == (2.0, 2.0)
    inside = candidates(net, x)[-1]
    assert inside.field == (7, 7) and inside.placement == found.placement
    with torch.no_grad():
        bumped = x.repeat(15, 1, 1, 1)
        bumped[torch.arange(15), 0, :, torch.arange(15)] += 1
        moved = (net[:4](bumped) - net[:4](x)).abs().sum((1, 2))
    for i in range(5):
        seen = (moved[:, i] > 1e-3).nonzero().flatten()
        assert 3 - 3 + 2 * i <= seen.min() and seen.max() <= 3 + 3 + 2 * i


def test_untraceable_grids_tile_and_say_so() -> None:
    class Turned(nn.Module):
        def features(self, x: Tensor) -> Tensor:
            return x.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))

        def head(self, a: Tensor) -> Tensor:
            return a.flatten(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x))

    found = HiResCAM()(Turned(), torch.rand(1, 1, 8, 8), [0])
    assert found.placement.start == (1.5, 1.5) and found.placement.step == (4.0, 4.0)
    assert any("tile" in r for r in found.remarks)


def test_windows_are_checked() -> None:
    with pytest.raises(ShapeError, match="as many sizes"):
        Window((3, 3), (1,), (0, 0), (1, 1))
    with pytest.raises(ShapeError, match="empty chain"):
        trace_placement([])
    with pytest.raises(ShapeError, match="3 axes on a grid of 2"):
        trace_placement([Window.cube(2, 3), Window.cube(3, 3)])
