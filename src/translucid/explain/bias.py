"""What a wavelet-packet code's network looks at: places (spatial bias), and scales and orientations (edge bias)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from translucid.errors import ShapeError

Contributions = Float[Tensor, "batch label channel code"]
Split = Callable[[Tensor], Tensor]
"""`compressor.split`: codes (batch, channel, code) → (batch, channel, band, *cell, reducer)."""


@dataclass(frozen=True)
class Band:
    """One band of a wavelet packet.

    Attributes:
        name: one letter per level, finest first: A (smooth), V, H, D in 2-D.
        scale: the finest level whose letter is not A, 1 for edges of two pixels; 0 for the smooth band.
        orientation: that letter; A for the smooth band.
    """

    name: str
    scale: int
    orientation: str


def bands(levels: int, axes: int = 2) -> tuple[Band, ...]:
    """The bands of a packet in their stored order: base-2^axes numbers, the finest level first.

    A digit is Σ_a 2^(axes−1−a)·(axis a is high-pass); in 2-D: 0 A, 1 V (high along columns: vertical edges), 2 H, 3 D.
    In 3-D the letters are the filters along depth, height and width, L or H. Scale and orientation of a mixed band are
    those of its finest high-pass: our reading.

    Example:
        >>> [b.name for b in bands(1)], bands(2)[1]
        (['A', 'V', 'H', 'D'], Band(name='AV', scale=2, orientation='V'))
    """
    if levels < 1 or axes not in (1, 2, 3):
        raise ShapeError(f"levels = {levels}, axes = {axes}: wanted at least one level and 1 to 3 axes")
    plain = {1: ["A", "D"], 2: ["A", "V", "H", "D"]}
    letters = plain.get(axes, ["".join(p) for p in product("LH", repeat=axes)])
    return tuple(_band(path, letters) for path in product(range(len(letters)), repeat=levels))


def _band(path: Sequence[int], letters: Sequence[str]) -> Band:
    name = ("" if len(letters[0]) == 1 else "·").join(letters[d] for d in path)
    scale = next((level for level, d in enumerate(path, 1) if d), 0)
    return Band(name, scale, letters[path[scale - 1]] if scale else letters[0])


def _laid_out(contributions: Tensor, split: Split) -> Tensor:
    """(batch, label, band, *cell): channels and reducers of one band and cell belong together."""
    batch, label = contributions.shape[:2]
    parts = split(contributions.flatten(0, 1))
    if parts.ndim < 5 or parts.shape[1] != contributions.shape[2]:
        raise ShapeError(
            f"split gave {tuple(parts.shape)}, wanted (batch, {contributions.shape[2]}, band, *cell, reducer)"
        )
    if parts[0].numel() != contributions[0, 0].numel():
        raise ShapeError(f"split gave {parts[0].numel()} numbers per image for {contributions[0, 0].numel()} codes")
    return parts.sum(-1).sum(1).unflatten(0, (batch, label))


def spatial_bias(contributions: Contributions, split: Split) -> Float[Tensor, "batch label *cell"]:
    """Contribution of every grid cell: S(p) = Σ_band Σ_channel Σ_reducer c.

    Args:
        contributions: (batch, label, channel, code), signed, in logit units.
        split: lays codes out as (batch, channel, band, *cell, reducer).

    Returns:
        (batch, label, *cell); sums to what the codes contribute.

    Raises:
        ShapeError: `split` does not lay out these codes.

    Example:
        >>> spatial_bias(torch.ones(1, 1, 1, 8), lambda z: z.reshape(-1, 1, 4, 2, 1, 1))
        tensor([[[[4.],
                  [4.]]]])

    Source: DeepFixCX, Gaudio et al. 2022; signed and with its sum kept: our reading.

    Fails when: bands of opposite sign cancel in a cell; the edge bias of that cell shows it.
    """
    return _laid_out(contributions, split).sum(2)


def edge_bias(contributions: Contributions, split: Split) -> Float[Tensor, "batch label band"]:
    """Contribution of every band, i.e. of a scale and an orientation: B(b) = Σ_cell Σ_channel Σ_reducer c.

    Args:
        contributions: (batch, label, channel, code), signed, in logit units.
        split: lays codes out as (batch, channel, band, *cell, reducer).

    Returns:
        (batch, label, band), in the order of `bands`; sums to what the codes contribute.

    Raises:
        ShapeError: `split` does not lay out these codes.

    Example:
        >>> edge_bias(torch.ones(1, 1, 1, 8), lambda z: z.reshape(-1, 1, 4, 2, 1, 1))
        tensor([[[2., 2., 2., 2.]]])

    Source: DeepFixCX, Gaudio et al. 2022; theirs sums magnitudes, this is signed: our reading.

    Fails when: a band helps at one place and hurts at another; only the difference is seen.
    """
    return _laid_out(contributions, split).flatten(3).sum(3)


def by_scale_and_orientation(
    edges: Float[Tensor, "batch label band"], names: Sequence[Band]
) -> dict[tuple[int, str], Float[Tensor, "batch label"]]:
    """Sum the bands that share a scale and an orientation.

    Example:
        >>> found = by_scale_and_orientation(torch.ones(1, 1, 16), bands(2))
        >>> found[(1, "V")], found[(2, "V")], found[(0, "A")]
        (tensor([[4.]]), tensor([[1.]]), tensor([[1.]]))
    """
    if edges.shape[2] != len(names):
        raise ShapeError(f"{edges.shape[2]} bands, but {len(names)} names")
    groups: dict[tuple[int, str], list[int]] = {}
    for index, band in enumerate(names):
        groups.setdefault((band.scale, band.orientation), []).append(index)
    return {key: edges[:, :, members].sum(2) for key, members in groups.items()}


@dataclass(frozen=True)
class Average:
    """Mean over patients, per label.

    Attributes:
        mean: (label, …); nan where no patient counts.
        patients, images: (label,) how many stand behind it.
    """

    mean: Tensor
    patients: Tensor
    images: Tensor


def average(values: Tensor, chosen: Tensor, patients: Sequence[Hashable]) -> Average:
    """Average over the chosen images of each label, every patient counting once.

    mean_l = (1/|P_l|) Σ_{p ∈ P_l} mean over p's chosen images.

    Args:
        values: (batch, label, …), e.g. spatial or edge bias.
        chosen: (batch, label) true where an image counts for a label, e.g. `truth == 1`; unknown labels are false.
        patients: one identifier per image.

    Raises:
        ShapeError: the three do not fit together.

    Example:
        >>> v = torch.tensor([[1.0], [3.0], [8.0]])
        >>> average(v, torch.ones(3, 1, dtype=torch.bool), ["a", "a", "b"]).mean
        tensor([5.])

    Fails when: a label has few patients; look at the counts before the picture.
    """
    if chosen.shape != values.shape[:2] or len(patients) != len(values):
        raise ShapeError(
            f"values {tuple(values.shape)}, chosen {tuple(chosen.shape)} and {len(patients)} patients differ"
        )
    index = {p: i for i, p in enumerate(dict.fromkeys(patients))}
    rows = torch.tensor([index[p] for p in patients], device=values.device)
    member = torch.zeros(len(index), len(values), dtype=values.dtype, device=values.device)
    member[rows, torch.arange(len(values), device=values.device)] = 1
    weight = chosen.to(values.dtype)
    images = member @ weight
    sums = torch.einsum("pb,bl,bl...->pl...", member, weight, torch.where(_like(chosen, values), values, 0))
    count = (images > 0).sum(0)
    each = sums / _like(images.clamp(min=1), sums)
    return Average(each.sum(0) / _like(count.to(values.dtype), each[0]), count, weight.sum(0).long())


def _like(small: Tensor, big: Tensor) -> Tensor:
    return small.reshape(*small.shape, *[1] * (big.ndim - small.ndim))
