"""Resize, normalise and threshold a map: always explicit, always after the method, never inside it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from translucid.errors import ConfigError, ShapeError
from translucid.tensors import Maps, Placed, Placement
from translucid.types import Space


def resize(maps: Maps, space: Space, placement: Placement | None = None) -> Placed:
    """Linear interpolation onto an image's grid, by where the cells lie; never overshoots.

    Args:
        maps: (batch, label, *grid).
        space: size of the image in pixels.
        placement: cell centres in image pixels; None means the cells tile the image (half-pixel convention).

    Raises:
        ShapeError: the map and `space` have different numbers of axes.

    Example:
        >>> m = torch.tensor([[[[0.0, 1.0]]]])
        >>> resize(m, (1, 4))[0, 0, 0]
        tensor([0.0000, 0.2500, 0.7500, 1.0000])

    Fails when: the placement's receptive fields are far wider than their spacing; the picture then looks sharper than
    the evidence is.
    """
    grid = tuple(maps.shape[2:])
    if len(grid) != len(space):
        raise ShapeError(f"a map of {len(grid)} axes cannot be placed in an image of {len(space)}")
    where = placement or Placement.tiling(space, grid)
    out = maps.double() if maps.dtype == torch.float64 else maps.float()
    for axis, (n, g) in enumerate(zip(space, grid, strict=True)):
        out = _interpolate(out, axis + 2, n, g, where.start[axis], where.step[axis])
    return out


def _interpolate(maps: Tensor, axis: int, n: int, g: int, start: float, step: float) -> Tensor:
    """One axis: pixel i lies at (i − start)/step cells; outside the first and last centre the edge value holds."""
    at = (torch.arange(n, device=maps.device, dtype=torch.float64) - start) / step
    at = at.clamp(0, g - 1)
    left = at.floor().long().clamp(max=max(g - 2, 0))
    weight = (at - left).to(maps.dtype)
    shape = [1] * maps.ndim
    shape[axis] = n
    weight = weight.view(shape)
    right = (left + 1).clamp(max=g - 1)
    return maps.index_select(axis, left) * (1 - weight) + maps.index_select(axis, right) * weight


def normalise(
    maps: Maps, how: Literal["minmax", "max", "absmax", "none"] = "absmax", scale: float | None = None
) -> Maps:
    """Bring maps to a common display scale.

    Args:
        maps: (batch, label, *grid), signed.
        how: "absmax" divides by the largest magnitude (sign and zero stay), "max" clips below zero and divides by
            the largest value, "minmax" maps each map to [0, 1] (magnitude is lost), "none" leaves it.
        scale: divide by this number of logits instead of each map's own extreme, so that maps can be compared.

    Example:
        >>> normalise(torch.tensor([[[-2.0, 1.0]]]))
        tensor([[[-1.0000,  0.5000]]])

    Fails when: "minmax" is used to compare images; "no evidence" then looks like strong evidence.
    """
    axes = tuple(range(2, maps.ndim))
    if how == "none":
        return maps if scale is None else maps / scale
    if how == "minmax":
        low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
        return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)
    if how not in ("max", "absmax"):
        raise ConfigError(f"normalise how={how!r}: known are minmax, max, absmax, none")
    out = maps.clamp(min=0) if how == "max" else maps
    extreme = out.abs().amax(axes, keepdim=True) if scale is None else torch.as_tensor(scale, dtype=maps.dtype)
    return out / extreme.clamp(min=torch.finfo(maps.dtype).tiny)


def threshold(maps: Maps, at: float | Tensor) -> Tensor:
    """Boolean map of the cells strictly above a value in the map's own units.

    Example:
        >>> threshold(torch.tensor([[[0.2, 0.5]]]), 0.2)
        tensor([[[False,  True]]])
    """
    if isinstance(at, float) and math.isnan(at):
        raise ConfigError("a threshold cannot be nan")
    return maps > at
