"""What is known of places in an image, on a coarse grid: the share of each cell that an organ or a finding covers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from translucid.errors import ShapeError
from translucid.io.placing import Transform, boxes_cut
from translucid.io.resample import apply_all, area_taps
from translucid.io.volume_framing import VolumeTransform
from translucid.types import Box, Space

LEVELS = 4095
"""Shares are kept as whole numbers of 1/4095."""
UNKNOWN = -1.0
"""Stands for a whole map where nobody drew one; such a map is not the same as an empty one."""


def on_cells(values: np.ndarray, transform: Transform | VolumeTransform, grid: Space) -> np.ndarray:
    """Mean over each cell of a grid that tiles the framed image, of values on the grid of the file.

    Each cell is traced back into the file, so the means are those of exact areas, however the framing cuts or scales;
    outside of the file there is nothing.

    Args:
        values: (…, *stored space) numbers or bool.
        transform: of the framing.
        grid: cells along each axis of the framed image.

    Returns:
        (…, *grid) float32.

    Raises:
        ShapeError: values and the image they belong to differ in size, or the grid has other axes.

    Example:
        >>> same = Transform((1.0, 1.0), (0.0, 0.0), (2, 4), (2, 4))
        >>> on_cells(np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool), same, (1, 2))
        array([[0.75, 0.  ]], dtype=float32)

    Fails when: an object is much smaller than a cell; its share is then near 0 and rounds away in the store.
    """
    plain, stored = _plain(transform)
    if values.shape[values.ndim - len(stored) :] != tuple(stored) or len(grid) != len(stored):
        raise ShapeError(f"places of {values.shape} on a grid of {grid}; wanted {stored} in the last axes: use its own")
    if isinstance(transform, VolumeTransform):
        lead = values.shape[: values.ndim - 3]
        parts = [transform.turn.apply(part) for part in values.reshape(-1, *stored)]
        values = np.stack(parts).reshape(*lead, *parts[0].shape)
    taps = []
    for n, g, m, scale, offset in zip(plain.source, grid, plain.target, plain.scale, plain.offset, strict=True):
        step = m / g
        centres = (np.arange(g) * step + (step - 1) / 2 - offset) / scale
        taps.append(area_taps(centres, n, step / scale))
    lead = values.shape[: values.ndim - len(grid)]
    cells = apply_all(np.asarray(values, np.float32).reshape(-1, *plain.source), taps)
    return cells.reshape(*lead, *grid)


def _plain(transform: Transform | VolumeTransform) -> tuple[Transform, Space]:
    if isinstance(transform, VolumeTransform):
        return transform.placing, transform.stored
    return transform, transform.source


def boxes_on_cells(boxes: Sequence[Box], transform: Transform, grid: Space) -> np.ndarray:
    """Share of each cell that the union of some boxes covers; where boxes overlap within a cell, the largest counts.

    Args:
        boxes: in pixels of the file.
        transform: of the framing.
        grid: (rows, columns).

    Returns:
        (rows, columns) float32.

    Raises:
        UnreadableImage: a box lies outside the file's image.

    Example:
        >>> same = Transform((1.0, 1.0), (0.0, 0.0), (2, 4), (2, 4))
        >>> boxes_on_cells([Box("mass", 1, 0, 2, 2)], same, (1, 2))
        array([[0.5, 0.5]], dtype=float32)

    Fails when: a finding fills little of its box; no box tells.
    """
    boxes_cut(boxes, transform.source)
    out = np.zeros(grid, np.float32)
    for box in boxes:
        spans = ((box.y, box.y + box.height), (box.x, box.x + box.width))
        parts = [_covered(span, transform, axis, g) for axis, (span, g) in enumerate(zip(spans, grid, strict=True))]
        np.maximum(out, np.outer(*parts), out=out)
    return out


def _covered(span: tuple[float, float], transform: Transform, axis: int, cells: int) -> np.ndarray:
    """Share of each cell of one axis that lies between two edges of the file."""
    scale, offset = transform.scale[axis], transform.offset[axis]
    low, high = ((edge - 0.5) * scale + offset + 0.5 for edge in span)
    edges = np.arange(cells + 1) * (transform.target[axis] / cells)
    both = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
    return (np.clip(both, 0, None) / np.diff(edges)).astype(np.float32)


def whole_numbers(shares: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] → numbers of 1/4095, and unknown maps → −1: what the store keeps without loss.

    >>> whole_numbers(np.array([0.0, 0.5, 1.0, -1.0])).tolist()
    [0.0, 2048.0, 4095.0, -1.0]
    """
    return np.where(shares < 0, np.float32(UNKNOWN), np.rint(shares * LEVELS)).astype(np.float32)


def shares_of(numbers: np.ndarray) -> np.ndarray:
    """The way back; nan where unknown."""
    return np.where(numbers < 0, np.float32("nan"), numbers / np.float32(LEVELS))


def onto(shares: np.ndarray, grid: Space, start: Sequence[float], step: Sequence[float], space: Space) -> np.ndarray:
    """Shares on cells that tile the framed image → on the cells of a map, wherever those lie.

    Args:
        shares: (…, *cells), nan where unknown.
        grid: cells of the map.
        start, step: centre of cell i of the map along an axis is start + step·i, in pixels of the framed image; it is
            taken to be as wide as its step.
        space: size of the framed image.

    Returns:
        (…, *grid) float32; what lies outside of the image counts as 0.

    Example:
        >>> onto(np.array([0.0, 1.0, 1.0, 0.0], np.float32), (2,), (1.5,), (4.0,), (8,))
        array([0.5, 0.5], dtype=float32)

    Fails when: the cells of the map are finer than those of the store; edges then look blocky.
    """
    have = shares.shape[shares.ndim - len(grid) :]
    taps = []
    for n, g, m, first, width in zip(have, grid, space, start, step, strict=True):
        per = m / n  # pixels in a stored cell
        centres = (first + width * np.arange(g) + 0.5) / per - 0.5
        taps.append(area_taps(centres, n, width / per))
    lead = shares.shape[: shares.ndim - len(grid)]
    unknown = np.isnan(shares.reshape(*lead, -1)).any(-1)
    out = apply_all(np.nan_to_num(shares).reshape(-1, *have), taps).reshape(*lead, *grid)
    out[unknown] = np.nan
    return out
