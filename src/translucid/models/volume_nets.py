"""What AxialNet is compared with: networks that mix slices by three-dimensional convolutions, before a perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from translucid.errors import ConfigError, ShapeError, lookup
from translucid.models.axialnet import CHOICES, in_plane
from translucid.models.spec import Eats, drawn_from, need_input, need_shape
from translucid.models.trunk import (
    Norm,
    Rest,
    Trunk,
    TrunkName,
    Volumes,
    Window,
    cells_of,
    centres,
    check_reading,
    group_count,
    load_trunk,
    read_groups,
    trunk_features,
    trunk_windows,
)
from translucid.tensors import Logits, Placement, Prediction
from translucid.types import Space

Activations = Float[Tensor, "batch feature gz gy gx"]
Windows = tuple[tuple[Window, Window, Window], ...]
"""For each convolution its window along depth, height and width."""

PLANE: tuple[Window, ...] = ((3, 1, 0), (3, 1, 0), (2, 2, 0))
"""Along height and width: 14 → 12 → 10 → 5 cells."""


def _deep_windows(length: int, steps: int) -> list[Window]:
    """Valid windows of 3 with stride 3, and of what is left where that is less: 512 → 170 → 56 → 18."""
    windows: list[Window] = []
    for _ in range(steps):
        width = min(3, length)
        windows.append((width, width, 0))
        length = cells_of(length, windows[-1:])
    return windows


def _conv(before: int, width: int, windows: tuple[Window, Window, Window]) -> nn.Conv3d:
    kernel, stride, padding = zip(*windows, strict=True)
    conv = nn.Conv3d(before, width, kernel, stride, padding)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _perceptron(entries: int, hidden: Sequence[int], labels: int) -> nn.Sequential:
    widths = (entries, *hidden)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], labels))


def _positive(name: str, widths: tuple[int, ...], least: int) -> None:
    if len(widths) < least or min(widths, default=1) < 1:
        raise ConfigError(f"{name} must be positive numbers, at least {least} of them, got {widths}")


@dataclass(frozen=True)
class CTNet:
    """CT-Net and BodyConv: a ResNet-18 for each group of slices, three 3-D convolutions over all, a perceptron.

    With slices = "channels" (CT-Net) a scan's groups become the channels of a volume of features × height × width:
    135 × 512 × 14 × 14 → 16 × 18 × 5 × 5 → 128 → 96 → labels. The place along the body is then lost, and the map has
    one cell in depth. With slices = "depth" (BodyConv) the features are the channels: 512 × 135 × 14 × 14 →
    16 × 5 × 5 × 5 → 128 → 96 → labels.

    Args:
        slices_per_group, trunk, norm, rest, chunk, offset, weights: as in `AxialNet`.
        slices: what the 3-D convolutions take a group for: a channel of its own, or a step in depth.
        widths: features of the three convolutions.
        hidden: units of the perceptron's hidden layers.

    Example:
        >>> with torch.device("meta"):
        ...     net = CTNet().build((1, 405, 420, 420), labels=83, seed=0)
        >>> net.readout[1]
        Linear(in_features=7200, out_features=128, bias=True)

    Source: Draelos and others, Medical Image Analysis 67 (2021) 101857, arXiv:2002.04752. The windows (3 × 3 × 3 with
    stride 3 in depth, twice, then 3 × 2 × 2 with stride 3 × 2 × 2) are our reading of the published sizes; so is that
    the depth window shrinks to what is left in short scans, and that nothing is dropped out.

    Fails when: its map is read as proof. The perceptron has biases, so no map of it sums to the logit.
    """

    slices_per_group: int = 3
    trunk: TrunkName = "resnet18"
    slices: Literal["channels", "depth"] = "channels"
    widths: tuple[int, ...] = (64, 32, 16)
    hidden: tuple[int, ...] = (128, 96)
    norm: Norm = "batch"
    rest: Rest = "repeat"
    chunk: int | None = None
    offset: float = 0.449
    weights: str | None = None
    eats: ClassVar[Eats] = "image"

    def __post_init__(self) -> None:
        for name in ("trunk", "norm", "rest"):
            lookup(dict.fromkeys(CHOICES[name]), getattr(self, name), name)
        lookup(dict.fromkeys(("channels", "depth")), self.slices, "slices")
        check_reading(self.slices_per_group, self.chunk, self.norm)
        _positive("hidden", self.hidden, 0)
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise ConfigError(f"widths needs 3 positive numbers, got {self.widths}")

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for volumes of `shape` (1, depth, height, width), and for no other size."""
        need_shape(shape, labels, (4,), "ctnet")
        if shape[0] != 1:
            raise ShapeError(f"ctnet reads volumes of 1 channel, got {shape[0]}: it makes colours of slices")
        grid = in_plane(shape[2:], [*trunk_windows(self.trunk), *PLANE], "ctnet")
        groups = group_count(shape[1], self.slices_per_group, self.rest)
        if groups < 1:
            raise ShapeError(f"{shape[1]} slices make no group of {self.slices_per_group}: hand in more")
        with drawn_from(seed):
            net = _CTNet(self, shape, groups, grid, labels)
        if self.weights is not None:
            load_trunk(net.trunk, Path(self.weights))
        return net


