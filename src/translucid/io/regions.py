"""Where each label may show itself: organ masks on a map's grid, and the regions that labels are allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from translucid.errors import ConfigError, ShapeError, did_you_mean, lookup
from translucid.io.resample import apply_all, area_taps
from translucid.types import Space

Pick = Literal["nearest", "area", "centre"]
LUNGS = {"right": "right_lung", "left": "left_lung"}


def allowed_regions(
    labels: Mapping[str, float | None],
    table: Mapping[str, str],
    masks: Mapping[str, np.ndarray],
    sides: Mapping[str, Iterable[str]] | None = None,
) -> np.ndarray:
    """The region in which each label's evidence may lie, for one image.

    A label that is absent (0) is allowed nowhere. One that is present is allowed in its organ: all labels of the
    region "heart" share one mask, those of "lungs" get the lungs that are named, and both where no side is. Where it
    is unknown whether the label is present, nothing is forbidden (our reading).

    Args:
        labels: name → 1, 0 or None (unknown), in the order of the answer.
        table: name of a label → its region: "lungs", or a name in `masks`.
        masks: name → bool (*grid); "lungs" needs "right_lung" and "left_lung".
        sides: name of a label → "right", "left" or both; labels left out have no known side.

    Returns:
        (label, *grid) bool.

    Raises:
        ConfigError: a label without region, a region without mask, or an unknown side.
        ShapeError: masks of different sizes.

    Example:
        >>> masks = {"right_lung": np.array([1, 0, 0], bool), "left_lung": np.array([0, 0, 1], bool),
        ...          "heart": np.array([0, 1, 0], bool)}
        >>> table = {"nodule": "lungs", "mass": "lungs", "cardiomegaly": "heart"}
        >>> labels = {"nodule": 1.0, "mass": 1.0, "cardiomegaly": 0.0}
        >>> allowed_regions(labels, table, masks, {"nodule": ["left"]}).astype(int)
        array([[0, 0, 1],
               [1, 0, 1],
               [0, 0, 0]])

    Source: Draelos and Carin 2022, doi 10.1016/j.artmed.2022.102372, arXiv 2111.12215.

    Fails when: a finding lies where its organ's mask does not reach, such as a consolidation that a threshold took
        out of the lung.
    """
    if not masks or len({mask.shape for mask in masks.values()}) != 1:
        shapes = {name: mask.shape for name, mask in masks.items()}
        raise ShapeError(f"masks of {shapes or 'no organ'}; wanted at least one, all of one size")
    space = next(iter(masks.values())).shape
    out = np.zeros((len(labels), *space), bool)
    for row, (name, value) in zip(out, labels.items(), strict=True):
        region = lookup(table, name, "label in the table of regions")
        for mask in _masks_of(name, region, masks, (sides or {}).get(name)):
            row |= mask if value else value is None
    return out


def _masks_of(name: str, region: str, masks: Mapping[str, np.ndarray], sides: Iterable[str] | None) -> list[np.ndarray]:
    """The masks whose union a label may use."""
    if region != "lungs":
        return [np.asarray(lookup(masks, region, f"region of {name!r}"), bool)]
    named = [sides] if isinstance(sides, str) else list(sides or LUNGS)
    for side in named:
        if side not in LUNGS:
            raise ConfigError(f"side {side!r} of {name!r}: {did_you_mean(side, LUNGS)}")
    return [np.asarray(lookup(masks, LUNGS[side], f"region of {name!r}"), bool) for side in named]


def to_grid(
    mask: np.ndarray,
    grid: Space,
    how: Pick = "centre",
    *,
    start: Sequence[float] | None = None,
    step: Sequence[float] | None = None,
    above: float = 0.0,
) -> np.ndarray:
    """A mask of the block on the grid of a map.

    Args:
        mask: (…, *space) bool.
        grid: number of cells along each of the last axes.
        how: "nearest" takes voxel ⌊cell · n / g⌋, the corner of each cell, as published; "centre" the voxel at the
            cell's centre; "area" compares the part of the cell that the mask covers with `above`.
        start, step: centre of cell i along an axis is start + step·i, in voxels; None means that the cells tile the
            block. Cells whose centre lies outside are False. "nearest" takes none.
        above: for "area": 0, as published, marks every cell that is touched; ½ those that are mostly covered.

    Returns:
        (…, *grid) bool.

    Raises:
        ConfigError: an unknown `how`, or a placement that it cannot use.
        ShapeError: fewer axes than the grid has, or a cell smaller than nothing.

    Example:
        >>> mask = np.arange(12) == 2
        >>> [to_grid(mask, (4,), how).astype(int).tolist() for how in ("nearest", "centre", "area")]
        [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]

    Source: Draelos and Carin 2022, arXiv 2111.12215: "nearest", from 405 × 420 × 420 to 135 × 6 × 6.

    Fails when: cells are larger than the organ: "nearest" and "centre" look at one voxel of each.
    """
    if how not in get_args(Pick):
        raise ConfigError(f"to_grid how = {how!r}: known are {', '.join(get_args(Pick))}")
    if (start is None) != (step is None) or (how == "nearest" and start is not None):
        raise ConfigError(f"to_grid {how!r} with start {start} and step {step}: wanted both or none, none for nearest")
    if mask.ndim < len(grid) or min(grid) < 1:
        raise ShapeError(f"a mask of {mask.shape} on a grid of {grid}; wanted as many axes, of one cell or more")
    space = mask.shape[mask.ndim - len(grid) :]
    if how == "nearest":
        return _picked(mask, [np.arange(g) * n // g for n, g in zip(space, grid, strict=True)], space)
    if start is None or step is None:
        step = [n / g for n, g in zip(space, grid, strict=True)]
        start = [(s - 1) / 2 for s in step]
    centres = [b + s * np.arange(g) for b, s, g in zip(start, step, grid, strict=True)]
    if how == "centre":
        return _picked(mask, [np.floor(c + 0.5 + 1e-9).astype(np.int64) for c in centres], space)
    taps = [area_taps(c, n, s) for c, n, s in zip(centres, space, step, strict=True)]
    parts = apply_all(np.asarray(mask, bool).reshape(-1, *space), taps)
    slack = 1e-5 if above else 1e-3 / math.prod(step)  # sums round; of nothing only edges do
    return (parts > above + slack).reshape(*mask.shape[: mask.ndim - len(grid)], *grid)


def _picked(mask: np.ndarray, index: list[np.ndarray], space: Space) -> np.ndarray:
    """The voxels at the product of index lists; False outside."""
    lead = mask.ndim - len(space)
    inside = np.ones((1,) * len(space), bool)
    out = np.asarray(mask, bool)
    for axis, (at, n) in enumerate(zip(index, space, strict=True)):
        out = out.take(np.clip(at, 0, n - 1), lead + axis)
        shape = [1] * len(space)
        shape[axis] = -1
        inside = inside & ((at >= 0) & (at < n)).reshape(shape)
    return out & inside
