"""AxialNet: one image network for every group of axial slices, and a head that shows where its logits come from."""

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
    least_size,
    load_trunk,
    read_groups,
    trunk_features,
    trunk_windows,
)
from translucid.tensors import Logits, Placement, Prediction
from translucid.types import Space

Activations = Float[Tensor, "batch feature groups gy gx"]
Evidence = Float[Tensor, "batch label groups gy gx"]
Weight = Float[Tensor, "label feature wy wx"]

CHOICES: dict[str, tuple[str, ...]] = {
    "trunk": ("resnet18", "small"),
    "pool": ("mean", "max"),
    "head": ("flatten", "gap"),
    "norm": ("batch", "frozen", "group"),
    "rest": ("repeat", "drop"),
}


@dataclass(frozen=True)
class AxialNet:
    """AxialNet: each group of 3 axial slices through a ResNet-18, four valid convolutions and one linear layer.

    A group's score is s_m(g) = b_m + Σ_{f,y,x} w_{m,f,y,x} A_{f,g,y,x}, the logit their mean (or maximum) over groups.
    So the forward pass itself gives the HiResCAM map H_m(g,y,x) = (1/S) Σ_f w_{m,f,y,x} A_{f,g,y,x} of S groups, and
    Σ H_m + b_m is the logit, exactly.

    Args:
        slices_per_group: consecutive axial slices that stand for the colours of one image.
        trunk: "resnet18" (stride 32; at least 257 pixels with four tail convolutions), or "small" (stride 8).
        tail: features of the valid 3 × 3 convolutions behind the trunk; () leaves them out.
        pool: over groups; "max" counts only the group that speaks loudest for a label.
        head: "flatten" (a weight for each place of the slice, as published) or "gap" (the same weight everywhere).
        norm: "batch" (as published: all groups of the batch's scans together make the statistics), "frozen" (stored
            statistics; meant for `weights`), or "group" (each image by itself).
        rest: slices that fill no group: "repeat" the last slice to fill it, or "drop" them. Any depth will do.
        chunk: groups at once in training; the rest of memory is spared by computing twice. Needs "frozen" or "group",
            because batch statistics of a part are not those of the whole.
        offset: taken from the image values, which lie in [0, 1]; 0.449 as published.
        weights: safetensors file of trunk weights to start from, see `load_trunk`.

    Example:
        >>> with torch.device("meta"):
        ...     net = AxialNet().build((1, 405, 420, 420), labels=80, seed=0)
        >>> sum(p.numel() for p in net.parameters())
        11543056
        >>> net.placement((405, 420, 420))
        Placement(start=(1.0, 128.0, 128.0), step=(3.0, 32.0, 32.0))

    Source: Draelos & Carin, Artificial Intelligence in Medicine 132 (2022) 102372, arXiv:2111.12215. What becomes
    of slices that fill no group, and that the tail starts from Kaiming's normal distribution, is our reading.

    Fails when: the overlay is stretched over the slice. Valid convolutions draw the cells inwards: at 420 pixels the
    outermost centres lie at 128 and 288, and the view of each is wider than the image; `placement` says where they lie.
    """

    slices_per_group: int = 3
    trunk: TrunkName = "resnet18"
    tail: tuple[int, ...] = (64, 32, 16, 16)
    pool: Literal["mean", "max"] = "mean"
    head: Literal["flatten", "gap"] = "flatten"
    norm: Norm = "batch"
    rest: Rest = "repeat"
    chunk: int | None = None
    offset: float = 0.449
    weights: str | None = None
    eats: ClassVar[Eats] = "image"

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            lookup(dict.fromkeys(known), getattr(self, name), name)
        check_reading(self.slices_per_group, self.chunk, self.norm)
        if min(self.tail, default=1) < 1:
            raise ConfigError(f"tail must be positive numbers, got {self.tail}")

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for volumes of `shape` (1, depth, height, width); in use, depth may differ."""
        need_shape(shape, labels, (4,), "axialnet")
        if shape[0] != 1:
            raise ShapeError(f"axialnet reads volumes of 1 channel, got {shape[0]}: it makes colours of slices")
        grid = in_plane(shape[2:], [*trunk_windows(self.trunk), *[(3, 1, 0)] * len(self.tail)], "axialnet")
        with drawn_from(seed):
            net = _AxialNet(self, shape, grid, labels)
        if self.weights is not None:
            load_trunk(net.trunk, Path(self.weights))
        return net


def in_plane(plane: Sequence[int], windows: list[Window], what: str) -> tuple[int, int]:
    """Cells along height and width.

    Raises:
        ShapeError: a slice is too small; the message names the least size.

    Example:
        >>> in_plane((420, 257), [*trunk_windows("resnet18"), *[(3, 1, 0)] * 4], "axialnet")
        (6, 1)
    """
    rows, cols = (cells_of(n, windows) for n in plane)
    if min(rows, cols) < 1:
        least = least_size(1, windows)
        raise ShapeError(
            f"{what} needs slices of at least {least} × {least} pixels here, got {plane[0]} × {plane[1]}: "
            "enlarge them, take a shorter tail, or trunk = 'small'"
        )
    return rows, cols


def _valid_conv(before: int, width: int) -> nn.Conv2d:
    conv = nn.Conv2d(before, width, 3)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class _AxialNet(nn.Module):
    def __init__(self, spec: AxialNet, shape: tuple[int, ...], grid: tuple[int, int], labels: int) -> None:
        super().__init__()
        any_plane = spec.head == "gap"
        self.spec, self.shape = spec, (1, -1, -1, -1) if any_plane else (1, -1, *shape[2:])
        self.trunk = Trunk(spec.trunk, spec.slices_per_group, spec.norm)
        widths = (trunk_features(spec.trunk), *spec.tail)
        self.tail = nn.Sequential(*[m for pair in pairwise(widths) for m in (_valid_conv(*pair), nn.ReLU())])
        width = widths[-1]
        self.fc = nn.Linear(width * (1 if any_plane else grid[0] * grid[1]), labels)
        self.cells = (1, 1) if any_plane else grid
        self.windows = [*trunk_windows(spec.trunk), *[(3, 1, 0)] * len(spec.tail)]

    def features(self, x: Volumes) -> Activations:
        """Volumes → activations of every group, after the last ReLU."""
        need_input(x, self.shape, "this axialnet")
        in_plane(x.shape[3:], self.windows, "axialnet")
        spec = self.spec
        cells = read_groups(self._one_slice, x, spec.slices_per_group, spec.rest, spec.chunk, self.training)
        return cells.transpose(1, 2)

    def _one_slice(self, images: Tensor) -> Tensor:
        return self.tail(self.trunk(images - self.spec.offset))

    def head(self, a: Activations) -> Logits:
        """Activations → logits; the bias comes last, so that what lies before it is proportional to the activations."""
        if self.spec.pool == "mean":
            return self.fc(self._flat(a.mean(2)))
        return self._scores(a).max(1).values + self.fc.bias

    def forward(self, x: Volumes) -> Prediction:
        """Logits, and their maps: the part of each logit that comes from each cell of each group."""
        a = self.features(x)
        maps = self.evidence(a)
        groups = a.shape[2] if self.spec.pool == "mean" else 1
        extra = {"bias": self.fc.bias, "groups": torch.tensor(float(groups), dtype=maps.dtype, device=maps.device)}
        return Prediction(self.head(a), maps, extra)

    def evidence(self, a: Activations) -> Evidence:
        """H_m(g,y,x) = (1/S) Σ_f w_{m,f,y,x} A_{f,g,y,x}; where groups compete, the winner's alone."""
        weight = self._weight(a.shape[3:])
        each = torch.einsum("bfgyx,lfyx->blgyx", a, weight)
        if self.spec.pool == "mean":
            return each / a.shape[2]
        best = self._scores(a).argmax(1)
        wins = nn.functional.one_hot(best, a.shape[2])[..., None, None]
        return each * wins

    def group_scores(self, a: Activations) -> Float[Tensor, "batch groups label"]:
        """Score of every group, bias included: what ranks the slices of a scan."""
        return self._scores(a) + self.fc.bias

    def placement(self, space: Space) -> Placement:
        """Where the cells lie in a volume: middles of groups, centres of receptive fields."""
        size = self.spec.slices_per_group
        start, step = centres(self.windows)
        return Placement(((size - 1) / 2, start, start), (float(size), step, step))

    def _flat(self, cells: Float[Tensor, "*some feature gy gx"]) -> Float[Tensor, "*some entry"]:
        return cells.mean((-2, -1)) if self.spec.head == "gap" else cells.flatten(-3)

    def _scores(self, a: Activations) -> Float[Tensor, "batch groups label"]:
        return nn.functional.linear(self._flat(a.transpose(1, 2)), self.fc.weight)

    def _weight(self, grid: Sequence[int]) -> Weight:
        """w_{m,f,y,x}; the same everywhere, and shared among the cells, for a head that averages."""
        weight = self.fc.weight.unflatten(1, (-1, *self.cells))
        return weight.expand(-1, -1, *grid) / (grid[0] * grid[1]) if self.spec.head == "gap" else weight
