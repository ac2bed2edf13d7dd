"""What one cell is reduced to: a sum of something, an extreme, or the median."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from translucid.compress.cells import AxisCells
from translucid.compress.packet import along_axes

THRESHOLD = 1e-6
"""A coefficient this small has no sign for `sum_pos` and `sum_neg`."""

Kind = Literal["sum", "max", "min", "median"]


@dataclass(frozen=True)
class Reducer:
    """`of` is applied to every coefficient, then `kind` to every cell."""

    of: Callable[[Tensor], Tensor]
    kind: Kind


def _same(x: Tensor) -> Tensor:
    return x


def _positive(x: Tensor) -> Tensor:
    return torch.where(x > THRESHOLD, x, 0)


def _negative(x: Tensor) -> Tensor:
    return torch.where(x < -THRESHOLD, x, 0)


REDUCERS: Mapping[str, Reducer] = {
    "l1": Reducer(torch.abs, "sum"),
    "sum": Reducer(_same, "sum"),
    "max": Reducer(_same, "max"),
    "min": Reducer(_same, "min"),
    "median": Reducer(_same, "median"),
    "l2": Reducer(torch.square, "sum"),
    "sum_pos": Reducer(_positive, "sum"),
    "sum_neg": Reducer(_negative, "sum"),
}
"""The order is the one in which published codes interleave several reducers (our reading of "a fixed order")."""


def reduce_cells(
    tiled: Float[Tensor, "batch channel *samples"],
    cells: Sequence[AxisCells],
    weights: Sequence[Float[Tensor, "_ _"]],
    names: Sequence[str],
) -> Float[Tensor, "batch channel *segments reducer"]:
    """Reduce every cell of every band, for each reducer by name.

    Args:
        tiled: coefficients, every axis laid out band after band.
        cells: the cells of each axis.
        weights: per axis, what sums are weighted with (`cells.pooling`).
        names: keys of REDUCERS.

    Example:
        >>> from translucid.compress.cells import axis_cells
        >>> cells = [axis_cells(4, "haar", 1, 1, "balanced")]
        >>> means = [torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])]
        >>> reduce_cells(torch.tensor([[[1.0, 3.0, -1.0, 0.0]]]), cells, means, ["sum", "l1", "min"])
        tensor([[[[ 2.0000,  2.0000,  1.0000], [-0.5000,  0.5000, -1.0000]]]])

    Fails when: `median` is taken over few samples: the lower of the two middle values is below their mean.
    """
    return torch.stack([_reduce(tiled, cells, weights, REDUCERS[name]) for name in names], dim=-1)


def _reduce(tiled: Tensor, cells: Sequence[AxisCells], weights: Sequence[Tensor], reducer: Reducer) -> Tensor:
    if reducer.kind == "sum":
        return along_axes(reducer.of(tiled), weights)
    if reducer.kind == "median":
        return _lower_median(tiled, cells)
    out = tiled if reducer.kind == "max" else -tiled
    for axis, c in enumerate(cells, tiled.ndim - len(cells)):
        out = _gather(out, axis, c.gather, -torch.inf).amax(dim=axis + 1)
    return out if reducer.kind == "max" else -out


def _gather(x: Tensor, axis: int, at: np.ndarray, missing: float) -> Tensor:
    """Axis of samples → axis of cells, axis of places; a padded place holds 0, one that is not there `missing`."""
    index = torch.from_numpy(np.maximum(at, 0)).to(x.device)
    out = x.index_select(axis, index.reshape(-1)).unflatten(axis, at.shape)
    view = [1] * out.ndim
    view[axis : axis + 2] = at.shape
    for mark, value in ((-1, 0.0), (-2, missing)):
        if (at == mark).any():
            mask = torch.from_numpy(at == mark).to(x.device).view(view)
            out = out.masked_fill(mask, value)
    return out


def _lower_median(x: Tensor, cells: Sequence[AxisCells]) -> Tensor:
    """Value number ⌊(n − 1)/2⌋ of the n sorted values of a cell; places that are not there are sorted to the end."""
    first, dims = x.ndim - len(cells), len(cells)
    count = torch.ones((), dtype=torch.long, device=x.device)
    for a, c in enumerate(cells):
        x = _gather(x, first + 2 * a, c.gather, torch.inf)
        count = count[..., None] * torch.from_numpy(c.areas).to(x.device)
    places = [first + 2 * a + 1 for a in range(dims)]
    order = [*range(first), *[first + 2 * a for a in range(dims)], *places]
    values = x.permute(order).flatten(-dims).sort(dim=-1).values
    index = ((count - 1) // 2).expand(values.shape[:-1])
    return values.gather(-1, index[..., None])[..., 0]