class _CTNet(nn.Module):
    def __init__(self, spec: CTNet, shape: tuple[int, ...], groups: int, grid: tuple[int, int], labels: int) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.trunk = Trunk(spec.trunk, spec.slices_per_group, spec.norm)
        features = trunk_features(spec.trunk)
        channels, length = (groups, features) if spec.slices == "channels" else (features, groups)
        self.deep = _deep_windows(length, 3)
        layers: list[nn.Module] = []
        for (before, width), deep, plane in zip(pairwise((channels, *spec.widths)), self.deep, PLANE, strict=True):
            layers += [_conv(before, width, (deep, plane, plane)), nn.ReLU()]
        self.mix = nn.Sequential(*layers)
        cells = cells_of(length, self.deep) * grid[0] * grid[1]
        self.readout = _perceptron(spec.widths[-1] * cells, spec.hidden, labels)

    def features(self, x: Volumes) -> Activations:
        """Volumes → activations after the last ReLU of the 3-D convolutions."""
        need_input(x, self.shape, "this ctnet")
        spec = self.spec
        cells = read_groups(self._one_slice, x, spec.slices_per_group, spec.rest, spec.chunk, self.training)
        if spec.slices == "depth":
            return self.mix(cells.transpose(1, 2))
        # what was an axis of features is no place: its entries are features of one cell that is as deep as the scan
        return self.mix(cells).flatten(1, 2).unsqueeze(2)

    def _one_slice(self, images: Tensor) -> Tensor:
        return self.trunk(images - self.spec.offset)

    def head(self, a: Activations) -> Logits:
        """Activations → logits."""
        return self.readout(a)

    def forward(self, x: Volumes) -> Prediction:
        """Both in a row."""
        return Prediction(self.head(self.features(x)))

    def placement(self, space: Space) -> Placement:
        """Where the cells lie in a volume; with slices as channels one cell stands for all of its depth."""
        size = self.spec.slices_per_group
        start, step = centres([*trunk_windows(self.spec.trunk), *PLANE])
        if self.spec.slices == "channels":
            return Placement(((space[0] - 1) / 2, start, start), (float(space[0]), step, step))
        first, along = centres(self.deep, (size - 1) / 2, float(size))
        return Placement((first, start, start), (along, step, step))


@dataclass(frozen=True)
class CNN3D:
    """A plain three-dimensional network without a trunk: strided convolutions, averages on a coarse grid, a perceptron.

    Blocks of (3 × 3 × 3 convolution with stride 2 → group normalisation → ReLU), then averages over windows that leave
    at most `cells` cells along each axis, then the perceptron: at 405 × 420 × 420 that is 64 × 5 × 5 × 5 → 128 → 96 →
    labels. An axis with n cells before the average gets windows of n − (c − 1)·⌊n/c⌋ cells every ⌊n/c⌋ cells, where
    c = min(cells, n): equal, evenly spaced, together all of the axis. Any size of at least one voxel will do.

    Args:
        widths: features of the blocks.
        cells: at most so many cells along each axis.
        hidden: units of the perceptron's hidden layers.

    Example:
        >>> with torch.device("meta"):
        ...     net = CNN3D().build((1, 405, 420, 420), labels=80, seed=0)
        >>> net.readout[1]
        Linear(in_features=8000, out_features=128, bias=True)

    Source: the sizes before and in the perceptron are those of 3DConv in Draelos & Carin, arXiv:2111.12215; the blocks
    are ours.

    Fails when: there are few scans; it starts from nothing, and each of its cells sees a large part of the body.
    """

    widths: tuple[int, ...] = (8, 16, 32, 64)
    cells: int = 5
    hidden: tuple[int, ...] = (128, 96)
    eats: ClassVar[Eats] = "image"

    def __post_init__(self) -> None:
        _positive("widths", self.widths, 1)
        _positive("hidden", self.hidden, 0)
        if self.cells < 1:
            raise ConfigError(f"cells must be at least 1, got {self.cells}")

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for volumes of `shape` (channel, depth, height, width), and for no other size."""
        need_shape(shape, labels, (4,), "cnn3d")
        with drawn_from(seed):
            return _CNN3D(self, shape, labels)


class _CNN3D(nn.Module):
    def __init__(self, spec: CNN3D, shape: tuple[int, ...], labels: int) -> None:
        super().__init__()
        self.shape = shape
        strided: Window = (3, 2, 1)
        blocks: list[nn.Module] = []
        for before, width in pairwise((shape[0], *spec.widths)):
            blocks += [_conv(before, width, (strided,) * 3), nn.GroupNorm(1, width), nn.ReLU()]
        before_pool = [strided] * len(spec.widths)
        pools = [_even_window(cells_of(n, before_pool), spec.cells) for n in shape[1:]]
        self.axes = [[*before_pool, pool] for pool in pools]
        kernel, stride, _ = zip(*pools, strict=True)
        self.body = nn.Sequential(*blocks, nn.AvgPool3d(kernel, stride))
        cells = torch.Size([cells_of(n, axis) for n, axis in zip(shape[1:], self.axes, strict=True)]).numel()
        self.readout = _perceptron(spec.widths[-1] * cells, spec.hidden, labels)

    def features(self, x: Volumes) -> Activations:
        """Volumes → averages of what leaves the last ReLU."""
        need_input(x, self.shape, "this cnn3d")
        return self.body(x)

    def head(self, a: Activations) -> Logits:
        """Activations → logits."""
        return self.readout(a)

    def forward(self, x: Volumes) -> Prediction:
        """Both in a row."""
        return Prediction(self.head(self.features(x)))

    def placement(self, space: Space) -> Placement:
        """Where the cells lie in a volume."""
        start, step = zip(*(centres(axis) for axis in self.axes), strict=True)
        return Placement(start, step)


def _even_window(length: int, cells: int) -> Window:
    """Equal windows at equal distances that cover an axis."""
    cells = min(cells, length)
    stride = length // cells
    return (length - (cells - 1) * stride, stride, 0)
