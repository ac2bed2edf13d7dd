"""Convolutional networks that name their own seam: forward(x).logits == head(features(x))."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from translucid.errors import ConfigError
from translucid.models.spec import Eats, drawn_from, need_input, need_shape
from translucid.tensors import Images, Logits, Prediction
from translucid.types import Space

Activations = Float[Tensor, "batch feature *grid"]
Head = Literal["gap", "flatten"]


class SplitCNN(nn.Module):
    """A body of convolutions and a linear head, with the activations between them in plain sight.

    The activations are what leaves the last normalisation and ReLU, and nothing writes to them afterwards; so an
    explainer needs no hook, and "the last layer" is one tensor and not two.

    Args:
        body: images → activations.
        head: activations → logits.
        shape: (channel, *space) of one case, −1 where any size will do.
        min_size: shorter axes are enlarged to this first.

    Example:
        >>> net = SplitCNN(nn.Conv2d(1, 4, 3), nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), (1, 8, 8), 8)
        >>> x = torch.zeros(1, 1, 8, 8)
        >>> bool((net(x).logits == net.head(net.features(x))).all())
        True

    Fails when: a head of one's own writes to the activations; the tests of this package hold ours to not doing so.
    """

    def __init__(self, body: nn.Module, head: nn.Module, shape: tuple[int, ...], min_size: int) -> None:
        super().__init__()
        self.body, self.readout = body, head
        self.shape, self.min_size = shape, min_size

    def features(self, x: Images) -> Activations:
        """Images → activations; an axis shorter than `min_size` is first enlarged linearly."""
        need_input(x, self.shape, "this network")
        return self.body(enlarge(x, self.min_size))

    def head(self, a: Activations) -> Logits:
        """Activations → logits."""
        return self.readout(a)

    def forward(self, x: Images) -> Prediction:
        """Both in a row."""
        return Prediction(self.head(self.features(x)))


class _GapHead(nn.Module):
    """logit_l = b_l + Σ_f w_lf · mean over the grid of a_f."""

    def __init__(self, features: int, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, labels)

    def forward(self, a: Activations) -> Logits:
        return self.linear(a.mean(dim=tuple(range(2, a.ndim))))


class _FlatHead(nn.Module):
    """logit_l = b_l + Σ_f Σ_cell w_l,f,cell · a_f,cell: every place has its own weight."""

    def __init__(self, features: int, grid: Space, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features * int(torch.Size(grid).numel()), labels)

    def forward(self, a: Activations) -> Logits:
        return self.linear(a.flatten(1))


def enlarge(x: Images, min_size: int) -> Float[Tensor, "batch channel *larger"]:
    """Interpolate linearly until every axis has at least `min_size` pixels; larger images pass untouched.

    Example:
        >>> enlarge(torch.zeros(1, 1, 16, 100), 64).shape
        torch.Size([1, 1, 64, 100])

    Fails when: only one axis is short; the picture is then stretched along it.
    """
    size = [max(n, min_size) for n in x.shape[2:]]
    if size == list(x.shape[2:]):
        return x
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return nn.functional.interpolate(x, size=size, mode=mode, align_corners=False)


def _assemble(
    body: Callable[[], nn.Module], shape: tuple[int, ...], labels: int, spec: _CnnSpec, seed: int
) -> SplitCNN:
    """Draw the body, find out how many features and cells it makes, and put the head on."""
    any_size = (shape[0], *[-1] * (len(shape) - 1))
    features, grid = _seam(body, shape, spec.min_size)
    with drawn_from(seed):
        net = body()
        if spec.head == "gap":
            return SplitCNN(net, _GapHead(features, labels), any_size, spec.min_size)
        return SplitCNN(net, _FlatHead(features, grid, labels), shape, spec.min_size)


def _seam(body: Callable[[], nn.Module], shape: tuple[int, ...], min_size: int) -> tuple[int, Space]:
    """Shape of the activations, found without computing anything: meta tensors have a shape and no values."""
    with torch.device("meta"), drawn_from(0), torch.no_grad():
        size = tuple(max(n, min_size) for n in shape[1:])
        out = body().eval()(torch.empty(1, shape[0], *size))
    return out.shape[1], tuple(out.shape[2:])


def _writes_nothing(net: nn.Module) -> nn.Module:
    """Turn every in-place ReLU into one that leaves its input alone."""
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return net


@dataclass(frozen=True)
class _CnnSpec:
    """What all convolutional networks of the table can be told."""

    head: Head = "gap"
    min_size: int = 32
    eats: ClassVar[Eats] = "image"

    def __post_init__(self) -> None:
        if self.head not in ("gap", "flatten"):
            raise ConfigError(f"head = {self.head!r}: known are gap, flatten")
        if self.min_size < 1:
            raise ConfigError(f"min_size must be at least 1, got {self.min_size}")


@dataclass(frozen=True)
class DenseNet121(_CnnSpec):
    """DenseNet-121 from scratch, in two or three dimensions, with 1 024 features at the seam.

    Args:
        head: "gap" (global average pooling, then linear, as published) or "flatten" (one weight per feature and cell).
        min_size: shorter axes are enlarged to this; 64 as DeepFixCX feeds its small images.

    Example:
        >>> net = DenseNet121().build((1, 64, 64), labels=1, seed=0)
        >>> net.eval().features(torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 1024, 2, 2])

    Source: Huang, Liu, van der Maaten, Weinberger, CVPR 2017, arXiv:1608.06993; layers from MONAI.

    Fails when: the image is small: one cell of the seam covers 32 × 32 pixels, so a map of a 64-pixel image has 2 × 2
    cells.
    """

    min_size: int = 64

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for images of `shape` (channel, *space) with weights drawn from `seed`."""
        need_shape(shape, labels, (3, 4), "densenet121")
        return _assemble(lambda: _densenet(len(shape) - 1, shape[0]), shape, labels, self, seed)


