"""What the networks for volumes share: slices in groups, a residual trunk for each group, and where its cells lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from translucid.errors import ConfigError, InputError, ShapeError

TrunkName = Literal["resnet18", "small"]
Norm = Literal["batch", "frozen", "group"]
Rest = Literal["repeat", "drop"]
Window = tuple[int, int, int]
"""Kernel, stride and padding of a convolution or pooling along one axis."""

QUIET = 16
"""Groups at once where nothing is learned and the caller did not say; results do not depend on it."""

Volumes = Float[Tensor, "batch channel depth height width"]


# -- where cells lie ------------------------------------------------------------------------------------------------


def cells_of(size: int, windows: Sequence[Window]) -> int:
    """Cells that a chain of windows makes of `size` pixels: n ← ⌊(n + 2p − k)/s⌋ + 1; 0 where a window does not fit.

    Example:
        >>> cells_of(420, [(7, 2, 3), (3, 2, 1)])
        105
    """
    for kernel, stride, padding in windows:
        size = (size + 2 * padding - kernel) // stride + 1
        if size < 1:
            return 0
    return size


def least_size(cells: int, windows: Sequence[Window]) -> int:
    """The fewest pixels that give so many cells: n ← (n − 1)·s + k − 2p, from the last window to the first.

    Example:
        >>> least_size(9, [(7, 2, 3), (3, 2, 1)])
        33
    """
    for kernel, stride, padding in reversed(windows):
        cells = (cells - 1) * stride + max(kernel - 2 * padding, 1)
    return cells


def centres(windows: Sequence[Window], start: float = 0.0, step: float = 1.0) -> tuple[float, float]:
    """Centre of the first cell and distance of the centres, in pixels of the input.

    start ← start + step·((k − 1)/2 − p) and step ← step·s, from the first window to the last.

    Args:
        windows: first to last.
        start, step: where the elements lie that the first window sees.

    Example:
        >>> centres([(3, 1, 0), (3, 2, 0)])
        (2.0, 2.0)

    Source: arithmetic of strided windows; cf. Araujo, Norris & Sim 2019, doi:10.23915/distill.00021.

    Fails when: padding reaches into the cell's view; the cell then sees less than its centre suggests.
    """
    for kernel, stride, padding in windows:
        start, step = start + step * ((kernel - 1) / 2 - padding), step * stride
    return start, step


# -- the trunk --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """A residual network: its first convolution, whether a maximum follows, and its stages."""

    kernel: int
    pooled: bool
    widths: tuple[int, ...]
    blocks: int


_PLANS: dict[str, _Plan] = {
    "resnet18": _Plan(7, True, (64, 128, 256, 512), 2),
    "small": _Plan(3, False, (16, 32, 64), 1),
}


def trunk_windows(name: TrunkName) -> list[Window]:
    """The windows along one axis, first to last; a residual path has the same centres as the one it goes round.

    Example:
        >>> trunk_windows("small")[:2], centres(trunk_windows("resnet18"))
        ([(3, 2, 1), (3, 1, 1)], (0.0, 32.0))
    """
    plan = _PLANS[name]
    windows = [(plan.kernel, 2, plan.kernel // 2), *([(3, 2, 1)] if plan.pooled else [])]
    for stage in range(len(plan.widths)):
        for block in range(plan.blocks):
            windows += [(3, 2 if stage and not block else 1, 1), (3, 1, 1)]
    return windows


def trunk_features(name: TrunkName) -> int:
    """Features the trunk gives each cell.

    Example:
        >>> trunk_features("resnet18")
        512
    """
    return _PLANS[name].widths[-1]


class _FrozenNorm(nn.Module):
    """Batch normalisation by stored statistics, in training too; scale and shift are learned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Float[Tensor, "slice feature gy gx"]) -> Float[Tensor, "slice feature gy gx"]:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def _normalise(norm: Norm, width: int) -> nn.Module:
    if norm == "group":
        return nn.GroupNorm(math.gcd(32, width // 2) if width > 1 else 1, width)
    return nn.BatchNorm2d(width) if norm == "batch" else _FrozenNorm(width)


class _Block(nn.Module):
    """Two convolutions and a way round them; the names are those of the usual ResNet weight files."""

    def __init__(self, before: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = _normalise(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = _normalise(norm, width)
        shape_changes = stride > 1 or before != width
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), _normalise(norm, width))
            if shape_changes
            else nn.Identity()
        )

    def forward(self, x: Float[Tensor, "slice before h w"]) -> Float[Tensor, "slice feature gy gx"]:
        inside = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (inside + self.downsample(x)).relu()


class Trunk(nn.Module):
    """A residual network without its pooling and its last layer; nothing in it writes to an activation.

    Args:
        name: "resnet18" (stride 32, 512 features) or "small" (stride 8, 64 features, for tests and small volumes).
        channels: of the input.
        norm: see `AxialNet`.

    Example:
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in Trunk("resnet18", 3, "batch").parameters())
        11176512

    Source: He, Zhang, Ren, Sun, CVPR 2016, arXiv:1512.03385.

    Fails when: see `AxialNet`.
    """

    def __init__(self, name: TrunkName, channels: int, norm: Norm) -> None:
        super().__init__()
        plan = _PLANS[name]
        width = plan.widths[0]
        self.conv1 = nn.Conv2d(channels, width, plan.kernel, 2, plan.kernel // 2, bias=False)
        self.bn1 = _normalise(norm, width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if plan.pooled else nn.Identity()
        self.stages = len(plan.widths)
        for stage, wide in enumerate(plan.widths):
            stride = 2 if stage else 1
            blocks = [_Block(width if i == 0 else wide, wide, 1 if i else stride, norm) for i in range(plan.blocks)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            width = wide
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "slice channel h w"]) -> Float[Tensor, "slice feature gy gx"]:
        """Images → activations after the last ReLU."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x


def load_trunk(trunk: nn.Module, path: Path) -> None:
    """Fill a trunk from a safetensors file with the usual ResNet names (`conv1.weight`, `layer1.0.bn1.weight`, …).

    The last layer of a classifier (`fc.…`) and counters of batches may stand in the file; they are left out.

    Raises:
        InputError: the file is not there, damaged, or of another network; nothing has been changed then.

    Example:
        >>> load_trunk(Trunk("small", 3, "batch"), Path("no/such/file"))
        Traceback (most recent call last):
        ...
        translucid.errors.InputError: no/such/file: no such file of trunk weights

    Fails when: the file's network expected other values than `offset` leaves, for example a division by a deviation.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of trunk weights")
    try:
        stored = load_file(path)
    except SafetensorError as e:
        raise InputError(f"{path} is no safetensors file: {e}") from None
    wanted = {k: v for k, v in trunk.state_dict().items() if not k.endswith("num_batches_tracked")}
    stored = {k: v for k, v in stored.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}
    odd = sorted(wanted.keys() ^ stored.keys())
    odd += [k for k, v in wanted.items() if k in stored and stored[k].shape != v.shape]
    if odd:
        raise InputError(f"{path} holds another network than this trunk: they differ in {', '.join(odd[:3])}")
    trunk.load_state_dict(stored, strict=False)


# -- slices ----------------------------------------------------------------------------------------------------------


def group_slices(x: Volumes, size: int, rest: Rest = "repeat") -> Float[Tensor, "batch groups size height width"]:
    """Consecutive axial slices as the channels of one image.

    Args:
        x: volumes of one channel.
        size: slices per group.
        rest: what becomes of slices that fill no group: "repeat" fills up with the last slice, "drop" leaves them out.

    Raises:
        ShapeError: dropping the rest leaves nothing.

    Example:
        >>> group_slices(torch.arange(4.0).view(1, 1, 4, 1, 1), 3)[0, :, :, 0, 0]
        tensor([[0., 1., 2.],
                [3., 3., 3.]])

    Fails when: a group's slices lie far apart; the network then takes three places for the colours of one.
    """
    depth = x.shape[2]
    over = depth % size
    if rest == "drop" and depth < size:
        raise ShapeError(f"{depth} slices make no group of {size}: hand in more, or say rest='repeat'")
    if over and rest == "drop":
        x = x[:, :, : depth - over]
    elif over:
        x = torch.cat([x, x[:, :, -1:].expand(-1, -1, size - over, -1, -1)], 2)
    return x[:, 0].unflatten(1, (-1, size))


def group_count(depth: int, size: int, rest: Rest) -> int:
    """Groups that `group_slices` makes.

    Example:
        >>> group_count(10, 3, "repeat"), group_count(10, 3, "drop")
        (4, 3)
    """
    return depth // size if rest == "drop" else -(-depth // size)


def in_parts(
    net: Callable[[Tensor], Tensor], images: Float[Tensor, "slice channel h w"], part: int, recompute: bool
) -> Float[Tensor, "slice feature gy gx"]:
    """Run a network on a few images at a time; with `recompute` only the results are kept for the backward pass.

    Example:
        >>> in_parts(torch.relu, torch.ones(5, 1, 2, 2), 2, False).shape
        torch.Size([5, 1, 2, 2])

    Source: Chen, Xu, Zhang, Guestrin 2016, arXiv:1604.06174.

    Fails when: the network normalises by the statistics of what it sees at once; parts then differ from the whole.
    """
    pieces = images.split(part)
    if recompute and torch.is_grad_enabled():
        return torch.cat([checkpoint(net, p, use_reentrant=False, preserve_rng_state=False) for p in pieces])
    return torch.cat([net(p) for p in pieces]) if len(pieces) > 1 else net(images)


def read_groups(
    net: Callable[[Tensor], Tensor], x: Volumes, size: int, rest: Rest, chunk: int | None, training: bool
) -> Float[Tensor, "batch groups feature gy gx"]:
    """Activations of every group of slices; where nothing is learned, a few groups at a time, whatever `chunk` says.

    Example:
        >>> read_groups(torch.relu, torch.ones(2, 1, 6, 4, 4), 3, "repeat", None, False).shape
        torch.Size([2, 2, 3, 4, 4])

    Fails when: see `group_slices` and `in_parts`.
    """
    groups = group_slices(x, size, rest)
    images = groups.flatten(0, 1)
    part = chunk or (len(images) if training else QUIET)
    return in_parts(net, images, part, chunk is not None).unflatten(0, groups.shape[:2])


def check_reading(size: int, chunk: int | None, norm: str) -> None:
    """Refuse a group size, a chunk or a normalisation that cannot be."""
    if size < 1:
        raise ConfigError(f"slices_per_group must be at least 1, got {size}")
    if chunk is not None and chunk < 1:
        raise ConfigError(f"chunk must be at least 1 group, got {chunk}")
    if chunk is not None and norm == "batch":
        raise ConfigError(
            f'chunk = {chunk} needs norm = "frozen" or "group": the batch statistics of a part of a scan are not '
            "those of the scan"
        )