def _densenet(axes: int, channels: int) -> nn.Module:
    from monai.networks.nets import DenseNet121 as Layers

    net = Layers(spatial_dims=axes, in_channels=channels, out_channels=1)
    return _writes_nothing(nn.Sequential(net.features, nn.ReLU()))


@dataclass(frozen=True)
class ResNet18(_CnnSpec):
    """ResNet-18 from scratch, in two or three dimensions, with 512 features at the seam.

    Args:
        head: "gap" (as published) or "flatten" (one weight per feature and cell).
        min_size: shorter axes are enlarged to this.

    Example:
        >>> net = ResNet18().build((3, 64, 64), labels=2, seed=0)
        >>> net.eval().features(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 512, 2, 2])

    Source: He, Zhang, Ren, Sun, CVPR 2016, arXiv:1512.03385; layers from MONAI, first stride 2 as in the paper.

    Fails when: the image is small: one cell of the seam covers 32 × 32 pixels.
    """

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for images of `shape` (channel, *space) with weights drawn from `seed`."""
        need_shape(shape, labels, (3, 4), "resnet18")
        return _assemble(lambda: _resnet(len(shape) - 1, shape[0]), shape, labels, self, seed)


def _resnet(axes: int, channels: int) -> nn.Module:
    from monai.networks.nets import resnet18

    # a bias before a batch normalisation would be subtracted again, hence bias_downsample=False
    net = resnet18(
        spatial_dims=axes, n_input_channels=channels, conv1_t_stride=2, bias_downsample=False, feed_forward=False
    )
    stages = (net.conv1, net.bn1, net.act, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    return _writes_nothing(nn.Sequential(*stages))


@dataclass(frozen=True)
class SmallCNN(_CnnSpec):
    """A few strided blocks (3-wide convolution → batch normalisation → ReLU): small enough for a demonstration.

    Args:
        head: "gap" or "flatten" (one weight per feature and cell).
        min_size: shorter axes are enlarged to this.
        widths: features of each block; all but the last block halve the image.

    Example:
        >>> net = SmallCNN().build((1, 64, 64), labels=1, seed=0)
        >>> net.eval().features(torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 128, 8, 8])
        >>> sum(p.numel() for p in net.parameters())
        97521

    Fails when: the finding is larger than about 31 pixels, which is all that one cell sees.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"widths must be positive numbers, got {self.widths}")

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for images of `shape` (channel, *space) with weights drawn from `seed`."""
        need_shape(shape, labels, (3, 4), "small_cnn")
        return _assemble(lambda: _small(len(shape) - 1, shape[0], self.widths), shape, labels, self, seed)


def _small(axes: int, channels: int, widths: tuple[int, ...]) -> nn.Module:
    conv = nn.Conv2d if axes == 2 else nn.Conv3d
    norm = nn.BatchNorm2d if axes == 2 else nn.BatchNorm3d
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        stride = 1 if i == len(widths) - 1 else 2
        layers += [conv(channels, width, 3, stride=stride, padding=1, bias=False), norm(width), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-3].weight, nonlinearity="relu")  # type: ignore[arg-type]
        channels = width
    return nn.Sequential(*layers)
